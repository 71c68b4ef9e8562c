/* What AVX2 and AVX-512 share of matmul_body.h's needs: 256-bit work on eight rows. */
#ifndef GALEN_BACKEND_CPU_MATMUL_X86_H
#define GALEN_BACKEND_CPU_MATMUL_X86_H

#include <immintrin.h>

#include "backend/cpu/matmul_types.h"

MM_INLINE f32x8 mm_half8(u32x8 h) {
#if defined(__AVX512VL__)
    return (f32x8)_mm256_cvtph_ps(_mm256_cvtepi32_epi16((__m256i)h));
#else
    const __m256i low = (__m256i)(h & 0xffff);
    return (f32x8)_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
#endif
}

MM_INLINE u8x32 mm_join(u8x16 first, u8x16 second) {
    return (u8x32)_mm256_set_m128i((__m128i)second, (__m128i)first);
}

MM_INLINE u8x32 mm_lookup16(const int8_t table[16], u8x32 at) {
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (u8x32)_mm256_shuffle_epi8(t, (__m256i)at);
}

MM_INLINE f32x8 mm_fma8(f32x8 a, f32x8 b, f32x8 c) {
    return (f32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

MM_INLINE i32x8 mm_round8(f32x8 v) {
    return (i32x8)_mm256_cvtps_epi32((__m256)v); /* to even: nobody changes MXCSR */
}

/* 32 integers to bytes in order, cut to +-127. */
MM_INLINE u8x32 mm_narrow(const i32x8 q[4]) {
    const __m256i a = _mm256_packs_epi32((__m256i)q[0], (__m256i)q[1]), b = _mm256_packs_epi32((__m256i)q[2], (__m256i)q[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs work within 128 bits */
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    return (u8x32)_mm256_max_epi8(bytes, _mm256_set1_epi8(-127));
}

/* Two levels of pairwise sums bring the rows into lanes; the third only sorts. */
MM_INLINE void mm_fold(const i32x8 part[8], i32x8 *lo, i32x8 *hi) {
    __m256i two[4], four[2];
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) {
        const __m256i a = (__m256i)part[2 * i], b = (__m256i)part[2 * i + 1];
        two[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2; i++) {
        const __m256i a = two[2 * i], b = two[2 * i + 1];
        four[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    }
    *lo = (i32x8)_mm256_permute2x128_si256(four[0], four[1], 0x20);
    *hi = (i32x8)_mm256_permute2x128_si256(four[0], four[1], 0x31);
}

MM_INLINE void mm_transpose(u32x8 w[8]) {
    __m256i a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32((__m256i)w[i], (__m256i)w[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32((__m256i)w[i], (__m256i)w[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 8
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm256_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) {
        w[i] = (u32x8)_mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        w[i + 4] = (u32x8)_mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

#endif
