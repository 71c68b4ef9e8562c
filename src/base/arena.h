/* One arena per lifetime (model, session, request): many allocations, one free, zeroed memory. */
#ifndef GALEN_BASE_ARENA_H
#define GALEN_BASE_ARENA_H

#include <stddef.h>

typedef struct arena_block arena_block;
typedef struct arena {
    arena_block *head;
    size_t n_bytes; /* given out in all */
} arena;            /* all zero is an empty arena */

/** count * size zeroed bytes, aligned to 64. NULL when memory is out or the product overflows. One thread at a time. */
void *arena_alloc(arena *a, size_t count, size_t size);

/** A NUL-terminated copy of n bytes; NULL when memory is out. */
char *arena_strndup(arena *a, const char *s, size_t n);

void arena_free(arena *a); /* frees everything, leaves an empty arena */

#endif
