/* Activations to 14 bits: 32 share d = max|x| / 8191, q = x / d rounded. Every kernel that quantises does this same arithmetic,
 * so a row's bytes do not depend on which of them did it. A value that is not finite makes d NaN: it reaches every product. Why
 * 14: dp2a meets 16-bit levels at the price of two planes of bytes; 14 of the bits leave room for 16 sums of high nibbles. */
#ifndef GALEN_BACKEND_CUDA_QUANTISE_CUH
#define GALEN_BACKEND_CUDA_QUANTISE_CUH

#include "backend/cuda/launch.cuh"

/* Byte offset of half h of unit u in a row of n_units (types.h, 8 bits), and where eight levels of activations begin. */
__device__ static inline uint32_t half_offset(int u, int h, int n_units) {
    const int group = u >> 5, left = n_units - 32 * group;
    return 1024u * group + 16u * (h * (left < 32 ? left : 32) + (u & 31));
}
__device__ static inline uint32_t act_offset(int u, int eighth) {
    return 1024u * (u >> 5) + 256u * eighth + 8u * (u & 31);
}

__device__ static inline uint32_t warp_max_bits(uint32_t v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(~0u, v);
#else
    for (int m = 16; m; m >>= 1) v = max(v, __shfl_xor_sync(~0u, v, m));
    return v;
#endif
}

enum { ACT_LEVELS = 8191 };

struct act_scale {
    float d, inverse;
};

/* From the largest bit pattern of |x| (NaN is above infinity is above every number). */
__device__ static inline act_scale act_scale_of(uint32_t max_bits) {
    const float max = __uint_as_float(max_bits);
    act_scale s;
    s.d = max_bits >= 0x7f800000u ? __uint_as_float(0x7fc00000u) : max * (1.0f / ACT_LEVELS);
    s.inverse = max > 1e-34f ? __fdividef(ACT_LEVELS, max) : 0.0f; /* smaller: the quotient would overflow, and zero is as good */
    return s;
}

/* |v * inverse| exceeds 8191 by rounding alone, so the nearest integer does not; NaN gives 0, and then d is NaN. */
__device__ static inline int act_level(float v, float inverse) {
    return __float2int_rn(v * inverse);
}

__device__ static inline act_rec act_rec_of(float d, int lo, int hi) {
    return act_rec{d, d * (float)lo, d * (float)hi, d * (float)(lo + hi)};
}

/* Unit u of a row from a warp's 32 values, lane i holding value i. */
__device__ static inline void quantise_lanes(float v, int16_t *q_row, act_rec *rec_row, int u) {
    const int lane = threadIdx.x % 32;
    const uint32_t max_bits = warp_max_bits(__float_as_uint(v) & 0x7fffffffu);
    const act_scale s = act_scale_of(max_bits);
    const int q = act_level(v, s.inverse);
    int sum = q;
    for (int m = 8; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
    const int hi = __shfl_sync(~0u, sum, 16);
    q_row[act_offset(u, lane >> 3) + (lane & 7)] = (int16_t)q;
    if (lane == 0) rec_row[u] = act_rec_of(s.d, sum, hi);
}

/* The same from eight neighbouring lanes, each holding four values in order. is_live is the same for the eight. */
__device__ static inline void quantise_quads(float4 v, bool is_live, int16_t *q_row, act_rec *rec_row, int u) {
    const int part = threadIdx.x & 7;
    uint32_t m = max(max(__float_as_uint(v.x) & 0x7fffffffu, __float_as_uint(v.y) & 0x7fffffffu),
                     max(__float_as_uint(v.z) & 0x7fffffffu, __float_as_uint(v.w) & 0x7fffffffu));
    for (int k = 4; k; k >>= 1) m = max(m, __shfl_xor_sync(~0u, m, k));
    const act_scale s = act_scale_of(m);
    const int a = act_level(v.x, s.inverse), b = act_level(v.y, s.inverse), c = act_level(v.z, s.inverse),
              d = act_level(v.w, s.inverse);
    int sum = a + b + c + d;
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    const int hi = __shfl_down_sync(~0u, sum, 4);
    if (!is_live) return;
    *(uint2 *)(q_row + act_offset(u, part >> 1) + 4 * (part & 1)) =
        make_uint2(__byte_perm((uint32_t)a, (uint32_t)b, 0x5410), __byte_perm((uint32_t)c, (uint32_t)d, 0x5410));
    if (part == 0) rec_row[u] = act_rec_of(s.d, sum, hi);
}

#endif
