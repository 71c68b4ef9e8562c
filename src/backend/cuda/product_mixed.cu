/* Products with matrices of two types in one launch. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_mixed(cuda_queue *q, product_args *p) {
    bool has[TENSOR_TYPE_END] = {false};
    int n = 0;
    for (int i = 0; i < p->n_jobs; i++) n += !has[p->w[i].type], has[p->w[i].type] = true;
    if (n != 2) return cudaErrorInvalidValue;
#define X(a, b)                                                                                                                  \
    if (has[a] && has[b]) return product_launch_mixed<a, b>(q, p);
    CUDA_PRODUCT_PAIRS(X)
#undef X
    return cudaErrorInvalidValue;
}
