/* Products of many rows on the tensor cores: inputs become halves, rows scaled into their range; quantised weights are unpacked
 * to halves a piece at a time, small enough to stay near the second-level cache. F32 weights and their inputs stay f32. */
#include "backend/cuda/gemm.h"

bool cuda_takes_tiles(backend_work *w) {
    if (w->shape.tile_width && !w->has_sought_gemm) {
        gemm_start_wait(w->b->start);
        w->gemm = gemm_open();
        w->has_sought_gemm = true;
    }
    return w->gemm != NULL;
}

static galen_status check(int e, const char *what, galen_error *err) {
    return e ? cuda_fail(err, e, what) : GALEN_OK;
}

static gemm_type form_of(const dev_matrix *m) {
    return m->type == TENSOR_F32 ? GEMM_F32 : m->type == TENSOR_BF16 ? GEMM_BF16 : GEMM_F16;
}

/* The rows that go into a stage, made ready in one form at a time. */
typedef struct tile_input {
    const float *x, *norm; /* norm NULL = x as it is */
    int32_t x_stride, n;
    int form; /* the gemm_type that is ready, -1 = none yet; then: */
    const void *rows;
    int32_t stride;
    const float *scale; /* multiplies each row's products */
} tile_input;

static int make_ready(backend_work *w, tile_input *in, gemm_type form) {
    const float eps = w->b->net->norm_eps;
    if (in->form == (int)form) return 0;
    in->form = (int)form;
    if (form != GEMM_F32) {
        in->rows = w->buf.half;
        in->stride = (in->n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
        in->scale = w->buf.half_scale;
        return cuda_prepare_half(&w->queue, in->x, in->x_stride, NULL, in->norm, eps, in->n, w->batch.n_rows, w->buf.half,
                                 in->stride, w->buf.half_scale, form == GEMM_BF16 ? HALF_BFLOAT : HALF_PLAIN);
    }
    in->rows = in->x;
    in->stride = in->x_stride;
    in->scale = NULL;
    if (!in->norm) return 0;
    const dev_acts out = {.f = w->buf.tmp, .scale = w->buf.a.scale, .stride = w->shape.embd_stride};
    in->rows = out.f;
    in->stride = out.stride;
    in->scale = out.scale;
    return cuda_prepare(&w->queue, in->x, in->x_stride, NULL, in->norm, eps, in->n, w->batch.n_rows, &out);
}

/* Rows of halves that the unpacking buffer holds. */
static int32_t unpacked_rows(const backend_work *w, int32_t n_in) {
    const size_t n = w->shape.unpacked_bytes / ((size_t)n_in * sizeof(uint16_t));
    return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

static int run_gemm(backend_work *w, const tile_input *in, const void *weights, int64_t stride, int32_t n_out, float *y,
                    int32_t y_stride) {
    const int32_t n_in = (in->n + 7) / 8 * 8; /* weights and inputs are padded with zeros; the library likes whole vectors */
    w->queue.is_chained = false;
    return gemm_run(w->gemm, w->queue.stream, (gemm_type)in->form, weights, stride, in->rows, in->stride, y, y_stride, n_out,
                    w->batch.n_rows, n_in, w->buf.gemm_space, w->shape.gemm_bytes);
}

/* y[:, 0..n) = in W^T for rows [first, first + n) of m. */
static int run_tile(backend_work *w, tile_input *in, const dev_matrix *m, int32_t first, int32_t n, float *y, int32_t y_stride) {
    static const int32_t bytes[] = {[GEMM_F16] = 2, [GEMM_BF16] = 2, [GEMM_F32] = 4};
    const gemm_type form = form_of(m);
    int e = make_ready(w, in, form);
    if (e) return e;
    if (cuda_is_float(m->type)) return run_gemm(w, in, m->q + (size_t)first * m->q_row, m->q_row / bytes[form], n, y, y_stride);
    const int32_t most = unpacked_rows(w, m->n_in);
    for (int32_t at = 0; !e && at < n; at += most) {
        const int32_t k = n - at < most ? n - at : most;
        e = cuda_dequantise(&w->queue, m, first + at, k, w->buf.unpacked, m->n_in, true);
        if (!e) e = run_gemm(w, in, w->buf.unpacked, m->n_in, k, y + at, y_stride);
    }
    return e;
}

/* Several matrices side by side: y[:, 0..n0), y[:, n0..n0 + n1), ... Unpacked together they are one product. When their inputs'
 * forms differ, so do the scales: then the products are scaled here and *scale is NULL. */
static int run_tiles(backend_work *w, tile_input *in, const dev_matrix *const *m, int32_t n, int32_t first, int32_t n_out,
                     float *y, int32_t y_stride, const float **scale) {
    int32_t all = 0;
    bool is_one_form = true, is_packed = true;
    for (int32_t i = 0; i < n; i++) {
        all += n_out ? n_out : m[i]->n_out;
        if (form_of(m[i]) != form_of(m[0])) is_one_form = false;
        if (cuda_is_float(m[i]->type)) is_packed = false;
    }
    int e = 0;
    if (is_packed && all <= unpacked_rows(w, in->n)) {
        e = make_ready(w, in, GEMM_F16);
        int64_t at = 0;
        for (int32_t i = 0; !e && i < n; i++) {
            const int32_t k = n_out ? n_out : m[i]->n_out;
            e = cuda_dequantise(&w->queue, m[i], first, k, w->buf.unpacked + at * in->n, in->n, true);
            at += k;
        }
        if (!e) e = run_gemm(w, in, w->buf.unpacked, in->n, all, y, y_stride);
        *scale = in->scale;
        return e;
    }
    for (int32_t i = 0, at = 0; !e && i < n; i++) {
        const int32_t k = n_out ? n_out : m[i]->n_out;
        e = run_tile(w, in, m[i], first, k, y + at, y_stride);
        if (!e && !is_one_form) e = cuda_finish_rows(&w->queue, y + at, y_stride, in->scale, NULL, k, w->batch.n_rows);
        at += k;
    }
    *scale = is_one_form ? in->scale : NULL;
    return e;
}

static tile_input input_of(const float *x, int32_t x_stride, int32_t n, const float *norm) {
    return (tile_input){.x = x, .x_stride = x_stride, .n = n, .norm = norm, .form = -1};
}

static galen_status attn_in(backend_work *w, int32_t layer, galen_error *err) {
    const dev_layer *l = cuda_layer(w, STAGE_ATTN_IN, layer);
    const dev_matrix *const m[] = {&l->wq, &l->wk, &l->wv};
    tile_input in = input_of(w->buf.x, w->shape.embd_stride, w->b->net->n_embd, l->attn_norm);
    const float *scale;
    const int e = run_tiles(w, &in, m, 3, 0, 0, w->buf.qkv, w->shape.qkv_stride, &scale);
    if (e) return cuda_fail(err, e, "Q, K and V");
    return cuda_queue_heads(w, layer, scale, l->qkv_bias, err);
}

/* x += W in + bias, or x += norm(W in + bias) */
static galen_status add_tiles(backend_work *w, const dev_matrix *m, const float *bias, const float *post_norm, tile_input *in,
                              galen_error *err) {
    const network *net = w->b->net;
    const int32_t stride = w->shape.embd_stride, n_rows = w->batch.n_rows;
    residual_args r = {.x = w->buf.x,
                       .x_stride = stride,
                       .y = {.y = w->buf.tile, .stride = stride, .n = 1},
                       .bias = bias,
                       .post_norm = post_norm,
                       .eps = net->norm_eps,
                       .n = net->n_embd,
                       .n_rows = n_rows};
    int e = run_tile(w, in, m, 0, m->n_out, w->buf.tile, stride);
    r.scale = in->scale; /* of the form that the product has taken */
    if (!e) e = cuda_residual(&w->queue, &r);
    return check(e, m->n_in == net->n_ff ? "down projection" : "output projection", err);
}

static galen_status ffn_in(backend_work *w, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const dev_layer *l = cuda_layer(w, STAGE_FFN_IN, layer);
    const dev_matrix *const m[] = {&l->gate, &l->up};
    tile_input in = input_of(w->buf.x, w->shape.embd_stride, net->n_embd, l->ffn_norm);
    const int32_t most = w->shape.tile_width / 2 / ROW_PAD * ROW_PAD;
    int e = 0;
    for (int32_t at = 0; !e && at < net->n_ff; at += most) {
        const int32_t k = net->n_ff - at < most ? net->n_ff - at : most;
        const float *scale;
        e = run_tiles(w, &in, m, 2, at, k, w->buf.tile, w->shape.tile_width, &scale);
        if (!e)
            e = cuda_activate(&w->queue, w->buf.tile, w->buf.tile + k, w->shape.tile_width, scale, w->buf.ff + at,
                              w->shape.ff_stride, k, w->batch.n_rows, net->act == ACT_GELU_TANH);
    }
    return check(e, "feed-forward", err);
}

galen_status cuda_queue_tiles(backend_work *w, stage s, int32_t layer, galen_error *err) {
    const network *net = w->b->net;
    const dev_layer *l = cuda_layer(w, s, layer);
    tile_input in;
    switch (s) {
    case STAGE_ATTN_IN:
        return attn_in(w, layer, err);
    case STAGE_ATTN_OUT:
        in = input_of(w->buf.att, w->shape.att_stride, net->n_head * net->d_head, NULL);
        return add_tiles(w, &l->wo, l->bo, l->attn_post_norm, &in, err);
    case STAGE_FFN_IN:
        return ffn_in(w, layer, err);
    case STAGE_FFN_OUT:
        in = input_of(w->buf.ff, w->shape.ff_stride, net->n_ff, NULL);
        return add_tiles(w, &l->down, NULL, l->ffn_post_norm, &in, err);
    case STAGE_ATTEND:
    case N_STAGES:
        break;
    }
    return GALEN_OK;
}
