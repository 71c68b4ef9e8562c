/* Products with Q3_K, Q4_K, Q5_K weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_q3_k(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q3_K>(q, p);
}
extern "C" int32_t cuda_product_q4_k(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q4_K>(q, p);
}
extern "C" int32_t cuda_product_q5_k(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q5_K>(q, p);
}
