/* Weighed words: a net under the rules. A text that no rule fits can still be made of words that dangerous ones are made of. Each
 * different word adds its weight to a sum once; one that is denied, and one that is somebody else's, past or feared, is a word of
 * its own; numbers and the names of what they measure add nothing. A rule that looks at a sum comes after all others and only
 * raises the level.
 *
 *   weigh SUM BASE             SUM: concern or danger; BASE: the sum of no words. Weights and base in tenths, -99 to 99
 *     WEIGHT word -word ~word  words of that weight: as they are, denied, of another or past or feared
 *
 * tools/fit-weights fits the weights to texts and writes the file. */
#include <math.h>
#include <string.h>

#include "assist/triage_parse.h"
#include "base/error.h"

enum { KEY_BYTES = WORD_BYTES + 2 };

static const char *const sum_names[N_SUMS] = {"concern", "danger"};

/* The name of a word's row in the lexicon; no word of a text begins so. */
static size_t key_of(char key[KEY_BYTES], int sum, char scope, const token *t) {
    key[0] = "+!"[sum];
    key[1] = scope;
    memcpy(key + 2, t->text, t->n);
    return (size_t)t->n + 2;
}

/* ------------------------------------------------------------ reading */

static bool read_tenths(const char *s, size_t n, float *out) {
    const bool is_minus = n && *s == '-';
    int v = 0;
    s += is_minus;
    n -= is_minus;
    if (n < 1 || n > 2) return false;
    for (; n; s++, n--) {
        if (*s < '0' || *s > '9') return false;
        v = 10 * v + (*s - '0');
    }
    *out = (float)(is_minus ? -v : v);
    return true;
}

static galen_status add_word(triage_rules *r, const entry *e, int sum, float tenths, const char *word, size_t n,
                             galen_error *err) {
    const char scope = *word == '-' || *word == '~' ? *word : ' ';
    lexer x = {.s = word + (scope != ' '), .n = n - (scope != ' ')};
    token t, more;
    char key[KEY_BYTES];
    if (!triage_lex(&x, &t) || t.is_digits || triage_lex(&x, &more)) return parse_fail(e, err, "not a single word", word, n);
    if (r->n_weights == MAX_WEIGHTS) return parse_fail(e, err, "too many weighed words", word, n);
    r->weights[r->n_weights] = tenths;
    if (!lexicon_value(r, key, key_of(key, sum, scope, &t), (double)r->n_weights++))
        return galen_fail(err, GALEN_E_NOMEM, 0, "rules: out of memory");
    return GALEN_OK;
}

galen_status weigh_compile(triage_rules *r, const entry *e, galen_error *err) {
    entry lines = *e;
    const char *text = e->head, *word;
    size_t n = e->n_head, n_word = parse_word(&text, &n, &word);
    float tenths;
    int sum = 0;
    while (sum < N_SUMS && (strlen(sum_names[sum]) != n_word || memcmp(word, sum_names[sum], n_word) != 0)) sum++;
    if (sum == N_SUMS || !isnan(r->bases[sum]))
        return parse_fail(e, err, "weigh concern or danger, each once, not", word, n_word);
    n_word = parse_word(&text, &n, &word);
    if (!read_tenths(word, n_word, &r->bases[sum])) return parse_fail(e, err, "a base of -99 to 99 belongs", word, n_word);
    while (parse_line(&lines, &text, &n)) {
        n_word = parse_word(&text, &n, &word);
        if (!read_tenths(word, n_word, &tenths)) return parse_fail(e, err, "a weight of -99 to 99 belongs", word, n_word);
        while ((n_word = parse_word(&text, &n, &word)) > 0) {
            const galen_status st = add_word(r, e, sum, tenths, word, n_word, err);
            if (st) return st;
        }
    }
    return GALEN_OK;
}

/* ------------------------------------------------------------ adding up */

static void add(scan *x, int sum, char scope, const token *t) {
    char key[KEY_BYTES];
    const double row = lexicon_value_of(x->r, key, key_of(key, sum, scope, t));
    if (isnan(row)) return;
    const size_t i = (size_t)row;
    if (x->weighed[i >> 6] >> (i & 63) & 1) return;
    x->weighed[i >> 6] |= 1ull << (i & 63);
    range *v = &x->vars[VAR_CONCERN + sum];
    const float w = x->r->weights[i];
    v->min = v->max += (double)w;
    if (w <= x->heaviest[sum]) return;
    x->heaviest[sum] = w;
    v->from_min = v->from_max = t->from;
    v->to_min = v->to_max = t->to;
}

void weigh_begin(scan *x) {
    for (int sum = 0; sum < N_SUMS; sum++) {
        const double base = (double)x->r->bases[sum];
        if (!isnan(base)) x->vars[VAR_CONCERN + sum] = (range){.is_known = true, .min = base, .max = base};
    }
}

/* The words of "heart rate 82": the number is for the rules, and its name says nothing. */
static void find_names(const triage_rules *r, const sentence *s, bool is_name[MAX_TOKENS]) {
    for (int k = 0; k < s->n_hits; k++) {
        const hit *h = &s->hits[k];
        if (r->concepts[h->id].cue < CUE_VITAL || h->last + 1 >= s->n_tokens || !s->tokens[h->last + 1].is_digits) continue;
        for (int i = h->first; i <= h->last; i++) is_name[i] = true;
    }
}

void weigh_sentence(scan *x) {
    const sentence *s = &x->s;
    bool is_name[MAX_TOKENS] = {false};
    find_names(x->r, s, is_name);
    for (int i = 0; i < s->n_tokens; i++) {
        if (s->tokens[i].is_digits || is_name[i]) continue;
        const char scope = s->scope[i] & IS_NEGATED ? '-' : s->scope[i] ? '~' : ' ';
        for (int sum = 0; sum < N_SUMS; sum++)
            if (x->vars[VAR_CONCERN + sum].is_known) add(x, sum, scope, &s->tokens[i]);
    }
}
