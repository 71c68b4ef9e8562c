/* Products of several rows with Q8_0, IQ4_NL, IQ4_XS weights. */
#include "backend/cuda/rows_stream.cuh"

extern "C" int32_t cuda_rows_q8_0(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_Q8_0>(q, p) : rows_launch<TENSOR_Q8_0>(q, p);
}
extern "C" int32_t cuda_rows_iq4_nl(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_IQ4_NL>(q, p) : rows_launch<TENSOR_IQ4_NL>(q, p);
}
extern "C" int32_t cuda_rows_iq4_xs(cuda_queue *q, const rows_args *p) {
    return q->has_bulk ? stream_launch<TENSOR_IQ4_XS>(q, p) : rows_launch<TENSOR_IQ4_XS>(q, p);
}
