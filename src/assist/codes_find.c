#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assist/codes_table.h"
#include "assist/text.h"
#include "base/error.h"

enum { MAX_NEAR = 6, MAX_NAME = 512, MAX_PHRASE = 4, MAX_PHRASE_BYTES = MAX_PHRASE * CODES_WORD_BYTES };

/* What a word counts as a part of its idf: found in both, only in what is asked, only in the table's name. Measured on one half
 * of tests/assist/code_names.txt. A qualifier ("acute") that only one of the two has says little; a context ("of newborn") that
 * only the table's name has says that this is another condition. */
static const float both_have[N_CLASSES] = {1.0f, 0.5f, 0.3f, 1.0f, 0.8f, 0.1f, 1.0f, 0.5f};
static const float asked_has[N_CLASSES] = {1.5f, 0.3f, 0.4f, 3.0f, 0.5f, 0.05f, 1.5f, 0.3f};
static const float name_has[N_CLASSES] = {1.0f, 0.5f, 0.25f, 2.0f, 0.6f, 0.05f, 1.5f, 1.5f};

float codes_extra_cost(uint32_t class) {
    return name_has[class];
}

/* ------------------------------------------------------------ words */

typedef struct near_word {
    uint32_t word;
    float likeness;
} near_word;

typedef struct sums {
    float both, asked, name;
    bool has_head;
    uint8_t n_contexts;
} sums;

typedef struct search {
    const galen_codes *c;
    sums *sums;        /* [n_names], zero between searches */
    uint32_t *touched; /* [n_names] */
    uint32_t n_touched;
    uint32_t best; /* a name */
    float score, rank;
    size_t side; /* the field of a code's row that the name asks for, 0: none */
} search;

static bool find_word(const galen_codes *c, const char *w, uint32_t *at) {
    uint32_t lo = 0, hi = c->n_words;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(codes_word(c, mid), w);
        if (order == 0) {
            *at = mid;
            return true;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* Dice's coefficient of the trigram sets. */
static float likeness(uint64_t a, uint64_t b) {
    return 2.0f * (float)__builtin_popcountll(a & b) / (float)(__builtin_popcountll(a) + __builtin_popcountll(b));
}

/* Letters to insert, leave out, replace or exchange with a neighbour between a and b (optimal string alignment). */
static int edits(const char *a, int n, const char *b, int m) {
    int rows[3][CODES_WORD_BYTES + 1];
    int *last2 = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= m; j++) last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && last2[j - 2] + 1 < best)
                best = last2[j - 2] + 1;
            now[j] = best;
        }
        int *spare = last2;
        last2 = last;
        last = now;
        now = spare;
    }
    return last[m];
}

/* The words of the table that w can be a misspelling of, best first: one wrong letter, from eight letters on two. Trigrams choose
 * whom to look at closely. */
static int near_words(const galen_codes *c, const char *w, near_word out[MAX_NEAR]) {
    const float least = 0.4f;
    const size_t n = strlen(w);
    const uint64_t grams = codes_grams(w, n);
    int n_out = 0;
    if (n < 5) return 0;
    for (uint32_t i = 0; i < c->n_words; i++) {
        if (likeness(grams, c->grams[i]) < least) continue;
        const char *text = codes_word(c, i);
        const size_t m = strlen(text);
        if (text[0] != w[0] || m + 2 < n || n + 2 < m || m >= CODES_WORD_BYTES) continue;
        if (strncmp(text, w, n < 8 ? 2 : 4) != 0) continue;
        const int d = edits(w, (int)n, text, (int)m);
        const float like = 1.0f - (float)d / (float)(n > m ? n : m);
        if (d > (n < 8 ? 1 : 2) || (n_out == MAX_NEAR && like <= out[n_out - 1].likeness)) continue;
        int k = n_out < MAX_NEAR ? n_out++ : n_out - 1;
        for (; k > 0 && out[k - 1].likeness < like; k--) out[k] = out[k - 1];
        out[k] = (near_word){i, like};
    }
    return n_out;
}

/* ------------------------------------------------------------ what words mean */

static const char *find_rule(const galen_codes *c, const char *phrase) {
    uint32_t lo = 0, hi = c->n_rules;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(c->strings + codes_u32(c->rules, mid, RULE_ROW, 0), phrase);
        if (order == 0) return c->strings + codes_u32(c->rules, mid, RULE_ROW, 4);
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static void push_words(codes_words *out, const char *text) {
    while (*text && out->n < CODES_MAX_WORDS) {
        const size_t n = strcspn(text, " ");
        if (n && n < CODES_WORD_BYTES) {
            memcpy(out->text[out->n], text, n);
            out->text[out->n++][n] = '\0';
        }
        text += n + (text[n] == ' ');
    }
}

/* n words from the i-th as a phrase. */
static void join_words(const codes_words *w, int i, int n, char out[MAX_PHRASE_BYTES]) {
    size_t at = 0;
    for (int k = i; k < i + n; k++) {
        if (k > i) out[at++] = ' ';
        const size_t m = strlen(w->text[k]);
        memcpy(out + at, w->text[k], m);
        at += m;
    }
    out[at] = '\0';
}

/* From left to right, the longest phrase first; as Words.rewrite in tools/make-icd10. */
static void rewrite(const galen_codes *c, codes_words *w) {
    codes_words out = {.n = 0};
    char phrase[MAX_PHRASE_BYTES];
    for (int i = 0; i < w->n;) {
        const char *to = NULL;
        int n = (w->n - i < MAX_PHRASE ? w->n - i : MAX_PHRASE) + 1;
        while (!to && --n > 0) {
            join_words(w, i, n, phrase);
            to = find_rule(c, phrase);
        }
        push_words(&out, to ? to : w->text[i]);
        i += to ? n : 1;
    }
    *w = out;
    codes_once(w);
}

/* ------------------------------------------------------------ searching */

static void add_names(search *x, near_word w, float asked, bool is_head) {
    const galen_codes *c = x->c;
    const uint32_t first = codes_u32(c->words, w.word, WORD_ROW, WORD_FIRST),
                   n = codes_u32(c->words, w.word, WORD_ROW, WORD_COUNT), class = codes_class(c, w.word);
    const float idf = c->idf[w.word];
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t name = codes_u32(c->postings, first + k, 4, 0);
        sums *s = &x->sums[name];
        if (s->both == 0.0f) x->touched[x->n_touched++] = name;
        s->both += both_have[class] * w.likeness * idf;
        s->asked += asked;
        s->name += name_has[class] * idf;
        s->has_head |= is_head;
        s->n_contexts += class == CLASS_CONTEXT;
    }
}

/* Names that have the opposite of a word that is asked: "lower" for "upper". Nothing where both are asked ("acute on chronic").
 */
static void oppose_names(search *x, const codes_words *q, uint32_t word) {
    const float cost = 2.0f;
    const galen_codes *c = x->c;
    const uint32_t opposite = codes_u32(c->words, word, WORD_ROW, WORD_OPPOSITE);
    if (opposite == word) return;
    for (int i = 0; i < q->n; i++)
        if (strcmp(q->text[i], codes_word(c, opposite)) == 0) return;
    const uint32_t first = codes_u32(c->words, opposite, WORD_ROW, WORD_FIRST),
                   n = codes_u32(c->words, opposite, WORD_ROW, WORD_COUNT);
    for (uint32_t k = 0; k < n; k++) {
        sums *s = &x->sums[codes_u32(c->postings, first + k, 4, 0)];
        if (s->both > 0.0f) s->name -= cost * c->idf[opposite];
    }
}

/* Between equal fits: a clinician's synonym, what the table says NOS of, then the official title, and the code that says less. */
static float preference(const galen_codes *c, uint32_t name) {
    static const float kinds[N_KINDS] = {[KIND_TITLE] = 0.012f,     [KIND_INCLUSION] = 0.006f, [KIND_SYNONYM] = 0.030f,
                                         [KIND_SHORTENED] = 0.010f, [KIND_PLAIN] = 0.016f,     [KIND_NOTE] = 0.004f};
    const uint8_t *row = c->names + (size_t)name * NAME_ROW, *code = c->codes + (size_t)codes_of_name(c, name) * CODE_ROW;
    size_t n = 0;
    while (n < 8 && code[n]) n++;
    const bool is_unspecified = n > 0 && code[n - 1] == '9';
    return kinds[row[NAME_KIND] < N_KINDS ? row[NAME_KIND] : 0] + (is_unspecified ? 0.004f : 0.0f) - 0.0005f * (float)n;
}

/* Chapters of what is no illness: causes from outside, contacts with a service, history; organisms as causes (B95-B97). A name
 * has to be all theirs. */
static float chapter_share(const galen_codes *c, uint32_t name, float fit) {
    const uint8_t *code = c->codes + (size_t)codes_of_name(c, name) * CODE_ROW;
    const bool is_cause = code[0] == 'B' && code[1] == '9' && code[2] >= '5' && code[2] <= '7';
    return (is_cause || (code[0] >= 'V' && code[0] <= 'Z')) && fit < 0.95f ? 0.8f : 1.0f;
}

/* A name that says a side, for what was asked without one. */
static float side_share(const search *x, uint32_t name) {
    return !x->side && x->c->names[(size_t)name * NAME_ROW + NAME_SIDE] ? 0.85f : 1.0f;
}

/* The best name for some words; keeps x's best when that is better. head: the word that says what it is, "" when none does;
 * discount: what this reading of the name costs. */
static void search_words(search *x, const codes_words *q, const char *head, float discount) {
    const float without_head = 0.85f, without_context = 0.9f;
    const galen_codes *c = x->c;
    float total = 0;
    int n_contexts = 0;
    for (int i = 0; i < q->n; i++) {
        near_word near[MAX_NEAR];
        uint32_t at;
        int n = 1;
        if (find_word(c, q->text[i], &at))
            near[0] = (near_word){at, 1.0f};
        else
            n = near_words(c, q->text[i], near);
        const float asked = n ? asked_has[codes_class(c, near[0].word)] * c->idf[near[0].word] : c->rarest;
        total += asked;
        n_contexts += n && codes_class(c, near[0].word) == CLASS_CONTEXT;
        for (int k = 0; k < n; k++) add_names(x, near[k], asked, strcmp(q->text[i], head) == 0);
    }
    for (int i = 0; i < q->n; i++) {
        uint32_t at;
        if (find_word(c, q->text[i], &at)) oppose_names(x, q, at);
    }
    for (uint32_t k = 0; k < x->n_touched; k++) {
        const uint32_t name = x->touched[k];
        const sums s = x->sums[name];
        x->sums[name] = (sums){0};
        const float missing = total > s.asked ? total - s.asked : 0.0f,
                    extra = c->weight[name] > s.name ? c->weight[name] - s.name : 0.0f;
        float fit = s.both / (s.both + 0.5f * (missing + extra)) * discount;
        fit *= chapter_share(c, name, fit) * side_share(x, name) * (*head && !s.has_head ? without_head : 1.0f);
        for (int i = s.n_contexts; i < n_contexts; i++) fit *= without_context;
        const float rank = fit + preference(c, name);
        if (rank <= x->rank) continue;
        x->rank = rank;
        x->score = fit;
        x->best = name;
    }
    x->n_touched = 0;
}

static uint32_t class_of(const galen_codes *c, const char *word) {
    uint32_t at;
    return find_word(c, word, &at) ? codes_class(c, at) : CLASS_WORD;
}

/* "Other", "left", "acute": none of its words names anything. */
static bool says_something(const galen_codes *c, const codes_words *q) {
    for (int i = 0; i < q->n; i++) {
        const uint32_t class = class_of(c, q->text[i]);
        if (class == CLASS_WORD || class == CLASS_CONTEXT || class == CLASS_SITE) return true;
    }
    return false;
}

/* Where the words that follow the main one begin: "fracture| of the neck of the femur". */
static size_t head_end(const char *s, size_t n) {
    static const char *const joints[] = {" of ",     " in ",    " with ", " due ",     " from ",   " to ",
                                         " by ",     " at ",    " on ",   " second",   " caused ", " after ",
                                         " during ", " follow", " and ",  " without ", ",",        "("};
    size_t end = n;
    for (size_t i = 0; i < sizeof joints / sizeof joints[0]; i++) {
        const size_t m = strlen(joints[i]);
        for (size_t at = 1; at + m <= end; at++) {
            if (strncasecmp(s + at, joints[i], m) == 0) end = at;
        }
    }
    return end;
}

/* The word that says what it is: the last before "of", "in" ... that is no qualifier; "" when that is a place ("chest syndrome").
 */
static void find_head(const galen_codes *c, const char *s, size_t n, char head[CODES_WORD_BYTES]) {
    codes_words w;
    codes_fold(s, head_end(s, n), &w);
    rewrite(c, &w);
    head[0] = '\0';
    for (int i = w.n - 1; i >= 0; i--) {
        const uint32_t class = class_of(c, w.text[i]);
        if (class == CLASS_WORD || class == CLASS_CONTEXT) memcpy(head, w.text[i], CODES_WORD_BYTES);
        if (class == CLASS_WORD || class == CLASS_CONTEXT || class == CLASS_SITE) return;
    }
}

static void search_text(search *x, const char *s, size_t n, float discount) {
    codes_words q;
    char head[CODES_WORD_BYTES];
    codes_fold(s, n, &q);
    rewrite(x->c, &q);
    if (!says_something(x->c, &q)) return;
    find_head(x->c, s, n, head);
    search_words(x, &q, head, discount);
}

static bool is_part_end(char c) {
    return c == '/' || c == ';' || c == '(' || c == ')' || c == ',';
}

/* Parts of "acute COPD exacerbation / infection", "HIV (initial infection)". */
static void search_parts(search *x, const char *name, size_t len) {
    for (size_t from = 0; from < len;) {
        size_t to = from;
        while (to < len && !is_part_end(name[to])) to++;
        if (from > 0 || to < len) search_text(x, name + from, to - from, from == 0 ? 0.9f : 0.85f);
        from = to + 1;
    }
}

static bool has_context(const galen_codes *c, const char *s, size_t n) {
    codes_words q;
    codes_fold(s, n, &q);
    rewrite(c, &q);
    for (int i = 0; i < q.n; i++)
        if (class_of(c, q.text[i]) == CLASS_CONTEXT) return true;
    return false;
}

/* "Atrial fibrillation with rapid ventricular response": what stands before such a word, but for "x in pregnancy", which is no x.
 * "ACE inhibitor-induced cough": what stands behind, but for "drug-induced x". The less is left of a name the less it counts. */
static void search_around(search *x, const char *name, size_t len) {
    static const struct {
        const char *word;
        float share;
        enum { BEFORE, BEFORE_PLAIN, BEHIND_PLAIN } what;
    } joints[] = {{" with ", 0.8f, BEFORE},
                  {" without ", 0.8f, BEFORE},
                  {" due to ", 0.7f, BEFORE},
                  {" secondary to ", 0.7f, BEFORE},
                  {" caused by ", 0.7f, BEFORE},
                  {" related to ", 0.7f, BEFORE},
                  {" vs ", 0.7f, BEFORE},
                  {" vs. ", 0.7f, BEFORE},
                  {" versus ", 0.7f, BEFORE},
                  {" or ", 0.7f, BEFORE},
                  {" from ", 0.7f, BEFORE_PLAIN},
                  {" in ", 0.7f, BEFORE_PLAIN},
                  {" following ", 0.7f, BEFORE_PLAIN},
                  {"-induced ", 0.65f, BEHIND_PLAIN},
                  {" induced ", 0.65f, BEHIND_PLAIN},
                  {"-related ", 0.65f, BEHIND_PLAIN},
                  {"-associated ", 0.65f, BEHIND_PLAIN}};
    for (size_t i = 0; i < sizeof joints / sizeof joints[0]; i++) {
        const size_t n = strlen(joints[i].word);
        for (size_t at = 1; at + n < len; at++) {
            if (strncasecmp(name + at, joints[i].word, n) != 0) continue;
            const char *behind = name + at + n;
            const size_t n_behind = len - at - n;
            const bool is_behind = joints[i].what == BEHIND_PLAIN;
            const float share = joints[i].share + 0.1f * (float)(is_behind ? n_behind : at) / (float)len;
            if (joints[i].what != BEFORE && has_context(x->c, is_behind ? name : behind, is_behind ? at : n_behind)) break;
            search_text(x, is_behind ? behind : name, is_behind ? n_behind : at, share);
            break;
        }
    }
}

static size_t drop_brackets(const char *s, size_t n, char *out) {
    size_t k = 0;
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        depth += s[i] == '(';
        if (!depth) out[k++] = s[i];
        if (s[i] == ')' && depth) depth--;
    }
    return k;
}

static void find_side(search *x, const char *name, size_t len) {
    codes_words w;
    codes_fold(name, len, &w);
    for (int i = 0; i < w.n; i++) {
        const size_t side = strcmp(w.text[i], "left") == 0        ? CODE_LEFT
                            : strcmp(w.text[i], "right") == 0     ? CODE_RIGHT
                            : strcmp(w.text[i], "bilateral") == 0 ? CODE_BOTH
                                                                  : 0;
        if (side) x->side = side;
    }
}

static void search_name(search *x, const char *name, size_t len) {
    char outside[MAX_NAME];
    find_side(x, name, len);
    search_text(x, name, len, 1.0f);
    const size_t n = drop_brackets(name, len, outside);
    if (n < len) search_text(x, outside, n, 0.98f);
    search_parts(x, name, len);
    search_around(x, outside, n);
}

static void fill(const galen_codes *c, const search *x, galen_code *out) {
    out->score = (double)x->score;
    if (x->score < (float)GALEN_CODE_MIN_SCORE) return;
    uint32_t code = codes_u32(c->codes, codes_of_name(c, x->best), CODE_ROW, CODE_BARE);
    if (x->side) code = codes_u32(c->codes, code, CODE_ROW, x->side);
    memcpy(out->code, c->codes + (size_t)code * CODE_ROW, 8);
    out->title = c->strings + codes_u32(c->codes, code, CODE_ROW, CODE_TITLE);
    out->is_billable = codes_u32(c->codes, code, CODE_ROW, CODE_FLAGS) & 1;
}

galen_status galen_codes_find(const galen_codes *c, const char *name, size_t len, galen_code *out, galen_error *err) {
    memset(out, 0, sizeof *out);
    if (len > MAX_NAME) len = MAX_NAME;
    if (!text_has_letter(name, len)) return galen_fail(err, GALEN_E_REFUSED, 0, "a condition's name has letters");
    if (c->path) {
        const galen_status st = file_map_check(&c->file, c->path, err);
        if (st) return st;
    }
    search x = {.c = c};
    x.sums = calloc((size_t)c->n_names + 1, sizeof *x.sums);
    x.touched = malloc(((size_t)c->n_names + 1) * sizeof *x.touched);
    galen_status st = GALEN_OK;
    if (x.sums && x.touched) {
        search_name(&x, name, len);
        fill(c, &x, out);
    } else {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "codes: out of memory");
    }
    free(x.sums);
    free(x.touched);
    return st;
}
