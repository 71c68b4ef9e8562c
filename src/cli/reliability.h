/* A reliability plot: what was said against what was right, bin by bin. */
#ifndef GALEN_CLI_RELIABILITY_H
#define GALEN_CLI_RELIABILITY_H

#include <stdbool.h>
#include <stdio.h>

#include "assist/fit.h"

typedef struct reliability {
    const char *title, *lines[2]; /* any bytes; put as text; 70 characters fit */
    const fit_bin *shown;         /* [FIT_BINS]             */
    const fit_bin *raw;           /* without the calibration, drawn beside it; NULL: none */
} reliability;

/** A self-contained SVG, 560 x 640, readable on light and dark ground. Bars are Wilson's 95 % intervals, taken as if the
 *  confidences of a bin were independent. False when writing failed. */
bool reliability_svg(const reliability *r, FILE *out);

#endif
