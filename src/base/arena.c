/* A list of growing blocks; large requests get a block of their own. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { ALIGN = 64, BLOCK_BYTES = 64 * 1024 };

struct arena_block {
    arena_block *next;
    size_t used, cap; /* bytes of the payload, which starts at the next multiple of ALIGN */
};

static char *payload(arena_block *b) {
    return (char *)(((uintptr_t)(b + 1) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
}

static arena_block *add_block(arena *a, size_t n) {
    size_t total;
    if (!size_add(n, sizeof(arena_block) + ALIGN, &total)) return NULL;
    arena_block *b = calloc(1, total);
    if (!b) return NULL;
    b->cap = n;
    if (a->head && n > BLOCK_BYTES) { /* keep filling the current block */
        b->next = a->head->next;
        a->head->next = b;
    } else {
        b->next = a->head;
        a->head = b;
    }
    return b;
}

void *arena_alloc(arena *a, size_t count, size_t size) {
    size_t n;
    if (!size_mul(count, size, &n) || !size_add(n, ALIGN - 1, &n)) return NULL;
    n &= ~(size_t)(ALIGN - 1);
    if (n == 0) n = ALIGN;
    arena_block *b = a->head;
    if (!b || n > b->cap - b->used) {
        b = add_block(a, n > BLOCK_BYTES ? n : BLOCK_BYTES);
        if (!b) return NULL;
    }
    char *p = payload(b) + b->used;
    b->used += n;
    a->n_bytes += n;
    return p;
}

char *arena_strndup(arena *a, const char *s, size_t n) {
    size_t total;
    char *p = size_add(n, 1, &total) ? arena_alloc(a, total, 1) : NULL;
    if (p && n) memcpy(p, s, n);
    return p;
}

void arena_free(arena *a) {
    for (arena_block *b = a->head; b;) {
        arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (arena){0};
}
