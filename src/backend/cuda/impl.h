/* Inside the cuda backend's host side. */
#ifndef GALEN_BACKEND_CUDA_IMPL_H
#define GALEN_BACKEND_CUDA_IMPL_H

#include <cuda_runtime_api.h>

#include "backend/cuda/kernels.h"
#include "backend/cuda/sample.h"
#include "backend/plugin.h"

typedef struct gemm gemm; /* cuBLASLt, where it is installed; gemm.h */
typedef struct gemm_start gemm_start;
typedef struct streamer streamer; /* layers that live on the host; stream.h   */
typedef struct pins pins;         /* their pages, for the copy engine; pull.c */

typedef struct dev_layer {
    dev_matrix wq, wk, wv, wo, gate, up, down;
    float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm; /* [n_embd]; the post-norms NULL = none */
    float *q_norm, *k_norm;                                       /* [d_head] or NULL */
    float *qkv_bias;                                              /* [n_q + 2 n_kv] or NULL */
    float *bo;                                                    /* [n_embd] or NULL */
} dev_layer;

/* Weights on the device, as placed inside one allocation. */
typedef struct dev_weights {
    dev_layer *layers; /* host array [n_layer]; parts that do not live here stay zero */
    dev_matrix head;
    dev_matrix table; /* embeddings; the head's planes where they are the same; all zero = not here */
    float *out_norm;
    double *inv_freq[NETWORK_MAX_ROPES][2]; /* device [n_rot / 2] */
} dev_weights;

struct backend {
    const network *net;
    uint8_t *parts;    /* [n_layer] of PART_                                      */
    int32_t *kv_index; /* [n_layer] place of the layer's KV among those kept here */
    uint8_t *streamed; /* [n_layer] of PART_                                      */
    uint8_t *fetched;  /* [n_layer] of PART_, of streamed                         */
    int32_t stream_rows;
    pins *pins; /* NULL = the host copies what is streamed */
    bool has_embed, has_head, has_table;
    bool is_whole;             /* every layer and the head live here               */
    int n_threads;             /* of the host, for moving weights */
    int device, n_sm, compute; /* 90 = capability 9.0 */
    int shared_bytes;          /* shared memory that a block may have */
    char name[256];
    uint64_t memory_limit; /* 0 = none */
    _Atomic uint64_t held; /* bytes of device memory, of the works too */
    void *memory;          /* of the weights */
    size_t memory_bytes;
    dev_weights weights;
    gemm_start *start; /* cuBLASLt on its way while weights load; NULL */
};

/* Device memory of a work, all inside one allocation. */
typedef struct work_buffers {
    float *x, *qkv, *att, *ff, *up, *tmp; /* [max_rows][a row, padded] */
    dev_acts a, b;                        /* products' inputs: of n_embd or n_q values; of n_ff */
    float *parts;                         /* of attention: [few rows][n_head][splits][d_head padded and 4] */
    int32_t *arrived;                     /* of attention's pieces: [few rows][n_head]  */
    int32_t *half_units;                  /* of halves of quantised units: [n_ff / 32]  */
    float *cos, *sin;
    float *logits;      /* [HEAD_ROWS][n_vocab] */
    uint8_t *mail;      /* the batch: see mailbox */
    uint16_t *half;     /* [max_rows][longest row]: inputs of products on the tensor cores */
    float *half_scale;  /* [max_rows] */
    float *tile;        /* [max_rows][tile_width]: their results; or of few rows, [splits][rows] */
    uint16_t *unpacked; /* weights as halves, a piece of a stage            */
    void *gemm_space;
    uint8_t *hows; /* sample_how [rows], lists */
    sample_result *choices;
    int32_t *lists;  /* of reading: [max_out + 1] places, [READ_IDS] ids */
    double *read;    /* [READ_IDS] */
    float *adjusted; /* scratch of sample.h, [SAMPLE_ROWS] of each */
    int32_t *counts;
    uint64_t *keys;
    double *weights;
    sample_survey *surveys;
    ahead_state *ahead;
    int32_t *history; /* [n_ctx + 1] of a sequence that runs ahead */
} work_buffers;

typedef struct work_shape {
    int32_t embd_stride, qkv_stride, att_stride, ff_stride, half_stride;
    int32_t n_ropes, max_pages; /* max_pages of a sequence */
    int32_t tile_width;         /* 0 = no tile products   */
    size_t unpacked_bytes, gemm_bytes;
    size_t mail_bytes, raw_row; /* raw_row: an embedding as the file has it, or f32, padded to 16 */
    dev_kv kv;                  /* of a page */
    size_t page_bytes, layer_bytes;
    bool has_mixed;     /* a gate and its other half differ in type */
    bool is_quantised;  /* every matrix of a layer is */
    int32_t few_splits; /* pieces of attention that the longest context is cut into */
    int32_t n_padded;   /* n_vocab up to a power of two */
    int32_t few_width;  /* values that few rows' products may take, of a row        */
} work_shape;

/* What identifies a captured step. */
typedef struct step_key {
    int32_t first, n; /* operations: the stages in order, head */
    bool has_begin;   /* the batch's beginning before them      */
    int32_t n_rows, n_out, n_seqs, n_splits;
    bool is_decode, is_given, is_ahead;
    float *logits;
} step_key;

enum { MAX_STEPS = 256 }; /* a model split at every layer has as many spans, for each length of context */

typedef struct step {
    step_key key;
    cudaGraphExec_t exec;
} step;

/* The batch in flight, as embed or set_hidden received it. */
typedef struct batch_state {
    int32_t n_rows, n_out, n_seqs;
    int32_t n_splits; /* the most pieces a row's context is cut into, rounded up to a power of two */
    bool is_decode;   /* every row stands alone in its sequence */
    bool is_given;    /* hidden states came from the host */
    bool is_ahead;    /* ahead.c: it begins and ends on the device */
    int32_t n_tiles;  /* of attend_tiles.h; 0 in small batches */
    size_t out_at, pages_at, tiles_at, rows_at, bytes; /* offsets in the mailbox: pos, table, out_row, pages, tiles, rows */
} batch_state;

struct backend_work {
    backend *b;
    work_limits lim;
    work_shape shape;
    int rope_choice;
    cuda_queue queue;
    bool is_busy; /* the mailbox and the logits belong to a batch in flight */
    void *kv, *memory;
    size_t kv_bytes, buffer_bytes;
    work_buffers buf;
    uint8_t *mail;             /* pinned [mail_bytes] */
    float *logits;             /* pinned [PASS_ROWS][n_vocab] */
    float *logits_to;          /* where the caller wants them; NULL = nothing due */
    int32_t n_logits;          /* rows */
    uint8_t *hows;             /* pinned: what sampling is told */
    sample_result *choices;    /* pinned [SAMPLE_ALL_ROWS] */
    sample_choice *choices_to; /* as logits_to */
    int32_t n_choices;
    int32_t *lists;  /* pinned */
    double *read;    /* pinned [READ_IDS] */
    double *read_to; /* as logits_to */
    size_t n_read;
    int32_t ahead_pos, ahead_end; /* of the next step; where context or pages end */
    int32_t n_ahead, n_taken;     /* steps queued; of them, taken */
    cudaEvent_t ahead_done[AHEAD_STEPS];
    gemm *gemm; /* NULL when cuBLASLt is not there, or was not looked for */
    bool has_sought_gemm;
    streamer *streamer; /* NULL when nothing is streamed */
    batch_state batch;
    int32_t ready_op; /* the operation queued last has left this one's input in buf.half (rows.c) */
    bool has_begin;   /* operations recorded, not queued: the batch's beginning, then stages */
    int32_t pending_first, n_pending;
    step steps[MAX_STEPS];
    int32_t n_steps, next_step;
    bool has_no_graphs; /* capture failed once: queue kernels one by one */
    bool is_failed;
    galen_error failure; /* the first; kept until sync reports it */
};

/** A status from a CUDA error: NOMEM for memory, else DEVICE; the message names what was tried. */
galen_status cuda_fail(galen_error *err, int e, const char *what);

/** Bytes of device memory within the backend's limit, not zeroed. Errors  NOMEM (asked, free, limit); DEVICE; *out is NULL then.
 */
galen_status cuda_reserve(backend *b, void **out, size_t n, const char *what, galen_error *err);
/** NULL is fine. n as it was reserved. */
void cuda_release(backend *b, void *p, size_t n);

/** Choose a device by its index and make it current; b, when not NULL, learns what it is. Errors  DEVICE, with the remedy. */
galen_status cuda_find_device(int index, backend *b, galen_error *err);

galen_status cuda_probe(int32_t index, device_speed *out, galen_error *err);
galen_status cuda_probe_upload(int32_t index, double seconds, double *rate, galen_error *err);

/** Weights to the device: see upload.c. */
galen_status cuda_upload(backend *b, int n_threads, galen_error *err);
/** The planes of every weight that cfg names, placed at base; with base NULL it only counts, and to may be NULL. Pure.
 *  Returns the bytes. */
size_t cuda_place_weights(const network *net, const backend_config *cfg, char *base, dev_weights *to, bool *is_bad);
void cuda_weight_bytes(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading);

/** The operation that is the head; 5 * layer + stage are the stages. */
static inline int32_t head_operation(const backend *b) {
    return N_STAGES * b->net->n_layer;
}

/** Where a layer's weights for a stage are, and its KV: its own, or where it is streamed to. */
const dev_layer *cuda_layer(const backend_work *w, stage s, int32_t layer);
uint8_t *cuda_layer_kv(const backend_work *w, int32_t layer);

/** Queue the batch's beginning, or one operation. */
galen_status cuda_queue_begin(backend_work *w, galen_error *err);
galen_status cuda_queue_operation(backend_work *w, int32_t op, float *logits, galen_error *err);
/** Few rows of quantised weights: rows.c. */
galen_status cuda_queue_rows(backend_work *w, stage s, int32_t layer, galen_error *err);
bool cuda_takes_rows(const backend_work *w);
bool cuda_is_lone(const backend_work *w);                           /* one row, with everything fused into five kernels a layer */
row_parts cuda_rows_qkv(const backend_work *w, const dev_layer *l); /* what attn_in has left */
galen_status cuda_rows_head(backend_work *w, const int32_t *out_row, int32_t n, float *logits, galen_error *err);
bool cuda_is_attention_fused(const backend_work *w);
bool cuda_attention_gives_halves(const backend_work *w); /* for attn_out of rows.c, in buf.half with scale 1 */
/** Large batches: the tile products of a stage. */
galen_status cuda_queue_tiles(backend_work *w, stage s, int32_t layer, galen_error *err);
bool cuda_takes_tiles(backend_work *w); /* looks for cuBLASLt the first time */
galen_status cuda_queue_heads(backend_work *w, int32_t layer, const float *scale, const float *bias, galen_error *err);
galen_status cuda_queue_attention(backend_work *w, int32_t layer, galen_error *err);
galen_status cuda_queue_logits(backend_work *w, int32_t from, int32_t n, float *logits, galen_error *err);

/* step.c: the calls of backend_api that record, capture and launch */
galen_status cuda_embed(backend_work *w, const batch *b, galen_error *err);
galen_status cuda_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err);
galen_status cuda_head(backend_work *w, const batch *b, float *logits, galen_error *err);
galen_status cuda_sync(backend_work *w, galen_error *err);
galen_status cuda_sample(backend_work *w, const batch *b, const sample_row *rows, sample_choice *out, galen_error *err);
/** Pinned and device bytes of what sampling is told. */
size_t cuda_hows_bytes(const work_limits *lim);
galen_status cuda_read(backend_work *w, const batch *b, const read_list *list, galen_error *err);
/** Numbers that say what is to be read. */
size_t cuda_list_ints(const work_limits *lim);
/** The batch's stages are queued, and what sampling was told last is done with. */
galen_status cuda_begin_sample(backend_work *w, galen_error *err);
/** How rows are chosen, into w->hows: each, then the lists; windows where has_windows. Returns the bytes. */
size_t cuda_write_hows(const backend_work *w, int32_t n, const sample_row *rows, bool has_windows);
/** Errors  UNSUPPORTED more biases or a longer window than is taken. */
galen_status cuda_check_how(const sample_row *row, galen_error *err);
sample_args cuda_sample_args(const backend_work *w, int32_t n_rows);
int32_t cuda_window_of(const galen_sampling *o, int32_t n_history);
/** A batch's positions, pages and outputs into the mailbox, when all before it is done. */
galen_status cuda_begin_batch(backend_work *w, const batch *b, galen_error *err);
/** Queue what is recorded. */
galen_status cuda_flush(backend_work *w, galen_error *err);
galen_status cuda_refuse_failed(const backend_work *w, galen_error *err);
/** Pieces that attention at position pos is cut into. */
int32_t cuda_splits_at(const backend_work *w, int32_t pos);
/** Keep the first failure for sync. Returns st. */
galen_status cuda_remember(backend_work *w, galen_status st, const galen_error *err);
galen_status cuda_get_hidden(backend_work *w, const batch *b, float *x, galen_error *err);
galen_status cuda_copy_page(backend_work *w, int32_t to, int32_t from, galen_error *err);
galen_status cuda_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err);

/* ahead.c */
galen_status cuda_ahead_begin(backend_work *w, const kv_pages *seq, const sample_row *row, galen_error *err);
galen_status cuda_ahead_step(backend_work *w, galen_error *err);
galen_status cuda_ahead_take(backend_work *w, sample_choice *out, galen_error *err);
/** The two ends of a step that runs ahead. */
galen_status cuda_queue_ahead_begin(backend_work *w, galen_error *err);
galen_status cuda_queue_ahead_end(backend_work *w, galen_error *err);

/* work.c */
galen_status cuda_work_open(backend_work **out, backend *b, const work_limits *lim, galen_error *err);
void cuda_work_close(backend_work *w);
void cuda_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv, uint64_t *buffers);

const backend_api *backend_cuda(void);

#endif
