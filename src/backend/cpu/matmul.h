/* Products with quantised weights: y = W x for one row of x (decode) or many (prefill), W straight from the mapped file.
 *
 * Numerics, the same on every instruction set, for any number of threads and for a row alone or among others, bit for bit:
 *   x is quantised per 32 values to 15 bits: d = max|x| / 16256, q = round_to_even(x / d), both f32 arithmetic; q = 0 where
 *   d = 0, |q| is cut to 16256 (it exceeds it only where d is subnormal). A NaN or an infinity in x makes d NaN, and so all of y.
 *   Eight bits would halve the arithmetic of prefill, but their noise alone moves SmolLM2's next-token distribution by a mean KL
 *   divergence of 3.5e-3, more than the 1e-3 that is allowed between two engines (bench/NOTES.md).
 *   A weight block is w = dw * u - mw over g weights (g = 32, or 16 for Q2_K, Q3_K, Q6_K), u an integer, dw and mw f32.
 *   y starts at 0 and takes, block after block, y = fmaf((float)sum(u * q), dw * d, y), then, for types with a minimum,
 *   y = fmaf(-mw, d * (float)sum(q), y).
 *   F32, F16 and BF16 weights meet x itself: sixteen partial sums by index mod 16, each by fmaf, folded 8, 4, 2, 1. */
#ifndef GALEN_BACKEND_CPU_MATMUL_H
#define GALEN_BACKEND_CPU_MATMUL_H

#include "base/pool.h"
#include "tensor/tensor.h"

/* What one instruction set offers; a table filled once per set. Private to src/backend/cpu. */
typedef struct matmul_ops matmul_ops;

/** NULL when this processor (or this build) lacks the set. isa: "generic", "avx2", "avx512", "neon". */
const matmul_ops *matmul_ops_get(const char *isa);

/* Activations prepared once and used by several products. Memory is the caller's. */
typedef struct matmul_input {
    int64_t n_in;
    int32_t n_rows;
    const float *x;   /* [n_rows][x_stride]; kept, not copied  */
    int64_t x_stride; /* floats */
    void *packed;     /* matmul_input_bytes bytes, 64-aligned  */
} matmul_input;

/** Bytes of packed for up to max_rows rows of n_in. */
size_t matmul_input_bytes(int32_t max_rows, int64_t n_in);

/** Quantise in->x into in->packed (in parallel when there are several rows). */
void matmul_prepare(const matmul_ops *ops, pool *p, const matmul_input *in);

/* One product of a group: y[r][o] = (is_added ? y[r][o] : 0) + W[o] . x[r] + (bias ? bias[o] : 0), the sum W . x first. */
typedef struct matmul_job {
    const tensor *w;   /* n_in as the input's; any supported type */
    const float *bias; /* f32 [n_out] or NULL */
    float *y;          /* [n_rows][y_stride]  */
    int64_t y_stride;
    bool is_added;
} matmul_job;

/** Bytes of scratch one thread needs, 64-aligned, for rows of up to max_n_in weights. */
size_t matmul_scratch_bytes(int64_t max_n_in);

/** Run a group of products of the same input as one parallel region. scratch: n_threads * matmul_scratch_bytes. */
void matmul_run(const matmul_ops *ops, pool *p, const matmul_job *jobs, int n_jobs, const matmul_input *in, void *scratch);

#endif
