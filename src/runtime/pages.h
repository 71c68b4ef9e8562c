/* The KV pages of a batcher: who holds which, which are known by their tokens, which may be taken again.
 *
 * A known page is a node of a tree: its place says which tokens stand before it, its own tokens what it holds, so two sequences
 * that begin alike walk the same nodes. A path begins at a root, one for each salt. Who holds a page holds all before it;
 * pages are let go last first, so the least recently used known page that nobody holds has no children: it may be forgotten.
 * One thread. Knows no device: copying and clearing what a page holds is the caller's. */
#ifndef GALEN_RUNTIME_PAGES_H
#define GALEN_RUNTIME_PAGES_H

#include "backend/backend.h"

typedef struct page_pool page_pool;

enum { PAGE_NONE = -1 }; /* roots are below it */

typedef struct page_counts {
    int32_t n_pages, n_held, n_cached; /* cached: known, held by nobody */
    uint64_t n_evicted;                /* known pages forgotten to be used for something else */
} page_counts;

/** Errors  NOMEM. */
galen_status pages_open(page_pool **out, int32_t n_pages, galen_error *err);
void pages_close(page_pool *p); /* NULL is fine */
page_counts pages_count(const page_pool *p);

/** The root of a salt, held until it is let go as often as it was taken; PAGE_NONE when memory is out. */
int32_t pages_take_root(page_pool *p, const char *salt);
void pages_let_root(page_pool *p, int32_t root);

/** A page that nobody holds, with one holder and unknown contents; PAGE_NONE when all are held. */
int32_t pages_take(page_pool *p);
void pages_hold(page_pool *p, int32_t page);
void pages_let(page_pool *p, int32_t page);

bool pages_is_held(const page_pool *p, int32_t page);
/** Whether its only holder may write into it: nobody else holds it and it is not known. */
bool pages_is_private(const page_pool *p, int32_t page);

/** The known page with these KV_PAGE tokens after parent (a page, or a root); PAGE_NONE. */
int32_t pages_find(const page_pool *p, int32_t parent, const int32_t *tokens);
/** The known page after parent that begins with the most of these n tokens (*n_same >= 1); PAGE_NONE. */
int32_t pages_find_part(const page_pool *p, int32_t parent, const int32_t *tokens, int32_t n, int32_t *n_same);

/** Make a private page known by its n tokens (1 to KV_PAGE; fewer: nothing may follow it). Returns the page that stands for them
 *  from now on, held once in place of the one given: it, or an equal one that was known before (then it is let go). */
int32_t pages_publish(page_pool *p, int32_t parent, int32_t page, const int32_t *tokens, int32_t n);

/** Nobody holds any page: what they held is lost, none is known. */
void pages_forget_all(page_pool *p);

#endif
