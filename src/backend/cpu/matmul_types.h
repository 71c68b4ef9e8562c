/* The weight types as the vector kernels see them: how 32 weights of a row become 32 bytes, and how the scales of eight
 * rows come to stand in the lanes of one vector. Compiler vectors, so one text serves every instruction set; what has no
 * operator comes from the including file: mm_half8, mm_join, mm_lookup16. Formats: tensor/blocks.h. */
#ifndef GALEN_BACKEND_CPU_MATMUL_TYPES_H
#define GALEN_BACKEND_CPU_MATMUL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "tensor/blocks.h"

/* Kernels are one body, inlined with a type's constants. Not so under the sanitizers, which would check every copy of every
 * line: minutes to compile, and nothing more found. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MM_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MM_SANITIZED
#endif
#endif
#ifdef MM_SANITIZED
#define MM_INLINE static inline
#else
#define MM_INLINE static inline __attribute__((always_inline))
#endif

/* What a type needs of the kernels; a compile-time constant wherever it is used. */
typedef struct mm_traits {
    int blocks;     /* of 32 weights in a file block: 1 or 8                               */
    int bytes;      /* of a file block                                                     */
    int scales;     /* per 32 weights: 1 or 2                                              */
    bool has_min;   /* w = dw * u - mw                                                     */
    bool is_signed; /* bytes are int8 of any value, else they lie in [0, max]              */
    int zero;       /* the weight is dw * (byte - zero): 0 or a power of two               */
    int max;        /* largest byte when unsigned                                          */
} mm_traits;

/* X(name, TYPE, blocks, scales, has_min, is_signed, zero, max) */
#define MM_QUANTISED(X)                                                                                                          \
    X(q8_0, Q8_0, 1, 1, false, true, 0, 127)                                                                                     \
    X(q4_0, Q4_0, 1, 1, false, false, 8, 15)                                                                                     \
    X(q4_1, Q4_1, 1, 1, true, false, 0, 15)                                                                                      \
    X(q5_0, Q5_0, 1, 1, false, false, 16, 31)                                                                                    \
    X(q5_1, Q5_1, 1, 1, true, false, 0, 31)                                                                                      \
    X(q2_k, Q2_K, 8, 2, true, false, 0, 3)                                                                                       \
    X(q3_k, Q3_K, 8, 2, false, false, 4, 7)                                                                                      \
    X(q4_k, Q4_K, 8, 1, true, false, 0, 15)                                                                                      \
    X(q5_k, Q5_K, 8, 1, true, false, 0, 31)                                                                                      \
    X(q6_k, Q6_K, 8, 2, false, false, 32, 63)                                                                                    \
    X(iq4_nl, IQ4_NL, 1, 1, false, true, 0, 127)                                                                                 \
    X(iq4_xs, IQ4_XS, 8, 1, false, true, 0, 127)

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x32 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef float f32x8 __attribute__((vector_size(32)));

/* From the including file. */
MM_INLINE f32x8 mm_half8(u32x8 h);                  /* binary16 in the low half of each lane; the high half is anything */
MM_INLINE u8x32 mm_join(u8x16 first, u8x16 second); /* side by side */
MM_INLINE u8x32 mm_lookup16(const int8_t table[16], u8x32 at); /* at[i] < 16 */

MM_INLINE u8x16 mm_load16(const void *p) {
    u8x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}

MM_INLINE u8x32 mm_load32(const void *p) {
    u8x32 v;
    memcpy(&v, p, sizeof v);
    return v;
}

MM_INLINE f32x8 mm_f32x8(u32x8 v) {
    return __builtin_convertvector((i32x8)v, f32x8);
}

MM_INLINE uint32_t mm_word(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The little-endian word at offset at of each of eight rows. */
MM_INLINE u32x8 mm_words(const uint8_t *const p[8], size_t at) {
    return (u32x8){mm_word(p[0] + at), mm_word(p[1] + at), mm_word(p[2] + at), mm_word(p[3] + at),
                   mm_word(p[4] + at), mm_word(p[5] + at), mm_word(p[6] + at), mm_word(p[7] + at)};
}

/* ---------------------------------------------------------------- 32 weights as bytes: mm_get_TYPE(file block, which 32) */

MM_INLINE u8x32 mm_get_q8_0(const uint8_t *p, int b) {
    (void)b;
    return mm_load32(p + offsetof(block_q8_0, qs));
}

/* Sixteen bytes: the low nibbles are the first sixteen weights, the high ones the others. */
MM_INLINE u8x32 mm_nibbles(const uint8_t *qs) {
    const u8x16 v = mm_load16(qs);
    return mm_join(v, v >> 4) & 15;
}

/* Bit i of qh becomes bit 4 of byte i. */
MM_INLINE u8x32 mm_fifth_bits(const uint8_t *qh) {
    const uint32_t h = mm_word(qh);
    const u32x8 all = {h, h, h, h, h, h, h, h};
    const u8x32 spread = __builtin_shufflevector((u8x32)all, (u8x32)all, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 18, 18,
                                                 18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
    const u8x32 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                       1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return (u8x32)((spread & bit) == bit) & 16;
}

MM_INLINE u8x32 mm_get_q4_0(const uint8_t *p, int b) {
    (void)b;
    return mm_nibbles(p + offsetof(block_q4_0, qs));
}

MM_INLINE u8x32 mm_get_q4_1(const uint8_t *p, int b) {
    (void)b;
    return mm_nibbles(p + offsetof(block_q4_1, qs));
}

MM_INLINE u8x32 mm_get_q5_0(const uint8_t *p, int b) {
    (void)b;
    return mm_nibbles(p + offsetof(block_q5_0, qs)) | mm_fifth_bits(p + offsetof(block_q5_0, qh));
}

MM_INLINE u8x32 mm_get_q5_1(const uint8_t *p, int b) {
    (void)b;
    return mm_nibbles(p + offsetof(block_q5_1, qs)) | mm_fifth_bits(p + offsetof(block_q5_1, qh));
}

MM_INLINE u8x32 mm_get_q2_k(const uint8_t *p, int b) {
    return mm_load32(p + offsetof(block_q2_k, qs) + 32 * (b / 4)) >> (2 * (b % 4)) & 3;
}

MM_INLINE u8x32 mm_get_q3_k(const uint8_t *p, int b) {
    const u8x32 low = mm_load32(p + offsetof(block_q3_k, qs) + 32 * (b / 4)) >> (2 * (b % 4)) & 3;
    const u8x32 mask = mm_load32(p + offsetof(block_q3_k, hmask));
    return low | ((b < 2 ? mask << (2 - b) : mask >> (b - 2)) & 4);
}

MM_INLINE u8x32 mm_get_q4_k(const uint8_t *p, int b) {
    return mm_load32(p + offsetof(block_q4_k, qs) + 32 * (b / 2)) >> (4 * (b % 2)) & 15;
}

MM_INLINE u8x32 mm_get_q5_k(const uint8_t *p, int b) {
    const u8x32 low = mm_load32(p + offsetof(block_q5_k, qs) + 32 * (b / 2)) >> (4 * (b % 2)) & 15;
    const u8x32 high = mm_load32(p + offsetof(block_q5_k, qh));
    return low | ((b < 4 ? high << (4 - b) : high >> (b - 4)) & 16);
}

MM_INLINE u8x32 mm_get_q6_k(const uint8_t *p, int b) {
    const int half = b / 4, quarter = b % 4;
    const u8x32 low = mm_load32(p + offsetof(block_q6_k, ql) + 64 * half + 32 * (quarter % 2)) >> (4 * (quarter / 2)) & 15;
    const u8x32 high = mm_load32(p + offsetof(block_q6_k, qh) + 32 * half);
    return low | ((quarter < 2 ? high << (4 - 2 * quarter) : high >> (2 * quarter - 4)) & 48);
}

MM_INLINE u8x32 mm_get_iq4_nl(const uint8_t *p, int b) {
    (void)b;
    return mm_lookup16(blocks_iq4_values, mm_nibbles(p + offsetof(block_iq4_nl, qs)));
}

MM_INLINE u8x32 mm_get_iq4_xs(const uint8_t *p, int b) {
    return mm_lookup16(blocks_iq4_values, mm_nibbles(p + offsetof(block_iq4_xs, qs) + 16 * b));
}

/* ---------------------------------------------------------------- scales and minima of a file block of eight rows */

MM_INLINE void mm_scales_q8_0(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    (void)mw;
    dw[0] = mm_half8(mm_words(p, 0));
}

MM_INLINE void mm_scales_q4_0(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    mm_scales_q8_0(p, dw, mw);
}

MM_INLINE void mm_scales_q5_0(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    mm_scales_q8_0(p, dw, mw);
}

MM_INLINE void mm_scales_iq4_nl(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    mm_scales_q8_0(p, dw, mw);
}

MM_INLINE void mm_scales_q4_1(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const u32x8 both = mm_words(p, 0);
    dw[0] = mm_half8(both);
    mw[0] = -mm_half8(both >> 16);
}

MM_INLINE void mm_scales_q5_1(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    mm_scales_q4_1(p, dw, mw);
}

/* Four six-bit numbers a word, one a byte: blocks_k4_scale on eight rows at once. */
MM_INLINE void mm_scales_q4_k(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const u32x8 both = mm_words(p, 0), a = mm_words(p, 4), b = mm_words(p, 8), c = mm_words(p, 12);
    const f32x8 d = mm_half8(both), dmin = mm_half8(both >> 16);
    const u32x8 sc[2] = {a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030)};
    const u32x8 m[2] = {b & 0x3f3f3f3f, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030)};
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        dw[s] = d * mm_f32x8(sc[s / 4] >> (8 * (s % 4)) & 255);
        mw[s] = dmin * mm_f32x8(m[s / 4] >> (8 * (s % 4)) & 255);
    }
}

MM_INLINE void mm_scales_q5_k(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    mm_scales_q4_k(p, dw, mw);
}

MM_INLINE void mm_scales_q6_k(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const f32x8 d = mm_half8(mm_words(p, offsetof(block_q6_k, d) - 2) >> 16); /* a word at d would end past the block */
    (void)mw;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const i32x8 four = (i32x8)mm_words(p, offsetof(block_q6_k, scales) + 4 * (size_t)i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) dw[4 * i + j] = d * mm_f32x8((u32x8)((i32x8)((u32x8)four << (24 - 8 * j)) >> 24));
    }
}

MM_INLINE void mm_scales_q3_k(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const f32x8 d = mm_half8(mm_words(p, offsetof(block_q3_k, d) - 2) >> 16);
    const size_t at = offsetof(block_q3_k, scales);
    const u32x8 low[2] = {mm_words(p, at), mm_words(p, at + 4)}, high = mm_words(p, at + 8);
    (void)mw;
#pragma GCC unroll 16
    for (int s = 0; s < 16; s++) {
        const u32x8 l = low[s % 8 / 4] >> (8 * (s % 4) + 4 * (s / 8)) & 15, h = high >> (8 * (s % 4) + 2 * (s / 4)) & 3;
        dw[s] = d * mm_f32x8((l | h << 4) - 32);
    }
}

MM_INLINE void mm_scales_q2_k(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const u32x8 both = mm_words(p, offsetof(block_q2_k, d));
    const f32x8 d = mm_half8(both), dmin = mm_half8(both >> 16);
#pragma GCC unroll 16
    for (int s = 0; s < 16; s++) {
        const u32x8 v = mm_words(p, (size_t)(s - s % 4)) >> (8 * (s % 4));
        dw[s] = d * mm_f32x8(v & 15);
        mw[s] = dmin * mm_f32x8(v >> 4 & 15);
    }
}

MM_INLINE void mm_scales_iq4_xs(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw) {
    const u32x8 both = mm_words(p, 0), low = mm_words(p, offsetof(block_iq4_xs, scales_l));
    const f32x8 d = mm_half8(both);
    (void)mw;
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) dw[s] = d * mm_f32x8(((low >> (4 * s) & 15) | (both >> (16 + 2 * s) & 3) << 4) - 32);
}

#endif
