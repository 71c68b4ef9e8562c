/* Reading a model: log-probabilities over its whole vocabulary, unmasked, whatever it would have said. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"

/* Four numbers at a time, in the compilers' own vectors: 128,256 logits a row are read hundreds of times for one list. */
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

static float largest(const float *l, int32_t n) {
    float most = l[0];
    int32_t i = 0;
    if (n >= 4) {
        f4 m = load4(l);
        for (i = 4; i + 4 <= n; i += 4) {
            const f4 v = load4(l + i);
            m = select4(v > m, v, m);
        }
        for (int k = 0; k < 4; k++) most = m[k] > most ? m[k] : most;
    }
    for (; i < n; i++) most = l[i] > most ? l[i] : most;
    return most;
}

#define BLOCK 1024 /* short sums in single, gathered in double */

double log_sum(const float *logits, int32_t n) {
    const float most = largest(logits, n);
    double sum = 0;
    for (int32_t i = 0; i < n; i += BLOCK) {
        const int32_t end = n - i < BLOCK ? n : i + BLOCK;
        f4 lane[4] = {{0}};
        int32_t k = i;
        for (; k + 16 <= end; k += 16) {
            for (int j = 0; j < 4; j++) lane[j] += exp4(load4(logits + k + 4 * j) - most);
        }
        for (; k < end; k++) {
            const f4 one = {logits[k] - most, -100.0f, -100.0f, -100.0f};
            lane[0] += exp4(one);
        }
        const f4 all = (lane[0] + lane[1]) + (lane[2] + lane[3]);
        sum += (double)((all[0] + all[1]) + (all[2] + all[3]));
    }
    return (double)most + log(sum);
}

double logprob_of(const float *logits, int32_t n_vocab, int32_t id) {
    return (double)logits[id] - log_sum(logits, n_vocab);
}

galen_status score_tokens(galen_assistant *a, int32_t last, const int32_t *ids, int32_t n, double *out, galen_error *err) {
    int32_t in[ROWS];
    for (int32_t done = 0; done < n;) {
        const int32_t k = n - done < ROWS ? n - done : ROWS;
        for (int32_t i = 0; i < k; i++) in[i] = done + i ? ids[done + i - 1] : last; /* a token's logits say what follows it */
        galen_status st = galen_session_eval_all(a->s, in, k, a->rows, err);
        if (!st) st = assist_check_cancel(a, err);
        if (st) return st;
        for (int32_t i = 0; i < k; i++)
            out[done + i] = logprob_of(a->rows + (size_t)i * (size_t)a->n_vocab, a->n_vocab, ids[done + i]);
        done += k;
    }
    a->usage.n_scored += n;
    return GALEN_OK;
}

galen_status score_items(galen_assistant *a, int32_t past, int32_t last, const item items[ITEMS_MAX], double out[ITEMS_MAX],
                         galen_error *err) {
    const double start = assist_now_s();
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
        double each[ITEM_TOKENS], sum = 0;
        st = edge_rewind(a, past, err);
        if (!st) st = score_tokens(a, last, items[i].ids, items[i].n_ids, each, err);
        for (int32_t k = 0; k < items[i].n_ids && !st; k++) sum += each[k];
        out[i] = st ? 0 : sum / items[i].n_ids;
    }
    if (!st) st = edge_rewind(a, past, err);
    a->usage.score_s += assist_now_s() - start;
    return st;
}

/* ------------------------------------------------------------ yes and no */

static void add_once(family *f, int32_t id) {
    for (int32_t i = 0; i < f->n; i++) {
        if (f->ids[i] == id) return;
    }
    if (f->n < FAMILY_MAX) f->ids[f->n++] = id;
}

static bool is_in(const family *f, int32_t id) {
    for (int32_t i = 0; i < f->n; i++) {
        if (f->ids[i] == id) return true;
    }
    return false;
}

/* The first token of a spelling, behind a word and at a line's beginning. */
static galen_status add_spelling(galen_assistant *a, const char *text, family *f, galen_error *err) {
    galen_tokens t = {0};
    const galen_status st = edge_literal(a, text, &t, err);
    if (!st && t.n) add_once(f, t.ids[0]);
    galen_tokens_free(&t);
    return st;
}

static void drop_common(family *f, const family *other) {
    int32_t n = 0;
    for (int32_t i = 0; i < f->n; i++) {
        if (!is_in(other, f->ids[i])) f->ids[n++] = f->ids[i];
    }
    f->n = n;
}

galen_status score_find_words(galen_assistant *a, galen_error *err) {
    static const char *const yes[] = {" yes", " Yes", "yes", "Yes"}, *const no[] = {" no", " No", "no", "No"};
    galen_status st = GALEN_OK;
    a->yes.n = a->no.n = 0;
    for (int i = 0; i < 4 && !st; i++) {
        st = add_spelling(a, yes[i], &a->yes, err);
        if (!st) st = add_spelling(a, no[i], &a->no, err);
    }
    /* A vocabulary of letters begins " yes" and " no" with the same blank: that token tells nothing. */
    const family before = a->yes;
    drop_common(&a->yes, &a->no);
    drop_common(&a->no, &before);
    return st;
}

static double family_log(const family *f, const float *row) {
    float l[FAMILY_MAX] = {0};
    for (int32_t i = 0; i < f->n; i++) l[i] = row[f->ids[i]];
    return log_sum(l, f->n);
}

double score_odds(const galen_assistant *a, const float *row) {
    if (!a->yes.n || !a->no.n) return 0;
    return family_log(&a->yes, row) - family_log(&a->no, row);
}
