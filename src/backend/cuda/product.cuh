/* y = W x for one activation row, of float types up to NC rows; the weights are read once. More quantised rows: rows_product.cuh.
 *
 * Launch    a block of 8 or 16 warps takes tile_rows weight rows of one matrix (PRODUCT_ACT: of the gate and the same of the
 *           other half, shared out evenly), no more blocks than the device has room for; a warp takes R rows at a time, a lane U
 *           units of each: a piece. Two pieces are on their way at any time; the first is asked for before the kernel waits for
 *           the one ahead of it, the second too unless a row is to be normed: its values stand in the same queue.
 * Fused     with args.x the block itself computes the RMS norm of the one row and quantises it, in shared memory. The norm's
 *           factor multiplies the result, so a quantised row does not depend on it.
 * Numerics  activations of 14 bits for quantised weights, exact integers within half a unit, f32 sums; f32 throughout for float
 *           weights. A row's result does not depend on NC, R, U or the tile: lanes, units and their order are the same; but
 *           the norm's factor is summed by a block's own number of threads, and may differ in its last bit.
 * Bound     memory: the bytes of W once per pass. */
#ifndef GALEN_BACKEND_CUDA_PRODUCT_CUH
#define GALEN_BACKEND_CUDA_PRODUCT_CUH

#include "backend/cuda/formats.cuh"

enum { SUM_WARPS = 16, SUM_FLOATS = 20 }; /* the most warps of a block; floats of their sums and of the norm's factor */

/* Types that are unpacked keep a row's addresses and get half as many registers again as those that are bound by memory alone,
 * which compute them anew for every piece. */
template <int T> constexpr __host__ __device__ bool has_spare_registers() {
    return T != TENSOR_Q8_0 && !is_float_type(T);
}
/* Registers of a unit. */
template <int T> constexpr __host__ __device__ int unit_registers() {
    constexpr format_bytes b = format_bytes_of(T);
    return b.q / 4 + b.h / 4 + (b.s > 0) + (b.d > 0);
}
/* Units of a row that a lane holds of a piece, two pieces being on their way. */
template <int T, int R> constexpr __host__ __device__ int piece_units() {
    constexpr int n = unit_registers<T>();
    if (has_spare_registers<T>()) return R == 2 || n <= 6 ? 2 : 1;
    return (n <= 5 ? 4 : 2) / R;
}
/* Warps of a block, and blocks that a multiprocessor has room for: few large ones read and quantise the row less often. */
template <int T, int NC, int R> constexpr __host__ __device__ int block_warps() {
    return NC > 1 || is_float_type(T) || (has_spare_registers<T>() && R == 2) ? 8 : 16;
}
template <int T, int NC, int R> constexpr __host__ __device__ int blocks_per_sm() {
    return NC == 1 && is_float_type(T) ? 4 : 2;
}

/* Activations as a block sees them: in global or in shared memory. */
struct acts_view {
    const int16_t *q;
    const act_rec *rec;
    const float *f;
    int stride;
};

/* Unit u of R weight rows times the one row's. */
template <int T, int R, int U>
__device__ __forceinline__ void meet_quant(const unit_bits (&b)[R][U], int i, const acts_view &a, int u, float (&acc)[R][1]) {
    const int4 *q = (const int4 *)(a.q + act_offset(u, 0));
    int lo[R] = {}, hi[R] = {};
    {
        const int4 x0 = q[0], x1 = q[32];
#pragma unroll
        for (int r = 0; r < R; r++) format<T>::template sums<0>(b[r][i], x0, x1, lo[r]);
    }
    {
        const int4 x0 = q[64], x1 = q[96];
#pragma unroll
        for (int r = 0; r < R; r++) format<T>::template sums<4>(b[r][i], x0, x1, hi[r]);
    }
    const float4 rec = *(const float4 *)(a.rec + u);
#pragma unroll
    for (int r = 0; r < R; r++) acc[r][0] += format<T>::meet(b[r][i], lo[r], hi[r], rec);
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

__device__ static inline float4 load_quad(const float4 *p) { /* volatile: before the weights that are asked for after it */
    float4 v;
    asm volatile("ld.global.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p));
    return v;
}

/* norm * x of one row, quantised or plain, into shared memory; returns the RMS factor. A block of W warps; norm may lie in shared
 * memory. between is called when the first values are asked for. */
template <bool IS_FLOAT, int W, typename F>
__device__ static float norm_row(const float *x, const float *norm, float eps, int n, int16_t *q, act_rec *rec, float *f,
                                 float *shared, const F &between) {
    enum { BATCH = 2 }; /* loads on their way at once */
    float sum = 0;
    if constexpr (IS_FLOAT) {
        between();
        const int n_padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
        for (int i = threadIdx.x; i < n_padded; i += 32 * W) {
            const float v = i < n ? x[i] : 0.0f;
            sum = fmaf(v, v, sum);
            f[i] = i < n ? v * norm[i] : 0.0f;
        }
    } else {
        const int n_quads = n / 4;
        for (int base = threadIdx.x; base - (int)threadIdx.x < n_quads; base += BATCH * 32 * W) {
            float4 v[BATCH];
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = base + j * 32 * W;
                v[j] = i < n_quads ? load_quad((const float4 *)x + i) : float4{};
            }
            if (base == (int)threadIdx.x) between();
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = base + j * 32 * W;
                const bool is_live = i < n_quads; /* the same for the eight lanes of a unit */
                const float4 g = is_live ? ((const float4 *)norm)[i] : float4{};
                sum = fmaf(v[j].x, v[j].x, fmaf(v[j].y, v[j].y, fmaf(v[j].z, v[j].z, fmaf(v[j].w, v[j].w, sum))));
                quantise_quads(make_float4(v[j].x * g.x, v[j].y * g.y, v[j].z * g.z, v[j].w * g.w), is_live, q, rec, i >> 3);
            }
        }
    }
    return rsqrtf(block_sum<W>(sum, shared) / (float)n + eps);
}

/* Units of n activations in whole groups of 32. */
__device__ static inline int padded_units(int n) {
    return (n / UNIT + 31) / 32 * 32;
}
/* What follows the last unit of a row in its group counts for nothing. */
template <int W> __device__ static inline void clear_rest(int n, int16_t *q, act_rec *rec) {
    const int first = n / UNIT, n_rest = padded_units(n) - first;
    for (int i = threadIdx.x; i < 4 * n_rest; i += 32 * W) *(int4 *)(q + act_offset(first + i / 4, i % 4)) = int4{};
    for (int i = threadIdx.x; i < n_rest; i += 32 * W) *(float4 *)(rec + first + i) = float4{};
}

/* The one quantised row into shared memory: every warp of the block reads all of it. */
template <int W> __device__ static void copy_acts(const product_args &p, int16_t *q, act_rec *rec) {
    const int n = p.w[0].n_in, n_units = n / UNIT, n_padded = padded_units(n), own = threadIdx.x;
    const float4 first = own < n_units ? load_quad((const float4 *)p.in.rec + own) : float4{}; /* on its way before the levels */
    if (own < n_padded) ((float4 *)rec)[own] = first;
    for (int i = threadIdx.x; i < 4 * n_padded; i += 32 * W)
        ((int4 *)q)[i] = (i >> 7) * 32 + (i & 31) < n_units ? ((const int4 *)p.in.q)[i] : int4{};
    for (int i = own + 32 * W; i < n_padded; i += 32 * W)
        ((float4 *)rec)[i] = i < n_units ? ((const float4 *)p.in.rec)[i] : float4{};
    __syncthreads();
}

template <int T, int NC, int R, int U> struct product_state {
    static constexpr bool is_float = is_float_type(T);
    unit_bits bits[R][U];

    /* Lanes past the row's end take its last unit, and meet nothing. */
    __device__ __forceinline__ void load(const row_planes (&first)[R], uint32_t row_units, int k, int n_units) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const uint32_t u = (uint32_t)min(32 * (k * U + i) + lane, n_units - 1);
#pragma unroll
            for (int r = 0; r < R; r++) bits[r][i] = format<T>::load(first[r], row_units, u, (uint32_t)n_units);
        }
    }
    __device__ __forceinline__ void meet(const acts_view &a, int k, int n_units, float (&acc)[R][NC]) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const int u = 32 * (k * U + i) + lane;
            if constexpr (!is_float) {
                if (i > 0 && 32 * (k * U + i) >= n_units) break; /* the whole warp: groups are whole */
                meet_quant<T, R, U>(bits, i, a, u, acc);
            } else {
                if (u >= n_units) break;
#pragma unroll
                for (int r = 0; r < R; r++) {
                    float w[8];
                    format<T>::floats(bits[r][i], w);
#pragma unroll
                    for (int c = 0; c < NC; c++) acc[r][c] += meet_float<T>(w, a, c, u);
                }
            }
        }
    }
};

/* Gate and up of n rows from first on: a warp a unit of the output, a lane a row; sums[2 row + half][NC]. A block may have a part
 * of a unit: then the block that comes last quantises the whole, from the floats all have put. */
template <int NC, int W>
__device__ static void activation_epilogue(const product_args &p, int first, int n, const float *sums, float factor) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first_unit = first / UNIT, n_parts = (first + n - 1) / UNIT - first_unit + 1;
    for (int i = warp; i < n_parts * p.n_rows; i += W) {
        const int c = i / n_parts, unit = first_unit + i % n_parts, o = UNIT * unit + lane, at = o - first;
        const int begin = max(first, UNIT * unit), count = min(first + n, UNIT * unit + UNIT) - begin;
        const bool is_mine = at >= 0 && at < n;
        const float scale = p.x ? factor : p.in.scale ? p.in.scale[c] : 1.0f;
        float v = is_mine ? activation(sums[2 * at * NC + c] * scale, p.is_gelu) * (sums[(2 * at + 1) * NC + c] * scale) : 0.0f;
        float *f = p.out.f + (size_t)c * p.out.stride;
        if (is_mine && (!p.is_out_quantised || count < UNIT)) f[o] = v;
        if (!p.is_out_quantised) continue;
        if (count < UNIT) {
            int before = 0;
            __threadfence();
            __syncwarp();
            if (lane == 0) before = atomicAdd(p.arrived + unit, count);
            before = __shfl_sync(~0u, before, 0);
            if (before + count < UNIT) continue;
            __threadfence();
            if (lane == 0) p.arrived[unit] = 0;
            v = __ldcg(f + o);
        }
        quantise_lanes(v, p.out.q + (size_t)c * p.out.stride, p.out.rec + (size_t)c * (p.out.stride / UNIT), unit);
    }
}

/* What is done with the sums of n rows, sums[row][NC]. */
template <int NC, int W>
__device__ static void product_epilogue(const product_args &p, int job, int first, int n, const float *sums, float factor,
                                        bool has_old, float old) {
    if (p.mode == PRODUCT_ACT) {
        activation_epilogue<NC, W>(p, first, n, sums, factor);
        return;
    }
    for (int i = threadIdx.x; i < n * p.n_rows; i += 32 * W) {
        const int v = i % n, c = i / n, o = first + v;
        const float scale = p.x ? factor : p.in.scale ? p.in.scale[c] : 1.0f;
        float s = sums[v * NC + c] * scale;
        if (p.bias[job]) s += p.bias[job][o];
        float *y = p.y[job] + (size_t)c * p.y_stride + o;
        if (p.softcap > 0) s = softcap(s, p.softcap);
        if (p.mode == PRODUCT_ADD) s += has_old && i == (int)threadIdx.x ? old : *y;
        *y = s;
    }
}

/* Rows of a block: of one matrix, or the same of gate and other half. Worked out anew wherever it is called, so that no register
 * is kept for it. */
struct block_rows {
    int job, first, n;
};
__device__ static inline block_rows rows_of_block(const product_args &p) {
    int b;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(b));
    block_rows r = {0, 0, p.tile_rows};
    if (p.mode == PRODUCT_ACT) {
        r.first = b * p.tile_rows + min(b, p.n_longer);
        r.n += b < p.n_longer;
    } else {
        while (r.job + 1 < p.n_jobs && b >= p.first_tile[r.job + 1]) r.job++;
        r.first = (b - p.first_tile[r.job]) * p.tile_rows;
    }
    r.n = min(r.n, p.w[r.job].n_out - r.first);
    return r;
}

/* Shared memory: SUM_FLOATS, the sums [rows][NC], and in the fused form the activations (q then rec, or f), then the norm.
 */
template <int T, int NC, int R, int U>
__device__ __forceinline__ static void product_block(const product_args &p, const block_rows mine) {
    typedef product_state<T, NC, R, U> state;
    constexpr int W = block_warps<T, NC, R>();
    constexpr int unroll = is_float_type(T) ? 1 : 2;
    extern __shared__ __align__(16) float shared[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const bool is_act = R == 2 && p.mode == PRODUCT_ACT;
    const int n_units = p.w[0].n_units, n_pieces = (n_units + 32 * U - 1) / (32 * U);
    const int most = is_act ? 2 * (p.tile_rows + 1) : p.tile_rows;
    float *sums = shared + SUM_FLOATS, *own = sums + (most * NC + 3) / 4 * 4;
    const int n_steps = is_act ? mine.n : (mine.n + R - 1) / R; /* R rows each */
    queue_trigger();

    row_planes rows[R]; /* of the block's first R rows; of its first gate and other half */
#pragma unroll
    for (int r = 0; r < R; r++) rows[r] = row_planes(p.w[is_act ? r : mine.job], mine.first + (is_act || mine.n == 1 ? 0 : r));
    const uint32_t step_units = (uint32_t)((is_act ? 1 : R) * n_units);
    state now, next;
    int v = warp, k = 0; /* of the piece to be asked for next */
    const auto ask = [&](state &to) {
        /* an odd block's last row comes with the one before it */
        if (v < n_steps)
            to.load(rows, is_act || R == 1 || R * v + 1 < mine.n ? v * step_units : (uint32_t)(max(mine.n - R, 0) * n_units), k,
                    n_units);
        if (++k == n_pieces) k = 0, v += W;
    };
    ask(now);
    const bool is_normed = NC == 1 && p.x;
    constexpr bool is_patient = R == 2;
    /* Else behind the row, which all wait for. That norm and x are asked for each, though one is never without the other, keeps
     * a third of what the compiler would spill of Q8_0 in registers. */
    if (!is_patient || !p.norm) ask(next);

    acts_view a = {p.in.q, p.in.rec, p.in.f, p.in.stride};
    const int n = p.w[0].n_in;
    int16_t *q = (int16_t *)own;
    act_rec *rec = (act_rec *)(q + padded_units(n) * UNIT);
    if (is_normed) {
        float *norm = state::is_float ? own : (float *)(rec + padded_units(n));
        if constexpr (!state::is_float) {
            for (int i = threadIdx.x; i < n / 4; i += 32 * W) ((float4 *)norm)[i] = ((const float4 *)p.norm)[i];
            clear_rest<W>(n, q, rec);
        }
        queue_wait(); /* each thread reads back the norm's values that it put */
        const float factor =
            norm_row<state::is_float, W>(p.x, state::is_float ? p.norm : norm, p.eps, n, q, rec, own, shared, [&] {
                if (is_patient && p.norm) ask(next);
            });
        if (threadIdx.x == 0) shared[SUM_WARPS] = factor;
    } else {
        queue_wait();
        if constexpr (!state::is_float) copy_acts<W>(p, q, rec);
    }
    if constexpr (!state::is_float) a.q = q, a.rec = rec;
    if constexpr (state::is_float && NC == 1)
        if (p.x) a.f = own;

    float old = 0; /* of y; asked for here where there are registers to spare, not at the end, where all wait for it */
    const bool has_old = NC == 1 && has_spare_registers<T>() && p.mode == PRODUCT_ADD;
    if (has_old && (int)threadIdx.x < mine.n) old = p.y[mine.job][mine.first + threadIdx.x];
    for (int at = warp; at < n_steps; at += W) {
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
                const int row = is_act || R == 1 || R * at + 1 < mine.n ? R * at + r : max(mine.n - R, 0) + r;
                if (lane == 0 && (is_act || row < mine.n)) sums[row * NC + c] = s;
            }
    }
    __syncthreads();
    const block_rows same = rows_of_block(p);
    product_epilogue<NC, W>(p, same.job, same.first, same.n, sums, is_normed ? shared[SUM_WARPS] : 1.0f, has_old, old);
}

template <int T, int NC, int R, int U>
__global__ void __launch_bounds__(32 * block_warps<T, NC, R>(), blocks_per_sm<T, NC, R>())
    product_kernel(const __grid_constant__ product_args p) {
    product_block<T, NC, R, U>(p, rows_of_block(p));
}

/* Matrices of two types, one row: a block's are of one. */
template <int T, int T2>
__global__ void __launch_bounds__(32 * block_warps<T, 1, 2>(), blocks_per_sm<T, 1, 2>())
    product_mixed_kernel(const __grid_constant__ product_args p) {
    const block_rows mine = rows_of_block(p);
    if (p.w[mine.job].type == T)
        product_block<T, 1, 2, piece_units<T, 2>()>(p, mine);
    else
        product_block<T2, 1, 2, piece_units<T2, 2>()>(p, mine);
}

template <typename K>
static cudaError_t product_launch_as(K kernel, cuda_queue *q, const product_args *p, int n_blocks, int n_warps,
                                     size_t shared_bytes) {
    if (shared_bytes > 48 * 1024) {
        const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (e != cudaSuccess) return e;
    }
    return launch(kernel, dim3((unsigned)n_blocks), 32 * n_warps, shared_bytes, q, *p);
}

/* Share the outputs of gate and other half out evenly: every multiprocessor streams as many bytes. Returns the blocks. */
static int share_act_rows(const cuda_queue *q, product_args *p, int n_slots) {
    const int n_out = p->w[0].n_out, n = q->act_rows       ? (n_out + q->act_rows - 1) / q->act_rows
                                         : n_slots < n_out ? n_slots
                                                           : n_out;
    p->tile_rows = q->act_rows ? q->act_rows : n_out / n;
    p->n_longer = q->act_rows ? 0 : n_out % n;
    return n;
}

/* Cut the rows into tiles of r rows and multiples, one for each block that fits the device at once, so that all multiprocessors
 * have about as many rows: the memory serves them evenly. Returns the blocks. */
static int share_rows(product_args *p, int n_slots, int r) {
    int64_t all = 0;
    for (int i = 0; i < p->n_jobs; i++) all += p->w[i].n_out;
    for (p->tile_rows = (int)((all + n_slots - 1) / n_slots + r - 1) / r * r;; p->tile_rows += r) {
        for (int i = 0; i < p->n_jobs; i++)
            p->first_tile[i + 1] = p->first_tile[i] + (p->w[i].n_out + p->tile_rows - 1) / p->tile_rows;
        if (p->first_tile[p->n_jobs] <= n_slots) return p->first_tile[p->n_jobs];
    }
}

static size_t shared_bytes_of(const product_args *p, int nc, bool is_float) {
    const int most = p->mode == PRODUCT_ACT ? 2 * (p->tile_rows + 1) : p->tile_rows;
    const size_t n = (size_t)p->w[0].n_in, padded = (n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
    size_t shared = sizeof(float) * (size_t)(SUM_FLOATS + (most * nc + 3) / 4 * 4);
    if (is_float && p->x) shared += padded * sizeof(float);
    if (!is_float) shared += (n + ACT_PAD - 1) / ACT_PAD * (ACT_PAD / UNIT) * (UNIT * sizeof(int16_t) + sizeof(act_rec));
    if (p->x && !is_float) shared += n * sizeof(float);
    return shared;
}

template <int T> static int32_t product_launch(cuda_queue *q, product_args *p) {
    constexpr bool is_float = is_float_type(T);
    const int nc = p->n_rows <= 1 ? 1 : p->n_rows <= 2 ? 2 : p->n_rows <= 4 ? 4 : 8;
    const bool is_act = p->mode == PRODUCT_ACT;
    if (!is_float && nc > 1) return cudaErrorInvalidValue;
    int64_t all = 0;
    for (int i = 0; i < p->n_jobs; i++) all += p->w[i].n_out;
    const bool is_small =
        !is_act && nc == 1 && all <= (int64_t)block_warps<T, 1, 1>() * blocks_per_sm<T, 1, 1>() * q->n_sm; /* a warp a row */
    const int own = nc > 1 ? 2 : is_small ? blocks_per_sm<T, 1, 1>() : blocks_per_sm<T, 1, 2>();
    const int n_slots = q->n_sm * (nc == 1 && q->per_sm ? q->per_sm : own);
    const int n_blocks = is_act ? share_act_rows(q, p, n_slots) : share_rows(p, n_slots, is_small ? 1 : 2);
    const size_t shared = shared_bytes_of(p, nc, is_float);
    if (is_small)
        return product_launch_as(product_kernel<T, 1, 1, piece_units<T, 1>()>, q, p, n_blocks, block_warps<T, 1, 1>(), shared);
    if (nc == 1)
        return product_launch_as(product_kernel<T, 1, 2, piece_units<T, 2>()>, q, p, n_blocks, block_warps<T, 1, 2>(), shared);
    if constexpr (is_float) {
        if (nc == 2) return product_launch_as(product_kernel<T, 2, 2, piece_units<T, 2>()>, q, p, n_blocks, 8, shared);
        if (nc == 4) return product_launch_as(product_kernel<T, 4, 2, piece_units<T, 2>()>, q, p, n_blocks, 8, shared);
        return product_launch_as(product_kernel<T, 8, 2, piece_units<T, 2>()>, q, p, n_blocks, 8, shared);
    }
    return cudaErrorInvalidValue;
}

/* One row, matrices of types T and T2. */
template <int T, int T2> static int32_t product_launch_mixed(cuda_queue *q, product_args *p) {
    const int n_blocks = share_rows(p, q->n_sm * blocks_per_sm<T, 1, 2>(), 2);
    return product_launch_as(product_mixed_kernel<T, T2>, q, p, n_blocks, block_warps<T, 1, 2>(), shared_bytes_of(p, 1, false));
}

#endif
