/* Quantising: how far gaussian weights move, and what awkward input gets. Bit-exactness of the types that ggml also rounds
 * without a search is checked in tests/tensor_py/check_dequantise.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tensor/tensor.h"

enum { N_WEIGHTS = 256 * 64, N_BLOCK = 256 };

static float gaussian(uint64_t i) {
    const double u = rng_uniform(5, 0, 2 * i), v = rng_uniform(5, 0, 2 * i + 1);
    return (float)(sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v));
}

/* RMS error over sigma. Bound of b levels bits: the best fixed uniform quantiser of a gaussian (J. Max, 1960, table II:
 * distortion 0.1188, 0.03744, 0.01154, 0.003490, 0.001041 for 4 to 64 levels; square roots here); scales that adapt to 16 or
 * 32 weights must do better. IQ4: the best 16 uneven levels (table I: 0.009497). Q8_0: a step of E(max of 32) / 127 <=
 * sqrt(2 ln 64) / 127 gives step / sqrt(12). Floats: half a unit in the last place of a value in [1, 2) over sigma.
 * tight is a regression bar, 3 % above what was measured. */
static const struct {
    const char *name;
    double bound, tight;
} errors[] = {
    {"F32", 0.0, 0.0},         {"F16", 0x1p-11, 2.15e-4},   {"BF16", 0x1p-8, 1.72e-3},   {"Q8_0", 0.00656, 0.00553},
    {"Q4_0", 0.10742, 0.0884}, {"Q4_1", 0.10742, 0.0807},   {"Q5_0", 0.05908, 0.0442},   {"Q5_1", 0.05908, 0.0390},
    {"Q2_K", 0.34467, 0.2694}, {"Q3_K", 0.19349, 0.1481},   {"Q4_K", 0.10742, 0.0724},   {"Q5_K", 0.05908, 0.0357},
    {"Q6_K", 0.03226, 0.0170}, {"IQ4_NL", 0.09745, 0.0752}, {"IQ4_XS", 0.09745, 0.0758},
};

static void test_error(void **state) {
    (void)state;
    float *in = malloc(N_WEIGHTS * sizeof *in), *out = malloc(N_WEIGHTS * sizeof *out);
    assert_true(in && out);
    for (int i = 0; i < N_WEIGHTS; i++) in[i] = gaussian((uint64_t)i);
    for (size_t k = 0; k < sizeof errors / sizeof errors[0]; k++) {
        tensor_type type;
        const tensor_type_info *t = tensor_type_by_name(errors[k].name, &type);
        assert_non_null(t);
        void *blocks = malloc(tensor_row_bytes(type, N_WEIGHTS));
        assert_non_null(blocks);
        t->quantise(in, blocks, N_WEIGHTS);
        t->dequantise(blocks, out, N_WEIGHTS);
        double error = 0.0, power = 0.0;
        for (int i = 0; i < N_WEIGHTS; i++) {
            error += pow((double)in[i] - (double)out[i], 2.0);
            power += pow((double)in[i], 2.0);
        }
        const double rms = sqrt(error / power);
        if (rms > errors[k].bound || rms > errors[k].tight) fail_msg("%s: %.6f", errors[k].name, rms);
        free(blocks);
    }
    free(in);
    free(out);
}

typedef enum outcome { SANE, ZERO, NOT_FINITE, CLOSE_OR_NOT_FINITE } outcome;

static void fill_zero(float *x) {
    memset(x, 0, N_BLOCK * sizeof *x);
}
static void fill_minus_zero(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = -0.0f;
}
static void fill_huge(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = gaussian((uint64_t)i);
    x[40] = 3e38f;
}
static void fill_largest(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = i % 2 ? 3.4028235e38f : -3.4028235e38f;
}
static void fill_denormal(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = (float)(i - 100) * 1.4e-45f;
}
static void fill_tiny(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = gaussian((uint64_t)i) * 1e-30f;
}
static void fill_nan(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = gaussian((uint64_t)i);
    x[17] = NAN;
}
static void fill_infinity(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = gaussian((uint64_t)i);
    x[17] = -INFINITY;
}
static void fill_equal(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = 0.37f;
}
static void fill_negative(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = -0.37f;
}
static void fill_positive(float *x) {
    for (int i = 0; i < N_BLOCK; i++) x[i] = 5.0f + fabsf(gaussian((uint64_t)i));
}
static void fill_outlier(float *x) {
    fill_zero(x);
    x[255] = -1.0f;
}
static void fill_one_group(float *x) {
    fill_zero(x);
    for (int i = 64; i < 80; i++) x[i] = gaussian((uint64_t)i);
}

/* tolerance: largest error over largest magnitude; Q2_K, the coarsest, needs about 0.4 where signs mix. */
static const struct {
    const char *why;
    void (*fill)(float *x);
    outcome want;
    double tolerance;
} awkward[] = {
    {"all zero stays zero", fill_zero, ZERO, 0},
    {"minus zero", fill_minus_zero, ZERO, 0},
    {"one huge value: no half float can scale it, which must show", fill_huge, CLOSE_OR_NOT_FINITE, 0.01},
    {"the largest floats: their difference overflows", fill_largest, CLOSE_OR_NOT_FINITE, 0.01},
    {"subnormal floats: their inverse overflows", fill_denormal, SANE, 1},
    {"below any half scale", fill_tiny, SANE, 1},
    {"a NaN must not pass for a weight", fill_nan, NOT_FINITE, 0},
    {"an infinity must not pass for a weight", fill_infinity, NOT_FINITE, 0},
    {"all equal, positive", fill_equal, SANE, 0.01},
    {"all equal, negative", fill_negative, SANE, 0.01},
    {"far from zero: a minimum of one sign cannot help", fill_positive, SANE, 0.25},
    {"one outlier in a block of zeros", fill_outlier, SANE, 0.01},
    {"one group of zeros among others", fill_one_group, SANE, 0.45},
};

static void check_awkward(const tensor_type_info *t, tensor_type type, size_t k) {
    const size_t n_bytes = tensor_row_bytes(type, N_BLOCK);
    float *in = malloc(3 * N_BLOCK * sizeof *in), *out = malloc(3 * N_BLOCK * sizeof *out);
    char *blocks = malloc(3 * n_bytes), *again = malloc(3 * n_bytes);
    assert_true(in && out && blocks && again);
    for (int i = 0; i < N_BLOCK; i++) in[i] = in[2 * N_BLOCK + i] = gaussian((uint64_t)i);
    float *x = in + N_BLOCK;
    awkward[k].fill(x);
    memset(blocks, 0x55, 3 * n_bytes);
    memset(again, 0xaa, 3 * n_bytes);
    t->quantise(in, blocks, 3 * N_BLOCK);
    t->quantise(in, again, 3 * N_BLOCK);
    assert_memory_equal(blocks, again, 3 * n_bytes);            /* same input, same bytes, whatever stood there */
    assert_memory_equal(blocks, blocks + 2 * n_bytes, n_bytes); /* neighbours do not notice */
    t->dequantise(blocks, out, 3 * N_BLOCK);
    double most = 0.0, error = 0.0;
    int n_bad = 0;
    for (int i = 0; i < N_BLOCK; i++) {
        most = fmax(most, fabs((double)x[i]));
        n_bad += !isfinite(out[N_BLOCK + i]);
        error = fmax(error, fabs((double)x[i] - (double)out[N_BLOCK + i]));
        assert_true(isfinite(out[i]) && isfinite(out[2 * N_BLOCK + i]));
        if (awkward[k].want == ZERO) assert_true(out[N_BLOCK + i] == 0.0f);
    }
    if (awkward[k].want == NOT_FINITE && n_bad == 0) fail_msg("%s: %s", t->name, awkward[k].why);
    const int may_be_bad = awkward[k].want == CLOSE_OR_NOT_FINITE && n_bad > 0;
    const int must_fit = awkward[k].want == SANE || awkward[k].want == CLOSE_OR_NOT_FINITE;
    if (must_fit && !may_be_bad && (n_bad > 0 || error > awkward[k].tolerance * most)) {
        fail_msg("%s: %s: %d not finite, error %g of %g", t->name, awkward[k].why, n_bad, error, most);
    }
    free(in);
    free(out);
    free(blocks);
    free(again);
}

static void test_awkward(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof awkward / sizeof awkward[0]; k++) {
        for (uint32_t id = 0; id < TENSOR_TYPE_END; id++) {
            const tensor_type_info *t = tensor_type_get(id);
            if (t) check_awkward(t, (tensor_type)id, k);
        }
    }
}

/* Any bits are accepted; only the sanitizers and the clock judge. Exponents range from all (every block meets a NaN sooner or
 * later) to a few binades, so that finite blocks of wild spread occur too. */
static void test_any_bits(void **state) {
    (void)state;
    float in[N_BLOCK], out[N_BLOCK], blocks[N_BLOCK];
    for (uint64_t round = 0; round < 200; round++) {
        const uint32_t low = rng_at(6, round, 1000).v[0] % 256, span = 1 + rng_at(6, round, 1001).v[0] % (256 - low);
        for (int i = 0; i < N_BLOCK; i++) {
            const rng_block r = rng_at(6, round, (uint64_t)i);
            const uint32_t bits = (r.v[0] & 0x807fffffu) | (low + r.v[1] % span) << 23;
            memcpy(&in[i], &bits, sizeof bits);
        }
        for (uint32_t id = 0; id < TENSOR_TYPE_END; id++) {
            const tensor_type_info *t = tensor_type_get(id);
            if (!t) continue;
            t->quantise(in, blocks, N_BLOCK);
            t->dequantise(blocks, out, N_BLOCK);
        }
    }
}

/* Quantising what was dequantised must not drift: the second error stays below a tenth of the first. */
static void test_stable(void **state) {
    (void)state;
    float in[N_BLOCK], once[N_BLOCK], twice[N_BLOCK], blocks[N_BLOCK];
    for (int i = 0; i < N_BLOCK; i++) in[i] = gaussian((uint64_t)i + 1000);
    for (uint32_t id = 0; id < TENSOR_TYPE_END; id++) {
        const tensor_type_info *t = tensor_type_get(id);
        double first = 0.0, second = 0.0;
        if (!t) continue;
        t->quantise(in, blocks, N_BLOCK);
        t->dequantise(blocks, once, N_BLOCK);
        t->quantise(once, blocks, N_BLOCK);
        t->dequantise(blocks, twice, N_BLOCK);
        for (int i = 0; i < N_BLOCK; i++) {
            first += pow((double)in[i] - (double)once[i], 2.0);
            second += pow((double)once[i] - (double)twice[i], 2.0);
        }
        if (second > 0.1 * first) fail_msg("%s: %g after %g", t->name, second, first);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_awkward),
        cmocka_unit_test(test_any_bits),
        cmocka_unit_test(test_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
