/* Five distinct items from any model. The software writes the form; the model is asked for one item at a time and fills it.
 *
 * Distinct, and never a retraction: text is streamed word by word, and only once it has a letter and differs from the beginning
 * of every earlier item. An item that ends as a copy of an earlier one was therefore never shown; it is thrown away, the token it
 * began with is forbidden, and the item is begun again. After a few tries only tokens are allowed whose letters begin no earlier
 * item: such an item cannot equal one, so the last try always holds, with random weights too. */
#include <math.h>
#include <string.h>

#include "assist/case.h"
#include "assist/text.h"

#define FREE_TRIES  4
#define TOKEN_BYTES 128
#define SAFE_BYTES  24 /* of a token that may begin the last try */

typedef struct writer {
    galen_assistant *a;
    const item_rules *rules;
    const item *items; /* those before this one */
    int32_t index;
    int32_t most; /* tokens of this item */
    item *it;
    bool is_done, is_first_only, is_rejected;
    galen_status st; /* CANCELLED when the caller wants no more */
} writer;

/* ------------------------------------------------------------ how an item may begin */

/* A token that opens with a letter, perhaps after one blank: no mark, no digit, no control, no line break, no end of the text.
 * Bytes from 0xC3 up begin a letter of another script (or a picture; that is let through). */
static bool is_start(const galen_model *m, int32_t id) {
    char b[TOKEN_BYTES];
    const int32_t n = galen_token_bytes(m, id, false, b, sizeof b);
    if (n < 1 || n > (int32_t)sizeof b || galen_token_is_end(m, id)) return false;
    const int32_t i = b[0] == ' ' && n > 1;
    for (int32_t k = 0; k < n; k++) {
        if ((unsigned char)b[k] < 0x20 || b[k] == 0x7F) return false;
    }
    const unsigned char c = (unsigned char)b[i];
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= 0xC3 && c != 0xE2 && c < 0xF5);
}

/* A question begins with one of these. Left to itself a small model goes on with the list that it was asked about. */
static const char *const openers[] = {"What", "How", "When", "Where", "Which", "Have", "Has", "Had",   "Do",
                                      "Does", "Did", "Is",   "Are",   "Was",   "Were", "Can", "Could", "Any"};
enum { N_OPENERS = sizeof openers / sizeof openers[0], MIN_OPENERS = 8 };

static bool is_opener(const galen_model *m, int32_t id) {
    char b[TOKEN_BYTES];
    const int32_t n = galen_token_bytes(m, id, false, b, sizeof b);
    const int32_t skip = n > 0 && n <= (int32_t)sizeof b && b[0] == ' ';
    for (int i = 0; i < N_OPENERS && n > 0 && n <= (int32_t)sizeof b; i++) {
        const size_t k = strlen(openers[i]);
        if ((size_t)(n - skip) == k && memcmp(b + skip, openers[i], k) == 0) return true;
    }
    return false;
}

bool items_find_starts(galen_assistant *a) {
    bool has[26] = {false};
    int n = 0;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        char b[2];
        a->starts[id] = is_start(a->m, id) ? START_ANY : START_NONE;
        if (a->starts[id] && is_opener(a->m, id)) {
            a->starts[id] = START_QUESTION;
            a->n_openers++;
        }
        if (!a->starts[id] || galen_token_bytes(a->m, id, false, b, sizeof b) != 1) continue;
        const int letter = (b[0] | 0x20) - 'a';
        if (letter >= 0 && letter < 26 && !has[letter]) {
            has[letter] = true;
            n++;
        }
    }
    /* 4 begin earlier items, 7 the words of the form, 4 were banned: of 16 one is always left for the last try */
    return n >= 16;
}

static bool starts_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Letters alone, and no earlier item and no word of the form begins with them. */
static bool is_safe_start(const writer *w, int32_t id) {
    char b[TOKEN_BYTES], letters[TOKEN_BYTES];
    const int32_t n = galen_token_bytes(w->a->m, id, false, b, sizeof b);
    if (n < 1 || n > SAFE_BYTES) return false;
    for (int32_t k = b[0] == ' '; k < n; k++) {
        if (!((b[k] | 0x20) >= 'a' && (b[k] | 0x20) <= 'z')) return false;
    }
    if (text_normal(b, (size_t)n, letters, sizeof letters) == 0) return false;
    for (int32_t i = 0; i < w->index; i++) {
        if (starts_with(w->items[i].normal, letters)) return false;
    }
    for (const char *const *f = w->rules->not_first; *f; f++) {
        if (starts_with(*f, letters)) return false;
    }
    return true;
}

/* Fill a->bias; returns how many tokens are forbidden. */
static size_t forbid(const writer *w, const int32_t *banned, int n_banned, bool is_last_try) {
    galen_assistant *a = w->a;
    size_t n = 0;
    const bool is_question = w->rules->part == GALEN_PART_QUESTION && a->n_openers >= MIN_OPENERS && !is_last_try;
    const uint8_t least = is_question ? START_QUESTION : START_ANY;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        bool is_bad = a->starts[id] < least || (is_last_try && !is_safe_start(w, id));
        for (int i = 0; i < n_banned; i++) is_bad |= banned[i] == id;
        if (is_bad) a->bias[n++] = (galen_logit_bias){.id = id, .bias = -INFINITY};
    }
    return n;
}

/* ------------------------------------------------------------ how an item grows */

/* Where the item ends in raw, or n_raw; from is where new bytes begin. *is_end tells whether an end was found. */
static size_t find_end(const writer *w, size_t from, bool *is_end) {
    const item *it = w->it;
    size_t at = it->n_raw;
    *is_end = false;
    for (size_t i = from > 8 ? from - 8 : 0; i < at; i++) {
        for (const char *const *e = w->rules->ends; *e; e++) {
            const size_t n = strlen(*e);
            if (it->n_raw - i < n || memcmp(it->raw + i, *e, n) != 0) continue;
            *is_end = true;
            return i;
        }
        if (w->rules->last && it->raw[i] == w->rules->last) {
            *is_end = true;
            return i + 1;
        }
    }
    return at;
}

/* Does the finished or growing text begin with a word of the prompt's own form ("confidence")? */
static bool has_form_word(const writer *w, const char *normal) {
    const size_t n = strcspn(normal, " ");
    for (const char *const *f = w->rules->not_first; *f; f++) {
        if (strlen(*f) == n && memcmp(*f, normal, n) == 0) return true;
    }
    return false;
}

static bool send(writer *w, const char *text, size_t n, bool is_end) {
    const galen_assist_event e = {.part = w->rules->part, .index = w->index, .text = text, .text_len = n, .is_end = is_end};
    if (!w->a->opts.on_event || w->a->opts.on_event(w->a->opts.user, &e)) return true;
    w->st = GALEN_E_CANCELLED;
    return false;
}

/* Set text and normal from the first n bytes of raw. */
static void set_text(writer *w, size_t n) {
    item *it = w->it;
    it->n_text = text_line(it->raw, n, it->text, w->rules->cap);
    (void)text_normal(it->text, it->n_text, it->normal, sizeof it->normal);
}

/* Could the item still turn out to be a copy? */
static bool may_be_copy(const writer *w) {
    for (int32_t i = 0; i < w->index; i++) {
        if (starts_with(w->items[i].normal, w->it->normal)) return true;
    }
    return false;
}

/* Stream the words that are whole and settled. */
static bool stream_words(writer *w) {
    item *it = w->it;
    size_t n = it->n_raw;
    while (n && it->raw[n - 1] != ' ') n--;
    set_text(w, n);
    if (it->n_text == 0) return true;
    if (has_form_word(w, it->normal)) {
        w->is_rejected = true;
        return false;
    }
    if (may_be_copy(w) || it->n_text <= it->n_sent || !text_has_letter(it->text, it->n_text)) return true;
    const size_t from = it->n_sent;
    it->n_sent = it->n_text;
    return send(w, it->text + from, it->n_text - from, false);
}

static bool on_chunk(void *user, const galen_chunk *chunk) {
    writer *w = user;
    item *it = w->it;
    char b[TOKEN_BYTES];
    if (chunk->id < 0) return true;
    w->a->usage.n_generated++;
    const int32_t n = galen_token_bytes(w->a->m, chunk->id, false, b, sizeof b);
    const bool is_fit = n >= 0 && n <= (int32_t)sizeof b && it->n_raw + (size_t)n < sizeof it->raw && it->n_ids < w->most;
    if (!is_fit) {
        it->is_cut = w->is_done = true;
        return false;
    }
    const size_t from = it->n_raw;
    it->from[it->n_ids] = from;
    it->ids[it->n_ids++] = chunk->id;
    memcpy(it->raw + from, b, (size_t)n);
    it->n_raw += (size_t)n;
    it->n_raw = find_end(w, from, &w->is_done);
    if (w->is_done || !stream_words(w)) return false;
    if (atomic_load(&w->a->is_cancelled)) return false;
    return !w->is_first_only;
}

/* ------------------------------------------------------------ one item */

static galen_generate_opts options_of(writer *w) {
    galen_generate_opts o = galen_generate_default_opts();
    o.sampling.temperature = 0.1f; /* the guide's generation parameters */
    o.sampling.top_k = 15;
    o.sampling.top_p = 0.7f;
    o.sampling.min_p = 0.0f;
    o.sampling.repeat_penalty = 1.02f;
    o.sampling.seed = w->a->opts.seed;
    o.on_chunk = on_chunk;
    o.user = w;
    return o;
}

/* Evaluate what is at the edge, then sample until the item ends. */
static galen_status generate(writer *w, galen_generate_opts *o, galen_error *err) {
    galen_assistant *a = w->a;
    galen_result r = {0};
    galen_status st = galen_generate(a->s, a->edge.ids, a->edge.n, o, &r, err);
    a->usage.n_prompt += r.n_prompt;
    a->usage.prefill_s += r.prefill_s;
    a->usage.decode_s += r.decode_s;
    if (!st && w->st) st = assist_fail(err, w->st, "cancelled");
    return st ? st : assist_check_cancel(a, err);
}

/* The budget ended it: a last word that may be half a word goes, unless it is the only one. */
static void drop_half_word(item *it) {
    size_t n = it->n_raw;
    while (n && it->raw[n - 1] != ' ') n--;
    char line[ITEM_BYTES];
    if (text_line(it->raw, n, line, sizeof line)) it->n_raw = n;
}

static galen_status write_once(writer *w, size_t n_bias, galen_error *err) {
    galen_assistant *a = w->a;
    galen_generate_opts o = options_of(w);
    *w->it = (item){0};
    w->is_done = w->is_rejected = false;
    w->is_first_only = true;
    o.max_tokens = 1;
    o.sampling.bias = a->bias;
    o.sampling.n_bias = n_bias;
    galen_status st = generate(w, &o, err);
    if (st) return st;
    if (w->it->n_ids && !w->is_done && !w->is_rejected && w->most > 1) {
        /* The first token was sampled and not evaluated. */
        st = edge_rewind(a, a->edge.past + a->edge.n, err);
        if (st) return st;
        edge_push(a, w->it->ids, 1);
        w->is_first_only = false;
        o.max_tokens = w->most - 1;
        o.sampling.bias = NULL;
        o.sampling.n_bias = 0;
        st = generate(w, &o, err);
        if (st) return st;
        w->it->is_cut |= !w->is_done && w->it->n_ids >= w->most;
    } else {
        w->it->is_cut |= !w->is_done && w->most <= 1;
    }
    if (w->it->is_cut) drop_half_word(w->it);
    set_text(w, w->it->n_raw);
    if (w->it->is_cut && w->rules->last && w->it->n_text + 3 < w->rules->cap) { /* a sentence that is not whole says so */
        memcpy(w->it->text + w->it->n_text, "\xE2\x80\xA6", 4);
        w->it->n_text += 3;
    }
    return GALEN_OK;
}

static bool is_copy(const writer *w) {
    for (int32_t i = 0; i < w->index; i++) {
        if (strcmp(w->items[i].normal, w->it->normal) == 0) return true;
    }
    return false;
}

static bool is_good(const writer *w) {
    const item *it = w->it;
    return it->n_ids && !w->is_rejected && text_has_letter(it->text, it->n_text) && !has_form_word(w, it->normal) && !is_copy(w);
}

/* The ids whose bytes are part of the item stay in the session's text; the rest is forgotten. */
static galen_status settle(writer *w, int32_t begin, galen_error *err) {
    item *it = w->it;
    while (it->n_ids && it->from[it->n_ids - 1] >= it->n_raw) it->n_ids--;
    const int32_t n_past = galen_session_n_past(w->a->s);
    int32_t in = n_past - begin; /* of the item's tokens, those evaluated */
    in = in < 0 ? 0 : in < it->n_ids ? in : it->n_ids;
    const galen_status st = edge_rewind(w->a, begin + in, err);
    if (st) return st;
    edge_push(w->a, it->ids + in, it->n_ids - in);
    return GALEN_OK;
}

static galen_status write_item(writer *w, galen_error *err) {
    galen_assistant *a = w->a;
    const int32_t begin = a->edge.past + a->edge.n, last = a->edge.ids[a->edge.n - 1];
    int32_t banned[FREE_TRIES + 1];
    galen_status st;
    for (int n = 0; n <= FREE_TRIES; n++) {
        if (n) { /* again from the same place; all but the last token before it is evaluated */
            st = edge_rewind(a, begin - 1, err);
            if (st) return st;
            edge_push(a, &last, 1);
        }
        const size_t n_bias = forbid(w, banned, n, n == FREE_TRIES);
        if (n_bias == (size_t)a->n_vocab) return assist_fail(err, GALEN_E_UNSUPPORTED, "the vocabulary has too few words");
        st = write_once(w, n_bias, err);
        if (st) return st;
        if (is_good(w)) {
            if (!send(w, w->it->text + w->it->n_sent, w->it->n_text - w->it->n_sent, true))
                return assist_fail(err, GALEN_E_CANCELLED, "cancelled");
            return settle(w, begin, err);
        }
        banned[n] = w->it->n_ids ? w->it->ids[0] : -1;
    }
    return assist_fail(err, GALEN_E_FAIL, "the model wrote nothing usable as item %d", (int)w->index + 1);
}

galen_status items_write(galen_assistant *a, const item_rules *rules, const galen_tokens literals[ITEMS_MAX],
                         item items[ITEMS_MAX], galen_error *err) {
    int32_t left = rules->budget;
    for (int32_t i = 0; i < ITEMS_MAX; i++) {
        const int32_t n_after = ITEMS_MAX - 1 - i;
        int32_t most = left - rules->least * n_after;
        most = most < rules->most ? most : rules->most;
        writer w = {.a = a, .rules = rules, .items = items, .index = i, .most = most, .it = &items[i]};
        if (i) edge_push(a, literals[i].ids, (int32_t)literals[i].n);
        const galen_status st = write_item(&w, err);
        if (st) return st;
        left -= items[i].n_ids;
    }
    return GALEN_OK;
}
