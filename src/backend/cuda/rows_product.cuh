/* y = W x for 2 to FEW_ROWS activation rows on the tensor cores: the weights are read once, as they lie in their planes. The
 * arithmetic, and the kernel of cards before 9.0; rows_stream.cuh has the one of later cards.
 * Launch    grid (tiles of 128 outputs, splits of the row), 256 threads: a warp has 16 outputs and all activation rows. Chunks of
 *           four units, weights, scales and activations, pass through a ring in shared memory; the first weights are asked for
 *           before the kernel waits.
 * Numerics  m16n8k16: weights as exact integers in halves, activations rounded to halves (11 bits), f32 sums; a scale block's sum
 *           is multiplied by its scale in f32. What a row yields depends neither on the other rows nor on their number.
 * Layout    A lane takes words t and 4 + t of a unit (types.h), t = lane % 4: weights 4t .. 4t + 3 are its part of the first
 *           operation and 16 + 4t .. of the second. So a unit of activations is stored as rows_product.h says, and a lane reads
 *           its eight as 16 bytes.
 * Bound     on an H100, where it is no longer used, 1.4 to 2.4 TB/s of weights: 64 bytes of a row at a time, and a barrier for
 *           every four units. From 64 rows on the tensor cores' latency. */
#ifndef GALEN_BACKEND_CUDA_ROWS_PRODUCT_CUH
#define GALEN_BACKEND_CUDA_ROWS_PRODUCT_CUH

#include "backend/cuda/formats.cuh"
#include "backend/cuda/rows_product.h"

enum { ROWS_THREADS = 256, ROWS_MOST_STAGES = 4 };

#if __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
#define ROWS_ASYNC 1
#endif
#define L2_AHEAD                                                                                                                 \
    ".L2::256B" /* a chunk takes 64 bytes of a plane's row: the second-level cache fetches those of the next three too */

/* 16, 8 or 4 bytes from global to shared memory; zeros when not is_live. */
template <int N> __device__ __forceinline__ void rows_copy(void *to, const void *from, bool is_live) {
#ifdef ROWS_ASYNC
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    const int n = is_live ? N : 0;
    if constexpr (N == 16)
        asm volatile("cp.async.cg.shared.global" L2_AHEAD " [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(n) : "memory");
    else
        asm volatile("cp.async.ca.shared.global" L2_AHEAD " [%0], [%1], %3, %2;" ::"r"(at), "l"(from), "r"(n), "n"(N) : "memory");
#else
    for (int i = 0; i < N / 4; i++) ((uint32_t *)to)[i] = is_live ? ((const uint32_t *)from)[i] : 0;
#endif
}
__device__ __forceinline__ void rows_commit() {
#ifdef ROWS_ASYNC
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/* All but the last n_left groups are there. */
__device__ __forceinline__ void rows_arrive(int n_left) {
#ifdef ROWS_ASYNC
    if (n_left >= 2)
        asm volatile("cp.async.wait_group 2;" ::: "memory");
    else if (n_left == 1)
        asm volatile("cp.async.wait_group 1;" ::: "memory");
    else
        asm volatile("cp.async.wait_group 0;" ::: "memory");
#endif
}

__device__ __forceinline__ void rows_multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

/* How a chunk lies in shared memory: of 128 rows q, h, scales, block scales, then the activations. Rows of q and h are padded so
 * that eight rows' same word lie in different banks. */
template <int T> struct rows_layout {
    static constexpr format_bytes bytes = format_bytes_of(T);
    static constexpr int q_pieces = ROWS_CHUNK * bytes.q / 16, q_row = 16 * q_pieces + 16;
    static constexpr int h_row = bytes.h == 8 ? 48 : bytes.h == 4 ? 16 : 0;
    static constexpr int s_row = ROWS_CHUNK * bytes.s, d_row = bytes.d ? 4 : 0;
    static constexpr int h_at = ROWS_TILE * q_row, s_at = h_at + ROWS_TILE * h_row, d_at = s_at + ROWS_TILE * s_row;
    static constexpr int w_bytes = d_at + ROWS_TILE * d_row;
    static constexpr bool is_k = bytes.d != 0; /* whole blocks of eight units: planes are aligned */
    static constexpr __host__ __device__ int stage(int n_rows) {
        return w_bytes + n_rows * ROWS_CHUNK * UNIT * 2;
    }
};

/* Where a thread's pieces of a tile's weights come from. */
template <int T, int THREADS> struct rows_source {
    typedef rows_layout<T> layout;
    static constexpr int n_q = ROWS_TILE * layout::q_pieces / THREADS > 0 ? ROWS_TILE *layout::q_pieces / THREADS : 1;
    const dev_matrix &m;
    int first;
    const uint8_t *q[n_q];

    __device__ __forceinline__ rows_source(const dev_matrix &m, int first) : m(m), first(first) {
#pragma unroll
        for (int i = 0; i < n_q; i++) q[i] = m.q + row_at((i * THREADS + (int)threadIdx.x) / layout::q_pieces) * m.q_row;
    }
    __device__ __forceinline__ int64_t row_at(int row) const {
        return min(first + row, m.n_out - 1);
    }

    __device__ __forceinline__ void fetch(int c, uint8_t *to) const {
        const int tid = (int)threadIdx.x, j = tid % layout::q_pieces;
        const int per = layout::bytes.q == 8 ? 2 : 1, u = ROWS_CHUNK * c + (T == TENSOR_Q8_0 ? j % ROWS_CHUNK : per * j);
        const uint32_t at = T == TENSOR_Q8_0 ? half_offset(min(u, m.n_units - 1), j / ROWS_CHUNK, m.n_units)
                                             : (uint32_t)(min(u, m.n_units - per) * layout::bytes.q);
#pragma unroll
        for (int i = 0; i < n_q; i++) {
            const int row = (i * THREADS + tid) / layout::q_pieces;
            if (ROWS_TILE * layout::q_pieces >= THREADS || row < ROWS_TILE)
                rows_copy<16>(to + row * layout::q_row + 16 * j, q[i] + at, u < m.n_units);
        }
        if constexpr (layout::h_row != 0) fetch_high(c, to + layout::h_at);
        if (tid < ROWS_TILE) fetch_scales(c, tid, to + layout::s_at + tid * layout::s_row);
        if constexpr (layout::d_row != 0)
            if (tid >= ROWS_TILE && tid < 2 * ROWS_TILE) { /* a whole word around a scale of two bytes */
                const int row = tid - ROWS_TILE, block = min(ROWS_CHUNK * c, m.n_units - 1) / UNITS_SUPER;
                const uint64_t from = (uint64_t)(m.d + row_at(row) * m.d_row + block * layout::bytes.d);
                rows_copy<4>(to + layout::d_at + 4 * row, (const void *)(from & ~(uint64_t)3), true);
            }
    }
    __device__ __forceinline__ void fetch_high(int c, uint8_t *to) const {
        constexpr int size = layout::is_k ? 16 : 4, pieces = ROWS_CHUNK * layout::bytes.h / size, units = size / layout::bytes.h;
#pragma unroll
        for (int i = 0; i < (ROWS_TILE * pieces + THREADS - 1) / THREADS; i++) {
            const int k = i * THREADS + (int)threadIdx.x, row = k / pieces, j = k % pieces, u = ROWS_CHUNK * c + units * j;
            if (ROWS_TILE * pieces < THREADS && row >= ROWS_TILE) break;
            rows_copy<size>(to + row * layout::h_row + size * j,
                            m.h + row_at(row) * m.h_row + min(u, m.n_units - units) * layout::bytes.h, u < m.n_units);
        }
    }
    __device__ __forceinline__ void fetch_scales(int c, int row, uint8_t *to) const {
        const uint8_t *from = m.s + row_at(row) * m.s_row;
        if (layout::is_k || m.n_units % ROWS_CHUNK == 0) { /* aligned */
            rows_copy<layout::s_row>(to, from + c * layout::s_row, true);
            return;
        }
        if constexpr (!layout::is_k)
            for (int i = 0; i < ROWS_CHUNK; i++) {
                const int u = min(ROWS_CHUNK * c + i, m.n_units - 1);
                if constexpr (layout::bytes.s == 2) ((uint16_t *)to)[i] = ((const uint16_t *)from)[u];
                if constexpr (layout::bytes.s == 4) ((uint32_t *)to)[i] = ((const uint32_t *)from)[u];
            }
    }
};

/* The activations of chunk c: pieces of 16 bytes, every second row's shifted by 64 bytes. */
template <int ROWS, int THREADS>
__device__ __forceinline__ void rows_fetch_acts(const rows_args &p, int n_units, int c, uint8_t *to) {
    constexpr int pieces = ROWS * ROWS_CHUNK * 4;
#pragma unroll
    for (int i = 0; i < (pieces + THREADS - 1) / THREADS; i++) {
        const int k = i * THREADS + (int)threadIdx.x, row = k / 16, j = k % 16, u = ROWS_CHUNK * c + j / 4;
        if (pieces < THREADS && k >= pieces) break;
        const bool is_live = row < p.n_rows && u < n_units;
        const uint16_t *from = is_live ? p.x + (((int64_t)(row / 8) * n_units + u) * 8 + row % 8) * UNIT + 8 * (j % 4) : p.x;
        rows_copy<16>(to + row * 256 + 16 * (j ^ ((row & 1) * 4)), from, is_live);
    }
}

/* Scales of a chunk for a lane's two rows, r and r + 8 of the tile; row0 is the tile's first in the matrix. */
template <int T> struct rows_scales {
    uint32_t s[2][ROWS_CHUNK], d[2];
    __device__ __forceinline__ rows_scales(const dev_matrix &m, const uint8_t *stage, int row0, int r, int c) {
        typedef rows_layout<T> layout;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const uint8_t *at = stage + layout::s_at + (r + 8 * k) * layout::s_row;
            if constexpr (layout::s_row == 4) {
                const uint32_t v = *(const uint32_t *)at;
                s[k][0] = v & 255, s[k][1] = v >> 8 & 255, s[k][2] = v >> 16 & 255, s[k][3] = v >> 24;
            } else if constexpr (layout::s_row == 8) {
                const uint2 v = *(const uint2 *)at;
                s[k][0] = v.x & 0xffff, s[k][1] = v.x >> 16, s[k][2] = v.y & 0xffff, s[k][3] = v.y >> 16;
            } else {
                const uint4 v = *(const uint4 *)at;
                s[k][0] = v.x, s[k][1] = v.y, s[k][2] = v.z, s[k][3] = v.w;
            }
            d[k] = 0;
            if constexpr (layout::bytes.d == 4) d[k] = *(const uint32_t *)(stage + layout::d_at + 4 * (r + 8 * k));
            if constexpr (layout::bytes.d == 2) {
                const int row = min(row0 + r + 8 * k, m.n_out - 1), block = min(ROWS_CHUNK * c, m.n_units - 1) / UNITS_SUPER;
                const uint32_t v = *(const uint32_t *)(stage + layout::d_at + 4 * (r + 8 * k));
                d[k] = v >> (16 * ((row * (m.n_units / UNITS_SUPER) + block) & 1)) & 0xffff;
            }
        }
    }
};

/* A lane's eight weights of a unit, as halves: w[0..1] are 4t .. 4t + 3, w[2..3] are 16 + 4t and on. */
template <int T, int UNITS>
__device__ __forceinline__ void rows_weights(const uint8_t *q, const uint8_t *h, int u, int t, uint32_t (&w)[4]) {
    typedef rows_layout<T> layout;
    constexpr format_bytes b = layout::bytes;
    constexpr bool is_signed = T == TENSOR_Q8_0 || format<T>::is_iq4;
    constexpr int offset = T == TENSOR_Q4_0   ? 8
                           : T == TENSOR_Q5_0 ? 16
                           : T == TENSOR_Q6_K ? 32
                           : T == TENSOR_Q3_K ? 4
                           : is_signed        ? 128
                                              : 0;
    uint32_t v[2];
    if constexpr (T == TENSOR_Q8_0) {
        v[0] = *(const uint32_t *)(q + 16 * u + 4 * t), v[1] = *(const uint32_t *)(q + 16 * (UNITS + u) + 4 * t);
    } else if constexpr (b.q == 8) {
        const uint2 both = *(const uint2 *)(q + 8 * u);
        v[0] = both.x >> (2 * t) & 0x03030303u, v[1] = both.y >> (2 * t) & 0x03030303u;
    } else {
        const uint32_t both = *(const uint32_t *)(q + 16 * u + 4 * t);
        v[0] = both & 0x0f0f0f0fu, v[1] = both >> 4 & 0x0f0f0f0fu;
    }
    if constexpr (b.h == 8) {
        const uint2 both = *(const uint2 *)(h + 8 * u);
        v[0] |= (both.x >> (2 * t) & 0x03030303u) << 4, v[1] |= (both.y >> (2 * t) & 0x03030303u) << 4;
    }
    if constexpr (b.h == 4) {
        constexpr int to = T == TENSOR_Q3_K ? 2 : 4;
        const uint32_t bits = *(const uint32_t *)(h + 4 * u) >> t;
        v[0] |= (bits & 0x01010101u) << to, v[1] |= (bits >> 4 & 0x01010101u) << to;
    }
    const __half2 less = __half2half2(__ushort_as_half(0x6400 + offset)); /* 1024 + offset */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if constexpr (format<T>::is_iq4) v[i] = (uint32_t)format<T>::iq4_word(v[i]);
        if constexpr (is_signed) v[i] ^= 0x80808080u;
        const uint32_t a = __byte_perm(v[i], 0x64646464u, 0x4140), b2 = __byte_perm(v[i], 0x64646464u, 0x4342);
        const __half2 x = __hsub2(*(const __half2 *)&a, less), y = __hsub2(*(const __half2 *)&b2, less);
        w[2 * i] = *(const uint32_t *)&x, w[2 * i + 1] = *(const uint32_t *)&y;
    }
}

/* What a unit's sums are multiplied by, and what the sums of its activations are: w = scale q - least. */
template <int T> struct rows_factor {
    static constexpr format_bytes b = format_bytes_of(T);
    static constexpr bool is_halved = T == TENSOR_Q6_K || T == TENSOR_Q3_K || T == TENSOR_Q2_K; /* a scale for 16 */
    static constexpr bool has_least =
        T == TENSOR_Q4_1 || T == TENSOR_Q5_1 || T == TENSOR_Q2_K || T == TENSOR_Q4_K || T == TENSOR_Q5_K;
    float scale[2], least[2];
    __device__ __forceinline__ void set(uint32_t s, uint32_t d) {
        const float d0 = half_bits((uint16_t)(b.d ? d : s)), d1 = half_bits((uint16_t)((b.d ? d : s) >> 16));
        if constexpr (T == TENSOR_Q2_K) {
            scale[0] = d0 * (float)(s & 15), scale[1] = d0 * (float)(s >> 8 & 15);
            least[0] = d1 * (float)(s >> 4 & 15), least[1] = d1 * (float)(s >> 12 & 15);
        } else if constexpr (is_halved) {
            scale[0] = d0 * (float)(int8_t)s, scale[1] = d0 * (float)(int8_t)(s >> 8);
        } else if constexpr (T == TENSOR_Q4_K || T == TENSOR_Q5_K) {
            scale[0] = d0 * (float)(s & 255), least[0] = d1 * (float)(s >> 8 & 255);
        } else if constexpr (T == TENSOR_Q4_1 || T == TENSOR_Q5_1) {
            scale[0] = d0, least[0] = -d1;
        } else if constexpr (T == TENSOR_IQ4_XS) {
            scale[0] = d0 * (float)(int8_t)s;
        } else {
            scale[0] = d0;
        }
    }
};

__device__ __forceinline__ void rows_add(float (&acc)[4], const float (&sum)[4], float f0, float f1) {
    acc[0] = fmaf(f0, sum[0], acc[0]), acc[1] = fmaf(f0, sum[1], acc[1]);
    acc[2] = fmaf(f1, sum[2], acc[2]), acc[3] = fmaf(f1, sum[3], acc[3]);
}

/* A unit of 16 weight rows with eight activation rows: w and f of rows g and g + 8, x a lane's eight halves. */
template <int T>
__device__ __forceinline__ void rows_unit(const uint32_t (&w)[2][4], const rows_factor<T> (&f)[2], const uint4 &x,
                                          float (&acc)[4]) {
    typedef rows_factor<T> factor;
    constexpr uint32_t ones = 0x3c003c00u;
    const uint32_t a0[4] = {w[0][0], w[1][0], w[0][1], w[1][1]}, a1[4] = {w[0][2], w[1][2], w[0][3], w[1][3]};
    const uint32_t one[4] = {ones, ones, ones, ones};
    float sum[4] = {};
    rows_multiply(sum, a0, x.x, x.y);
    if constexpr (factor::is_halved) {
        rows_add(acc, sum, f[0].scale[0], f[1].scale[0]);
        sum[0] = sum[1] = sum[2] = sum[3] = 0;
        rows_multiply(sum, a1, x.z, x.w);
        rows_add(acc, sum, f[0].scale[1], f[1].scale[1]);
    } else {
        rows_multiply(sum, a1, x.z, x.w);
        rows_add(acc, sum, f[0].scale[0], f[1].scale[0]);
    }
    if constexpr (factor::has_least) {
        float all[4] = {};
        rows_multiply(all, one, x.x, x.y);
        if constexpr (factor::is_halved) {
            rows_add(acc, all, -f[0].least[0], -f[1].least[0]);
            all[0] = all[1] = all[2] = all[3] = 0;
            rows_multiply(all, one, x.z, x.w);
            rows_add(acc, all, -f[0].least[1], -f[1].least[1]);
        } else {
            rows_multiply(all, one, x.z, x.w);
            rows_add(acc, all, -f[0].least[0], -f[1].least[0]);
        }
    }
}

template <int T, int NT>
__device__ __forceinline__ void rows_meet(const uint8_t *stage, const rows_scales<T> &scales, int row, float (&acc)[NT][4]) {
    typedef rows_layout<T> layout;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const uint8_t *q = stage + row * layout::q_row, *h = stage + layout::h_at + row * layout::h_row;
    const uint8_t *x = stage + layout::w_bytes + g * 256 + 16 * t;
#pragma unroll
    for (int u = 0; u < ROWS_CHUNK; u++) {
        uint32_t w[2][4];
        rows_factor<T> f[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            rows_weights<T, ROWS_CHUNK>(q + 8 * r * layout::q_row, h + 8 * r * layout::h_row, u, t, w[r]);
            f[r].set(scales.s[r][u], scales.d[r]);
        }
        const uint8_t *xu = x + ((64 * u) ^ ((g & 1) * 64));
#pragma unroll
        for (int n = 0; n < NT; n++) rows_unit<T>(w, f, *(const uint4 *)(xu + n * 8 * 256), acc[n]);
    }
}

/* NT groups of eight activation rows. */
template <int T, int NT>
__global__ void __launch_bounds__(ROWS_THREADS, NT <= 4 ? 2 : 1) rows_kernel(const __grid_constant__ rows_args p) {
#if __CUDA_ARCH__ < 900 /* later cards: rows_stream.cuh */
    extern __shared__ __align__(16) uint8_t ring[];
    typedef rows_layout<T> layout;
    constexpr int threads = ROWS_THREADS, rows = 8 * NT, stage_bytes = layout::stage(rows);
    int job = 0;
    while (job + 1 < p.n_jobs && (int)blockIdx.x >= p.first_tile[job + 1]) job++;
    const dev_matrix &m = p.w[job];
    const int first = ((int)blockIdx.x - p.first_tile[job]) * ROWS_TILE, n_units = m.n_units, n_ahead = p.n_stages - 1;
    const int n_chunks = (n_units + ROWS_CHUNK - 1) / ROWS_CHUNK, n_splits = p.n_splits, split = blockIdx.y;
    const int begin = (int)((int64_t)n_chunks * split / n_splits), end = (int)((int64_t)n_chunks * (split + 1) / n_splits);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int row = 16 * warp + g; /* of this lane in the tile */
    const rows_source<T, threads> source(m, first);
    queue_trigger();
    for (int s = 0; s < n_ahead; s++) {
        if (begin + s < end) source.fetch(begin + s, ring + s * stage_bytes);
        rows_commit();
    }
    queue_wait();
    for (int s = 0; s < n_ahead; s++) {
        if (begin + s < end) rows_fetch_acts<rows, threads>(p, n_units, begin + s, ring + s * stage_bytes + layout::w_bytes);
        rows_commit();
    }
    float acc[NT][4] = {};
    int slot = 0, free_slot = n_ahead;
    for (int c = begin; c < end; c++) {
        rows_arrive(n_ahead - 1);
        __syncthreads(); /* all have arrived here, and all are done with the slot to be filled */
        const int ahead = c + n_ahead;
        if (ahead < end) {
            source.fetch(ahead, ring + free_slot * stage_bytes);
            rows_fetch_acts<rows, threads>(p, n_units, ahead, ring + free_slot * stage_bytes + layout::w_bytes);
        }
        rows_commit();
        const uint8_t *stage = ring + slot * stage_bytes;
        rows_meet<T, NT>(stage, rows_scales<T>(m, stage, first, row, c), row, acc);
        free_slot = slot;
        slot = slot == n_ahead ? 0 : slot + 1;
    }
    rows_arrive(0);
    float *y = p.y + split * p.part + p.at[job];
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int r = 8 * n + 2 * t + (e & 1), o = first + row + 8 * (e >> 1);
            if (r < p.n_rows && o < m.n_out) y[(int64_t)r * p.y_stride + o] = acc[n][e];
        }
#endif
}

/* As deep a ring as lets two blocks of few rows share a multiprocessor. */
static int rows_stages(const cuda_queue *q, int stage, bool is_shared) {
    const int most = is_shared && 2 * stage <= q->shared_bytes / 2 - 1024 ? q->shared_bytes / 2 - 1024 : q->shared_bytes;
    return most / stage < ROWS_MOST_STAGES ? most / stage : ROWS_MOST_STAGES;
}

template <int T, int NT> static cudaError_t rows_launch_as(cuda_queue *q, rows_args *p) {
    constexpr int stage = rows_layout<T>::stage(8 * NT);
    p->n_stages = rows_stages(q, stage, NT <= 4);
    const int shared = p->n_stages * stage;
    const cudaError_t e = cudaFuncSetAttribute(rows_kernel<T, NT>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (e != cudaSuccess) return e;
    const dim3 grid((unsigned)p->first_tile[p->n_jobs], (unsigned)p->n_splits);
    return launch(rows_kernel<T, NT>, grid, ROWS_THREADS, (size_t)shared, q, *p);
}

/* As many rows in a pass as the ring leaves room for. */
template <int T> static int32_t rows_launch(cuda_queue *q, const rows_args *all) {
    typedef rows_layout<T> layout;
    const int most = q->shared_bytes >= 2 * layout::stage(128)  ? 128
                     : q->shared_bytes >= 2 * layout::stage(64) ? 64
                     : q->shared_bytes >= 2 * layout::stage(32) ? 32
                                                                : 8;
    cudaError_t e = cudaSuccess;
    for (int32_t r = 0; e == cudaSuccess && r < all->n_rows; r += most) {
        rows_args p = *all;
        p.n_rows = all->n_rows - r < most ? all->n_rows - r : most;
        p.x += (int64_t)r * p.w[0].n_units * UNIT; /* eights of rows */
        p.y += (int64_t)r * p.y_stride;
        e = p.n_rows <= 8    ? rows_launch_as<T, 1>(q, &p)
            : p.n_rows <= 16 ? rows_launch_as<T, 2>(q, &p)
            : p.n_rows <= 32 ? rows_launch_as<T, 4>(q, &p)
            : p.n_rows <= 64 ? rows_launch_as<T, 8>(q, &p)
                             : rows_launch_as<T, 16>(q, &p);
    }
    return e;
}

#endif
