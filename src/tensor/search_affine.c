/* Levels above a minimum: x = scale * q - min, both at least 0. */
#include <math.h>
#include <string.h>

#include "tensor/half.h"
#include "tensor/search.h"

enum { N_TRIES = 21, N_REFITS = 3 };

typedef struct line {
    double scale, min;
} line;

static uint8_t nearest(double v, int q_max) {
    const double up = v + 0.5; /* positive where it is cut, so the cast rounds down */
    return up <= 0.0 ? 0 : up >= (double)q_max ? (uint8_t)q_max : (uint8_t)up;
}

static double assign(const float *x, int n, line l, int q_max, uint8_t *q) {
    const double inverse = l.scale > 0.0 ? 1.0 / l.scale : 0.0;
    double error = 0.0;
    for (int i = 0; i < n; i++) {
        q[i] = nearest(((double)x[i] + l.min) * inverse, q_max);
        const double e = (double)x[i] - (l.scale * (double)q[i] - l.min);
        error += e * e;
    }
    return error;
}

/* Least squares for levels that stay; where the minimum would turn negative it is 0. */
static line fit(const float *x, int n, const uint8_t *q) {
    double sq = 0.0, sqq = 0.0, sx = 0.0, sxq = 0.0;
    for (int i = 0; i < n; i++) {
        const double level = (double)q[i];
        sq += level;
        sqq += level * level;
        sx += (double)x[i];
        sxq += (double)x[i] * level;
    }
    const double det = (double)n * sqq - sq * sq; /* whole numbers: exact, 0 when all levels are equal */
    line l = {0.0, -sx / (double)n};
    if (det > 0.0) {
        l.scale = ((double)n * sxq - sq * sx) / det;
        l.min = (sq * sxq - sqq * sx) / det;
    }
    if (l.min < 0.0) l = (line){sqq > 0.0 ? sxq / sqq : 0.0, 0.0};
    if (l.scale < 0.0) l.scale = 0.0;
    return l;
}

/* Try ranges from somewhat narrower to somewhat wider than the data, each refined once. */
static line search_line(const float *x, int n, int q_max) {
    double lo = 0.0, hi = 0.0, best = INFINITY;
    uint8_t q[SEARCH_MAX_WEIGHTS];
    for (int i = 0; i < n; i++) {
        if ((double)x[i] < lo) lo = (double)x[i];
        if (i == 0 || (double)x[i] > hi) hi = (double)x[i];
    }
    line found = {0.0, -lo};
    if (hi <= lo) return found; /* equal and not positive: the minimum alone says it */
    for (int k = 0; k < N_TRIES; k++) {
        const double shrink = 0.5 + 0.55 * k / (N_TRIES - 1), centre = (lo + hi) / 2.0;
        const double from = fmin(centre - (hi - lo) / 2.0 * shrink, 0.0);
        line l = {(hi - lo) * shrink / (double)q_max, -from};
        for (int r = 0; r < 2; r++) {
            (void)assign(x, n, l, q_max, q);
            l = fit(x, n, q);
        }
        const double error = assign(x, n, l, q_max, q);
        if (!(error < best)) continue;
        best = error;
        found = l;
    }
    return found;
}

static int clamp_round(double v, int hi) {
    const double r = floor(v + 0.5);
    return r <= 0.0 ? 0 : r >= (double)hi ? hi : (int)r;
}

/* The whole scale and minimum near (sc, m) whose group error is least. */
static double choose(const float *x, int n, line unit, int q_max, int sc_max, uint8_t *sc, uint8_t *m, uint8_t *q) {
    const int sc_guess = *sc, m_guess = *m;
    uint8_t trial[SEARCH_MAX_WEIGHTS];
    double best = INFINITY;
    for (int k = 0; k < 9; k++) {
        const int s = sc_guess + k / 3 - 1, low = m_guess + k % 3 - 1;
        if (s < 0 || s > sc_max || low < 0 || low > sc_max) continue;
        const double error = assign(x, n, (line){unit.scale * (double)s, unit.min * (double)low}, q_max, trial);
        if (!(error < best)) continue;
        best = error;
        *sc = (uint8_t)s;
        *m = (uint8_t)low;
        memcpy(q, trial, (size_t)n);
    }
    return best;
}

typedef struct shape {
    int n_sub, n_each, q_max, sc_max;
} shape;

static double fill(const float *x, shape h, const line *lines, uint16_t d, uint16_t dmin, search_affine_block *out) {
    const line unit = {(double)half_to_f32(d), (double)half_to_f32(dmin)};
    double error = 0.0;
    out->d = d;
    out->dmin = dmin;
    for (int s = 0; s < h.n_sub; s++) {
        out->sc[s] = (uint8_t)(unit.scale > 0.0 ? clamp_round(lines[s].scale / unit.scale, h.sc_max) : 0);
        out->m[s] = (uint8_t)(unit.min > 0.0 ? clamp_round(lines[s].min / unit.min, h.sc_max) : 0);
        error += choose(x + s * h.n_each, h.n_each, unit, h.q_max, h.sc_max, &out->sc[s], &out->m[s], out->q + s * h.n_each);
    }
    return error;
}

/* The block's two scales that fit best when all whole numbers stay: x = d * a - dmin * b. */
static line refit(const float *x, shape h, const search_affine_block *b) {
    double aa = 0.0, ab = 0.0, bb = 0.0, xa = 0.0, xb = 0.0;
    for (int i = 0; i < h.n_sub * h.n_each; i++) {
        const int sc = b->sc[i / h.n_each], m = b->m[i / h.n_each];
        const double u = (double)sc * (double)b->q[i], v = (double)m;
        aa += u * u;
        ab += u * v;
        bb += v * v;
        xa += (double)x[i] * u;
        xb += (double)x[i] * v;
    }
    const double det = aa * bb - ab * ab; /* whole numbers below 2^53: exact */
    if (det > 0.0) return (line){(bb * xa - ab * xb) / det, (ab * xa - aa * xb) / det};
    return (line){aa > 0.0 ? xa / aa : 0.0, bb > 0.0 && !(aa > 0.0) ? -xb / bb : 0.0};
}

void search_affine(const float *x, int n_sub, int n_each, int q_max, int sc_max, search_affine_block *out) {
    const shape h = {n_sub, n_each, q_max, sc_max};
    line lines[SEARCH_MAX_SUB], most = {0.0, 0.0};
    search_affine_block next;
    memset(out, 0, sizeof *out);
    out->d = HALF_NAN;
    if (!search_is_finite(x, n_sub * n_each)) return;
    for (int s = 0; s < n_sub; s++) {
        lines[s] = search_line(x + s * n_each, n_each, q_max);
        most = (line){fmax(most.scale, lines[s].scale), fmax(most.min, lines[s].min)};
    }
    uint16_t d = search_half(most.scale / (double)sc_max), dmin = search_half(most.min / (double)sc_max);
    if (d == HALF_NAN || dmin == HALF_NAN) return;
    double error = fill(x, h, lines, d, dmin, out);
    memcpy(&next, out, sizeof next);
    for (int k = 0; k < N_REFITS; k++) {
        const line unit = refit(x, h, &next);
        d = search_half(fmax(unit.scale, 0.0));
        dmin = search_half(fmax(unit.min, 0.0));
        if (d == HALF_NAN || dmin == HALF_NAN || (d == next.d && dmin == next.dmin)) return;
        const double e = fill(x, h, lines, d, dmin, &next);
        if (!(e < error)) return;
        error = e;
        memcpy(out, &next, sizeof next);
    }
}
