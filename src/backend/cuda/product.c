/* Which product kernel serves which weight type. */
#include "backend/cuda/kernels.h"
#include "backend/cuda/rows_product.h"

typedef int32_t (*product_fn)(cuda_queue *q, product_args *p);

int32_t cuda_product(cuda_queue *q, product_args *p) {
    static const product_fn fn[TENSOR_TYPE_END] = {
#define X(type, name) [type] = cuda_product_##name,
        CUDA_PRODUCTS(X)
#undef X
    };
    return fn[p->w[0].type](q, p);
}

bool cuda_product_takes_both(int32_t type, int32_t other) {
#define X(a, b)                                                                                                                  \
    if ((type == (a) && other == (b)) || (type == (b) && other == (a))) return true;
    CUDA_PRODUCT_PAIRS(X)
#undef X
    return false;
}

bool cuda_takes(int32_t type) {
    static const bool is_known[TENSOR_TYPE_END] = {
#define X(type, name) [type] = true,
        CUDA_PRODUCTS(X)
#undef X
    };
    return type >= 0 && type < TENSOR_TYPE_END && is_known[type];
}

bool cuda_is_float(int32_t type) {
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

int32_t cuda_rows_splits(int32_t n_sm, int64_t n_out, int32_t n_in) {
    const int32_t n_grains = (n_in / UNIT + ROWS_GRAIN - 1) / ROWS_GRAIN;
    const int32_t most = n_grains < ROWS_MAX_SPLITS ? n_grains : ROWS_MAX_SPLITS;
    const int64_t n_tiles = (n_out + STREAM_TILE - 1) / STREAM_TILE;
    int32_t n = 1;
    while (n < most && n_tiles * n < 5 * (int64_t)n_sm) n++; /* warps enough to ask for what the memory can give */
    for (int32_t even = n; even <= most; even++)
        if (n_grains % even == 0) return even;
    return n;
}

int32_t cuda_rows_product(cuda_queue *q, rows_args *p) {
    static int32_t (*const fn[TENSOR_TYPE_END])(cuda_queue *, const rows_args *) = {
#define X(type, name) [type] = cuda_rows_##name,
        ROWS_PRODUCTS(X)
#undef X
    };
    p->first_tile[0] = 0;
    const int32_t tile = q->has_bulk ? STREAM_TILE : ROWS_TILE;
    for (int32_t i = 0; i < p->n_jobs; i++) p->first_tile[i + 1] = p->first_tile[i] + (p->w[i].n_out + tile - 1) / tile;
    return fn[p->w[0].type](q, p);
}
