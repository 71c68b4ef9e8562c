/* Curves as a person sees them: columns of characters on a terminal, an SVG file for everything else. */
#ifndef GALEN_CLI_PLOT_H
#define GALEN_CLI_PLOT_H

#include "cli/cli.h"

enum { PLOT_MAX_POINTS = 256, PLOT_MAX_SERIES = 4 };

typedef struct plot_point {
    double x, y;      /* y NAN: no measurement there */
    double low, high; /* the spread; equal to y when there is none */
} plot_point;

typedef struct plot_series {
    const char *name;
    plot_point points[PLOT_MAX_POINTS];
    int n;
    int marked; /* a point to be pointed out; -1: none */
} plot_series;

typedef struct plot {
    const char *title, *x_name, *y_name;
    plot_series series[PLOT_MAX_SERIES];
    int n_series;
    bool is_bars; /* categories instead of a curve: x counts 0, 1, 2...; their names in labels */
    const char *labels[PLOT_MAX_POINTS];
} plot;

#define PLOT_VALUE_BYTES 32
/** Four digits, and no exponent where it can be read without. Returns out. */
const char *plot_value(double v, char out[PLOT_VALUE_BYTES]);

/** The first series as horizontal bars, one line a point, in n_columns. Colour on/off by the caller's sgr strings ("" for none).
 */
void plot_text(const plot *p, FILE *out, int n_columns, const char *mark_on, const char *mark_off);

/** A self-contained SVG, 720 x 420, readable on light and dark ground, to a file. FAILED with a message that says why. */
cli_exit plot_write(cli *c, const plot *p, const char *path);

#endif
