/* Which product kernel serves which weight type. */
#include "backend/cuda/kernels.h"

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
