/* Products with F32, F16, BF16 weights. */
#include "backend/cuda/product.cuh"

extern "C" int32_t cuda_product_f32(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_F32>(q, p);
}
extern "C" int32_t cuda_product_f16(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_F16>(q, p);
}
extern "C" int32_t cuda_product_bf16(cuda_queue *q, product_args *p) {
    return product_launch<TENSOR_BF16>(q, p);
}
