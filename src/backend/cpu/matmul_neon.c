/* The products on Arm with the dot-product extension (Armv8.2). sdot multiplies signed bytes; every weight type's bytes fit
 * in them, so packed weights have their zero point already taken off. */
#define MM_ISA     "neon"
#define MM_NAME    matmul_neon
#define MM_LANES   4
#define MM_COLS    4
#define MM_GROUP   4
#define MM_FEW     1
#define MM_FLOAT_W 2
#define MM_FLOAT_X 3

#include <arm_neon.h>

#include "backend/cpu/matmul_types.h"

#include "backend/cpu/matmul_ops.h"

typedef int32x4_t mm_vi;
typedef float32x4_t mm_vf;

/* Compiler vectors of 32 bytes are two registers here. */
typedef union pair {
    u8x32 bytes;
    u32x8 words;
    i32x8 ints;
    f32x8 floats;
    uint8x16_t u8[2];
    int8x16_t s8[2];
    uint32x4_t u32[2];
    int32x4_t s32[2];
    float32x4_t f32[2];
} pair;

MM_INLINE f32x8 mm_half8(u32x8 h) {
    const pair in = {.words = h};
    pair out;
#pragma GCC unroll 8
    for (int i = 0; i < 2; i++) out.f32[i] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(in.u32[i])));
    return out.floats;
}

MM_INLINE u8x32 mm_join(u8x16 first, u8x16 second) {
    const pair out = {.u8 = {(uint8x16_t)first, (uint8x16_t)second}};
    return out.bytes;
}

MM_INLINE u8x32 mm_lookup16(const int8_t table[16], u8x32 at) {
    const int8x16_t t = vld1q_s8(table);
    const pair in = {.bytes = at};
    const pair out = {.s8 = {vqtbl1q_s8(t, in.u8[0]), vqtbl1q_s8(t, in.u8[1])}};
    return out.bytes;
}

MM_INLINE f32x8 mm_fma8(f32x8 a, f32x8 b, f32x8 c) {
    const pair x = {.floats = a}, y = {.floats = b}, z = {.floats = c};
    const pair out = {.f32 = {vfmaq_f32(z.f32[0], x.f32[0], y.f32[0]), vfmaq_f32(z.f32[1], x.f32[1], y.f32[1])}};
    return out.floats;
}

MM_INLINE i32x8 mm_round8(f32x8 v) {
    const pair in = {.floats = v}, out = {.s32 = {vcvtnq_s32_f32(in.f32[0]), vcvtnq_s32_f32(in.f32[1])}};
    return out.ints;
}

/* 32 integers to bytes in order, cut to +-127. */
MM_INLINE u8x32 mm_narrow(const i32x8 q[4]) {
    int16x8_t half[4];
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) {
        const pair in = {.ints = q[i]};
        half[i] = vcombine_s16(vqmovn_s32(in.s32[0]), vqmovn_s32(in.s32[1]));
    }
    pair out;
#pragma GCC unroll 8
    for (int i = 0; i < 2; i++)
        out.s8[i] = vmaxq_s8(vcombine_s8(vqmovn_s16(half[2 * i]), vqmovn_s16(half[2 * i + 1])), vdupq_n_s8(-127));
    return out.bytes;
}

MM_INLINE int mm_stream_zero(const mm_traits t) {
    return t.zero;
}

MM_INLINE i32x8 mm_dot32(const mm_traits t, u8x32 w, u8x32 q) {
    const pair a = {.bytes = w}, b = {.bytes = q};
    const int32x4_t none = vdupq_n_s32(0);
    (void)t; /* unsigned weights are at most 63 */
    const pair out = {.s32 = {vdotq_s32(none, a.s8[0], b.s8[0]), vdotq_s32(none, a.s8[1], b.s8[1])}};
    return out.ints;
}

MM_INLINE void mm_fold(const i32x8 part[8], i32x8 *lo, i32x8 *hi) {
    pair in[8], out[2];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) in[r].ints = part[r];
#pragma GCC unroll 8
    for (int half = 0; half < 2; half++)
#pragma GCC unroll 8
        for (int i = 0; i < 2; i++) {
            const pair *p = in + 4 * i;
            out[half].s32[i] = vpaddq_s32(vpaddq_s32(p[0].s32[half], p[1].s32[half]), vpaddq_s32(p[2].s32[half], p[3].s32[half]));
        }
    *lo = out[0].ints;
    *hi = out[1].ints;
}

MM_INLINE void mm_transpose4(const uint32x4_t in[4], uint32x4_t out[4]) {
    const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(in[0], in[1])), b = vreinterpretq_u64_u32(vtrn2q_u32(in[0], in[1]));
    const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(in[2], in[3])), d = vreinterpretq_u64_u32(vtrn2q_u32(in[2], in[3]));
    out[0] = vreinterpretq_u32_u64(vtrn1q_u64(a, c));
    out[1] = vreinterpretq_u32_u64(vtrn1q_u64(b, d));
    out[2] = vreinterpretq_u32_u64(vtrn2q_u64(a, c));
    out[3] = vreinterpretq_u32_u64(vtrn2q_u64(b, d));
}

MM_INLINE void mm_transpose(u32x8 w[8]) {
    pair in[8], out[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) in[r].words = w[r];
#pragma GCC unroll 8
    for (int i = 0; i < 2; i++)
#pragma GCC unroll 8
        for (int j = 0; j < 2; j++) {
            uint32x4_t from[4], to[4];
#pragma GCC unroll 8
            for (int r = 0; r < 4; r++) from[r] = in[4 * i + r].u32[j];
            mm_transpose4(from, to);
#pragma GCC unroll 8
            for (int r = 0; r < 4; r++) out[4 * j + r].u32[i] = to[r];
        }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) w[r] = out[r].words;
}

MM_INLINE u8x32 mm_panel_byte(const mm_traits t, u8x32 w) {
    return w - (uint8_t)t.zero;
}

MM_INLINE mm_vf mm_vf_load(const float *p) {
    return vld1q_f32(p);
}

MM_INLINE void mm_vf_store(float *p, mm_vf v) {
    vst1q_f32(p, v);
}

MM_INLINE mm_vf mm_vf_set1(const float *p) {
    return vld1q_dup_f32(p);
}

MM_INLINE mm_vf mm_vf_from(mm_vi v) {
    return vcvtq_f32_s32(v);
}

MM_INLINE mm_vf mm_vf_mul(mm_vf a, mm_vf b) {
    return vmulq_f32(a, b);
}

MM_INLINE mm_vf mm_vf_fma(mm_vf a, mm_vf b, mm_vf c) {
    return vfmaq_f32(c, a, b);
}

MM_INLINE mm_vf mm_vf_fnma(mm_vf a, mm_vf b, mm_vf c) {
    return vfmsq_f32(c, a, b);
}

/* Weights [4 * first, 4 * (first + n)) of the block against one plane of the activations, plane bytes into their records. */
MM_INLINE void mm_plane_dot(mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a, size_t plane, int first, int n,
                            const int n_rows) {
#pragma GCC unroll 8
    for (int i = first; i < first + n; i++) {
        int8x16_t v[MM_COLS];
        for (int c = 0; c < MM_COLS; c++) v[c] = vreinterpretq_s8_u8(vld1q_u8(w + 64 * i + 16 * c));
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            const int32_t *four = (const int32_t *)(const void *)((const char *)&a[r] + plane) + i;
            const int8x16_t q = vreinterpretq_s8_s32(vld1q_dup_s32(four));
#pragma GCC unroll 4
            for (int c = 0; c < MM_COLS; c++) dot[r][c] = vdotq_s32(dot[r][c], v[c], q);
        }
    }
}

MM_INLINE void mm_block_dot(const mm_traits t, mm_vi dot[MM_GROUP][MM_COLS], const uint8_t *w, const mm_act *a, int half,
                            const int n_rows) {
    const int first = half == MM_HI ? 4 : 0, n = half == MM_ALL ? 8 : 4;
    (void)t;
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < MM_COLS; c++) dot[r][c] = vdupq_n_s32(0);
    mm_plane_dot(dot, w, a, offsetof(mm_act, coarse), first, n, n_rows);
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < MM_COLS; c++) dot[r][c] = vshlq_n_s32(dot[r][c], MM_FINE_BITS);
    mm_plane_dot(dot, w, a, offsetof(mm_act, fine), first, n, n_rows);
}

typedef struct mm_v16 {
    float32x4_t v[4];
} mm_v16;

MM_INLINE mm_v16 mm_v16_load(const float *p) {
    return (mm_v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}

MM_INLINE void mm_v16_store(float *p, mm_v16 v) {
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.v[i]);
}

MM_INLINE mm_v16 mm_v16_fma(mm_v16 a, mm_v16 b, mm_v16 c) {
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}

MM_INLINE mm_v16 mm_v16_f32(const uint8_t *row, int64_t i) {
    return mm_v16_load((const float *)(const void *)row + i);
}

MM_INLINE mm_v16 mm_v16_f16(const uint8_t *row, int64_t i) {
    mm_v16 out;
#pragma GCC unroll 8
    for (int k = 0; k < 4; k++)
        out.v[k] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)row + i + 4 * k)));
    return out;
}

MM_INLINE mm_v16 mm_v16_bf16(const uint8_t *row, int64_t i) {
    mm_v16 out;
#pragma GCC unroll 8
    for (int k = 0; k < 4; k++)
        out.v[k] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)(const void *)row + i + 4 * k), 16));
    return out;
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
