/* What the files of the cpu backend share. */
#ifndef GALEN_BACKEND_CPU_CPU_IMPL_H
#define GALEN_BACKEND_CPU_CPU_IMPL_H

#include "backend/cpu/matmul.h"
#include "backend/cpu/ops.h"

struct backend {
    const network *net;
    uint8_t *parts;    /* [n_layer] of PART_                                      */
    int32_t *kv_index; /* [n_layer] place of the layer's KV among those kept here */
    bool has_embed, has_head;
    const cpu_ops *ops;
    const matmul_ops *mm;
    pool *pool;
    char name[64];
};

/* Rows of one sequence that are attended together. */
typedef struct row_block {
    int32_t first, n;
} row_block;

/* Buffers of a batch, one reservation. Attention's and the feed-forward's lie over each other: they never live at once. */
typedef struct work_buffers {
    float *x;              /* [rows][n_embd] hidden states                               */
    float *norm;           /* [rows][n_embd] normed, or a product before its post-norm   */
    float *q, *k, *v;      /* [rows][n_head * d_head], [rows][n_head_kv * d_head]        */
    float *att;            /* [rows][n_head * d_head]                                    */
    float *gate, *up;      /* [rows][n_ff]                                               */
    float *cos, *sin;      /* [ropes][rows][n_rot / 2]                                   */
    void *packed;          /* matmul_input                                               */
    void *scratch;         /* [threads] of matmul                                        */
    float *attend_scratch; /* [threads][attend_thread_floats]                            */
    float *parts;          /* [split_rows][n_head_kv][segments][group][d_pad + ATTEND_STATE] */
    row_block *blocks;     /* [rows]                                                     */
} work_buffers;

/* Numbers that follow from the network and the limits. */
typedef struct work_shape {
    kv_layout kl;
    int32_t n_ropes, n_group;
    int32_t max_queries;  /* of a block                                       */
    int32_t split_rows;   /* batches up to this many rows may split by segments */
    int32_t max_segments; /* of a sequence                                    */
    size_t thread_floats; /* of attend_scratch, for one thread                */
    size_t layer_bytes;   /* of the KV cache                                  */
} work_shape;

struct backend_work {
    const backend *b;
    work_limits lim;
    work_shape shape;
    work_buffers buf;
    char *kv, *buffers;
    size_t kv_bytes, buffer_bytes;
    int32_t rope_choice; /* which of network.ropes[i] */
};

/* Rows a thread takes at a time so that waking it pays: about 16 thousand values. */
static inline int64_t row_grain(int64_t row_values) {
    return row_values >= 16384 ? 1 : 16384 / (row_values > 0 ? row_values : 1);
}

galen_status cpu_embed(backend_work *w, const batch *b, galen_error *err);
galen_status cpu_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err);
galen_status cpu_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err);
galen_status cpu_head(backend_work *w, const batch *b, float *logits, galen_error *err);
galen_status cpu_get_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                        galen_error *err);
galen_status cpu_set_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                        const float *v, galen_error *err);

static inline char *layer_kv(const backend_work *w, int32_t layer) {
    return w->kv + (size_t)w->b->kv_index[layer] * w->shape.layer_bytes;
}

/** The attend stage: w->buf.att from w->buf.q and the cache. */
void cpu_attend(backend_work *w, int32_t layer, const batch *b);

#endif
