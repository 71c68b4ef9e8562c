/* What the host side (C) and the kernels (CUDA C) of the cuda backend agree on.
 *
 * Repacked weights. A row of W is cut into units: 32 weights of a quantised type, 8 of a float type. Everything a kernel reads
 * of a unit lies in up to four planes, each an aligned array over [row][unit], so that a warp's 32 lanes, one unit each, read
 * 512 bytes with one instruction. Nothing is rounded; the planes hold the file's integers and half floats.
 *
 *   plane  Q8_0  4 bits  5 bits  Q2_K  Q3_K  Q6_K   holds
 *   q        32      16      16     8     8    16   the low 8, 4 or 2 bits of the 32 quants, see below
 *   h         -       -       4     -     4     8   the bits above
 *   s         2     2/4     2/4     2     2     2   per unit: d; d and m; or two bytes, see formats.cuh
 *   d         -       -       -     4     2     2   per 8 units: d of the K family, with dmin where there is one
 *   (IQ4_XS: s is one byte, d two. Q4_K, Q5_K: s two bytes, d four. Floats: q alone, 16 or 32 bytes.)
 *
 * Quants are packed so that the same shift serves four of them: "word k" is weights 4k .. 4k + 3, k = 0..7.
 *   4 bits  byte b of 32-bit word k (k < 4): low nibble weight 4k + b, high nibble weight 16 + 4k + b
 *   2 bits  32-bit word k / 4, byte b, bits 2 (k % 4) and the next: weight 4k + b
 *   1 bit   one 32-bit word, byte b, bit k: weight 4k + b
 *   8 bits  units stand in groups of 32 (the last may be shorter): the first 16 bytes of each, then the second 16 of each
 *           (interleaved, "half planes"), because a lane loads 16 bytes at once
 * Activations are levels of 14 bits in 16: units stand in groups of 32, the first eight levels of each, then the next eight of
 * each, and so on; with an act_rec a unit. Rows are padded to whole groups, whose rest may hold anything. */
#ifndef GALEN_BACKEND_CUDA_TYPES_H
#define GALEN_BACKEND_CUDA_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/tensor.h"

enum {
    UNIT = 32,        /* weights in a unit of a quantised type     */
    UNIT_FLOAT = 8,   /* of a float type                           */
    UNITS_SUPER = 8,  /* units in a block of the K family          */
    ROW_PAD = 32,     /* f32 rows are padded with zeros to so many values */
    ACT_PAD = 1024,   /* and rows of activations begin at multiples of so many */
    STREAM_ROWS = 32, /* batches of a network with float weights up to here go through the streaming kernels */
    FEW_ROWS = 128,   /* of quantised weights through rows_product.h, larger ones through tiles             */
    HEAD_ROWS = 128,  /* rows of the head's product at a time                                              */
    PASS_ROWS = 8,    /* rows that meet the weights in one pass of a streaming kernel                      */
    MAX_HEAD = 256,   /* dimensions of a head                      */
    MAX_SPLITS = 32,  /* pieces a row's context is cut into        */
    MAX_JOBS = 3      /* matrices in one launch                    */
};

/* A repacked matrix in device memory. */
typedef struct dev_matrix {
    int32_t type; /* tensor_type */
    int32_t n_in, n_out;
    int32_t n_units; /* of a row */
    const uint8_t *q, *h, *s, *d;
    uint32_t q_row, h_row, s_row, d_row; /* bytes from a row to the next */
} dev_matrix;

/* 32 quantised activations: x = d * q, and the sums of x that meet offsets and minima. */
typedef struct act_rec {
    float d, lo, hi, all; /* sums of x[0..15], x[16..31], both */
} act_rec;

/* Activation rows in the forms that products take. scale multiplies the product of a row (an RMS norm's factor). */
typedef struct dev_acts {
    int16_t *q;   /* [rows][stride]             */
    act_rec *rec; /* [rows][stride / 32]        */
    float *f;     /* [rows][stride]             */
    float *scale; /* [rows]; NULL = 1           */
    int32_t stride;
} dev_acts;

/* The queue that launchers put work on. */
typedef struct cuda_queue {
    void *stream; /* cudaStream_t */
    int32_t n_sm;
    int32_t per_sm;       /* blocks of a one-row product that an SM gets: room beside them lets the next launch settle in */
    int32_t act_rows;     /* outputs of a block of PRODUCT_ACT; 0 = evenly over the device */
    int32_t shared_bytes; /* shared memory that a block may have */
    int32_t carveout; /* percent of a multiprocessor's cache that every kernel has as shared memory; 0 = the driver's choice */
    bool has_mma;     /* 8.0 or later: m16n8k16 on the tensor cores */
    bool has_pdl;     /* compute capability 9.0 or later                                               */
    bool has_bulk;    /* 9.0 or later: bulk copies to shared memory                                    */
    bool is_chained;  /* the work before is a kernel of ours: the next may start early and wait inside */
} cuda_queue;

typedef enum product_mode {
    PRODUCT_STORE, /* y[r][o] = v                                                                 */
    PRODUCT_ADD,   /* y[r][o] += v                                                                */
    PRODUCT_ACT    /* w[0] is the gate, w[1] the other half: out = act(v0) * v1, as the next product takes it */
} product_mode;

/* Products of up to PASS_ROWS activation rows with matrices of one type. */
typedef struct product_args {
    dev_matrix w[MAX_JOBS];
    float *y[MAX_JOBS];
    const float *bias[MAX_JOBS]; /* NULL = none */
    int32_t first_tile[MAX_JOBS + 1];
    int32_t n_jobs, n_rows, y_stride;
    int32_t tile_rows, n_longer; /* rows of a block; PRODUCT_ACT: the first n_longer blocks take one more */
    dev_acts in;                 /* used when x is NULL */
    /* the fused form, one row: in = norm(x) */
    const float *x, *norm;
    float eps;
    product_mode mode;
    dev_acts out;     /* PRODUCT_ACT: f is always there */
    int32_t *arrived; /* PRODUCT_ACT, quantised: [n_out / UNIT], zero between launches */
    bool is_gelu, is_out_quantised;
    float softcap; /* of what is stored; 0 = none */
} product_args;

/* Where rows of the batch stand. */
typedef struct dev_rows {
    const int32_t *pos;   /* [n_rows] */
    const int32_t *table; /* [n_rows] offset of the row's page list in pages */
    const int32_t *pages;
    const float *cos, *sin; /* [n_rows][n_rot / 2] */
} dev_rows;

/* How the KV of one layer lies: [page][KV head]{ K [KV_PAGE][d_pad], V [KV_PAGE][d_pad] }, elements of the KV type, d_pad a
 * multiple of 8; KV_Q8_0 puts scales binary16 [KV_PAGE][d_pad / 32] behind K and behind V. */
typedef struct dev_kv {
    uint8_t *base;
    int32_t type; /* kv_type */
    int32_t d_pad;
    uint32_t v, k_scales, v_scales, head_bytes; /* offsets inside a head's run, and its size */
} dev_kv;

/* f32 rows [n_rows][stride] as the sum of n arrays, part values apart. */
typedef struct row_parts {
    const float *y;
    int32_t stride, n;
    int64_t part;
} row_parts;

typedef struct heads_args {
    row_parts raw; /* [n_rows]: Q heads, K heads, V heads */
    float *qkv;    /* [n_rows][stride]: where made ready Q heads are put */
    int32_t stride;
    int32_t n_head, n_head_kv, d_head, n_rot;
    bool is_halves;
    const float *q_norm, *k_norm; /* NULL = none */
    const float *bias;            /* [n_head + 2 n_head_kv][d_head], applied with scale; NULL = none */
    const float *scale;           /* [n_rows]; NULL = 1 */
    float eps;
    dev_rows rows;
    dev_kv kv;
    int32_t n_rows;
} heads_args;

typedef struct attend_args {
    heads_args heads;
    bool is_fused; /* Q is raw: norm, rotate, and append K and V here. Only when every row is the last of its sequence */
    float scale, softcap;
    int32_t window;   /* 0 = none */
    int32_t n_splits; /* the grid's; a row uses what attend_plan says */
    float *out;       /* f32 [n_rows][out_stride] */
    int32_t out_stride;
    dev_acts quantised; /* q NULL = not wanted */
    uint16_t *halves;   /* n_head d_head values a row as rows_product.h says, and out is left alone; NULL = not wanted */
    float *parts;       /* [n_rows][n_head][most_splits][d_head padded to 4, and 4] */
    int32_t most_splits;
    int32_t *arrived; /* [n_rows][n_head_kv], zero between launches */
} attend_args;

#endif
