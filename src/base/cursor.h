/* A reading position in untrusted bytes, little-endian. A short read sets bad, yields 0 and moves no further:
 * read a whole record, then test bad once. */
#ifndef GALEN_BASE_CURSOR_H
#define GALEN_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cursor {
    const uint8_t *bytes;
    size_t n;   /* bytes in all                          */
    size_t pos; /* of the next read; <= n                */
    bool bad;   /* a read went past the end; pos is where */
} cursor;

static inline cursor cursor_of(const void *bytes, size_t n) {
    return (cursor){.bytes = (const uint8_t *)bytes, .n = n};
}
static inline size_t cursor_left(const cursor *c) {
    return c->bad ? 0 : c->n - c->pos;
}

uint8_t cursor_u8(cursor *c);
uint16_t cursor_u16(cursor *c);
uint32_t cursor_u32(cursor *c);
uint64_t cursor_u64(cursor *c);
float cursor_f32(cursor *c);
double cursor_f64(cursor *c);

/** n bytes inside the input, NULL when fewer are left. Lives as long as the input. */
const uint8_t *cursor_bytes(cursor *c, uint64_t n);

#endif
