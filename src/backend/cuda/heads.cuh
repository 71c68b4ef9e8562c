/* What becomes of Q, K and V heads before attention: QK-norm, rotation, rounding to the KV type. One warp, one head, in shared
 * memory. */
#ifndef GALEN_BACKEND_CUDA_HEADS_CUH
#define GALEN_BACKEND_CUDA_HEADS_CUH

#include "backend/backend.h"
#include "backend/cuda/quantise.cuh"
#include "backend/cuda/rows_halves.cuh"

/* Head h of row r into shared memory, with scale and bias. */
__device__ static inline void fetch_head(const heads_args &p, int r, int h, float *head) {
    const size_t at = (size_t)r * p.raw.stride + h * p.d_head;
    const float scale = p.scale ? p.scale[r] : 1.0f;
    const float *bias = p.bias ? p.bias + h * p.d_head : NULL;
    if (p.d_head % 4 == 0) { /* all of a head at once */
        for (int i = 4 * (threadIdx.x % 32); i < p.d_head; i += 128) {
            const float4 v = sum_quads(p.raw, at + i);
            head[i] = v.x * scale + (bias ? bias[i] : 0.0f), head[i + 1] = v.y * scale + (bias ? bias[i + 1] : 0.0f);
            head[i + 2] = v.z * scale + (bias ? bias[i + 2] : 0.0f), head[i + 3] = v.w * scale + (bias ? bias[i + 3] : 0.0f);
        }
    } else {
        for (int i = threadIdx.x % 32; i < p.d_head; i += 32)
            head[i] = sum_parts(p.raw, at + i) * scale + (bias ? bias[i] : 0.0f);
    }
    __syncwarp();
}

__device__ static inline void turn_head(const heads_args &p, int r, const float *norm, float *head) {
    const int lane = threadIdx.x % 32, half = p.n_rot / 2;
    if (norm) {
        float sum = 0;
        for (int i = lane; i < p.d_head; i += 32) sum = fmaf(head[i], head[i], sum);
        const float factor = rsqrtf(warp_sum(sum) / (float)p.d_head + p.eps);
        for (int i = lane; i < p.d_head; i += 32) head[i] = head[i] * factor * norm[i];
        __syncwarp();
    }
    for (int i = lane; i < half; i += 32) {
        float *a = head + (p.is_halves ? i : 2 * i), *b = p.is_halves ? a + half : a + 1;
        const float c = p.rows.cos[(size_t)r * half + i], s = p.rows.sin[(size_t)r * half + i], u = *a, v = *b;
        *a = u * c - v * s;
        *b = u * s + v * c;
    }
    __syncwarp();
}

/* The run of bytes that holds a KV head of the page with row r's position pos. */
__device__ static inline uint8_t *kv_run(const dev_kv &kv, const dev_rows &rows, int table, int pos, int kv_head, int n_head_kv) {
    const int page = rows.pages[table + pos / KV_PAGE];
    return kv.base + ((size_t)page * n_head_kv + kv_head) * kv.head_bytes;
}

/* A K or a V head into slot slot. Q8_0 is the reference's quantiser: d = max|x| / 127, halves away from zero. */
__device__ static inline void kv_put(const dev_kv &kv, uint8_t *run, bool is_v, int slot, const float *head, int d) {
    const int lane = threadIdx.x % 32;
    uint8_t *to = run + (is_v ? kv.v : 0);
    if (kv.type == KV_F16) {
        for (int i = lane; i < d; i += 32) ((__half *)to)[slot * kv.d_pad + i] = __float2half_rn(head[i]);
    } else if (kv.type == KV_F32) {
        for (int i = lane; i < d; i += 32) ((float *)to)[slot * kv.d_pad + i] = head[i];
    } else {
        __half *scales = (__half *)(run + (is_v ? kv.v_scales : kv.k_scales)) + slot * (kv.d_pad / 32);
        for (int b = 0; b < d / 32; b++) {
            const float v = head[32 * b + lane];
            const uint32_t max_bits = warp_max_bits(__float_as_uint(v) & 0x7fffffffu);
            const bool is_finite = max_bits < 0x7f800000u;
            const float scale = __fdiv_rn(__uint_as_float(max_bits), 127.0f),
                        inverse = scale != 0 ? __fdiv_rn(1.0f, scale) : 0.0f;
            const float q = roundf(__fmul_rn(v, inverse));
            const int level = !is_finite || q != q ? 0 : q >= 127.0f ? 127 : q <= -127.0f ? -127 : (int)q;
            ((int8_t *)to)[slot * kv.d_pad + 32 * b + lane] = (int8_t)level;
            if (lane == 0) scales[b] = is_finite ? __float2half_rn(scale) : __ushort_as_half(0x7e00);
        }
    }
}

#endif
