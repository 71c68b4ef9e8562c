/* The sampler against plain definitions: sort everything, sum everything. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "runtime/sampler.h"

static galen_sampling plain(float temperature) {
    galen_sampling o = galen_sampling_default();
    o.temperature = temperature;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static int32_t choose(const galen_sampling *o, const float *logits, int32_t n, const int32_t *history, int32_t n_history) {
    sampler s;
    int32_t id = -1;
    galen_error err;
    assert_int_equal(sampling_check(o, n, &err), GALEN_OK);
    assert_int_equal(sampler_open(&s, n, &err), GALEN_OK);
    assert_int_equal(sampler_choose(&s, o, logits, history, n_history, NULL, &id, &err), GALEN_OK);
    sampler_close(&s);
    return id;
}

static void greedy_takes_the_largest(void **state) {
    (void)state;
    static const struct {
        float logits[4];
        int32_t want;
        const char *why;
    } rows[] = {
        {{0, 3, 1, 2}, 1, "the largest"},
        {{5, 5, 5, 5}, 0, "a tie goes to the lowest id"},
        {{-4, -3, -3, -9}, 1, "all negative, a tie among the best"},
        {{-INFINITY, -INFINITY, -INFINITY, -8}, 3, "only one is allowed"},
        {{-3.4e38f, 3.4e38f, 0, 0}, 1, "huge spread"},
    };
    const galen_sampling o = plain(0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (choose(&o, rows[i].logits, 4, NULL, 0) != rows[i].want) fail_msg("%s", rows[i].why);
}

/* What the chain should keep, by sorting. Returns the count; ids best first. */
static int by_value(const void *a, const void *b) {
    const sampler_item *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}
static int32_t kept_by_definition(const galen_sampling *o, const float *logits, int32_t n, sampler_item *out) {
    for (int32_t i = 0; i < n; i++) out[i] = (sampler_item){logits[i], i};
    qsort(out, (size_t)n, sizeof *out, by_value);
    int32_t k = o->top_k && o->top_k < n ? o->top_k : n;
    double mass = 0, taken = 0;
    for (int32_t i = 0; i < k; i++) mass += exp((double)out[i].logit - (double)out[0].logit);
    int32_t m = 0;
    while (m < k && (m == 0 || taken < (double)o->top_p * mass)) taken += exp((double)out[m++].logit - (double)out[0].logit);
    while (m > 1 && exp((double)out[m - 1].logit - (double)out[0].logit) < (double)o->min_p) m--;
    return m;
}

static void the_chain_draws_from_what_it_should_keep(void **state) {
    (void)state;
    enum { N = 97, DRAWS = 4000 };
    static const struct {
        int32_t k;
        float p, m, t;
        const char *why;
    } rows[] = {
        {0, 1, 0, 1, "no filter"},          {1, 1, 0, 1, "top-k of one"},       {5, 1, 0, 1, "top-k"},
        {0, 0.5f, 0, 1, "top-p alone"},     {0, 1, 0.2f, 1, "min-p alone"},     {40, 0.9f, 0.05f, 0.8f, "all three"},
        {200, 1, 0, 1, "top-k beyond all"}, {0, 0, 0, 1, "top-p of zero: one"}, {7, 0.7f, 0, 0.1f, "the guide's: cold"},
    };
    float logits[N];
    for (int32_t i = 0; i < N; i++) logits[i] = (float)(6 * rng_uniform(11, 1, (uint64_t)i));
    logits[13] = logits[12]; /* a tie inside */
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        galen_sampling o = plain(rows[r].t);
        o.top_k = rows[r].k;
        o.top_p = rows[r].p;
        o.min_p = rows[r].m;
        o.seed = 77 + r;
        sampler_item want[N];
        const int32_t m = kept_by_definition(&o, logits, N, want);
        double p[N] = {0}, sum = 0;
        for (int32_t i = 0; i < m; i++)
            sum += p[want[i].id] = exp(((double)want[i].logit - (double)want[0].logit) / (double)o.temperature);
        int32_t hits[N] = {0};
        sampler s;
        assert_int_equal(sampler_open(&s, N, NULL), GALEN_OK);
        for (int32_t d = 0; d < DRAWS; d++) {
            int32_t id;
            static int32_t history[DRAWS];
            assert_int_equal(sampler_choose(&s, &o, logits, history, d, NULL, &id, NULL), GALEN_OK);
            hits[id]++;
        }
        sampler_close(&s);
        double chi = 0;
        for (int32_t i = 0; i < N; i++) {
            const double e = DRAWS * p[i] / sum;
            if (p[i] == 0 && hits[i]) fail_msg("%s: token %d should have been filtered", rows[r].why, i);
            if (e > 0) chi += (hits[i] - e) * (hits[i] - e) / fmax(e, 1.0);
        }
        /* chi-square with m - 1 degrees of freedom: mean m - 1, sd sqrt(2 (m - 1)); five sd with a fixed seed */
        if (chi > (m - 1) + 5 * sqrt(2.0 * m) + 5) fail_msg("%s: chi-square %.1f for %d tokens", rows[r].why, chi, m);
    }
}

static void draws_depend_on_seed_and_position_only(void **state) {
    (void)state;
    float logits[50];
    int32_t history[64] = {0};
    for (int i = 0; i < 50; i++) logits[i] = (float)rng_uniform(3, 3, (uint64_t)i);
    galen_sampling o = plain(1);
    int n_differ = 0, n_moved = 0;
    for (int32_t pos = 0; pos < 64; pos++) {
        o.seed = 5;
        const int32_t a = choose(&o, logits, 50, history, pos), again = choose(&o, logits, 50, history, pos);
        assert_int_equal(a, again);
        o.seed = 6;
        n_differ += choose(&o, logits, 50, history, pos) != a;
        o.seed = 5;
        n_moved += choose(&o, logits, 50, history, (pos + 1) % 64) != a;
    }
    assert_true(n_differ > 40 && n_moved > 40);
}

static void penalties_and_bias(void **state) {
    (void)state;
    const int32_t history[] = {1, 2, 2, 3, 3, 3};
    static const struct {
        float repeat, presence, frequency;
        int32_t last_n;
        float bias2;
        float logits[5];
        int32_t want;
        const char *why;
    } rows[] = {
        {2, 0, 0, -1, 0, {1.2f, 2, 0, 0, 0}, 0, "2 / 2 < 1.2"},
        {2, 0, 0, -1, 0, {-1.5f, -1, -9, -9, -9}, 0, "-1 * 2 < -1.5"},
        {2, 0, 0, 3, 0, {1.2f, 2, 0, 0, 0}, 1, "token 1 is beyond the window"},
        {2, 0, 0, 0, 0, {1.2f, 2, 0, 0, 0}, 1, "a window of none"},
        {1, 1, 0, -1, 0, {2.5f, 0, 3, 0, 0}, 0, "3 - 1 < 2.5"},
        {1, 0, 1, -1, 0, {0.5f, 0, 2, 3.2f, 0}, 0, "2 - 2 and 3.2 - 3 < 0.5"},
        {1, 0, 1, 4, 0, {0, 0, 2.4f, 4, 0}, 2, "the window holds 2 once and 3 three times"},
        {1, 0, 0, -1, 5, {1, 0, 0, 0, 0}, 2, "bias raises"},
        {1, 0, 0, -1, -INFINITY, {0, 0, 9, 1, 0}, 3, "bias forbids"},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        galen_sampling o = plain(0);
        const galen_logit_bias bias = {2, rows[r].bias2};
        o.repeat_penalty = rows[r].repeat;
        o.presence_penalty = rows[r].presence;
        o.frequency_penalty = rows[r].frequency;
        o.penalty_last_n = rows[r].last_n;
        o.bias = &bias;
        o.n_bias = 1;
        if (choose(&o, rows[r].logits, 5, history, 6) != rows[r].want) fail_msg("%s", rows[r].why);
    }
}

static void bad_options_are_named(void **state) {
    (void)state;
    static const galen_logit_bias out_of_range = {9, 1}, not_a_number = {1, NAN}, infinite = {1, INFINITY};
    galen_sampling rows[12];
    const char *names[12] = {"temperature", "temperature", "top_p",    "top_p", "min_p",      "repeat_penalty",
                             "top_k",       "last_n",      "presence", "bias",  "logit_bias", "logit_bias"};
    for (int i = 0; i < 12; i++) rows[i] = plain(1);
    rows[0].temperature = NAN;
    rows[1].temperature = -1;
    rows[2].top_p = 1.5f;
    rows[3].top_p = NAN;
    rows[4].min_p = -0.1f;
    rows[5].repeat_penalty = 0;
    rows[6].top_k = -1;
    rows[7].penalty_last_n = -2;
    rows[8].presence_penalty = INFINITY;
    rows[9].bias = &out_of_range;
    rows[10].bias = &not_a_number;
    rows[11].bias = &infinite;
    for (int i = 9; i < 12; i++) rows[i].n_bias = 1;
    for (int i = 0; i < 12; i++) {
        galen_error err = {0};
        assert_int_equal(sampling_check(&rows[i], 5, &err), GALEN_E_ARG);
        if (!strstr(err.msg, names[i])) fail_msg("row %d: \"%s\" does not name %s", i, err.msg, names[i]);
    }
}

static void nothing_left_is_an_error(void **state) {
    (void)state;
    const float logits[3] = {-INFINITY, -INFINITY, -INFINITY};
    const galen_sampling o = plain(1);
    sampler s;
    int32_t id;
    galen_error err;
    assert_int_equal(sampler_open(&s, 3, NULL), GALEN_OK);
    assert_int_equal(sampler_choose(&s, &o, logits, NULL, 0, NULL, &id, &err), GALEN_E_NUMERIC);
    sampler_close(&s);
}

/* Whatever the filters: a token outside the mask is never drawn, and those inside are drawn as if the others were not there. */
static void a_mask_removes_tokens(void **state) {
    (void)state;
    enum { N = 70, KEPT = 3, DRAWS = 50 };
    static const int32_t kept[KEPT] = {5, 33, 69}, history[DRAWS] = {0};
    static const uint32_t none[3] = {0};
    float logits[N], few[KEPT];
    uint32_t mask[3] = {0};
    sampler s;
    int32_t id;
    for (int i = 0; i < N; i++) logits[i] = (float)(i % 7);
    for (int i = 0; i < KEPT; i++) {
        mask[kept[i] / 32] |= 1u << (kept[i] % 32);
        few[i] = logits[kept[i]];
    }
    assert_int_equal(sampler_open(&s, N, NULL), GALEN_OK);
    for (int r = 0; r < 12; r++) {
        galen_sampling o = plain(r & 4 ? 0 : 1.5f);
        o.top_k = r & 1 ? 2 : r & 8 ? 40 : 0;
        o.top_p = r & 2 ? 0.9f : 1;
        o.penalty_last_n = 0;
        for (int32_t d = 0; d < DRAWS; d++) {
            assert_int_equal(sampler_choose(&s, &o, logits, history, d, mask, &id, NULL), GALEN_OK);
            if (r & 8) /* more than there are: drawn in another order than without a filter */
                assert_true(id == kept[0] || id == kept[1] || id == kept[2]);
            else
                assert_int_equal(id, kept[choose(&o, few, KEPT, history, d)]);
        }
        assert_int_equal(sampler_choose(&s, &o, logits, NULL, 0, none, &id, NULL), GALEN_E_NUMERIC);
    }
    sampler_close(&s);
}

static void log_probabilities_sum_to_one(void **state) {
    (void)state;
    enum { N = 300 };
    float logits[N], top[20];
    int32_t ids[20];
    double sum = 0;
    for (int i = 0; i < N; i++) logits[i] = (float)(40 * rng_uniform(9, 9, (uint64_t)i) - 20);
    for (int i = 0; i < N; i++) sum += exp((double)logprobs_of(logits, N, i, 0, NULL, NULL));
    assert_true(fabs(sum - 1) < 1e-5);
    const float own = logprobs_of(logits, N, 7, 20, ids, top);
    sampler_item all[N];
    for (int32_t i = 0; i < N; i++) all[i] = (sampler_item){logits[i], i};
    qsort(all, N, sizeof *all, by_value);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ids[i], all[i].id);
        assert_true(top[i] == logprobs_of(logits, N, ids[i], 0, NULL, NULL));
    }
    assert_true(own == logprobs_of(logits, N, 7, 0, NULL, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest),
        cmocka_unit_test(the_chain_draws_from_what_it_should_keep),
        cmocka_unit_test(draws_depend_on_seed_and_position_only),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(nothing_left_is_an_error),
        cmocka_unit_test(a_mask_removes_tokens),
        cmocka_unit_test(log_probabilities_sum_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
