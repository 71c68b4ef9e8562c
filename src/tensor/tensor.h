/* Tensor types and the views the engine computes with.
 * A weight is a matrix W [n_out][n_in]: n_out rows, each a run of blocks along n_in. */
#ifndef GALEN_TENSOR_TENSOR_H
#define GALEN_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values are the GGUF file's own type ids (ggml_type). */
typedef enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_IQ4_NL = 20,
    TENSOR_IQ4_XS = 23,
    TENSOR_BF16 = 30,
    TENSOR_TYPE_END = 31
} tensor_type;

typedef struct tensor_type_info {
    const char *name;      /* "Q4_K"; NULL for an id that is not supported */
    int32_t block_weights; /* weights a block holds; a row is a whole number of blocks */
    int32_t block_bytes;
    void (*dequantise)(const void *blocks, float *out, int64_t n); /* n a multiple of block_weights; scalar, the reference */
    void (*quantise)(const float *in, void *blocks, int64_t n);    /* deterministic; scalar */
} tensor_type_info;

/** The row for a type id; NULL for ids not supported. Static. */
const tensor_type_info *tensor_type_get(uint32_t type);

/** By name in any case, "q4_k", "F16"; NULL when there is none. */
const tensor_type_info *tensor_type_by_name(const char *name, tensor_type *type);

/** Bytes of a row of n_in weights. n_in must be a multiple of block_weights; no overflow for n_in < 2^40. */
size_t tensor_row_bytes(tensor_type type, int64_t n_in);

/* A weight matrix or vector inside a mapped file. data NULL = the model has no such tensor. */
typedef struct tensor {
    const char *name;
    const void *data; /* blocks, row after row; not necessarily aligned beyond 32 bytes */
    tensor_type type;
    int64_t n_in, n_out; /* a vector has n_out 1 */
    size_t row_bytes;
} tensor;

static inline const void *tensor_row(const tensor *t, int64_t row) {
    return (const char *)t->data + (size_t)row * t->row_bytes;
}

/** The rows [first, first + n) of t as a tensor of their own (a fused QKV is three views). */
tensor tensor_rows(const tensor *t, int64_t first, int64_t n);

#endif
