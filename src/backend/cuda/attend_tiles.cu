/* Attention of many rows on the tensor cores: flash attention over whole pages.
 * Launch    grid (query heads, tiles), 128 threads. A tile is up to 64 rows of one sequence (positions rising by one); a warp
 *           takes 16 of them. A page of K and V is met while the next is on its way into the other half of shared memory.
 * Numerics  Q, and the softmax's weights, are rounded to halves; K and V are halves already (KV_F16). f32 sums. Pages are met in
 *           order and a page that a row does not see changes nothing, so a row does not depend on its tile. A NaN reaches the
 *           rows of its own tile and no other sequence.
 * Needs     compute capability 8.0 (m16n8k16, cp.async); heads of 64 or 128 dimensions. */
#include "backend/cuda/attend_tiles.h"
#include "backend/cuda/heads.cuh"

enum { TILE_THREADS = 128, TILE_ROWS = ATTEND_TILE };

#if __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
#define HAS_TILES 1
#endif

#ifdef HAS_TILES
/* Halves [64][D] in shared memory; 16-byte pieces of a row are permuted so that eight rows' same piece lie in different banks. */
template <int D> __device__ static inline uint32_t piece_at(uint32_t base, int row, int piece) {
    return base + (uint32_t)(row * D * 2 + ((piece ^ (row & 7)) * 16));
}

__device__ static inline void copy_piece(uint32_t to, const void *from, bool is_live) {
    const int n = is_live ? 16 : 0; /* the rest is filled with zeros */
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n) : "memory");
}

__device__ static inline void load_matrices(uint32_t (&r)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
__device__ static inline void load_matrices_turned(uint32_t (&r)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
__device__ static inline void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ static inline uint32_t pack(float a, float b) {
    const __half2 h = __floats2half2_rn(a, b);
    return *(const uint32_t *)&h;
}

/* Page number page of the sequence into shared memory at base: K, then V; positions after last are zeros. */
template <int D>
__device__ static void fetch_page(const attend_tiles_args &p, uint32_t base, int table, int page, int kv_head, int last) {
    const heads_args &h = p.heads;
    const uint8_t *run = kv_run(h.kv, h.rows, table, page * KV_PAGE, kv_head, h.n_head_kv);
    for (int i = threadIdx.x; i < KV_PAGE * D / 8; i += TILE_THREADS) {
        const int row = i / (D / 8), piece = i % (D / 8);
        const bool is_live = page * KV_PAGE + row <= last;
        copy_piece(piece_at<D>(base, row, piece), run + 16 * i, is_live);
        copy_piece(piece_at<D>(base + KV_PAGE * D * 2, row, piece), run + h.kv.v + 16 * i, is_live);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Scores of 16 rows against 64 positions: s[j] are positions 8j .. 8j + 7. */
template <int D> __device__ static void score_page(float (&s)[8][4], const uint32_t (&q)[D / 16][4], uint32_t k_base) {
    const int lane = threadIdx.x % 32, row = lane % 8 + (lane >= 16 ? 8 : 0), half = lane / 8 % 2;
#pragma unroll
    for (int j = 0; j < 8; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
            uint32_t k[4]; /* positions 8j..+7, dimensions 16i and 16i + 8; then positions 8j + 8.. */
            load_matrices(k, piece_at<D>(k_base, 8 * j + row, 2 * i + half));
            multiply(s[j], q[i], k[0], k[1]);
            multiply(s[j + 1], q[i], k[2], k[3]);
        }
}

/* acc += P V for 64 positions, P the weights in s. */
template <int D> __device__ static void weigh_page(float (&acc)[D / 8][4], const float (&s)[8][4], uint32_t v_base) {
    const int lane = threadIdx.x % 32, row = lane % 16, half = lane / 16;
#pragma unroll
    for (int i = 0; i < 4; i++) { /* 16 positions */
        const uint32_t a[4] = {pack(s[2 * i][0], s[2 * i][1]), pack(s[2 * i][2], s[2 * i][3]),
                               pack(s[2 * i + 1][0], s[2 * i + 1][1]), pack(s[2 * i + 1][2], s[2 * i + 1][3])};
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t v[4]; /* dimensions 8j..+7, positions 16i and 16i + 8; then dimensions 8j + 8.. */
            load_matrices_turned(v, piece_at<D>(v_base, 16 * i + row, j + half));
            multiply(acc[j], a, v[0], v[1]);
            multiply(acc[j + 1], a, v[2], v[3]);
        }
    }
}

/* Scale, cap and mask scores of a page; then the running softmax of this thread's two rows. */
template <int D>
__device__ static void soften(const attend_tiles_args &p, float (&s)[8][4], float (&acc)[D / 8][4], float (&max)[2],
                              float (&sum)[2], const int (&pos)[2], int first_pos) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int at = first_pos + 8 * j + column + e % 2, mine = pos[e / 2];
            const bool is_seen = at <= mine && (p.window <= 0 || at > mine - p.window);
            s[j][e] = is_seen ? softcap(s[j][e] * p.scale, p.softcap) * 1.4426950408889634f : -INFINITY;
        }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = max[h];
#pragma unroll
        for (int j = 0; j < 8; j++) most = fmaxf(most, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        const float factor = max[h] == -INFINITY ? 0.0f : exp2f(max[h] - most), about = most == -INFINITY ? 0.0f : most;
        max[h] = most;
        sum[h] *= factor;
#pragma unroll
        for (int j = 0; j < D / 8; j++) acc[j][2 * h] *= factor, acc[j][2 * h + 1] *= factor;
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[j][e] = exp2f(s[j][e] - about);
                sum[h] += s[j][e];
            }
    }
}

/* Q of this warp's 16 rows as halves; rows past the tile's end are copies of the last. */
template <int D> __device__ static void fetch_q(const heads_args &h, uint32_t (&q)[D / 16][4], const int (&row)[2], int head) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float *from = h.qkv + (size_t)row[e % 2] * h.stride + head * D + 16 * i + (e / 2) * 8 + column;
            q[i][e] = pack(from[0], from[1]);
        }
}
#endif

template <int D>
__global__ void __launch_bounds__(TILE_THREADS) attend_tiles_kernel(const __grid_constant__ attend_tiles_args p) {
#ifdef HAS_TILES
    extern __shared__ __align__(16) uint8_t pages[];
    constexpr uint32_t page_bytes = 2 * KV_PAGE * D * 2;
    const heads_args &h = p.heads;
    const int tile = gridDim.y - 1 - blockIdx.y; /* the longest first */
    const int head = blockIdx.x, kv_head = head / (h.n_head / h.n_head_kv), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    queue_trigger();
    queue_wait();
    const int first_row = p.tiles[2 * tile], n_rows = p.tiles[2 * tile + 1], table = h.rows.table[first_row];
    const int first = h.rows.pos[first_row], last = first + n_rows - 1;
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(pages);
    int row[2], pos[2];
    for (int i = 0; i < 2; i++) {
        const int at = min(16 * warp + lane / 4 + 8 * i, n_rows - 1);
        row[i] = first_row + at, pos[i] = first + at;
    }
    uint32_t q[D / 16][4];
    fetch_q<D>(h, q, row, head);
    float acc[D / 8][4] = {}, max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    const int begin = p.window > 0 && first >= p.window ? (first - p.window + 1) / KV_PAGE : 0, end = last / KV_PAGE + 1;
    fetch_page<D>(p, base, table, begin, kv_head, last);
    for (int page = begin; page < end; page++) {
        const uint32_t here = base + (page - begin) % 2 * page_bytes;
        if (page + 1 < end) {
            fetch_page<D>(p, base + (page + 1 - begin) % 2 * page_bytes, table, page + 1, kv_head, last);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncthreads();
        float s[8][4];
        score_page<D>(s, q, here);
        soften<D>(p, s, acc, max, sum, pos, page * KV_PAGE);
        weigh_page<D>(acc, s, here + KV_PAGE * D * 2);
        __syncthreads(); /* before this half is filled again */
    }
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
        if (16 * warp + lane / 4 + 8 * i >= n_rows) continue;
        float *to = p.out + (size_t)row[i] * p.out_stride + head * D + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 8; j++) *(float2 *)(to + 8 * j) = make_float2(acc[j][2 * i] / sum[i], acc[j][2 * i + 1] / sum[i]);
    }
#endif
}

extern "C" bool cuda_takes_attend_tiles(int32_t compute, int32_t kv, int32_t d_head) {
    return compute >= 80 && kv == KV_F16 && (d_head == 64 || d_head == 128);
}

extern "C" int32_t cuda_attend_tiles(cuda_queue *q, const attend_tiles_args *p) {
    const dim3 grid((unsigned)p->heads.n_head, (unsigned)p->n_tiles);
    const int d = p->heads.d_head;
    const size_t shared = 2 * 2 * KV_PAGE * (size_t)d * 2;
    const auto kernel = d == 64 ? attend_tiles_kernel<64> : attend_tiles_kernel<128>;
    const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    return e != cudaSuccess ? e : launch(kernel, grid, TILE_THREADS, shared, q, *p);
}
