/* backend_api.ahead_*: a lone sequence's steps, each of which takes its token from the step before in device memory. A step is
 * one graph from the embedding to the choice; nothing crosses to the device while they run, and a choice comes back through
 * mapped memory, behind an event. */
#include <string.h>

#include "backend/cuda/impl.h"
#include "base/checked.h"

/* What is told once, into pinned memory behind how and its lists: the state, then the tokens that are looked back at. */
static galen_status send(backend_work *w, const sample_row *row, galen_error *err) {
    const int32_t n = row->n_history, n_window = cuda_window_of(row->how, n), n_tail = n_window > 0 ? n_window : 1;
    const size_t n_how = cuda_write_hows(w, 1, row, false), at = (n_how + 15) & ~(size_t)15;
    ahead_state *state = (ahead_state *)(void *)(w->hows + at);
    int32_t *tail = (int32_t *)(void *)(state + 1);
    const galen_sampling *o = row->how;
    const bool is_penalised = cuda_window_of(o, INT32_MAX) > 0;
    *state = (ahead_state){.pos = n - 1, .n_window = is_penalised ? o->penalty_last_n : 0, .seed = o->seed};
    memcpy(tail, row->history + n - n_tail, (size_t)n_tail * sizeof *tail);
    const struct {
        void *to;
        const void *from;
        size_t n;
    } copies[] = {{w->buf.mail, w->mail, w->batch.rows_at},
                  {w->buf.hows, w->hows, n_how},
                  {w->buf.ahead, state, sizeof *state},
                  {w->buf.history + n - n_tail, tail, (size_t)n_tail * sizeof *tail}};
    int e = 0;
    for (size_t i = 0; !e && i < sizeof copies / sizeof *copies; i++)
        e = cudaMemcpyAsync(copies[i].to, copies[i].from, copies[i].n, cudaMemcpyHostToDevice, w->queue.stream);
    return e ? cuda_fail(err, e, "steps ahead") : GALEN_OK;
}

galen_status cuda_ahead_begin(backend_work *w, const kv_pages *seq, const sample_row *row, galen_error *err) {
    const int32_t pos = row->n_history - 1, zero = 0;
    galen_status st;
    if (!w->b->is_whole || !w->b->weights.table.q || w->streamer || w->lim.max_out < 1)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "the model and its embeddings are not all on the GPU");
    if ((st = cuda_check_how(row, err))) return st;
    const int64_t most = (int64_t)seq->n_pages * KV_PAGE;
    const batch b = {
        .n_rows = 1, .token = row->history, .pos = &pos, .seq = &zero, .seqs = seq, .n_seqs = 1, .n_out = 1, .out_row = &zero};
    if ((st = cuda_begin_batch(w, &b, err))) return st;
    w->batch.is_ahead = true;
    w->ahead_pos = pos;
    w->ahead_end = most < w->lim.n_ctx ? (int32_t)most : w->lim.n_ctx;
    w->n_ahead = w->n_taken = 0;
    return cuda_remember(w, send(w, row, err), err);
}

galen_status cuda_ahead_step(backend_work *w, galen_error *err) {
    if (w->is_failed) return cuda_refuse_failed(w, err);
    if (!w->batch.is_ahead || w->n_ahead - w->n_taken == AHEAD_STEPS)
        return galen_fail(err, GALEN_E_ARG, 0, "%d steps ahead are not taken", w->n_ahead - w->n_taken);
    if (w->ahead_pos >= w->ahead_end)
        return galen_fail(err, GALEN_E_RANGE, 0, "position %d of a context of %d", w->ahead_pos, w->ahead_end);
    (void)cudaSetDevice(w->b->device);
    w->batch.n_splits = cuda_splits_at(w, w->ahead_pos);
    w->has_begin = true;
    w->pending_first = 0;
    w->n_pending = head_operation(w->b) + 1;
    const galen_status st = cuda_flush(w, err);
    if (st) return st;
    const int e = cudaEventRecord(w->ahead_done[w->n_ahead % AHEAD_STEPS], w->queue.stream);
    if (e) return cuda_remember(w, cuda_fail(err, e, "steps ahead"), err);
    w->ahead_pos++;
    w->n_ahead++;
    return GALEN_OK;
}

galen_status cuda_ahead_take(backend_work *w, sample_choice *out, galen_error *err) {
    if (w->is_failed) return cuda_refuse_failed(w, err);
    if (!w->batch.is_ahead || w->n_taken == w->n_ahead) return galen_fail(err, GALEN_E_ARG, 0, "no step ahead is to be taken");
    const int e = cudaEventSynchronize(w->ahead_done[w->n_taken % AHEAD_STEPS]);
    if (e) return cuda_remember(w, cuda_fail(err, e, "a step"), err);
    const int32_t pos = w->ahead_pos - (w->n_ahead - w->n_taken);
    const sample_result *r = &w->choices[pos % AHEAD_STEPS];
    *out = (sample_choice){.id = r->id, .logprob = r->logprob};
    w->n_taken++;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- the two ends of a step */

galen_status cuda_queue_ahead_begin(backend_work *w, galen_error *err) {
    const network *net = w->b->net;
    ahead_args a = {.table = w->b->weights.table,
                    .embd_scale = net->embd_scale,
                    .x = w->buf.x,
                    .state = w->buf.ahead,
                    .history = w->buf.history,
                    .how = (sample_how *)(void *)w->buf.hows,
                    .pos = (int32_t *)(void *)w->buf.mail,
                    .n_ropes = w->shape.n_ropes,
                    .n_half = net->n_rot / 2,
                    .max_rows = w->lim.max_rows,
                    .cos = w->buf.cos,
                    .sin = w->buf.sin};
    for (int i = 0; i < w->shape.n_ropes; i++) {
        a.inv_freq[i] = w->b->weights.inv_freq[i][w->rope_choice];
        a.magnitude[i] = (float)net->ropes[i][w->rope_choice].magnitude;
    }
    w->queue.is_chained = false;
    const int e = cuda_begin_ahead(&w->queue, &a);
    return e ? cuda_fail(err, e, "a step ahead") : GALEN_OK;
}

galen_status cuda_queue_ahead_end(backend_work *w, galen_error *err) {
    const galen_status st = cuda_queue_logits(w, 0, 1, w->buf.logits, err);
    if (st) return st;
    sample_args a = cuda_sample_args(w, 1);
    a.n_rows = 1;
    a.ahead = w->buf.ahead;
    a.history = w->buf.history;
    a.told = w->choices;
    a.n_told = AHEAD_STEPS;
    const int e = cuda_choose(&w->queue, &a);
    return e ? cuda_fail(err, e, "sampling") : GALEN_OK;
}
