/* The driver of the products: which rows go to which thread and through which kernel. It knows no instruction set and
 * no weight format. Weight rows are cut into slabs, a thread takes a slab at a time:
 *   few rows of x  a slab is streamed once, MM_ROWS weight rows at a time, each against every row of x;
 *   many           it is unpacked once, MM_CHUNK weights of each row at a time, and that met with all rows of x. */
#include "backend/cpu/matmul.h"

#include <assert.h>
#include <string.h>

#include "backend/cpu/matmul_ops.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

enum {
    SLAB_MAX = 128,         /* weight rows; with MM_BATCH it bounds the scratch */
    SLAB_BYTES = 96 * 1024, /* of weights in a slab when few rows are to be met: long enough to stream, short enough to share */
    SLABS_PER_THREAD = 4,   /* at least, where there are rows enough */
    PANEL_MAX = 32,         /* weight rows */
    PANEL_BYTES = PANEL_MAX * (2 * MM_CHUNK + MM_CHUNK / 16 * 2 * 4), /* 16 bits a weight, a scale and a minimum for every 16 */
};

typedef struct scratch {
    _Alignas(64) float sum[MM_BATCH * SLAB_MAX];
    union {
        _Alignas(64) uint8_t panel[PANEL_BYTES]; /* one at a time, so it is written where it stays in L1 */
        float parts[SLAB_MAX * 16 * 6];          /* sixteen partial sums for up to 6 rows of x            */
    };
} scratch;

typedef struct run {
    const matmul_ops *ops;
    const matmul_job *jobs;
    int n_jobs, n_threads;
    const matmul_input *in;
    scratch *scratch; /* [n_threads] */
} run;

/* ---------------------------------------------------------------- choice */

#if defined(__x86_64__)
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* and F16C: no processor has AVX2 without it */
}

/* AVX-VNNI, for which clang 14 has no name: leaf 7, subleaf 1, EAX. */
static bool has_avxvnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
static bool has_neon_dot(void) {
#if defined(__linux__)
    const unsigned long half = 1ul << 10, dot = 1ul << 20; /* HWCAP_ASIMDHP, HWCAP_ASIMDDP */
    return (getauxval(AT_HWCAP) & (half | dot)) == (half | dot);
#else
    return true; /* every Apple processor */
#endif
}
#endif

const matmul_ops *matmul_ops_get(const char *isa) {
    if (!strcmp(isa, "generic")) return &matmul_generic;
#if defined(__x86_64__)
    if (!strcmp(isa, "avx2") && has_avx2()) return has_avxvnni() ? &matmul_avxvnni : &matmul_avx2;
    if (!strcmp(isa, "avx512") && has_avx512()) return &matmul_avx512;
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon") && has_neon_dot()) return &matmul_neon;
#endif
    return NULL;
}

/* ---------------------------------------------------------------- activations */

size_t matmul_input_bytes(int32_t max_rows, int64_t n_in) {
    return (size_t)max_rows * (size_t)(n_in / 32) * sizeof(mm_act);
}

/* Rows of the group that row r is in. */
static int32_t group_rows(const run *k, int32_t r) {
    const int32_t first = r - r % k->ops->group, left = k->in->n_rows - first;
    return left < k->ops->group ? left : k->ops->group;
}

static bool is_tiled(const run *k) {
    return k->in->n_rows > k->ops->few;
}

/* Where the record of row r and a block stands. */
static int64_t act_index(const run *k, int32_t r, int64_t block) {
    const int64_t n_blocks = k->in->n_in / 32;
    const int32_t in_group = r % k->ops->group;
    return (r - in_group) * n_blocks + block * group_rows(k, r) + in_group;
}

static bool is_whole(const run *k) {
    return is_tiled(k) && k->ops->quantise_whole;
}

/* The records of row r from block first on: mm_whole where is_whole, else mm_act. */
static void *acts_at(const run *k, int32_t r, int64_t first) {
    const int64_t i = act_index(k, r, first);
    return is_whole(k) ? (void *)((mm_whole *)k->in->packed + i) : (void *)((mm_act *)k->in->packed + i);
}

static void quantise_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const run *k = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int32_t r = (int32_t)i;
        const float *x = k->in->x + r * k->in->x_stride;
        if (is_whole(k))
            k->ops->quantise_whole(x, k->in->n_in / 32, acts_at(k, r, 0), group_rows(k, r));
        else
            k->ops->quantise(x, k->in->n_in / 32, acts_at(k, r, 0), group_rows(k, r));
    }
}

void matmul_prepare(const matmul_ops *ops, pool *p, const matmul_input *in) {
    run k = {.ops = ops, .in = in};
    pool_run(p, in->n_rows, in->n_rows > 8 ? 8 : 1, quantise_rows, &k);
}

/* ---------------------------------------------------------------- slabs */

static bool is_float(tensor_type t) {
    return t == TENSOR_F32 || t == TENSOR_F16 || t == TENSOR_BF16;
}

/* Weight rows of job j that a thread takes at once. */
static int64_t slab_rows(const run *k, int j) {
    const tensor *w = k->jobs[j].w;
    const int64_t unit = is_tiled(k) && k->ops->panel ? k->ops->panel : MM_ROWS;
    int64_t all = 0;
    for (int i = 0; i < k->n_jobs; i++) all += k->jobs[i].w->n_out;
    int64_t n = all / (k->n_threads * SLABS_PER_THREAD);
    if (!is_tiled(k) && n > (int64_t)(SLAB_BYTES / w->row_bytes)) n = (int64_t)(SLAB_BYTES / w->row_bytes);
    if (n > SLAB_MAX) n = SLAB_MAX;
    n -= n % unit;
    return n < unit ? unit : n;
}

static int64_t n_slabs(const run *k, int j) {
    const int64_t n = slab_rows(k, j);
    return (k->jobs[j].w->n_out + n - 1) / n;
}

typedef float quad __attribute__((vector_size(16)));

static inline quad load_quad(const float *p) {
    quad v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* y[row][first .. first + n) from sums. By hand in fours: -O2 leaves loops of unknown length scalar, which showed. */
static void store_sums(const matmul_job *job, int32_t row, int64_t first, int64_t n, const float *sum) {
    float *y = job->y + row * job->y_stride + first;
    const float *bias = job->bias ? job->bias + first : NULL;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        quad v = load_quad(sum + i);
        if (job->is_added) v = load_quad(y + i) + v;
        if (bias) v += load_quad(bias + i);
        memcpy(y + i, &v, sizeof v);
    }
    for (; i < n; i++) {
        float v = sum[i];
        if (job->is_added) v = y[i] + v;
        if (bias) v += bias[i];
        y[i] = v;
    }
}

static void stream_slab(const run *k, const matmul_job *job, int64_t first, int64_t n) {
    const tensor *w = job->w;
    const mm_rows_fn rows = k->ops->rows[w->type];
    for (int64_t o = first; o < first + n; o += MM_ROWS) {
        const int64_t left = first + n - o, next = o + MM_ROWS < w->n_out ? o + MM_ROWS : o;
        mm_rows_args a = {.w = tensor_row(w, o),
                          .row_bytes = w->row_bytes,
                          .n = left < MM_ROWS ? (int32_t)left : MM_ROWS,
                          .n_in = k->in->n_in,
                          .ahead = tensor_row(w, next)};
        for (int32_t r = 0; r < k->in->n_rows; r++) {
            float sum[MM_ROWS];
            a.act = (mm_acts){.first = acts_at(k, r, 0), .stride = group_rows(k, r)};
            a.x = k->in->x + r * k->in->x_stride;
            rows(&a, sum);
            store_sums(job, r, o, a.n, sum);
        }
    }
}

static void float_slab(const run *k, const matmul_job *job, int64_t first, int64_t n, scratch *s) {
    for (int32_t r = 0; r < k->in->n_rows; r += MM_BATCH) {
        const int32_t left = k->in->n_rows - r, m = left < MM_BATCH ? left : MM_BATCH;
        const mm_float_args a = {.w = tensor_row(job->w, first),
                                 .row_bytes = job->w->row_bytes,
                                 .n_w = (int32_t)n,
                                 .n_rows = m,
                                 .n_in = k->in->n_in,
                                 .x = k->in->x + r * k->in->x_stride,
                                 .x_stride = k->in->x_stride,
                                 .sum = s->sum,
                                 .stride = SLAB_MAX,
                                 .parts = s->parts};
        k->ops->floats[job->w->type](&a);
        for (int32_t i = 0; i < m; i++) store_sums(job, r + i, first, n, s->sum + i * SLAB_MAX);
    }
}

/* Blocks [block, block + n_blocks) of a slab: unpack its panels, each meets rows [row, row + n_rows) of x. */
static void tile_chunk(const run *k, const tensor *w, int64_t first, int64_t n, int64_t block, int32_t n_blocks, int32_t row,
                       int32_t n_rows, scratch *s) {
    const int32_t panel = k->ops->panel;
    assert(panel <= PANEL_MAX);
    const ptrdiff_t down = panel * (ptrdiff_t)w->row_bytes, chunk = (ptrdiff_t)tensor_row_bytes(w->type, MM_CHUNK);
    for (int64_t o = 0; o < n; o += panel) {
        const mm_pack_args pack = {.w = tensor_row(w, first + o),
                                   .row_bytes = w->row_bytes,
                                   .n = n - o < panel ? (int32_t)(n - o) : panel,
                                   .first = block,
                                   .n_blocks = n_blocks,
                                   .panel = s->panel,
                                   .ahead = o + panel < n ? down : chunk - o / panel * down};
        k->ops->pack[w->type](&pack);
        for (int32_t r = 0; r < n_rows; r += k->ops->group) {
            const mm_tile_args tile = {.panel = pack.panel,
                                       .n_blocks = n_blocks,
                                       .act = acts_at(k, row + r, block),
                                       .n_rows = group_rows(k, row + r),
                                       .sum = s->sum + (int64_t)r * SLAB_MAX + o,
                                       .stride = SLAB_MAX};
            k->ops->tile[w->type](&tile);
        }
    }
}

static void tile_slab(const run *k, const matmul_job *job, int64_t first, int64_t n, scratch *s) {
    const int64_t n_blocks = k->in->n_in / 32;
    const int32_t batch = MM_BATCH - MM_BATCH % k->ops->group;
    for (int32_t row = 0; row < k->in->n_rows; row += batch) {
        const int32_t left = k->in->n_rows - row, n_rows = left < batch ? left : batch;
        memset(s->sum, 0, (size_t)n_rows * SLAB_MAX * sizeof *s->sum);
        for (int64_t b = 0; b < n_blocks; b += MM_CHUNK_BLOCKS) {
            const int64_t rest = n_blocks - b;
            tile_chunk(k, job->w, first, n, b, rest < MM_CHUNK_BLOCKS ? (int32_t)rest : MM_CHUNK_BLOCKS, row, n_rows, s);
        }
        for (int32_t r = 0; r < n_rows; r++) store_sums(job, row + r, first, n, s->sum + (int64_t)r * SLAB_MAX);
    }
}

static void run_slabs(void *ctx, int64_t begin, int64_t end, int thread) {
    const run *k = ctx;
    for (int64_t i = begin; i < end; i++) {
        int j = 0;
        int64_t slab = i;
        while (slab >= n_slabs(k, j)) slab -= n_slabs(k, j++);
        const matmul_job *job = &k->jobs[j];
        const int64_t rows = slab_rows(k, j), first = slab * rows, left = job->w->n_out - first, n = left < rows ? left : rows;
        if (!is_tiled(k))
            stream_slab(k, job, first, n);
        else if (!is_float(job->w->type))
            tile_slab(k, job, first, n, &k->scratch[thread]);
        else
            float_slab(k, job, first, n, &k->scratch[thread]);
    }
}

/* ---------------------------------------------------------------- the seam */

size_t matmul_scratch_bytes(int64_t max_n_in) {
    (void)max_n_in; /* rows are met a chunk at a time, however long */
    return sizeof(scratch);
}

void matmul_run(const matmul_ops *ops, pool *p, const matmul_job *jobs, int n_jobs, const matmul_input *in, void *work) {
    const run k = {.ops = ops, .jobs = jobs, .n_jobs = n_jobs, .n_threads = pool_n_threads(p), .in = in, .scratch = work};
    int64_t all = 0;
    for (int j = 0; j < n_jobs; j++) {
        assert(jobs[j].w->n_in == in->n_in && ops->rows[jobs[j].w->type]);
        all += n_slabs(&k, j);
    }
    pool_run(p, all, 1, run_slabs, (void *)&k);
}
