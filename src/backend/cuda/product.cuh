/* y = W x for up to NC activation rows; the weights are read once.
 * Launch    a block of 8 warps takes tile_rows weight rows of one matrix (PRODUCT_ACT: 32 rows of the gate and the same 32 of
 *           the other half); a warp takes R rows at a time, a lane U units of each. While a piece is met with the activations
 *           the next is on its way, and the first is asked for before the kernel waits for the one before it.
 * Fused     with args.x the block itself computes the RMS norm of the one row and quantises it, in shared memory. The norm's
 *           factor multiplies the result, so a quantised row does not depend on it.
 * Numerics  int8 activations for quantised weights, exact integers within a unit, f32 sums; f32 throughout for float weights.
 *           A row's result does not depend on NC, R, U or the tile: lanes, units and their order are the same.
 * Bound     memory: the bytes of W once per pass. */
#ifndef GALEN_BACKEND_CUDA_PRODUCT_CUH
#define GALEN_BACKEND_CUDA_PRODUCT_CUH

#include "backend/cuda/formats.cuh"

enum { PRODUCT_THREADS = 256, PRODUCT_WARPS = 8 };

/* Activations as a block sees them: in global or in shared memory. */
struct acts_view {
    const int8_t *q;
    const act_rec *rec;
    const float *f;
    int stride;
};

template <int T> __device__ __forceinline__ float meet_quant(const unit_bits &b, const int (&w)[8], const acts_view &a, int c, int u, int n_units) {
    const int8_t *q = a.q + (size_t)c * a.stride;
    const int4 x0 = *(const int4 *)(q + half_offset(u, 0, n_units)), x1 = *(const int4 *)(q + half_offset(u, 1, n_units));
    const act_rec rec = a.rec[(size_t)c * (a.stride / UNIT) + u];
    int lo = 0, hi = 0;
    lo = __dp4a(w[0], x0.x, lo);
    lo = __dp4a(w[1], x0.y, lo);
    lo = __dp4a(w[2], x0.z, lo);
    lo = __dp4a(w[3], x0.w, lo);
    hi = __dp4a(w[4], x1.x, hi);
    hi = __dp4a(w[5], x1.y, hi);
    hi = __dp4a(w[6], x1.z, hi);
    hi = __dp4a(w[7], x1.w, hi);
    return format<T>::meet(b, lo, hi, rec);
}

template <int T> __device__ __forceinline__ float meet_float(const float (&w)[8], const acts_view &a, int c, int u) {
    const float4 *x = (const float4 *)(a.f + (size_t)c * a.stride + UNIT_FLOAT * u);
    const float4 x0 = x[0], x1 = x[1];
    float s = w[0] * x0.x;
    s = fmaf(w[1], x0.y, s);
    s = fmaf(w[2], x0.z, s);
    s = fmaf(w[3], x0.w, s);
    s = fmaf(w[4], x1.x, s);
    s = fmaf(w[5], x1.y, s);
    s = fmaf(w[6], x1.z, s);
    return fmaf(w[7], x1.w, s);
}

/* norm * x of one row, quantised or plain, into shared memory; returns the RMS factor. 256 threads. */
template <bool IS_FLOAT>
__device__ static float norm_row(const float *x, const float *norm, float eps, int n, int8_t *q, act_rec *rec, float *f, float *shared) {
    float sum = 0;
    if (IS_FLOAT) {
        const int n_padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
        for (int i = threadIdx.x; i < n_padded; i += PRODUCT_THREADS) {
            const float v = i < n ? x[i] : 0.0f;
            sum = fmaf(v, v, sum);
            f[i] = i < n ? v * norm[i] : 0.0f;
        }
    } else {
        const int n_quads = n / 4, n_units = n / UNIT;
        for (int base = 0; base < n_quads; base += PRODUCT_THREADS) {
            const int i = base + threadIdx.x;
            const bool is_live = i < n_quads;
            const float4 v = is_live ? ((const float4 *)x)[i] : float4{};
            const float4 g = is_live ? ((const float4 *)norm)[i] : float4{};
            sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
            quantise_quads(make_float4(v.x * g.x, v.y * g.y, v.z * g.z, v.w * g.w), is_live, q, rec, i >> 3, n_units);
        }
    }
    return rsqrtf(block_sum(sum, shared) / (float)n + eps);
}

template <int T, int NC, int R, int U> struct product_state {
    static constexpr bool is_float = is_float_type(T);
    unit_bits bits[R][U];

    /* Virtual row v of the tile: where it is. */
    static __device__ __forceinline__ const dev_matrix &matrix_of(const product_args &p, int job, int v) {
        return p.mode == PRODUCT_ACT ? p.w[v / UNIT] : p.w[job];
    }
    static __device__ __forceinline__ int row_of(const product_args &p, int first, int v) {
        return first + (p.mode == PRODUCT_ACT ? v % UNIT : v);
    }
    __device__ __forceinline__ void load(const product_args &p, int job, int first, int v, int k) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int r = 0; r < R; r++) {
            const dev_matrix &m = matrix_of(p, job, v + r);
            const int row = min(row_of(p, first, v + r), m.n_out - 1); /* a tile may hang over the end */
#pragma unroll
            for (int i = 0; i < U; i++) {
                const int u = 32 * (k * U + i) + lane;
                if (u < m.n_units) bits[r][i] = format<T>::load(m, row, u);
            }
        }
    }
    __device__ __forceinline__ void meet(const acts_view &a, int k, int n_units, float (&acc)[R][NC]) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const int u = 32 * (k * U + i) + lane;
            if (u >= n_units) break;
#pragma unroll
            for (int r = 0; r < R; r++) {
                if constexpr (is_float) {
                    float w[8];
                    format<T>::floats(bits[r][i], w);
#pragma unroll
                    for (int c = 0; c < NC; c++) acc[r][c] += meet_float<T>(w, a, c, u);
                } else {
                    int w[8];
                    format<T>::words(bits[r][i], w);
#pragma unroll
                    for (int c = 0; c < NC; c++) acc[r][c] += meet_quant<T>(bits[r][i], w, a, c, u, n_units);
                }
            }
        }
    }
};

/* What is done with a tile's sums, sums[v][NC]. */
template <int NC>
__device__ static void product_epilogue(const product_args &p, int job, int first, int n_virtual, const float *sums, float factor) {
    const dev_matrix &m = p.w[job];
    if (p.mode == PRODUCT_ACT) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, o = first + lane;
        for (int c = warp; c < p.n_rows; c += PRODUCT_WARPS) {
            const float scale = p.x ? factor : p.in.scale ? p.in.scale[c] : 1.0f;
            const float v = activation(sums[lane * NC + c] * scale, p.is_gelu) * (sums[(UNIT + lane) * NC + c] * scale);
            if (p.is_out_quantised)
                quantise_lanes(v, p.out.q + (size_t)c * p.out.stride, p.out.rec + (size_t)c * (p.out.stride / UNIT), first / UNIT,
                               m.n_out / UNIT);
            else if (o < m.n_out)
                p.out.f[(size_t)c * p.out.stride + o] = v;
        }
        return;
    }
    for (int i = threadIdx.x; i < n_virtual * p.n_rows; i += PRODUCT_THREADS) {
        const int v = i % n_virtual, c = i / n_virtual, o = first + v;
        if (o >= m.n_out) continue;
        const float scale = p.x ? factor : p.in.scale ? p.in.scale[c] : 1.0f;
        float s = sums[v * NC + c] * scale;
        if (p.bias[job]) s += p.bias[job][o];
        float *y = p.y[job] + (size_t)c * p.y_stride + o;
        if (p.softcap > 0) s = softcap(s, p.softcap);
        *y = p.mode == PRODUCT_ADD ? *y + s : s;
    }
}

/* Shared memory: 8 floats, the sums [n_virtual][NC], and in the fused form the activations (q then rec, or f). */
template <int T, int NC, int R, int U>
__global__ void __launch_bounds__(PRODUCT_THREADS, NC == 1 ? 4 : 2) product_kernel(const __grid_constant__ product_args p) {
    typedef product_state<T, NC, R, U> state;
    extern __shared__ __align__(16) float shared[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int n_virtual = p.mode == PRODUCT_ACT ? 2 * UNIT : p.tile_rows;
    int job = 0;
    while (job + 1 < p.n_jobs && (int)blockIdx.x >= p.first_tile[job + 1]) job++;
    const int first = ((int)blockIdx.x - p.first_tile[job]) * p.tile_rows;
    const int n_units = p.w[0].n_units, n_pieces = (n_units + 32 * U - 1) / (32 * U);
    float *sums = shared + 8;
    queue_trigger();

    state now, next;
    int v = warp * R, k = 0; /* of the piece to be asked for next */
    if (v < n_virtual) now.load(p, job, first, v, k);
    if (++k == n_pieces) k = 0, v += PRODUCT_WARPS * R;

    queue_wait();
    acts_view a = {p.in.q, p.in.rec, p.in.f, p.in.stride};
    float factor = 1;
    if (NC == 1 && p.x) {
        float *f = sums + (n_virtual * NC + 3) / 4 * 4;
        a.q = (const int8_t *)f;
        a.rec = (const act_rec *)(a.q + p.w[0].n_in);
        a.f = f;
        factor = norm_row<state::is_float>(p.x, p.norm, p.eps, p.w[0].n_in, (int8_t *)a.q, (act_rec *)a.rec, f, shared);
    }

    for (int at = warp * R; at < n_virtual; at += PRODUCT_WARPS * R) {
        float acc[R][NC] = {};
        for (int piece = 0; piece < n_pieces; piece++) {
            if (v < n_virtual) next.load(p, job, first, v, k);
            if (++k == n_pieces) k = 0, v += PRODUCT_WARPS * R;
            now.meet(a, piece, n_units, acc);
            now = next;
        }
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < NC; c++) {
                const float s = warp_sum(acc[r][c]);
                if (lane == 0) sums[(at + r) * NC + c] = s;
            }
    }
    __syncthreads();
    product_epilogue<NC>(p, job, first, n_virtual, sums, factor);
}

/* Types whose unit is 16 bytes or less keep more of them on the way. */
template <int T> constexpr int product_units(int r) {
    return (format_bytes_of(T).q == 32 ? 2 : 4) / r;
}

template <int T, int NC, int R> static cudaError_t product_launch_as(cuda_queue *q, const product_args *p, size_t shared_bytes) {
    const auto kernel = product_kernel<T, NC, R, product_units<T>(2) * 2 / R>;
    if (shared_bytes > 48 * 1024) {
        const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (e != cudaSuccess) return e;
    }
    return launch(kernel, dim3((unsigned)p->first_tile[p->n_jobs]), PRODUCT_THREADS, shared_bytes, q, *p);
}

/* Cut the rows into tiles and launch: one wave of blocks where the rows are enough, so that all of them share the memory evenly. */
template <int T> static int32_t product_launch(cuda_queue *q, product_args *p) {
    const int nc = p->n_rows <= 1 ? 1 : p->n_rows <= 2 ? 2 : p->n_rows <= 4 ? 4 : 8, per_sm = nc == 1 && q->per_sm ? q->per_sm : nc == 1 ? 4 : 2;
    int64_t all = 0;
    for (int i = 0; i < p->n_jobs; i++) all += p->w[i].n_out;
    const int64_t slots = (int64_t)per_sm * q->n_sm, per_slot = (all + slots - 1) / slots;
    const int r = p->mode != PRODUCT_ACT && nc == 1 && per_slot <= 8 ? 1 : 2, least = PRODUCT_WARPS * r;
    p->tile_rows = p->mode == PRODUCT_ACT ? UNIT : (int)((per_slot + least - 1) / least * least);
    p->first_tile[0] = 0;
    for (int i = 0; i < p->n_jobs; i++)
        p->first_tile[i + 1] = p->mode == PRODUCT_ACT && i > 0
                                   ? p->first_tile[i]
                                   : p->first_tile[i] + (p->w[i].n_out + p->tile_rows - 1) / p->tile_rows;
    const int n_virtual = p->mode == PRODUCT_ACT ? 2 * UNIT : p->tile_rows;
    size_t shared = sizeof(float) * (size_t)(8 + (n_virtual * nc + 3) / 4 * 4);
    if (p->x) {
        const size_t n = (size_t)p->w[0].n_in, padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
        shared += is_float_type(T) ? padded * sizeof(float) : n + n / UNIT * sizeof(act_rec);
    }
    if (nc == 1) return r == 1 ? product_launch_as<T, 1, 1>(q, p, shared) : product_launch_as<T, 1, 2>(q, p, shared);
    if (nc == 2) return product_launch_as<T, 2, 2>(q, p, shared);
    if (nc == 4) return product_launch_as<T, 4, 2>(q, p, shared);
    return product_launch_as<T, 8, 2>(q, p, shared);
}

#endif
