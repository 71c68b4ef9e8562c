/* The rule is llama.cpp's (tokenizer_st_partition): the longest special token is cut out of the whole text first, then the
 * next longest out of what remains. Done literally that is one search for each of thousands of tokens. Here one pass notes
 * for every place which lengths of token begin there, as bits, and the lengths are then served in descending order; a length
 * that never occurred costs nothing. */
#include "tokenizer/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static int compare_texts(const vocab_token *a, const vocab_token *b) {
    const size_t n = a->n < b->n ? a->n : b->n;
    const int c = memcmp(a->p, b->p, n);
    if (c) return c;
    return a->n < b->n ? -1 : a->n > b->n;
}

/* Heap sort: no recursion, no bad case. Equal texts keep the lower id first. */
static bool is_before(const vocab *v, int32_t a, int32_t b) {
    const int c = compare_texts(&v->tokens[a], &v->tokens[b]);
    return c < 0 || (c == 0 && a < b);
}

static void sift(const vocab *v, int32_t *ids, size_t i, size_t n) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_before(v, ids[child], ids[child + 1])) child++;
        if (!is_before(v, ids[i], ids[child])) return;
        const int32_t t = ids[i];
        ids[i] = ids[child];
        ids[child] = t;
    }
}

static void sort_ids(const vocab *v, int32_t *ids, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift(v, ids, i, n);
    for (size_t i = n; i-- > 1;) {
        const int32_t t = ids[0];
        ids[0] = ids[i];
        ids[i] = t;
        sift(v, ids, 0, i);
    }
}

static int compare_lengths(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static bool is_special(const vocab_token *t) {
    return t->n > 0 && (t->kind == TOKEN_CONTROL || t->kind == TOKEN_USER_DEFINED || t->kind == TOKEN_UNKNOWN);
}

galen_status specials_load(specials *s, const vocab *v, arena *mem, galen_error *err) {
    size_t n = 0;
    s->v = v;
    for (int32_t id = 0; id < v->n_tokens; id++) n += is_special(&v->tokens[id]);
    s->ids = arena_alloc(mem, n, sizeof *s->ids);
    s->lengths = arena_alloc(mem, n, sizeof *s->lengths);
    if (!s->ids || !s->lengths) return galen_fail(err, GALEN_E_NOMEM, 0, "vocabulary: %zu special tokens", n);
    for (int32_t id = 0; id < v->n_tokens; id++) {
        if (is_special(&v->tokens[id])) s->ids[s->n++] = id;
    }
    sort_ids(v, s->ids, s->n);
    for (size_t i = 0; i < s->n; i++) s->lengths[i] = v->tokens[s->ids[i]].n;
    if (s->n) qsort(s->lengths, s->n, sizeof *s->lengths, compare_lengths);
    for (size_t i = 0; i < s->n; i++) {
        if (s->n_lengths == 0 || s->lengths[i] != s->lengths[s->n_lengths - 1]) s->lengths[s->n_lengths++] = s->lengths[i];
    }
    for (size_t b = 0, i = 0; b <= 256; b++) {
        while (i < s->n && (uint8_t)v->tokens[s->ids[i]].p[0] < b) i++;
        s->first[b] = (uint32_t)i;
    }
    return GALEN_OK;
}

/* ---------------------------------------------------------------- one place */

/* The tokens whose texts are prefixes of text, shortest first: narrow the sorted range by one byte after another. */
typedef struct walk {
    const specials *s;
    const char *text;
    size_t n, depth, lo, hi;
} walk;

static walk walk_begin(const specials *s, const char *text, size_t n) {
    const uint8_t b = (uint8_t)text[0];
    return (walk){.s = s, .text = text, .n = n, .depth = 1, .lo = s->first[b], .hi = s->first[b + 1]};
}

/* First of [lo, hi) whose byte at depth is >= b. All of them are longer than depth, except that shorter ones come first. */
static size_t lower_bound(const walk *w, unsigned b) {
    size_t lo = w->lo, hi = w->hi;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const vocab_token *t = &w->s->v->tokens[w->s->ids[mid]];
        if (t->n <= w->depth || (uint8_t)t->p[w->depth] < b) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* The next token that matches, its id; VOCAB_NONE when there is none. */
static int32_t walk_next(walk *w) {
    while (w->lo < w->hi) {
        const int32_t id = w->s->ids[w->lo];
        if (w->s->v->tokens[id].n == w->depth) { /* the shortest of the range stands first */
            w->lo++;
            return id;
        }
        if (w->depth >= w->n) break;
        const unsigned b = (uint8_t)w->text[w->depth];
        const size_t lo = lower_bound(w, b);
        w->hi = lower_bound(w, b + 1);
        w->lo = lo;
        w->depth++;
    }
    return VOCAB_NONE;
}

/* ---------------------------------------------------------------- the whole text */

enum { FREE = 0, TAKEN = 1 };

typedef struct search {
    const specials *s;
    const char *text;
    size_t n;
    const text_span *spans;
    size_t n_spans;
    uint64_t *begins; /* [n] bit k: a token of the k-th length of this round begins here */
    uint8_t *state;   /* [n] FREE or TAKEN */
    special_match *out;
    size_t n_out, cap_out;
} search;

static bool may_match(const vocab_token *t, size_t pos, size_t trusted_end) {
    return t->kind == TOKEN_USER_DEFINED || pos + t->n <= trusted_end;
}

/* Control tokens that begin at pos must end by here. *span moves along with pos. */
static size_t trusted_end(const search *q, size_t pos, size_t *span) {
    while (*span < q->n_spans && q->spans[*span].end <= pos) ++*span;
    return *span < q->n_spans && q->spans[*span].is_trusted ? q->spans[*span].end : pos;
}

/* Which of lengths[base, base + 64) begin where. Returns the union. */
static uint64_t note_begins(const search *q, size_t base) {
    uint64_t all = 0;
    size_t span = 0;
    for (size_t pos = 0; pos < q->n; pos++) {
        q->begins[pos] = 0;
        if (q->s->first[(uint8_t)q->text[pos]] == q->s->first[(uint8_t)q->text[pos] + 1]) continue;
        const size_t end = trusted_end(q, pos, &span);
        walk w = walk_begin(q->s, q->text + pos, q->n - pos);
        for (int32_t id; (id = walk_next(&w)) != VOCAB_NONE;) {
            const vocab_token *t = &q->s->v->tokens[id];
            if (!may_match(t, pos, end)) continue;
            const uint32_t *at = bsearch(&t->n, q->s->lengths, q->s->n_lengths, sizeof *at, compare_lengths);
            const size_t k = (size_t)(at - q->s->lengths) - base;
            if (k < 64) q->begins[pos] |= (uint64_t)1 << k;
        }
        all |= q->begins[pos];
    }
    return all;
}

/* The token of that length at pos. */
static int32_t token_at(const search *q, size_t pos, uint32_t length, size_t *span) {
    walk w = walk_begin(q->s, q->text + pos, q->n - pos);
    const size_t end = trusted_end(q, pos, span);
    for (int32_t id; (id = walk_next(&w)) != VOCAB_NONE;) {
        const vocab_token *t = &q->s->v->tokens[id];
        if (t->n == length && may_match(t, pos, end)) return id;
    }
    return VOCAB_NONE;
}

static bool is_c_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool take(search *q, size_t pos, int32_t id) {
    if (q->n_out == q->cap_out) {
        const size_t cap = q->cap_out ? q->cap_out * 2 : 64;
        special_match *p = cap <= SIZE_MAX / sizeof *p ? realloc(q->out, cap * sizeof *p) : NULL;
        if (!p) return false;
        q->out = p;
        q->cap_out = cap;
    }
    const vocab_token *t = &q->s->v->tokens[id];
    size_t resume = pos + t->n;
    if (t->is_stripping) {
        while (resume < q->n && q->state[resume] == FREE && is_c_space(q->text[resume])) resume++;
    }
    memset(q->state + pos, TAKEN, resume - pos);
    q->out[q->n_out++] = (special_match){(uint32_t)pos, (uint32_t)(pos + t->n), (uint32_t)resume, id};
    return true;
}

/* A token taken earlier is at least as long, so one that overlaps covers this one's first or last byte. White space that a
 * token swallowed directly follows it, so the first byte tells of that too. */
static bool take_length(search *q, size_t k, uint32_t length) {
    size_t span = 0;
    for (size_t pos = 0; pos + length <= q->n; pos++) {
        if (!(q->begins[pos] >> k & 1) || q->state[pos] != FREE || q->state[pos + length - 1] != FREE) continue;
        const int32_t id = token_at(q, pos, length, &span);
        if (id >= 0 && !take(q, pos, id)) return false;
    }
    return true;
}

static int compare_matches(const void *a, const void *b) {
    const special_match *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static bool has_candidate(const specials *s, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s->first[(uint8_t)text[i]] != s->first[(uint8_t)text[i] + 1]) return true;
    }
    return false;
}

galen_status specials_find(const specials *s, const char *text, size_t n, const text_span *spans, size_t n_spans,
                           special_match **out, size_t *n_out, galen_error *err) {
    galen_status st = GALEN_OK;
    search q = {.s = s, .text = text, .n = n, .spans = spans, .n_spans = n_spans};
    *out = NULL;
    *n_out = 0;
    if (!has_candidate(s, text, n)) return GALEN_OK;
    q.begins = malloc(n * sizeof *q.begins); /* n <= INT32_MAX */
    q.state = calloc(n, 1);
    if (!q.begins || !q.state) goto nomem;
    for (size_t base = 0; base < s->n_lengths; base += 64) {
        const uint64_t all = note_begins(&q, base);
        for (size_t k = 0; k < 64 && base + k < s->n_lengths; k++) {
            if ((all >> k & 1) && !take_length(&q, k, s->lengths[base + k])) goto nomem;
        }
    }
    if (q.n_out > 1) qsort(q.out, q.n_out, sizeof *q.out, compare_matches);
    *out = q.out;
    *n_out = q.n_out;
    q.out = NULL;
    goto done;
nomem:
    st = galen_fail(err, GALEN_E_NOMEM, 0, "special tokens in %zu bytes", n);
done:
    free(q.begins);
    free(q.state);
    free(q.out);
    return st;
}
