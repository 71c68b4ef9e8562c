/* Levels about zero: one scale for a group, then whole scales for a block of groups. */
#include "tensor/search.h"

#include <math.h>
#include <string.h>

#include "tensor/half.h"

enum { N_REFITS = 3 };

bool search_is_finite(const float *x, int n) {
    for (int i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

uint16_t search_half(double d) {
    const uint16_t h = half_from_f32((float)d);
    return (h & 0x7c00) == 0x7c00 ? HALF_NAN : h;
}

static double level_value(const search_grid *g, int index) {
    return g->values ? (double)g->values[index] : (double)(g->min + index);
}

static uint8_t nearest(const search_grid *g, double v) {
    if (!g->values) {
        const double index = v - (double)g->min + 0.5; /* positive where it is cut, so the cast rounds down */
        return index <= 0.0 ? 0 : index >= (double)g->n ? (uint8_t)(g->n - 1) : (uint8_t)index;
    }
    int lo = 0, hi = g->n - 1; /* the answer is one of the two when they meet as neighbours */
    if (v <= (double)g->values[lo]) return (uint8_t)lo;
    if (v >= (double)g->values[hi]) return (uint8_t)hi;
    while (hi - lo > 1) {
        const int mid = (lo + hi) / 2;
        if (v < (double)g->values[mid]) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return (uint8_t)(v - (double)g->values[lo] < (double)g->values[hi] - v ? lo : hi);
}

/* Nearest levels under a scale; returns the squared error. */
static double assign(const search_grid *g, const float *x, int n, double scale, uint8_t *index) {
    const double inverse = scale != 0.0 ? 1.0 / scale : 0.0;
    double error = 0.0;
    for (int i = 0; i < n; i++) {
        index[i] = nearest(g, (double)x[i] * inverse);
        const double e = (double)x[i] - scale * level_value(g, index[i]);
        error += e * e;
    }
    return error;
}

double search_scale(const search_grid *g, const float *x, int n, uint8_t *index) {
    double extreme = 0.0, best_scale = 0.0, best_gain = 0.0;
    for (int i = 0; i < n; i++) {
        if (fabs((double)x[i]) > fabs(extreme)) extreme = (double)x[i];
    }
    for (int k = 0; k < 2 * g->n_tries && extreme != 0.0; k++) {
        const int step = k / 2; /* each reach with both signs */
        const double reach = g->reach_lo + (g->reach_hi - g->reach_lo) * step / (g->n_tries - 1);
        const double inverse = reach * (double)g->min / extreme * (k % 2 ? -1.0 : 1.0);
        double xv = 0.0, vv = 0.0;
        for (int i = 0; i < n; i++) {
            const double v = level_value(g, nearest(g, (double)x[i] * inverse));
            xv += (double)x[i] * v;
            vv += v * v;
        }
        /* With the best scale xv / vv for these levels the squared error is sum(x^2) - xv^2 / vv. */
        if (vv > 0.0 && xv * xv / vv > best_gain) {
            best_gain = xv * xv / vv;
            best_scale = xv / vv;
        }
    }
    (void)assign(g, x, n, best_scale, index);
    return best_scale;
}

/* The whole scale near guess whose group error is least. */
static double choose_scale(const search_grid *g, const float *x, int n, double d, int guess, int sc_min, int8_t *sc, uint8_t *q) {
    uint8_t trial[SEARCH_MAX_WEIGHTS];
    double best = INFINITY;
    for (int s = guess - 1; s <= guess + 1; s++) {
        if (s < sc_min || s > -sc_min - 1) continue;
        const double error = assign(g, x, n, d * (double)s, trial);
        if (!(error < best)) continue;
        best = error;
        *sc = (int8_t)s;
        memcpy(q, trial, (size_t)n);
    }
    return best;
}

static int clamp_round(double v, int lo, int hi) {
    const double r = floor(v + 0.5);
    return r <= (double)lo ? lo : r >= (double)hi ? hi : (int)r;
}

/* Choose every group's whole scale under the block scale d. */
static double fill(const search_grid *g, const float *x, int n_sub, int n_each, int sc_min, const double *scales, uint16_t d,
                   search_block *out) {
    const double scale = (double)half_to_f32(d);
    double error = 0.0;
    out->d = d;
    for (int s = 0; s < n_sub; s++) {
        const int guess = scale != 0.0 ? clamp_round(scales[s] / scale, sc_min, -sc_min - 1) : 0;
        error += choose_scale(g, x + s * n_each, n_each, scale, guess, sc_min, &out->sc[s], out->q + s * n_each);
    }
    return error;
}

/* The block scale that fits best when whole scales and levels stay. */
static double refit(const search_grid *g, const float *x, int n_sub, int n_each, const search_block *b) {
    double xv = 0.0, vv = 0.0;
    for (int i = 0; i < n_sub * n_each; i++) {
        const int8_t sc = b->sc[i / n_each];
        const double v = (double)sc * level_value(g, b->q[i]);
        xv += (double)x[i] * v;
        vv += v * v;
    }
    return vv > 0.0 ? xv / vv : 0.0;
}

void search_scales(const search_grid *g, const float *x, int n_sub, int n_each, int sc_min, search_block *out) {
    double scales[SEARCH_MAX_SUB], extreme = 0.0;
    search_block next;
    memset(out, 0, sizeof *out);
    out->d = HALF_NAN;
    if (!search_is_finite(x, n_sub * n_each)) return;
    for (int s = 0; s < n_sub; s++) {
        scales[s] = search_scale(g, x + s * n_each, n_each, out->q + s * n_each);
        if (fabs(scales[s]) > fabs(extreme)) extreme = scales[s];
    }
    const uint16_t first = search_half(extreme / (double)sc_min);
    if (first == HALF_NAN) return;
    double error = fill(g, x, n_sub, n_each, sc_min, scales, first, out);
    memcpy(&next, out, sizeof next);
    for (int k = 0; k < N_REFITS; k++) {
        const uint16_t d = search_half(refit(g, x, n_sub, n_each, &next));
        if (d == HALF_NAN || d == next.d) return;
        const double e = fill(g, x, n_sub, n_each, sc_min, scales, d, &next);
        if (!(e < error)) return;
        error = e;
        memcpy(out, &next, sizeof next);
    }
}
