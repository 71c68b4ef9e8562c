/* Attention of rows over their pages: softmax(q . K) V, one pass with a running maximum.
 * Launch    grid (KV heads * head groups, pieces of the context, rows), 256 threads. LP lanes share a position, 8 dimensions
 *           each, for the G query heads that share its KV head; BATCH positions are on their way at once.
 * Trigger   once Q is there: the next product's requests, which fill the memory's queue, come behind it.
 * Order     a row's context is cut into cuda_attend_splits(n) pieces; the block that finishes last joins them in order. Both
 *           depend on the row's position alone.
 * Numerics  f32; exp2 of scores scaled by log2 e. A NaN anywhere in what a row sees makes its output NaN; positions it does
 *           not see are never read.
 * Bound     memory: K and V once per group of query heads. */
#include "backend/cuda/heads.cuh"
#include "backend/cuda/rows_halves.cuh"

enum { ATTEND_THREADS = 256, ATTEND_WARPS = 8, ATTEND_LEAST = 256 };

/* Floats of a piece's state: d sums padded to four, then maximum and weight. */
__host__ __device__ static inline int part_width(int d) {
    return 4 * ((d + 3) / 4) + 4;
}

__host__ __device__ static inline int splits_of(int n) {
    const int s = (n + ATTEND_LEAST - 1) / ATTEND_LEAST;
    return s < 1 ? 1 : s > MAX_SPLITS ? MAX_SPLITS : s;
}

extern "C" int32_t cuda_attend_splits(int32_t n) {
    return splits_of(n);
}

/* Eight dimensions from part on, of slot slot. */
template <int KV> struct kv_piece;
template <> struct kv_piece<KV_F16> {
    uint4 v;
    __device__ void load(const dev_kv &kv, const uint8_t *run, bool is_v, int slot, int part) {
        v = *(const uint4 *)(run + (is_v ? kv.v : 0) + 2 * (slot * kv.d_pad + 8 * part));
    }
    __device__ void floats(float (&f)[8]) const {
        const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 t = __half22float2(*(const __half2 *)&w[i]);
            f[2 * i] = t.x, f[2 * i + 1] = t.y;
        }
    }
};
template <> struct kv_piece<KV_F32> {
    float4 a, b;
    __device__ void load(const dev_kv &kv, const uint8_t *run, bool is_v, int slot, int part) {
        const float4 *p = (const float4 *)(run + (is_v ? kv.v : 0) + 4 * (slot * kv.d_pad + 8 * part));
        a = p[0], b = p[1];
    }
    __device__ void floats(float (&f)[8]) const {
        f[0] = a.x, f[1] = a.y, f[2] = a.z, f[3] = a.w, f[4] = b.x, f[5] = b.y, f[6] = b.z, f[7] = b.w;
    }
};
template <> struct kv_piece<KV_Q8_0> {
    uint2 v;
    float d;
    __device__ void load(const dev_kv &kv, const uint8_t *run, bool is_v, int slot, int part) {
        v = *(const uint2 *)(run + (is_v ? kv.v : 0) + slot * kv.d_pad + 8 * part);
        d = __half2float(((const __half *)(run + (is_v ? kv.v_scales : kv.k_scales)))[slot * (kv.d_pad / 32) + part / 4]);
    }
    __device__ void floats(float (&f)[8]) const {
#pragma unroll
        for (int i = 0; i < 8; i++) f[i] = d * (float)(int8_t)((i < 4 ? v.x : v.y) >> (8 * (i % 4)));
    }
};

/* Running softmax of G heads over the positions a lane group has seen. */
template <int G> struct running { float max[G], sum[G], acc[G][8]; };

/* The factor that takes a state with maximum from to maximum to >= from; an empty state (-inf) counts for nothing. */
__device__ static inline float rebase(float from, float to) {
    return from == -INFINITY ? 0.0f : exp2f(from - to);
}

template <int KV, int LP, int G, int BATCH>
__device__ static void walk(const attend_args &p, const float (&q)[G][8], int table, int kv_head, int begin, int end,
                            running<G> &s) {
    constexpr int n_groups = ATTEND_THREADS / LP;
    const int group = threadIdx.x / LP, part = threadIdx.x % LP;
    const heads_args &h = p.heads;
    const bool is_live = 8 * part < h.kv.d_pad;
    for (int base = begin; base < end; base += BATCH * n_groups) { /* the same for all: shuffles below */
        kv_piece<KV> k[BATCH], v[BATCH];
        float score[BATCH][G];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            const int at = min(base + j * n_groups + group, end - 1); /* a position in range, whatever becomes of it */
            const uint8_t *run = kv_run(h.kv, h.rows, table, at, kv_head, h.n_head_kv);
            k[j] = kv_piece<KV>{}, v[j] = kv_piece<KV>{};
            if (is_live) k[j].load(h.kv, run, false, at % KV_PAGE, part), v[j].load(h.kv, run, true, at % KV_PAGE, part);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            float f[8];
            k[j].floats(f);
#pragma unroll
            for (int g = 0; g < G; g++) {
                float dot = q[g][0] * f[0];
#pragma unroll
                for (int i = 1; i < 8; i++) dot = fmaf(q[g][i], f[i], dot);
#pragma unroll
                for (int m = LP / 2; m; m >>= 1) dot += __shfl_xor_sync(~0u, dot, m);
                const float capped = softcap(dot * p.scale, p.softcap) * 1.4426950408889634f;
                score[j][g] = base + j * n_groups + group < end ? capped : -INFINITY;
            }
        }
#pragma unroll
        for (int g = 0; g < G; g++) {
            float max = s.max[g];
#pragma unroll
            for (int j = 0; j < BATCH; j++) max = fmaxf(max, score[j][g]);
            const float factor = rebase(s.max[g], max), about = max == -INFINITY ? 0.0f : max;
            s.max[g] = max;
            s.sum[g] *= factor;
#pragma unroll
            for (int i = 0; i < 8; i++) s.acc[g][i] *= factor;
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                score[j][g] = exp2f(score[j][g] - about);
                s.sum[g] += score[j][g];
            }
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            float f[8];
            v[j].floats(f);
#pragma unroll
            for (int g = 0; g < G; g++)
#pragma unroll
                for (int i = 0; i < 8; i++) s.acc[g][i] = fmaf(score[j][g], f[i], s.acc[g][i]);
        }
    }
}

/* Join the lane groups of a warp, pair by pair. */
template <int LP, int G> __device__ static void join_warp(running<G> &s) {
#pragma unroll
    for (int m = LP; m < 32; m <<= 1)
#pragma unroll
        for (int g = 0; g < G; g++) {
            const float other = __shfl_xor_sync(~0u, s.max[g], m), max = fmaxf(s.max[g], other);
            const float mine = rebase(s.max[g], max), theirs = rebase(other, max);
            s.max[g] = max;
            s.sum[g] = s.sum[g] * mine + __shfl_xor_sync(~0u, s.sum[g], m) * theirs;
#pragma unroll
            for (int i = 0; i < 8; i++) s.acc[g][i] = s.acc[g][i] * mine + __shfl_xor_sync(~0u, s.acc[g][i], m) * theirs;
        }
}

/* Shared memory of a block beside q, k, v and the states. */
struct joint {
    float weight[8 * MAX_SPLITS]; /* [head][state]: what each state counts for */
    float max[8], sum[8];
    bool is_last;
};

/* The weights of n <= 32 states of each of n_heads heads: a warp a head, a lane a state. State k of head g begins its maximum
 * and sum at tails + g * head_step + k * step. With is_final the weights are divided by the sum of all. */
__device__ static void weigh(joint &to, const float *tails, int n_heads, int head_step, int n, int step, bool is_final) {
    const int g = threadIdx.x / 32, k = threadIdx.x % 32;
    if (g < n_heads) {
        const float *tail = tails + (size_t)g * head_step + (size_t)k * step;
        const float mine = k < n ? tail[0] : -INFINITY, sum = k < n ? tail[1] : 0.0f;
        const float max = warp_max(mine), weight = rebase(mine, max), all = warp_sum(sum * weight);
        to.weight[g * MAX_SPLITS + k] = is_final ? weight / all : weight;
        if (k == 0) to.max[g] = max, to.sum[g] = all;
    }
    __syncthreads();
}

/* The finished heads of one group: floats, and as the output projection takes them. result is [G][d] in shared memory. */
__device__ static void put_result(const attend_args &p, int r, int first_head, int n_heads, const float *result) {
    const int d = p.heads.d_head, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (p.halves) {
        for (int i = 4 * threadIdx.x; i < n_heads * d; i += 4 * ATTEND_THREADS)
            put_quad(p.halves, r, p.heads.n_head * d, first_head * d + i, *(const float4 *)(result + i), 1.0f);
        return;
    }
    for (int i = threadIdx.x; i < n_heads * d; i += ATTEND_THREADS)
        p.out[(size_t)r * p.out_stride + first_head * d + i] = result[i];
    if (!p.quantised.q) return;
    const int stride = p.quantised.stride;
    for (int u = warp; u < n_heads * d / UNIT; u += ATTEND_WARPS)
        quantise_lanes(result[UNIT * u + lane], p.quantised.q + (size_t)r * stride, p.quantised.rec + (size_t)r * (stride / UNIT),
                       first_head * d / UNIT + u);
}

/* The states of all pieces of this group's heads, joined in their order into result [n_heads][d]. */
__device__ static void join_splits(const attend_args &p, joint &shared, int r, int first_head, int n_heads, int n_splits,
                                   float *result) {
    const int d = p.heads.d_head, width = part_width(d), last = 4 * ((d + 3) / 4);
    const float *parts = p.parts + ((size_t)r * p.heads.n_head + first_head) * p.most_splits * width;
    weigh(shared, parts + last, n_heads, p.most_splits * width, n_splits, width, true);
    const int n_quads = last / 4;
    for (int i = threadIdx.x; i < n_heads * n_quads; i += ATTEND_THREADS) {
        const int g = i / n_quads, quad = i % n_quads;
        const float *from = parts + (size_t)g * p.most_splits * width + 4 * quad;
        float4 acc = {};
#pragma unroll 16
        for (int k = 0; k < n_splits; k++) {
            const float4 v = *(const float4 *)(from + (size_t)k * width);
            const float f = shared.weight[g * MAX_SPLITS + k];
            acc.x = fmaf(f, v.x, acc.x), acc.y = fmaf(f, v.y, acc.y), acc.z = fmaf(f, v.z, acc.z), acc.w = fmaf(f, v.w, acc.w);
        }
        const float v[4] = {acc.x, acc.y, acc.z, acc.w};
        for (int e = 0; e < 4 && 4 * quad + e < d; e++) result[g * d + 4 * quad + e] = v[e];
    }
}

/* Which part of which row's context a block has. Positions are cut at multiples of 16. */
struct piece {
    int row, kv_head, first_head, n_heads, split, n_splits;
    int pos, table, from, begin, end; /* of positions [from, pos] this block takes those of [begin, end) */
};

/* Read before the kernels ahead are done: the batch's beginning is over before any stage starts. */
__device__ static piece piece_of(const attend_args &p, int most_heads) {
    const heads_args &h = p.heads;
    const int n_group = h.n_head / h.n_head_kv, n_subs = (n_group + most_heads - 1) / most_heads, sub = blockIdx.x % n_subs;
    piece c;
    c.row = blockIdx.z, c.split = blockIdx.y, c.kv_head = blockIdx.x / n_subs;
    c.first_head = c.kv_head * n_group + sub * most_heads;
    c.n_heads = min(most_heads, n_group - sub * most_heads);
    c.pos = h.rows.pos[c.row], c.table = h.rows.table[c.row];
    c.from = p.window > 0 && c.pos >= p.window ? c.pos - p.window + 1 : 0;
    const int aligned = c.from & ~15, n = c.pos + 1 - aligned;
    c.n_splits = p.n_splits > 1 ? splits_of(c.pos + 1 - c.from) : 1;
    const int chunk = ((n + c.n_splits - 1) / c.n_splits + 15) & ~15;
    c.begin = max(aligned + c.split * chunk, c.from);
    c.end = min(aligned + (c.split + 1) * chunk, c.pos + 1);
    return c;
}

/* The query heads of a piece into shared memory; fused, the block that has the row's own position also puts its K and V. */
__device__ static void begin_piece(const attend_args &p, const piece &c, float *qs, float *kvs) {
    const heads_args &h = p.heads;
    const int warp = threadIdx.x / 32, d = h.d_head;
    const bool is_owner =
        p.is_fused && c.end == c.pos + 1 && c.begin <= c.pos; /* the last pieces of an uneven cut may be empty */
    for (int i = warp; i < c.n_heads + (is_owner ? 2 : 0); i += ATTEND_WARPS) {
        const bool is_kv = i >= c.n_heads, is_v = i == c.n_heads + 1;
        float *head = is_kv ? kvs + (is_v ? d : 0) : qs + i * d;
        fetch_head(h, c.row, !is_kv ? c.first_head + i : h.n_head + (is_v ? h.n_head_kv : 0) + c.kv_head, head);
        if (p.is_fused && !is_v) turn_head(h, c.row, is_kv ? h.k_norm : h.q_norm, head);
        if (is_kv) kv_put(h.kv, kv_run(h.kv, h.rows, c.table, c.pos, c.kv_head, h.n_head_kv), is_v, c.pos % KV_PAGE, head, d);
    }
    __syncthreads(); /* the block reads back what it has put */
}

/* States of the block's warps, [ATTEND_WARPS][most_heads][width] with maximum and sum behind d_padded values, into the row's
 * result or, where the context is in several pieces, into parts; the last block to arrive joins those. */
__device__ static void end_piece(const attend_args &p, const piece &c, joint &shared, const float *states, int most_heads,
                                 int width, int d_padded, float *result) {
    const heads_args &h = p.heads;
    const int d = h.d_head;
    __syncthreads();
    weigh(shared, states + d_padded, c.n_heads, width, ATTEND_WARPS, most_heads * width, c.n_splits == 1);
    float *parts = p.parts + (((size_t)c.row * h.n_head + c.first_head) * p.most_splits + c.split) * part_width(d);
    for (int i = threadIdx.x; i < c.n_heads * d; i += ATTEND_THREADS) {
        const int g = i / d, at = i % d;
        float acc = 0;
#pragma unroll
        for (int k = 0; k < ATTEND_WARPS; k++)
            acc = fmaf(shared.weight[g * MAX_SPLITS + k], states[(k * most_heads + g) * width + at], acc);
        if (c.n_splits == 1)
            result[i] = acc;
        else
            parts[(size_t)g * p.most_splits * part_width(d) + at] = acc;
    }
    if (c.n_splits > 1) {
        if (threadIdx.x < c.n_heads) {
            float *tail = parts + (size_t)threadIdx.x * p.most_splits * part_width(d) + 4 * ((d + 3) / 4);
            tail[0] = shared.max[threadIdx.x], tail[1] = shared.sum[threadIdx.x];
        }
        __threadfence();
        __syncthreads();
        int32_t *arrived = p.arrived + (size_t)c.row * gridDim.x + blockIdx.x;
        if (threadIdx.x == 0) {
            shared.is_last = atomicAdd(arrived, 1) == c.n_splits - 1;
            if (shared.is_last) *arrived = 0;
        }
        __syncthreads();
        if (!shared.is_last) return;
        __threadfence();
        join_splits(p, shared, c.row, c.first_head, c.n_heads, c.n_splits, result);
    }
    __syncthreads();
    put_result(p, c.row, c.first_head, c.n_heads, result);
}

/* Any KV type, any head.
 * Dynamic shared memory: q [G][d], k and v [2][d], states [ATTEND_WARPS][G][8 LP + 2]; the result takes the place of q. */
template <int KV, int LP, int G>
__global__ void __launch_bounds__(ATTEND_THREADS) attend_kernel(const __grid_constant__ attend_args p) {
    extern __shared__ __align__(16) float dynamic[];
    __shared__ joint shared;
    constexpr int batch = G >= 8 ? 2 : 4, width = 8 * LP + 2;
    const int d = p.heads.d_head, warp = threadIdx.x / 32, part = threadIdx.x % LP;
    float *qs = dynamic, *kvs = qs + G * d, *states = kvs + 2 * d;
    const piece c = piece_of(p, G);
    queue_wait();
    if (c.split >= c.n_splits) return; /* the whole block */
    begin_piece(p, c, qs, kvs);
    queue_trigger();
    float q[G][8];
    running<G> s;
#pragma unroll
    for (int g = 0; g < G; g++) {
        s.max[g] = -INFINITY;
        s.sum[g] = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            q[g][i] = g < c.n_heads && 8 * part + i < d ? qs[g * d + 8 * part + i] : 0.0f;
            s.acc[g][i] = 0;
        }
    }
    walk<KV, LP, G, batch>(p, q, c.table, c.kv_head, c.begin, c.end, s);
    join_warp<LP, G>(s);
    if (threadIdx.x % 32 < LP)
#pragma unroll
        for (int g = 0; g < G; g++) {
            float *state = states + (warp * G + g) * width;
#pragma unroll
            for (int i = 0; i < 8; i++) state[8 * part + i] = s.acc[g][i];
            if (part == 0) state[8 * LP] = s.max[g], state[8 * LP + 1] = s.sum[g];
        }
    end_piece(p, c, shared, states, G, width, 8 * LP, qs);
}

/* ---------------------------------------------------------------- tensor cores */

/* KV_F16 and heads of D = 64 or 128: a warp meets 16 positions with up to 8 query heads at a time, all operands straight from
 * memory. Query heads are the rows of the matrix operations (of 16 rows, 8 stay empty), positions and then dimensions the
 * columns. The order of dimensions within a sum is free, so a lane takes 16 bytes of K, eight dimensions, as the operands of two
 * operations; of V it takes 16 bytes of four positions and pairs them. Q goes in as the sum of two halves, so scores are as
 * exact as f32; the weights are rounded to halves. */
#if __CUDA_ARCH__ >= 800
__device__ static inline void multiply(float &c0, float &c1, uint32_t a0, uint32_t a2, uint32_t b0, uint32_t b1) {
    [[maybe_unused]] float unused0, unused1;
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%5}, {%7,%8}, {%9,%10,%11,%11};"
                 : "=f"(c0), "=f"(c1), "=f"(unused0), "=f"(unused1)
                 : "r"(a0), "r"(0u), "r"(a2), "r"(b0), "r"(b1), "f"(c0), "f"(c1), "f"(0.0f));
}

__device__ static inline uint32_t pack_halves(float a, float b) {
    const __half2 h = __floats2half2_rn(a, b);
    return *(const uint32_t *)&h;
}

/* Q of head lane / 4: [dimensions 32 s + 8 (lane % 4) and on], value and what rounding it to halves lost. */
template <int D> struct q_operand {
    uint32_t high[D / 32][4], low[D / 32][4];
    __device__ void load(const float *qs, int n_heads) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int s = 0; s < D / 32; s++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *from = qs + g * D + 32 * s + 8 * t + 2 * i;
                const float a = g < n_heads ? from[0] : 0.0f, b = g < n_heads ? from[1] : 0.0f;
                high[s][i] = pack_halves(a, b);
                const float2 back = __half22float2(*(const __half2 *)&high[s][i]);
                low[s][i] = pack_halves(a - back.x, b - back.y);
            }
    }
};

/* State of head lane / 4: acc[h][j] and acc[h][j + 8] are dimensions 64 h + 16 (lane % 4) + j and + 8 + j. */
template <int D> struct head_state { float max, sum, acc[D / 64][16]; };

/* K and V of the 16 positions from base on into the second-level cache, a line of each a lane. Older positions than the row's own
 * are there before the kernel ahead is done; its own is only asked for, and read once it is. */
template <int D> __device__ static inline void ask_16(const attend_args &p, const piece &c, int base) {
    const heads_args &h = p.heads;
    const int at = 128 * (threadIdx.x % 32);
    if (base >= c.end || at >= 16 * D * 2) return;
    const uint8_t *run = kv_run(h.kv, h.rows, c.table, base, c.kv_head, h.n_head_kv) + (base % KV_PAGE) * D * 2;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(run + at));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(run + h.kv.v + at));
}

template <int D>
__device__ static void meet_16(const attend_args &p, const piece &c, const q_operand<D> &q, int base, head_state<D> &s) {
    const heads_args &h = p.heads;
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint8_t *run =
        kv_run(h.kv, h.rows, c.table, base, c.kv_head, h.n_head_kv) + (base % KV_PAGE) * D * 2; /* all 16 in one page */
    uint4 k[2][D / 32], v[4][D / 64];
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < D / 32; i++) k[j][i] = *(const uint4 *)(run + (8 * j + g) * D * 2 + 64 * i + 16 * t);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int at = 2 * t + (j & 1) + 8 * (j >> 1);
#pragma unroll
        for (int i = 0; i < D / 64; i++) /* what is not seen may be anything, and nothing times NaN is NaN */
            v[j][i] = base + at >= c.begin && base + at < c.end ? *(const uint4 *)(run + h.kv.v + at * D * 2 + 128 * i + 16 * g)
                                                                : uint4{};
    }
    float score[2][2] = {};
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < D / 32; i++) {
            multiply(score[j][0], score[j][1], q.high[i][0], q.high[i][1], k[j][i].x, k[j][i].y);
            multiply(score[j][0], score[j][1], q.high[i][2], q.high[i][3], k[j][i].z, k[j][i].w);
            multiply(score[j][0], score[j][1], q.low[i][0], q.low[i][1], k[j][i].x, k[j][i].y);
            multiply(score[j][0], score[j][1], q.low[i][2], q.low[i][3], k[j][i].z, k[j][i].w);
        }
    float max = s.max;
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int at = base + 8 * j + 2 * t + e;
            const float capped = softcap(score[j][e] * p.scale, p.softcap) * 1.4426950408889634f;
            score[j][e] = at >= c.begin && at < c.end ? capped : -INFINITY;
            max = fmaxf(max, score[j][e]);
        }
    max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
    max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
    const float factor = rebase(s.max, max), about = max == -INFINITY ? 0.0f : max;
    s.max = max;
    s.sum *= factor;
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            score[j][e] = exp2f(score[j][e] - about);
            s.sum += score[j][e];
        }
    const uint32_t a0 = pack_halves(score[0][0], score[0][1]), a2 = pack_halves(score[1][0], score[1][1]);
#pragma unroll
    for (int i = 0; i < D / 64; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) { /* dimensions 64 i + 8 n + j, n the column */
            const uint32_t select = j % 2 ? 0x7632 : 0x5410;
            const uint32_t w[4] = {(&v[0][i].x)[j / 2], (&v[1][i].x)[j / 2], (&v[2][i].x)[j / 2], (&v[3][i].x)[j / 2]};
            s.acc[i][j] *= factor, s.acc[i][j + 8] *= factor;
            multiply(s.acc[i][j], s.acc[i][j + 8], a0, a2, __byte_perm(w[0], w[1], select), __byte_perm(w[2], w[3], select));
        }
}
#endif

/* Dynamic shared memory: q [8][D], k and v [2][D], states [ATTEND_WARPS][8][D + 4]. */
template <int D>
__global__ void __launch_bounds__(ATTEND_THREADS, D == 64 ? 2 : 1) attend_halves_kernel(const __grid_constant__ attend_args p) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(16) float dynamic[];
    __shared__ joint shared;
    constexpr int width = D + 4;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float *qs = dynamic, *kvs = qs + 8 * D, *states = kvs + 2 * D;
    const piece c = piece_of(p, 8);
    const int step = 16 * ATTEND_WARPS, first = (c.begin & ~15) + 16 * warp;
    ask_16<D>(p, c, first);
    queue_wait();
    if (c.split >= c.n_splits) return; /* the whole block */
    begin_piece(p, c, qs, kvs);
    queue_trigger();
    q_operand<D> q;
    q.load(qs, c.n_heads);
    head_state<D> s = {};
    s.max = -INFINITY;
    for (int base = first; base < c.end; base += step) {
        ask_16<D>(p, c, base + step);
        meet_16<D>(p, c, q, base, s);
    }
    s.sum += __shfl_xor_sync(~0u, s.sum, 1);
    s.sum += __shfl_xor_sync(~0u, s.sum, 2);
    float *state = states + (warp * 8 + g) * width;
    if (g < c.n_heads) {
#pragma unroll
        for (int i = 0; i < D / 64; i++)
#pragma unroll
            for (int j = 0; j < 16; j += 4)
                *(float4 *)(state + 64 * i + 16 * t + j) =
                    make_float4(s.acc[i][j], s.acc[i][j + 1], s.acc[i][j + 2], s.acc[i][j + 3]);
        if (t == 0) state[D] = s.max, state[D + 1] = s.sum;
    }
    end_piece(p, c, shared, states, 8, width, D, qs);
#endif
}

/* ---------------------------------------------------------------- choice */

static int lanes_of(int d) {
    return d <= 64 ? 8 : d <= 128 ? 16 : 32;
}
/* Query heads a block takes: registers and shared memory hold 8, of long heads 4. */
static int heads_of(int n_group, int d) {
    const int most = d > 128 ? 4 : 8;
    int g = 1;
    while (g < n_group && g < most) g *= 2;
    return g;
}

extern "C" bool cuda_attend_can_fuse(int32_t n_group, int32_t d_head) {
    return n_group <= heads_of(n_group, d_head);
}

template <int KV, int LP, int G> static int32_t attend_as(cuda_queue *q, const attend_args *p) {
    const heads_args *h = &p->heads;
    const int n_group = h->n_head / h->n_head_kv;
    const size_t shared = sizeof(float) * ((size_t)(G + 2) * h->d_head + (size_t)ATTEND_WARPS * G * (8 * LP + 2));
    const dim3 grid((unsigned)(h->n_head_kv * ((n_group + G - 1) / G)), (unsigned)p->n_splits, (unsigned)h->n_rows);
    if (shared > 48 * 1024) {
        const cudaError_t e =
            cudaFuncSetAttribute(attend_kernel<KV, LP, G>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (e != cudaSuccess) return e;
    }
    return launch(attend_kernel<KV, LP, G>, grid, ATTEND_THREADS, shared, q, *p);
}

template <int KV, int LP> static int32_t attend_heads(cuda_queue *q, const attend_args *p) {
    switch (heads_of(p->heads.n_head / p->heads.n_head_kv, p->heads.d_head)) {
    case 1:
        return attend_as<KV, LP, 1>(q, p);
    case 2:
        return attend_as<KV, LP, 2>(q, p);
    case 4:
        return attend_as<KV, LP, 4>(q, p);
    default:
        if constexpr (LP < 32) return attend_as<KV, LP, 8>(q, p);
        return cudaErrorInvalidValue;
    }
}

template <int KV> static int32_t attend_lanes(cuda_queue *q, const attend_args *p) {
    switch (lanes_of(p->heads.d_head)) {
    case 8:
        return attend_heads<KV, 8>(q, p);
    case 16:
        return attend_heads<KV, 16>(q, p);
    default:
        return attend_heads<KV, 32>(q, p);
    }
}

template <int D> static int32_t attend_halves(cuda_queue *q, const attend_args *p) {
    const heads_args *h = &p->heads;
    const int n_group = h->n_head / h->n_head_kv;
    const size_t shared = sizeof(float) * (10 * D + ATTEND_WARPS * 8 * (D + 4));
    const dim3 grid((unsigned)(h->n_head_kv * ((n_group + 7) / 8)), (unsigned)p->n_splits, (unsigned)h->n_rows);
    const cudaError_t e = cudaFuncSetAttribute(attend_halves_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    return e != cudaSuccess ? e : launch(attend_halves_kernel<D>, grid, ATTEND_THREADS, shared, q, *p);
}

extern "C" int32_t cuda_attend(cuda_queue *q, const attend_args *p) {
    if (q->has_mma && p->heads.kv.type == KV_F16 && p->heads.d_head == 64) return attend_halves<64>(q, p);
    if (q->has_mma && p->heads.kv.type == KV_F16 && p->heads.d_head == 128) return attend_halves<128>(q, p);
    switch (p->heads.kv.type) {
    case KV_F16:
        return attend_lanes<KV_F16>(q, p);
    case KV_F32:
        return attend_lanes<KV_F32>(q, p);
    default:
        return attend_lanes<KV_Q8_0>(q, p);
    }
}
