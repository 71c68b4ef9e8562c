/* The element-wise operations: accuracy against double precision, and the same bytes on every instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/cpu/ops.h"
#include "random_net.h"

enum { MOST = 5000 };

/* The sets of this processor, generic last. */
static int sets(const cpu_ops **out) {
    int n = 0;
    for (const char *const *name = cpu_isa_names(); *name; name++)
        if (cpu_ops_get(*name)) out[n++] = cpu_ops_get(*name);
    return n;
}

static void fill(float *x, int64_t n, uint64_t stream, float spread) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(2 * rng_uniform(9, stream, (uint64_t)i) - 1) * spread;
}

static double ulps(float got, double want) {
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0 : INFINITY;
    if (isinf(got)) return want > 3.4028235677973366e38 ? 0 : INFINITY;
    int e;
    (void)frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, (e > -125 ? e : -125) - 24);
}

/* ---------------------------------------------------------------- exp, tanh */

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Every 257th float of both signs. */
static void sweep(void (*fn)(float *, const float *, int64_t), double (*exact)(double), float low, float high, double bound,
                  const char *what) {
    double worst = 0;
    float at = 0;
    for (uint32_t u = 0; u < 0x7f800000u; u += 16u * 257u) {
        float x[32], y[32];
        for (int i = 0; i < 32; i++) x[i] = from_bits((i & 1 ? 0x80000000u : 0) | (u + (uint32_t)(i / 2) * 257u));
        fn(y, x, 32);
        for (int i = 0; i < 32; i++) {
            if (!(x[i] >= low && x[i] <= high)) continue;
            const double e = ulps(y[i], exact((double)x[i]));
            if (e > worst) worst = e, at = x[i];
        }
    }
    if (!(worst <= bound)) fail_msg("%s(%a): %.2f ulp > %.2f", what, (double)at, worst, bound);
}

static void exp_is_close(void **state) {
    const cpu_ops *all[8];
    (void)state;
    for (int i = 0, n = sets(all); i < n; i++) {
        sweep(all[i]->exp, exp, -86.0f, 88.72283f, 2, all[i]->isa);
        const float x[16] = {0.0f, -0.0f, -86.5f, -1e30f, -INFINITY, 88.73f, 1e30f, INFINITY, NAN, -NAN, 1e-40f};
        float y[16];
        all[i]->exp(y, x, 16);
        assert_true(y[0] == 1 && y[1] == 1 && y[10] == 1); /* exactly: a rescaling by e^0 changes nothing */
        assert_true(y[2] == 0 && y[3] == 0 && y[4] == 0);
        assert_true(isinf(y[5]) && isinf(y[6]) && isinf(y[7]) && y[7] > 0);
        assert_true(isnan(y[8]) && isnan(y[9]));
    }
}

static void tanh_is_close(void **state) {
    const cpu_ops *all[8];
    (void)state;
    for (int i = 0, n = sets(all); i < n; i++) {
        sweep(all[i]->tanh, tanh, -INFINITY, INFINITY, 3, all[i]->isa);
        const float x[16] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-42f, 30, -30};
        float y[16];
        all[i]->tanh(y, x, 16);
        assert_true(y[0] == 0 && y[1] == 0 && signbit(y[1]));
        assert_true(y[2] == 1 && y[3] == -1 && isnan(y[4]) && y[5] == x[5] && y[6] == 1 && y[7] == -1);
    }
}

/* ---------------------------------------------------------------- the operations */

typedef enum op { OP_NORM, OP_ADD, OP_SCALE, OP_CAP, OP_SILU, OP_GELU, OP_PAIRS, OP_HALVES, N_OPS } op;

static const char *const op_names[N_OPS] = {"rms_norm", "add", "scale", "softcap", "silu", "gelu", "rope pairs", "rope halves"};

/* y is input and output; a, b are further inputs. For rope: a cos, b sin, n rounded down to even. */
static void apply(const cpu_ops *ops, op o, float *y, const float *a, const float *b, int64_t n) {
    switch (o) {
    case OP_NORM:
        ops->rms_norm(y, y, a, n, 1e-5f);
        break;
    case OP_ADD:
        ops->add(y, a, n);
        break;
    case OP_SCALE:
        ops->scale(y, 1.7f, n);
        break;
    case OP_CAP:
        ops->softcap(y, 3.0f, n);
        break;
    case OP_SILU:
    case OP_GELU:
        ops->activate(y, a, n, o == OP_SILU ? ACT_SILU : ACT_GELU_TANH);
        break;
    case OP_PAIRS:
    case OP_HALVES:
        ops->rope(y, a, b, (int32_t)(n & ~1), o == OP_PAIRS ? ROPE_PAIRS : ROPE_HALVES);
        break;
    case N_OPS:
        break;
    }
}

static void rope_exact(double *y, const float *a, const float *b, int64_t n, bool is_pairs) {
    for (int64_t i = 0; i < n / 2; i++) {
        double *u = is_pairs ? y + 2 * i : y + i, *v = is_pairs ? u + 1 : u + n / 2;
        const double x0 = *u, x1 = *v;
        *u = x0 * (double)a[i] - x1 * (double)b[i];
        *v = x0 * (double)b[i] + x1 * (double)a[i];
    }
}

static void exact(op o, double *y, const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += y[i] * y[i];
    const double scale = 1 / sqrt(sum / (double)n + (double)1e-5f);
    if (o == OP_PAIRS || o == OP_HALVES) {
        rope_exact(y, a, b, n, o == OP_PAIRS);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const double x = y[i], m = (double)a[i];
        if (o == OP_NORM) y[i] = x * scale * m;
        if (o == OP_ADD) y[i] = x + m;
        if (o == OP_SCALE) y[i] = x * (double)1.7f;
        if (o == OP_CAP) y[i] = 3 * tanh(x / 3);
        if (o == OP_SILU) y[i] = x / (1 + exp(-x)) * m;
        if (o == OP_GELU) y[i] = 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))) * m;
    }
}

static const struct {
    int64_t n;
    const char *why;
} lengths[] = {
    {1, "a single value"},          {2, "one pair"},   {15, "one short of a vector"},  {16, "one vector"},
    {17, "one past a vector"},      {64, "a head"},    {80, "a head of five vectors"}, {100, "a tail of four"},
    {576, "a small model's width"}, {2048, "a width"}, {4999, "odd and long"},
};

static void against_double(void **state) {
    const cpu_ops *all[8];
    static float x[MOST], y[MOST], a[MOST], b[MOST], want[MOST];
    static double w[MOST];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++)
        for (int o = 0; o < N_OPS; o++)
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                const int64_t n = lengths[i].n;
                fill(x, n, 1 + (uint64_t)i, 10);
                fill(a, n, 100 + (uint64_t)i, 1);
                fill(b, n, 200 + (uint64_t)i, 1);
                for (int64_t k = 0; k < n; k++) w[k] = (double)(y[k] = x[k]);
                y[n] = 12345; /* must not be touched */
                apply(all[s], (op)o, y, a, b, n);
                exact((op)o, w, a, b, n & ~(int64_t)(o == OP_PAIRS || o == OP_HALVES));
                for (int64_t k = 0; k < n; k++) want[k] = (float)w[k];
                const double nmse = random_net_nmse(y, want, (size_t)n);
                if (!(nmse <= 1e-12))
                    fail_msg("%s, %s, n %d (%s): NMSE %.3g", op_names[o], all[s]->isa, (int)n, lengths[i].why, nmse);
                assert_true(y[n] == 12345);
            }
}

/* The definition's bytes: found equal on x86-64 (generic, AVX2, AVX-512) and ARMv8 (generic, NEON), compiled by gcc 12. */
static void same_bytes(void **state) {
    const cpu_ops *all[8];
    static float y[MOST], a[MOST], b[MOST];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++)
        for (int o = 0; o < N_OPS; o++) {
            static const uint64_t want[N_OPS] = {
                [OP_NORM] = 0x2873a3284e89ece5,  [OP_ADD] = 0x5b8c87dab2e6f141,   [OP_SCALE] = 0xda517a0573d163da,
                [OP_CAP] = 0x4a1a6f15b5e6ffc,    [OP_SILU] = 0xb2cc6e520afb4bbb,  [OP_GELU] = 0xb8921e87e43fed2,
                [OP_PAIRS] = 0x5585ca8c685cf4b9, [OP_HALVES] = 0x1262cdee64ef1d43};
            uint64_t h = 14695981039346656037u;
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                fill(y, lengths[i].n, 300 + (uint64_t)i, 30);
                fill(a, lengths[i].n, 400 + (uint64_t)i, 1);
                fill(b, lengths[i].n, 500 + (uint64_t)i, 1);
                apply(all[s], (op)o, y, a, b, lengths[i].n);
                h = random_net_digest(h, y, lengths[i].n);
            }
            if (h != want[o])
                fail_msg("%s, %s: digest 0x%llx, expected 0x%llx", op_names[o], all[s]->isa, (unsigned long long)h,
                         (unsigned long long)want[o]);
        }
}

static void extremes(void **state) {
    const cpu_ops *all[8];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++) {
        float y[16] = {-1e30f, -200, -100, 100, 1e30f, 0, NAN, INFINITY, -0.0f}, up[16];
        for (int i = 0; i < 16; i++) up[i] = 1;
        float z[16];
        memcpy(z, y, sizeof z);
        all[s]->activate(y, up, 16, ACT_SILU);
        all[s]->activate(z, up, 16, ACT_GELU_TANH);
        assert_true(y[0] == 0 && y[1] == 0 && fabsf(y[2]) < 1e-40f && y[3] == 100 && y[4] == 1e30f && y[5] == 0 && isnan(y[6]));
        assert_true(z[0] == 0 && z[1] == 0 && z[2] == 0 && z[3] == 100 && z[4] == 1e30f && z[5] == 0 && isnan(z[6]));
        assert_true(isinf(y[7]) && isinf(z[7]));
        float zero[16] = {0}, one[16] = {0};
        all[s]->rms_norm(one, zero, up, 16, 1e-6f);
        for (int i = 0; i < 16; i++) assert_true(one[i] == 0); /* eps keeps a row of zeros finite */
    }
}

static void choice(void **state) {
    (void)state;
    assert_non_null(cpu_ops_get("generic"));
    assert_null(cpu_ops_get("sse9"));
    assert_null(cpu_ops_get(""));
#if defined(__x86_64__)
    assert_null(cpu_ops_get("neon"));
#else
    assert_null(cpu_ops_get("avx2"));
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(exp_is_close),   cmocka_unit_test(tanh_is_close),
                                       cmocka_unit_test(against_double), cmocka_unit_test(same_bytes),
                                       cmocka_unit_test(extremes),       cmocka_unit_test(choice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
