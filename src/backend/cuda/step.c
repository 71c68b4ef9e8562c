/* The calls of backend_api. Operations of a small batch are recorded, and queued together when the head or a synchronisation asks
 * for them: the same operations over the same shapes are one CUDA graph, captured the second time and launched from then on. What
 * changes from step to step (tokens, positions, pages) stands in the mailbox, which the graph copies first. */
#include <string.h>

#include "backend/cuda/attend_tiles.h"
#include "backend/cuda/stream.h"

galen_status cuda_remember(backend_work *w, galen_status st, const galen_error *err) {
    if (st && !w->is_failed) {
        w->is_failed = true;
        w->failure = *err;
    }
    return st;
}

galen_status cuda_refuse_failed(const backend_work *w, galen_error *err) {
    return galen_fail(err, w->failure.code, 0, "%s", w->failure.msg);
}

/* ---------------------------------------------------------------- graphs */

static step_key key_of(const backend_work *w) {
    const batch_state *b = &w->batch;
    step_key k;
    memset(&k, 0, sizeof k); /* keys are compared as bytes */
    k.has_begin = w->has_begin;
    k.first = w->n_pending ? w->pending_first : 0;
    k.n = w->n_pending;
    k.n_rows = b->n_rows;
    k.n_out = b->n_out;
    k.n_seqs = b->n_seqs;
    k.n_splits = b->n_splits;
    k.is_decode = b->is_decode;
    k.is_given = b->is_given;
    k.is_ahead = b->is_ahead;
    k.logits = w->logits;
    return k;
}

static galen_status queue_pending(backend_work *w, galen_error *err) {
    galen_status st = w->has_begin ? cuda_queue_begin(w, err) : GALEN_OK;
    for (int32_t i = 0; !st && i < w->n_pending; i++) st = cuda_queue_operation(w, w->pending_first + i, w->logits, err);
    return st;
}

/* Capture what is pending; NULL when that does not work, which costs speed only. */
static cudaGraphExec_t capture(backend_work *w) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    galen_error ignored;
    if (cudaStreamBeginCapture(w->queue.stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return NULL;
    w->queue.is_chained = false;
    const galen_status st = queue_pending(w, &ignored);
    const cudaError_t e = cudaStreamEndCapture(w->queue.stream, &graph);
    if (!st && e == cudaSuccess && cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess) exec = NULL;
    if (graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    return exec;
}

/* The graph of what is pending; NULL = queue it kernel by kernel. Capturing pays from the second time on. */
static cudaGraphExec_t step_of(backend_work *w) {
    const step_key k = key_of(w);
    if (w->has_no_graphs) return NULL;
    for (int32_t i = 0; i < w->n_steps; i++) {
        if (memcmp(&w->steps[i].key, &k, sizeof k) != 0) continue;
        if (!w->steps[i].exec) w->steps[i].exec = capture(w);
        w->has_no_graphs = !w->steps[i].exec;
        return w->steps[i].exec;
    }
    step *s = &w->steps[w->next_step];
    if (s->exec) (void)cudaGraphExecDestroy(s->exec);
    *s = (step){.key = k};
    w->next_step = (w->next_step + 1) % MAX_STEPS;
    if (w->n_steps < MAX_STEPS) w->n_steps++;
    return NULL;
}

galen_status cuda_flush(backend_work *w, galen_error *err) {
    galen_status st = GALEN_OK;
    if (w->n_pending == 0 && !w->has_begin) return GALEN_OK;
    const cudaGraphExec_t exec = step_of(w);
    if (exec) {
        const int e = cudaGraphLaunch(exec, w->queue.stream);
        if (e) st = cuda_fail(err, e, "a step");
    } else {
        w->queue.is_chained = false;
        st = queue_pending(w, err);
    }
    w->n_pending = 0;
    w->has_begin = false;
    w->queue.is_chained = false;
    return cuda_remember(w, st, err);
}

static bool is_recorded(const backend_work *w) {
    return w->batch.n_rows < STREAM_MIN_ROWS || (cuda_takes_rows(w) && !w->streamer);
}

/* Queue or record the batch's beginning. */
static galen_status add_begin(backend_work *w, galen_error *err) {
    if (!is_recorded(w)) return cuda_remember(w, cuda_queue_begin(w, err), err);
    w->has_begin = true;
    return GALEN_OK;
}

/* Queue or record operation op. */
static galen_status add_operation(backend_work *w, int32_t op, galen_error *err) {
    galen_status st;
    if (w->n_pending && op != w->pending_first + w->n_pending && (st = cuda_flush(w, err))) return st;
    if (!is_recorded(w)) return cuda_remember(w, cuda_queue_operation(w, op, w->logits_to, err), err);
    if (w->n_pending == 0) w->pending_first = op;
    w->n_pending++;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- waiting */

/* Wait for the queue and hand over the logits that are due. */
static galen_status settle(backend_work *w, galen_error *err) {
    galen_status st = cuda_flush(w, err);
    const int e = cudaStreamSynchronize(w->queue.stream);
    if (!st && e) st = cuda_remember(w, cuda_fail(err, e, "a stage"), err);
    if (!st && w->logits_to && w->n_logits)
        memcpy(w->logits_to, w->logits, (size_t)w->n_logits * (size_t)w->b->net->n_vocab * sizeof(float));
    for (int32_t i = 0; !st && i < w->n_choices; i++)
        w->choices_to[i] = (sample_choice){.id = w->choices[i].id, .logprob = w->choices[i].logprob};
    if (!st && w->n_read) memcpy(w->read_to, w->read, w->n_read * sizeof *w->read);
    w->read_to = NULL;
    w->n_read = 0;
    w->logits_to = NULL;
    w->n_logits = 0;
    w->choices_to = NULL;
    w->n_choices = 0;
    w->batch.is_ahead = false;
    w->is_busy = false;
    return st;
}

galen_status cuda_sync(backend_work *w, galen_error *err) {
    const galen_status st = settle(w, err);
    return st ? st : w->is_failed ? cuda_refuse_failed(w, err) : GALEN_OK;
}

/* ---------------------------------------------------------------- a batch begins */

static size_t pad16(size_t n) {
    return (n + 15) & ~(size_t)15;
}

/* Pieces of the longest context, rounded up so that few graphs serve a growing sequence. */
int32_t cuda_splits_at(const backend_work *w, int32_t pos) {
    const int32_t s = cuda_attend_splits(pos + 1), most = s < w->shape.few_splits ? s : w->shape.few_splits;
    int32_t n = 1;
    while (n < most) n *= 2;
    return n;
}

static int32_t most_splits(const backend_work *w, const batch *b) {
    int32_t most = 1;
    for (int32_t r = 0; r < b->n_rows; r++) {
        const int32_t n = cuda_splits_at(w, b->pos[r]);
        if (n > most) most = n;
    }
    return most;
}

static galen_status check_batch(const backend_work *w, const batch *b, galen_error *err) {
    const work_limits *lim = &w->lim;
    if (b->n_rows < 1 || b->n_rows > lim->max_rows || b->n_out < 0 || b->n_out > lim->max_out || b->n_out > b->n_rows)
        return galen_fail(err, GALEN_E_ARG, 0, "a batch of %d rows, %d outputs; at most %d, %d", b->n_rows, b->n_out,
                          lim->max_rows, lim->max_out);
    for (int32_t i = 0; i < b->n_out; i++)
        if (b->out_row[i] < 0 || b->out_row[i] >= b->n_rows)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "output %d: row %d of %d", i, b->out_row[i], b->n_rows);
    for (int32_t r = 0; r < b->n_rows; r++)
        if (b->pos[r] < 0 || b->pos[r] >= lim->n_ctx || b->seq[r] < 0 || b->seq[r] >= b->n_seqs ||
            b->pos[r] / KV_PAGE >= b->seqs[b->seq[r]].n_pages)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)r, "row %d: position %d of a context of %d", r, b->pos[r],
                              lim->n_ctx);
    return GALEN_OK;
}

static galen_status write_pages(const backend_work *w, const kv_pages *seq, int32_t *to, galen_error *err) {
    const int32_t n = seq->n_pages < w->shape.max_pages ? seq->n_pages : w->shape.max_pages;
    for (int32_t i = 0; i < n; i++) {
        if (seq->pages[i] < 0 || seq->pages[i] >= w->lim.n_pages)
            return galen_fail(err, GALEN_E_RANGE, 0, "page %d of %d", seq->pages[i], w->lim.n_pages);
        to[i] = seq->pages[i];
    }
    return GALEN_OK;
}

/* Large batches: runs of rows of one sequence, cut into tiles. Returns how many. */
static int32_t write_tiles(const batch *b, int32_t *to) {
    int32_t n = 0;
    for (int32_t r = 0; r < b->n_rows; r++) {
        if (r == 0 || b->seq[r] != b->seq[r - 1] || to[2 * n - 1] == ATTEND_TILE) {
            to[2 * n] = r;
            to[2 * n + 1] = 0;
            n++;
        }
        to[2 * n - 1]++;
    }
    return n;
}

/* Positions, page lists and wanted rows into the mailbox; its layout depends on the counts alone. */
static galen_status write_mail(backend_work *w, const batch *b, galen_error *err) {
    int32_t *pos = (int32_t *)(void *)w->mail, *table = pos + b->n_rows, *out = table + b->n_rows, *pages = out + b->n_out;
    const int32_t stride = w->shape.max_pages;
    int32_t n_lists = 0;
    for (int32_t r = 0; r < b->n_rows; r++) {
        if (r == 0 || b->seq[r] != b->seq[r - 1]) { /* rows of one sequence stand together */
            const galen_status st = write_pages(w, &b->seqs[b->seq[r]], pages + (size_t)n_lists * (size_t)stride, err);
            if (st) return st;
            n_lists++;
        }
        pos[r] = b->pos[r];
        table[r] = (n_lists - 1) * stride;
    }
    for (int32_t i = 0; i < b->n_out; i++) out[i] = b->out_row[i];
    batch_state *to = &w->batch;
    *to = (batch_state){.n_rows = b->n_rows,
                        .n_out = b->n_out,
                        .n_seqs = n_lists,
                        .is_decode = n_lists == b->n_rows,
                        .n_splits = most_splits(w, b)};
    to->out_at = sizeof(int32_t) * 2 * (size_t)b->n_rows;
    to->pages_at = to->out_at + sizeof(int32_t) * (size_t)b->n_out;
    to->tiles_at = to->pages_at + sizeof(int32_t) * (size_t)n_lists * (size_t)stride;
    if (b->n_rows > STREAM_ROWS && !to->is_decode) to->n_tiles = write_tiles(b, (int32_t *)(void *)(w->mail + to->tiles_at));
    to->rows_at = pad16(to->tiles_at + sizeof(int32_t) * 2 * (size_t)to->n_tiles);
    return GALEN_OK;
}

galen_status cuda_begin_batch(backend_work *w, const batch *b, galen_error *err) {
    galen_status st;
    if (w->is_failed) return cuda_refuse_failed(w, err);
    if ((st = check_batch(w, b, err))) return st;
    (void)cudaSetDevice(w->b->device); /* the caller's thread may be another than the last */
    if ((w->is_busy || w->has_begin || w->n_pending) && (st = settle(w, err)))
        return st; /* the mailbox and the logits are in use */
    if ((st = write_mail(w, b, err))) return st;
    w->is_busy = true;
    return GALEN_OK;
}

galen_status cuda_embed(backend_work *w, const batch *b, galen_error *err) {
    const tensor *embd = &w->b->net->embd;
    const size_t stride = pad16(embd->row_bytes);
    for (int32_t r = 0; r < b->n_rows; r++)
        if (b->token[r] < 0 || b->token[r] >= embd->n_out)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)r, "token %d of a vocabulary of %lld", b->token[r],
                              (long long)embd->n_out);
    const galen_status st = cuda_begin_batch(w, b, err);
    if (st) return st;
    for (int32_t r = 0; r < b->n_rows; r++)
        memcpy(w->mail + w->batch.rows_at + (size_t)r * stride, tensor_row(embd, b->token[r]), embd->row_bytes);
    w->batch.bytes = w->batch.rows_at + (size_t)b->n_rows * stride;
    return add_begin(w, err);
}

galen_status cuda_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err) {
    const size_t n = (size_t)w->b->net->n_embd, stride = (size_t)w->shape.embd_stride;
    const galen_status st = cuda_begin_batch(w, b, err);
    if (st) return st;
    float *to = (float *)(void *)(w->mail + w->batch.rows_at);
    for (size_t r = 0; r < (size_t)b->n_rows; r++) {
        memcpy(to + r * stride, x + r * n, n * sizeof *x);
        memset(to + r * stride + n, 0, (stride - n) * sizeof *x);
    }
    w->batch.is_given = true;
    w->batch.bytes = w->batch.rows_at + (size_t)b->n_rows * stride * sizeof *x;
    return add_begin(w, err);
}

/* A part of the host's: nothing of it starts before its weights are there, and what comes after it is queued after it. */
static galen_status run_streamed(backend_work *w, stage s, int32_t layer, galen_error *err) {
    const bool is_last = s == STAGE_ATTN_OUT || s == STAGE_FFN_OUT, is_first = s == STAGE_ATTN_IN || s == STAGE_FFN_IN;
    galen_status st = is_first && (w->n_pending || !is_recorded(w)) ? cuda_flush(w, err) : GALEN_OK;
    if (!st) st = cuda_remember(w, cuda_stream_begin(w, s, layer, err), err);
    if (!st) st = add_operation(w, N_STAGES * layer + (int32_t)s, err);
    if (!st && is_last) st = cuda_flush(w, err);
    if (!st) st = cuda_remember(w, cuda_stream_end(w, s, layer, err), err);
    return st;
}

galen_status cuda_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err) {
    (void)b; /* as embed received it */
    if (w->is_failed) return cuda_refuse_failed(w, err);
    return cuda_is_streamed(w->b, s, layer) ? run_streamed(w, s, layer, err)
                                            : add_operation(w, N_STAGES * layer + (int32_t)s, err);
}

galen_status cuda_head(backend_work *w, const batch *b, float *logits, galen_error *err) {
    if (w->is_failed) return cuda_refuse_failed(w, err);
    if (b->n_out == 0) return GALEN_OK;
    w->logits_to = logits;
    w->n_logits = b->n_out <= PASS_ROWS ? b->n_out : 0;
    const int32_t op = head_operation(w->b);
    galen_status st;
    if (w->n_logits && is_recorded(w)) {
        st = add_operation(w, op, err);
        return st ? st : cuda_flush(w, err);
    }
    if ((st = cuda_flush(w, err))) return st; /* many logits go to the caller's memory, which is another every time */
    return cuda_remember(w, cuda_queue_operation(w, op, w->n_logits ? w->logits : logits, err), err);
}

galen_status cuda_begin_sample(backend_work *w, galen_error *err) {
    if (w->is_failed) return cuda_refuse_failed(w, err);
    return cuda_flush(w, err); /* the batch's beginning has waited for all before it */
}

galen_status cuda_get_hidden(backend_work *w, const batch *b, float *x, galen_error *err) {
    galen_status st = settle(w, err);
    if (st) return st;
    const size_t n = (size_t)w->b->net->n_embd * sizeof *x;
    const int e = cudaMemcpy2DAsync(x, n, w->buf.x, (size_t)w->shape.embd_stride * sizeof *x, n, (size_t)b->n_rows,
                                    cudaMemcpyDeviceToHost, w->queue.stream);
    const int f = cudaStreamSynchronize(w->queue.stream);
    if (e || f) st = cuda_remember(w, cuda_fail(err, e ? e : f, "reading hidden states"), err);
    w->is_busy = true; /* the batch goes on: its mailbox stays */
    return st;
}

galen_status cuda_copy_page(backend_work *w, int32_t to, int32_t from, galen_error *err) {
    const size_t n = w->shape.page_bytes;
    int e = 0;
    if (w->is_failed) return cuda_refuse_failed(w, err);
    (void)cudaSetDevice(w->b->device);
    for (size_t at = 0; !e && at < w->kv_bytes; at += w->shape.layer_bytes) {
        char *layer = (char *)w->kv + at;
        e = from < 0
                ? cudaMemsetAsync(layer + (size_t)to * n, 0, n, w->queue.stream)
                : cudaMemcpyAsync(layer + (size_t)to * n, layer + (size_t)from * n, n, cudaMemcpyDeviceToDevice, w->queue.stream);
    }
    return e ? cuda_remember(w, cuda_fail(err, e, "copying a KV page"), err) : GALEN_OK;
}
