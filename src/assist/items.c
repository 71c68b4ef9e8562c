/* Five distinct items from any model. The software writes the form; the model is asked for one item at a time and fills it.
 *
 * An item is shown whole, once it is known to differ from the earlier ones: by its words in any order (names.h), a name also by
 * its code where the table knows it. So nothing is ever taken back. A copy is thrown away, the token it began with is forbidden,
 * and the item is begun again. After a few tries only tokens are allowed whose letters begin no earlier item, a name that has the
 * words of an earlier one in another order is cut to its first word, and questions are compared word for word: such an item
 * cannot equal one, so a last try holds, with random weights too. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "assist/case.h"
#include "assist/names.h"
#include "assist/text.h"
#include "base/error.h"

#define FREE_TRIES  4 /* then tries with a safe beginning */
#define MOST_TRIES  12
#define CODE_TRIES  9 /* from here on two names may have one code; the later goes without */
#define TOKEN_BYTES 128
#define SAFE_BYTES  24 /* of a token that may begin the last try */

typedef struct writer {
    galen_assistant *a;
    const item_rules *rules;
    const item *items; /* those before this one */
    int32_t index;
    int32_t most; /* tokens of this item */
    item *it;
    bool is_done;
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

/* What an item must differ from: those before it, and, of a question, those of the case. */
static int32_t n_earlier(const writer *w) {
    return w->index + (w->rules->part == GALEN_PART_QUESTION ? w->a->c.n_list : 0);
}
static const char *earlier(const writer *w, int32_t i) {
    return i < w->index ? w->items[i].normal : w->a->c.list[i - w->index].normal;
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
        if (starts_with(earlier(w, i), letters)) return false;
    }
    for (const char *const *f = w->rules->not_first; *f; f++) {
        if (starts_with(*f, letters)) return false;
    }
    return true;
}

/* Has the vocabulary the words that a question begins with? */
static bool is_led(const writer *w) {
    return w->rules->part == GALEN_PART_QUESTION && w->a->n_openers >= MIN_OPENERS && w->a->second.n < (size_t)w->a->n_vocab;
}

/* What the first token must not be, in a->bias. */
static galen_bias_list forbid(const writer *w, const int32_t *banned, int n_banned, bool is_safe_try) {
    galen_assistant *a = w->a;
    size_t n = 0;
    const uint8_t least = is_led(w) && !is_safe_try ? START_QUESTION : START_ANY;
    for (int32_t id = 0; id < a->n_vocab; id++) {
        bool is_bad = a->starts[id] < least || (is_safe_try && !is_safe_start(w, id));
        for (int i = 0; i < n_banned; i++) is_bad |= banned[i] == id;
        if (is_bad) a->bias[n++] = (galen_logit_bias){.id = id, .bias = -INFINITY};
    }
    return (galen_bias_list){a->bias, n};
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

static galen_generate_opts options_of(writer *w) {
    galen_generate_opts o = galen_generate_default_opts();
    o.sampling.temperature = w->a->opts.temperature > 0 ? w->a->opts.temperature : 0.1f; /* the guide's parameters */
    o.sampling.top_k = 15;
    o.sampling.top_p = 0.7f;
    o.sampling.min_p = 0.0f;
    o.sampling.repeat_penalty = 1.02f;
    o.sampling.seed = w->a->opts.seed;
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

/* Evaluate what is at the edge, then sample until the item ends. first: of the item's first token, and of a question's second. */
static galen_status write_once(writer *w, const galen_bias_list first[2], bool is_question, galen_error *err) {
    galen_assistant *a = w->a;
    galen_generate_opts o = options_of(w);
    galen_result r = {0};
    *w->it = (item){0};
    w->is_done = false;
    o.first = first;
    o.n_first = is_question ? 2 : 1;
    o.max_tokens = w->most;
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
        if (strcmp(earlier(w, i), w->it->normal) == 0) return true;
        if (by_key && strcmp(i < w->index ? w->items[i].key : w->a->c.list[i - w->index].key, w->it->key) == 0) return true;
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

/* The code of a name; false when an earlier one has it. */
static bool has_own_code(const writer *w) {
    galen_code *code = &w->it->code;
    if (w->rules->part != GALEN_PART_CONDITION || !w->a->opts.codes) return true;
    if (galen_codes_find(w->a->opts.codes, w->it->text, w->it->n_text, code, NULL)) *code = (galen_code){0};
    for (int32_t i = 0; i < w->index && code->code[0]; i++) {
        if (strcmp(w->items[i].code.code, code->code) == 0) return false;
    }
    return true;
}

static bool is_whole(const writer *w) {
    const item *it = w->it;
    return it->n_ids && text_has_letter(it->text, it->n_text) && !has_form_word(w, it->normal);
}

/* Try number n is over: is the item to be kept? */
static bool is_good(writer *w, int n) {
    item *it = w->it;
    const bool is_name = w->rules->part == GALEN_PART_CONDITION, is_safe_try = n >= FREE_TRIES;
    if (is_name && is_safe_try && is_whole(w) && is_copy(w, true)) { /* the words of an earlier one in another order */
        const size_t n_blanks = strspn(it->raw, " ");
        it->n_raw = n_blanks + strcspn(it->raw + n_blanks, " ");
        it->is_cut = true;
        end_item(w);
    }
    if (!is_whole(w) || is_copy(w, is_name || !is_safe_try) || (!is_safe_try && is_said(w))) return false;
    if (has_own_code(w)) return true;
    if (n >= CODE_TRIES) it->code = (galen_code){0};
    return n >= CODE_TRIES;
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
    int32_t banned[MOST_TRIES];
    galen_status st;
    for (int n = 0; n < MOST_TRIES; n++) {
        if (n) { /* again from the same place; all but the last token before it is evaluated */
            st = edge_rewind(a, begin - 1, err);
            if (st) return st;
            edge_push(a, &last, 1);
        }
        const bool is_safe_try = n >= FREE_TRIES;
        const galen_bias_list first[2] = {forbid(w, banned, n, is_safe_try), a->second};
        if (first[0].n == (size_t)a->n_vocab) {
            if (!is_safe_try) { /* every opener was tried */
                banned[n] = -1;
                continue;
            }
            return galen_fail(err, GALEN_E_REFUSED, 0, "no further item can be told from those there are");
        }
        st = write_once(w, first, is_led(w) && !is_safe_try, err);
        if (st) return st;
        if (is_good(w, n)) {
            const galen_assist_event e = {
                .part = w->rules->part, .index = w->index, .text = w->it->text, .text_len = w->it->n_text, .is_end = true};
            st = assist_send(a, &e, err);
            return st ? st : settle(w, begin, err);
        }
        banned[n] = w->it->n_ids ? w->it->ids[0] : -1;
    }
    return galen_fail(err, GALEN_E_FAIL, 0, "the model wrote nothing usable as item %d", (int)w->index + 1);
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
