/* The stages on the CPU: norms and small work around grouped products. A decode step of one row wakes the threads for the
 * products and for attention only; everything smaller is done by the caller (row_grain). */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_impl.h"

/* ---------------------------------------------------------------- norms and products */

typedef struct norm_ctx {
    const cpu_ops *ops;
    float *y;
    const float *x;
    const int32_t *row; /* row of x for each row of y; NULL = the same */
    const float *weight;
    int64_t n;
    float eps;
    float *sum; /* not NULL: the normed row is added to this, row by row */
} norm_ctx;

static void norm_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const norm_ctx *c = ctx;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        float *y = c->y + r * c->n;
        c->ops->rms_norm(y, c->x + (c->row ? c->row[r] : r) * c->n, c->weight, c->n, c->eps);
        if (c->sum) c->ops->add(c->sum + r * c->n, y, c->n);
    }
}

static void norm(backend_work *w, const int32_t *row, const tensor *weight, int32_t n_rows) {
    const network *net = w->b->net;
    norm_ctx c = {.ops = w->b->ops,
                  .y = w->buf.norm,
                  .x = w->buf.x,
                  .row = row,
                  .weight = weight->data,
                  .n = net->n_embd,
                  .eps = net->norm_eps};
    pool_run(w->b->pool, n_rows, row_grain(net->n_embd), norm_rows, &c);
}

static matmul_input prepare(backend_work *w, const float *x, int64_t n_in, int32_t n_rows) {
    const matmul_input in = {.n_in = n_in, .n_rows = n_rows, .x = x, .x_stride = n_in, .packed = w->buf.packed};
    matmul_prepare(w->b->mm, w->b->pool, &in);
    return in;
}

static matmul_job product(const tensor *weight, const tensor *bias, float *y, int64_t y_stride) {
    return (matmul_job){.w = weight, .bias = bias ? bias->data : NULL, .y = y, .y_stride = y_stride};
}

/* x += post_norm(W in + bias), or x += W in + bias */
static void add_product(backend_work *w, const tensor *weight, const tensor *bias, const tensor *post_norm, const float *x,
                        int32_t n_rows) {
    const network *net = w->b->net;
    const matmul_input in = prepare(w, x, weight->n_in, n_rows);
    matmul_job job = product(weight, bias, post_norm->data ? w->buf.norm : w->buf.x, net->n_embd);
    job.is_added = !post_norm->data;
    matmul_run(w->b->mm, w->b->pool, &job, 1, &in, w->buf.scratch);
    if (!post_norm->data) return;
    norm_ctx c = {.ops = w->b->ops,
                  .y = w->buf.norm,
                  .x = w->buf.norm,
                  .weight = post_norm->data,
                  .n = net->n_embd,
                  .eps = net->norm_eps,
                  .sum = w->buf.x};
    pool_run(w->b->pool, n_rows, row_grain(net->n_embd), norm_rows, &c);
}

/* ---------------------------------------------------------------- attn_in */

typedef struct heads_ctx {
    backend_work *w;
    const network_layer *layer;
    const batch *b;
    char *kv; /* of the layer */
} heads_ctx;

/* QK-norm and rotation of n heads of one row, in place. */
static void turn_heads(const heads_ctx *c, float *x, int32_t n, const tensor *weight, int64_t row) {
    const network *net = c->w->b->net;
    const cpu_ops *ops = c->w->b->ops;
    const int64_t half = net->n_rot / 2;
    const int64_t rows = c->w->lim.max_rows, at = (c->layer->rope * rows + row) * half;
    for (int32_t h = 0; h < n; h++, x += net->d_head) {
        if (weight->data) ops->rms_norm(x, x, weight->data, net->d_head, net->norm_eps);
        ops->rope(x, c->w->buf.cos + at, c->w->buf.sin + at, net->n_rot, net->rope_kind);
    }
}

static void finish_heads(void *ctx, int64_t begin, int64_t end, int thread) {
    const heads_ctx *c = ctx;
    const backend_work *w = c->w;
    const network *net = w->b->net;
    const kv_layout *kl = &w->shape.kl;
    const int64_t d = net->d_head, n_q = net->n_head * d, n_kv = net->n_head_kv * d;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const int32_t pos = c->b->pos[r];
        float *k = w->buf.k + r * n_kv, *v = w->buf.v + r * n_kv;
        turn_heads(c, w->buf.q + r * n_q, net->n_head, &c->layer->q_norm, r);
        turn_heads(c, k, net->n_head_kv, &c->layer->k_norm, r);
        char *page = c->kv + (size_t)c->b->seqs[c->b->seq[r]].pages[pos / KV_PAGE] * kl->page_bytes;
        for (int32_t h = 0; h < net->n_head_kv; h++)
            w->b->ops->kv_put(kl, page + (size_t)h * kl->head_bytes, pos % KV_PAGE, k + h * d, v + h * d);
    }
}

static void attn_in(backend_work *w, int32_t layer, const batch *b) {
    const network *net = w->b->net;
    const network_layer *l = &net->layers[layer];
    const int64_t n_q = (int64_t)net->n_head * net->d_head, n_kv = (int64_t)net->n_head_kv * net->d_head;
    norm(w, NULL, &l->attn_norm, b->n_rows);
    const matmul_input in = prepare(w, w->buf.norm, net->n_embd, b->n_rows);
    const matmul_job jobs[] = {product(&l->wq, &l->bq, w->buf.q, n_q), product(&l->wk, &l->bk, w->buf.k, n_kv),
                               product(&l->wv, &l->bv, w->buf.v, n_kv)};
    matmul_run(w->b->mm, w->b->pool, jobs, 3, &in, w->buf.scratch);
    heads_ctx c = {.w = w, .layer = l, .b = b, .kv = layer_kv(w, layer)};
    pool_run(w->b->pool, b->n_rows, row_grain(n_q + 2 * n_kv), finish_heads, &c);
}

/* ---------------------------------------------------------------- ffn_in */

typedef struct act_ctx {
    const backend_work *w;
    int64_t n; /* values a call takes */
    int64_t n_all;
} act_ctx;

static void activate(void *ctx, int64_t begin, int64_t end, int thread) {
    const act_ctx *c = ctx;
    (void)thread;
    const int64_t from = begin * c->n, to = end * c->n < c->n_all ? end * c->n : c->n_all;
    c->w->b->ops->activate(c->w->buf.gate + from, c->w->buf.up + from, to - from, c->w->b->net->act);
}

static void ffn_in(backend_work *w, int32_t layer, const batch *b) {
    enum { ACT_GRAIN = 8192 };
    const network *net = w->b->net;
    const network_layer *l = &net->layers[layer];
    norm(w, NULL, &l->ffn_norm, b->n_rows);
    const matmul_input in = prepare(w, w->buf.norm, net->n_embd, b->n_rows);
    const matmul_job jobs[] = {product(&l->w_gate, NULL, w->buf.gate, net->n_ff), product(&l->w_up, NULL, w->buf.up, net->n_ff)};
    matmul_run(w->b->mm, w->b->pool, jobs, 2, &in, w->buf.scratch);
    act_ctx c = {.w = w, .n = ACT_GRAIN, .n_all = (int64_t)b->n_rows * net->n_ff};
    pool_run(w->b->pool, (c.n_all + c.n - 1) / c.n, 1, activate, &c);
}

galen_status cpu_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err) {
    const network_layer *l = &w->b->net->layers[layer];
    (void)err;
    switch (s) {
    case STAGE_ATTN_IN:
        attn_in(w, layer, b);
        break;
    case STAGE_ATTEND:
        cpu_attend(w, layer, b);
        break;
    case STAGE_ATTN_OUT:
        add_product(w, &l->wo, &l->bo, &l->attn_post_norm, w->buf.att, b->n_rows);
        break;
    case STAGE_FFN_IN:
        ffn_in(w, layer, b);
        break;
    case STAGE_FFN_OUT:
        add_product(w, &l->w_down, NULL, &l->ffn_post_norm, w->buf.gate, b->n_rows);
        break;
    case N_STAGES:
        break;
    }
    return GALEN_OK;
}

/* ---------------------------------------------------------------- the ends */

typedef struct embed_ctx {
    backend_work *w;
    const batch *b;
    bool is_embedding;
} embed_ctx;

/* Angles in double: at position 100,000 f32 would be off by some 0.01 radians. */
static void turn_row(backend_work *w, int64_t row, int32_t pos) {
    const network *net = w->b->net;
    const int64_t half = net->n_rot / 2;
    for (int32_t i = 0; i < w->shape.n_ropes; i++) {
        const rope_table *t = &net->ropes[i][w->rope_choice];
        float *c = w->buf.cos + (i * (int64_t)w->lim.max_rows + row) * half;
        float *s = w->buf.sin + (i * (int64_t)w->lim.max_rows + row) * half;
        for (int64_t j = 0; j < half; j++) {
            const double angle = (double)pos * t->inv_freq[j];
            c[j] = (float)(cos(angle) * t->magnitude);
            s[j] = (float)(sin(angle) * t->magnitude);
        }
    }
}

static void begin_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const embed_ctx *c = ctx;
    const network *net = c->w->b->net;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        turn_row(c->w, r, c->b->pos[r]);
        if (!c->is_embedding) continue;
        float *x = c->w->buf.x + r * net->n_embd;
        tensor_type_get((uint32_t)net->embd.type)->dequantise(tensor_row(&net->embd, c->b->token[r]), x, net->n_embd);
        if (net->embd_scale != 1.0f) c->w->b->ops->scale(x, net->embd_scale, net->n_embd);
    }
}

galen_status cpu_embed(backend_work *w, const batch *b, galen_error *err) {
    embed_ctx c = {.w = w, .b = b, .is_embedding = true};
    (void)err;
    pool_run(w->b->pool, b->n_rows, 4, begin_rows, &c);
    return GALEN_OK;
}

galen_status cpu_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err) {
    embed_ctx c = {.w = w, .b = b};
    (void)err;
    memcpy(w->buf.x, x, (size_t)b->n_rows * (size_t)w->b->net->n_embd * sizeof *x);
    pool_run(w->b->pool, b->n_rows, 4, begin_rows, &c);
    return GALEN_OK;
}

typedef struct cap_ctx {
    const cpu_ops *ops;
    float *logits;
    float cap;
    int64_t n;
} cap_ctx;

enum { CAP_GRAIN = 8192 };

static void cap_logits(void *ctx, int64_t begin, int64_t end, int thread) {
    const cap_ctx *c = ctx;
    (void)thread;
    const int64_t from = begin * CAP_GRAIN, to = end * CAP_GRAIN < c->n ? end * CAP_GRAIN : c->n;
    c->ops->softcap(c->logits + from, c->cap, to - from);
}

galen_status cpu_head(backend_work *w, const batch *b, float *logits, galen_error *err) {
    const network *net = w->b->net;
    (void)err;
    if (b->n_out == 0) return GALEN_OK;
    norm(w, b->out_row, &net->out_norm, b->n_out);
    const matmul_input in = prepare(w, w->buf.norm, net->n_embd, b->n_out);
    const matmul_job job = product(&net->head, NULL, logits, net->n_vocab);
    matmul_run(w->b->mm, w->b->pool, &job, 1, &in, w->buf.scratch);
    if (net->logit_softcap > 0.0f) {
        cap_ctx c = {.ops = w->b->ops, .logits = logits, .cap = net->logit_softcap, .n = (int64_t)b->n_out * net->n_vocab};
        pool_run(w->b->pool, (c.n + CAP_GRAIN - 1) / CAP_GRAIN, 1, cap_logits, &c);
    }
    return GALEN_OK;
}
