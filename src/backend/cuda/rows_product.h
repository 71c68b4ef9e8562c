/* Products of 2 to FEW_ROWS activation rows with quantised weights on the tensor cores: rows_product.cuh. */
#ifndef GALEN_BACKEND_CUDA_ROWS_PRODUCT_H
#define GALEN_BACKEND_CUDA_ROWS_PRODUCT_H

#include "backend/cuda/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ROWS_TILE = 128, /* outputs of a block of rows_product.cuh */
    ROWS_CHUNK = 4,  /* units it meets at a time               */
    ROWS_GRAIN = 16, /* units that a split of a row is a multiple of */
    ROWS_MAX_SPLITS = 8,
    STREAM_TILE = 16, /* outputs of a warp of rows_stream.cuh */
    STREAM_WARPS = 8
};

/* Activations: rows in eights, [row / 8][unit][row % 8], a unit's 32 halves so that weights 4t .. 4t + 3 and
 * 16 + 4t .. stand side by side, t = 0..3. */

typedef struct rows_args {
    dev_matrix w[MAX_JOBS]; /* of one type and width */
    int32_t at[MAX_JOBS];   /* where a matrix's outputs begin in a row of y */
    int32_t first_tile[MAX_JOBS + 1];
    int32_t n_jobs, n_rows;
    const uint16_t *x; /* halves of n_rows up to a multiple of eight */
    float *y;     /* [n_splits][part]: a part is [n_rows][y_stride]; its sum over the splits is what the rest of a stage reads */
    int64_t part; /* values from a split's part to the next's */
    int32_t y_stride, n_splits;
    int32_t n_stages, block_tiles; /* filled in: places of a ring; tiles of a block */
} rows_args;

/** Splits of a row's units over blocks, for outputs and inputs of these sizes: enough blocks for the device, whatever the rows.
 */
int32_t cuda_rows_splits(int32_t n_sm, int64_t n_out, int32_t n_in);

/** first_tile is filled in; n_rows <= FEW_ROWS. */
int32_t cuda_rows_product(cuda_queue *q, rows_args *p);

#define ROWS_PRODUCTS(X)                                                                                                         \
    X(TENSOR_Q8_0, q8_0)                                                                                                         \
    X(TENSOR_Q4_0, q4_0)                                                                                                         \
    X(TENSOR_Q4_1, q4_1)                                                                                                         \
    X(TENSOR_Q5_0, q5_0)                                                                                                         \
    X(TENSOR_Q5_1, q5_1)                                                                                                         \
    X(TENSOR_IQ4_NL, iq4_nl)                                                                                                     \
    X(TENSOR_IQ4_XS, iq4_xs)                                                                                                     \
    X(TENSOR_Q2_K, q2_k)                                                                                                         \
    X(TENSOR_Q3_K, q3_k)                                                                                                         \
    X(TENSOR_Q4_K, q4_k)                                                                                                         \
    X(TENSOR_Q5_K, q5_k)                                                                                                         \
    X(TENSOR_Q6_K, q6_k)
#define X(type, name) int32_t cuda_rows_##name(cuda_queue *q, const rows_args *p);
ROWS_PRODUCTS(X)
#undef X

#ifdef __cplusplus
}
#endif
#endif
