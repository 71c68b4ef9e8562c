/* Full known pages are found by a hash of (parent, tokens), always compared; all known pages also stand in their parent's list of
 * children, newest first, where part of a page is looked for. */
#include "runtime/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { MOST_SIBLINGS = 64, FIRST_ROOT = -2 }; /* root r is node FIRST_ROOT - r; siblings looked at for part of a page */

typedef struct node {
    int32_t n_holders;
    int32_t n_tokens;                  /* 0 = not known */
    int32_t parent;                    /* of a known page */
    int32_t first_child, older, newer; /* known pages of the same parent: a list from newest to oldest */
    int32_t next_hash;                 /* full known pages of the same bucket */
    int32_t before, after;             /* in the list of the free (after only) or of the cached, the longest unused first */
    int32_t tokens[KV_PAGE];
} node;

typedef struct page_root {
    char *salt; /* NULL = the slot is free */
    int32_t n_holders, first_child;
} page_root;

struct page_pool {
    arena mem;
    node *pages;
    int32_t *buckets; /* [n_buckets], a power of two */
    uint32_t n_buckets;
    page_root *roots;
    int32_t n_roots, cap_roots;
    int32_t free, oldest, newest; /* lists: free pages; cached pages */
    page_counts n;
};

galen_status pages_open(page_pool **out, int32_t n_pages, galen_error *err) {
    *out = NULL;
    page_pool *p = calloc(1, sizeof *p);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "page pool");
    p->n_buckets = 64;
    while (p->n_buckets < (uint32_t)n_pages) p->n_buckets *= 2;
    p->pages = arena_alloc(&p->mem, (size_t)n_pages, sizeof *p->pages);
    p->buckets = arena_alloc(&p->mem, p->n_buckets, sizeof *p->buckets);
    if (!p->pages || !p->buckets) {
        pages_close(p);
        return galen_fail(err, GALEN_E_NOMEM, 0, "a pool of %d pages", n_pages);
    }
    for (uint32_t i = 0; i < p->n_buckets; i++) p->buckets[i] = PAGE_NONE;
    for (int32_t i = 0; i < n_pages; i++) p->pages[i].after = i + 1 < n_pages ? i + 1 : PAGE_NONE;
    p->free = n_pages > 0 ? 0 : PAGE_NONE;
    p->oldest = p->newest = PAGE_NONE;
    p->n.n_pages = n_pages;
    *out = p;
    return GALEN_OK;
}

void pages_close(page_pool *p) {
    if (!p) return;
    for (int32_t i = 0; i < p->n_roots; i++) free(p->roots[i].salt);
    free(p->roots);
    arena_free(&p->mem);
    free(p);
}

page_counts pages_count(const page_pool *p) {
    return p->n;
}

/* ---------------------------------------------------------------- roots */

static void clean_root(page_root *r) {
    if (r->n_holders > 0 || r->first_child != PAGE_NONE) return;
    free(r->salt);
    r->salt = NULL;
}

static page_root *free_root(page_pool *p) {
    for (int32_t i = 0; i < p->n_roots; i++)
        if (!p->roots[i].salt) return &p->roots[i];
    if (p->n_roots == p->cap_roots) {
        const int32_t cap = p->cap_roots ? 2 * p->cap_roots : 8;
        page_root *roots = realloc(p->roots, (size_t)cap * sizeof *roots);
        if (!roots) return NULL;
        p->roots = roots;
        p->cap_roots = cap;
    }
    p->roots[p->n_roots] = (page_root){0};
    return &p->roots[p->n_roots++];
}

int32_t pages_take_root(page_pool *p, const char *salt) {
    page_root *r = NULL;
    for (int32_t i = 0; i < p->n_roots && !r; i++)
        if (p->roots[i].salt && strcmp(p->roots[i].salt, salt) == 0) r = &p->roots[i];
    if (!r) {
        char *copy = strdup(salt);
        r = copy ? free_root(p) : NULL;
        if (!r) {
            free(copy);
            return PAGE_NONE;
        }
        *r = (page_root){.salt = copy, .first_child = PAGE_NONE};
    }
    r->n_holders++;
    return FIRST_ROOT - (int32_t)(r - p->roots);
}

void pages_let_root(page_pool *p, int32_t root) {
    page_root *r = &p->roots[FIRST_ROOT - root];
    assert(r->n_holders > 0);
    r->n_holders--;
    clean_root(r);
}

/* ---------------------------------------------------------------- lists */

static int32_t *children_of(page_pool *p, int32_t parent) {
    return parent <= FIRST_ROOT ? &p->roots[FIRST_ROOT - parent].first_child : &p->pages[parent].first_child;
}

static int32_t *bucket_of(const page_pool *p, int32_t parent, const int32_t *tokens) {
    uint64_t h = 0xCBF29CE484222325u ^ (uint32_t)parent; /* FNV-1a over words: chance collisions only cost a comparison */
    for (int i = 0; i < KV_PAGE; i++) h = (h ^ (uint32_t)tokens[i]) * 0x100000001B3u;
    return &p->buckets[(h ^ h >> 32) & (p->n_buckets - 1)];
}

static void cache_push(page_pool *p, int32_t i) {
    node *g = &p->pages[i];
    g->before = p->newest;
    g->after = PAGE_NONE;
    *(p->newest == PAGE_NONE ? &p->oldest : &p->pages[p->newest].after) = i;
    p->newest = i;
    p->n.n_cached++;
}

static void cache_remove(page_pool *p, int32_t i) {
    const node *g = &p->pages[i];
    *(g->before == PAGE_NONE ? &p->oldest : &p->pages[g->before].after) = g->after;
    *(g->after == PAGE_NONE ? &p->newest : &p->pages[g->after].before) = g->before;
    p->n.n_cached--;
}

/* A known page that nobody holds becomes unknown. */
static void forget(page_pool *p, int32_t i) {
    node *g = &p->pages[i];
    assert(g->n_holders == 0 && g->first_child == PAGE_NONE);
    if (g->n_tokens == KV_PAGE) {
        int32_t *at = bucket_of(p, g->parent, g->tokens);
        while (*at != i) at = &p->pages[*at].next_hash;
        *at = g->next_hash;
    }
    *(g->newer == PAGE_NONE ? children_of(p, g->parent) : &p->pages[g->newer].older) = g->older;
    if (g->older != PAGE_NONE) p->pages[g->older].newer = g->newer;
    if (g->parent <= FIRST_ROOT) clean_root(&p->roots[FIRST_ROOT - g->parent]);
    g->n_tokens = 0;
}

/* ---------------------------------------------------------------- taking and letting go */

int32_t pages_take(page_pool *p) {
    int32_t i = p->free;
    if (i != PAGE_NONE) {
        p->free = p->pages[i].after;
    } else {
        i = p->oldest;
        if (i == PAGE_NONE) return PAGE_NONE;
        cache_remove(p, i);
        forget(p, i);
        p->n.n_evicted++;
    }
    p->pages[i].n_holders = 1;
    p->n.n_held++;
    return i;
}

void pages_hold(page_pool *p, int32_t page) {
    if (p->pages[page].n_holders++ > 0) return;
    cache_remove(p, page);
    p->n.n_held++;
}

void pages_let(page_pool *p, int32_t page) {
    node *g = &p->pages[page];
    assert(g->n_holders > 0);
    if (--g->n_holders > 0) return;
    p->n.n_held--;
    if (g->n_tokens > 0) {
        cache_push(p, page);
    } else {
        g->after = p->free;
        p->free = page;
    }
}

bool pages_is_held(const page_pool *p, int32_t page) {
    return p->pages[page].n_holders > 0;
}

bool pages_is_private(const page_pool *p, int32_t page) {
    return p->pages[page].n_holders == 1 && p->pages[page].n_tokens == 0;
}

/* ---------------------------------------------------------------- known pages */

int32_t pages_find(const page_pool *p, int32_t parent, const int32_t *tokens) {
    int32_t i = *bucket_of(p, parent, tokens);
    while (i != PAGE_NONE && (p->pages[i].parent != parent || memcmp(p->pages[i].tokens, tokens, sizeof p->pages[i].tokens) != 0))
        i = p->pages[i].next_hash;
    return i;
}

int32_t pages_find_part(const page_pool *p, int32_t parent, const int32_t *tokens, int32_t n, int32_t *n_same) {
    int32_t best = PAGE_NONE, i = parent <= FIRST_ROOT ? p->roots[FIRST_ROOT - parent].first_child : p->pages[parent].first_child;
    *n_same = 0;
    for (int looked = 0; i != PAGE_NONE && looked < MOST_SIBLINGS; i = p->pages[i].older, looked++) {
        const node *g = &p->pages[i];
        int32_t same = 0;
        while (same < n && same < g->n_tokens && g->tokens[same] == tokens[same]) same++;
        if (same <= *n_same) continue;
        *n_same = same;
        best = i;
    }
    return best;
}

int32_t pages_publish(page_pool *p, int32_t parent, int32_t page, const int32_t *tokens, int32_t n) {
    node *g = &p->pages[page];
    int32_t n_same = 0;
    const int32_t known = n == KV_PAGE ? pages_find(p, parent, tokens) : pages_find_part(p, parent, tokens, n, &n_same);
    assert(pages_is_private(p, page) && n > 0 && n <= KV_PAGE);
    if (known != PAGE_NONE && (n == KV_PAGE || n_same == n)) {
        pages_hold(p, known);
        pages_let(p, page);
        return known;
    }
    memcpy(g->tokens, tokens, (size_t)n * sizeof *tokens);
    g->n_tokens = n;
    g->parent = parent;
    g->first_child = PAGE_NONE;
    int32_t *first = children_of(p, parent);
    g->older = *first;
    g->newer = PAGE_NONE;
    if (*first != PAGE_NONE) p->pages[*first].newer = page;
    *first = page;
    if (n < KV_PAGE) return page;
    int32_t *bucket = bucket_of(p, parent, tokens);
    g->next_hash = *bucket;
    *bucket = page;
    return page;
}

void pages_forget_all(page_pool *p) {
    while (p->oldest != PAGE_NONE) {
        const int32_t i = p->oldest;
        cache_remove(p, i);
        forget(p, i);
        p->pages[i].after = p->free;
        p->free = i;
    }
}
