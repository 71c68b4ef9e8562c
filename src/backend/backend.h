/* The seam between the engine and a device: a layer is five stages.
 *
 * A backend holds a network's weights (immutable after open, shared by threads). A backend_work holds the hidden states,
 * work buffers and the KV pages of one engine; one caller at a time. Stages are asynchronous on the work's queue, allocate
 * nothing and do not synchronise; their order is attn_in, attend, attn_out, ffn_in, ffn_out, layer after layer.
 * Rows of a batch may come from any mix of sequences; what a row yields never depends on the other rows. */
#ifndef GALEN_BACKEND_BACKEND_H
#define GALEN_BACKEND_BACKEND_H

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

typedef struct backend_config {
    const char *isa;   /* NULL or "auto", or the one to force */
    int32_t n_threads; /* host threads; >= 1                  */
    /* layers [first_layer, first_layer + n_layers) live here; embed and head if has_ends */
    int32_t first_layer, n_layers;
    bool has_ends;
} backend_config;

typedef struct work_limits {
    int32_t max_rows; /* rows in a batch                                   */
    int32_t max_out;  /* rows with logits in a batch                       */
    int32_t n_ctx;    /* positions a sequence may reach                    */
    int32_t n_pages;  /* KV pages in all, shared by the sequences          */
    kv_type kv;
} work_limits;

typedef struct backend_api {
    const char *name; /* "cpu", "ref", "cuda" */

    /** Take the network's weights; net outlives the backend. Errors NOMEM, DEVICE, UNSUPPORTED (isa or weight type, named). */
    galen_status (*open)(backend **out, const network *net, const backend_config *cfg, galen_error *err);
    void (*close)(backend *b);
    /** "avx512, 2 threads", "NVIDIA H100 80GB HBM3"; lives as long as b. */
    const char *(*describe)(const backend *b);

    galen_status (*work_open)(backend_work **out, backend *b, const work_limits *lim, galen_error *err);
    void (*work_close)(backend_work *w);
    /** Bytes that work_open would take; pure. */
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
} backend_api;

/** By name: "cpu", "ref". NULL when there is none. */
const backend_api *backend_find(const char *name);
const backend_api *backend_cpu(void);
const backend_api *backend_ref(void);

bool kv_type_by_name(const char *name, kv_type *out); /* "f16", "f32", "q8_0" */
const char *kv_type_name(kv_type t);

#endif
