/* Products of several rows with Q2_K, Q3_K, Q6_K weights. */
#include "backend/cuda/rows_stream.cuh"

extern "C" int32_t cuda_rows_q2_k(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q2_K>(q, p) : rows_launch<TENSOR_Q2_K>(q, p);
}
extern "C" int32_t cuda_rows_q3_k(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q3_K>(q, p) : rows_launch<TENSOR_Q3_K>(q, p);
}
extern "C" int32_t cuda_rows_q6_k(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q6_K>(q, p) : rows_launch<TENSOR_Q6_K>(q, p);
}
