/* backend_api.sample: the head's products, then a choice for each row, HEAD_ROWS and SAMPLE_ROWS at a time. */
#include "backend/cuda/sample.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cuda/impl.h"
#include "base/rng.h"

static bool is_penalised(const galen_sampling *o) {
    return o->repeat_penalty != 1.0f || o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f;
}

int32_t cuda_window_of(const galen_sampling *o, int32_t n_history) {
    const int32_t last = o->penalty_last_n;
    if (!is_penalised(o)) return 0;
    return last < 0 || last > n_history ? n_history : last;
}

galen_status cuda_check_how(const sample_row *row, galen_error *err) {
    const int32_t n = cuda_window_of(row->how, row->n_history);
    if (row->how->n_bias <= SAMPLE_BIASES && n <= SAMPLE_WINDOW) return GALEN_OK;
    return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%zu biases, penalties over %d tokens; the GPU takes %d and %d",
                      row->how->n_bias, n, SAMPLE_BIASES, SAMPLE_WINDOW);
}

static galen_status check_rows(const backend_work *w, const batch *b, const sample_row *rows, galen_error *err) {
    if (b->n_out < 1 || b->n_out > w->lim.max_out || b->n_out > SAMPLE_ALL_ROWS)
        return galen_fail(err, GALEN_E_ARG, 0, "%d rows to choose for; at most %d", b->n_out,
                          w->lim.max_out < SAMPLE_ALL_ROWS ? w->lim.max_out : SAMPLE_ALL_ROWS);
    galen_status st = GALEN_OK;
    for (int32_t i = 0; !st && i < b->n_out; i++) st = cuda_check_how(&rows[i], err);
    return st;
}

size_t cuda_write_hows(const backend_work *w, int32_t n, const sample_row *rows, bool has_windows) {
    sample_how *how = (sample_how *)(void *)w->hows;
    int32_t *lists = (int32_t *)(void *)(how + n), at = 0;
    for (int32_t i = 0; i < n; i++) {
        const galen_sampling *o = rows[i].how;
        const int32_t n_window = has_windows ? cuda_window_of(o, rows[i].n_history) : 0;
        how[i] = (sample_how){.temperature = o->temperature,
                              .top_p = o->top_p,
                              .min_p = o->min_p,
                              .repeat_penalty = o->repeat_penalty,
                              .presence_penalty = o->presence_penalty,
                              .frequency_penalty = o->frequency_penalty,
                              .top_k = o->top_k,
                              .n_window = n_window,
                              .window_at = at,
                              .n_bias = (int32_t)o->n_bias,
                              .bias_at = at + n_window,
                              .values_at = at + n_window + (int32_t)o->n_bias,
                              .u = rng_uniform(o->seed, 0, (uint64_t)rows[i].n_history)};
        if (n_window) memcpy(lists + at, rows[i].history + rows[i].n_history - n_window, (size_t)n_window * sizeof *lists);
        for (int32_t k = 0; k < how[i].n_bias; k++) {
            lists[how[i].bias_at + k] = o->bias[k].id;
            memcpy(&lists[how[i].values_at + k], &o->bias[k].bias, sizeof(float));
        }
        at += n_window + 2 * how[i].n_bias;
    }
    return (size_t)n * sizeof *how + (size_t)at * sizeof *lists;
}

size_t cuda_hows_bytes(const work_limits *lim) {
    const size_t rows = (size_t)(lim->max_out < SAMPLE_ALL_ROWS ? lim->max_out : SAMPLE_ALL_ROWS);
    const size_t window = (size_t)(lim->n_ctx < SAMPLE_WINDOW ? lim->n_ctx : SAMPLE_WINDOW);
    return rows * (sizeof(sample_how) + (window + 2 * SAMPLE_BIASES) * sizeof(int32_t)) + 64; /* 64: ahead.c */
}

/* For the first of n_rows that were told of. */
sample_args cuda_sample_args(const backend_work *w, int32_t n_rows) {
    const sample_how *how = (const sample_how *)(const void *)w->buf.hows;
    return (sample_args){.logits = w->buf.logits,
                         .n_vocab = w->b->net->n_vocab,
                         .n_padded = w->shape.n_padded,
                         .how = how,
                         .lists = (const int32_t *)(const void *)(how + n_rows),
                         .out = w->buf.choices,
                         .adjusted = w->buf.adjusted,
                         .counts = w->buf.counts,
                         .keys = w->buf.keys,
                         .weights = w->buf.weights,
                         .surveys = w->buf.surveys};
}

static galen_status choose(backend_work *w, int32_t n_out, galen_error *err) {
    const int32_t n_vocab = w->b->net->n_vocab;
    sample_args a = cuda_sample_args(w, n_out);
    for (int32_t r = 0; r < n_out; r += HEAD_ROWS) {
        const int32_t n = n_out - r < HEAD_ROWS ? n_out - r : HEAD_ROWS;
        const galen_status st = cuda_queue_logits(w, r, n, w->buf.logits, err);
        if (st) return st;
        for (int32_t i = 0; i < n; i += SAMPLE_ROWS) {
            a.n_rows = n - i < SAMPLE_ROWS ? n - i : SAMPLE_ROWS;
            a.logits = w->buf.logits + (size_t)i * (size_t)n_vocab;
            a.how = (const sample_how *)(const void *)w->buf.hows + r + i;
            a.out = w->buf.choices + r + i;
            const int e = cuda_choose(&w->queue, &a);
            if (e) return cuda_fail(err, e, "sampling");
        }
    }
    return GALEN_OK;
}

galen_status cuda_sample(backend_work *w, const batch *b, const sample_row *rows, sample_choice *out, galen_error *err) {
    galen_status st = check_rows(w, b, rows, err);
    if (st) return st;
    if ((st = cuda_begin_sample(w, err))) return st;
    int e =
        cudaMemcpyAsync(w->buf.hows, w->hows, cuda_write_hows(w, b->n_out, rows, true), cudaMemcpyHostToDevice, w->queue.stream);
    w->queue.is_chained = false;
    st = e ? cuda_fail(err, e, "sampling") : choose(w, b->n_out, err);
    if (!st) {
        w->queue.is_chained = false;
        e = cudaMemcpyAsync(w->choices, w->buf.choices, (size_t)b->n_out * sizeof *w->choices, cudaMemcpyDeviceToHost,
                            w->queue.stream);
        if (e) st = cuda_fail(err, e, "sampling");
    }
    w->choices_to = out;
    w->n_choices = st ? 0 : b->n_out;
    return cuda_remember(w, st, err);
}
