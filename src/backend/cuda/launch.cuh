/* Launching, and the few device functions that every kernel file uses. */
#ifndef GALEN_BACKEND_CUDA_LAUNCH_CUH
#define GALEN_BACKEND_CUDA_LAUNCH_CUH

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backend/cuda/kernels.h"

/* With programmatic dependent launch the kernel may start while the one before still runs; it calls queue_wait before it
 * touches anything that one writes. Every kernel of ours calls it, so waiting for the last is waiting for all. */
template <typename... P, typename... A>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, int threads, size_t shared_bytes, cuda_queue *q, const A &...args) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t cfg = {};
    cfg.gridDim = grid;
    cfg.blockDim = dim3((unsigned)threads);
    cfg.dynamicSmemBytes = shared_bytes;
    cfg.stream = (cudaStream_t)q->stream;
    cfg.attrs = &early;
    cfg.numAttrs = q->has_pdl && q->is_chained ? 1 : 0;
    q->is_chained = true;
    if (q->carveout > 0) {
        const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, q->carveout);
        if (e != cudaSuccess) return e;
    }
    return cudaLaunchKernelEx(&cfg, kernel, P(args)...);
}

/* Let the next kernel's blocks take the places that this one's leave. */
__device__ static inline void queue_trigger() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* What the kernels before have written may be read from here on. */
__device__ static inline void queue_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ static inline float warp_sum(float v) {
    for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(~0u, v, m);
    return v;
}
__device__ static inline float warp_max(float v) {
    for (int m = 16; m; m >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, m));
    return v;
}

/* The sum over a block of W warps, in every thread; shared is W floats. The order is fixed. */
template <int W = 8> __device__ static inline float block_sum(float v, float *shared) {
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    float all = 0;
    for (int i = 0; i < W; i++) all += shared[i];
    __syncthreads();
    return all;
}

__device__ static inline float sum_parts(const row_parts &p, size_t at) {
    float sum = p.y[at];
    for (int k = 1; k < p.n; k++) sum += p.y[at + k * p.part];
    return sum;
}

__device__ static inline float softcap(float v, float cap) {
    return cap > 0 ? cap * tanhf(v / cap) : v;
}

__device__ static inline float activation(float g, bool is_gelu) {
    if (!is_gelu) return g / (1.0f + __expf(-g));
    return 0.5f * g * (1.0f + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g))); /* sqrt(2 / pi) */
}

#endif
