/* The compiled vocabulary: words to symbols, symbols to a trie of phrases; words with one letter wrong are looked for among
 * those of the same first letter and about the same length. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/triage_impl.h"
#include "base/checked.h"

enum { STEM_BYTES = 4, FUZZY_BYTES = 6, MANY = 9 };

bool lexicon_grow(void **p, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return true;
    size_t want = *cap ? *cap : 64, bytes;
    while (want <= n)
        if (!size_mul(want, 2, &want)) return false;
    if (!size_mul(want, size, &bytes)) return false;
    void *q = realloc(*p, bytes);
    if (!q) return false;
    *p = q;
    *cap = want;
    return true;
}
#define GROW(p, cap, n) (lexicon_grow((void **)&(p), &(cap), (n), sizeof *(p)) || !(r->is_starved = true))

static uint32_t hash_bytes(const char *s, size_t n) { /* FNV-1a, 32 bits */
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ? h : 1;
}

bool lexicon_link(triage_rules *r, int32_t *head, uint32_t value) {
    if (!GROW(r->links, r->cap_links, r->n_links)) return false;
    r->links[r->n_links] = (link){.next = *head, .value = value};
    *head = (int32_t)r->n_links++;
    return true;
}

uint32_t lexicon_symbol(triage_rules *r) {
    if (r->n_syms >= MAX_SYMS) return UINT16_MAX;
    return (uint32_t)r->n_syms++;
}

/* ------------------------------------------------------------ hash tables of words */

static bool rehash(word_row **table, size_t *cap) {
    const size_t old_cap = *cap, new_cap = old_cap ? 2 * old_cap : 1024;
    word_row *t = calloc(new_cap, sizeof *t);
    if (!t) return false;
    for (size_t i = 0; i < old_cap; i++) {
        if (!(*table)[i].hash) continue;
        size_t k = (*table)[i].hash & (new_cap - 1);
        while (t[k].hash) k = (k + 1) & (new_cap - 1);
        t[k] = (*table)[i];
    }
    free(*table);
    *table = t;
    *cap = new_cap;
    return true;
}

static word_row *find_row(const triage_rules *r, word_row *table, size_t cap, uint32_t hash, const char *word, size_t n) {
    for (size_t k = hash & (cap - 1);; k = (k + 1) & (cap - 1)) {
        word_row *w = &table[k];
        if (!w->hash || (w->hash == hash && w->n == n && memcmp(r->chars + w->text, word, n) == 0)) return w;
    }
}

static bool add_chars(triage_rules *r, const char *s, size_t n, uint32_t *at) {
    while (r->n_chars + n > r->cap_chars)
        if (!GROW(r->chars, r->cap_chars, r->n_chars + n)) return false;
    memcpy(r->chars + r->n_chars, s, n);
    *at = (uint32_t)r->n_chars;
    r->n_chars += n;
    return true;
}

/* The row of a word, made when missing. */
static word_row *row_of(triage_rules *r, word_row **table, size_t *n_rows, size_t *cap, const char *word, size_t n) {
    if (2 * *n_rows >= *cap && !rehash(table, cap)) {
        r->is_starved = true;
        return NULL;
    }
    const uint32_t hash = hash_bytes(word, n);
    word_row *w = find_row(r, *table, *cap, hash, word, n);
    if (w->hash) return w;
    uint32_t at;
    if (!add_chars(r, word, n, &at)) return NULL;
    *w = (word_row){.hash = hash, .text = at, .n = (uint8_t)n, .syms = -1, .value = NAN};
    ++*n_rows;
    return w;
}

static bool list_has(const triage_rules *r, int32_t head, uint32_t value) {
    for (; head >= 0; head = r->links[head].next)
        if (r->links[head].value == value) return true;
    return false;
}

bool lexicon_word(triage_rules *r, const char *word, size_t n, uint32_t sym) {
    if (n == 0 || n >= WORD_BYTES || sym >= MAX_SYMS) return false;
    word_row *w = row_of(r, &r->words, &r->n_words, &r->cap_words, word, n);
    if (!w) return false;
    const uint32_t text = w->text;
    const bool is_new = w->syms < 0;
    if (!list_has(r, w->syms, sym) && !lexicon_link(r, &w->syms, sym)) return false;
    if (word[n - 1] != '*' || !is_new) return true;
    if (n <= STEM_BYTES) return false;
    word_row *stem = row_of(r, &r->stems, &r->n_stems, &r->cap_stems, word, STEM_BYTES);
    return stem && lexicon_link(r, &stem->syms, text << 6 | (uint32_t)n);
}

bool lexicon_value(triage_rules *r, const char *word, size_t n, double value) {
    word_row *w = row_of(r, &r->words, &r->n_words, &r->cap_words, word, n);
    if (w) w->value = (float)value;
    return w != NULL;
}

bool lexicon_number(triage_rules *r, const char *word, size_t n, double value) {
    return lexicon_value(r, word, n, value) && lexicon_literal(r, word, n) != UINT16_MAX;
}

uint32_t lexicon_first(const triage_rules *r, const char *word, size_t n) {
    const word_row *w = r->cap_words ? find_row(r, r->words, r->cap_words, hash_bytes(word, n), word, n) : NULL;
    uint32_t sym = UINT32_MAX;
    for (int32_t k = w && w->hash ? w->syms : -1; k >= 0; k = r->links[k].next) sym = r->links[k].value;
    return sym;
}

uint32_t lexicon_literal(triage_rules *r, const char *word, size_t n) {
    /* A literal's own symbol is kept as a word of its own spelling behind '=', so that classes do not answer for it. */
    char key[WORD_BYTES + 2];
    if (n == 0 || n >= WORD_BYTES) return UINT16_MAX;
    key[0] = '=';
    memcpy(key + 1, word, n);
    word_row *w = row_of(r, &r->words, &r->n_words, &r->cap_words, key, n + 1);
    if (!w) return UINT16_MAX;
    if (w->syms >= 0) return r->links[w->syms].value;
    const uint32_t sym = lexicon_symbol(r);
    if (sym == UINT16_MAX || !lexicon_link(r, &w->syms, sym)) return UINT16_MAX;
    return lexicon_word(r, word, n, sym) ? sym : UINT16_MAX;
}

/* ------------------------------------------------------------ the trie */

static uint32_t new_node(triage_rules *r) {
    if (r->n_nodes >= UINT32_MAX / 2 || !GROW(r->nodes, r->cap_nodes, r->n_nodes)) return 0;
    r->nodes[r->n_nodes] = (trie_node){.outs = -1, .gaps = -1};
    return (uint32_t)r->n_nodes++;
}

bool lexicon_init(triage_rules *r) {
    uint32_t at;
    if (!add_chars(r, "", 1, &at)) return false;
    (void)new_node(r); /* the root, number 0 */
    return r->n_nodes == 1;
}

static size_t edge_slot(const edge *edges, size_t cap, uint32_t node, uint32_t sym) {
    size_t k = (node * 0x9E3779B1u ^ sym * 0x85EBCA77u) & (cap - 1);
    while (edges[k].to && (edges[k].node != node || edges[k].sym != sym)) k = (k + 1) & (cap - 1);
    return k;
}

static bool grow_edges(triage_rules *r) {
    const size_t cap = r->cap_edges ? 2 * r->cap_edges : 4096;
    edge *e = calloc(cap, sizeof *e);
    if (!e) {
        r->is_starved = true;
        return false;
    }
    for (size_t i = 0; i < r->cap_edges; i++)
        if (r->edges[i].to) e[edge_slot(e, cap, r->edges[i].node, r->edges[i].sym)] = r->edges[i];
    free(r->edges);
    r->edges = e;
    r->cap_edges = cap;
    return true;
}

static uint32_t child(const triage_rules *r, uint32_t node, uint32_t sym) {
    return r->cap_edges ? r->edges[edge_slot(r->edges, r->cap_edges, node, sym)].to : 0;
}

uint32_t lexicon_step(triage_rules *r, uint32_t node, uint32_t sym) {
    if (2 * r->n_edges >= r->cap_edges && !grow_edges(r)) return 0;
    const size_t k = edge_slot(r->edges, r->cap_edges, node, sym);
    if (r->edges[k].to) return r->edges[k].to;
    const uint32_t to = new_node(r);
    if (!to) return 0;
    r->edges[k] = (edge){.node = node, .sym = sym, .to = to};
    r->n_edges++;
    r->nodes[node].n_edges++;
    return to;
}

uint32_t lexicon_gap(triage_rules *r, uint32_t node, uint8_t gap) {
    for (int32_t k = r->nodes[node].gaps; k >= 0; k = r->links[k].next)
        if (r->gap_words[r->nodes[r->links[k].value].gap] == gap) return r->links[k].value;
    const uint32_t to = r->n_gaps + 1 < MAX_GAPS ? new_node(r) : 0;
    if (!to) return 0;
    r->nodes[to].gap = (uint16_t)++r->n_gaps;
    r->gap_words[r->n_gaps] = gap;
    int32_t head = r->nodes[node].gaps;
    if (!lexicon_link(r, &head, to)) return 0;
    r->nodes[node].gaps = head;
    return to;
}

/* ------------------------------------------------------------ finished tables */

/* The hash of edges becomes one row of edges a node. */
static bool pack_edges(triage_rules *r) {
    edge *rows = calloc(r->n_edges + 1, sizeof *rows);
    uint32_t at = 0;
    if (!rows) return false;
    for (size_t i = 0; i < r->n_nodes; i++) {
        r->nodes[i].edges = at;
        at += r->nodes[i].n_edges;
        r->nodes[i].n_edges = 0;
    }
    for (size_t i = 0; i < r->cap_edges; i++) {
        const edge e = r->edges[i];
        if (!e.to) continue;
        rows[r->nodes[e.node].edges + r->nodes[e.node].n_edges++] = e;
        r->nodes[e.node].mask |= 1ull << (e.sym & 63);
    }
    free(r->edges);
    r->edges = rows;
    r->cap_edges = 0;
    return true;
}

/* The lists of a word's symbols become rows of one array. */
static bool pack_syms(triage_rules *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->cap_words; i++)
        for (int32_t k = r->words[i].hash ? r->words[i].syms : -1; k >= 0; k = r->links[k].next) n++;
    r->word_syms = malloc((n + 1) * sizeof *r->word_syms);
    if (!r->word_syms) return false;
    n = 0;
    for (size_t i = 0; i < r->cap_words; i++) {
        word_row *w = &r->words[i];
        if (!w->hash) continue;
        w->list.first = (uint32_t)n;
        for (int32_t k = w->syms; k >= 0; k = r->links[k].next) {
            const uint32_t sym = r->links[k].value;
            r->word_syms[n++] = (uint16_t)sym;
            if (sym < N_KNOWN_SYMS) w->known |= 1u << sym;
            w->mask |= 1ull << (sym & 63);
        }
        w->list.n = (uint32_t)n - w->list.first;
    }
    return true;
}

/* What each word says alone and what it begins, in the order of its symbols: once to count (says NULL), once to write. */
static void find_openings(triage_rules *r, const uint32_t *roots, size_t *n_says, size_t *n_opens) {
    *n_says = *n_opens = 0;
    for (size_t i = 0; i < r->cap_words; i++) {
        word_row *w = &r->words[i];
        const run before = {(uint32_t)*n_says, (uint32_t)*n_opens};
        for (uint32_t k = 0; k < w->list.n; k++) {
            const uint32_t id = roots[r->word_syms[w->list.first + k]];
            const trie_node *nd = &r->nodes[id];
            for (int32_t l = id ? nd->outs : -1; l >= 0; l = r->links[l].next, ++*n_says)
                if (r->says) r->says[*n_says] = (uint16_t)r->links[l].value;
            if (id && nd->n_edges) {
                if (r->openings) r->openings[*n_opens] = (opening){.mask = nd->mask, .node = id};
                ++*n_opens;
            }
            for (int32_t l = id ? nd->gaps : -1; l >= 0; l = r->links[l].next, ++*n_opens) {
                const trie_node *after = &r->nodes[r->links[l].value];
                if (r->openings)
                    r->openings[*n_opens] = (opening){.mask = after->mask, .node = r->links[l].value, .gap = after->gap};
            }
        }
        w->says = (run){before.first, (uint32_t)*n_says - before.first};
        w->opens = (run){before.n, (uint32_t)*n_opens - before.n};
    }
}

static bool pack_openings(triage_rules *r, const uint32_t *roots) {
    size_t n_says, n_opens;
    find_openings(r, roots, &n_says, &n_opens);
    r->says = malloc((n_says + 1) * sizeof *r->says);
    r->openings = malloc((n_opens + 1) * sizeof *r->openings);
    if (!r->says || !r->openings) return false;
    find_openings(r, roots, &n_says, &n_opens);
    return true;
}

/* The nodes that symbols lead to from the root: asked before the edges are packed. */
static uint32_t *find_roots(const triage_rules *r) {
    uint32_t *roots = calloc(r->n_syms + 1, sizeof *roots);
    for (size_t s = 0; roots && s < r->n_syms; s++) roots[s] = child(r, 0, (uint32_t)s);
    return roots;
}

/* The letters of a word as bits: two words that one letter apart differ in two at most. */
static uint32_t letters_of(const char *word, size_t n) {
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) bits |= 1u << (word[i] & 31);
    return bits;
}

/* Words that can be misspelt lie in buckets by first letter and length; -1: the word is in none. */
static int bucket_of(const char *word, size_t n) {
    const bool can_be = n >= FUZZY_BYTES && n < WORD_BYTES && word[0] >= 'a' && word[0] <= 'z' && word[n - 1] != '*';
    return can_be ? (word[0] - 'a') * WORD_BYTES + (int)n : -1;
}

static bool fill_buckets(triage_rules *r) {
    uint32_t *ends = r->bucket_starts, n = 0;
    for (size_t i = 0; i < r->cap_words; i++) {
        const int b = r->words[i].hash ? bucket_of(r->chars + r->words[i].text, r->words[i].n) : -1;
        if (b >= 0) ends[b]++, n++;
    }
    r->spellings = malloc((n + 1) * sizeof *r->spellings);
    if (!r->spellings) return false;
    for (int b = 1; b < N_BUCKETS; b++) ends[b] += ends[b - 1];
    for (size_t i = r->cap_words; i-- > 0;) { /* an end moves down to its bucket's beginning */
        const word_row *w = &r->words[i];
        const int b = w->hash ? bucket_of(r->chars + w->text, w->n) : -1;
        if (b >= 0) r->spellings[--ends[b]] = (spelling){(uint32_t)i, letters_of(r->chars + w->text, w->n)};
    }
    ends[N_BUCKETS] = n;
    return true;
}

static uint32_t *hashes_of(const word_row *table, size_t cap) {
    uint32_t *hashes = malloc((cap + 1) * sizeof *hashes);
    for (size_t i = 0; hashes && i < cap; i++) hashes[i] = table[i].hash;
    return hashes;
}

bool lexicon_finish(triage_rules *r) {
    uint32_t *roots = find_roots(r);
    const bool is_packed = roots && pack_edges(r) && pack_syms(r) && pack_openings(r, roots);
    free(roots);
    if (!is_packed) return false;
    if (!fill_buckets(r)) return false;
    r->word_hashes = hashes_of(r->words, r->cap_words);
    r->stem_hashes = hashes_of(r->stems, r->cap_stems);
    if (!r->word_hashes || !r->stem_hashes) return false;
    /* A stem's list names its word; now that no word moves any more, by its row. */
    for (size_t i = 0; i < r->cap_stems; i++) {
        for (int32_t k = r->stems[i].hash ? r->stems[i].syms : -1; k >= 0; k = r->links[k].next) {
            const char *text = r->chars + (r->links[k].value >> 6);
            const size_t n = r->links[k].value & 63;
            r->links[k].value = (uint32_t)(find_row(r, r->words, r->cap_words, hash_bytes(text, n), text, n) - r->words);
        }
    }
    return true;
}

/* Is a a misspelling of b? From eight letters on, one letter more, less or other, or two neighbours exchanged. In shorter words
 * most such pairs are two words (bleeding, breeding): only neighbours exchanged, a letter doubled, or one left out within. The
 * first letter is never the wrong one, nor the last alone: that is another ending. */
static bool is_misspelling(const char *a, size_t n, const char *b, size_t m) {
    size_t i = 0, j = 0;
    while (i < n && i < m && a[i] == b[i]) i++;
    while (j < n - i && j < m - i && a[n - 1 - j] == b[m - 1 - j]) j++;
    const size_t x = n - i - j, y = m - i - j; /* the parts that differ */
    if (i == 0 || (j == 0 && !(x == 2 && y == 2))) return false;
    if (x == 2 && y == 2) return a[i] == b[i + 1] && a[i + 1] == b[i];
    if (x > 1 || y > 1) return false;
    if (m >= 8) return true;
    return x > y ? a[i] == a[i - 1] : x < y;
}

/* ------------------------------------------------------------ looking up */

/* The row of a word in a finished table; NULL when it is not there. */
static const word_row *seek(const triage_rules *r, const word_row *table, const uint32_t *hashes, size_t cap, const char *word,
                            size_t n) {
    const uint32_t hash = hash_bytes(word, n);
    for (size_t k = hash & (cap - 1); hashes[k]; k = (k + 1) & (cap - 1)) {
        if (hashes[k] == hash && table[k].n == n && memcmp(r->chars + table[k].text, word, n) == 0) return &table[k];
    }
    return NULL;
}

static void add_row(const triage_rules *r, token *t, const word_row *w) {
    if (t->n_rows < MAX_ROWS && w->list.n) {
        t->rows[t->n_rows++] = (uint32_t)(w - r->words);
        t->mask |= w->mask;
    }
    t->known |= w->known;
    if (!isnan(w->value)) t->is_number = true, t->value = (double)w->value;
}

bool lexicon_lookup(const triage_rules *r, token *t) {
    t->n_rows = 0;
    t->mask = 0;
    t->known = 0;
    const char *text = t->is_digits ? "@#" : t->text;
    const size_t n = t->is_digits ? 2 : t->n;
    const word_row *w = r->cap_words ? seek(r, r->words, r->word_hashes, r->cap_words, text, n) : NULL;
    const bool is_known = w != NULL;
    if (is_known) add_row(r, t, w);
    if (t->is_digits && t->value >= 1930 && t->value <= 2025 &&
        (w = seek(r, r->words, r->word_hashes, r->cap_words, "@pastyear", 9)))
        add_row(r, t, w);
    if (t->is_digits && t->value >= MANY && (w = seek(r, r->words, r->word_hashes, r->cap_words, "@many", 5))) add_row(r, t, w);
    if (t->is_digits || t->n < STEM_BYTES || !r->cap_stems) return is_known;
    const word_row *stem = seek(r, r->stems, r->stem_hashes, r->cap_stems, t->text, STEM_BYTES);
    bool has_stem = false;
    for (int32_t k = stem ? stem->syms : -1; k >= 0; k = r->links[k].next) {
        const word_row *s = &r->words[r->links[k].value];
        if (s->n - 1 > t->n || memcmp(r->chars + s->text, t->text, (size_t)s->n - 1) != 0) continue;
        add_row(r, t, s);
        has_stem = true;
    }
    return is_known || has_stem;
}

bool lexicon_knows(const triage_rules *r, const char *word, size_t n) {
    return r->cap_words && seek(r, r->words, r->word_hashes, r->cap_words, word, n);
}

double lexicon_value_of(const triage_rules *r, const char *word, size_t n) {
    const word_row *w = r->cap_words ? seek(r, r->words, r->word_hashes, r->cap_words, word, n) : NULL;
    return w ? (double)w->value : NAN;
}

bool lexicon_lookup_fuzzy(const triage_rules *r, token *t) {
    if (bucket_of(t->text, t->n) < 0 || !r->spellings) return false;
    const uint32_t letters = letters_of(t->text, t->n);
    for (size_t m = (size_t)t->n + 1; m + 1 >= t->n; m--) { /* a letter left out first */
        if (m < FUZZY_BYTES || m >= WORD_BYTES) continue;
        const uint32_t *at = &r->bucket_starts[(t->text[0] - 'a') * WORD_BYTES + (int)m];
        for (uint32_t k = at[0]; k < at[1]; k++) {
            const spelling *p = &r->spellings[k];
            const word_row *w = &r->words[p->row];
            if (__builtin_popcount(letters ^ p->letters) > 2 || !is_misspelling(t->text, t->n, r->chars + w->text, m)) continue;
            add_row(r, t, w);
            return true;
        }
    }
    return false;
}
