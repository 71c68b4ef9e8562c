/* Attention of large batches on the tensor cores: attend_tiles.cu. */
#ifndef GALEN_BACKEND_CUDA_ATTEND_TILES_H
#define GALEN_BACKEND_CUDA_ATTEND_TILES_H

#include "backend/cuda/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ATTEND_TILE = 64 }; /* rows of a tile */

typedef struct attend_tiles_args {
    heads_args heads; /* Q rotated, K and V in their pages */
    float scale, softcap;
    int32_t window;
    float *out; /* f32 [n_rows][out_stride] */
    int32_t out_stride;
    const int32_t *tiles; /* [n_tiles]{ first row, rows }: rows of one sequence */
    int32_t n_tiles;
} attend_tiles_args;

bool cuda_takes_attend_tiles(int32_t compute, int32_t kv, int32_t d_head);
int32_t cuda_attend_tiles(cuda_queue *q, const attend_tiles_args *p);

#ifdef __cplusplus
}
#endif
#endif
