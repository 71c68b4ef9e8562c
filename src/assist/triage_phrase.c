/* A phrase of the rules' files into the trie.
 *
 *   chest pain          these words, one behind the other
 *   @pain               a word of the class pain
 *   bleed*              a word that begins so (four letters at least)
 *   (in/on top of)      one of these; a gap may lie within one
 *   [my]                this or nothing
 *   ..                  up to three words between; ..5 up to five; never over a comma, "and", "but", "no", "with"
 *   ...5                the same, and over commas, "and", "or": for what goes on in the list ("cannot cough or talk")
 *   #                   a number; @many: one of nine or more; @pastyear: 1930 to 2025
 *
 * The single words of a choice become a class without a name; what is left of choices is written out: a phrase becomes their
 * cross product, at most MAX_WAYS. */
#include <stdio.h>
#include <string.h>

#include "assist/triage_parse.h"
#include "base/error.h"

enum { MAX_WAYS = 1024, MAX_ELEMENTS = 24, MAX_CHOICES = 80, DEFAULT_GAP = 3, MAX_GAP = 12 };

typedef struct choice {
    const char *s;
    size_t n;
    uint32_t sym; /* of a class without a name, when s is NULL */
} choice;

typedef struct element {
    choice choices[MAX_CHOICES]; /* n == 0 and s: nothing */
    int n_choices;
    uint8_t gap; /* a gap instead of choices */
} element;

/* One word or sign at node; 0 when it fails. */
static uint32_t step_word(triage_rules *r, uint32_t node, const char *s, size_t n, bool *is_unknown) {
    uint32_t sym;
    if (s[0] == '@') {
        sym = parse_class(r, s + 1, n - 1);
        *is_unknown = sym == UINT32_MAX;
        if (*is_unknown) return 0;
    } else if (n == 1 && s[0] == '#') {
        sym = SYM_NUMBER;
    } else {
        /* Written words go through the same folding as the user's. */
        char text[WORD_BYTES * 2];
        const bool is_stem = s[n - 1] == '*';
        if (n >= sizeof text) return 0;
        memcpy(text, s, n);
        lexer x = {.s = text, .n = n - is_stem};
        token t;
        while (triage_lex(&x, &t)) {
            const bool is_last = x.pos >= x.n;
            if (is_stem && is_last) {
                if (t.n + 1 >= WORD_BYTES) return 0;
                t.text[t.n++] = '*';
            }
            sym = t.is_digits ? SYM_NUMBER : lexicon_literal(r, t.text, t.n);
            if (sym == UINT16_MAX) return 0;
            node = lexicon_step(r, node, sym);
            if (!node) return 0;
        }
        return node;
    }
    return lexicon_step(r, node, sym);
}

/* ".." of a phrase: its words, with GAP_IS_WIDE of "..."; *n_bytes read. 0 = too many words. */
static uint8_t read_gap(const char *s, const char *end, size_t *n_bytes) {
    const char *p = s + 2;
    const bool is_wide = p < end && *p == '.';
    int gap = 0;
    for (p += is_wide; p < end && *p >= '0' && *p <= '9' && gap < 100; p++) gap = gap * 10 + (*p - '0');
    *n_bytes = (size_t)(p - s);
    return gap > MAX_GAP ? 0 : (uint8_t)((gap ? gap : DEFAULT_GAP) | (is_wide ? GAP_IS_WIDE : 0));
}

static bool is_gap(const char *s, size_t n) {
    return n >= 2 && s[0] == '.' && s[1] == '.';
}

static uint32_t step_choice(triage_rules *r, uint32_t node, choice c, bool *is_unknown, choice *bad) {
    const char *word;
    size_t n;
    if (!c.s) return lexicon_step(r, node, c.sym);
    while ((n = parse_word(&c.s, &c.n, &word)) > 0) {
        size_t n_gap;
        const uint8_t gap = is_gap(word, n) ? read_gap(word, word + n, &n_gap) : 0;
        const uint32_t next = !gap ? step_word(r, node, word, n, is_unknown) : node ? lexicon_gap(r, node, gap) : 0;
        if (!next) {
            *bad = (choice){.s = word, .n = n};
            return 0;
        }
        node = next;
    }
    return node;
}

static galen_status add_way(triage_rules *r, const entry *e, const element *els, int n, const int *pick, uint32_t id,
                            galen_error *err) {
    uint32_t node = 0;
    bool is_unknown = false;
    choice bad = {.s = ""};
    for (int i = 0; i < n; i++) {
        if (els[i].gap)
            node = node ? lexicon_gap(r, node, els[i].gap) : 0;
        else if (els[i].choices[pick[i]].n || !els[i].choices[pick[i]].s)
            node = step_choice(r, node, els[i].choices[pick[i]], &is_unknown, &bad);
        else
            continue;
        if (!node && is_unknown) return parse_fail(e, err, "no class of this name before", bad.s, bad.n);
        if (!node) return parse_fail(e, err, "a word that is no word, too long, or a gap at the start", bad.s, bad.n);
    }
    if (!node) return parse_fail(e, err, "a phrase that may be empty", "", 0);
    int32_t head = r->nodes[node].outs;
    for (int32_t k = head; k >= 0; k = r->links[k].next)
        if (r->links[k].value == id) return GALEN_OK;
    if (!lexicon_link(r, &head, id)) return galen_fail(err, GALEN_E_NOMEM, 0, "rules: out of memory");
    r->nodes[node].outs = head;
    return GALEN_OK;
}

/* (a/b c) or [a/b] behind its bracket; *s moves behind the closing one. */
static bool read_choices(const char **s, const char *end, char close, element *el) {
    const char *p = *s;
    if (close == ']') el->choices[el->n_choices++] = (choice){.s = ""};
    while (p < end) {
        const char *q = p;
        while (q < end && *q != '/' && *q != close) q++;
        if (q == end || q == p || el->n_choices == MAX_CHOICES) return false;
        el->choices[el->n_choices++] = (choice){.s = p, .n = (size_t)(q - p)};
        p = q + 1;
        if (*q == close) {
            *s = p;
            return true;
        }
    }
    return false;
}

/* One folded word, with its star if it has one; 0 when the choice is no single word. */
static size_t single_word(choice c, char out[WORD_BYTES + 1]) {
    const char *word;
    const size_t n = parse_word(&c.s, &c.n, &word);
    const char *more;
    if (!n || parse_word(&c.s, &c.n, &more) || word[0] == '@' || word[0] == '#') return 0;
    const bool is_stem = word[n - 1] == '*';
    lexer x = {.s = word, .n = n - is_stem};
    token t, u;
    if (!triage_lex(&x, &t) || t.is_digits || triage_lex(&x, &u) || t.n + 1 >= WORD_BYTES || (is_stem && t.n < 4)) return 0;
    memcpy(out, t.text, t.n);
    if (is_stem) out[t.n] = '*';
    return t.n + (size_t)is_stem;
}

/* The single words of el become one choice: a class that equal choices elsewhere share. False: no memory. */
static bool merge_words(triage_rules *r, element *el) {
    char words[MAX_CHOICES][WORD_BYTES + 1], key[WORD_BYTES];
    size_t lengths[MAX_CHOICES];
    uint64_t hash = 14695981039346656037u; /* FNV-1a, 64 bits */
    int n_single = 0, n_left = 0;
    for (int k = 0; k < el->n_choices; k++) {
        const size_t n = el->choices[k].n ? single_word(el->choices[k], words[n_single]) : 0;
        if (!n) {
            el->choices[n_left++] = el->choices[k];
            continue;
        }
        lengths[n_single] = n;
        words[n_single][n] = ' ';
        for (size_t i = 0; i <= n; i++) hash = (hash ^ (unsigned char)words[n_single][i]) * 1099511628211u;
        n_single++;
    }
    if (!n_single) return true;
    if (n_single == 1 && words[0][lengths[0] - 1] != '*') {
        const uint32_t literal = lexicon_literal(r, words[0], lengths[0]);
        el->choices[n_left] = (choice){.sym = literal};
        el->n_choices = n_left + 1;
        return literal != UINT16_MAX;
    }
    const int n_key = snprintf(key, sizeof key, "(%016llx)", (unsigned long long)hash);
    const size_t n_before = r->n_syms;
    const uint32_t sym = lexicon_literal(r, key, (size_t)n_key);
    if (sym == UINT16_MAX) return false;
    for (int k = 0; k < n_single && r->n_syms > n_before; k++) /* once: equal choices share the class */
        if (!lexicon_word(r, words[k], lengths[k], sym)) return false;
    el->choices[n_left] = (choice){.sym = sym};
    el->n_choices = n_left + 1;
    return true;
}

static int read_elements(const char *s, const char *end, element *els) {
    int n = 0;
    for (; s < end; n++) {
        while (s < end && (*s == ' ' || *s == '\t')) s++;
        if (s == end) break;
        if (n == MAX_ELEMENTS) return -1;
        element *el = &els[n];
        memset(el, 0, sizeof *el);
        if (*s == '(' || *s == '[') {
            const char close = *s == '(' ? ')' : ']';
            s++;
            if (!read_choices(&s, end, close, el)) return -1;
        } else if (is_gap(s, (size_t)(end - s))) {
            size_t n_bytes;
            if (!(el->gap = read_gap(s, end, &n_bytes))) return -1;
            s += n_bytes;
        } else {
            const char *q = s;
            while (q < end && !strchr(" \t([", *q)) q++;
            el->choices[el->n_choices++] = (choice){.s = s, .n = (size_t)(q - s)};
            s = q;
        }
    }
    return n;
}

galen_status phrase_compile(triage_rules *r, const entry *e, const char *text, size_t n, uint32_t concept_id, galen_error *err) {
    element els[MAX_ELEMENTS];
    int pick[MAX_ELEMENTS] = {0};
    const int n_els = read_elements(text, text + n, els);
    size_t n_ways = 1;
    if (n_els <= 0) return parse_fail(e, err, "not a phrase", text, n);
    for (int i = 0; i < n_els; i++)
        if (!els[i].gap && !merge_words(r, &els[i])) return galen_fail(err, GALEN_E_NOMEM, 0, "rules: out of memory");
    for (int i = 0; i < n_els && n_ways <= MAX_WAYS; i++) n_ways *= els[i].gap ? 1 : (size_t)els[i].n_choices;
    if (n_ways > MAX_WAYS) return parse_fail(e, err, "too many choices", text, n);
    for (;;) {
        const galen_status st = add_way(r, e, els, n_els, pick, concept_id, err);
        if (st) return st;
        int i = n_els - 1; /* the next pick, as an odometer */
        for (; i >= 0; i--) {
            if (els[i].gap) continue;
            if (++pick[i] < els[i].n_choices) break;
            pick[i] = 0;
        }
        if (i < 0) return GALEN_OK;
    }
}
