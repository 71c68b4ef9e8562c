/* Halves as the products of several rows take them (rows_product.h). */
#ifndef GALEN_BACKEND_CUDA_ROWS_HALVES_CUH
#define GALEN_BACKEND_CUDA_ROWS_HALVES_CUH

#include "backend/cuda/launch.cuh"

/* Where value i of row r stands; n: values of a row, whole units. Four values from a multiple of four stand side by side. */
__device__ static inline size_t units_place(int r, int n, int i) {
    const int in_unit = (i & 12) << 1 | (i & 16) >> 2 | (i & 3);
    return (size_t)(r >> 3) * 8 * n + 8 * (i & ~31) + (r & 7) * UNIT + in_unit;
}

/* The power of two that takes a row's largest value to [512, 1024). */
__device__ static inline int half_exponent(float max) {
    const int e = max > 0 && max < INFINITY ? ilogbf(max) - 9 : 0;
    return e < -100 ? -100 : e; /* so that the factor and its inverse are both normal */
}

__device__ static inline void put_quad(uint16_t *out, int r, int n, int i, const float4 &v, float factor) {
    const __half2 a = __floats2half2_rn(v.x * factor, v.y * factor), b = __floats2half2_rn(v.z * factor, v.w * factor);
    *(uint2 *)(out + units_place(r, n, i)) = make_uint2(*(const uint32_t *)&a, *(const uint32_t *)&b);
}

/* Four values of a sum of parts; the first parts are asked for at once. */
__device__ static inline float4 sum_quads(const row_parts &p, size_t at) {
    float4 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = k < p.n ? *(const float4 *)(p.y + at + k * p.part) : float4{};
    float4 sum = v[0];
#pragma unroll
    for (int k = 1; k < 4; k++) sum.x += v[k].x, sum.y += v[k].y, sum.z += v[k].z, sum.w += v[k].w;
    for (int k = 4; k < p.n; k++) {
        const float4 more = *(const float4 *)(p.y + at + k * p.part);
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    return sum;
}

#endif
