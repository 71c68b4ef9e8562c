/* The products of Llama-3.2-1B's shapes, without the rest of the model: what a token (1 row) and a prompt (512 rows) cost.
 *   bench_matmul [isa [threads [type [rows]]]]      type Q4_K_M = Q4_K with Q6_K where llama.cpp's recipe puts it
 * Decode alternates with a plain read of the same bytes by the same threads, so that the ratio survives a noisy machine.
 * Prefill is given in core cycles for 16 weight rows x 32 weights x 1 activation row: 512 multiplications. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "backend/cpu/matmul.h"
#include "base/clock.h"
#include "base/rng.h"

enum { N_LAYER = 16, N_EMBD = 2048, N_KV = 512, N_FF = 8192, N_VOCAB = 128256, MAX_ROWS = 512, ROUNDS = 3 };

typedef struct model {
    tensor layer[N_LAYER][7]; /* q k v o gate up down */
    tensor head;
    uint8_t *data;
    size_t bytes;
} model;

typedef struct bench {
    const matmul_ops *ops;
    pool *threads;
    model m;
    int n_rows;
    float *x, *y[3];
    void *packed, *scratch;
} bench;

static double seconds(void) {
    return (double)clock_monotonic_ns() * 1e-9;
}

static void *pages(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(1);
    (void)madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

static void place(model *m, tensor *t, tensor_type type, int64_t n_out, int64_t n_in) {
    *t = (tensor){.type = type, .n_in = n_in, .n_out = n_out, .row_bytes = tensor_row_bytes(type, n_in)};
    t->data = (void *)m->bytes; /* an offset until the memory exists */
    m->bytes += ((size_t)n_out * t->row_bytes + 63) / 64 * 64;
}

/* Random rows, repeated: what they hold does not change the time. */
static void fill(model *m, tensor *t) {
    enum { DISTINCT = 16 };
    const tensor_type_info *info = tensor_type_get(t->type);
    float *w = malloc((size_t)t->n_in * sizeof *w);
    uint8_t *rows = m->data + (size_t)t->data;
    for (int64_t r = 0; r < t->n_out; r++) {
        uint8_t *row = rows + (size_t)r * t->row_bytes;
        if (r >= DISTINCT) {
            memcpy(row, rows + (size_t)(r % DISTINCT) * t->row_bytes, t->row_bytes);
            continue;
        }
        for (int64_t i = 0; i < t->n_in; i++) w[i] = (float)(rng_uniform(1, (uint64_t)r, (uint64_t)i) - 0.5);
        info->quantise(w, row, t->n_in);
    }
    t->data = rows;
    free(w);
}

static void make_model(model *m, const char *type_name) {
    const bool is_mixed = !strcmp(type_name, "Q4_K_M");
    tensor_type type;
    if (!tensor_type_by_name(is_mixed ? "Q4_K" : type_name, &type)) exit(2);
    const int64_t n_out[7] = {N_EMBD, N_KV, N_KV, N_EMBD, N_FF, N_FF, N_EMBD};
    for (int i = 0; i < N_LAYER; i++)
        for (int j = 0; j < 7; j++) {
            const bool is_more = is_mixed && (j == 2 || j == 6) && (i < 2 || i >= 14 || (i - 2) % 3 == 2);
            place(m, &m->layer[i][j], is_more ? TENSOR_Q6_K : type, n_out[j], j == 6 ? N_FF : N_EMBD);
        }
    place(m, &m->head, is_mixed ? TENSOR_Q6_K : type, N_VOCAB, N_EMBD);
    m->data = pages(m->bytes);
    for (int i = 0; i < N_LAYER; i++)
        for (int j = 0; j < 7; j++) fill(m, &m->layer[i][j]);
    fill(m, &m->head);
}

static void run_group(const bench *b, const tensor *w, int n, int n_rows) {
    const matmul_input in = {.n_in = w->n_in, .n_rows = n_rows, .x = b->x, .x_stride = w->n_in, .packed = b->packed};
    matmul_job jobs[3];
    for (int j = 0; j < n; j++) jobs[j] = (matmul_job){.w = &w[j], .y = b->y[j], .y_stride = w[j].n_out};
    matmul_prepare(b->ops, b->threads, &in);
    matmul_run(b->ops, b->threads, jobs, n, &in, b->scratch);
}

static void run_model(const bench *b) {
    for (int i = 0; i < N_LAYER; i++) {
        run_group(b, &b->m.layer[i][0], 3, b->n_rows);
        run_group(b, &b->m.layer[i][3], 1, b->n_rows);
        run_group(b, &b->m.layer[i][4], 2, b->n_rows);
        run_group(b, &b->m.layer[i][6], 1, b->n_rows);
    }
    run_group(b, &b->m.head, 1, 1);
}

static _Atomic uint64_t sink;

static void read_bytes(void *ctx, int64_t begin, int64_t end, int thread) {
    const model *m = ctx;
    const uint64_t *p = (const uint64_t *)(const void *)m->data;
    uint64_t s[8] = {0};
    (void)thread;
    for (int64_t i = begin; i < end; i += 8)
        for (int j = 0; j < 8; j++) s[j] ^= p[i + j];
    sink ^= s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v) {
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

/* Of the whole process: what other programs take of the cores does not count. */
static double cpu_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Core clock in GHz: a chain of dependent multiplications, three cycles each on every current core. */
static double clock_ghz(void) {
    const int n = 2000000;
    volatile uint64_t seed = 3;
    uint64_t v = seed;
    const double t = cpu_seconds();
    for (int i = 0; i < n; i++) {
        v *= v;
        __asm__ volatile("" : "+r"(v));
    }
    seed = v;
    return 3.0 * n / (cpu_seconds() - t) * 1e-9;
}

static void decode(bench *b, const char *type) {
    double read[ROUNDS], run[ROUNDS], ratio[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double t = seconds();
        pool_run(b->threads, (int64_t)(b->m.bytes / 64 * 8), 65536 / 8, read_bytes, &b->m);
        read[i] = seconds() - t;
        t = seconds();
        run_model(b);
        run[i] = seconds() - t;
        ratio[i] = read[i] / run[i];
    }
    const double gb = (double)b->m.bytes * 1e-9;
    printf("%-7s %4d row%s  %6.2f ms a token  %5.2f GB/s, plain read %5.2f GB/s, ratio %.2f (%.2f to %.2f)\n", type, b->n_rows,
           b->n_rows > 1 ? "s" : " ", median(run) * 1e3, gb / median(run), gb / median(read), median(ratio), ratio[0],
           ratio[ROUNDS - 1]);
}

static void prefill(bench *b, const char *type) {
    double run[ROUNDS], cycles[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        const double ghz = clock_ghz(), t = seconds(), cpu = cpu_seconds();
        run_model(b);
        run[i] = seconds() - t;
        cycles[i] = (cpu_seconds() - cpu) * ghz * 1e9;
    }
    const double macs = (double)N_LAYER * (2.0 * N_EMBD * N_EMBD + 2.0 * N_EMBD * N_KV + 3.0 * N_EMBD * N_FF) * b->n_rows;
    const double t = median(run), tile = median(cycles) / (macs / 512);
    printf("%-7s %4d rows  %7.1f rows/s  %6.1f GMAC/s  %5.2f cycles of processor time per 16x32 tile (least %.2f)\n", type,
           b->n_rows, b->n_rows / t, macs / t * 1e-9, tile, cycles[0] / (macs / 512));
}

int main(int argc, char **argv) {
    const char *isa = argc > 1 ? argv[1] : "avx512", *type = argc > 3 ? argv[3] : "Q8_0";
    const int n_threads = argc > 2 ? atoi(argv[2]) : 2, only = argc > 4 ? atoi(argv[4]) : 0;
    bench b = {.ops = matmul_ops_get(isa)};
    if (!b.ops || pool_open(&b.threads, n_threads, NULL)) return 1;
    make_model(&b.m, type);
    b.x = pages((size_t)MAX_ROWS * N_FF * sizeof(float));
    for (int j = 0; j < 3; j++) b.y[j] = pages((size_t)MAX_ROWS * N_FF * sizeof(float));
    for (size_t i = 0; i < (size_t)MAX_ROWS * N_FF; i++) b.x[i] = (float)(rng_uniform(2, 0, i) - 0.5);
    b.packed = pages(matmul_input_bytes(MAX_ROWS, N_FF));
    b.scratch = pages((size_t)n_threads * matmul_scratch_bytes(N_FF));
    const int rows[] = {1, 2, 4, 8, MAX_ROWS};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (only && rows[i] != only) continue;
        b.n_rows = rows[i];
        if (b.n_rows <= 8)
            decode(&b, type);
        else
            prefill(&b, type);
    }
    pool_close(b.threads);
    return 0;
}
