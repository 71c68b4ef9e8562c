/* Checked little-endian reads. Byte by byte, so alignment and host order do not matter. */
#include "base/cursor.h"

#include <string.h>

const uint8_t *cursor_bytes(cursor *c, uint64_t n) {
    if (c->bad || n > c->n - c->pos) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->bytes + c->pos;
    c->pos += (size_t)n;
    return p;
}

static uint64_t read_le(cursor *c, size_t n) {
    const uint8_t *p = cursor_bytes(c, n);
    uint64_t v = 0;
    if (!p) return 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t cursor_u8(cursor *c) {
    return (uint8_t)read_le(c, 1);
}
uint16_t cursor_u16(cursor *c) {
    return (uint16_t)read_le(c, 2);
}
uint32_t cursor_u32(cursor *c) {
    return (uint32_t)read_le(c, 4);
}
uint64_t cursor_u64(cursor *c) {
    return read_le(c, 8);
}
float cursor_f32(cursor *c) {
    const uint32_t u = cursor_u32(c);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
double cursor_f64(cursor *c) {
    const uint64_t u = cursor_u64(c);
    double f;
    memcpy(&f, &u, sizeof f);
    return f;
}
