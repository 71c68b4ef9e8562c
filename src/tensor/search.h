/* Finding scales for a group of weights by least squares. Private to the quantisers.
 * Everything is in double: the squares of any finite float fit, so no search can overflow, stall or divide by zero. */
#ifndef GALEN_TENSOR_SEARCH_H
#define GALEN_TENSOR_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

enum { SEARCH_MAX_SUB = 16, SEARCH_MAX_WEIGHTS = 256 };

/* Levels a weight may take, times a scale of either sign: a table, or every integer in [min, max]. */
typedef struct search_grid {
    const int8_t *values; /* ascending; NULL = the integers */
    int n;                /* levels */
    int min;              /* the level at index 0, the largest in magnitude */
    double reach_lo;      /* the scales tried put the largest weight between reach_lo and reach_hi times min */
    double reach_hi;
    int n_tries; /* at least 2 */
} search_grid;

/** The scale that fits x [n] best, n <= SEARCH_MAX_WEIGHTS; 0 when all are 0. index [n] gets the nearest levels. */
double search_scale(const search_grid *g, const float *x, int n, uint8_t *index);

/* A block of n_sub groups of n_each weights: w = d * sc[s] * level. */
typedef struct search_block {
    uint16_t d; /* binary16; NaN when x holds what no scale can hold */
    int8_t sc[SEARCH_MAX_SUB];
    uint8_t q[SEARCH_MAX_WEIGHTS]; /* level indices */
} search_block;

/** Scales sc in [sc_min, -sc_min - 1]. */
void search_scales(const search_grid *g, const float *x, int n_sub, int n_each, int sc_min, search_block *out);

/* As above with a minimum: w = d * sc[s] * q - dmin * m[s], q in [0, q_max]. */
typedef struct search_affine_block {
    uint16_t d, dmin;
    uint8_t sc[SEARCH_MAX_SUB], m[SEARCH_MAX_SUB];
    uint8_t q[SEARCH_MAX_WEIGHTS];
} search_affine_block;

/** sc and m in [0, sc_max]. */
void search_affine(const float *x, int n_sub, int n_each, int q_max, int sc_max, search_affine_block *out);

bool search_is_finite(const float *x, int n);
uint16_t search_half(double d); /* binary16; NaN when d is too large for it */

#endif
