/* The products on AVX2, FMA and F16C, with AVX-VNNI or without; the including file has defined MM_ISA and MM_NAME. A row alone
 * multiplies bytes (vpmaddubsw). A tile multiplies 16-bit numbers (vpmaddwd): weights are widened when they are packed, less
 * their zero point, and meet whole activations; 32 * 128 * 16256 fits into 32 bits. For 16 weight rows x 32 weights x 1
 * activation row that is 32 vpmaddwd, 30 additions and 6 instructions to convert and scale (8 with a minimum, 12 with two
 * scales) on three ports: 23 to 25 cycles. Two planes of bytes would take as many. AVX-VNNI's vpdpwssd adds as well: 38 to 44
 * instructions on two ports, 19 to 22 cycles. */
#define MM_LANES   8
#define MM_COLS    2
#define MM_GROUP   4
#define MM_FEW     1
#define MM_FLOAT_W 2
#define MM_FLOAT_X 2

#define MM_WIDE

#include "backend/cpu/matmul_x86.h"

#include "backend/cpu/matmul_ops.h"

typedef __m256i mm_vi;
typedef __m256 mm_vf;

MM_INLINE int mm_stream_zero(const mm_traits t) {
    return t.zero;
}

/* Products of bytes, summed pairwise into 16 bits: 2 * 128 * 127 fits. Signed: |w| * (q with the sign of w), -128 stays exact. */
MM_INLINE i32x8 mm_dot32(const mm_traits t, u8x32 w, u8x32 q) {
    const __m256i u = t.is_signed ? _mm256_abs_epi8((__m256i)w) : (__m256i)w;
    const __m256i s = t.is_signed ? _mm256_sign_epi8((__m256i)q, (__m256i)w) : (__m256i)q;
    return (i32x8)_mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
}

MM_INLINE u8x32 mm_panel_byte(const mm_traits t, u8x32 w) {
    return w - (uint8_t)t.zero;
}

/* Within four weights the first and the third are a pair, and the others: so it takes no shuffle. */
MM_INLINE void mm_widen(const mm_traits t, u32x8 bytes, mm_vi w[2]) {
    const __m256i v = (__m256i)bytes;
    if (t.has_min) { /* never negative */
        w[0] = _mm256_and_si256(v, _mm256_set1_epi16(0xff));
        w[1] = _mm256_srli_epi16(v, 8);
    } else {
        w[0] = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
        w[1] = _mm256_srai_epi16(v, 8);
    }
}

MM_INLINE void mm_store_whole(mm_whole *out, const i32x8 q[4]) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256i a = _mm256_shuffle_epi32((__m256i)q[2 * h], 0xD8), b = _mm256_shuffle_epi32((__m256i)q[2 * h + 1], 0xD8);
        const __m256i two = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8); /* packs work within 128 bits */
        _mm256_storeu_si256((__m256i *)(void *)(out->q + 16 * h), two);
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

MM_INLINE __m256i mm_add_pairs(__m256i sum, __m256i w, __m256i q) {
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(sum, w, q);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, q));
#endif
}

/* Pairs of weights [first, end) of the block. */
MM_INLINE void mm_block_dot(const mm_traits t, mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_whole *a, int half,
                            const int n_rows) {
    const int first = half == MM_HI ? 8 : 0, end = half == MM_LO ? 8 : 16;
    (void)t;
#pragma GCC unroll 16
    for (int i = first; i < end; i++) {
        const __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * i));
        const __m256i w1 = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * i + 32));
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            int32_t two;
            memcpy(&two, &a[r].q[2 * i], sizeof two);
            const __m256i q = _mm256_set1_epi32(two);
            dot[r][0] = i == first ? _mm256_madd_epi16(w0, q) : mm_add_pairs(dot[r][0], w0, q);
            dot[r][1] = i == first ? _mm256_madd_epi16(w1, q) : mm_add_pairs(dot[r][1], w1, q);
            __asm__("" : "+x"(dot[r][0]), "+x"(dot[r][1])); /* here and now: gcc adds up all products at the end, out of memory */
        }
    }
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
