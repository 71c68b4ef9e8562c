/* Attention of rows over their pages: softmax(q . K) V, one pass with a running maximum.
 * Launch    grid (KV heads * head groups, pieces of the context, rows), 256 threads. LP lanes share a position, 8 dimensions
 *           each, for the G query heads that share its KV head; BATCH positions are on their way at once.
 * Order     a row's context is cut into cuda_attend_splits(n) pieces; the block that finishes last joins them in order. Both
 *           depend on the row's position alone.
 * Numerics  f32; exp2 of scores scaled by log2 e. A NaN anywhere in what a row sees makes its output NaN; positions it does
 *           not see are never read.
 * Bound     memory: K and V once per group of query heads. */
#include "backend/cuda/heads.cuh"

enum { ATTEND_THREADS = 256, ATTEND_WARPS = 8, ATTEND_LEAST = 64 };

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
template <int G> struct running {
    float max[G], sum[G], acc[G][8];
};

/* The factor that takes a state with maximum from to maximum to >= from; an empty state (-inf) counts for nothing. */
__device__ static inline float rebase(float from, float to) {
    return from == -INFINITY ? 0.0f : exp2f(from - to);
}

template <int KV, int LP, int G, int BATCH>
__device__ static void walk(const attend_args &p, const float (&q)[G][8], int table, int kv_head, int begin, int end, running<G> &s) {
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
    for (int i = threadIdx.x; i < n_heads * d; i += ATTEND_THREADS) p.out[(size_t)r * p.out_stride + first_head * d + i] = result[i];
    if (!p.quantised.q) return;
    const int stride = p.quantised.stride, n_units = p.heads.n_head * d / UNIT;
    for (int u = warp; u < n_heads * d / UNIT; u += ATTEND_WARPS)
        quantise_lanes(result[UNIT * u + lane], p.quantised.q + (size_t)r * stride, p.quantised.rec + (size_t)r * (stride / UNIT),
                       first_head * d / UNIT + u, n_units);
}

/* Ask for the first positions of this lane group: they were written by earlier steps, so there is nothing to wait for. */
template <int LP, int BATCH>
__device__ static void draw_first(const attend_args &p, int table, int kv_head, int begin, int end) {
    const int group = threadIdx.x / LP, part = threadIdx.x % LP;
    const heads_args &h = p.heads;
    if (part % 4 != 0 || 8 * part >= h.kv.d_pad) return; /* a request fetches at least what four lanes read */
#pragma unroll
    for (int j = 0; j < BATCH; j++) {
        const int at = begin + j * (ATTEND_THREADS / LP) + group;
        if (at >= end) return;
        const uint8_t *run = kv_run(h.kv, h.rows, table, at, kv_head, h.n_head_kv);
        const uint32_t offset = (uint32_t)((at % KV_PAGE) * h.kv.d_pad + 8 * part) * (h.kv.type == KV_F16 ? 2 : h.kv.type == KV_F32 ? 4 : 1);
        asm volatile("prefetch.global.L2 [%0];" ::"l"(run + offset));
        asm volatile("prefetch.global.L2 [%0];" ::"l"(run + h.kv.v + offset));
    }
}

/* The states of all pieces of this group's heads, joined in their order into result [n_heads][d]. */
__device__ static void join_splits(const attend_args &p, joint &shared, int r, int first_head, int n_heads, int n_splits, float *result) {
    const int d = p.heads.d_head, width = part_width(d), last = 4 * ((d + 3) / 4);
    const float *parts = p.parts + ((size_t)r * p.heads.n_head + first_head) * MAX_SPLITS * width;
    weigh(shared, parts + last, n_heads, MAX_SPLITS * width, n_splits, width, true);
    const int n_quads = last / 4;
    for (int i = threadIdx.x; i < n_heads * n_quads; i += ATTEND_THREADS) {
        const int g = i / n_quads, quad = i % n_quads;
        const float *from = parts + (size_t)g * MAX_SPLITS * width + 4 * quad;
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

/* Dynamic shared memory: q [G][d], k and v [2][d], states [ATTEND_WARPS][G][8 LP + 2]; the result takes the place of q. */
template <int KV, int LP, int G> __global__ void __launch_bounds__(ATTEND_THREADS) attend_kernel(const __grid_constant__ attend_args p) {
    extern __shared__ __align__(16) float dynamic[];
    __shared__ joint shared;
    constexpr int batch = G >= 8 ? 2 : 4, width = 8 * LP + 2;
    const heads_args &h = p.heads;
    const int d = h.d_head, n_group = h.n_head / h.n_head_kv, n_subs = (n_group + G - 1) / G;
    const int kv_head = blockIdx.x / n_subs, sub = blockIdx.x % n_subs, split = blockIdx.y, r = blockIdx.z;
    const int first_head = kv_head * n_group + sub * G, n_heads = min(G, n_group - sub * G);
    const int warp = threadIdx.x / 32, part = threadIdx.x % LP;
    float *qs = dynamic, *kvs = qs + G * d, *states = kvs + 2 * d;
    queue_trigger();
    const int pos = h.rows.pos[r], table = h.rows.table[r]; /* the batch's beginning is over before any stage starts */
    const int from = p.window > 0 && pos >= p.window ? pos - p.window + 1 : 0, n = pos + 1 - from;
    const int n_splits = p.n_splits > 1 ? splits_of(n) : 1, chunk = (n + n_splits - 1) / n_splits;
    const int begin = from + split * chunk, end = min(begin + chunk, pos + 1);
    if (split < n_splits) draw_first<LP, batch>(p, table, kv_head, begin, end);
    queue_wait();
    draw_ahead(p.next, p.next_bytes, blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), gridDim.x * gridDim.y * gridDim.z);
    if (split >= n_splits) return; /* the whole block */
    const bool is_owner = p.is_fused && end == pos + 1 && begin <= pos; /* the last pieces of an uneven cut may be empty */
    for (int i = warp; i < n_heads + (is_owner ? 2 : 0); i += ATTEND_WARPS) {
        const bool is_kv = i >= n_heads, is_v = i == n_heads + 1;
        float *head = is_kv ? kvs + (is_v ? d : 0) : qs + i * d;
        fetch_head(h, r, !is_kv ? first_head + i : h.n_head + (is_v ? h.n_head_kv : 0) + kv_head, head);
        if (p.is_fused && !is_v) turn_head(h, r, is_kv ? h.k_norm : h.q_norm, head);
        if (is_kv) kv_put(h.kv, kv_run(h.kv, h.rows, table, pos, kv_head, h.n_head_kv), is_v, pos % KV_PAGE, head, d);
    }
    __syncthreads(); /* the block reads back what it has put */

    float q[G][8];
    running<G> s;
#pragma unroll
    for (int g = 0; g < G; g++) {
        s.max[g] = -INFINITY;
        s.sum[g] = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            q[g][i] = g < n_heads && 8 * part + i < d ? qs[g * d + 8 * part + i] : 0.0f;
            s.acc[g][i] = 0;
        }
    }
    walk<KV, LP, G, batch>(p, q, table, kv_head, begin, end, s);
    join_warp<LP, G>(s);
    if (threadIdx.x % 32 < LP)
#pragma unroll
        for (int g = 0; g < G; g++) {
            float *state = states + (warp * G + g) * width;
#pragma unroll
            for (int i = 0; i < 8; i++) state[8 * part + i] = s.acc[g][i];
            if (part == 0) state[8 * LP] = s.max[g], state[8 * LP + 1] = s.sum[g];
        }
    __syncthreads();
    weigh(shared, states + 8 * LP, n_heads, width, ATTEND_WARPS, G * width, n_splits == 1);
    float *parts = p.parts + (((size_t)r * h.n_head + first_head) * MAX_SPLITS + split) * part_width(d);
    for (int i = threadIdx.x; i < n_heads * d; i += ATTEND_THREADS) {
        const int g = i / d, at = i % d;
        float acc = 0;
#pragma unroll
        for (int k = 0; k < ATTEND_WARPS; k++) acc = fmaf(shared.weight[g * MAX_SPLITS + k], states[(k * G + g) * width + at], acc);
        if (n_splits == 1)
            qs[i] = acc;
        else
            parts[(size_t)g * MAX_SPLITS * part_width(d) + at] = acc;
    }
    if (n_splits > 1) {
        if (threadIdx.x < n_heads) {
            float *tail = parts + (size_t)threadIdx.x * MAX_SPLITS * part_width(d) + 4 * ((d + 3) / 4);
            tail[0] = shared.max[threadIdx.x], tail[1] = shared.sum[threadIdx.x];
        }
        __threadfence();
        __syncthreads();
        int32_t *arrived = p.arrived + (size_t)r * gridDim.x + blockIdx.x;
        if (threadIdx.x == 0) {
            shared.is_last = atomicAdd(arrived, 1) == n_splits - 1;
            if (shared.is_last) *arrived = 0;
        }
        __syncthreads();
        if (!shared.is_last) return;
        __threadfence();
        join_splits(p, shared, r, first_head, n_heads, n_splits, qs);
    }
    __syncthreads();
    put_result(p, r, first_head, n_heads, qs);
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
    case 1: return attend_as<KV, LP, 1>(q, p);
    case 2: return attend_as<KV, LP, 2>(q, p);
    case 4: return attend_as<KV, LP, 4>(q, p);
    default:
        if constexpr (LP < 32) return attend_as<KV, LP, 8>(q, p);
        return cudaErrorInvalidValue;
    }
}

template <int KV> static int32_t attend_lanes(cuda_queue *q, const attend_args *p) {
    switch (lanes_of(p->heads.d_head)) {
    case 8: return attend_heads<KV, 8>(q, p);
    case 16: return attend_heads<KV, 16>(q, p);
    default: return attend_heads<KV, 32>(q, p);
    }
}

extern "C" int32_t cuda_attend(cuda_queue *q, const attend_args *p) {
    switch (p->heads.kv.type) {
    case KV_F16: return attend_lanes<KV_F16>(q, p);
    case KV_F32: return attend_lanes<KV_F32>(q, p);
    default: return attend_lanes<KV_Q8_0>(q, p);
    }
}
