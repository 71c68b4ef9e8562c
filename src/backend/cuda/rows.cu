/* Small work on rows: how a batch begins, norms, residuals, activation. One block of 256 threads a row.
 * Bound  launch; a row is read once from the second-level cache. */
#include <cuda_bf16.h>

#include <cooperative_groups.h>

#include "backend/cuda/begin.cuh"
#include "backend/cuda/product.cuh"
#include "backend/cuda/rows_halves.cuh"

enum { ROW_THREADS = 256 };

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
        const float factor = norm_row<IS_FLOAT, 8>(x, norm, eps, n, q, rec, f, shared, [] {});
        if (threadIdx.x == 0) out.scale[r] = factor;
        return;
    }
    if (threadIdx.x == 0) out.scale[r] = 1.0f;
    if constexpr (IS_FLOAT) {
        for (int i = threadIdx.x; i < (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD; i += ROW_THREADS) f[i] = i < n ? x[i] : 0.0f;
    } else {
        for (int base = 0; base < n / 4; base += ROW_THREADS) {
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
    if (out->q) e = launch(prepare_kernel<false>, grid, ROW_THREADS, 0, q, x, x_stride, row, norm, eps, n, *out);
    if (e == cudaSuccess && out->f)
        e = launch(prepare_kernel<true>, grid, ROW_THREADS, 0, q, x, x_stride, row, norm, eps, n, *out);
    return e;
}

__device__ static inline void store_as(__half *to, float v) {
    *to = __float2half_rn(v);
}
__device__ static inline void store_as(__nv_bfloat16 *to, float v) {
    *to = __float2bfloat16_rn(v);
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
                                    OUT *out, int out_stride, float *scale) {
    __shared__ float shared[8];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    x += (size_t)(row ? row[r] : r) * x_stride;
    out += (size_t)r * out_stride;
    float sum = 0, max = 0;
    for (int i = threadIdx.x; i < n; i += ROW_THREADS) {
        sum = fmaf(x[i], x[i], sum);
        max = fmaxf(max, fabsf(norm ? x[i] * norm[i] : x[i]));
    }
    sum = block_sum(sum, shared);
    const int e = half_exponent(block_max(max, shared));
    const float up = exp2f((float)-e);
    if (threadIdx.x == 0) scale[r] = (norm ? rsqrtf(sum / (float)n + eps) : 1.0f) * exp2f((float)e);
    for (int i = threadIdx.x; i < out_stride; i += ROW_THREADS)
        store_as(out + i, i < n ? (norm ? x[i] * norm[i] : x[i]) * up : 0.0f);
}

extern "C" int32_t cuda_prepare_half(cuda_queue *q, const float *x, int32_t x_stride, const int32_t *row, const float *norm,
                                     float eps, int32_t n, int32_t n_rows, void *out, int32_t out_stride, float *scale,
                                     half_form form) {
    const dim3 grid((unsigned)n_rows);
    if (form == HALF_BFLOAT)
        return launch(prepare_half_kernel<__nv_bfloat16>, grid, ROW_THREADS, 0, q, x, x_stride, row, norm, eps, n,
                      (__nv_bfloat16 *)out, out_stride, scale);
    return launch(prepare_half_kernel<__half>, grid, ROW_THREADS, 0, q, x, x_stride, row, norm, eps, n, (__half *)out, out_stride,
                  scale);
}

/* ---------------------------------------------------------------- residual, scale and bias, activation */

/* The sum and the largest over a block of up to 1024 threads, in every thread; shared holds two values a warp. */
__device__ static inline float2 block_sum_max(float sum, float max, float2 *shared) {
    sum = warp_sum(sum), max = warp_max(max);
    __syncthreads(); /* shared may still be read */
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = make_float2(sum, max);
    __syncthreads();
    float2 all = shared[0];
    for (int i = 1; i < (int)blockDim.x / 32; i++) all.x += shared[i].x, all.y = fmaxf(all.y, shared[i].y);
    return all;
}

__device__ static inline float square_sum(const float4 &v) {
    return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w)));
}
__device__ static inline float largest(const float4 &v) {
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}
__device__ static inline float4 times(const float4 &a, const float4 &b) {
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}
__device__ static inline float4 times(const float4 &a, float f) {
    return make_float4(a.x * f, a.y * f, a.z * f, a.w * f);
}
__device__ static inline float4 plus(const float4 &a, const float4 &b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
/* The first n - i of four values; the others are nothing. */
__device__ static inline float4 first_of(const float4 &v, int i, int n) {
    return make_float4(i < n ? v.x : 0.0f, i + 1 < n ? v.y : 0.0f, i + 2 < n ? v.z : 0.0f, i + 3 < n ? v.w : 0.0f);
}

enum { RESIDUAL_THREADS = 512 };

/* A block a row, EACH quads of it in each thread's registers. */
template <int EACH> __global__ void __launch_bounds__(RESIDUAL_THREADS) residual_kernel(const __grid_constant__ residual_args p) {
    __shared__ float2 shared[RESIDUAL_THREADS / 32];
    const int r = blockIdx.x, n = p.n;
    const auto at = [](int j) { return 4 * (j * RESIDUAL_THREADS + (int)threadIdx.x); };
    float4 v[EACH], old[EACH];
    queue_trigger();
    queue_wait();
    float *x = p.x + (size_t)(p.row ? p.row[r] : r) * p.x_stride;
    const float factor = p.scale ? p.scale[r] : 1.0f;
    float sum = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) { /* all that is read is asked for at once */
        const int i = min(at(j), (n - 1) & ~3);
        v[j] = p.y.y ? sum_quads(p.y, (size_t)r * p.y.stride + i) : float4{};
        old[j] = *(const float4 *)(x + i);
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        v[j] = times(v[j], factor);
        if (p.bias && at(j) < n) v[j] = plus(v[j], *(const float4 *)(p.bias + at(j)));
        v[j] = first_of(v[j], at(j), n);
        sum += square_sum(v[j]);
    }
    if (p.post_norm) {
        const float whole = rsqrtf(block_sum_max(sum, 0, shared).x / (float)n + p.eps);
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (at(j) < n) v[j] = first_of(times(times(v[j], whole), *(const float4 *)(p.post_norm + at(j))), at(j), n);
    }
    float max = sum = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        if (at(j) >= n) break;
        v[j] = plus(old[j], v[j]);
        if (p.y.y) *(float4 *)(x + at(j)) = v[j];
        sum += square_sum(v[j]);
        if (p.norm) v[j] = times(v[j], *(const float4 *)(p.norm + at(j)));
        max = fmaxf(max, largest(v[j]));
    }
    if (!p.half) return;
    const float2 all = block_sum_max(sum, max, shared);
    const int e = half_exponent(all.y);
    const float up = exp2f((float)-e);
    if (threadIdx.x == 0) p.half_scale[r] = (p.norm ? rsqrtf(all.x / (float)n + p.eps) : 1.0f) * exp2f((float)e);
#pragma unroll
    for (int j = 0; j < EACH; j++)
        if (at(j) < n) put_quad(p.half, r, n, at(j), v[j], up);
}

extern "C" int32_t cuda_residual(cuda_queue *q, const residual_args *p) {
    const dim3 grid((unsigned)p->n_rows);
    const int each = (p->n + 4 * RESIDUAL_THREADS - 1) / (4 * RESIDUAL_THREADS);
    return each <= 1    ? launch(residual_kernel<1>, grid, RESIDUAL_THREADS, 0, q, *p)
           : each <= 2  ? launch(residual_kernel<2>, grid, RESIDUAL_THREADS, 0, q, *p)
           : each <= 4  ? launch(residual_kernel<4>, grid, RESIDUAL_THREADS, 0, q, *p)
           : each <= 16 ? launch(residual_kernel<16>, grid, RESIDUAL_THREADS, 0, q, *p)
                        : cudaErrorInvalidValue;
}

__global__ void finish_rows_kernel(float *y, int y_stride, const float *scale, const float *bias, int n) {
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    y += (size_t)r * y_stride;
    const float factor = scale ? scale[r] : 1.0f;
    for (int i = threadIdx.x; i < n; i += ROW_THREADS) y[i] = y[i] * factor + (bias ? bias[i] : 0.0f);
}

extern "C" int32_t cuda_finish_rows(cuda_queue *q, float *y, int32_t y_stride, const float *scale, const float *bias, int32_t n,
                                    int32_t n_rows) {
    return launch(finish_rows_kernel, dim3((unsigned)n_rows), ROW_THREADS, 0, q, y, y_stride, scale, bias, n);
}

__global__ void activate_kernel(const float *gate, const float *up, int in_stride, const float *scale, float *out, int out_stride,
                                int n, bool is_gelu) {
    const int r = blockIdx.y, i = blockIdx.x * ROW_THREADS + threadIdx.x;
    queue_trigger();
    queue_wait();
    if (i >= n) return;
    const float factor = scale ? scale[r] : 1.0f;
    const size_t at = (size_t)r * in_stride + i;
    out[(size_t)r * out_stride + i] = activation(gate[at] * factor, is_gelu) * (up[at] * factor);
}

extern "C" int32_t cuda_activate(cuda_queue *q, const float *gate, const float *up, int32_t in_stride, const float *scale,
                                 float *out, int32_t out_stride, int32_t n, int32_t n_rows, bool is_gelu) {
    const dim3 grid((unsigned)((n + ROW_THREADS - 1) / ROW_THREADS), (unsigned)n_rows);
    return launch(activate_kernel, grid, ROW_THREADS, 0, q, gate, up, in_stride, scale, out, out_stride, n, is_gelu);
}

enum { ACTIVATE_PARTS = 4, ACTIVATE_THREADS = 512 };

struct activate_args {
    row_parts both;
    const float *scale;
    uint16_t *out;
    float *scale_out;
    int n;
    bool is_gelu;
};

/* The largest of the values of a cluster's blocks, in every thread. */
__device__ static inline float cluster_max(float max, float *shared) {
#if __CUDA_ARCH__ >= 900
    if (gridDim.x == 1) return max;
    const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    if (threadIdx.x < ACTIVATE_PARTS) *cluster.map_shared_rank(shared + blockIdx.x, threadIdx.x) = max;
    cluster.sync();
    for (int i = 0; i < ACTIVATE_PARTS; i++) max = fmaxf(max, shared[i]);
#endif
    return max;
}

/* A row: the blocks of a cluster, or one, find its largest value before they round. EACH quads stay in a thread's registers. */
template <int EACH>
__global__ void __launch_bounds__(ACTIVATE_THREADS) activate_half_kernel(const __grid_constant__ activate_args p) {
    __shared__ float2 shared[ACTIVATE_THREADS / 32];
    __shared__ float parts[ACTIVATE_PARTS];
    const int r = blockIdx.y, n = p.n;
    const auto at = [](int j) { return 4 * (int)((j * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x); };
    queue_trigger();
#if __CUDA_ARCH__ >= 900
    if (gridDim.x > 1) cooperative_groups::this_cluster().sync(); /* all have begun: their shared memory is there */
#endif
    queue_wait();
    const float factor = p.scale[r];
    const size_t row = (size_t)r * p.both.stride;
    float4 v[EACH], u[EACH];
    float max = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = min(at(j), n - 4);
        v[j] = sum_quads(p.both, row + i);
        u[j] = sum_quads(p.both, row + n + i);
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const float4 g = times(v[j], factor);
        v[j] = times(make_float4(activation(g.x, p.is_gelu), activation(g.y, p.is_gelu), activation(g.z, p.is_gelu),
                                 activation(g.w, p.is_gelu)),
                     times(u[j], factor));
        max = fmaxf(max, largest(v[j])); /* past the end: the last quad again */
    }
    max = cluster_max(block_sum_max(0, max, shared).y, parts);
    const int e = half_exponent(max);
    const float up = exp2f((float)-e);
    if (threadIdx.x == 0 && blockIdx.x == 0) p.scale_out[r] = exp2f((float)e);
#pragma unroll
    for (int j = 0; j < EACH; j++)
        if (at(j) < n) put_quad(p.out, r, n, at(j), v[j], up);
}

template <int EACH> static cudaError_t activate_as(cuda_queue *q, const activate_args &a, int n_rows, int n_parts, int threads) {
    cudaLaunchAttribute attrs[2] = {};
    attrs[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attrs[0].val.programmaticStreamSerializationAllowed = q->has_pdl && q->is_chained;
    attrs[1].id = cudaLaunchAttributeClusterDimension;
    attrs[1].val.clusterDim.x = (unsigned)n_parts, attrs[1].val.clusterDim.y = attrs[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t cfg = {};
    cfg.gridDim = dim3((unsigned)n_parts, (unsigned)n_rows);
    cfg.blockDim = dim3((unsigned)threads);
    cfg.stream = (cudaStream_t)q->stream;
    cfg.attrs = attrs;
    cfg.numAttrs = n_parts > 1 ? 2 : 0;
    q->is_chained = true;
    return cudaLaunchKernelEx(&cfg, activate_half_kernel<EACH>, a);
}

extern "C" int32_t cuda_activate_half(cuda_queue *q, const row_parts *both, const float *scale, uint16_t *out, float *scale_out,
                                      int32_t n, int32_t n_rows, bool is_gelu) {
    const activate_args a = {*both, scale, out, scale_out, n, is_gelu};
    const int n_parts = q->has_bulk ? ACTIVATE_PARTS : 1, threads = ACTIVATE_THREADS;
    const int each = (n + 4 * n_parts * threads - 1) / (4 * n_parts * threads);
    return each <= 1    ? activate_as<1>(q, a, n_rows, n_parts, threads)
           : each <= 2  ? activate_as<2>(q, a, n_rows, n_parts, threads)
           : each <= 4  ? activate_as<4>(q, a, n_rows, n_parts, threads)
           : each <= 32 ? activate_as<32>(q, a, n_rows, n_parts, threads)
                        : cudaErrorInvalidValue;
}

__global__ void finish_logits_kernel(float *y, int64_t y_stride, const float *scale, float cap, int n) {
    const int r = blockIdx.y, i = blockIdx.x * ROW_THREADS + threadIdx.x;
    queue_trigger();
    queue_wait();
    if (i >= n) return;
    float *to = y + r * y_stride + i;
    const float v = *to * (scale ? scale[r] : 1.0f);
    *to = cap > 0 ? softcap(v, cap) : v;
}

extern "C" int32_t cuda_finish_logits(cuda_queue *q, float *y, int64_t y_stride, const float *scale, float softcap, int32_t n,
                                      int32_t n_rows) {
    const dim3 grid((unsigned)((n + ROW_THREADS - 1) / ROW_THREADS), (unsigned)n_rows);
    return launch(finish_logits_kernel, grid, ROW_THREADS, 0, q, y, y_stride, scale, softcap, n);
}
