/* The seam between the engine and a device: a layer is five stages.
 *
 * A backend holds a network's weights, or those of some parts of its layers (immutable after open, shared by threads). A
 * backend_work holds the hidden states, work buffers and the KV pages of one engine; one caller at a time. Stages are
 * asynchronous on the work's queue, allocate nothing and do not synchronise; their order is attn_in, attend, attn_out, ffn_in,
 * ffn_out, layer after layer. Rows of a batch may come from any mix of sequences; what a row yields never depends on the other
 * rows. */
#ifndef GALEN_BACKEND_BACKEND_H
#define GALEN_BACKEND_BACKEND_H

#include <stddef.h>

#include "backend/network.h"
#include "base/error.h"

typedef struct backend backend;
typedef struct backend_work backend_work;

typedef enum stage { STAGE_ATTN_IN, STAGE_ATTEND, STAGE_ATTN_OUT, STAGE_FFN_IN, STAGE_FFN_OUT, N_STAGES } stage;

typedef enum kv_type { KV_F16, KV_F32, KV_Q8_0, N_KV_TYPES } kv_type;

enum { KV_PAGE = 64 }; /* positions in a KV page */

/* Where one sequence's KV lives: position p is slot p % KV_PAGE of page pages[p / KV_PAGE]. */
typedef struct kv_pages {
    const int32_t *pages; /* page ids in [0, n_pages of the work) */
    int32_t n_pages;
} kv_pages;

typedef struct batch {
    int32_t n_rows;
    const int32_t *token; /* [n_rows]                                                           */
    const int32_t *pos;   /* [n_rows] position in its sequence                                  */
    const int32_t *seq;   /* [n_rows] index in seqs; rows of one sequence stand together, positions rising by one */
    const kv_pages *seqs; /* pages cover every position of the batch                            */
    int32_t n_seqs;
    int32_t n_out;          /* rows whose logits are wanted, >= 0 */
    const int32_t *out_row; /* [n_out] rising                     */
} batch;

/* A layer has two parts, each with its own weights; what crosses between devices at their seams is x alone. */
enum {
    PART_ATTN = 1, /* attn_in, attend, attn_out, and the layer's KV */
    PART_FFN = 2,  /* ffn_in, ffn_out                               */
    PART_BOTH = PART_ATTN | PART_FFN
};

/* What of a network lives on a device; nothing of the rest is taken or allocated. */
typedef struct backend_config {
    const char *isa;         /* of host code: NULL or "auto", or the one to force  */
    int32_t n_threads;       /* host threads; >= 1                                 */
    int32_t device;          /* index among the plugin's devices                   */
    uint64_t memory_limit;   /* bytes of device memory it may hold in all; 0 = no limit */
    const uint8_t *parts;    /* [n_layer] of PART_; NULL = both parts of each; read, not kept */
    const uint8_t *streamed; /* [n_layer] parts whose weights the device fetches from the host for one large batch, of
                              * stream_rows or more; NULL = none; read, not kept                                      */
    const uint8_t *fetched;  /* [n_layer] of streamed: feed-forwards that it fetches for every batch, however small, one after
                              * the other, while the host computes; NULL = none; read, not kept                        */
    int32_t stream_rows;     /* 0 = STREAM_MIN_ROWS */
    bool has_embed, has_head;
    bool has_table; /* embeddings are kept on the device as well, so that its steps may run ahead of the host; for nothing where
                     * they are the head's weights */
} backend_config;

static inline uint8_t config_parts(const backend_config *cfg, int32_t layer) {
    return cfg->parts ? cfg->parts[layer] : PART_BOTH;
}

typedef struct work_limits {
    int32_t max_rows; /* rows in a batch                                   */
    int32_t max_out;  /* rows with logits in a batch                       */
    int32_t n_ctx;    /* positions a sequence may reach                    */
    int32_t n_pages;  /* KV pages in all, shared by the sequences          */
    kv_type kv;
    bool is_uniform; /* a lone row takes the way of several, where that differs: its bytes are the same alone and in company */
} work_limits;

/* Rows from which on a batch may stream what is not fetched anyway: smaller ones are recorded as graphs. */
enum { STREAM_MIN_ROWS = 33, STREAM_LAYERS = 2 };

/* How the token after an output row is chosen. */
typedef struct sample_row {
    const galen_sampling *how; /* checked */
    const int32_t *history;    /* tokens before it: penalties look back at them, and n_history keys the draw */
    int32_t n_history;
} sample_row;

enum { CHOICE_NOT_FINITE = -1, CHOICE_FORBIDDEN = -2, AHEAD_STEPS = 4 };

typedef struct sample_choice {
    int32_t id;    /* or CHOICE_: a logit of the row is NaN or infinite; every token is forbidden */
    float logprob; /* natural, over the unmasked, unscaled logits */
} sample_choice;

/* Which log-probabilities are read where: of ids[first[r]] to ids[first[r + 1] - 1] after output row r, natural, over the whole
 * vocabulary; into out at the same places, NaN when a logit of the row is not finite. */
enum { READ_IDS = 4096 };
typedef struct read_list {
    const int32_t *first; /* [n_out + 1], first[0] = 0 */
    const int32_t *ids;   /* [first[n_out]] */
    double *out;          /* [first[n_out]], in host memory */
} read_list;

typedef struct backend_api {
    const char *name; /* "cpu", "ref", "cuda" */

    /** Take the network's weights that cfg names; net outlives the backend.
     *  Errors  NOMEM (bytes needed and free), DEVICE, UNSUPPORTED (isa or weight type, named); nothing is held then. */
    galen_status (*open)(backend **out, const network *net, const backend_config *cfg, galen_error *err);
    void (*close)(backend *b);
    /** "avx512, 2 threads", "NVIDIA H100 80GB HBM3"; lives as long as b. */
    const char *(*describe)(const backend *b);

    galen_status (*work_open)(backend_work **out, backend *b, const work_limits *lim, galen_error *err);
    void (*work_close)(backend_work *w);
    /** Bytes of device memory that open takes for weights, and beside them only while it loads; pure, needs no device. */
    void (*weight_bytes)(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading);
    /** Bytes of device memory that work_open would take; pure, needs no device. KV of the layers whose PART_ATTN lives here. */
    void (*work_bytes)(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv, uint64_t *buffers);

    /** Hidden states of the batch = scaled embeddings of its tokens. Called first for every batch (also see set_hidden). */
    galen_status (*embed)(backend_work *w, const batch *b, galen_error *err);
    galen_status (*run)(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err);
    /** Final norm and head of the rows in b->out_row: logits f32 [n_out][n_vocab] in host memory, valid after sync. */
    galen_status (*head)(backend_work *w, const batch *b, float *logits, galen_error *err);

    /** Wait for the queue. Errors DEVICE: whatever failed since the last sync. */
    galen_status (*sync)(backend_work *w, galen_error *err);

    /** Hidden states f32 [n_rows][n_embd] to and from host memory, where a model is split between backends. set_hidden stands
     *  in for embed on a backend that does not own it. get_hidden synchronises. */
    galen_status (*get_hidden)(backend_work *w, const batch *b, float *x, galen_error *err);
    galen_status (*set_hidden)(backend_work *w, const batch *b, const float *x, galen_error *err);

    /* ---- optional: NULL = not offered */

    /** In place of head: choose the token that follows each row of b->out_row, as runtime/sampler.c would from the same logits
     * but for a draw that falls within a rounding of a boundary. out [n_out] in host memory, valid after sync; the logits stay on
     *  the device. rows [n_out] and what they point to are read, not kept.
     *  Errors  UNSUPPORTED more biases or a longer window than the device takes, ARG more rows: nothing has happened, head may
     *          follow; DEVICE. */
    galen_status (*sample)(backend_work *w, const batch *b, const sample_row *rows, sample_choice *out, galen_error *err);

    /** In place of head: log-probabilities of at most READ_IDS ids, while the logits stay on the device. out is valid after sync;
     *  the rest of the list is read, not kept. Without it, head may come several times for a batch, with parts of its out_row.
     *  Errors  ARG more ids; DEVICE. */
    galen_status (*read)(backend_work *w, const batch *b, const read_list *list, galen_error *err);
    /* Steps that run ahead of the host: a lone sequence whose next token is chosen on the device and evaluated there at once. */

    /** Make ready: the first step evaluates the last token of row->history at position n_history - 1 and chooses the one that
     *  follows; each step after it takes the token that the step before chose. Token i of the history stands at position i of
     *  seq, whose pages cover the steps to come. row and seq are read, not kept.
     *  Errors  UNSUPPORTED the model or its embeddings are not all here, or as sample says: nothing has happened. DEVICE. */
    galen_status (*ahead_begin)(backend_work *w, const kv_pages *seq, const sample_row *row, galen_error *err);
    /** Queue the next step. Any other call but ahead_take drops those that were not taken: what they wrote to the KV lies behind
     *  the tokens taken. Errors  ARG AHEAD_STEPS are queued and not taken; RANGE the context or the pages end; DEVICE. */
    galen_status (*ahead_step)(backend_work *w, galen_error *err);
    /** Wait for the oldest step that was not taken, and take its choice. Errors  ARG there is none; DEVICE. */
    galen_status (*ahead_take)(backend_work *w, sample_choice *out, galen_error *err);

    /** Keys (rotated) and values of positions [first, first + n) of one sequence, f32 [n][n_head_kv * d_head] in host memory. The
     *  layer's PART_ATTN lives here, or is streamed here: then the work keeps the KV of STREAM_LAYERS streamed layers in turn,
     *  and set_kv before attn_in gives it what the sequence holds already. get_kv synchronises. */
    galen_status (*get_kv)(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                           galen_error *err);
    galen_status (*set_kv)(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                           const float *v, galen_error *err);
    /** Copy the KV of page from, of every layer that lives here, to page to; from -1: zeros. On the queue, between batches. */
    galen_status (*copy_page)(backend_work *w, int32_t to, int32_t from, galen_error *err);
    /** Bytes of device memory that b and its works hold now. */
    uint64_t (*memory_held)(const backend *b);
} backend_api;

/* The tensors of a layer, each with its part. */
typedef struct layer_tensor {
    size_t field; /* of network_layer */
    uint8_t part;
    bool is_vector;
} layer_tensor;

static const layer_tensor layer_tensors[] = {
#define VECTOR(name, part)                                                                                                       \
    { offsetof(network_layer, name), part, true }
#define MATRIX(name, part)                                                                                                       \
    { offsetof(network_layer, name), part, false }
    VECTOR(attn_norm, PART_ATTN), VECTOR(bq, PART_ATTN),           VECTOR(bk, PART_ATTN),    VECTOR(bv, PART_ATTN),
    VECTOR(q_norm, PART_ATTN),    VECTOR(k_norm, PART_ATTN),       VECTOR(bo, PART_ATTN),    VECTOR(attn_post_norm, PART_ATTN),
    MATRIX(wq, PART_ATTN),        MATRIX(wk, PART_ATTN),           MATRIX(wv, PART_ATTN),    MATRIX(wo, PART_ATTN),
    VECTOR(ffn_norm, PART_FFN),   VECTOR(ffn_post_norm, PART_FFN), MATRIX(w_gate, PART_FFN), MATRIX(w_up, PART_FFN),
    MATRIX(w_down, PART_FFN),
#undef VECTOR
#undef MATRIX
};
enum { N_LAYER_TENSORS = sizeof layer_tensors / sizeof layer_tensors[0] };

static inline const tensor *layer_tensor_of(const network_layer *l, const layer_tensor *t) {
    return (const tensor *)(const void *)((const char *)l + t->field);
}

/** By name: "cpu", "ref". NULL when there is none. */
const backend_api *backend_find(const char *name);
const backend_api *backend_cpu(void);
const backend_api *backend_ref(void);

bool kv_type_by_name(const char *name, kv_type *out); /* "f16", "f32", "q8_0" */
const char *kv_type_name(kv_type t);

#endif
