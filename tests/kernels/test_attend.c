/* The attention kernel: against a double-precision softmax over the values as the cache rounds them, alone and in
 * company, on every instruction set. Every slot that no query may see holds NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/cpu/ops.h"
#include "random_net.h"
#include "tensor/half.h"

enum { MAX_POS = 640, MAX_D = 256, MAX_GROUP = 9 };

typedef struct attend_case {
    int32_t d, n_group, n_rows, first_pos, window;
    float softcap;
    const char *why;
} attend_case;

static const attend_case cases[] = {
    {64, 4, 1, 0, 0, 0, "the first token"},
    {64, 4, 1, 31, 0, 0, "the last key of a tile"},
    {64, 4, 1, 32, 0, 0, "the first key of a tile"},
    {64, 1, 1, 64, 0, 0, "the first key of a page; no group"},
    {80, 3, 5, 61, 0, 0, "rows over a page's end; blocks of three"},
    {96, 5, 7, 20, 0, 0, "four and one"},
    {128, 8, 8, 100, 0, 0, "two blocks of four"},
    {256, 2, 9, 40, 0, 0, "wide heads"},
    {20, 6, 4, 33, 0, 0, "a width that is no multiple of 16"},
    {6, 2, 3, 30, 0, 0, "narrower than a vector"},
    {16, 9, 40, 0, 0, 0, "prefill from the start"},
    {48, 2, 32, 96, 0, 0, "whole tiles; columns that are an odd number of vectors"},
    {64, 4, 1, 200, 7, 0, "a window inside a tile"},
    {64, 4, 1, 200, 1, 0, "a window of the token itself"},
    {32, 2, 48, 90, 33, 0, "a window over tiles, rows that leave them one by one"},
    {64, 4, 16, 300, 512, 0, "a window larger than the context"},
    {64, 2, 3, 590, 100, 0, "a window that ends in the segment before"},
    {64, 4, 4, 510, 0, 0, "rows over a segment's end"},
    {64, 2, 8, 620, 0, 0, "two segments"},
    {64, 4, 4, 77, 0, 2.5f, "softcap"},
};

typedef struct cache {
    kv_layout kl;
    char *pages;
    int32_t ids[MAX_POS / KV_PAGE];
    float *k, *v; /* [MAX_POS][d] as put */
    float *q;     /* [rows][group][d] */
} cache;

static float scale_of(const attend_case *c) {
    return (float)(1 / sqrt(c->d));
}

/* Two KV heads, of which the second is used; pages in reverse order; 0xFF bytes are NaN in every type that has one. */
static cache cache_of(const cpu_ops *ops, kv_type type, const attend_case *c) {
    cache s = {.kl = kv_layout_of(type, c->d, 2)};
    const size_t n = (size_t)MAX_POS * (size_t)c->d, n_pages = MAX_POS / KV_PAGE;
    s.pages = aligned_alloc(64, n_pages * s.kl.page_bytes);
    s.k = malloc(n * sizeof *s.k);
    s.v = malloc(n * sizeof *s.v);
    s.q = malloc((size_t)c->n_rows * (size_t)c->n_group * (size_t)c->d * sizeof *s.q);
    assert_true(s.pages && s.k && s.v && s.q);
    memset(s.pages, 0xFF, n_pages * s.kl.page_bytes);
    for (size_t i = 0; i < n_pages; i++) s.ids[i] = (int32_t)(n_pages - 1 - i);
    for (size_t i = 0; i < n; i++) {
        s.k[i] = (float)(4 * rng_uniform(3, 1, i) - 2);
        s.v[i] = (float)(4 * rng_uniform(3, 2, i) - 2);
    }
    for (size_t i = 0; i < (size_t)(c->n_rows * c->n_group * c->d); i++) s.q[i] = (float)(4 * rng_uniform(3, 3, i) - 2);
    const int32_t low = c->window && c->first_pos >= c->window ? c->first_pos - c->window + 1 : 0;
    for (int32_t p = low; p < c->first_pos + c->n_rows; p++)
        ops->kv_put(&s.kl, s.pages + (size_t)s.ids[p / KV_PAGE] * s.kl.page_bytes + s.kl.head_bytes, p % KV_PAGE,
                    s.k + (size_t)p * (size_t)c->d, s.v + (size_t)p * (size_t)c->d);
    return s;
}

static void cache_free(cache *s) {
    free(s->pages);
    free(s->k);
    free(s->v);
    free(s->q);
}

/* Rows [first, first + n) of the case into out [n][group][d]. */
static void run(const cpu_ops *ops, const cache *s, const attend_case *c, int32_t first, int32_t n, float *out) {
    const attend_job job = {.kl = &s->kl,
                            .layer = s->pages,
                            .pages = s->ids,
                            .head_offset = s->kl.head_bytes,
                            .q = s->q + (size_t)first * (size_t)(c->n_group * c->d),
                            .q_stride = (int64_t)c->n_group * c->d,
                            .n_rows = n,
                            .n_group = c->n_group,
                            .first_pos = c->first_pos + first,
                            .window = c->window,
                            .scale = scale_of(c),
                            .softcap = c->softcap};
    const int32_t n_queries = n * c->n_group;
    const size_t pf = (size_t)s->kl.d_pad + ATTEND_STATE;
    float *scratch = aligned_alloc(64, (attend_scratch_floats(&s->kl, n_queries) * sizeof(float) + 63) & ~(size_t)63);
    float *total = calloc((size_t)n_queries * pf, sizeof *total), *part = malloc((size_t)n_queries * pf * sizeof *part);
    assert_true(scratch && total && part);
    for (int32_t at = 0; at <= job.first_pos + n - 1; at += ATTEND_SEGMENT) {
        ops->attend(&job, at, at + ATTEND_SEGMENT, part, scratch);
        for (int32_t i = 0; i < n_queries; i++) ops->attend_merge(&s->kl, total + (size_t)i * pf, part + (size_t)i * pf);
    }
    for (int32_t i = 0; i < n_queries; i++) ops->attend_finish(&s->kl, out + (size_t)i * (size_t)c->d, total + (size_t)i * pf);
    free(scratch);
    free(total);
    free(part);
}

static void rounded(kv_type type, const float *x, int32_t d, double *out) {
    for (int32_t b = 0; b < d; b += 32) {
        const int32_t n = d - b < 32 ? d - b : 32;
        float most = 0;
        for (int32_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[b + i]));
        const float scale = most / 127.0f;
        for (int32_t i = b; i < b + n; i++) {
            out[i] = (double)x[i];
            if (type == KV_F16) out[i] = (double)half_to_f32(half_from_f32(x[i]));
            if (type == KV_Q8_0) out[i] = (double)rintf(x[i] / scale) * (double)half_to_f32(half_from_f32(scale));
        }
    }
}

/* k, v [MAX_POS][d]: as the cache rounds them. */
static void exact_row(const cache *s, const attend_case *c, const double *k, const double *v, int32_t query, float *out) {
    const int32_t pos = c->first_pos + query / c->n_group;
    const int32_t low = c->window && pos >= c->window ? pos - c->window + 1 : 0;
    const float *q = s->q + (size_t)query * (size_t)c->d;
    double score[MAX_POS], sum = 0, most = -INFINITY, y[MAX_D] = {0};
    for (int32_t p = low; p <= pos; p++) {
        const double *x = k + (size_t)p * (size_t)c->d;
        double dot = 0;
        for (int32_t i = 0; i < c->d; i++) dot += (double)q[i] * x[i];
        score[p] = dot * (double)scale_of(c);
        if (c->softcap > 0) score[p] = (double)c->softcap * tanh(score[p] / (double)c->softcap);
        most = fmax(most, score[p]);
    }
    for (int32_t p = low; p <= pos; p++) {
        const double *x = v + (size_t)p * (size_t)c->d;
        const double weight = exp(score[p] - most);
        sum += weight;
        for (int32_t i = 0; i < c->d; i++) y[i] += weight * x[i];
    }
    for (int32_t i = 0; i < c->d; i++) out[i] = (float)(y[i] / sum);
}

static int sets(const cpu_ops **out) {
    int n = 0;
    for (const char *const *name = cpu_isa_names(); *name; name++)
        if (cpu_ops_get(*name)) out[n++] = cpu_ops_get(*name);
    return n;
}

/* The design page's bound for f32 operations. */
static void against_double(void **state) {
    static float got[64 * MAX_GROUP * MAX_D], want[64 * MAX_GROUP * MAX_D];
    static double k[MAX_POS * MAX_D], v[MAX_POS * MAX_D];
    const cpu_ops *all[8];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (int type = 0; type < N_KV_TYPES; type++) {
                const attend_case *c = &cases[i];
                cache kv = cache_of(all[s], (kv_type)type, c);
                run(all[s], &kv, c, 0, c->n_rows, got);
                for (int32_t p = 0; p < c->first_pos + c->n_rows; p++) {
                    const size_t at = (size_t)p * (size_t)c->d;
                    rounded((kv_type)type, kv.k + at, c->d, k + at);
                    rounded((kv_type)type, kv.v + at, c->d, v + at);
                }
                for (int32_t j = 0; j < c->n_rows * c->n_group; j++) exact_row(&kv, c, k, v, j, want + (size_t)j * (size_t)c->d);
                const double nmse = random_net_nmse(got, want, (size_t)(c->n_rows * c->n_group * c->d));
                if (!(nmse <= 1e-12))
                    fail_msg("%s, %s, KV %s: NMSE %.3g", c->why, all[s]->isa, kv_type_name((kv_type)type), nmse);
                cache_free(&kv);
            }
}

/* Row by row, on every set, against all rows together on the generic one; and that against the bytes which x86-64 and ARMv8
 * were found to agree on. */
static void same_bytes_case(const attend_case *c, kv_type type, uint64_t *digest) {
    static float got[64 * MAX_GROUP * MAX_D], want[64 * MAX_GROUP * MAX_D];
    const size_t row = (size_t)c->n_group * (size_t)c->d, n = (size_t)c->n_rows * row;
    const cpu_ops *all[8], *generic = cpu_ops_get("generic");
    cache kv = cache_of(generic, type, c);
    run(generic, &kv, c, 0, c->n_rows, want);
    *digest = random_net_digest(*digest, want, (int64_t)n);
    for (int s = 0, n_sets = sets(all); s < n_sets; s++) {
        cache own = cache_of(all[s], type, c);
        assert_memory_equal(kv.pages, own.pages, MAX_POS / KV_PAGE * kv.kl.page_bytes);
        for (int is_single = all[s] == generic; is_single < 2; is_single++) {
            const int32_t step = is_single ? 1 : c->n_rows;
            for (int32_t r = 0; r < c->n_rows; r += step) run(all[s], &own, c, r, step, got + (size_t)r * row);
            if (memcmp(got, want, n * sizeof *got) != 0)
                fail_msg("%s, %s, KV %s, %s: bytes differ", c->why, all[s]->isa, kv_type_name(type),
                         is_single ? "row by row" : "together");
        }
        cache_free(&own);
    }
    cache_free(&kv);
}

static void same_bytes(void **state) {
    uint64_t digest = 14695981039346656037u;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int type = 0; type < N_KV_TYPES; type++) same_bytes_case(&cases[i], (kv_type)type, &digest);
    if (digest != 0x38dd9d21f9199de5) fail_msg("digest 0x%llx", (unsigned long long)digest);
}

/* A NaN in one key reaches every query that sees it, and no other. */
static void nan_key(void **state) {
    static float got[64 * MAX_GROUP * MAX_D], want[64 * MAX_GROUP * MAX_D];
    const attend_case c = {64, 3, 40, 500, 0, 0, ""};
    const int32_t ill = 520;
    const cpu_ops *all[8];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++)
        for (int type = 0; type < N_KV_TYPES; type++)
            for (int is_value = 0; is_value < 2; is_value++) {
                cache kv = cache_of(all[s], (kv_type)type, &c);
                run(all[s], &kv, &c, 0, c.n_rows, want);
                float *k = kv.k + ill * c.d, *v = kv.v + ill * c.d;
                for (int32_t i = 0; i < c.d; i++) (is_value ? v : k)[i] = NAN;
                all[s]->kv_put(&kv.kl, kv.pages + (size_t)kv.ids[ill / KV_PAGE] * kv.kl.page_bytes + kv.kl.head_bytes,
                               ill % KV_PAGE, k, v);
                run(all[s], &kv, &c, 0, c.n_rows, got);
                const size_t row = (size_t)(c.n_group * c.d), first = (size_t)(ill - c.first_pos) * row;
                assert_memory_equal(got, want, first * sizeof *got);
                for (size_t i = first; i < (size_t)c.n_rows * row; i++) assert_true(isnan(got[i]));
                cache_free(&kv);
            }
}

/* Blocks that a Q8_0 cache cannot hold: infinite, NaN, too small, and at the edge of its range. */
static void q8_0_extremes(void **state) {
    static const struct {
        float x;
        bool is_nan;
        float want;
        const char *why;
    } rows[] = {
        {NAN, true, 0, "NaN"},
        {INFINITY, true, 0, "infinite"},
        {-INFINITY, true, 0, "minus infinite"},
        {1e-43f, false, 0, "denormal"},
        {1e-7f, false, 0, "below the scale's range"},
        {0.0f, false, 0, "zero"},
        {-127, false, -127, "a scale of 1"},
    };
    const cpu_ops *all[8];
    (void)state;
    for (int s = 0, n_sets = sets(all); s < n_sets; s++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const attend_case c = {32, 1, 1, 0, 0, 0, ""};
            cache kv = cache_of(all[s], KV_Q8_0, &c);
            float k[32] = {0}, v[32] = {0}, out[32];
            v[17] = rows[i].x;
            all[s]->kv_put(&kv.kl, kv.pages + (size_t)kv.ids[0] * kv.kl.page_bytes + kv.kl.head_bytes, 0, k, v);
            run(all[s], &kv, &c, 0, 1, out);
            if (rows[i].is_nan ? !isnan(out[17]) : out[17] != rows[i].want)
                fail_msg("%s, %s: %g", rows[i].why, all[s]->isa, (double)out[17]);
            cache_free(&kv);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_double), cmocka_unit_test(same_bytes), cmocka_unit_test(nan_key),
                                       cmocka_unit_test(q8_0_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
