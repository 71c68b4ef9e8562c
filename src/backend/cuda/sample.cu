/* From logits to a token: what runtime/sampler.c does, step for step, for rows of logits in device memory.
 * Launch    a block of 1024 threads a row.
 * Order     bias, penalties, top-k, top-p, min-p, temperature. Candidates are put in order (logit, then lower id) as far as the
 *           filters may reach: those within 8, else 20 of the best, else all; in shared memory where they fit.
 * Numerics  weights and their sums in double, in the reference's order where there is an order; a draw over a whole vocabulary
 * adds in another one, so it may differ where the draw falls within a rounding of a boundary. Bound     a multiprocessor's
 * reading: 5 us for each pass over 128 k logits; two to five passes. */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/sample.h"

enum { SAMPLE_THREADS = 1024, SAMPLE_WARPS = SAMPLE_THREADS / 32 };

/* Greater for a greater logit, then for a lower id; no finite logit gives 0. */
__device__ static inline uint64_t key_of(float logit, int id) {
    const uint32_t bits = __float_as_uint(logit + 0.0f); /* -0 and 0 are one */
    const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)ordered << 32 | (0xffffffffu - (uint32_t)id);
}
__device__ static inline int id_of(uint64_t key) {
    return (int)(0xffffffffu - (uint32_t)key);
}
__device__ static inline float logit_of(uint64_t key) {
    const uint32_t ordered = (uint32_t)(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

struct sample_block {
    uint64_t key[SAMPLE_WARPS];
    double sum[SAMPLE_WARPS];
    int n, id;
    bool is_bad;
};

/* The sum over the block, in every thread, in a fixed order. */
__device__ static double sum_block(sample_block &s, double v) {
    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(~0u, v, m);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.sum[threadIdx.x / 32] = v;
    __syncthreads();
    double all = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) all += s.sum[i];
    return all;
}

/* The best item, in every thread; s.is_bad learns whether a value is not finite (-inf is allowed where may_forbid). */
__device__ static uint64_t best_of(sample_block &s, const float *x, int n, bool may_forbid) {
    uint64_t best = 0;
    bool is_bad = false;
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) {
        const float v = x[i];
        is_bad |= !(v < INFINITY) || (v == -INFINITY && !may_forbid);
        best = max(best, key_of(v, i));
    }
    for (int m = 16; m; m >>= 1) best = max(best, __shfl_xor_sync(~0u, best, m));
    __syncthreads();
    if (threadIdx.x == 0) s.is_bad = false;
    if (threadIdx.x % 32 == 0) s.key[threadIdx.x / 32] = best;
    __syncthreads();
    if (is_bad) s.is_bad = true;
    for (int i = 0; i < SAMPLE_WARPS; i++) best = max(best, s.key[i]);
    __syncthreads();
    return best;
}

__device__ static double mass_of(sample_block &s, const float *x, int n, double max, double per) {
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) sum += exp(((double)x[i] - max) * per);
    return sum_block(s, sum);
}

/* A copy of the logits with bias and penalties. */
__device__ static void adjust(const sample_args &p, const sample_how &how, const float *from, float *to, int32_t *counts) {
    const int32_t *window = p.lists + how.window_at, *ids = p.lists + how.bias_at;
    const float *values = (const float *)(p.lists + how.values_at);
    for (int i = threadIdx.x; i < p.n_vocab; i += SAMPLE_THREADS) to[i] = from[i];
    for (int i = threadIdx.x; i < how.n_window; i += SAMPLE_THREADS) atomicAdd(counts + window[i], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < how.n_bias; i += SAMPLE_THREADS) {
        bool is_first = true;
        for (int j = 0; j < i && is_first; j++) is_first = ids[j] != ids[i];
        for (int j = i; is_first && j < how.n_bias; j++)
            if (ids[j] == ids[i]) to[ids[i]] += values[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < how.n_window; i += SAMPLE_THREADS) {
        const int id = window[i], count = atomicExch(counts + id, 0);
        if (count == 0) continue; /* another occurrence has done it */
        float v = to[id];
        v = v <= 0 ? __fmul_rn(v, how.repeat_penalty) : __fdiv_rn(v, how.repeat_penalty);
        to[id] = __fsub_rn(v, __fadd_rn(__fmul_rn((float)count, how.frequency_penalty), how.presence_penalty));
    }
    __syncthreads();
}

/* Greatest first; n a power of two. */
__device__ static void sort_keys(uint64_t *keys, int n) {
    for (int size = 2; size <= n; size *= 2)
        for (int step = size / 2; step; step /= 2) {
            for (int i = threadIdx.x; i < n / 2; i += SAMPLE_THREADS) {
                const int a = 2 * step * (i / step) + i % step, b = a + step;
                const uint64_t x = keys[a], y = keys[b];
                if ((x < y) == ((a & size) == 0)) keys[a] = y, keys[b] = x;
            }
            __syncthreads();
        }
}

/* Items of at least low into keys, in any order; returns how many there are (which may be more than most: then keys is rubbish).
 */
__device__ static int gather(sample_block &s, const float *x, int n, float low, uint64_t *keys, int most) {
    __syncthreads();
    if (threadIdx.x == 0) s.n = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS)
        if (x[i] >= low && x[i] > -INFINITY) {
            const int at = atomicAdd(&s.n, 1);
            if (at < most) keys[at] = key_of(x[i], i);
        }
    __syncthreads();
    return s.n;
}

/* The draw over the whole vocabulary: highest id first, as the reference's unfiltered list stands. */
__device__ static int draw_all(sample_block &s, const float *x, int n, double max, double per, double u) {
    const int each = (n + SAMPLE_THREADS - 1) / SAMPLE_THREADS, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int from = n - 1 - (int)threadIdx.x * each; /* this thread's ids, downwards */
    double mine = 0;
    for (int i = from; i > from - each && i >= 0; i--) mine += exp(((double)x[i] - max) * per);
    double before = mine; /* inclusive, then exclusive, of the threads ahead */
    for (int m = 1; m < 32; m *= 2) {
        const double v = __shfl_up_sync(~0u, before, m);
        if (lane >= m) before += v;
    }
    __syncthreads();
    if (lane == 31) s.sum[warp] = before;
    if (threadIdx.x == 0) s.id = -1;
    __syncthreads();
    double all = 0, ahead = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) {
        if (i == warp) ahead = all;
        all += s.sum[i];
    }
    before += ahead - mine;
    const double target = u * all;
    for (int i = from; i > from - each && i >= 0 && before <= target; i--) {
        before += exp(((double)x[i] - max) * per);
        if (before > target) atomicMax(&s.id, i); /* roundings may let two threads find one: the earlier counts */
    }
    __syncthreads();
    return s.id;
}

/* Thread 0, candidates in order with p relative to the best: how many top-k, top-p and min-p keep. */
__device__ static int keep(const sample_how &how, const double *p, int n, bool is_top_k, double mass) {
    const int k = is_top_k ? min(how.top_k, n) : n;
    double taken = 0;
    if (is_top_k)
        for (int i = 0; i < k; i++) mass += p[i];
    int kept = 0;
    while (kept < k) {
        if (kept > 0 && p[kept] < (double)how.min_p) break;
        if (kept > 0 && how.top_p < 1.0f && taken >= (double)how.top_p * mass) break;
        taken += p[kept++];
    }
    return kept;
}

__device__ static int draw_kept(const sample_args &p, const sample_how &how, sample_block &s, const float *x, float best,
                                uint64_t *here, double *weights_here, uint64_t *keys_far, double *weights_far) {
    const bool is_top_k = how.top_k > 0 && how.top_k < p.n_vocab;
    const double max = (double)best;
    const double mass = !is_top_k && how.top_p < 1.0f ? mass_of(s, x, p.n_vocab, max, 1.0) : 0;
    uint64_t *keys = here;
    double *weights = weights_here;
    int n = 0, most = SAMPLE_HERE;
    for (int look = 0; look < 3; look++) {
        const float reach = look == 0 ? 8.0f : look == 1 ? 20.0f : INFINITY;
        if (look == 2) keys = keys_far, weights = weights_far, most = p.n_padded;
        n = gather(s, x, p.n_vocab, look == 2 ? -INFINITY : best - reach, keys, most);
        if (look == 2) break;
        if (n > most) {
            look = 1; /* too many: all of them, in scratch memory */
            continue;
        }
        if (is_top_k ? n >= how.top_k : exp(1.0 - (double)reach) < (double)how.min_p) break;
        if (!is_top_k && how.top_p < 1.0f) { /* the candidates' mass, whatever their order */
            double sum = 0;
            for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) sum += exp((double)logit_of(keys[i]) - max);
            if (sum_block(s, sum) * (1 - 1e-12) >= (double)how.top_p * mass) break;
        }
    }
    int padded = 2;
    while (padded < n) padded *= 2;
    for (int i = n + (int)threadIdx.x; i < padded; i += SAMPLE_THREADS) keys[i] = 0;
    __syncthreads();
    sort_keys(keys, padded);
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) weights[i] = exp((double)logit_of(keys[i]) - max);
    __syncthreads();
    if (threadIdx.x == 0) s.n = keep(how, weights, n, is_top_k, mass);
    __syncthreads();
    const int kept = s.n;
    for (int i = threadIdx.x; i < kept; i += SAMPLE_THREADS)
        weights[i] = exp(((double)logit_of(keys[i]) - max) / (double)how.temperature);
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0, cumulative = 0;
        int i = 0;
        for (int j = kept - 1; j >= 0; j--) sum += weights[j];
        for (; i < kept - 1; i++) {
            cumulative += weights[i];
            if (cumulative > how.u * sum) break;
        }
        s.id = id_of(keys[i]);
    }
    __syncthreads();
    return s.id;
}

__global__ void __launch_bounds__(SAMPLE_THREADS) choose_kernel(const __grid_constant__ sample_args p) {
    __shared__ sample_block s;
    __shared__ uint64_t here[SAMPLE_HERE];
    __shared__ double weights_here[SAMPLE_HERE];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    const sample_how how = p.how[r];
    const float *raw = p.logits + (size_t)r * p.n_vocab, *x = raw;
    uint64_t best = best_of(s, raw, p.n_vocab, false);
    if (s.is_bad) {
        if (threadIdx.x == 0) p.out[r] = sample_result{SAMPLE_NOT_FINITE, 0.0f};
        return;
    }
    const double top = (double)logit_of(best);
    double sum = 0; /* of the log-probability: f32 terms will do */
    for (int i = threadIdx.x; i < p.n_vocab; i += SAMPLE_THREADS) sum += (double)__expf(raw[i] - (float)top);
    sum = sum_block(s, sum);
    if (how.n_window > 0 || how.n_bias > 0) {
        float *to = p.adjusted + (size_t)r * p.n_vocab;
        adjust(p, how, raw, to, p.counts + (size_t)r * p.n_vocab);
        x = to;
        best = best_of(s, x, p.n_vocab, true);
    }
    const float high = logit_of(best);
    int id = id_of(best);
    if (!(high > -INFINITY && high < INFINITY)) {
        id = SAMPLE_FORBIDDEN;
    } else if (how.temperature > 0.0f) {
        const bool is_filtered = (how.top_k > 0 && how.top_k < p.n_vocab) || how.top_p < 1.0f || how.min_p > 0.0f;
        const int drawn = is_filtered ? draw_kept(p, how, s, x, high, here, weights_here, p.keys + (size_t)r * p.n_padded,
                                                  p.weights + (size_t)r * p.n_padded)
                                      : draw_all(s, x, p.n_vocab, (double)high, 1.0 / (double)how.temperature, how.u);
        if (drawn >= 0) id = drawn;
    }
    if (threadIdx.x == 0) p.out[r] = sample_result{id, id < 0 ? 0.0f : (float)((double)raw[id] - (top + log(sum)))};
}

extern "C" int32_t cuda_choose(cuda_queue *q, const sample_args *p) {
    return launch(choose_kernel, dim3((unsigned)p->n_rows), SAMPLE_THREADS, 0, q, *p);
}
