/* The definition: every stage in scalar double precision, as plainly as it can be written. Other backends are compared
 * with it; it is not meant to be fast. Weights are dequantised row by row; activations are never rounded, except that
 * K and V are rounded to the KV type when they are stored. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "tensor/half.h"

struct backend {
    const network *net;
    uint8_t *parts; /* [n_layer] of PART_ */
};

struct backend_work {
    const network *net;
    work_limits lim;
    int rope; /* which of ropes[i][0..1] serves this context */
    arena mem;
    double *x;         /* [max_rows][n_embd] hidden states                   */
    double *q;         /* [max_rows][n_head * d_head]; the attention's output too */
    double *gate, *up; /* [max_rows][n_ff]; gate holds act(gate) * up        */
    double *norm;      /* one row: max(n_embd, n_head * d_head, n_ff)        */
    double *score;     /* [n_ctx]                                            */
    float *row;        /* one dequantised weight row                         */
    float *kv_row;     /* one head being rounded                             */
    int32_t *kv_index; /* [n_layer] place of the layer's KV                  */
    double *k, *v;     /* [layers here][n_pages * KV_PAGE][n_head_kv * d_head] */
};

/* ---------------------------------------------------------------- arithmetic */

static const float *weight_row(backend_work *w, const tensor *t, int64_t r) {
    tensor_type_get(t->type)->dequantise(tensor_row(t, r), w->row, t->n_in);
    return w->row;
}

/* y[r][o] = (is_added ? y : 0) + W[o] . x[r] + bias[o] for n_rows rows. */
static void product(backend_work *w, const tensor *t, const tensor *bias, const double *x, int64_t n_rows, double *y,
                    bool is_added) {
    for (int64_t o = 0; o < t->n_out; o++) {
        const float *weights = weight_row(w, t, o);
        for (int64_t r = 0; r < n_rows; r++) {
            double sum = bias && bias->data ? (double)((const float *)bias->data)[o] : 0.0;
            for (int64_t i = 0; i < t->n_in; i++) sum += (double)weights[i] * x[r * t->n_in + i];
            y[r * t->n_out + o] = (is_added ? y[r * t->n_out + o] : 0.0) + sum;
        }
    }
}

/* RMS norm of n values; out may be x. */
static void rms_norm(const double *x, const tensor *weight, float eps, int64_t n, double *out) {
    const float *g = weight->data;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    const double scale = 1.0 / sqrt(sum / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) out[i] = x[i] * scale * (double)g[i];
}

static void rope(const network *net, const rope_table *t, int32_t pos, double *head) {
    const int32_t half = net->n_rot / 2;
    for (int32_t i = 0; i < half; i++) {
        const double angle = pos * t->inv_freq[i];
        const double c = cos(angle) * t->magnitude, s = sin(angle) * t->magnitude;
        double *a = net->rope_kind == ROPE_PAIRS ? head + (ptrdiff_t)2 * i : head + i;
        double *b = net->rope_kind == ROPE_PAIRS ? a + 1 : a + half;
        const double u = *a, v = *b;
        *a = u * c - v * s;
        *b = u * s + v * c;
    }
}

static double activate(act_kind act, double g) {
    if (act == ACT_SILU) return g / (1.0 + exp(-g));
    return 0.5 * g * (1.0 + tanh(0.79788456080286535588 * (g + 0.044715 * g * g * g))); /* sqrt(2 / pi) */
}

static double softcap(double v, float cap) {
    return cap > 0 ? (double)cap * tanh(v / (double)cap) : v;
}

/* Round n values (one head) as the KV type stores them. Q8_0: 32 values share a binary16 scale. */
static void kv_round(backend_work *w, double *head, int64_t n) {
    if (w->lim.kv == KV_Q8_0) {
        const tensor_type_info *q8 = tensor_type_get(TENSOR_Q8_0);
        char block[64];
        for (int64_t i = 0; i < n; i += 32) { /* the last block of a head may be short */
            for (int j = 0; j < 32; j++) w->kv_row[j] = i + j < n ? (float)head[i + j] : 0.0f;
            q8->quantise(w->kv_row, block, 32);
            q8->dequantise(block, w->kv_row, 32);
            for (int j = 0; j < 32 && i + j < n; j++) head[i + j] = (double)w->kv_row[j];
        }
        return;
    }
    for (int64_t i = 0; i < n; i++)
        head[i] = w->lim.kv == KV_F16 ? (double)half_to_f32(half_from_f32((float)head[i])) : (double)(float)head[i];
}

/* ---------------------------------------------------------------- stages */

static int64_t kv_slot(const backend_work *w, int32_t layer, const kv_pages *seq, int32_t pos) {
    const int64_t slot = (int64_t)seq->pages[pos / KV_PAGE] * KV_PAGE + pos % KV_PAGE;
    return ((int64_t)w->kv_index[layer] * w->lim.n_pages * KV_PAGE + slot) * w->net->n_head_kv * w->net->d_head;
}

static void attn_in(backend_work *w, int32_t layer, const batch *b) {
    const network *net = w->net;
    const network_layer *l = &net->layers[layer];
    const int64_t d = net->d_head, n_q = net->n_head * d, n_kv = net->n_head_kv * d;
    const rope_table *t = &net->ropes[l->rope][w->rope];
    for (int32_t r = 0; r < b->n_rows; r++) {
        double *q = w->q + r * n_q;
        const int64_t slot = kv_slot(w, layer, &b->seqs[b->seq[r]], b->pos[r]);
        double *k = w->k + slot, *v = w->v + slot;
        rms_norm(w->x + (int64_t)r * net->n_embd, &l->attn_norm, net->norm_eps, net->n_embd, w->norm);
        product(w, &l->wq, &l->bq, w->norm, 1, q, false);
        product(w, &l->wk, &l->bk, w->norm, 1, k, false);
        product(w, &l->wv, &l->bv, w->norm, 1, v, false);
        for (int64_t h = 0; h < net->n_head; h++) {
            if (l->q_norm.data) rms_norm(q + h * d, &l->q_norm, net->norm_eps, d, q + h * d);
            rope(net, t, b->pos[r], q + h * d);
        }
        for (int64_t h = 0; h < n_kv / d; h++) {
            if (l->k_norm.data) rms_norm(k + h * d, &l->k_norm, net->norm_eps, d, k + h * d);
            rope(net, t, b->pos[r], k + h * d);
            kv_round(w, k + h * d, d);
            kv_round(w, v + h * d, d);
        }
    }
}

/* One head of one row: softmax(q . K) V over the positions it may see; out replaces q. */
static void attend_head(backend_work *w, int32_t layer, const kv_pages *seq, int32_t pos, int64_t kv_head, double *q) {
    const network *net = w->net;
    const int32_t d = net->d_head, window = net->layers[layer].window;
    const int32_t first = window > 0 && pos >= window ? pos - window + 1 : 0;
    double max = -INFINITY, sum = 0;
    for (int32_t p = first; p <= pos; p++) {
        const double *k = w->k + kv_slot(w, layer, seq, p) + kv_head * d;
        double s = 0;
        for (int32_t i = 0; i < d; i++) s += q[i] * k[i];
        w->score[p] = softcap(s * (double)net->attn_scale, net->attn_softcap);
        max = fmax(max, w->score[p]);
    }
    memset(q, 0, (size_t)d * sizeof *q);
    for (int32_t p = first; p <= pos; p++) {
        const double *v = w->v + kv_slot(w, layer, seq, p) + kv_head * d;
        const double weight = exp(w->score[p] - max);
        sum += weight;
        for (int32_t i = 0; i < d; i++) q[i] += weight * v[i];
    }
    for (int32_t i = 0; i < d; i++) q[i] /= sum;
}

static void attend(backend_work *w, int32_t layer, const batch *b) {
    const network *net = w->net;
    const int64_t n_q = (int64_t)net->n_head * net->d_head;
    for (int32_t r = 0; r < b->n_rows; r++)
        for (int64_t h = 0; h < net->n_head; h++)
            attend_head(w, layer, &b->seqs[b->seq[r]], b->pos[r], h * net->n_head_kv / net->n_head,
                        w->q + r * n_q + h * net->d_head);
}

/* x += post_norm(W y): the residual of attention and of the feed-forward alike. */
static void residual(backend_work *w, const tensor *t, const tensor *bias, const tensor *post_norm, const double *y, double *x) {
    const network *net = w->net;
    if (!post_norm->data) {
        product(w, t, bias, y, 1, x, true);
        return;
    }
    product(w, t, bias, y, 1, w->norm, false);
    rms_norm(w->norm, post_norm, net->norm_eps, net->n_embd, w->norm);
    for (int64_t i = 0; i < net->n_embd; i++) x[i] += w->norm[i];
}

static void attn_out(backend_work *w, int32_t layer, const batch *b) {
    const network_layer *l = &w->net->layers[layer];
    const int64_t n_q = (int64_t)w->net->n_head * w->net->d_head;
    for (int32_t r = 0; r < b->n_rows; r++)
        residual(w, &l->wo, &l->bo, &l->attn_post_norm, w->q + r * n_q, w->x + (int64_t)r * w->net->n_embd);
}

static void ffn_in(backend_work *w, int32_t layer, const batch *b) {
    const network *net = w->net;
    const network_layer *l = &net->layers[layer];
    for (int32_t r = 0; r < b->n_rows; r++) {
        double *gate = w->gate + (int64_t)r * net->n_ff, *up = w->up + (int64_t)r * net->n_ff;
        rms_norm(w->x + (int64_t)r * net->n_embd, &l->ffn_norm, net->norm_eps, net->n_embd, w->norm);
        product(w, &l->w_gate, NULL, w->norm, 1, gate, false);
        product(w, &l->w_up, NULL, w->norm, 1, up, false);
        for (int32_t i = 0; i < net->n_ff; i++) gate[i] = activate(net->act, gate[i]) * up[i];
    }
}

static void ffn_out(backend_work *w, int32_t layer, const batch *b) {
    const network_layer *l = &w->net->layers[layer];
    for (int32_t r = 0; r < b->n_rows; r++)
        residual(w, &l->w_down, NULL, &l->ffn_post_norm, w->gate + (int64_t)r * w->net->n_ff, w->x + (int64_t)r * w->net->n_embd);
}

static galen_status ref_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err) {
    static void (*const stages[N_STAGES])(backend_work *, int32_t, const batch *) = {attn_in, attend, attn_out, ffn_in, ffn_out};
    (void)err;
    stages[s](w, layer, b);
    return GALEN_OK;
}

static galen_status ref_embed(backend_work *w, const batch *b, galen_error *err) {
    (void)err;
    for (int32_t r = 0; r < b->n_rows; r++) {
        const float *e = weight_row(w, &w->net->embd, b->token[r]);
        for (int64_t i = 0; i < w->net->n_embd; i++)
            w->x[(int64_t)r * w->net->n_embd + i] = (double)e[i] * (double)w->net->embd_scale;
    }
    return GALEN_OK;
}

static galen_status ref_head(backend_work *w, const batch *b, float *logits, galen_error *err) {
    const network *net = w->net;
    (void)err;
    for (int32_t i = 0; i < b->n_out; i++) {
        rms_norm(w->x + (int64_t)b->out_row[i] * net->n_embd, &net->out_norm, net->norm_eps, net->n_embd, w->norm);
        for (int64_t o = 0; o < net->n_vocab; o++) {
            const float *row = weight_row(w, &net->head, o);
            double sum = 0;
            for (int64_t j = 0; j < net->n_embd; j++) sum += (double)row[j] * w->norm[j];
            logits[(int64_t)i * net->n_vocab + o] = (float)softcap(sum, net->logit_softcap);
        }
    }
    return GALEN_OK;
}

static galen_status ref_sync(backend_work *w, galen_error *err) {
    (void)w;
    (void)err;
    return GALEN_OK;
}

static galen_status ref_get_hidden(backend_work *w, const batch *b, float *x, galen_error *err) {
    (void)err;
    for (int64_t i = 0; i < (int64_t)b->n_rows * w->net->n_embd; i++) x[i] = (float)w->x[i];
    return GALEN_OK;
}

static galen_status ref_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err) {
    (void)err;
    for (int64_t i = 0; i < (int64_t)b->n_rows * w->net->n_embd; i++) w->x[i] = (double)x[i];
    return GALEN_OK;
}

/* ---------------------------------------------------------------- lifetime */

static galen_status ref_open(backend **out, const network *net, const backend_config *cfg, galen_error *err) {
    backend *b = calloc(1, sizeof *b);
    *out = NULL;
    if (b) b->parts = calloc(net->n_layer > 0 ? (size_t)net->n_layer : 1, sizeof *b->parts);
    if (!b || !b->parts) {
        free(b);
        return galen_fail(err, GALEN_E_NOMEM, 0, "ref backend");
    }
    b->net = net;
    for (int32_t i = 0; i < net->n_layer; i++) b->parts[i] = config_parts(cfg, i);
    *out = b;
    return GALEN_OK;
}

static void ref_close(backend *b) {
    if (!b) return;
    free(b->parts);
    free(b);
}

static const char *ref_describe(const backend *b) {
    (void)b;
    return "ref, scalar double precision";
}

static size_t longest_row(const network *net) {
    const int64_t n_q = (int64_t)net->n_head * net->d_head;
    int64_t n = net->n_embd > net->n_ff ? net->n_embd : net->n_ff;
    return (size_t)(n > n_q ? n : n_q);
}

static int32_t count_kv(const network *net, const uint8_t *parts) {
    int32_t n = 0;
    for (int32_t i = 0; i < net->n_layer; i++) n += parts ? parts[i] & PART_ATTN : 1;
    return n;
}

/* Weights are used where they lie in the file. */
static void ref_weight_bytes(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading) {
    backend_cpu()->weight_bytes(net, cfg, weights, loading);
}

static void ref_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv,
                           uint64_t *buffers) {
    const uint64_t rows = (uint64_t)lim->max_rows, n_q = (uint64_t)net->n_head * (uint64_t)net->d_head;
    *kv = 2 * sizeof(double) * (uint64_t)count_kv(net, cfg->parts) * (uint64_t)lim->n_pages * KV_PAGE * (uint64_t)net->n_head_kv *
          (uint64_t)net->d_head;
    *buffers = rows * sizeof(double) * ((uint64_t)net->n_embd + n_q + 2 * (uint64_t)net->n_ff) +
               longest_row(net) * (sizeof(double) + sizeof(float)) + (uint64_t)lim->n_ctx * sizeof(double) + 32 * sizeof(float);
}

static void ref_work_close(backend_work *w) {
    if (!w) return;
    arena_free(&w->mem);
    free(w);
}

static galen_status ref_work_open(backend_work **out, backend *b, const work_limits *lim, galen_error *err) {
    const network *net = b->net;
    const size_t rows = (size_t)lim->max_rows, n_q = (size_t)net->n_head * (size_t)net->d_head;
    const size_t n_kv =
        (size_t)count_kv(net, b->parts) * (size_t)lim->n_pages * KV_PAGE * (size_t)net->n_head_kv * (size_t)net->d_head;
    *out = NULL;
    backend_work *w = calloc(1, sizeof *w);
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "ref work");
    w->net = net;
    w->lim = *lim;
    w->rope = lim->n_ctx > net->n_ctx_orig;
    w->x = arena_alloc(&w->mem, rows * (size_t)net->n_embd, sizeof *w->x);
    w->q = arena_alloc(&w->mem, rows * n_q, sizeof *w->q);
    w->gate = arena_alloc(&w->mem, rows * (size_t)net->n_ff, sizeof *w->gate);
    w->up = arena_alloc(&w->mem, rows * (size_t)net->n_ff, sizeof *w->up);
    w->norm = arena_alloc(&w->mem, longest_row(net), sizeof *w->norm);
    w->row = arena_alloc(&w->mem, longest_row(net), sizeof *w->row);
    w->kv_row = arena_alloc(&w->mem, 32, sizeof *w->kv_row);
    w->score = arena_alloc(&w->mem, (size_t)lim->n_ctx, sizeof *w->score);
    w->kv_index = arena_alloc(&w->mem, net->n_layer > 0 ? (size_t)net->n_layer : 1, sizeof *w->kv_index);
    w->k = arena_alloc(&w->mem, n_kv, sizeof *w->k);
    w->v = arena_alloc(&w->mem, n_kv, sizeof *w->v);
    if (!w->x || !w->q || !w->gate || !w->up || !w->norm || !w->row || !w->kv_row || !w->score || !w->kv_index || !w->k ||
        !w->v) {
        ref_work_close(w);
        return galen_fail(err, GALEN_E_NOMEM, 0, "ref work of %zu KV values", 2 * n_kv);
    }
    for (int32_t i = 0, n = 0; i < net->n_layer; n += b->parts[i++] & PART_ATTN) w->kv_index[i] = n;
    *out = w;
    return GALEN_OK;
}

const backend_api *backend_ref(void) {
    static const backend_api api = {.name = "ref",
                                    .open = ref_open,
                                    .close = ref_close,
                                    .describe = ref_describe,
                                    .weight_bytes = ref_weight_bytes,
                                    .work_open = ref_work_open,
                                    .work_close = ref_work_close,
                                    .work_bytes = ref_work_bytes,
                                    .embed = ref_embed,
                                    .run = ref_run,
                                    .head = ref_head,
                                    .sync = ref_sync,
                                    .get_hidden = ref_get_hidden,
                                    .set_hidden = ref_set_hidden};
    return &api;
}
