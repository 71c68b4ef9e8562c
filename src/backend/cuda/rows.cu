/* Small work on rows: how a batch begins, norms, residuals, activation. One block of 256 threads a row.
 * Bound  launch; a row is read once from the second-level cache. */
#include <cuda_bf16.h>

#include "backend/cuda/begin.cuh"
#include "backend/cuda/product.cuh"

/* ---------------------------------------------------------------- begin */

template <int T> __device__ static float raw_value(const void *row, int i) {
    typedef typename raw<T>::block block;
    constexpr int weights = is_float_type(T) ? 1 : format_bytes_of(T).d ? BLOCKS_SUPER : BLOCKS_SMALL;
    return raw<T>::value((const block *)row + i / weights, i % weights);
}

template <int T> __global__ void begin_kernel(const __grid_constant__ begin_args p) {
    const int r = blockIdx.x; /* no early trigger: what follows may read positions, pages and angles before it waits */
    queue_wait();
    turn_row(p, r, p.pos[r]);
    if (!p.raw) return;
    const uint8_t *row = (const uint8_t *)p.raw + (size_t)r * p.raw_row;
    for (int i = threadIdx.x; i < p.n_embd; i += blockDim.x) p.x[(size_t)r * p.stride + i] = raw_value<T>(row, i) * p.embd_scale;
}

extern "C" int32_t cuda_begin(cuda_queue *q, const begin_args *p) {
    switch (p->type) {
#define X(T)                                                                                                                     \
    case T:                                                                                                                      \
        return launch(begin_kernel<T>, dim3((unsigned)p->n_rows), 256, 0, q, *p);
        FORMATS_QUANT(X)
        FORMATS_FLOAT(X)
#undef X
    default:
        return cudaErrorInvalidValue;
    }
}

/* ---------------------------------------------------------------- prepare */

template <bool IS_FLOAT>
__global__ void prepare_kernel(const float *x, int x_stride, const int32_t *row, const float *norm, float eps, int n,
                               dev_acts out) {
    __shared__ float shared[8];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    x += (size_t)(row ? row[r] : r) * x_stride;
    int16_t *q = out.q + (size_t)r * out.stride;
    act_rec *rec = out.rec + (size_t)r * (out.stride / UNIT);
    float *f = out.f + (size_t)r * out.stride;
    if (norm) {
        const float factor = norm_row<IS_FLOAT>(x, norm, eps, n, q, rec, f, shared);
        if (threadIdx.x == 0) out.scale[r] = factor;
        return;
    }
    if (threadIdx.x == 0) out.scale[r] = 1.0f;
    if constexpr (IS_FLOAT) {
        for (int i = threadIdx.x; i < (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD; i += PRODUCT_THREADS) f[i] = i < n ? x[i] : 0.0f;
    } else {
        for (int base = 0; base < n / 4; base += PRODUCT_THREADS) {
            const int i = base + threadIdx.x;
            const bool is_live = i < n / 4;
            quantise_quads(is_live ? ((const float4 *)x)[i] : float4{}, is_live, q, rec, i >> 3);
        }
    }
}

extern "C" int32_t cuda_prepare(cuda_queue *q, const float *x, int32_t x_stride, const int32_t *row, const float *norm, float eps,
                                int32_t n, int32_t n_rows, const dev_acts *out) {
    const dim3 grid((unsigned)n_rows);
    cudaError_t e = cudaSuccess;
    if (out->q) e = launch(prepare_kernel<false>, grid, PRODUCT_THREADS, 0, q, x, x_stride, row, norm, eps, n, *out);
    if (e == cudaSuccess && out->f)
        e = launch(prepare_kernel<true>, grid, PRODUCT_THREADS, 0, q, x, x_stride, row, norm, eps, n, *out);
    return e;
}

__device__ static inline void store_as(__half *to, float v) {
    *to = __float2half_rn(v);
}
__device__ static inline void store_as(__nv_bfloat16 *to, float v) {
    *to = __float2bfloat16_rn(v);
}

/* Where value i stands among halves: in place, or in its unit as rows_product.cuh reads it. */
__device__ static inline int half_place(int i, bool is_units) {
    return is_units ? (i & ~31) | (i & 12) << 1 | (i & 16) >> 2 | (i & 3) : i;
}

/* The power of two that takes a row's largest value to [512, 1024). */
__device__ static inline int half_exponent(float max) {
    const int e = max > 0 && max < INFINITY ? ilogbf(max) - 9 : 0;
    return e < -100 ? -100 : e; /* so that the factor and its inverse are both normal */
}

/* The largest of a block's values, in every thread; shared holds a value a warp. */
__device__ static inline float block_max(float v, float *shared) {
    v = warp_max(v);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / 32; i++) v = fmaxf(v, shared[i]);
    return v;
}

template <typename OUT>
__global__ void prepare_half_kernel(const float *x, int x_stride, const int32_t *row, const float *norm, float eps, int n,
                                    OUT *out, int out_stride, float *scale, bool is_units) {
    __shared__ float shared[8];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    x += (size_t)(row ? row[r] : r) * x_stride;
    out += (size_t)r * out_stride;
    float sum = 0, max = 0;
    for (int i = threadIdx.x; i < n; i += PRODUCT_THREADS) {
        sum = fmaf(x[i], x[i], sum);
        max = fmaxf(max, fabsf(norm ? x[i] * norm[i] : x[i]));
    }
    sum = block_sum(sum, shared);
    const int e = half_exponent(block_max(max, shared));
    const float up = exp2f((float)-e);
    if (threadIdx.x == 0) scale[r] = (norm ? rsqrtf(sum / (float)n + eps) : 1.0f) * exp2f((float)e);
    for (int i = threadIdx.x; i < out_stride; i += PRODUCT_THREADS)
        store_as(out + half_place(i, is_units), i < n ? (norm ? x[i] * norm[i] : x[i]) * up : 0.0f);
}

extern "C" int32_t cuda_prepare_half(cuda_queue *q, const float *x, int32_t x_stride, const int32_t *row, const float *norm,
                                     float eps, int32_t n, int32_t n_rows, void *out, int32_t out_stride, float *scale,
                                     half_form form) {
    const dim3 grid((unsigned)n_rows);
    if (form == HALF_BFLOAT)
        return launch(prepare_half_kernel<__nv_bfloat16>, grid, PRODUCT_THREADS, 0, q, x, x_stride, row, norm, eps, n,
                      (__nv_bfloat16 *)out, out_stride, scale, false);
    return launch(prepare_half_kernel<__half>, grid, PRODUCT_THREADS, 0, q, x, x_stride, row, norm, eps, n, (__half *)out,
                  out_stride, scale, form == HALF_UNITS);
}

/* ---------------------------------------------------------------- residual, scale and bias, activation */

__global__ void residual_kernel(float *x, int x_stride, const row_parts y, const float *norm, float eps, const float *scale,
                                const float *bias, int n) {
    __shared__ float shared[8];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    x += (size_t)r * x_stride;
    const float factor = scale ? scale[r] : 1.0f;
    const auto value = [&](int i) {
        const float v = sum_parts(y, (size_t)r * y.stride + i) * factor;
        return bias ? v + bias[i] : v;
    };
    float whole = 1;
    if (norm) {
        float sum = 0;
        for (int i = threadIdx.x; i < n; i += PRODUCT_THREADS) {
            const float v = value(i);
            sum = fmaf(v, v, sum);
        }
        whole = rsqrtf(block_sum(sum, shared) / (float)n + eps);
    }
    for (int i = threadIdx.x; i < n; i += PRODUCT_THREADS) x[i] += norm ? value(i) * whole * norm[i] : value(i);
}

extern "C" int32_t cuda_residual(cuda_queue *q, float *x, int32_t x_stride, const row_parts *y, const float *norm, float eps,
                                 const float *scale, const float *bias, int32_t n, int32_t n_rows) {
    return launch(residual_kernel, dim3((unsigned)n_rows), PRODUCT_THREADS, 0, q, x, x_stride, *y, norm, eps, scale, bias, n);
}

__global__ void finish_rows_kernel(float *y, int y_stride, const float *scale, const float *bias, int n) {
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    y += (size_t)r * y_stride;
    const float factor = scale ? scale[r] : 1.0f;
    for (int i = threadIdx.x; i < n; i += PRODUCT_THREADS) y[i] = y[i] * factor + (bias ? bias[i] : 0.0f);
}

extern "C" int32_t cuda_finish_rows(cuda_queue *q, float *y, int32_t y_stride, const float *scale, const float *bias, int32_t n,
                                    int32_t n_rows) {
    return launch(finish_rows_kernel, dim3((unsigned)n_rows), PRODUCT_THREADS, 0, q, y, y_stride, scale, bias, n);
}

__global__ void activate_kernel(const float *gate, const float *up, int in_stride, const float *scale, float *out, int out_stride,
                                int n, bool is_gelu) {
    const int r = blockIdx.y, i = blockIdx.x * PRODUCT_THREADS + threadIdx.x;
    queue_trigger();
    queue_wait();
    if (i >= n) return;
    const float factor = scale ? scale[r] : 1.0f;
    const size_t at = (size_t)r * in_stride + i;
    out[(size_t)r * out_stride + i] = activation(gate[at] * factor, is_gelu) * (up[at] * factor);
}

extern "C" int32_t cuda_activate(cuda_queue *q, const float *gate, const float *up, int32_t in_stride, const float *scale,
                                 float *out, int32_t out_stride, int32_t n, int32_t n_rows, bool is_gelu) {
    const dim3 grid((unsigned)((n + PRODUCT_THREADS - 1) / PRODUCT_THREADS), (unsigned)n_rows);
    return launch(activate_kernel, grid, PRODUCT_THREADS, 0, q, gate, up, in_stride, scale, out, out_stride, n, is_gelu);
}

enum { ACTIVATE_THREADS = 512 };

/* A block a row: it finds the row's largest value before it rounds. */
__global__ void __launch_bounds__(ACTIVATE_THREADS)
    activate_half_kernel(const row_parts both, const float *scale, float *f, int f_stride, __half *out, int out_stride,
                         float *scale_out, int n, bool is_gelu) {
    __shared__ float shared[ACTIVATE_THREADS / 32];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    const float factor = scale[r];
    const size_t at = (size_t)r * both.stride;
    f += (size_t)r * f_stride;
    out += (size_t)r * out_stride;
    float max = 0;
    for (int i = threadIdx.x; i < n; i += ACTIVATE_THREADS) {
        const float v = activation(sum_parts(both, at + i) * factor, is_gelu) * (sum_parts(both, at + n + i) * factor);
        f[i] = v;
        max = fmaxf(max, fabsf(v));
    }
    const int e = half_exponent(block_max(max, shared));
    const float up = exp2f((float)-e);
    if (threadIdx.x == 0) scale_out[r] = exp2f((float)e);
    for (int i = threadIdx.x; i < out_stride; i += ACTIVATE_THREADS) /* each thread its own values */
        store_as(out + half_place(i, true), i < n ? f[i] * up : 0.0f);
}

extern "C" int32_t cuda_activate_half(cuda_queue *q, const row_parts *both, const float *scale, float *f, int32_t f_stride,
                                      uint16_t *out, int32_t out_stride, float *scale_out, int32_t n, int32_t n_rows,
                                      bool is_gelu) {
    return launch(activate_half_kernel, dim3((unsigned)n_rows), ACTIVATE_THREADS, 0, q, *both, scale, f, f_stride, (__half *)out,
                  out_stride, scale_out, n, is_gelu);
}

__global__ void finish_logits_kernel(float *y, int64_t y_stride, const float *scale, float cap, int n) {
    const int r = blockIdx.y, i = blockIdx.x * PRODUCT_THREADS + threadIdx.x;
    queue_trigger();
    queue_wait();
    if (i >= n) return;
    float *to = y + r * y_stride + i;
    const float v = *to * (scale ? scale[r] : 1.0f);
    *to = cap > 0 ? softcap(v, cap) : v;
}

extern "C" int32_t cuda_finish_logits(cuda_queue *q, float *y, int64_t y_stride, const float *scale, float softcap, int32_t n,
                                      int32_t n_rows) {
    const dim3 grid((unsigned)((n + PRODUCT_THREADS - 1) / PRODUCT_THREADS), (unsigned)n_rows);
    return launch(finish_logits_kernel, grid, PRODUCT_THREADS, 0, q, y, y_stride, scale, softcap, n);
}
