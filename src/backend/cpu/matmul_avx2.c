/* The products on AVX2, FMA and F16C. Without VNNI, products of bytes are summed pairwise into 16 bits (vpmaddubsw):
 *   unsigned weights up to 31  several such sums fit into 16 bits before they must be widened;
 *   others, a row alone        |w| * (q with the sign of w): 2 * 128 * 127 fits, and -128 stays exact;
 *   others, tiles              weights are widened to 16 bits when they are packed, less their zero point, and meet whole
 *                              activations (vpmaddwd): half the instructions; 32 * 128 * 16256 fits into 32 bits. */
#define MM_ISA     "avx2"
#define MM_NAME    matmul_avx2
#define MM_LANES   8
#define MM_COLS    2
#define MM_GROUP   4
#define MM_FEW     1
#define MM_FLOAT_W 2
#define MM_FLOAT_X 2

#define MM_IS_WIDE(t) ((t).is_signed || (t).max > 31)

#include "backend/cpu/matmul_x86.h"

#include "backend/cpu/matmul_ops.h"

typedef __m256i mm_vi;
typedef __m256 mm_vf;

MM_INLINE int mm_stream_zero(const mm_traits t) {
    return t.zero;
}

MM_INLINE __m256i mm_pairs(const mm_traits t, __m256i w, __m256i q) {
    if (t.is_signed) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
    return _mm256_maddubs_epi16(w, q);
}

MM_INLINE i32x8 mm_dot32(const mm_traits t, u8x32 w, u8x32 q) {
    return (i32x8)_mm256_madd_epi16(mm_pairs(t, (__m256i)w, (__m256i)q), _mm256_set1_epi16(1));
}

MM_INLINE u8x32 mm_panel_byte(const mm_traits t, u8x32 w) {
    (void)t;
    return w;
}

MM_INLINE void mm_widen(const mm_traits t, u8x32 bytes, u32x8 w[2][8], int r) {
    const __m128i half[2] = {_mm256_castsi256_si128((__m256i)bytes), _mm256_extracti128_si256((__m256i)bytes, 1)};
    const __m256i zero = _mm256_set1_epi16((int16_t)t.zero);
    for (int h = 0; h < 2; h++) {
        const __m256i wide = t.is_signed ? _mm256_cvtepi8_epi16(half[h]) : _mm256_cvtepu8_epi16(half[h]);
        w[h][r] = (u32x8)(t.zero ? _mm256_sub_epi16(wide, zero) : wide);
    }
}

MM_INLINE void mm_store_whole(mm_whole *out, const i32x8 q[4]) {
    for (int h = 0; h < 2; h++) { /* packs work within 128 bits */
        const __m256i two = _mm256_packs_epi32((__m256i)q[2 * h], (__m256i)q[2 * h + 1]);
        _mm256_storeu_si256((__m256i *)(void *)(out->q + 16 * h), _mm256_permute4x64_epi64(two, 0xD8));
    }
}

MM_INLINE mm_vf mm_vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}

MM_INLINE void mm_vf_store(float *p, mm_vf v) {
    _mm256_storeu_ps(p, v);
}

MM_INLINE mm_vf mm_vf_set1(const float *p) {
    return _mm256_broadcast_ss(p);
}

MM_INLINE mm_vf mm_vf_from(mm_vi v) {
    return _mm256_cvtepi32_ps(v);
}

MM_INLINE mm_vf mm_vf_mul(mm_vf a, mm_vf b) {
    return _mm256_mul_ps(a, b);
}

MM_INLINE mm_vf mm_vf_fma(mm_vf a, mm_vf b, mm_vf c) {
    return _mm256_fmadd_ps(a, b, c);
}

MM_INLINE mm_vf mm_vf_fnma(mm_vf a, mm_vf b, mm_vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}

/* Sums of pairs that 16 bits hold: 2 * 127 * max each, max <= 31. */
MM_INLINE int mm_run(const mm_traits t) {
    return t.max <= 15 ? 8 : 4;
}

/* Weights [4 * first, 4 * (first + n)) of the block against one plane of the activations, plane bytes into their records. */
MM_INLINE void mm_plane_dot(const mm_traits t, mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a, size_t plane,
                            int first, int n, const int n_rows) {
    const int run = mm_run(t);
    const __m256i ones = _mm256_set1_epi16(1);
    mm_vi pairs[MM_GROUP][MM_COLS];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        const mm_vi w0 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * (first + i)));
        const mm_vi w1 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * (first + i) + 32));
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            int32_t four;
            memcpy(&four, (const char *)&a[r] + plane + 4 * (first + i), sizeof four);
            const mm_vi q = _mm256_set1_epi32(four), p[2] = {mm_pairs(t, w0, q), mm_pairs(t, w1, q)};
#pragma GCC unroll 2
            for (int c = 0; c < 2; c++) {
                pairs[r][c] = i % run == 0 ? p[c] : _mm256_add_epi16(pairs[r][c], p[c]);
                if (i % run != run - 1 && i != n - 1) continue;
                dot[r][c] = _mm256_add_epi32(dot[r][c], _mm256_madd_epi16(pairs[r][c], ones));
            }
        }
    }
}

/* The same with 16-bit weights: pairs [first, end) of the block. */
MM_INLINE void mm_wide_dot(mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_whole *whole, int first, int end,
                           const int n_rows) {
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) dot[r][0] = dot[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int i = first; i < end; i++) {
        const __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * i));
        const __m256i w1 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * i + 32));
#pragma GCC unroll 8
        for (int r = 0; r < n_rows; r++) {
            int32_t two;
            memcpy(&two, &whole[r].q[2 * i], sizeof two);
            const __m256i q = _mm256_set1_epi32(two);
            dot[r][0] = _mm256_add_epi32(dot[r][0], _mm256_madd_epi16(w0, q));
            dot[r][1] = _mm256_add_epi32(dot[r][1], _mm256_madd_epi16(w1, q));
        }
    }
}

MM_INLINE void mm_block_dot(const mm_traits t, mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a,
                            const mm_whole *whole, int half, const int n_rows) {
    if (MM_IS_WIDE(t)) {
        mm_wide_dot(dot, w, whole, half == MM_HI ? 8 : 0, half == MM_LO ? 8 : 16, n_rows);
        return;
    }
    const int first = half == MM_HI ? 4 : 0, n = half == MM_ALL ? 8 : 4;
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) dot[r][0] = dot[r][1] = _mm256_setzero_si256();
    mm_plane_dot(t, dot, w, a, offsetof(mm_act, coarse), first, n, n_rows);
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) {
        const mm_vi zero = _mm256_set1_epi32(a[r].zero[half] * t.zero);
        for (int c = 0; c < 2; c++) {
            dot[r][c] = _mm256_slli_epi32(dot[r][c], MM_FINE_BITS);
            if (t.zero) dot[r][c] = _mm256_add_epi32(dot[r][c], zero);
        }
    }
    mm_plane_dot(t, dot, w, a, offsetof(mm_act, fine), first, n, n_rows);
}

typedef struct mm_v16 {
    __m256 v[2];
} mm_v16;

MM_INLINE mm_v16 mm_v16_load(const float *p) {
    return (mm_v16){{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}};
}

MM_INLINE void mm_v16_store(float *p, mm_v16 v) {
    _mm256_storeu_ps(p, v.v[0]);
    _mm256_storeu_ps(p + 8, v.v[1]);
}

MM_INLINE mm_v16 mm_v16_fma(mm_v16 a, mm_v16 b, mm_v16 c) {
    return (mm_v16){{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}

MM_INLINE mm_v16 mm_v16_f32(const uint8_t *row, int64_t i) {
    return mm_v16_load((const float *)(const void *)row + i);
}

MM_INLINE mm_v16 mm_v16_f16(const uint8_t *row, int64_t i) {
    const __m128i *p = (const __m128i *)(const void *)(row + 2 * i);
    return (mm_v16){{_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p + 1))}};
}

MM_INLINE mm_v16 mm_v16_bf16(const uint8_t *row, int64_t i) {
    const __m128i *p = (const __m128i *)(const void *)(row + 2 * i);
    const __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(p)), b = _mm256_cvtepu16_epi32(_mm_loadu_si128(p + 1));
    return (mm_v16){{_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))}};
}

/* Tiles differ only where the arithmetic does; q4_k's serves whatever has its traits. */
#define MM_TILES(X)       X(q8_0) X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(q2_k) X(q3_k) X(q6_k)
#define MM_TILE_OF_q8_0   tile_q8_0
#define MM_TILE_OF_q4_0   tile_q4_0
#define MM_TILE_OF_q4_1   tile_q4_1
#define MM_TILE_OF_q5_0   tile_q5_0
#define MM_TILE_OF_q5_1   tile_q5_1
#define MM_TILE_OF_q2_k   tile_q2_k
#define MM_TILE_OF_q3_k   tile_q3_k
#define MM_TILE_OF_q4_k   tile_q4_1
#define MM_TILE_OF_q5_k   tile_q5_1
#define MM_TILE_OF_q6_k   tile_q6_k
#define MM_TILE_OF_iq4_nl tile_q8_0
#define MM_TILE_OF_iq4_xs tile_q8_0

#include "backend/cpu/matmul_body.h"
