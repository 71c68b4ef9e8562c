/* Rotation angles of a row: what cuda_begin and cuda_begin_ahead share. */
#ifndef GALEN_BACKEND_CUDA_BEGIN_CUH
#define GALEN_BACKEND_CUDA_BEGIN_CUH

#include "backend/cuda/launch.cuh"

/* Row r of cos and sin, [n_ropes][max_rows][n_half]. In double: at position 100,000 f32 would be off by some 0.01 radians. */
template <typename ARGS> __device__ static void turn_row(const ARGS &p, int r, int pos) {
    for (int i = threadIdx.x; i < p.n_ropes * p.n_half; i += blockDim.x) {
        const int rope = i / p.n_half, j = i % p.n_half;
        double s, c;
        sincos(pos * p.inv_freq[rope][j], &s, &c);
        const size_t at = ((size_t)rope * p.max_rows + r) * p.n_half + j;
        p.cos[at] = (float)(c * (double)p.magnitude[rope]);
        p.sin[at] = (float)(s * (double)p.magnitude[rope]);
    }
}

#endif
