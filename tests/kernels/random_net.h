/* A network of random weights in memory, for tests of backends. Everything hangs on one arena. */
#ifndef GALEN_TESTS_RANDOM_NET_H
#define GALEN_TESTS_RANDOM_NET_H

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/rng.h"

typedef struct net_spec {
    int32_t n_layer, n_embd, n_head, n_head_kv, d_head, n_ff, n_vocab, n_rot;
    tensor_type weights;
    rope_kind rope;
    act_kind act;
    bool has_qk_norm, has_bias, has_post_norm;
    int32_t window; /* of every second layer, which then also takes the second rope */
    float softcap, logit_softcap;
    uint64_t seed;
} net_spec;

static double random_net_normal(uint64_t seed, uint64_t stream, uint64_t i) {
    const double u = rng_uniform(seed, stream, 2 * i), v = rng_uniform(seed, stream, 2 * i + 1);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

/* Values of standard deviation spread around centre. */
static tensor random_tensor(arena *a, const net_spec *s, uint64_t stream, const char *name, tensor_type type, int64_t n_in,
                            int64_t n_out, double centre, double spread) {
    const tensor_type_info *info = tensor_type_get((uint32_t)type);
    tensor t = {.name = name, .type = type, .n_in = n_in, .n_out = n_out, .row_bytes = tensor_row_bytes(type, n_in)};
    char *data = arena_alloc(a, (size_t)n_out, t.row_bytes);
    float *row = arena_alloc(a, (size_t)n_in, sizeof *row);
    for (int64_t r = 0; r < n_out; r++) {
        for (int64_t i = 0; i < n_in; i++)
            row[i] = (float)(centre + spread * random_net_normal(s->seed, stream, (uint64_t)(r * n_in + i)));
        info->quantise(row, data + (size_t)r * t.row_bytes, n_in);
    }
    t.data = data;
    return t;
}

static void random_layer(arena *a, const net_spec *s, int32_t i, network_layer *l) {
    const int64_t n_q = (int64_t)s->n_head * s->d_head, n_kv = (int64_t)s->n_head_kv * s->d_head;
    const double in = 1 / sqrt(s->n_embd), att = 1 / sqrt((double)n_q), ff = 1 / sqrt(s->n_ff);
    uint64_t stream = 100 + 100 * (uint64_t)i;
#define MATRIX(field, n_in, n_out, spread) l->field = random_tensor(a, s, ++stream, #field, s->weights, n_in, n_out, 0, spread)
#define VECTOR(field, n, centre, spread)   l->field = random_tensor(a, s, ++stream, #field, TENSOR_F32, n, 1, centre, spread)
    VECTOR(attn_norm, s->n_embd, 1, 0.1);
    MATRIX(wq, s->n_embd, n_q, in);
    MATRIX(wk, s->n_embd, n_kv, in);
    MATRIX(wv, s->n_embd, n_kv, in);
    MATRIX(wo, n_q, s->n_embd, att);
    VECTOR(ffn_norm, s->n_embd, 1, 0.1);
    MATRIX(w_gate, s->n_embd, s->n_ff, in);
    MATRIX(w_up, s->n_embd, s->n_ff, in);
    MATRIX(w_down, s->n_ff, s->n_embd, ff);
    if (s->has_bias) {
        VECTOR(bq, n_q, 0, 0.3);
        VECTOR(bk, n_kv, 0, 0.3);
        VECTOR(bv, n_kv, 0, 0.3);
        VECTOR(bo, s->n_embd, 0, 0.3);
    }
    if (s->has_qk_norm) {
        VECTOR(q_norm, s->d_head, 1, 0.2);
        VECTOR(k_norm, s->d_head, 1, 0.2);
    }
    if (s->has_post_norm) {
        VECTOR(attn_post_norm, s->n_embd, 1, 0.1);
        VECTOR(ffn_post_norm, s->n_embd, 1, 0.1);
    }
#undef MATRIX
#undef VECTOR
    l->window = i % 2 ? s->window : 0;
    l->rope = i % 2 && s->window ? 1 : 0;
}

static inline network *random_net(arena *a, const net_spec *s) {
    network *n = arena_alloc(a, 1, sizeof *n);
    *n = (network){.n_layer = s->n_layer,
                   .n_embd = s->n_embd,
                   .n_head = s->n_head,
                   .n_head_kv = s->n_head_kv,
                   .d_head = s->d_head,
                   .n_ff = s->n_ff,
                   .n_vocab = s->n_vocab,
                   .n_ctx_train = 4096,
                   .norm_eps = 1e-5f,
                   .embd_scale = s->has_post_norm ? (float)sqrt(s->n_embd) : 1,
                   .attn_scale = (float)(1 / sqrt(s->d_head)),
                   .attn_softcap = s->softcap,
                   .logit_softcap = s->logit_softcap,
                   .rope_kind = s->rope,
                   .act = s->act,
                   .n_rot = s->n_rot,
                   .n_ctx_orig = 100};
    for (int i = 0; i < NETWORK_MAX_ROPES; i++)
        for (int j = 0; j < 2; j++) {
            double *f = arena_alloc(a, (size_t)s->n_rot / 2, sizeof *f);
            for (int k = 0; k < s->n_rot / 2; k++) f[k] = pow(i ? 500 : 10000, -2.0 * k / s->n_rot) / (j ? 4 : 1);
            n->ropes[i][j] = (rope_table){.inv_freq = f, .magnitude = j ? 1.1 : 1};
        }
    n->embd = random_tensor(a, s, 1, "embd", s->weights, s->n_embd, s->n_vocab, 0, 1);
    n->out_norm = random_tensor(a, s, 2, "out_norm", TENSOR_F32, s->n_embd, 1, 1, 0.1);
    n->head = random_tensor(a, s, 3, "head", s->weights, s->n_embd, s->n_vocab, 0, 1 / sqrt(s->n_embd));
    n->layers = arena_alloc(a, (size_t)s->n_layer, sizeof *n->layers);
    for (int32_t i = 0; i < s->n_layer; i++) random_layer(a, s, i, &n->layers[i]);
    return n;
}

static inline double random_net_nmse(const float *a, const float *b, size_t n) {
    double diff = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return all > 0 ? diff / all : diff;
}

/* FNV-1a of the bytes. */
static inline uint64_t random_net_digest(uint64_t h, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        for (int k = 0; k < 4; k++) h = (h ^ (u >> (8 * k) & 255)) * 1099511628211u;
    }
    return h;
}

#endif
