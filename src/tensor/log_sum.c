/* log(sum(exp(x))) of rows of logits, where a row is read and not sampled: 128,256 numbers, hundreds of rows for one answer. */
#include "tensor/log_sum.h"

#include <math.h>
#include <string.h>

/* Four numbers at a time, in the compilers' own vectors. */
typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

static inline f4 load4(const float *p) {
    f4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline f4 select4(i4 mask, f4 a, f4 b) {
    return (f4)(((i4)a & mask) | ((i4)b & ~mask));
}

/* e^x for x <= 0, to 3e-7 of its value: 2^n times a polynomial of the rest. The same bits everywhere: single arithmetic without
 * fma in a fixed order. Below -80 it is 0. */
static inline f4 exp4(f4 x) {
    const f4 least = {-80.0f, -80.0f, -80.0f, -80.0f}, zero = {0}, big = {12582912.0f, 12582912.0f, 12582912.0f, 12582912.0f};
    const i4 is_small = x < least;
    x = select4(is_small, least, x);
    const f4 t = x * 1.44269504f, n = (t + big) - big; /* 1.5 * 2^23: to the nearest whole number */
    const f4 r = (t - n) * 0.693147181f;
    const f4 p =
        1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * (0.00833333333f + r * 0.00138888889f)))));
    const i4 scale = (__builtin_convertvector(n, i4) + 127) << 23;
    return select4(is_small, zero, p * (f4)scale);
}

/* NaN when one of them is not finite: 0 x is 0 for what is finite, else NaN. */
static float largest(const float *l, int32_t n) {
    float most = l[0], bad = 0;
    int32_t i = 0;
    if (n >= 4) {
        f4 m = load4(l), sum = {0};
        for (i = 0; i + 4 <= n; i += 4) {
            const f4 v = load4(l + i);
            m = select4(v > m, v, m);
            sum += 0.0f * v;
        }
        for (int k = 0; k < 4; k++) {
            most = m[k] > most ? m[k] : most;
            bad += sum[k];
        }
    }
    for (; i < n; i++) {
        most = l[i] > most ? l[i] : most;
        bad += 0.0f * l[i];
    }
    return bad == 0 ? most : NAN;
}

#define BLOCK 1024 /* short sums in single, gathered in double */

double log_sum(const float *x, int32_t n) {
    const float most = largest(x, n);
    if (isnan(most)) return (double)NAN;
    double sum = 0;
    for (int32_t i = 0; i < n; i += BLOCK) {
        const int32_t end = n - i < BLOCK ? n : i + BLOCK;
        f4 lane[4] = {{0}};
        int32_t k = i;
        for (; k + 16 <= end; k += 16) {
            for (int j = 0; j < 4; j++) lane[j] += exp4(load4(x + k + 4 * j) - most);
        }
        for (; k < end; k++) {
            const f4 one = {x[k] - most, -100.0f, -100.0f, -100.0f};
            lane[0] += exp4(one);
        }
        const f4 all = (lane[0] + lane[1]) + (lane[2] + lane[3]);
        sum += (double)((all[0] + all[1]) + (all[2] + all[3]));
    }
    return (double)most + log(sum);
}
