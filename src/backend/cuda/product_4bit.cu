/* Products with Q4_0, Q4_1, IQ4_NL weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_q4_0(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q4_0>(q, p);
}
extern "C" int32_t cuda_product_q4_1(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q4_1>(q, p);
}
extern "C" int32_t cuda_product_iq4_nl(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_IQ4_NL>(q, p);
}
