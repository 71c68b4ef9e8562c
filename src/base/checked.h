/* Checked arithmetic on sizes that come from a file or a request: no raw + * << on them anywhere else. */
#ifndef GALEN_BASE_CHECKED_H
#define GALEN_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Each returns false on overflow and then leaves *out alone. */
static inline bool u64_add(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool u64_mul(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool size_add(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool size_mul(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
/** Round a up to a multiple of align, a power of two. */
static inline bool u64_pad(uint64_t a, uint64_t align, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, align - 1, &r)) return false;
    *out = r & ~(align - 1);
    return true;
}
static inline bool is_pow2(uint64_t a) {
    return a != 0 && (a & (a - 1)) == 0;
}

#endif
