/* Fitting confidences on labelled cases, and saying how good they are. Arithmetic alone. */
#ifndef GALEN_ASSIST_FIT_H
#define GALEN_ASSIST_FIT_H

#include "galen/assist.h"

#define FIT_OPTIONS (GALEN_N_CONDITIONS + 1)
#define FIT_BINS    15
#define FIT_LEAST   20 /* cases: with fewer, nothing is learnt */

/* A case as the model saw it: what rank.c makes confidences of, and which of the six was right. */
typedef struct fit_case {
    double name[GALEN_N_CONDITIONS]; /* name_logprob - name_prior, by condition.order */
    double choice[FIT_OPTIONS];      /* choice_logprob; other last                     */
    double text[GALEN_N_CONDITIONS]; /* text_logprob                                   */
    int32_t n_text;
    bool has_choice;
    int32_t right; /* 0..4; 5: none of the five */
} fit_case;

typedef struct fit_interval {
    double value, low, high; /* 95 %, by resampling cases */
} fit_interval;

typedef struct fit_report {
    fit_interval ece;   /* expected calibration error, 15 bins of equal width, over all five confidences of every case */
    fit_interval brier; /* mean of (confidence - was right)^2 over the same */
    fit_interval auroc; /* of the first's confidence: does it tell cases whose first is right from the others? 0.5 when it cannot
                           be said */
    fit_interval top1, top5;
} fit_report;

/** Temperature, weights and the bias of "other" with the least negative log-likelihood of what was right; k's other fields are
 * left. n >= 1. */
void fit_calibration(const fit_case *cases, int32_t n, galen_calibration *k);

/** How good are the confidences under k? The same cases and seed, the same intervals.  Errors  NOMEM. */
galen_status fit_measure(const fit_case *cases, int32_t n, const galen_calibration *k, uint64_t seed, fit_report *out,
                         galen_error *err);

/** Can auroc be said? Not when the first was right in every case, or in none. */
static inline bool fit_has_auroc(const fit_report *r) {
    return r->top1.value > 0 && r->top1.value < 1;
}

/* A bin of confidences, for a reliability plot. */
typedef struct fit_bin {
    int32_t n, n_right; /* confidences in [bin, bin + 1) / FIT_BINS, and those of what was right */
    double sum;         /* of the confidences */
} fit_bin;

/** The bins that ece is made of. */
void fit_bins(const fit_case *cases, int32_t n, const galen_calibration *k, fit_bin out[FIT_BINS]);

/** Mean negative log-likelihood, natural log. */
double fit_loss(const fit_case *cases, int32_t n, const galen_calibration *k);

#endif
