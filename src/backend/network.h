/* What a backend is told of a model: shapes, the few mechanisms that differ between architectures, and the weights.
 * Filled by src/model from a file, immutable afterwards. */
#ifndef GALEN_BACKEND_NETWORK_H
#define GALEN_BACKEND_NETWORK_H

#include <stdbool.h>

#include "tensor/tensor.h"

typedef enum rope_kind {
    ROPE_PAIRS, /* rotates (x[2i], x[2i+1]): llama's GGUF files           */
    ROPE_HALVES /* rotates (x[i], x[i + n_rot/2]): qwen, gemma, phi ("neox") */
} rope_kind;

typedef enum act_kind { ACT_SILU, ACT_GELU_TANH } act_kind;

/* Rotation of position p, pair i: angle p * inv_freq[i]; both cos and sin are multiplied by magnitude.
 * Linear, Llama 3, YaRN and longrope scaling are all baked into these numbers. */
typedef struct rope_table {
    const double *inv_freq; /* [n_rot / 2] */
    double magnitude;
} rope_table;

typedef struct network_layer {
    tensor attn_norm;            /* f32 [n_embd]                                                     */
    tensor wq, wk, wv;           /* [n_head * d_head][n_embd], [n_head_kv * d_head][n_embd] twice   */
    tensor bq, bk, bv;           /* f32 vectors, optional                                            */
    tensor q_norm, k_norm;       /* f32 [d_head], optional: RMS norm of each head before RoPE        */
    tensor wo, bo;               /* [n_embd][n_head * d_head]; bias optional                        */
    tensor attn_post_norm;       /* f32 [n_embd], optional: norm of the attention's output           */
    tensor ffn_norm;             /* f32 [n_embd]                                                     */
    tensor w_gate, w_up, w_down; /* [n_ff][n_embd] twice, [n_embd][n_ff]                             */
    tensor ffn_post_norm;        /* f32 [n_embd], optional                                           */
    int32_t window;              /* sliding window: position p sees p - window + 1 .. p; 0 = all    */
    int32_t rope;                /* index in network.ropes                                           */
} network_layer;

enum { NETWORK_MAX_ROPES = 2 };

typedef struct network {
    int32_t n_layer, n_embd, n_head, n_head_kv, d_head, n_ff, n_vocab, n_ctx_train;
    float norm_eps;      /* all norms are RMS norms: x / sqrt(mean(x^2) + eps) * w */
    float embd_scale;    /* multiplies the embedding (gemma: sqrt(n_embd)), else 1  */
    float attn_scale;    /* multiplies q . k                                        */
    float attn_softcap;  /* c tanh(s / c) on scores; 0 = none                       */
    float logit_softcap; /* the same on logits; 0 = none                            */
    rope_kind rope_kind;
    act_kind act;
    int32_t n_rot; /* dimensions of a head that rotate; even, <= d_head       */
    /* ropes[i][0] for contexts up to n_ctx_orig, ropes[i][1] beyond (the same table unless longrope). */
    rope_table ropes[NETWORK_MAX_ROPES][2];
    int32_t n_ctx_orig;
    tensor embd;           /* [n_vocab][n_embd] */
    tensor out_norm;       /* f32 [n_embd]      */
    tensor head;           /* [n_vocab][n_embd]; the same data as embd when tied */
    network_layer *layers; /* [n_layer] */
    /* n bytes of a weight that lie at from into to, without leaving its pages in this process: for what is only handed on. Any
     * thread. NULL = copy them. false: they cannot be read. */
    bool (*fetch)(const void *source, const void *from, void *to, size_t n);
    const void *source;
} network;

#endif
