/* Products with Q6_K, IQ4_XS weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_q6_k(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q6_K>(q, p);
}
extern "C" int32_t cuda_product_iq4_xs(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_IQ4_XS>(q, p);
}
