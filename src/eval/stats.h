/* Statistics of counts: arithmetic alone. Tests hold values computed by scipy. */
#ifndef GALEN_EVAL_STATS_H
#define GALEN_EVAL_STATS_H

#include <stdint.h>

#include "assist/fit.h"

/** Wilson's score interval (without continuity correction), 95 %. n 0: 0 in [0, 1].
 *  Source: Wilson, JASA 22 (1927) 209. */
fit_interval stats_wilson(int32_t hits, int32_t n);

/* Two measurements of the same cases. */
typedef struct stats_pairs {
    int32_t both, only_first, only_second, neither;
} stats_pairs;

/** share of the first minus share of the second, 95 %: Newcombe's interval from two Wilson intervals and their correlation.
 *  No pairs: 0 in [-1, 1].  Source: Newcombe, Statistics in Medicine 17 (1998) 2635, method 10. */
fit_interval stats_paired_difference(const stats_pairs *p);

/** McNemar's exact two-sided p: could the discordant pairs fall like that by chance? 1 without any.
 *  Source: McNemar, Psychometrika 12 (1947) 153; the binomial test of its discordant pairs. */
double stats_mcnemar(const stats_pairs *p);

/** The q-quantile, 0..1, by linear interpolation (numpy's default). Sorts v. n 0: 0. */
double stats_quantile(double *v, int32_t n, double q);

#endif
