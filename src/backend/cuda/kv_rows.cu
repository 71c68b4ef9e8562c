/* Keys and values of some positions as f32 rows, out of the pages and into them.
 * Launch  a warp a head: grid (ceil(2 n_head_kv / 4), rows), 128 threads.   Bound  the rows' bytes. */
#include "backend/cuda/heads.cuh"

__device__ static inline float kv_element(const dev_kv &kv, const uint8_t *run, bool is_v, int slot, int i) {
    const uint8_t *from = run + (is_v ? kv.v : 0);
    const size_t at = (size_t)slot * kv.d_pad + i;
    if (kv.type == KV_F16) return __half2float(((const __half *)from)[at]);
    if (kv.type == KV_F32) return ((const float *)from)[at];
    const __half *scales = (const __half *)(run + (is_v ? kv.v_scales : kv.k_scales)) + slot * (kv.d_pad / 32);
    return __half2float(scales[i / 32]) * (float)((const int8_t *)from)[at];
}

__device__ static inline uint8_t *run_of(const kv_rows_args &p, int pos, int kv_head) {
    return p.kv.base + ((size_t)p.pages[pos / KV_PAGE] * p.n_head_kv + kv_head) * p.kv.head_bytes;
}

__global__ void get_rows_kernel(const __grid_constant__ kv_rows_args p) {
    const int lane = threadIdx.x % 32, h = 4 * blockIdx.x + threadIdx.x / 32, r = blockIdx.y, pos = p.first + r;
    queue_trigger();
    queue_wait();
    if (h >= 2 * p.n_head_kv) return;
    const bool is_v = h >= p.n_head_kv;
    const int kv_head = h % p.n_head_kv;
    const uint8_t *run = run_of(p, pos, kv_head);
    float *to = (is_v ? p.v : p.k) + ((size_t)r * p.n_head_kv + kv_head) * p.d_head;
    for (int i = lane; i < p.d_head; i += 32) to[i] = kv_element(p.kv, run, is_v, pos % KV_PAGE, i);
}

__global__ void put_rows_kernel(const __grid_constant__ kv_rows_args p) {
    __shared__ float heads[4][MAX_HEAD];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, h = 4 * blockIdx.x + warp, r = blockIdx.y, pos = p.first + r;
    queue_trigger();
    queue_wait();
    if (h >= 2 * p.n_head_kv) return; /* whole warps leave: only __syncwarp below */
    const bool is_v = h >= p.n_head_kv;
    const int kv_head = h % p.n_head_kv;
    const float *from = (is_v ? p.v : p.k) + ((size_t)r * p.n_head_kv + kv_head) * p.d_head;
    for (int i = lane; i < p.d_head; i += 32) heads[warp][i] = from[i];
    __syncwarp();
    kv_put(p.kv, run_of(p, pos, kv_head), is_v, pos % KV_PAGE, heads[warp], p.d_head);
}

static dim3 grid_of(const kv_rows_args *p) {
    return dim3((unsigned)((2 * p->n_head_kv + 3) / 4), (unsigned)p->n_rows);
}

extern "C" int32_t cuda_kv_get_rows(cuda_queue *q, const kv_rows_args *p) {
    return launch(get_rows_kernel, grid_of(p), 128, 0, q, *p);
}

extern "C" int32_t cuda_kv_put_rows(cuda_queue *q, const kv_rows_args *p) {
    return launch(put_rows_kernel, grid_of(p), 128, 0, q, *p);
}
