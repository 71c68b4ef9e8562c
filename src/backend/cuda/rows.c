/* The stages of a few rows, 2 to FEW_ROWS (1 where a work is uniform), with quantised weights: norms and roundings in kernels of
 * their own, products on the tensor cores in splits of a row, which whatever comes next adds up. */
#include "backend/cuda/impl.h"
#include "backend/cuda/rows_product.h"

static galen_status check(int e, const char *what, galen_error *err) {
    return e ? cuda_fail(err, e, what) : GALEN_OK;
}

bool cuda_is_lone(const backend_work *w) {
    return w->batch.n_rows == 1 && !w->lim.is_uniform;
}

bool cuda_takes_rows(const backend_work *w) {
    return w->shape.is_quantised && w->batch.n_rows <= FEW_ROWS && !cuda_is_lone(w);
}

static row_parts parts_of(const backend_work *w, int32_t stride, int32_t n_splits) {
    return (row_parts){.y = w->buf.tile, .stride = stride, .n = n_splits, .part = (int64_t)stride * w->batch.n_rows};
}

/* Of shapes and the device alone: a row's bytes do not depend on how many there are. */
static int32_t splits_of(const backend_work *w, const dev_matrix *const *m, int32_t n, int32_t stride) {
    int64_t n_out = 0;
    for (int32_t i = 0; i < n; i++) n_out += m[i]->n_out;
    const int32_t wanted = cuda_rows_splits(w->b->n_sm, n_out, m[0]->n_in), most = w->shape.few_width / stride;
    return wanted < most ? wanted : most;
}

/* The products of the rows in buf.half with n matrices side by side: one launch for each weight type. */
static int run(backend_work *w, const dev_matrix *const *m, int32_t n, int32_t stride, row_parts *out) {
    bool is_done[MAX_JOBS] = {false};
    int e = 0;
    *out = parts_of(w, stride, splits_of(w, m, n, stride));
    for (int32_t i = 0; !e && i < n; i++) {
        if (is_done[i]) continue;
        rows_args a = {.n_rows = w->batch.n_rows,
                       .x = w->buf.half,
                       .y = w->buf.tile,
                       .part = out->part,
                       .y_stride = stride,
                       .n_splits = out->n};
        for (int32_t j = 0, at = 0; j < n; at += m[j++]->n_out) {
            if (m[j]->type != m[i]->type) continue;
            is_done[j] = true;
            a.w[a.n_jobs] = *m[j];
            a.at[a.n_jobs++] = at;
        }
        e = cuda_rows_product(&w->queue, &a);
    }
    return e;
}

/* norm(x) of rows, or x, as halves into buf.half. */
static int prepare(backend_work *w, float *x, int32_t stride, const int32_t *row, const float *norm, int32_t n, int32_t n_rows) {
    const residual_args r = {.x = x,
                             .x_stride = stride,
                             .row = row,
                             .norm = norm,
                             .half = w->buf.half,
                             .half_scale = w->buf.half_scale,
                             .eps = w->b->net->norm_eps,
                             .n = n,
                             .n_rows = n_rows};
    return cuda_residual(&w->queue, &r);
}

static int prepare_norm(backend_work *w, const float *norm) {
    return prepare(w, w->buf.x, w->shape.embd_stride, NULL, norm, w->b->net->n_embd, w->batch.n_rows);
}

row_parts cuda_rows_qkv(const backend_work *w, const dev_layer *l) {
    const dev_matrix *const m[] = {&l->wq, &l->wk, &l->wv};
    return parts_of(w, w->shape.qkv_stride, splits_of(w, m, 3, w->shape.qkv_stride));
}

/* The operation before has left this one's input: it has been queued since the batch began, or the step. */
static bool is_ready(backend_work *w, stage s, int32_t layer) {
    const bool is_ready = w->queue.is_chained && w->ready_op == N_STAGES * layer + (int32_t)s;
    w->ready_op = -1;
    return is_ready;
}

/* The norm that the operation after (s, layer) begins with, where that runs here; NULL = another's. */
static const float *next_norm(backend_work *w, stage s, int32_t layer) {
    const int32_t at = s == STAGE_FFN_OUT ? layer + 1 : layer;
    const uint8_t part = s == STAGE_FFN_OUT ? PART_ATTN : PART_FFN;
    if (w->streamer || at >= w->b->net->n_layer || !(w->b->parts[at] & part)) return NULL;
    w->ready_op = N_STAGES * layer + (int32_t)s + 1;
    return s == STAGE_FFN_OUT ? w->b->weights.layers[at].attn_norm : w->b->weights.layers[at].ffn_norm;
}

static galen_status attn_in(backend_work *w, const dev_layer *l, int32_t layer, galen_error *err) {
    const dev_matrix *const m[] = {&l->wq, &l->wk, &l->wv};
    row_parts parts;
    int e = is_ready(w, STAGE_ATTN_IN, layer) ? 0 : prepare_norm(w, l->attn_norm);
    if (!e) e = run(w, m, 3, w->shape.qkv_stride, &parts);
    if (e) return cuda_fail(err, e, "Q, K and V");
    return cuda_is_attention_fused(w) ? GALEN_OK : cuda_queue_heads(w, layer, w->buf.half_scale, l->qkv_bias, err);
}

/* x += W in, and the norm after it. */
static galen_status add(backend_work *w, const dev_matrix *m, const residual_args *how, const char *what, galen_error *err) {
    residual_args r = *how;
    r.x = w->buf.x;
    r.x_stride = w->shape.embd_stride;
    r.half = r.norm ? w->buf.half : NULL;
    r.half_scale = w->buf.half_scale;
    r.eps = w->b->net->norm_eps;
    r.n = w->b->net->n_embd;
    r.n_rows = w->batch.n_rows;
    int e = run(w, &m, 1, w->shape.embd_stride, &r.y);
    if (!e) e = cuda_residual(&w->queue, &r);
    return check(e, what, err);
}

static galen_status attn_out(backend_work *w, const dev_layer *l, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const bool is_half = cuda_attention_gives_halves(w);
    const int e =
        is_half ? 0 : prepare(w, w->buf.att, w->shape.att_stride, NULL, NULL, net->n_head * net->d_head, w->batch.n_rows);
    const residual_args r = {.scale = is_half ? NULL : w->buf.half_scale,
                             .bias = l->bo,
                             .post_norm = l->attn_post_norm,
                             .norm = next_norm(w, STAGE_ATTN_OUT, layer)};
    return e ? cuda_fail(err, e, "attention's output") : add(w, &l->wo, &r, "output projection", err);
}

static galen_status ffn_in(backend_work *w, const dev_layer *l, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const dev_matrix *const m[] = {&l->gate, &l->up};
    row_parts parts;
    int e = is_ready(w, STAGE_FFN_IN, layer) ? 0 : prepare_norm(w, l->ffn_norm);
    if (!e) e = run(w, m, 2, 2 * w->shape.ff_stride, &parts);
    if (!e)
        e = cuda_activate_half(&w->queue, &parts, w->buf.half_scale, w->buf.half, w->buf.half_scale, net->n_ff, w->batch.n_rows,
                               net->act == ACT_GELU_TANH);
    return check(e, "feed-forward", err);
}

galen_status cuda_queue_rows(backend_work *w, stage s, int32_t layer, galen_error *err) {
    const dev_layer *l = cuda_layer(w, s, layer);
    residual_args r;
    switch (s) {
    case STAGE_ATTN_IN:
        return attn_in(w, l, layer, err);
    case STAGE_ATTEND:
        return cuda_queue_attention(w, layer, err);
    case STAGE_ATTN_OUT:
        return attn_out(w, l, layer, err);
    case STAGE_FFN_IN:
        return ffn_in(w, l, layer, err);
    case STAGE_FFN_OUT: /* ffn_in has left the halves */
        r = (residual_args){
            .scale = w->buf.half_scale, .post_norm = l->ffn_post_norm, .norm = next_norm(w, STAGE_FFN_OUT, layer)};
        return add(w, &l->down, &r, "down projection", err);
    case N_STAGES:
        break;
    }
    return GALEN_OK;
}

/* Logits of out_row[0..n), n <= HEAD_ROWS, to device memory. */
galen_status cuda_rows_head(backend_work *w, const int32_t *out_row, int32_t n, float *logits, galen_error *err) {
    const network *net = w->b->net;
    rows_args a = {.w = {w->b->weights.head},
                   .n_jobs = 1,
                   .n_rows = n,
                   .x = w->buf.half,
                   .y = logits,
                   .y_stride = net->n_vocab,
                   .n_splits = 1};
    int e = prepare(w, w->buf.x, w->shape.embd_stride, out_row, w->b->weights.out_norm, net->n_embd, n);
    if (!e) e = cuda_rows_product(&w->queue, &a);
    if (!e) e = cuda_finish_logits(&w->queue, logits, net->n_vocab, w->buf.half_scale, net->logit_softcap, net->n_vocab, n);
    return check(e, "logits", err);
}
