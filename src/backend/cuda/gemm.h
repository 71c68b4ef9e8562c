/* Large products through cuBLASLt, which is loaded when a work that needs it is opened. */
#ifndef GALEN_BACKEND_CUDA_GEMM_H
#define GALEN_BACKEND_CUDA_GEMM_H

#include "backend/cuda/impl.h"

typedef enum gemm_type { GEMM_F16, GEMM_BF16, GEMM_F32 } gemm_type;

/** NULL when the library is not installed or does not start; that is no error. */
gemm *gemm_open(void);
void gemm_close(gemm *g);

/** A thread that starts the library, which takes as long as a small model takes to load; NULL is fine, and means none. */
gemm_start *gemm_start_open(int device);
void gemm_start_wait(gemm_start *s);
void gemm_start_close(gemm_start *s);

/** y[r][o] = sum over i of w[o][i] * x[r][i]; y f32, strides in elements; space is the library's scratch.
 *  Shapes seen before are remembered; f32 is not rounded to anything shorter. Returns 0 or a cudaError_t. */
int gemm_run(gemm *g, void *stream, gemm_type type, const void *w, int64_t w_stride, const void *x, int64_t x_stride, float *y,
             int64_t y_stride, int32_t n_out, int32_t n_rows, int32_t n_in, void *space, size_t space_bytes);

#endif
