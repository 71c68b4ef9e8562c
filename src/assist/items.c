/* Five distinct items from any model. The software writes the form; the model is asked for one item at a time and fills it.
 *
 * An item is shown whole, once it is known to differ from the earlier ones: by its words in any order (names.h), a name also by
 * its code where the table knows it. So nothing is ever taken back. A copy is thrown away, the token it began with is forbidden,
 * and the item is begun again. After a few tries only tokens are allowed whose letters begin no earlier item, a name that has the
 * words of an earlier one in another order is cut to its first word, and questions are compared word for word: such an item
 * cannot equal one, so a last try holds, with random weights too. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/codes.h"
#include "assist/names.h"
#include "assist/text.h"
#include "base/error.h"

#define FREE_TRIES  4 /* then tries with a safe beginning */
#define MOST_TRIES  12
#define CODE_TRIES  9 /* from here on two names may have one code; the later goes without */
#define NAMED_TRIES 2 /* from here on a question may name a condition: better than what has no safe beginning */
#define TOKEN_BYTES 128
#define SAFE_BYTES  24 /* of a token that may begin the last try */

typedef struct writer {
    galen_assistant *a;
    const item_rules *rules;
    const item *items; /* all five; those that are kept count */
    int32_t index;
    int32_t most; /* tokens of this item */
    item *it;
    bool is_done;
    int n_tries;
    int32_t banned[MOST_TRIES]; /* the tokens that tries began with */
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

/* A question begins with one of these, and goes on with one of those: so it is put to the patient, and can be answered by yes or
 * no. Left to itself a small model asks for the difference between the conditions. */
static const char *const openers[] = {"Have", "Has", "Had",  "Do",  "Does", "Did",  "Is",
                                      "Are",  "Was", "Were", "Can", "Any",  "Could"};
static const char *const seconds[] = {"you", "your", "there", "it", "this", "that", "anyone", "any"};
enum { N_OPENERS = sizeof openers / sizeof openers[0], N_SECONDS = sizeof seconds / sizeof seconds[0], MIN_OPENERS = 6 };

/* Is the token one of the words, perhaps after a blank? */
static bool is_word_of(const galen_model *m, int32_t id, const char *const *words, int n_words, bool needs_blank) {
    char b[TOKEN_BYTES];
    const int32_t n = galen_token_bytes(m, id, false, b, sizeof b);
    if (n < 2 || n > (int32_t)sizeof b || (needs_blank && b[0] != ' ')) return false;
    const int32_t skip = b[0] == ' ';
    for (int i = 0; i < n_words; i++) {
        const size_t k = strlen(words[i]);
        if ((size_t)(n - skip) == k && memcmp(b + skip, words[i], k) == 0) return true;
    }
    return false;
}

bool items_find_starts(galen_assistant *a) {
    bool has[26] = {false};
    int n = 0;
    galen_logit_bias *second = a->bias + a->n_vocab;
    a->second.bias = second;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        char b[2];
        a->starts[id] = is_start(a->m, id) ? START_ANY : START_NONE;
        if (a->starts[id] && is_word_of(a->m, id, openers, N_OPENERS, false)) {
            a->starts[id] = START_QUESTION;
            a->n_openers++;
        }
        if (!is_word_of(a->m, id, seconds, N_SECONDS, true))
            second[a->second.n++] = (galen_logit_bias){.id = id, .bias = -INFINITY};
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

/* What an item must differ from: those that are kept, and, of a question, those of the case. NULL: nothing at this place. */
static int32_t n_earlier(const writer *w) {
    return ITEMS_MAX + (w->rules->part == GALEN_PART_QUESTION ? w->a->c.n_list : 0);
}
static const char *earlier(const writer *w, int32_t i, const char **key) {
    const bool is_item = i < ITEMS_MAX;
    *key = is_item ? w->items[i].key : w->a->c.list[i - ITEMS_MAX].key;
    if (is_item) return w->items[i].is_kept ? w->items[i].normal : NULL;
    return w->a->c.list[i - ITEMS_MAX].normal;
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
    for (int32_t i = 0; i < n_earlier(w); i++) {
        const char *key, *normal = earlier(w, i, &key);
        if (normal && starts_with(normal, letters)) return false;
    }
    for (const char *const *f = w->rules->not_first; *f; f++) {
        if (starts_with(*f, letters)) return false;
    }
    return true;
}

/* Is it a try that only tokens are allowed for that begin no earlier item? */
static bool is_safe(const writer *w) {
    return w->n_tries >= FREE_TRIES;
}

/* Has the vocabulary the words that a question begins with? */
static bool is_led(const writer *w) {
    return w->rules->part == GALEN_PART_QUESTION && w->a->n_openers >= MIN_OPENERS && w->a->second.n < (size_t)w->a->n_vocab;
}

/* What the first token must not be; bias is [n_vocab]. */
static galen_bias_list forbid(const writer *w, galen_logit_bias *bias) {
    galen_assistant *a = w->a;
    const bool is_safe_try = is_safe(w);
    size_t n = 0;
    const uint8_t least = is_led(w) && !is_safe_try ? START_QUESTION : START_ANY;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        bool is_bad = a->starts[id] < least || (is_safe_try && !is_safe_start(w, id));
        for (int i = 0; i < w->n_tries; i++) is_bad |= w->banned[i] == id;
        if (is_bad) bias[n++] = (galen_logit_bias){.id = id, .bias = -INFINITY};
    }
    return (galen_bias_list){bias, n};
}

galen_bias_list items_forbid(galen_assistant *a) {
    size_t n = 0;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        if (a->starts[id] < START_ANY) a->bias[n++] = (galen_logit_bias){.id = id, .bias = -INFINITY};
    }
    return (galen_bias_list){a->bias, n};
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

/* Set text, normal and key from the first n bytes of raw. */
static void set_text(writer *w, size_t n) {
    item *it = w->it;
    it->n_text = text_line(it->raw, n, it->text, w->rules->cap);
    (void)text_normal(it->text, it->n_text, it->normal, sizeof it->normal);
    (void)w->rules->key(it->text, it->n_text, it->key, sizeof it->key);
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
    if (w->is_done) return false;
    return !atomic_load(&w->a->is_cancelled);
}

/* ------------------------------------------------------------ one item */

/* first: of the item's first token, and of a question's second. */
static galen_generate_opts options_of(writer *w, const galen_bias_list first[2]) {
    galen_generate_opts o = galen_generate_default_opts();
    o.sampling.temperature = w->a->opts.temperature > 0 ? w->a->opts.temperature : 0.1f; /* the guide's parameters */
    o.sampling.top_k = 15;
    o.sampling.top_p = 0.7f;
    o.sampling.min_p = 0.0f;
    o.sampling.repeat_penalty = 1.02f;
    o.sampling.seed = w->a->opts.seed;
    o.first = first;
    o.n_first = is_led(w) && !is_safe(w) ? 2 : 1;
    o.max_tokens = w->most;
    o.on_chunk = on_chunk;
    o.user = w;
    return o;
}

/* The budget ended it: a last word that may be half a word goes, unless it is the only one. */
static void drop_half_word(item *it) {
    size_t n = it->n_raw;
    while (n && it->raw[n - 1] != ' ') n--;
    char line[ITEM_BYTES];
    if (text_line(it->raw, n, line, sizeof line)) it->n_raw = n;
}

static void end_item(writer *w) {
    item *it = w->it;
    it->is_cut |= !w->is_done && it->n_ids >= w->most;
    if (it->is_cut) drop_half_word(it);
    set_text(w, it->n_raw);
    if (it->is_cut && w->rules->last && it->n_text + 3 < w->rules->cap) { /* a sentence that is not whole says so */
        memcpy(it->text + it->n_text, "\xE2\x80\xA6", 4);
        it->n_text += 3;
    }
}

static void begin_try(writer *w) {
    *w->it = (item){0};
    w->is_done = false;
}

/* Evaluate what is at the edge, then sample until the item ends. */
static galen_status write_once(writer *w, const galen_bias_list first[2], galen_error *err) {
    galen_assistant *a = w->a;
    const galen_generate_opts o = options_of(w, first);
    galen_result r = {0};
    begin_try(w);
    const galen_status st = galen_generate(a->s, a->edge.ids, a->edge.n, &o, &r, err);
    a->usage.n_prompt += r.n_prompt;
    a->usage.n_calls += 1 + (r.n_generated > 0 ? r.n_generated - 1 : 0);
    a->usage.prefill_s += r.prefill_s;
    a->usage.decode_s += r.decode_s;
    if (!st) end_item(w);
    return st ? st : assist_check_cancel(a, err);
}

static bool is_copy(const writer *w, bool by_key) {
    for (int32_t i = 0; i < n_earlier(w); i++) {
        const char *key, *normal = earlier(w, i, &key);
        if (normal && (strcmp(normal, w->it->normal) == 0 || (by_key && strcmp(key, w->it->key) == 0))) return true;
    }
    return false;
}

/* Does a question ask only for what the person has said? Its words, as names.h leaves them, all begin words of the symptoms. */
static bool is_said(const writer *w) {
    const char *said = w->a->c.said;
    if (w->rules->part != GALEN_PART_QUESTION || !said) return false;
    for (const char *p = w->it->key; *p;) {
        char word[ITEM_BYTES + 1];
        const size_t n = strcspn(p, " ");
        (void)snprintf(word, sizeof word, " %.*s", (int)n, p);
        if (!strstr(said, word)) return false;
        p += n + (p[n] == ' ');
    }
    return true;
}

/* Is the first word of p among the words of padded, which has a blank at either end? */
static bool has_word(const char *padded, const char *p) {
    char word[ITEM_BYTES + 2];
    (void)snprintf(word, sizeof word, " %.*s ", (int)strcspn(p, " "), p);
    return strstr(padded, word) != NULL;
}

/* Does a question ask for one of the conditions by its name? The person cannot know that. */
static bool is_named(const writer *w) {
    const galen_assistant *a = w->a;
    char key[ITEM_BYTES], padded[ITEM_BYTES + 2];
    if (w->rules->part != GALEN_PART_QUESTION || !a->c.has_conditions) return false;
    (void)snprintf(padded, sizeof padded, " %s ", w->it->key);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const char *name = a->found.conditions[i].name, *p = key;
        (void)name_key(name, strlen(name), key, sizeof key);
        while (*p && has_word(padded, p)) p += strcspn(p, " ") + (p[strcspn(p, " ")] == ' ');
        if (!*p && key[0]) return true;
    }
    return false;
}

/* The code of a name; false when an earlier one has it. */
static bool has_own_code(const writer *w) {
    galen_code *code = &w->it->code;
    if (w->rules->part != GALEN_PART_CONDITION || !w->a->opts.codes) return true;
    const galen_triage_facts *who = &w->a->c.triage.facts;
    if (codes_find_of(w->a->opts.codes, w->it->text, w->it->n_text, who, code, NULL)) *code = (galen_code){0};
    for (int32_t i = 0; i < ITEMS_MAX && code->code[0]; i++) {
        if (w->items[i].is_kept && strcmp(w->items[i].code.code, code->code) == 0) return false;
    }
    return true;
}

static bool is_whole(const writer *w) {
    const item *it = w->it;
    return it->n_ids && text_has_letter(it->text, it->n_text) && !has_form_word(w, it->normal);
}

/* A try is over: is the item to be kept? */
static bool is_good(writer *w) {
    item *it = w->it;
    const bool is_name = w->rules->part == GALEN_PART_CONDITION, is_safe_try = is_safe(w);
    if (is_name && is_safe_try && is_whole(w) && is_copy(w, true)) { /* the words of an earlier one in another order */
        const size_t n_blanks = strspn(it->raw, " ");
        it->n_raw = n_blanks + strcspn(it->raw + n_blanks, " ");
        it->is_cut = true;
        end_item(w);
    }
    if (!is_whole(w) || is_copy(w, is_name || !is_safe_try) || (!is_safe_try && is_said(w)) ||
        (w->n_tries < NAMED_TRIES && is_named(w)))
        return false;
    if (has_own_code(w)) return true;
    if (w->n_tries >= CODE_TRIES) it->code = (galen_code){0};
    return w->n_tries >= CODE_TRIES;
}

/* Keep the item, or ban what it began with. */
static bool judge(writer *w) {
    w->it->is_kept = is_good(w);
    if (!w->it->is_kept) w->banned[w->n_tries++] = w->it->n_ids ? w->it->ids[0] : -1;
    return w->it->is_kept;
}

static galen_status send_item(const writer *w, galen_error *err) {
    const galen_assist_event e = {
        .part = w->rules->part, .index = w->index, .text = w->it->text, .text_len = w->it->n_text, .is_end = true};
    return assist_send(w->a, &e, err);
}

static galen_status refuse(galen_error *err) {
    return galen_fail(err, GALEN_E_REFUSED, 0, "no further item can be told from those there are");
}
static galen_status give_up(const writer *w, galen_error *err) {
    return galen_fail(err, GALEN_E_FAIL, 0, "the model wrote nothing usable as item %d", (int)w->index + 1);
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

/* What its next try must not begin with. When nothing is left to begin with, free tries are over; REFUSED of a safe one. */
static galen_status next_try(writer *w, galen_logit_bias *bias, galen_bias_list *first, galen_error *err) {
    *first = forbid(w, bias);
    while (first->n == (size_t)w->a->n_vocab && !is_safe(w)) { /* every opener was tried */
        w->banned[w->n_tries++] = -1;
        *first = forbid(w, bias);
    }
    return first->n == (size_t)w->a->n_vocab ? refuse(err) : GALEN_OK;
}

static galen_status write_item(writer *w, galen_error *err) {
    galen_assistant *a = w->a;
    const int32_t begin = a->edge.past + a->edge.n, last = a->edge.ids[a->edge.n - 1];
    galen_bias_list first[2] = {{0}, a->second};
    while (w->n_tries < MOST_TRIES) {
        galen_status st = next_try(w, a->bias, &first[0], err);
        if (!st) st = write_once(w, first, err);
        if (st) return st;
        if (judge(w)) {
            st = send_item(w, err);
            return st ? st : settle(w, begin, err);
        }
        st = edge_rewind(a, begin - 1, err); /* again from the same place; all but the last token before it is evaluated */
        if (st) return st;
        edge_push(a, &last, 1);
    }
    return give_up(w, err);
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

/* ------------------------------------------------------------ five at once */

/* One more try for each that is not kept, all in one batch. n_held: tokens of the looks that the session holds. */
static galen_status draft_round(writer w[ITEMS_MAX], const look looks[ITEMS_MAX], int32_t n_held, galen_logit_bias *bias,
                                galen_error *err) {
    galen_assistant *a = w[0].a;
    galen_bias_list first[ITEMS_MAX][2];
    galen_generate_opts opts[ITEMS_MAX];
    galen_draft drafts[ITEMS_MAX];
    int32_t n = 0;
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
        if (w[i].it->is_kept) continue;
        if (w[i].n_tries >= MOST_TRIES) return give_up(&w[i], err);
        st = next_try(&w[i], bias + (size_t)i * (size_t)a->n_vocab, &first[i][0], err);
        first[i][1] = a->second;
        opts[i] = options_of(&w[i], first[i]);
        opts[i].sampling.seed += (uint64_t)i;
        begin_try(&w[i]);
        drafts[n++] =
            (galen_draft){.tokens = looks[i].t.ids + n_held, .n_tokens = (int32_t)looks[i].t.n - n_held, .opts = &opts[i]};
    }
    if (!st) st = galen_session_draft(a->s, drafts, n, err);
    if (st) return st;
    a->usage.prefill_s += drafts[0].result.prefill_s;
    a->usage.decode_s += drafts[0].result.decode_s;
    int32_t longest = 0;
    for (int32_t i = 0; i < n; i++) {
        a->usage.n_prompt += drafts[i].n_tokens;
        if (drafts[i].result.n_generated > longest) longest = drafts[i].result.n_generated;
    }
    a->usage.n_calls += longest > 0 ? longest : 1;
    return assist_check_cancel(a, err);
}

/* Rounds until all are kept; those before which none is missing are told at once. */
static galen_status write_rounds(writer w[ITEMS_MAX], const look looks[ITEMS_MAX], galen_logit_bias *bias, galen_error *err) {
    int32_t n_held, n_told = 0;
    galen_status st = edge_hold(w[0].a, looks, ITEMS_MAX, &n_held, err);
    while (!st && n_told < ITEMS_MAX) {
        st = draft_round(w, looks, n_held, bias, err);
        for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
            if (w[i].it->is_kept) continue;
            end_item(&w[i]);
            (void)judge(&w[i]);
        }
        for (; n_told < ITEMS_MAX && w[n_told].it->is_kept && !st; n_told++) st = send_item(&w[n_told], err);
    }
    return st;
}

galen_status items_write_apart(galen_assistant *a, const item_rules *rules, look looks[ITEMS_MAX], item items[ITEMS_MAX],
                               galen_error *err) {
    writer w[ITEMS_MAX];
    galen_logit_bias *bias = calloc((size_t)a->n_vocab, ITEMS_MAX * sizeof *bias);
    galen_status st = bias ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "biases of %d tokens", a->n_vocab);
    for (int32_t i = 0; i < ITEMS_MAX; i++)
        w[i] = (writer){.a = a, .rules = rules, .items = items, .index = i, .most = rules->budget / ITEMS_MAX, .it = &items[i]};
    if (!st) st = write_rounds(w, looks, bias, err);
    free(bias);
    looks_free(looks, ITEMS_MAX);
    return st;
}
