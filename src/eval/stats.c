#include "eval/stats.h"

#include <math.h>
#include <stdlib.h>

#define Z 1.959963984540054 /* the normal distribution's 0.975 quantile */

fit_interval stats_wilson(int32_t hits, int32_t n) {
    if (n < 1) return (fit_interval){.value = 0, .low = 0, .high = 1};
    const double p = (double)hits / n, z2 = Z * Z / n;
    const double middle = (p + z2 / 2) / (1 + z2), half = Z * sqrt(p * (1 - p) / n + z2 / (4.0 * n)) / (1 + z2);
    return (fit_interval){
        .value = p, .low = hits == 0 ? 0 : fmax(0, middle - half), .high = hits == n ? 1 : fmin(1, middle + half)};
}

/* Of the two shares, from the four counts. */
static double correlation(double e, double f, double g, double h) {
    const double below = (e + f) * (g + h) * (e + g) * (f + h), n = e + f + g + h;
    if (!(below > 0)) return 0;
    double above = e * h - f * g;
    if (above > 0) above = fmax(above - n / 2, 0);
    return above / sqrt(below);
}

fit_interval stats_paired_difference(const stats_pairs *p) {
    const int32_t n = p->both + p->only_first + p->only_second + p->neither;
    if (n < 1) return (fit_interval){.value = 0, .low = -1, .high = 1};
    const fit_interval a = stats_wilson(p->both + p->only_first, n), b = stats_wilson(p->both + p->only_second, n);
    const double r = correlation(p->both, p->only_first, p->only_second, p->neither);
    const double a_low = a.value - a.low, a_high = a.high - a.value, b_low = b.value - b.low, b_high = b.high - b.value;
    const double down = a_low * a_low - 2 * r * a_low * b_high + b_high * b_high;
    const double up = b_low * b_low - 2 * r * b_low * a_high + a_high * a_high;
    const double d = ((double)p->only_first - p->only_second) / n;
    return (fit_interval){.value = d, .low = d - sqrt(fmax(0, down)), .high = d + sqrt(fmax(0, up))};
}

double stats_mcnemar(const stats_pairs *p) {
    const int32_t n = p->only_first + p->only_second;
    const int32_t least = p->only_first < p->only_second ? p->only_first : p->only_second;
    double sum = 0;
    for (int32_t k = 0; k <= least; k++) sum += exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) - n * log(2));
    return fmin(1, 2 * sum);
}

static int by_value(const void *pa, const void *pb) {
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

double stats_quantile(double *v, int32_t n, double q) {
    if (n < 1) return 0;
    qsort(v, (size_t)n, sizeof *v, by_value);
    const double at = q * (n - 1);
    const int32_t i = (int32_t)at;
    return i + 1 < n ? v[i] + (at - i) * (v[i + 1] - v[i]) : v[n - 1];
}
