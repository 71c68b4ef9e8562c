/* From logits to a token: what runtime/sampler.c does, step for step, for rows of logits in device memory.
 * Launch    survey: SAMPLE_SLICES blocks a row, which apply bias and penalties and find what is greatest; choose: a block of 1024
 *           threads a row.
 * Order     bias, penalties, top-k, top-p, min-p, temperature. Candidates are put in order (logit, then lower id) as far as the
 *           filters may reach: those within 8, else 20 of the best, else all; in shared memory where they fit.
 * Numerics  weights and their sums in double, in the reference's order where there is an order; a draw over a whole vocabulary
 * adds in another one, so it may differ where the draw falls within a rounding of a boundary. Bound     latency; without greedy
 * a multiprocessor's reading: 5 us for each pass over 128 k logits; one to three passes. */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/sample.h"

enum { SAMPLE_THREADS = 1024, SAMPLE_WARPS = SAMPLE_THREADS / 32, SURVEY_THREADS = 256 };
static_assert(SAMPLE_SLICES == 32, "a warp merges them");

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

/* ---------------------------------------------------------------- a slice at a time */

__device__ static inline bool is_adjusted(const sample_how &how) {
    return how.n_window > 0 || how.n_bias > 0;
}

struct survey_block {
    uint64_t key[SURVEY_THREADS / 32];
    double sum[SURVEY_THREADS / 32];
    int is_bad;
};

/* The greatest of x[from, end), in every thread; s.is_bad learns of what is not finite (-inf is allowed where may_forbid). */
__device__ static uint64_t best_of(survey_block &s, const float *x, int from, int end, bool may_forbid) {
    uint64_t best = 0;
    bool is_bad = false;
    for (int i = from + (int)threadIdx.x; i < end; i += SURVEY_THREADS) {
        const float v = x[i];
        is_bad |= !(v < INFINITY) || (v == -INFINITY && !may_forbid);
        best = max(best, key_of(v, i));
    }
    for (int m = 16; m; m >>= 1) best = max(best, __shfl_xor_sync(~0u, best, m));
    if (threadIdx.x % 32 == 0) s.key[threadIdx.x / 32] = best;
    const int is_any_bad = __syncthreads_or(is_bad);
    if (threadIdx.x == 0 && !may_forbid) s.is_bad = is_any_bad;
    for (int i = 0; i < SURVEY_THREADS / 32; i++) best = max(best, s.key[i]);
    __syncthreads();
    return best;
}

/* The sum of exp(x - top) over x[from, end), in a fixed order; f32 terms will do for a log-probability. */
__device__ static double mass_of_slice(survey_block &s, const float *x, int from, int end, float top) {
    double sum = 0;
    for (int i = from + (int)threadIdx.x; i < end; i += SURVEY_THREADS) sum += (double)__expf(x[i] - top);
    for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
    if (threadIdx.x % 32 == 0) s.sum[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < SURVEY_THREADS / 32; i++) sum += s.sum[i];
    return sum;
}

/* A copy of the slice's logits with bias and penalties. */
__device__ static void adjust(const sample_args &p, const sample_how &how, const float *raw, float *to, int32_t *counts, int from,
                              int end) {
    const int32_t *window = (p.ahead ? p.history : p.lists) + how.window_at, *ids = p.lists + how.bias_at;
    const float *values = (const float *)(p.lists + how.values_at);
    for (int i = from + (int)threadIdx.x; i < end; i += SURVEY_THREADS) to[i] = raw[i];
    for (int i = threadIdx.x; i < how.n_window; i += SURVEY_THREADS)
        if (window[i] >= from && window[i] < end) atomicAdd(counts + window[i], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < how.n_bias; i += SURVEY_THREADS) {
        bool is_first = ids[i] >= from && ids[i] < end;
        for (int j = 0; j < i && is_first; j++) is_first = ids[j] != ids[i];
        for (int j = i; is_first && j < how.n_bias; j++)
            if (ids[j] == ids[i]) to[ids[i]] += values[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < how.n_window; i += SURVEY_THREADS) {
        const int id = window[i];
        const int count = id >= from && id < end ? atomicExch(counts + id, 0) : 0;
        if (count == 0) continue; /* another's slice, or another occurrence has done it */
        float v = to[id];
        v = v <= 0 ? __fmul_rn(v, how.repeat_penalty) : __fdiv_rn(v, how.repeat_penalty);
        to[id] = __fsub_rn(v, __fadd_rn(__fmul_rn((float)count, how.frequency_penalty), how.presence_penalty));
    }
    __syncthreads();
}

__global__ void __launch_bounds__(SURVEY_THREADS) survey_kernel(const __grid_constant__ sample_args p) {
    __shared__ survey_block s;
    const int r = blockIdx.y, each = (p.n_vocab + SAMPLE_SLICES - 1) / SAMPLE_SLICES;
    const int from = min((int)blockIdx.x * each, p.n_vocab), end = min(from + each, p.n_vocab);
    const float *raw = p.logits + (size_t)r * p.n_vocab;
    queue_trigger();
    queue_wait();
    const sample_how how = p.how[r];
    sample_survey out = {};
    out.raw = out.best = best_of(s, raw, from, end, false);
    if (from < end) out.sum = mass_of_slice(s, raw, from, end, logit_of(out.raw));
    if (is_adjusted(how)) {
        float *to = p.adjusted + (size_t)r * p.n_vocab;
        adjust(p, how, raw, to, p.counts + (size_t)r * p.n_vocab, from, end);
        out.best = best_of(s, to, from, end, true);
    }
    if (threadIdx.x != 0) return;
    out.is_bad = s.is_bad;
    p.surveys[(size_t)r * SAMPLE_SLICES + blockIdx.x] = out;
}

/* ---------------------------------------------------------------- a row at a time */

struct sample_block {
    double sum[SAMPLE_WARPS];
    int n, id;
    sample_survey all; /* of the row */
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

__device__ static double mass_of(sample_block &s, const float *x, int n, double max, double per) {
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) sum += exp(((double)x[i] - max) * per);
    return sum_block(s, sum);
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

/* A logit that at least the k best reach, if k of them are within 8 of the best: a flat distribution need not be put in order
 * whole. bins: [SAMPLE_THREADS] of shared memory. */
__device__ static float logit_of_rank(sample_block &s, const float *x, int n, float best, int k, int *bins) {
    constexpr float per = SAMPLE_THREADS / 8.0f;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    bins[threadIdx.x] = 0;
    if (threadIdx.x == 0) s.n = SAMPLE_THREADS;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += SAMPLE_THREADS) {
        const float bin = (best - x[i]) * per;
        if (bin < SAMPLE_THREADS) atomicAdd(&bins[(int)bin], 1);
    }
    __syncthreads();
    const int mine = bins[threadIdx.x];
    int before = mine; /* inclusive, of the warp; then of all */
    for (int m = 1; m < 32; m *= 2) {
        const int v = __shfl_up_sync(~0u, before, m);
        if (lane >= m) before += v;
    }
    __syncthreads();
    if (lane == 31) bins[warp] = before;
    __syncthreads();
    for (int i = 0; i < warp; i++) before += bins[i];
    if (before >= k && before - mine < k) s.n = (int)threadIdx.x;
    __syncthreads();
    return best - (float)(s.n + 1) / per;
}

__device__ static int draw_kept(const sample_args &p, const sample_how &how, sample_block &s, const float *x, float best,
                                uint64_t *here, double *weights_here, uint64_t *keys_far, double *weights_far) {
    const bool is_top_k = how.top_k > 0 && how.top_k < p.n_vocab;
    const double max = (double)best;
    const double mass = !is_top_k && how.top_p < 1.0f ? mass_of(s, x, p.n_vocab, max, 1.0) : 0;
    uint64_t *keys = here;
    double *weights = weights_here;
    int n = 0, most = SAMPLE_HERE;
    const float near = is_top_k || !(how.min_p > 0) ? 8.0f : fminf(8.0f, 1.01f - logf(how.min_p)); /* beyond it min-p drops all */
    for (int look = 0; look < 3; look++) {
        const float reach = look == 0 ? near : look == 1 ? 20.0f : INFINITY;
        if (look == 2) keys = keys_far, weights = weights_far, most = p.n_padded;
        n = gather(s, x, p.n_vocab, look == 2 ? -INFINITY : best - reach, keys, most);
        if (look == 2) break;
        if (n > most && is_top_k && how.top_k <= most) {
            n = gather(s, x, p.n_vocab, logit_of_rank(s, x, p.n_vocab, best, how.top_k, (int *)weights_here), keys, most);
            if (n >= how.top_k && n <= most) break;
            n = most + 1;
        }
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

/* Thread 0: the result to whoever waits for it; a sequence that runs ahead moves on. */
__device__ static void tell(const sample_args &p, int r, sample_result out) {
    p.out[r] = out;
    if (!p.ahead) return;
    const int pos = p.ahead->pos;
    p.history[pos + 1] = max(out.id, 0); /* what follows a failure is dropped, and must be a token all the same */
    p.told[pos % p.n_told] = out;
    p.ahead->pos = pos + 1;
}

/* The first warp: the slices together. */
__device__ static sample_survey merge(const sample_survey *slices) {
    sample_survey v = slices[threadIdx.x];
    const double mine = (double)logit_of(v.raw);
    for (int m = 16; m; m >>= 1) {
        v.raw = max(v.raw, __shfl_xor_sync(~0u, v.raw, m));
        v.best = max(v.best, __shfl_xor_sync(~0u, v.best, m));
        v.is_bad |= __shfl_xor_sync(~0u, v.is_bad, m);
    }
    v.sum = v.sum > 0 ? v.sum * exp(mine - (double)logit_of(v.raw)) : 0; /* an empty slice has no greatest */
    for (int m = 16; m; m >>= 1) v.sum += __shfl_xor_sync(~0u, v.sum, m);
    return v;
}

__global__ void __launch_bounds__(SAMPLE_THREADS) choose_kernel(const __grid_constant__ sample_args p) {
    __shared__ sample_block s;
    __shared__ uint64_t here[SAMPLE_HERE];
    __shared__ double weights_here[SAMPLE_HERE];
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    const sample_how how = p.how[r];
    const float *raw = p.logits + (size_t)r * p.n_vocab;
    const float *x = is_adjusted(how) ? p.adjusted + (size_t)r * p.n_vocab : raw;
    if (threadIdx.x < 32) {
        const sample_survey all = merge(p.surveys + (size_t)r * SAMPLE_SLICES);
        if (threadIdx.x == 0) s.all = all;
    }
    __syncthreads();
    const sample_survey all = s.all;
    if (all.is_bad) {
        if (threadIdx.x == 0) tell(p, r, sample_result{SAMPLE_NOT_FINITE, 0.0f});
        return;
    }
    const float high = logit_of(all.best);
    int id = id_of(all.best);
    if (!(high > -INFINITY && high < INFINITY)) {
        id = SAMPLE_FORBIDDEN;
    } else if (how.temperature > 0.0f) {
        const bool is_filtered = (how.top_k > 0 && how.top_k < p.n_vocab) || how.top_p < 1.0f || how.min_p > 0.0f;
        const int drawn = is_filtered ? draw_kept(p, how, s, x, high, here, weights_here, p.keys + (size_t)r * p.n_padded,
                                                  p.weights + (size_t)r * p.n_padded)
                                      : draw_all(s, x, p.n_vocab, (double)high, 1.0 / (double)how.temperature, how.u);
        if (drawn >= 0) id = drawn;
    }
    if (threadIdx.x != 0) return;
    const double log_sum = (double)logit_of(all.raw) + log(all.sum);
    tell(p, r, sample_result{id, id < 0 ? 0.0f : (float)((double)raw[id] - log_sum)});
}

extern "C" int32_t cuda_choose(cuda_queue *q, const sample_args *p) {
    const cudaError_t e = launch(survey_kernel, dim3(SAMPLE_SLICES, (unsigned)p->n_rows), SURVEY_THREADS, 0, q, *p);
    if (e != cudaSuccess) return e;
    return launch(choose_kernel, dim3((unsigned)p->n_rows), SAMPLE_THREADS, 0, q, *p);
}
