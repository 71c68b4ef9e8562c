/* y = W x for up to NC activation rows; the weights are read once.
 * Launch    a block of 8 warps takes tile_rows weight rows of one matrix (PRODUCT_ACT: of the gate and the same of the
 *           other half); a warp takes R rows at a time, a lane U units of each: a piece. Two pieces are on their way at
 *           any time, and the first two are asked for before the kernel waits for the one ahead of it.
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

template <int T>
__device__ __forceinline__ float meet_quant(const unit_bits &b, const int (&w)[8], const acts_view &a, int c, int u,
                                            int n_units) {
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

/* norm * x of one row, quantised or plain, into shared memory; returns the RMS factor. 256 threads; norm may lie in shared
 * memory. */
template <bool IS_FLOAT>
__device__ static float norm_row(const float *x, const float *norm, float eps, int n, int8_t *q, act_rec *rec, float *f,
                                 float *shared) {
    enum { BATCH = 2 }; /* loads on their way at once */
    float sum = 0;
    if constexpr (IS_FLOAT) {
        const int n_padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
        for (int i = threadIdx.x; i < n_padded; i += PRODUCT_THREADS) {
            const float v = i < n ? x[i] : 0.0f;
            sum = fmaf(v, v, sum);
            f[i] = i < n ? v * norm[i] : 0.0f;
        }
    } else {
        const int n_quads = n / 4, n_units = n / UNIT;
        for (int base = threadIdx.x; base - (int)threadIdx.x < n_quads; base += BATCH * PRODUCT_THREADS) {
            float4 v[BATCH];
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = base + j * PRODUCT_THREADS;
                v[j] = i < n_quads ? ((const float4 *)x)[i] : float4{};
            }
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = base + j * PRODUCT_THREADS;
                const bool is_live = i < n_quads; /* the same for the eight lanes of a unit */
                const float4 g = is_live ? ((const float4 *)norm)[i] : float4{};
                sum = fmaf(v[j].x, v[j].x, fmaf(v[j].y, v[j].y, fmaf(v[j].z, v[j].z, fmaf(v[j].w, v[j].w, sum))));
                quantise_quads(make_float4(v[j].x * g.x, v[j].y * g.y, v[j].z * g.z, v[j].w * g.w), is_live, q, rec, i >> 3,
                               n_units);
            }
        }
    }
    return rsqrtf(block_sum(sum, shared) / (float)n + eps);
}

/* The one quantised row into shared memory: every warp of the block reads all of it. */
__device__ static acts_view copy_acts(const product_args &p, float *own) {
    const int n = p.w[0].n_in, n_units = n / UNIT;
    int8_t *q = (int8_t *)own;
    act_rec *rec = (act_rec *)(q + n);
    for (int i = threadIdx.x; i < n / 16; i += PRODUCT_THREADS) ((int4 *)q)[i] = ((const int4 *)p.in.q)[i];
    for (int i = threadIdx.x; i < n_units; i += PRODUCT_THREADS) rec[i] = p.in.rec[i];
    __syncthreads();
    return acts_view{q, rec, nullptr, n};
}

template <int T, int NC, int R, int U> struct product_state {
    static constexpr bool is_float = is_float_type(T);
    unit_bits bits[R][U];

    __device__ __forceinline__ void load(const row_planes (&rows)[R], int k, int n_units) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const int u = 32 * (k * U + i) + lane;
            if (u >= n_units) break;
#pragma unroll
            for (int r = 0; r < R; r++) bits[r][i] = format<T>::load(rows[r], u, n_units);
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

/* Gate and up of a tile: a warp a row of the batch. A tile may be a part of a unit of what it puts out: then the block that comes
 * last quantises the whole unit, from the floats all have put. */
template <int NC> __device__ static void activation_epilogue(const product_args &p, int first, const float *sums, float factor) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, o = first + lane, n = p.tile_rows, n_out = p.w[0].n_out;
    for (int c = warp; c < p.n_rows; c += PRODUCT_WARPS) {
        const float scale = p.x ? factor : p.in.scale ? p.in.scale[c] : 1.0f;
        float v = lane < n ? activation(sums[lane * NC + c] * scale, p.is_gelu) * (sums[(n + lane) * NC + c] * scale) : 0.0f;
        float *f = p.out.f + (size_t)c * p.out.stride;
        if (lane < n && o < n_out && (!p.is_out_quantised || n < UNIT)) f[o] = v;
        if (!p.is_out_quantised) continue;
        if (n < UNIT) {
            int before = 0;
            __threadfence();
            __syncwarp();
            if (lane == 0) before = atomicAdd(p.arrived + first / UNIT, 1);
            before = __shfl_sync(~0u, before, 0);
            if (before < UNIT / n - 1) continue;
            __threadfence();
            if (lane == 0) p.arrived[first / UNIT] = 0;
            v = __ldcg(f + first / UNIT * UNIT + lane);
        }
        quantise_lanes(v, p.out.q + (size_t)c * p.out.stride, p.out.rec + (size_t)c * (p.out.stride / UNIT), first / UNIT,
                       n_out / UNIT);
    }
}

/* What is done with a tile's sums, sums[v][NC]. */
template <int NC>
__device__ static void product_epilogue(const product_args &p, int job, int first, int n_virtual, const float *sums,
                                        float factor) {
    const dev_matrix &m = p.w[job];
    if (p.mode == PRODUCT_ACT) {
        activation_epilogue<NC>(p, first, sums, factor);
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

/* Registers of a unit; units that a lane holds of a piece, two pieces being on their way; blocks that an SM then has room for. */
template <int T> constexpr int unit_registers() {
    constexpr format_bytes b = format_bytes_of(T);
    return b.q / 4 + b.h / 4 + (b.s > 0) + (b.d > 0);
}
template <int T> constexpr int piece_units() {
    return unit_registers<T>() <= 5 ? 4 : 2;
}
/* Types that are unpacked keep a row's addresses and get a third of the multiprocessor's registers; those that are bound by
 * memory alone compute them anew for every piece, and four blocks fit. */
template <int T> constexpr __host__ __device__ bool has_spare_registers() {
    return T != TENSOR_Q8_0 && !is_float_type(T);
}
template <int T, int NC> constexpr int blocks_per_sm() {
    return NC > 1 ? 2 : has_spare_registers<T>() ? 3 : 4;
}

/* Shared memory: 8 floats, the sums [n_virtual][NC], and in the fused form the activations (q then rec, or f), then the norm. */
template <int T, int NC, int R, int U>
__global__ void __launch_bounds__(PRODUCT_THREADS, blocks_per_sm<T, NC>())
    product_kernel(const __grid_constant__ product_args p) {
    typedef product_state<T, NC, R, U> state;
    constexpr int unroll = has_spare_registers<T>() ? 2 : 1;
    extern __shared__ __align__(16) float shared[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int n_virtual = p.mode == PRODUCT_ACT ? 2 * p.tile_rows : p.tile_rows;
    const int n_units = p.w[0].n_units, n_pieces = (n_units + 32 * U - 1) / (32 * U);
    float *sums = shared + 8, *own = sums + (n_virtual * NC + 3) / 4 * 4;
    int job = 0;
    while (job + 1 < p.n_jobs && (int)blockIdx.x >= p.first_tile[job + 1]) job++;
    const int first = ((int)blockIdx.x - p.first_tile[job]) * p.tile_rows;
    queue_trigger();

    state now, next;
    int v = warp * R, k = 0; /* of the piece to be asked for next */
    row_planes rows[R];
    const auto place = [&] { /* virtual row v of the tile; a tile may hang over the matrix's end */
#pragma unroll
                             for (int r = 0; r < R; r++) {
                                 const bool is_up = p.mode == PRODUCT_ACT && v + r >= p.tile_rows;
                                 const dev_matrix &m = is_up ? p.w[1] : p.w[job];
                                 rows[r] = row_planes(m, min(first + v + r - (is_up ? p.tile_rows : 0), m.n_out - 1));
                             }
    };
    const auto ask = [&](state &to) {
        if (v < n_virtual) {
            if (k == 0 || !has_spare_registers<T>()) place();
            to.load(rows, k, n_units);
        }
        if (++k == n_pieces) k = 0, v += PRODUCT_WARPS * R;
    };
    ask(now);
    ask(next);

    acts_view a = {p.in.q, p.in.rec, p.in.f, p.in.stride};
    float factor = 1;
    if (NC == 1 && p.x) {
        const int n = p.w[0].n_in,
                  n_floats = state::is_float ? (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD : (n / 4 + n / UNIT * 2 + 3) / 4 * 4;
        float *norm = own + n_floats;
        if constexpr (!state::is_float)
            for (int i = threadIdx.x; i < n / 4; i += PRODUCT_THREADS) ((float4 *)norm)[i] = ((const float4 *)p.norm)[i];
        queue_wait(); /* each thread reads back the norm's values that it put */
        a = acts_view{(const int8_t *)own, (const act_rec *)((const int8_t *)own + n), own, p.in.stride};
        factor = norm_row<state::is_float>(p.x, state::is_float ? p.norm : norm, p.eps, n, (int8_t *)a.q, (act_rec *)a.rec, own,
                                           shared);
    } else {
        queue_wait();
        if (NC == 1 && !state::is_float && p.is_copied) a = copy_acts(p, own);
    }

    for (int at = warp * R; at < n_virtual; at += PRODUCT_WARPS * R) {
        float acc[R][NC] = {};
#pragma unroll unroll /* by two, now and next change places without a move */
        for (int piece = 0; piece < n_pieces; piece++) {
            now.meet(a, piece, n_units, acc);
            now = next;
            ask(next);
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

template <int T, int NC, int R>
static cudaError_t product_launch_as(cuda_queue *q, const product_args *p, int n_blocks, size_t shared_bytes) {
    const auto kernel = product_kernel<T, NC, R, piece_units<T>() / R>;
    if (shared_bytes > 48 * 1024) {
        const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (e != cudaSuccess) return e;
    }
    return launch(kernel, dim3((unsigned)n_blocks), PRODUCT_THREADS, shared_bytes, q, *p);
}

/* Whole units where they fit the device at once, else halves, which it can share out more evenly. */
static int act_rows(const cuda_queue *q, const product_args *p, int per_sm) {
    if (q->act_rows) return q->act_rows;
    return (p->w[0].n_out + UNIT - 1) / UNIT <= per_sm * q->n_sm ? UNIT : UNIT / 2;
}

/* Cut the rows into tiles, one for each block that fits the device at once, so that all multiprocessors have about as many rows:
 * the memory serves them evenly. The tiles of PRODUCT_ACT are parts of a unit for the same reason. */
template <int T> static int32_t product_launch(cuda_queue *q, product_args *p) {
    const int nc = p->n_rows <= 1 ? 1 : p->n_rows <= 2 ? 2 : p->n_rows <= 4 ? 4 : 8;
    const int per_sm = nc > 1 ? 2 : q->per_sm ? q->per_sm : blocks_per_sm<T, 1>();
    const bool is_act = p->mode == PRODUCT_ACT;
    int64_t all = 0;
    for (int i = 0; i < p->n_jobs; i++) all += p->w[i].n_out;
    const int64_t slots = (int64_t)per_sm * q->n_sm, per_slot = (all + slots - 1) / slots;
    const int r = !is_act && nc == 1 && per_slot <= PRODUCT_WARPS + 3 ? 1 : 2, least = PRODUCT_WARPS * r;
    p->tile_rows = is_act && nc > 1 ? UNIT
                   : is_act         ? act_rows(q, p, per_sm)
                   : r == 1         ? least
                                    : (int)((per_slot + least - 1) / least * least);
    p->first_tile[0] = 0;
    for (int i = 0; i < p->n_jobs; i++)
        p->first_tile[i + 1] =
            is_act && i > 0 ? p->first_tile[i] : p->first_tile[i] + (p->w[i].n_out + p->tile_rows - 1) / p->tile_rows;
    const int n_virtual = is_act ? 2 * p->tile_rows : p->tile_rows, n_blocks = p->first_tile[p->n_jobs];
    size_t shared = sizeof(float) * (size_t)(8 + (n_virtual * nc + 3) / 4 * 4);
    const size_t n = (size_t)p->w[0].n_in, padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
    p->is_copied =
        !p->x && nc == 1 && !is_float_type(T) && n >= 8 * 1024 && n <= 28 * 1024; /* a short row is as soon read in place */
    if (p->x || p->is_copied) shared += is_float_type(T) ? padded * sizeof(float) : n + n / UNIT * sizeof(act_rec);
    if (p->x && !is_float_type(T)) shared += 16 + n * sizeof(float); /* the norm begins at a multiple of 16 bytes */
    if (nc == 1)
        return r == 1 ? product_launch_as<T, 1, 1>(q, p, n_blocks, shared) : product_launch_as<T, 1, 2>(q, p, n_blocks, shared);
    if (nc == 2) return product_launch_as<T, 2, 2>(q, p, n_blocks, shared);
    if (nc == 4) return product_launch_as<T, 4, 2>(q, p, n_blocks, shared);
    return product_launch_as<T, 8, 2>(q, p, n_blocks, shared);
}

#endif
