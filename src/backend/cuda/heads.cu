/* Q, K and V heads of many rows made ready for attention; the fused attention does this for itself.
 * Launch  a warp a head: grid (ceil(heads / 4), rows), 128 threads.   Bound  launch. */
#include "backend/cuda/heads.cuh"

__global__ void heads_kernel(const __grid_constant__ heads_args p) {
    __shared__ float heads[4][MAX_HEAD];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = blockIdx.y, h = 4 * blockIdx.x + warp;
    queue_trigger();
    queue_wait();
    if (h >= p.n_head + 2 * p.n_head_kv) return; /* whole warps leave: only __syncwarp below */
    float *head = heads[warp];
    fetch_head(p, r, h, head);
    const bool is_q = h < p.n_head, is_v = h >= p.n_head + p.n_head_kv;
    if (!is_v) turn_head(p, r, is_q ? p.q_norm : p.k_norm, head);
    if (is_q) {
        float *to = p.qkv + (size_t)r * p.stride + h * p.d_head;
        for (int i = lane; i < p.d_head; i += 32) to[i] = head[i];
        return;
    }
    const int kv_head = (h - p.n_head) % p.n_head_kv, pos = p.rows.pos[r];
    kv_put(p.kv, kv_run(p.kv, p.rows, p.rows.table[r], pos, kv_head, p.n_head_kv), is_v, pos % KV_PAGE, head, p.d_head);
}

extern "C" int32_t cuda_heads(cuda_queue *q, const heads_args *p) {
    const dim3 grid((unsigned)((p->n_head + 2 * p->n_head_kv + 3) / 4), (unsigned)p->n_rows);
    return launch(heads_kernel, grid, 128, 0, q, *p);
}
