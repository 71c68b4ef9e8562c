#include "assist/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "base/error.h"
#include "base/rng.h"

#define RESAMPLES 1000

/* The case as a differential, ranked under k. p by order, other last. */
static void ranked(const fit_case *c, const galen_calibration *k, galen_differential *d) {
    static const double no_answers[N_OPTIONS] = {0};
    *d = (galen_differential){.has_choice = c->has_choice, .choice_other = c->choice[OTHER], .n_text = c->n_text};
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        d->conditions[i] =
            (galen_condition){.name_logprob = c->name[i], .choice_logprob = c->choice[i], .text_logprob = c->text[i], .order = i};
    rank_conditions(d, k, no_answers);
}

double fit_loss(const fit_case *cases, int32_t n, const galen_calibration *k) {
    double sum = 0;
    for (int32_t c = 0; c < n; c++) {
        galen_differential d;
        ranked(&cases[c], k, &d);
        double p = d.other;
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) p = d.conditions[i].order == cases[c].right ? d.conditions[i].confidence : p;
        sum -= log(p);
    }
    return sum / n;
}

/* A case more or less that says nothing: keeps "other" from certainty when no case, or every one, was among the five. */
static double penalty(const galen_calibration *k, int32_t n) {
    return k->other_bias * k->other_bias / 32 / n;
}

/* Four parameters and a smooth loss: one after another along a grid that grows finer. */
void fit_calibration(const fit_case *cases, int32_t n, galen_calibration *k) {
    enum { ROUNDS = 8, STEPS = 6, N = 4 };
    const double least[N] = {log(0.1), 0, 0, -6}, most[N] = {log(20), 1, 10, 6};
    double at[N] = {0, 0.5, 2, 0}, step[N] = {log(20) / STEPS, 1.0 / STEPS, 5.0 / STEPS, 6.0 / STEPS};
    galen_calibration t = *k;
    double best = INFINITY;
    for (int pass = 0; pass < ROUNDS * 2 * N; pass++) { /* twice each, then finer */
        const int which = pass % N;
        double mine = at[which];
        for (int i = -STEPS; i <= STEPS; i++) {
            double v[N] = {at[0], at[1], at[2], at[3]};
            v[which] += i * step[which];
            if (v[which] < least[which] || v[which] > most[which]) continue;
            t.temperature = exp(v[0]);
            t.name_weight = v[1];
            t.text_weight = v[2];
            t.other_bias = v[3];
            const double loss = fit_loss(cases, n, &t) + penalty(&t, n);
            if (loss >= best) continue;
            best = loss;
            mine = v[which];
        }
        at[which] = mine;
        for (int i = 0; i < N && pass % (2 * N) == 2 * N - 1; i++) step[i] /= 2;
    }
    k->temperature = exp(at[0]);
    k->name_weight = at[1];
    k->text_weight = at[2];
    k->other_bias = at[3];
}

/* ------------------------------------------------------------ measures */

typedef struct view {
    double p[GALEN_N_CONDITIONS]; /* confidences in rank order */
    int32_t right;                /* rank of what was right; 5: none */
} view;

typedef struct measures {
    double ece, brier, auroc, top1, top5;
} measures;

typedef struct claim {
    double p;
    bool is_hit;
} claim;

static int by_claim(const void *pa, const void *pb) {
    const claim *a = pa, *b = pb;
    return (a->p > b->p) - (a->p < b->p);
}

/* The share of pairs of a hit and a miss in which the hit has the higher confidence, equals as half (Mann and Whitney). */
static double area(claim *c, int32_t n) {
    double wins = 0, n_hits = 0, n_misses = 0;
    qsort(c, (size_t)n, sizeof *c, by_claim);
    for (int32_t i = 0; i < n;) {
        double hits = 0, misses = 0;
        int32_t k = i;
        for (; k < n && c[k].p <= c[i].p; k++) {
            hits += c[k].is_hit;
            misses += !c[k].is_hit;
        }
        wins += hits * (n_misses + misses / 2);
        n_hits += hits;
        n_misses += misses;
        i = k;
    }
    return n_hits > 0 && n_misses > 0 ? wins / (n_hits * n_misses) : 0.5;
}

static int bin_of(double p) {
    const int bin = (int)(p * FIT_BINS);
    return bin >= FIT_BINS ? FIT_BINS - 1 : bin;
}

static measures measure(const view *v, const int32_t *pick, int32_t n, claim *claims) {
    double sum_p[FIT_BINS] = {0}, sum_y[FIT_BINS] = {0};
    measures m = {0};
    for (int32_t c = 0; c < n; c++) {
        const view *k = &v[pick[c]];
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
            const double y = k->right == i;
            const int bin = bin_of(k->p[i]);
            sum_p[bin] += k->p[i];
            sum_y[bin] += y;
            m.brier += (k->p[i] - y) * (k->p[i] - y);
        }
        claims[c] = (claim){k->p[0], k->right == 0};
        m.top1 += k->right == 0;
        m.top5 += k->right < GALEN_N_CONDITIONS;
    }
    const double all = (double)n * GALEN_N_CONDITIONS;
    for (int b = 0; b < FIT_BINS; b++) m.ece += fabs(sum_p[b] - sum_y[b]) / all;
    m.brier /= all;
    m.top1 /= n;
    m.top5 /= n;
    m.auroc = area(claims, n);
    return m;
}

static int by_value(const void *pa, const void *pb) {
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static fit_interval interval(double value, double *samples) {
    qsort(samples, RESAMPLES, sizeof *samples, by_value);
    return (fit_interval){.value = value, .low = samples[RESAMPLES / 40], .high = samples[RESAMPLES - 1 - RESAMPLES / 40]};
}

galen_status fit_measure(const fit_case *cases, int32_t n, const galen_calibration *k, uint64_t seed, fit_report *out,
                         galen_error *err) {
    *out = (fit_report){0};
    if (n < 1) return galen_fail(err, GALEN_E_ARG, 0, "no cases");
    view *v = calloc((size_t)n, sizeof *v);
    int32_t *pick = calloc((size_t)n, sizeof *pick);
    double *s = calloc(RESAMPLES, 5 * sizeof *s);
    claim *claims = calloc((size_t)n, sizeof *claims);
    galen_status st = GALEN_OK;
    if (!v || !pick || !s || !claims) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "measures of %d cases", n);
        goto done;
    }
    for (int32_t c = 0; c < n; c++) {
        galen_differential d;
        ranked(&cases[c], k, &d);
        v[c].right = GALEN_N_CONDITIONS;
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
            v[c].p[i] = d.conditions[i].confidence;
            if (d.conditions[i].order == cases[c].right) v[c].right = i;
        }
        pick[c] = c;
    }
    const measures all = measure(v, pick, n, claims);
    for (int32_t r = 0; r < RESAMPLES; r++) {
        for (int32_t c = 0; c < n; c++) pick[c] = (int32_t)(rng_uniform(seed, (uint64_t)r, (uint64_t)c) * n);
        const measures m = measure(v, pick, n, claims);
        const double of[5] = {m.ece, m.brier, m.auroc, m.top1, m.top5};
        for (int i = 0; i < 5; i++) s[i * RESAMPLES + r] = of[i];
    }
    out->ece = interval(all.ece, s);
    out->brier = interval(all.brier, s + RESAMPLES);
    out->auroc = interval(all.auroc, s + 2 * RESAMPLES);
    out->top1 = interval(all.top1, s + 3 * RESAMPLES);
    out->top5 = interval(all.top5, s + 4 * RESAMPLES);
done:
    free(v);
    free(pick);
    free(s);
    free(claims);
    return st;
}

void fit_bins(const fit_case *cases, int32_t n, const galen_calibration *k, fit_bin out[FIT_BINS]) {
    for (int b = 0; b < FIT_BINS; b++) out[b] = (fit_bin){0};
    for (int32_t c = 0; c < n; c++) {
        galen_differential d;
        ranked(&cases[c], k, &d);
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
            fit_bin *b = &out[bin_of(d.conditions[i].confidence)];
            b->n++;
            b->sum += d.conditions[i].confidence;
            b->n_right += d.conditions[i].order == cases[c].right;
        }
    }
}
