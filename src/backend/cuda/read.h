/* Log-probabilities of given tokens from logits in device memory: read.cu. */
#ifndef GALEN_BACKEND_CUDA_READ_H
#define GALEN_BACKEND_CUDA_READ_H

#include "backend/cuda/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct read_args {
    const float *logits; /* [n_rows][n_vocab] */
    int32_t n_rows, n_vocab;
    const int32_t *first; /* [n_rows + 1] places in ids of each row's */
    const int32_t *ids;
    double *out; /* as ids; NaN where a logit of the row is not finite */
} read_args;

int32_t cuda_read_rows(cuda_queue *q, const read_args *p);

#ifdef __cplusplus
}
#endif
#endif
