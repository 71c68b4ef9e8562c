/* The products on AVX-512 with VNNI. vpdpbusd multiplies unsigned by signed bytes, so weights become unsigned: those
 * without a minimum stand 128 too high, and the sum starts at -128 * sum(q), which the activations carry along.
 *
 * A tile is 6 activation rows x 32 weight rows: 12 integer and 12 float sums, two weights, one broadcast. Of its work per 16
 * weight rows x 32 weights x 1 activation row ports 0 and 5 take 16 vpdpbusd, the shift between the planes, and convert, scale,
 * add: 20 or, with a minimum, 21 instructions, so 10 or 10.5 cycles; two scales make it 12. Loads: 14 a tile share, two a cycle.
 */
#define MM_ISA     "avx512"
#define MM_NAME    matmul_avx512
#define MM_LANES   16
#define MM_COLS    2
#define MM_GROUP   6
#define MM_FEW     1
#define MM_FLOAT_W 4
#define MM_FLOAT_X 6

#include "backend/cpu/matmul_x86.h"

#include "backend/cpu/matmul_ops.h"

typedef __m512i mm_vi;
typedef __m512 mm_vf;

MM_INLINE int mm_stream_zero(const mm_traits t) {
    return t.is_signed ? 128 : t.zero;
}

MM_INLINE i32x8 mm_dot32(const mm_traits t, u8x32 w, u8x32 q) {
    return (i32x8)_mm256_dpbusd_epi32(_mm256_setzero_si256(), (__m256i)(t.is_signed ? w ^ 0x80 : w), (__m256i)q);
}

MM_INLINE u8x32 mm_panel_byte(const mm_traits t, u8x32 w) {
    if (t.is_signed) return w ^ 0x80;
    return t.has_min ? w : w + (uint8_t)(128 - t.zero);
}

MM_INLINE mm_vf mm_vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}

MM_INLINE void mm_vf_store(float *p, mm_vf v) {
    _mm512_storeu_ps(p, v);
}

MM_INLINE mm_vf mm_vf_set1(const float *p) {
    return _mm512_set1_ps(*p);
}

MM_INLINE mm_vf mm_vf_from(mm_vi v) {
    return _mm512_cvtepi32_ps(v);
}

MM_INLINE mm_vf mm_vf_mul(mm_vf a, mm_vf b) {
    return _mm512_mul_ps(a, b);
}

MM_INLINE mm_vf mm_vf_fma(mm_vf a, mm_vf b, mm_vf c) {
    return _mm512_fmadd_ps(a, b, c);
}

MM_INLINE mm_vf mm_vf_fnma(mm_vf a, mm_vf b, mm_vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}

/* Weights [4 * first, 4 * (first + n)) of the block against one plane of the activations, plane bytes into their records. */
MM_INLINE void mm_plane_dot(mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a, size_t plane, int first, int n,
                            const int n_rows) {
#pragma GCC unroll 8
    for (int i = first; i < first + n; i++) {
        const mm_vi w0 = _mm512_load_si512(w + 128 * i), w1 = _mm512_load_si512(w + 128 * i + 64);
#pragma GCC unroll 8
        for (int r = 0; r < n_rows; r++) {
            int32_t four;
            memcpy(&four, (const char *)&a[r] + plane + 4 * i, sizeof four);
            const mm_vi q = _mm512_set1_epi32(four);
            dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], w0, q);
            dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], w1, q);
        }
    }
}

MM_INLINE void mm_block_dot(const mm_traits t, mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a, int half,
                            const int n_rows) {
    const int first = half == MM_HI ? 4 : 0, n = half == MM_ALL ? 8 : 4;
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) /* -sum(q), which the shift between the planes makes -128 * sum(q) */
        dot[r][0] = dot[r][1] = t.has_min ? _mm512_setzero_si512() : _mm512_set1_epi32(a[r].zero[half]);
    mm_plane_dot(dot, w, a, offsetof(mm_act, coarse), first, n, n_rows);
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 2; c++) dot[r][c] = _mm512_slli_epi32(dot[r][c], MM_FINE_BITS);
    mm_plane_dot(dot, w, a, offsetof(mm_act, fine), first, n, n_rows);
}

typedef __m512 mm_v16;

MM_INLINE mm_v16 mm_v16_load(const float *p) {
    return _mm512_loadu_ps(p);
}

MM_INLINE void mm_v16_store(float *p, mm_v16 v) {
    _mm512_storeu_ps(p, v);
}

MM_INLINE mm_v16 mm_v16_fma(mm_v16 a, mm_v16 b, mm_v16 c) {
    return _mm512_fmadd_ps(a, b, c);
}

MM_INLINE mm_v16 mm_v16_f32(const uint8_t *row, int64_t i) {
    return _mm512_loadu_ps(row + 4 * i);
}

MM_INLINE mm_v16 mm_v16_f16(const uint8_t *row, int64_t i) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(row + 2 * i)));
}

MM_INLINE mm_v16 mm_v16_bf16(const uint8_t *row, int64_t i) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(row + 2 * i)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Once packed, types differ only in the number of scales and in having minima. */
#define MM_TILES(X)       X(q8_0) X(q4_k) X(q6_k) X(q2_k)
#define MM_TILE_OF_q8_0   tile_q8_0
#define MM_TILE_OF_q4_0   tile_q8_0
#define MM_TILE_OF_q4_1   tile_q4_k
#define MM_TILE_OF_q5_0   tile_q8_0
#define MM_TILE_OF_q5_1   tile_q4_k
#define MM_TILE_OF_q2_k   tile_q2_k
#define MM_TILE_OF_q3_k   tile_q6_k
#define MM_TILE_OF_q4_k   tile_q4_k
#define MM_TILE_OF_q5_k   tile_q4_k
#define MM_TILE_OF_q6_k   tile_q6_k
#define MM_TILE_OF_iq4_nl tile_q8_0
#define MM_TILE_OF_iq4_xs tile_q8_0

#include "backend/cpu/matmul_body.h"
