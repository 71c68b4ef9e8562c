/* Products with matrices of two types, as the _M and _L files have them for Q, K and V. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_mixed(cuda_queue *q, product_args *p) {
    bool has[TENSOR_TYPE_END] = {false};
    for (int i = 0; i < p->n_jobs; i++) has[p->w[i].type] = true;
    if (has[TENSOR_Q4_K] && has[TENSOR_Q6_K]) return product_launch_mixed<TENSOR_Q4_K, TENSOR_Q6_K>(q, p);
    if (has[TENSOR_Q5_K] && has[TENSOR_Q6_K]) return product_launch_mixed<TENSOR_Q5_K, TENSOR_Q6_K>(q, p);
    return product_launch_mixed<TENSOR_Q4_K, TENSOR_Q5_K>(q, p);
}
