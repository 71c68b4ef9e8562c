/* Products with Q5_0, Q5_1, Q2_K weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_q5_0(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q5_0>(q, p);
}
extern "C" int32_t cuda_product_q5_1(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q5_1>(q, p);
}
extern "C" int32_t cuda_product_q2_k(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q2_K>(q, p);
}
