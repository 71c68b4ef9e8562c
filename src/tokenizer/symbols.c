#include "tokenizer/symbols.h"

#include <stdlib.h>

#include "base/checked.h"

/* A heap of four children to a node: half the depth of two, and the children share a cache line. Entries are plain numbers,
 * rank above position, so that one comparison orders both; an entry whose rank is no longer its symbol's is stale. */
enum { ARITY = 4 };

bool symbols_begin(symbols *w, size_t n) {
    w->n = w->n_heap = 0;
    if (n <= w->cap) return true;
    size_t cap = w->cap ? w->cap : 256, bytes;
    while (cap < n) {
        if (!size_mul(cap, 2, &cap)) return false;
    }
    /* Each merge takes one entry off the heap and adds at most two, so it never exceeds 2 n. */
    if (!size_mul(cap, sizeof(symbol) + 2 * sizeof(uint64_t), &bytes)) return false;
    free(w->s);
    free(w->heap);
    w->cap = 0;
    w->s = malloc(cap * sizeof *w->s);
    w->heap = malloc(cap * 2 * sizeof *w->heap);
    if (!w->s || !w->heap) return false;
    w->cap = cap;
    return true;
}

void symbols_free(symbols *w) {
    free(w->s);
    free(w->heap);
    *w = (symbols){0};
}

static void sift_down(symbols *w, size_t i) {
    uint64_t *const h = w->heap, v = h[i];
    for (;;) {
        size_t child = i * ARITY + 1, best = child;
        if (child >= w->n_heap) break;
        const size_t end = child + ARITY < w->n_heap ? child + ARITY : w->n_heap;
        for (child++; child < end; child++) {
            if (h[child] < h[best]) best = child;
        }
        if (h[best] >= v) break;
        h[i] = h[best];
        i = best;
    }
    h[i] = v;
}

static void push(symbols *w, uint64_t v) {
    size_t i = w->n_heap++;
    while (i > 0 && w->heap[(i - 1) / ARITY] > v) {
        w->heap[i] = w->heap[(i - 1) / ARITY];
        i = (i - 1) / ARITY;
    }
    w->heap[i] = v;
}

static uint64_t pop(symbols *w) {
    const uint64_t v = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap) sift_down(w, 0);
    return v;
}

static uint64_t entry(const symbols *w, int32_t left) {
    return (uint64_t)w->s[left].rank << 32 | (uint32_t)left;
}

/* Look the pair that begins at left up again, after one of its two changed. */
static void renew(symbols *w, int32_t left, symbol_pair_fn pair, const void *ctx) {
    symbol *s = &w->s[left];
    s->rank = SYMBOL_NEVER;
    if (s->next >= 0) pair(ctx, s, &w->s[s->next]);
    if (s->rank != SYMBOL_NEVER) push(w, entry(w, left));
}

void symbols_merge(symbols *w, symbol_pair_fn pair, const void *ctx) {
    w->s[w->n - 1].next = -1;
    w->s[w->n - 1].rank = SYMBOL_NEVER;
    for (size_t i = 0; i + 1 < w->n; i++) {
        w->s[i].rank = SYMBOL_NEVER;
        pair(ctx, &w->s[i], &w->s[i + 1]);
        if (w->s[i].rank != SYMBOL_NEVER) w->heap[w->n_heap++] = entry(w, (int32_t)i);
    }
    for (size_t i = w->n_heap / ARITY + 1; i-- > 0;) {
        if (i < w->n_heap) sift_down(w, i);
    }
    while (w->n_heap) {
        const uint64_t top = pop(w);
        const int32_t left = (int32_t)(top & UINT32_MAX);
        symbol *s = &w->s[left];
        if (s->rank != (uint32_t)(top >> 32)) continue; /* a neighbour joined meanwhile */
        symbol *r = &w->s[s->next];
        s->id = s->joined;
        s->end = r->end;
        s->next = r->next;
        r->rank = SYMBOL_NEVER; /* r is gone: its entries are stale */
        if (s->next >= 0) w->s[s->next].prev = left;
        renew(w, left, pair, ctx);
        if (s->prev >= 0) renew(w, s->prev, pair, ctx);
    }
}
