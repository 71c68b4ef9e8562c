/* Products of several rows with Q5_0, Q5_1, Q5_K weights. */
#include "backend/cuda/rows_stream.cuh"

extern "C" int32_t cuda_rows_q5_0(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q5_0>(q, p) : rows_launch<TENSOR_Q5_0>(q, p);
}
extern "C" int32_t cuda_rows_q5_1(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q5_1>(q, p) : rows_launch<TENSOR_Q5_1>(q, p);
}
extern "C" int32_t cuda_rows_q5_k(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q5_K>(q, p) : rows_launch<TENSOR_Q5_K>(q, p);
}
