/* The scalar conversions, one pair per weight type; private to src/tensor, reached through tensor_type_get. */
#ifndef GALEN_TENSOR_QUANTS_H
#define GALEN_TENSOR_QUANTS_H

#include <stdint.h>

#include "tensor/blocks.h"

/* type id, function suffix, weights in a block, the block */
#define TENSOR_TYPE_TABLE(X)                                                                                                     \
    X(F32, f32, 1, float)                                                                                                        \
    X(F16, f16, 1, uint16_t)                                                                                                     \
    X(BF16, bf16, 1, uint16_t)                                                                                                   \
    X(Q8_0, q8_0, 32, block_q8_0)                                                                                                \
    X(Q4_0, q4_0, 32, block_q4_0)                                                                                                \
    X(Q4_1, q4_1, 32, block_q4_1)                                                                                                \
    X(Q5_0, q5_0, 32, block_q5_0)                                                                                                \
    X(Q5_1, q5_1, 32, block_q5_1)                                                                                                \
    X(Q2_K, q2_k, 256, block_q2_k)                                                                                               \
    X(Q3_K, q3_k, 256, block_q3_k)                                                                                               \
    X(Q4_K, q4_k, 256, block_q4_k)                                                                                               \
    X(Q5_K, q5_k, 256, block_q5_k)                                                                                               \
    X(Q6_K, q6_k, 256, block_q6_k)                                                                                               \
    X(IQ4_NL, iq4_nl, 32, block_iq4_nl)                                                                                          \
    X(IQ4_XS, iq4_xs, 256, block_iq4_xs)

/* n weights, a whole number of blocks; in and out do not overlap. A block that holds a NaN or an infinity is quantised to a
 * NaN scale: the damage shows in the first product instead of passing for a weight. */
#define X(id, suffix, n_weights, block)                                                                                          \
    void dequantise_##suffix(const void *blocks, float *out, int64_t n);                                                         \
    void quantise_##suffix(const float *in, void *blocks, int64_t n);
TENSOR_TYPE_TABLE(X)
#undef X

#endif
