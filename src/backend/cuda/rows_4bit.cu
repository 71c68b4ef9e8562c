/* Products of several rows with Q4_0, Q4_1, Q4_K weights. */
#include "backend/cuda/rows_stream.cuh"

extern "C" int32_t cuda_rows_q4_0(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q4_0>(q, p) : rows_launch<TENSOR_Q4_0>(q, p);
}
extern "C" int32_t cuda_rows_q4_1(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q4_1>(q, p) : rows_launch<TENSOR_Q4_1>(q, p);
}
extern "C" int32_t cuda_rows_q4_k(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q4_K>(q, p) : rows_launch<TENSOR_Q4_K>(q, p);
}
