/* The beginning of a step that runs ahead of the host: the row's token is the choice before it, its embedding comes from planes
 * in device memory, bit for bit as from the file's blocks.
 * Launch    one block of 256 threads.   Bound  latency: a row of a table. */
#include "backend/cuda/begin.cuh"
#include "backend/cuda/formats.cuh"
#include "backend/cuda/sample.h"
#include "base/philox.h"

template <int T> __device__ static void embed_row(const ahead_args &p, int token) {
    const row_planes row(p.table, token);
    for (int u = threadIdx.x; u < p.table.n_units; u += blockDim.x) {
        const unit_bits b = format<T>::load(row, 0, (uint32_t)u, (uint32_t)p.table.n_units);
        if constexpr (is_float_type(T)) {
            float v[UNIT_FLOAT];
            format<T>::floats(b, v);
#pragma unroll
            for (int j = 0; j < UNIT_FLOAT; j++)
                if (UNIT_FLOAT * u + j < p.table.n_in) p.x[UNIT_FLOAT * u + j] = v[j] * p.embd_scale;
        } else {
            int w[8];
            format<T>::words(b, w);
#pragma unroll
            for (int j = 0; j < UNIT; j++)
                p.x[UNIT * u + j] = format<T>::value(b, j, (int8_t)(w[j / 4] >> (8 * (j % 4)))) * p.embd_scale;
        }
    }
}

template <int T> __global__ void begin_ahead_kernel(const __grid_constant__ ahead_args p) {
    queue_wait(); /* no early trigger: as begin_kernel */
    const int pos = p.state->pos, id = p.history[pos], token = id >= 0 && id < p.table.n_out ? id : 0;
    embed_row<T>(p, token);
    turn_row(p, 0, pos);
    if (threadIdx.x != 0) return;
    const int n_history = pos + 1, most = p.state->n_window;
    p.pos[0] = pos;
    p.how->n_window = most < 0 || most > n_history ? n_history : most;
    p.how->window_at = n_history - p.how->n_window;
    p.how->u = philox_uniform(p.state->seed, 0, (uint64_t)n_history);
}

extern "C" int32_t cuda_begin_ahead(cuda_queue *q, const ahead_args *p) {
    switch (p->table.type) {
#define X(T)                                                                                                                     \
    case T:                                                                                                                      \
        return launch(begin_ahead_kernel<T>, dim3(1), 256, 0, q, *p);
        FORMATS_QUANT(X)
        FORMATS_FLOAT(X)
#undef X
    default:
        return cudaErrorInvalidValue;
    }
}
