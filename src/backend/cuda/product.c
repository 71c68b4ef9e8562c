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
    const int64_t n_tiles = (n_out + ROWS_TILE - 1) / ROWS_TILE, n_chunks = (n_in / UNIT + ROWS_CHUNK - 1) / ROWS_CHUNK;
    const int64_t wanted = 2 * (int64_t)n_sm / n_tiles, most = n_chunks / 4 < ROWS_MAX_SPLITS ? n_chunks / 4 : ROWS_MAX_SPLITS;
    return (int32_t)(wanted < 1 || most < 1 ? 1 : wanted > most ? most : wanted);
}

int32_t cuda_rows_product(cuda_queue *q, rows_args *p) {
    static int32_t (*const fn[TENSOR_TYPE_END])(cuda_queue *, const rows_args *) = {
#define X(type, name) [type] = cuda_rows_##name,
        ROWS_PRODUCTS(X)
#undef X
    };
    p->first_tile[0] = 0;
    for (int32_t i = 0; i < p->n_jobs; i++) p->first_tile[i + 1] = p->first_tile[i] + (p->w[i].n_out + ROWS_TILE - 1) / ROWS_TILE;
    return fn[p->w[0].type](q, p);
}
