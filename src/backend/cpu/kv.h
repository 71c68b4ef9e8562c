/* How keys and values lie inside a page of KV_PAGE positions.
 *
 * A page of one layer holds, for each KV head, one run of bytes:
 *   K  [4 tiles of 16 positions][d][16]   sixteen keys stand side by side, so their scores are lanes
 *      Q8_0 only: scales binary16 [4][n_blocks][16], a block being 32 of d (the last may be shorter)
 *   V  [64 positions][d_pad]              output dimensions are lanes; d_pad is d rounded up to 16, zeros behind d
 *      Q8_0 only: scales binary16 [64][n_blocks]
 * each part padded to 64 bytes. Elements are binary16, f32 or int8. A KV cache is [layer][page][KV head]. */
#ifndef GALEN_BACKEND_CPU_KV_H
#define GALEN_BACKEND_CPU_KV_H

#include "backend/backend.h"

enum { KV_LANES = 16, KV_BLOCK = 32 };

typedef struct kv_layout {
    kv_type type;
    int32_t d, d_pad, n_blocks;
    size_t k_scales, v, v_scales; /* byte offsets inside a head's run */
    size_t head_bytes, page_bytes;
} kv_layout;

kv_layout kv_layout_of(kv_type type, int32_t d_head, int32_t n_head_kv);

#endif
