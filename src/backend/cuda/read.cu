/* out[i] = logits[row][ids[i]] - log(sum(exp(logits[row]))).
 * Launch    a block of 1024 threads a row.
 * Numerics  terms in single, to an ulp; their sum in double, in a fixed order.   Bound  a multiprocessor's reading, two passes.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/read.h"

enum { READ_THREADS = 1024, READ_WARPS = READ_THREADS / 32 };

struct read_block {
    float most[READ_WARPS];
    double sum[READ_WARPS];
};

/* The largest, in every thread; NaN when one is not finite: 0 x is 0 for what is finite, else NaN. */
__device__ static float largest(read_block &s, const float *x, int n) {
    float most = -INFINITY, bad = 0;
    for (int i = threadIdx.x; i < n; i += READ_THREADS) {
        most = fmaxf(most, x[i]);
        bad += 0.0f * x[i];
    }
    most = warp_max(most);
    if (__any_sync(~0u, !(bad == 0))) most = NAN;
    if (threadIdx.x % 32 == 0) s.most[threadIdx.x / 32] = most;
    __syncthreads();
    most = s.most[0];
    bad = 0;
    for (int i = 0; i < READ_WARPS; i++) {
        bad += s.most[i] != s.most[i];
        most = fmaxf(most, s.most[i]);
    }
    return bad > 0 ? NAN : most;
}

__global__ void __launch_bounds__(READ_THREADS) read_kernel(const __grid_constant__ read_args p) {
    __shared__ read_block s;
    const int r = blockIdx.x;
    queue_trigger();
    queue_wait();
    const float *x = p.logits + (size_t)r * p.n_vocab;
    const float most = largest(s, x, p.n_vocab);
    double sum = 0;
    for (int i = threadIdx.x; i < p.n_vocab; i += READ_THREADS) sum += (double)expf(x[i] - most);
    for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
    if (threadIdx.x % 32 == 0) s.sum[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < READ_WARPS; i++) sum += s.sum[i];
    const double all = (double)most + log(sum);
    for (int i = p.first[r] + (int)threadIdx.x; i < p.first[r + 1]; i += READ_THREADS) p.out[i] = (double)x[p.ids[i]] - all;
}

extern "C" int32_t cuda_read_rows(cuda_queue *q, const read_args *p) {
    return launch(read_kernel, dim3((unsigned)p->n_rows), READ_THREADS, 0, q, *p);
}
