/* Products with Q8_0 weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_q8_0(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_Q8_0>(q, p);
}
