/* The stages as kernels on the queue. A batch of few rows goes through the streaming products: with one row five kernels a layer
 * (norms, quantisation, rotation, KV and residual inside them), with more a few small ones beside. More rows of quantised
 * weights: rows.c. Large batches: tiles.c. */
#include "backend/cuda/attend_tiles.h"
#include "backend/cuda/impl.h"

static galen_status check(int e, const char *what, galen_error *err) {
    return e ? cuda_fail(err, e, what) : GALEN_OK;
}

static dev_acts acts_from(const dev_acts *a, int32_t row) {
    dev_acts v = *a;
    const size_t at = (size_t)row * (size_t)a->stride;
    if (v.q) v.q += at;
    if (v.rec) v.rec += at / UNIT;
    if (v.f) v.f += at;
    if (v.scale) v.scale += row;
    return v;
}

/* ---------------------------------------------------------------- products */

typedef struct product_plan {
    const dev_matrix *m[MAX_JOBS];
    float *y[MAX_JOBS];
    const float *bias[MAX_JOBS];
    int32_t n;
    dev_acts in; /* or, one row: */
    const float *x, *norm;
    int32_t y_stride;
    product_mode mode;
    const dev_acts *out; /* PRODUCT_ACT */
    bool is_out_quantised;
    float softcap;
    int32_t n_rows;
} product_plan;

/* One launch for each weight type, or pair of types of a lone row, and PASS_ROWS rows, of quantised types one: only networks that
 * have both kinds come here with more. */
static galen_status run_products(backend_work *w, const product_plan *p, galen_error *err) {
    bool is_done[MAX_JOBS] = {false};
    for (int32_t i = 0; i < p->n; i++) {
        if (is_done[i]) continue;
        product_args a = {.y_stride = p->y_stride,
                          .mode = p->mode,
                          .eps = w->b->net->norm_eps,
                          .norm = p->norm,
                          .x = p->x,
                          .is_gelu = w->b->net->act == ACT_GELU_TANH,
                          .is_out_quantised = p->is_out_quantised,
                          .softcap = p->softcap};
        const bool is_lone = p->n_rows == 1 && p->mode == PRODUCT_STORE;
        const int32_t a_type = p->m[i]->type;
        int32_t other = a_type; /* the second type of the launch */
        float *y[MAX_JOBS];
        for (int32_t j = i; j < p->n; j++) {
            const int32_t type = p->m[j]->type;
            if (type != a_type && type != other) {
                if (other != a_type || !is_lone || !cuda_product_takes_both(a_type, type)) continue;
                other = type;
            }
            is_done[j] = true;
            a.w[a.n_jobs] = *p->m[j];
            a.bias[a.n_jobs] = p->bias[j];
            y[a.n_jobs++] = p->y[j];
        }
        const int32_t pass = cuda_is_float(a.w[0].type) ? PASS_ROWS : 1;
        for (int32_t r = 0; r < p->n_rows; r += pass) {
            a.n_rows = p->n_rows - r < pass ? p->n_rows - r : pass;
            for (int32_t j = 0; j < a.n_jobs; j++) a.y[j] = y[j] ? y[j] + (size_t)r * (size_t)p->y_stride : NULL;
            a.in = acts_from(&p->in, r);
            if (p->out) a.out = acts_from(p->out, r), a.arrived = w->buf.half_units;
            const int e = other != a_type ? cuda_product_mixed(&w->queue, &a) : cuda_product(&w->queue, &a);
            if (e) return cuda_fail(err, e, "product");
        }
    }
    return GALEN_OK;
}

/* The norm's output in every form the matrices take; one row alone is normed inside the product. */
static galen_status prepare(backend_work *w, const float *norm, const dev_matrix *const *m, int32_t n, product_plan *p,
                            galen_error *err) {
    dev_acts a = w->buf.a;
    p->n_rows = w->batch.n_rows;
    if (p->n_rows == 1) {
        p->x = w->buf.x;
        p->norm = norm;
        return GALEN_OK;
    }
    bool has_float = false, has_quant = false;
    for (int32_t i = 0; i < n; i++) *(cuda_is_float(m[i]->type) ? &has_float : &has_quant) = true;
    a.stride = w->shape.embd_stride;
    if (!has_float) a.f = NULL;
    if (!has_quant) a.q = NULL;
    p->in = w->buf.a;
    p->in.stride = a.stride;
    return check(cuda_prepare(&w->queue, w->buf.x, w->shape.embd_stride, NULL, norm, w->b->net->norm_eps, w->b->net->n_embd,
                              p->n_rows, &a),
                 "norm", err);
}

/* ---------------------------------------------------------------- attention */

static heads_args heads_of(const backend_work *w, int32_t layer) {
    const network *net = w->b->net;
    const dev_layer *l = cuda_layer(w, STAGE_ATTN_IN, layer);
    const batch_state *b = &w->batch;
    const int32_t *mail = (const int32_t *)(const void *)w->buf.mail;
    const size_t angles = (size_t)net->layers[layer].rope * (size_t)w->lim.max_rows * (size_t)(net->n_rot / 2);
    heads_args h = {.raw = {.y = w->buf.qkv, .stride = w->shape.qkv_stride, .n = 1},
                    .qkv = w->buf.qkv,
                    .stride = w->shape.qkv_stride,
                    .n_head = net->n_head,
                    .n_head_kv = net->n_head_kv,
                    .d_head = net->d_head,
                    .n_rot = net->n_rot,
                    .is_halves = net->rope_kind == ROPE_HALVES,
                    .q_norm = l->q_norm,
                    .k_norm = l->k_norm,
                    .eps = net->norm_eps,
                    .n_rows = b->n_rows,
                    .kv = w->shape.kv};
    h.rows = (dev_rows){.pos = mail,
                        .table = mail + b->n_rows,
                        .pages = (const int32_t *)(const void *)(w->buf.mail + b->pages_at),
                        .cos = w->buf.cos + angles,
                        .sin = w->buf.sin + angles};
    h.kv.base = cuda_layer_kv(w, layer);
    return h;
}

bool cuda_is_attention_fused(const backend_work *w) {
    const network *net = w->b->net;
    return w->batch.is_decode && (w->batch.n_rows <= STREAM_ROWS || cuda_takes_rows(w)) &&
           cuda_attend_can_fuse(net->n_head / net->n_head_kv, net->d_head);
}

galen_status cuda_queue_heads(backend_work *w, int32_t layer, const float *scale, const float *bias, galen_error *err) {
    heads_args h = heads_of(w, layer);
    h.scale = scale;
    h.bias = bias;
    if (cuda_takes_rows(w)) h.raw = cuda_rows_qkv(w, cuda_layer(w, STAGE_ATTN_IN, layer));
    return check(cuda_heads(&w->queue, &h), "heads", err);
}

static bool has_attend_tiles(const backend_work *w) {
    return w->batch.n_tiles && cuda_takes_attend_tiles(w->b->compute, (int32_t)w->lim.kv, w->b->net->d_head);
}

/* V in halves: its means are within their range, and no smaller than what V itself was rounded to. */
bool cuda_attention_gives_halves(const backend_work *w) {
    return cuda_takes_rows(w) && w->lim.kv == KV_F16 && w->b->net->d_head % UNIT == 0 && !has_attend_tiles(w);
}

static bool is_attention_quantised(const backend_work *w, int32_t layer) {
    return w->batch.n_rows <= STREAM_ROWS && !cuda_takes_rows(w) &&
           !cuda_is_float(cuda_layer(w, STAGE_ATTN_OUT, layer)->wo.type) && w->b->net->d_head % UNIT == 0;
}

static galen_status attend_tiles(backend_work *w, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const attend_tiles_args a = {.heads = heads_of(w, layer),
                                 .scale = net->attn_scale,
                                 .softcap = net->attn_softcap,
                                 .window = net->layers[layer].window,
                                 .out = w->buf.att,
                                 .out_stride = w->shape.att_stride,
                                 .tiles = (const int32_t *)(const void *)(w->buf.mail + w->batch.tiles_at),
                                 .n_tiles = w->batch.n_tiles};
    return check(cuda_attend_tiles(&w->queue, &a), "attention", err);
}

galen_status cuda_queue_attention(backend_work *w, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    if (has_attend_tiles(w)) return attend_tiles(w, layer, err);
    attend_args a = {.heads = heads_of(w, layer),
                     .is_fused = cuda_is_attention_fused(w),
                     .scale = net->attn_scale,
                     .softcap = net->attn_softcap,
                     .window = net->layers[layer].window,
                     .n_splits = w->batch.n_rows <= FEW_ROWS ? w->batch.n_splits : 1,
                     .out = w->buf.att,
                     .out_stride = w->shape.att_stride,
                     .parts = w->buf.parts,
                     .most_splits = w->shape.few_splits,
                     .arrived = w->buf.arrived};
    if (a.is_fused && cuda_takes_rows(w)) {
        const dev_layer *l = cuda_layer(w, STAGE_ATTN_IN, layer);
        a.heads.raw = cuda_rows_qkv(w, l);
        a.heads.scale = w->buf.half_scale;
        a.heads.bias = l->qkv_bias;
    }
    if (cuda_attention_gives_halves(w)) a.halves = w->buf.half;
    if (is_attention_quantised(w, layer)) {
        a.quantised = w->buf.a;
        a.quantised.stride = w->shape.att_stride;
    }
    return check(cuda_attend(&w->queue, &a), "attention", err);
}

/* ---------------------------------------------------------------- stages of few rows */

static galen_status attn_in(backend_work *w, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const dev_layer *l = cuda_layer(w, STAGE_ATTN_IN, layer);
    const int64_t n_q = (int64_t)net->n_head * net->d_head, n_kv = (int64_t)net->n_head_kv * net->d_head;
    const float *bias = l->qkv_bias;
    product_plan p = {.m = {&l->wq, &l->wk, &l->wv},
                      .y = {w->buf.qkv, w->buf.qkv + n_q, w->buf.qkv + n_q + n_kv},
                      .bias = {bias, bias ? bias + n_q : NULL, bias ? bias + n_q + n_kv : NULL},
                      .n = 3,
                      .y_stride = w->shape.qkv_stride,
                      .mode = PRODUCT_STORE};
    galen_status st = prepare(w, l->attn_norm, p.m, 3, &p, err);
    if (!st) st = run_products(w, &p, err);
    if (!st && !cuda_is_attention_fused(w)) st = cuda_queue_heads(w, layer, NULL, NULL, err);
    return st;
}

/* x += W in + bias, or x += norm(W in + bias) */
static galen_status add_product(backend_work *w, const dev_matrix *m, const float *bias, const float *post_norm,
                                const dev_acts *in, galen_error *err) {
    product_plan p = {.m = {m},
                      .y = {post_norm ? w->buf.tmp : w->buf.x},
                      .bias = {bias},
                      .n = 1,
                      .y_stride = w->shape.embd_stride,
                      .mode = post_norm ? PRODUCT_STORE : PRODUCT_ADD,
                      .in = *in,
                      .n_rows = w->batch.n_rows};
    const galen_status st = run_products(w, &p, err);
    if (st || !post_norm) return st;
    const residual_args r = {.x = w->buf.x,
                             .x_stride = w->shape.embd_stride,
                             .y = {.y = w->buf.tmp, .stride = w->shape.embd_stride, .n = 1},
                             .post_norm = post_norm,
                             .eps = w->b->net->norm_eps,
                             .n = w->b->net->n_embd,
                             .n_rows = p.n_rows};
    return check(cuda_residual(&w->queue, &r), "residual", err);
}

static galen_status attn_out(backend_work *w, int32_t layer, galen_error *err) {
    const dev_layer *l = cuda_layer(w, STAGE_ATTN_OUT, layer);
    const int32_t n_q = w->b->net->n_head * w->b->net->d_head;
    dev_acts in = w->buf.a;
    in.stride = w->shape.att_stride;
    in.scale = NULL;
    in.f = w->buf.att;
    if (!cuda_is_float(l->wo.type) && !is_attention_quantised(w, layer)) {
        dev_acts out = w->buf.a;
        out.stride = w->shape.att_stride;
        out.f = NULL;
        const int e = cuda_prepare(&w->queue, w->buf.att, w->shape.att_stride, NULL, NULL, 0.0f, n_q, w->batch.n_rows, &out);
        if (e) return cuda_fail(err, e, "attention's output");
    }
    return add_product(w, &l->wo, l->bo, l->attn_post_norm, &in, err);
}

/* Gate and other half of two types: two products, then the activation. */
static galen_status ffn_in_mixed(backend_work *w, const dev_layer *l, product_plan *p, galen_error *err) {
    const int32_t n_ff = w->b->net->n_ff, stride = w->shape.ff_stride;
    p->mode = PRODUCT_STORE;
    p->y[0] = w->buf.ff;
    p->y[1] = w->buf.up;
    p->y_stride = stride;
    const galen_status st = run_products(w, p, err);
    if (st) return st;
    int e = cuda_activate(&w->queue, w->buf.ff, w->buf.up, stride, NULL, w->buf.ff, stride, n_ff, p->n_rows,
                          w->b->net->act == ACT_GELU_TANH);
    dev_acts out = w->buf.b;
    out.f = NULL;
    if (!e && !cuda_is_float(l->down.type))
        e = cuda_prepare(&w->queue, w->buf.ff, stride, NULL, NULL, 0.0f, n_ff, p->n_rows, &out);
    return check(e, "activation", err);
}

static galen_status ffn_in(backend_work *w, int32_t layer, galen_error *err) {
    const dev_layer *l = cuda_layer(w, STAGE_FFN_IN, layer);
    product_plan p = {
        .m = {&l->gate, &l->up}, .n = 2, .mode = PRODUCT_ACT, .out = &w->buf.b, .is_out_quantised = !cuda_is_float(l->down.type)};
    const galen_status st = prepare(w, l->ffn_norm, p.m, 2, &p, err);
    if (st) return st;
    if (l->gate.type != l->up.type) return ffn_in_mixed(w, l, &p, err);
    return run_products(w, &p, err);
}

static galen_status ffn_out(backend_work *w, int32_t layer, galen_error *err) {
    const dev_layer *l = cuda_layer(w, STAGE_FFN_OUT, layer);
    dev_acts in = w->buf.b;
    in.scale = NULL;
    return add_product(w, &l->down, NULL, l->ffn_post_norm, &in, err);
}

/* ---------------------------------------------------------------- the ends */

galen_status cuda_queue_begin(backend_work *w, galen_error *err) {
    const network *net = w->b->net;
    const batch_state *b = &w->batch;
    if (b->is_ahead) return cuda_queue_ahead_begin(w, err);
    begin_args a = {.n_rows = b->n_rows,
                    .n_embd = net->n_embd,
                    .stride = w->shape.embd_stride,
                    .pos = (const int32_t *)(const void *)w->buf.mail,
                    .raw = b->is_given ? NULL : w->buf.mail + b->rows_at,
                    .raw_row = (int32_t)((net->embd.row_bytes + 15) & ~(size_t)15),
                    .type = (int32_t)net->embd.type,
                    .embd_scale = net->embd_scale,
                    .x = w->buf.x,
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
    w->ready_op = -1;
    int e = cudaMemcpyAsync(w->buf.mail, w->mail, b->bytes, cudaMemcpyHostToDevice, w->queue.stream);
    if (!e && b->is_given)
        e = cudaMemcpyAsync(w->buf.x, w->buf.mail + b->rows_at, (size_t)b->n_rows * (size_t)a.stride * sizeof(float),
                            cudaMemcpyDeviceToDevice, w->queue.stream);
    if (!e) e = cuda_begin(&w->queue, &a);
    return check(e, "embedding", err);
}

/* Logits of rows out_row[0..n), n <= PASS_ROWS, through the streaming products. */
static galen_status stream_head(backend_work *w, const int32_t *out_row, int32_t n, float *logits, galen_error *err) {
    const network *net = w->b->net;
    product_plan p = {.m = {&w->b->weights.head},
                      .y = {logits},
                      .n = 1,
                      .y_stride = net->n_vocab,
                      .softcap = net->logit_softcap,
                      .mode = PRODUCT_STORE,
                      .n_rows = n};
    if (w->batch.n_rows == 1) {
        p.x = w->buf.x;
        p.norm = w->b->weights.out_norm;
    } else {
        const bool is_float = cuda_is_float(w->b->weights.head.type);
        dev_acts a = w->buf.a;
        a.stride = w->shape.embd_stride;
        dev_acts wanted = a;
        *(is_float ? (void **)&wanted.q : (void **)&wanted.f) = NULL;
        p.in = a;
        const int e = cuda_prepare(&w->queue, w->buf.x, w->shape.embd_stride, out_row, w->b->weights.out_norm, net->norm_eps,
                                   net->n_embd, n, &wanted);
        if (e) return cuda_fail(err, e, "output norm");
    }
    return run_products(w, &p, err);
}

/* Logits of rows [from, from + n) of the outputs, n <= HEAD_ROWS, to memory that the device reaches. */
galen_status cuda_queue_logits(backend_work *w, int32_t from, int32_t n, float *logits, galen_error *err) {
    const int32_t *out_row = (const int32_t *)(const void *)(w->buf.mail + w->batch.out_at) + from;
    if (!cuda_is_lone(w) && !cuda_is_float(w->b->weights.head.type)) return cuda_rows_head(w, out_row, n, logits, err);
    galen_status st = GALEN_OK;
    for (int32_t r = 0; !st && r < n; r += PASS_ROWS)
        st = stream_head(w, out_row + r, n - r < PASS_ROWS ? n - r : PASS_ROWS, logits + (size_t)r * (size_t)w->b->net->n_vocab,
                         err);
    return st;
}

/* One row's logits go straight to pinned memory; of more, by way of the device. */
static galen_status head(backend_work *w, float *logits, galen_error *err) {
    const size_t row = (size_t)w->b->net->n_vocab;
    galen_status st = GALEN_OK;
    if (cuda_is_lone(w)) return cuda_queue_logits(w, 0, 1, logits, err);
    for (int32_t r = 0; !st && r < w->batch.n_out; r += HEAD_ROWS) {
        const int32_t n = w->batch.n_out - r < HEAD_ROWS ? w->batch.n_out - r : HEAD_ROWS;
        st = cuda_queue_logits(w, r, n, w->buf.logits, err);
        if (st) return st;
        w->queue.is_chained = false;
        st = check(cudaMemcpyAsync(logits + (size_t)r * row, w->buf.logits, (size_t)n * row * sizeof(float),
                                   cudaMemcpyDeviceToHost, w->queue.stream),
                   "logits", err);
    }
    return st;
}

galen_status cuda_queue_operation(backend_work *w, int32_t op, float *logits, galen_error *err) {
    static galen_status (*const few[N_STAGES])(backend_work *, int32_t, galen_error *) = {attn_in, cuda_queue_attention, attn_out,
                                                                                          ffn_in, ffn_out};
    if (op == head_operation(w->b)) return w->batch.is_ahead ? cuda_queue_ahead_end(w, err) : head(w, logits, err);
    const int32_t layer = op / N_STAGES;
    const stage s = (stage)(op % N_STAGES);
    if (cuda_takes_rows(w)) return cuda_queue_rows(w, s, layer, err);
    if (w->batch.n_rows > STREAM_ROWS && s != STAGE_ATTEND && cuda_takes_tiles(w)) return cuda_queue_tiles(w, s, layer, err);
    return few[s](w, layer, err);
}
