/* How likely the model finds each name, read from its logits: the mean log-probability of the name's tokens right after the
 * prompt, the same place for all five. Mean, so that a long name is not punished for its length. */
#include <math.h>
#include <stdlib.h>

#include "assist/case.h"

/* log softmax(logits)[id], summed in double. */
static double logprob_of(const float *logits, int32_t n_vocab, int32_t id) {
    float most = logits[0];
    for (int32_t i = 1; i < n_vocab; i++) most = logits[i] > most ? logits[i] : most;
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - (double)most);
    return (double)logits[id] - (double)most - log(sum);
}

static galen_status score_one(galen_assistant *a, int32_t past, int32_t last, const item *it, float *rows, double *out,
                              galen_error *err) {
    int32_t ids[ITEM_TOKENS];
    ids[0] = last; /* its row holds the logits for the name's first token */
    for (int32_t i = 1; i < it->n_ids; i++) ids[i] = it->ids[i - 1];
    galen_status st = edge_rewind(a, past, err);
    if (!st) st = galen_session_eval_all(a->s, ids, it->n_ids, rows, err);
    if (st) return st;
    double sum = 0;
    for (int32_t i = 0; i < it->n_ids; i++) sum += logprob_of(rows + (size_t)i * (size_t)a->n_vocab, a->n_vocab, it->ids[i]);
    a->usage.n_scored += it->n_ids;
    *out = sum / it->n_ids;
    return GALEN_OK;
}

galen_status score_items(galen_assistant *a, int32_t past, int32_t last, const item items[ITEMS_MAX], double out[ITEMS_MAX],
                         galen_error *err) {
    const double start = assist_now_s();
    galen_status st = GALEN_OK;
    int32_t most = 1;
    for (int32_t i = 0; i < ITEMS_MAX; i++) most = items[i].n_ids > most ? items[i].n_ids : most;
    float *rows = calloc((size_t)most * (size_t)a->n_vocab, sizeof *rows); /* most <= 32, n_vocab < 2^31: no overflow */
    if (!rows) return assist_fail(err, GALEN_E_NOMEM, "%d rows of %d logits", most, a->n_vocab);
    for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
        st = score_one(a, past, last, &items[i], rows, &out[i], err);
        if (!st) st = assist_check_cancel(a, err);
    }
    if (!st) st = edge_rewind(a, past, err);
    a->usage.score_s += assist_now_s() - start;
    free(rows);
    return st;
}
