/* Tensors by name to the network's fields, each shape checked. The names and shapes are a table. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/hparams.h"

/* Dimensions are words, resolved for each network. */
typedef enum dim { DIM_ONE, DIM_EMBD, DIM_Q, DIM_KV, DIM_QKV, DIM_FF, DIM_FF2, DIM_HEAD, DIM_VOCAB, N_DIMS } dim;

/* When a tensor is looked for. */
typedef enum need {
    NEED_ALWAYS,
    NEED_NEVER_MIND, /* bound when there */
    NEED_QK_NORM,
    NEED_POST_NORM,
    NEED_SPLIT, /* unless fused */
} need;

typedef struct layer_row {
    const char *suffix;
    size_t field;
    dim n_in, n_out; /* n_out DIM_ONE: a vector, held as F32 */
    need need;
} layer_row;

#define F(name) offsetof(network_layer, name)
static const layer_row layer_rows[] = {
    {"attn_norm.weight", F(attn_norm), DIM_EMBD, DIM_ONE, NEED_ALWAYS},
    {"attn_q.weight", F(wq), DIM_EMBD, DIM_Q, NEED_SPLIT},
    {"attn_k.weight", F(wk), DIM_EMBD, DIM_KV, NEED_SPLIT},
    {"attn_v.weight", F(wv), DIM_EMBD, DIM_KV, NEED_SPLIT},
    {"attn_q.bias", F(bq), DIM_Q, DIM_ONE, NEED_NEVER_MIND},
    {"attn_k.bias", F(bk), DIM_KV, DIM_ONE, NEED_NEVER_MIND},
    {"attn_v.bias", F(bv), DIM_KV, DIM_ONE, NEED_NEVER_MIND},
    {"attn_q_norm.weight", F(q_norm), DIM_HEAD, DIM_ONE, NEED_QK_NORM},
    {"attn_k_norm.weight", F(k_norm), DIM_HEAD, DIM_ONE, NEED_QK_NORM},
    {"attn_output.weight", F(wo), DIM_Q, DIM_EMBD, NEED_ALWAYS},
    {"attn_output.bias", F(bo), DIM_EMBD, DIM_ONE, NEED_NEVER_MIND},
    {"post_attention_norm.weight", F(attn_post_norm), DIM_EMBD, DIM_ONE, NEED_POST_NORM},
    {"ffn_norm.weight", F(ffn_norm), DIM_EMBD, DIM_ONE, NEED_ALWAYS},
    {"ffn_gate.weight", F(w_gate), DIM_EMBD, DIM_FF, NEED_SPLIT},
    {"ffn_up.weight", F(w_up), DIM_EMBD, DIM_FF, NEED_SPLIT},
    {"ffn_down.weight", F(w_down), DIM_FF, DIM_EMBD, NEED_ALWAYS},
    {"post_ffw_norm.weight", F(ffn_post_norm), DIM_EMBD, DIM_ONE, NEED_POST_NORM},
};
#undef F

typedef struct binder {
    network *net;
    const arch *a;
    const gguf *g;
    arena *mem;
    int64_t dims[N_DIMS];
    galen_error *err;
} binder;

static galen_status check_shape(const binder *b, const char *name, const gguf_tensor *t, int64_t n_in, int64_t n_out) {
    const uint64_t rows = t->ne[1];
    const bool is_right = t->ne[0] == (uint64_t)n_in && rows == (uint64_t)n_out && t->ne[2] == 1 && t->ne[3] == 1;
    if (is_right) return GALEN_OK;
    return galen_fail(b->err, GALEN_E_FORMAT, t->info_offset,
                      "%s: shape %" PRIu64 "x%" PRIu64 "%s, expected %" PRId64 "x%" PRId64, name, t->ne[0], rows,
                      t->ne[2] == 1 && t->ne[3] == 1 ? "" : "x...", n_in, n_out);
}

/* A vector in a type other than F32, or at an address that floats cannot have, is converted once. */
static galen_status hold_as_f32(const binder *b, tensor *t) {
    if (t->type == TENSOR_F32 && (uintptr_t)t->data % _Alignof(float) == 0) return GALEN_OK;
    float *f = arena_alloc(b->mem, (size_t)t->n_in, sizeof *f);
    if (!f) return galen_fail(b->err, GALEN_E_NOMEM, 0, "%s as F32", t->name);
    tensor_type_get(t->type)->dequantise(t->data, f, t->n_in);
    t->data = f;
    t->type = TENSOR_F32;
    t->row_bytes = (size_t)t->n_in * sizeof *f;
    return GALEN_OK;
}

/* Bind a tensor that may be absent: *out stays zero then, unless it is required. */
static galen_status bind(const binder *b, const char *name, dim n_in, dim n_out, bool is_required, tensor *out) {
    const gguf_tensor *t = gguf_find_tensor(b->g, name);
    if (!t) {
        if (!is_required) return GALEN_OK;
        return galen_fail(b->err, GALEN_E_FORMAT, 0, "%s: tensor missing (%s %" PRId64 "x%" PRId64 ")", name, b->a->name,
                          b->dims[n_in], b->dims[n_out]);
    }
    const galen_status st = check_shape(b, name, t, b->dims[n_in], b->dims[n_out]);
    if (st) return st;
    char *held = arena_strndup(b->mem, t->name.p, t->name.n);
    if (!held) return galen_fail(b->err, GALEN_E_NOMEM, 0, "%s", name);
    *out = (tensor){.name = held,
                    .data = t->data,
                    .type = t->type,
                    .n_in = b->dims[n_in],
                    .n_out = b->dims[n_out],
                    .row_bytes = tensor_row_bytes(t->type, b->dims[n_in])};
    return n_out == DIM_ONE ? hold_as_f32(b, out) : GALEN_OK;
}

static bool is_wanted(need n, const arch *a, bool *is_required) {
    *is_required = n != NEED_NEVER_MIND;
    return n == NEED_ALWAYS || n == NEED_NEVER_MIND || (n == NEED_QK_NORM && a->has_qk_norm) ||
           (n == NEED_POST_NORM && a->has_post_norms) || (n == NEED_SPLIT && !a->is_fused);
}

/* Q|K|V in one matrix and gate|up in another become views of their rows. */
static galen_status bind_fused(const binder *b, int32_t layer, network_layer *l) {
    galen_status st;
    char name[64];
    tensor qkv = {0}, up = {0}, bias = {0};
    const int64_t q = b->dims[DIM_Q], kv = b->dims[DIM_KV], ff = b->dims[DIM_FF];
    (void)snprintf(name, sizeof name, "blk.%d.attn_qkv.weight", layer);
    if ((st = bind(b, name, DIM_EMBD, DIM_QKV, true, &qkv))) return st;
    (void)snprintf(name, sizeof name, "blk.%d.ffn_up.weight", layer);
    if ((st = bind(b, name, DIM_EMBD, DIM_FF2, true, &up))) return st;
    (void)snprintf(name, sizeof name, "blk.%d.attn_qkv.bias", layer);
    if ((st = bind(b, name, DIM_QKV, DIM_ONE, false, &bias))) return st;
    l->wq = tensor_rows(&qkv, 0, q);
    l->wk = tensor_rows(&qkv, q, kv);
    l->wv = tensor_rows(&qkv, q + kv, kv);
    l->w_gate = tensor_rows(&up, 0, ff);
    l->w_up = tensor_rows(&up, ff, ff);
    if (bias.data) {
        const float *f = bias.data;
        tensor *part[3] = {&l->bq, &l->bk, &l->bv};
        const int64_t n[3] = {q, kv, kv};
        for (int i = 0; i < 3; f += n[i], i++)
            *part[i] = (tensor){.name = bias.name,
                                .data = f,
                                .type = TENSOR_F32,
                                .n_in = n[i],
                                .n_out = 1,
                                .row_bytes = (size_t)n[i] * sizeof *f};
    }
    return GALEN_OK;
}

static galen_status bind_layer(const binder *b, int32_t layer) {
    galen_status st;
    char name[64];
    network_layer *l = &b->net->layers[layer];
    for (size_t i = 0; i < sizeof layer_rows / sizeof *layer_rows; i++) {
        const layer_row *r = &layer_rows[i];
        bool is_required;
        if (!is_wanted(r->need, b->a, &is_required)) continue;
        (void)snprintf(name, sizeof name, "blk.%d.%s", layer, r->suffix);
        tensor *field = (tensor *)(void *)((char *)l + r->field);
        if ((st = bind(b, name, r->n_in, r->n_out, is_required, field))) return st;
    }
    return b->a->is_fused ? bind_fused(b, layer, l) : GALEN_OK;
}

galen_status tensors_bind(network *net, const arch *a, const gguf *g, arena *mem, galen_error *err) {
    galen_status st;
    const int64_t q = (int64_t)net->n_head * net->d_head, kv = (int64_t)net->n_head_kv * net->d_head;
    const binder b = {.net = net,
                      .a = a,
                      .g = g,
                      .mem = mem,
                      .err = err,
                      .dims = {[DIM_ONE] = 1,
                               [DIM_EMBD] = net->n_embd,
                               [DIM_Q] = q,
                               [DIM_KV] = kv,
                               [DIM_QKV] = q + 2 * kv,
                               [DIM_FF] = net->n_ff,
                               [DIM_FF2] = 2 * (int64_t)net->n_ff,
                               [DIM_HEAD] = net->d_head,
                               [DIM_VOCAB] = net->n_vocab}};
    if ((st = bind(&b, "token_embd.weight", DIM_EMBD, DIM_VOCAB, true, &net->embd))) return st;
    if ((st = bind(&b, "output_norm.weight", DIM_EMBD, DIM_ONE, true, &net->out_norm))) return st;
    if ((st = bind(&b, "output.weight", DIM_EMBD, DIM_VOCAB, false, &net->head))) return st;
    if (!net->head.data) net->head = net->embd; /* tied */
    for (int32_t i = 0; i < net->n_layer; i++)
        if ((st = bind_layer(&b, i))) return st;
    return GALEN_OK;
}
