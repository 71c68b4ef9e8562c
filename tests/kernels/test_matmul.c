/* Every instruction set against the plain C definition, bit for bit, and that against an exact product in double.
 * Inputs are fresh on every run; GALEN_TEST_SEED repeats one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu/matmul.h"
#include "base/clock.h"
#include "base/rng.h"
#include "tensor/half.h"

enum { GUARD = 5, MAX_JOBS = 3 };
static const float POISON = -7.25e33f;

static uint64_t seed, stream;

static double uniform(uint64_t i) {
    return rng_uniform(seed, stream, i);
}

static double gauss(uint64_t i) {
    return sqrt(-2 * log(1 - uniform(2 * i))) * cos(6.283185307179586 * uniform(2 * i + 1));
}

/* Where the half floats of a block stand, which random bytes must not make infinite or NaN; -1 ends. */
static const struct {
    tensor_type type;
    int halves[2];
} types[] = {
    {TENSOR_F32, {-1, -1}}, {TENSOR_F16, {-1, -1}}, {TENSOR_BF16, {-1, -1}},  {TENSOR_Q8_0, {0, -1}},   {TENSOR_Q4_0, {0, -1}},
    {TENSOR_Q4_1, {0, 2}},  {TENSOR_Q5_0, {0, -1}}, {TENSOR_Q5_1, {0, 2}},    {TENSOR_Q2_K, {80, 82}},  {TENSOR_Q3_K, {108, -1}},
    {TENSOR_Q4_K, {0, 2}},  {TENSOR_Q5_K, {0, 2}},  {TENSOR_Q6_K, {208, -1}}, {TENSOR_IQ4_NL, {0, -1}}, {TENSOR_IQ4_XS, {0, -1}},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

typedef enum fill { FILL_GAUSS, FILL_BYTES, FILL_EXTREME } fill;

static void fill_block(uint8_t *block, int t, const tensor_type_info *info, fill kind) {
    stream++;
    if (kind == FILL_GAUSS || types[t].halves[0] < 0) {
        float w[256];
        for (int i = 0; i < info->block_weights; i++) w[i] = (float)(0.05 * gauss((uint64_t)i));
        info->quantise(w, block, info->block_weights);
        return;
    }
    const uint8_t extremes[] = {0x00, 0xff, 0x80, 0x7f};
    const uint8_t extreme = extremes[(int)(4 * uniform(1000))];
    for (int i = 0; i < info->block_bytes; i++) block[i] = kind == FILL_EXTREME ? extreme : (uint8_t)(256 * uniform((uint64_t)i));
    for (int i = 0; i < 2 && types[t].halves[i] >= 0; i++) {
        const double u = uniform(2000 + (uint64_t)i);
        const uint16_t d = half_from_f32((float)(u < 0.05 ? 0.0 : u < 0.1 ? 3e-7 : 0.02 * (u - 0.5)));
        memcpy(block + types[t].halves[i], &d, sizeof d);
    }
}

typedef struct shape {
    int n_out, n_in, n_rows, n_threads;
    const char *why;
} shape;

static tensor make_weights(int t, int n_out, int n_in, fill kind) {
    const tensor_type_info *info = tensor_type_get(types[t].type);
    const size_t row_bytes = tensor_row_bytes(types[t].type, n_in);
    uint8_t *data = malloc(row_bytes * (size_t)n_out + 1);
    for (size_t at = 0; at < row_bytes * (size_t)n_out; at += (size_t)info->block_bytes) fill_block(data + at, t, info, kind);
    return (tensor){
        .name = info->name, .data = data, .type = types[t].type, .n_in = n_in, .n_out = n_out, .row_bytes = row_bytes};
}

static float *make_x(int n_rows, int n_in, int stride, fill kind) {
    float *x = malloc((size_t)n_rows * (size_t)stride * sizeof *x);
    for (int r = 0; r < n_rows; r++) {
        stream++;
        const double sign = uniform(0) < 0.5 ? -1 : 1;
        for (int i = 0; i < stride; i++) {
            double v = gauss((uint64_t)i + 1) * exp(2 * gauss((uint64_t)(i / 32) + 1000000));
            if (kind == FILL_EXTREME) v = i / 32 % 3 == 0 ? sign : i / 32 % 3 == 1 ? 0 : sign * fabs(v);
            x[(size_t)r * (size_t)stride + (size_t)i] = i < n_in ? (float)v : POISON;
        }
    }
    return x;
}

/* One group of products, run on one instruction set. */
typedef struct problem {
    tensor w[MAX_JOBS];
    float *bias;
    int n_jobs, n_rows, n_in, x_stride;
    const float *x;
} problem;

/* y[job] of every row, malloc'ed, [n_rows][n_out + GUARD]; guards checked. added: y starts at 1 + column. */
static void run_problem(const char *isa, const problem *p, int n_threads, bool is_added, float *y[MAX_JOBS]) {
    const matmul_ops *ops = matmul_ops_get(isa);
    pool *threads = NULL;
    assert_int_equal(pool_open(&threads, n_threads, NULL), GALEN_OK);
    void *packed = aligned_alloc(64, (matmul_input_bytes(p->n_rows, p->n_in) + 127) / 64 * 64); /* never zero */
    void *scratch = aligned_alloc(64, (size_t)n_threads * matmul_scratch_bytes(p->n_in));
    const matmul_input in = {.n_in = p->n_in, .n_rows = p->n_rows, .x = p->x, .x_stride = p->x_stride, .packed = packed};
    matmul_job jobs[MAX_JOBS];
    for (int j = 0; j < p->n_jobs; j++) {
        const int stride = (int)p->w[j].n_out + GUARD;
        y[j] = malloc((size_t)p->n_rows * (size_t)stride * sizeof(float));
        for (int i = 0; i < p->n_rows * stride; i++)
            y[j][i] = is_added && i % stride < p->w[j].n_out ? (float)(1 + i % stride) : POISON;
        jobs[j] =
            (matmul_job){.w = &p->w[j], .bias = j == 0 ? p->bias : NULL, .y = y[j], .y_stride = stride, .is_added = is_added};
    }
    matmul_prepare(ops, threads, &in);
    matmul_run(ops, threads, jobs, p->n_jobs, &in, scratch);
    for (int j = 0; j < p->n_jobs; j++)
        for (int r = 0; r < p->n_rows; r++)
            for (int i = 0; i < GUARD; i++)
                assert_true(y[j][(size_t)r * (size_t)(p->w[j].n_out + GUARD) + (size_t)(p->w[j].n_out + i)] == POISON);
    free(packed);
    free(scratch);
    pool_close(threads);
}

static void expect_same_bits(const float *a, const float *b, int n_rows, int n_out, const char *isa, const char *type,
                             const shape *s) {
    for (int r = 0; r < n_rows; r++)
        for (int o = 0; o < n_out; o++) {
            const size_t i = (size_t)r * (size_t)(n_out + GUARD) + (size_t)o;
            if (memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(isnan(a[i]) && isnan(b[i])))
                fail_msg("%s %s %dx%d, %d rows (%s): row %d output %d is %.9g, expected %.9g; seed %llu", isa, type, n_out,
                         s->n_in, s->n_rows, s->why, r, o, (double)a[i], (double)b[i], (unsigned long long)seed);
        }
}

static const char *const isas[] = {"avx2", "avx512", "neon"};

static const shape shapes[] = {
    {1, 256, 1, 1, "one output, one block"},
    {7, 256, 1, 2, "fewer outputs than a vector"},
    {17, 512, 2, 1, "one past two vectors, a pair of rows"},
    {33, 768, 3, 2, "one past a panel; a chunk and a half"},
    {31, 256, 5, 1, "one short of a panel, one row short of a tile"},
    {64, 1024, 6, 2, "whole panels, a whole tile"},
    {40, 256, 7, 2, "a tile and one row"},
    {131, 512, 16, 2, "one past a slab"},
    {48, 1280, 33, 3, "more threads than cores"},
    {9, 2304, 1, 2, "long row alone"},
};
static const shape small_shapes[] = {
    {3, 32, 1, 1, "one block of 32"},
    {5, 96, 2, 1, "odd blocks"},
    {16, 32, 4, 1, "a tile of one block"},
    {37, 544, 13, 2, "a chunk and a block"},
    {129, 1056, 8, 2, "two chunks and a block, one past a slab"},
};
static const shape float_shapes[] = {
    {3, 1, 1, 1, "one weight"}, {5, 17, 3, 1, "one past the partial sums"}, {18, 1000, 5, 2, "no multiple of 16"},
    {1, 15, 2, 1, "one short"}, {70, 535, 19, 2, "odd everywhere"},
};

static void check_shape(int t, const shape *s, fill kind) {
    problem p = {.n_jobs = 1, .n_rows = s->n_rows, .n_in = s->n_in, .x_stride = s->n_in + 3};
    stream++;
    const bool is_added = uniform(0) < 0.5, has_bias = uniform(1) < 0.5;
    p.w[0] = make_weights(t, s->n_out, s->n_in, kind);
    float *x = make_x(s->n_rows, s->n_in, p.x_stride, kind);
    p.x = x;
    if (has_bias) p.bias = make_x(1, s->n_out, s->n_out, FILL_GAUSS);
    float *expected[MAX_JOBS];
    run_problem("generic", &p, 1, is_added, expected);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        if (!matmul_ops_get(isas[i])) continue;
        float *y[MAX_JOBS];
        run_problem(isas[i], &p, s->n_threads, is_added, y);
        expect_same_bits(y[0], expected[0], s->n_rows, s->n_out, isas[i], p.w[0].name, s);
        free(y[0]);
    }
    free(expected[0]);
    free(x);
    free(p.bias);
    free((void *)p.w[0].data);
}

static void test_bits(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        for (fill kind = FILL_GAUSS; kind <= FILL_EXTREME; kind++) {
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(t, &shapes[i], kind);
            const int block = tensor_type_get(types[t].type)->block_weights;
            for (size_t i = 0; i < sizeof small_shapes / sizeof small_shapes[0] && block <= 32; i++)
                check_shape(t, &small_shapes[i], kind);
            for (size_t i = 0; i < sizeof float_shapes / sizeof float_shapes[0] && block == 1; i++)
                check_shape(t, &float_shapes[i], kind);
        }
}

/* The definition against sum(dequantised w * x) in double. Only x is rounded, to 1/254 of a block's largest value. */
static void test_exact(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        const tensor_type_info *info = tensor_type_get(types[t].type);
        problem p = {.n_jobs = 1, .n_rows = 4, .n_in = 2048, .x_stride = 2048};
        p.w[0] = make_weights(t, 64, p.n_in, FILL_GAUSS);
        stream++;
        float *x = malloc((size_t)p.n_rows * (size_t)p.n_in * sizeof *x), *w = malloc((size_t)p.n_in * sizeof *w), *y[MAX_JOBS];
        for (int i = 0; i < p.n_rows * p.n_in; i++) x[i] = (float)gauss((uint64_t)i);
        p.x = x;
        run_problem("generic", &p, 1, false, y);
        double error = 0, power = 0;
        for (int o = 0; o < 64; o++) {
            info->dequantise(tensor_row(&p.w[0], o), w, p.n_in);
            for (int r = 0; r < p.n_rows; r++) {
                double exact = 0;
                for (int i = 0; i < p.n_in; i++) exact += (double)w[i] * (double)x[r * p.n_in + i];
                const double e = (double)y[0][r * (64 + GUARD) + o] - exact;
                error += e * e;
                power += exact * exact;
            }
        }
        const double bound = info->block_weights == 1 ? 1e-12 : 2e-8; /* measured: 1.5e-9 to 2e-9 */
        print_message("%-7s NMSE %.2e\n", info->name, error / power);
        if (!(error / power <= bound))
            fail_msg("%s: NMSE %g > %g, seed %llu", info->name, error / power, bound, (unsigned long long)seed);
        free(x);
        free(w);
        free(y[0]);
        free((void *)p.w[0].data);
    }
}

/* A group of three products of mixed types, and each row of a batch as if it were alone. */
static void check_group(const char *isa) {
    problem p = {.n_jobs = 3, .n_rows = 21, .n_in = 512, .x_stride = 512};
    const int n_out[MAX_JOBS] = {96, 40, 13};
    stream++;
    for (int j = 0; j < 3; j++) p.w[j] = make_weights((int)(N_TYPES * uniform((uint64_t)j)), n_out[j], p.n_in, FILL_GAUSS);
    float *x = make_x(p.n_rows, p.n_in, p.x_stride, FILL_GAUSS);
    float *y[MAX_JOBS], *alone[MAX_JOBS];
    p.x = x;
    run_problem(isa, &p, 2, false, y);
    for (int r = 0; r < 21; r++) {
        problem one = p;
        one.n_rows = 1;
        one.x = x + (size_t)r * (size_t)p.x_stride;
        run_problem(isa, &one, 3, false, alone);
        const shape s = {0, p.n_in, p.n_rows, 2, "a row of a batch against the row alone"};
        for (int j = 0; j < 3; j++) {
            expect_same_bits(y[j] + r * (n_out[j] + GUARD), alone[j], 1, n_out[j], isa, p.w[j].name, &s);
            free(alone[j]);
        }
    }
    for (int j = 0; j < 3; j++) {
        free(y[j]);
        free((void *)p.w[j].data);
    }
    free(x);
}

static void test_group(void **state) {
    (void)state;
    check_group("generic");
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (int n = 0; n < 8 && matmul_ops_get(isas[i]); n++) check_group(isas[i]);
}

/* A NaN or an infinity in one row of x makes every output of that row NaN and leaves the others alone. */
static void test_nan(void **state) {
    (void)state;
    const char *const all[] = {"generic", "avx2", "avx512", "neon"};
    const float bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    for (size_t i = 0; i < 4; i++)
        for (int n_rows = 1; n_rows < 14 && matmul_ops_get(all[i]); n_rows += 6)
            for (int t = 3; t < N_TYPES; t++) {
                problem p = {.n_jobs = 1, .n_rows = n_rows, .n_in = 512, .x_stride = 512};
                p.w[0] = make_weights(t, 24, p.n_in, FILL_GAUSS);
                float *x = make_x(p.n_rows, p.n_in, p.x_stride, FILL_GAUSS), *clean[MAX_JOBS], *y[MAX_JOBS];
                p.x = x;
                run_problem(all[i], &p, 1, false, clean);
                const int row = n_rows / 2;
                x[row * 512 + (int)(512 * uniform(5))] = bad[t % 4];
                run_problem(all[i], &p, 1, false, y);
                for (int r = 0; r < n_rows; r++)
                    for (int o = 0; o < 24; o++) {
                        const int at = r * (24 + GUARD) + o;
                        assert_true(r == row ? isnan(y[0][at]) : !memcmp(&y[0][at], &clean[0][at], sizeof(float)));
                    }
                free(x);
                free(clean[0]);
                free(y[0]);
                free((void *)p.w[0].data);
            }
}

int main(void) {
    const char *given = getenv("GALEN_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : clock_monotonic_ns();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        print_message("%-7s %s\n", isas[i], matmul_ops_get(isas[i]) ? "compared" : "not on this machine");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_bits), cmocka_unit_test(test_group),
                                       cmocka_unit_test(test_nan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
