/* y = W x for 2 to FEW_ROWS activation rows on cards of 9.0 and later: what rows_product.cuh computes, by streams of their own.
 * Launch    grid (blocks of a split, splits of the row), up to STREAM_WARPS warps and one more. A warp has 16 outputs at a time
 *           and its own ring of weights in shared memory, which it asks for by cp.async, in runs of 256 bytes of a row (with runs
 *           of 128 eight rows take 5 to 40 % longer). The last warp brings the activations, which all share, by bulk
 *           copies; barriers in shared memory say when they are there and when their place is free. So no warp waits for another
 *           before that one is STREAM_SLOTS pieces behind. The first weights are asked for before the kernel waits.
 * Order     a split is whole grains of 16 units; its units are met in order. Neither depends on the rows.
 * Numerics  as rows_product.cuh; activations lie there as rows_product.h says.
 * Bound     memory: the bytes of W once, on an H100 at 2.3 to 2.7 TB/s for 8 rows, 1.7 to 2.4 for 32. 128 rows: 0.8 to 1.0 TB/s,
 *           bound by reading activations from shared memory for 16 outputs at a time (more warps do not help). */
#ifndef GALEN_BACKEND_CUDA_ROWS_STREAM_CUH
#define GALEN_BACKEND_CUDA_ROWS_STREAM_CUH

#include "backend/cuda/rows_product.cuh"

enum { STREAM_STAGES = 2, STREAM_SLOTS = 2, STREAM_UNIT_ACTS = 8 * UNIT * 2 /* bytes of a unit of eight rows' activations */ };

/* ---------------------------------------------------------------- barriers in shared memory */

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void barrier_init(uint64_t *b, int n) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(n) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t *b, int n_bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(n_bytes) : "memory");
#endif
}
__device__ __forceinline__ void barrier_wait(uint64_t *b, int parity) {
#if __CUDA_ARCH__ >= 900
    uint32_t is_done;
    do {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(is_done)
                     : "r"(shared_address(b)), "r"(parity)
                     : "memory");
    } while (!is_done);
#endif
}
/* n_bytes (a multiple of 16) to shared memory; the barrier counts them. */
__device__ __forceinline__ void bulk_copy(void *to, const void *from, int n_bytes, uint64_t *b) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
        "l"(from), "r"(n_bytes), "r"(shared_address(b))
        : "memory");
#endif
}

/* ---------------------------------------------------------------- weights */

/* A stage of a warp's ring: 16 rows of UNITS units, q, h, scales, block scales. Rows of q and h are padded so that eight rows'
 * same word lie in different banks. */
template <int T> struct stream_layout {
    static constexpr format_bytes bytes = format_bytes_of(T);
    static constexpr int units = bytes.q == 8 ? 32 : 16;
    static constexpr int q_row = units * bytes.q + 16, h_row = bytes.h ? units * bytes.h + 16 : 0, s_row = units * bytes.s;
    static constexpr int d_row = bytes.d ? 16 : 0;
    static constexpr int h_at = STREAM_TILE * q_row, s_at = h_at + STREAM_TILE * h_row, d_at = s_at + STREAM_TILE * s_row;
    static constexpr int size = d_at + STREAM_TILE * d_row;
    static constexpr bool is_k = bytes.d != 0;
};

/* copy(row, piece) for COUNT pieces of each of 16 rows, spread over the lanes of a warp. */
template <int COUNT, typename COPY> __device__ __forceinline__ void stream_spread(const COPY &copy) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < STREAM_TILE * COUNT / 32; i++) {
        if constexpr (COUNT >= 32)
            copy(i / (COUNT / 32), i % (COUNT / 32) * 32 + lane);
        else
            copy(i * (32 / COUNT) + lane / COUNT, lane % COUNT);
    }
}

/* Where 16 rows of a matrix come from. */
template <int T> struct stream_source {
    typedef stream_layout<T> layout;
    static constexpr format_bytes b = layout::bytes;
    const dev_matrix &m;
    int first;

    __device__ __forceinline__ int64_t row_at(int row) const {
        return min(first + row, m.n_out - 1);
    }
    /* Units [u0, end) of the row, as many as a stage has. */
    __device__ __forceinline__ void fetch(int u0, int end, uint8_t *to) const {
        if constexpr (T == TENSOR_Q8_0) { /* two runs, the halves */
            stream_spread<2 * layout::units>([&](int row, int piece) {
                const int u = u0 + piece % layout::units;
                const uint32_t at = half_offset(min(u, m.n_units - 1), piece / layout::units, m.n_units);
                rows_copy<16>(to + row * layout::q_row + 16 * piece, m.q + row_at(row) * m.q_row + at, u < end);
            });
        } else {
            constexpr int per = 16 / b.q; /* units of a piece */
            stream_spread<layout::units / per>([&](int row, int piece) {
                const int u = u0 + per * piece;
                rows_copy<16>(to + row * layout::q_row + 16 * piece, m.q + row_at(row) * m.q_row + min(u, end - per) * b.q,
                              u < end);
            });
        }
        if constexpr (b.h != 0) {
            constexpr int piece_bytes = layout::is_k ? 16 : 4, per = piece_bytes / b.h;
            stream_spread<layout::units / per>([&](int row, int piece) {
                const int u = u0 + per * piece;
                rows_copy<piece_bytes>(to + layout::h_at + row * layout::h_row + piece_bytes * piece,
                                       m.h + row_at(row) * m.h_row + min(u, end - per) * b.h, u < end);
            });
        }
        fetch_scales(u0, end, to + layout::s_at);
        if constexpr (b.d != 0) fetch_blocks(u0, end, to + layout::d_at);
    }
    __device__ __forceinline__ void fetch_scales(int u0, int end, uint8_t *to) const {
        constexpr int piece_bytes = b.s == 1 ? 8 : 16, per = piece_bytes / b.s;
        if (layout::is_k || m.n_units % per == 0) { /* aligned */
            stream_spread<layout::units / per>([&](int row, int piece) {
                const int u = u0 + per * piece;
                rows_copy<piece_bytes>(to + row * layout::s_row + piece_bytes * piece,
                                       m.s + row_at(row) * m.s_row + min(u, end - per) * b.s, u < end);
            });
            return;
        }
        if constexpr (!layout::is_k)
            for (int i = threadIdx.x % 32; i < STREAM_TILE * layout::units; i += 32) {
                const int row = i / layout::units, k = i % layout::units;
                const uint8_t *from = m.s + row_at(row) * m.s_row;
                const int u = min(u0 + k, end - 1);
                if constexpr (b.s == 2) ((uint16_t *)(to + row * layout::s_row))[k] = ((const uint16_t *)from)[u];
                if constexpr (b.s == 4) ((uint32_t *)(to + row * layout::s_row))[k] = ((const uint32_t *)from)[u];
            }
    }
    /* The block scales of up to four blocks: words, of scales of two bytes those around them. */
    __device__ __forceinline__ void fetch_blocks(int u0, int end, uint8_t *to) const {
        stream_spread<4>([&](int row, int word) {
            const int block = u0 / UNITS_SUPER, n = (end - u0 + UNITS_SUPER - 1) / UNITS_SUPER;
            const uint64_t from = (uint64_t)(m.d + row_at(row) * m.d_row + block * b.d);
            const uint64_t first_word = from & ~(uint64_t)3, last = (from + n * b.d - 1) & ~(uint64_t)3;
            const uint64_t at = first_word + 4 * word;
            rows_copy<4>(to + 16 * row + 4 * word, (const void *)(at < last ? at : last), at <= last);
        });
    }
};

/* Scales of N units from unit u of a stage for a lane's two rows, r and r + 8 of the tile. u0: the stage's first in the row. */
template <int T, int N> struct stream_scales {
    uint32_t s[2][N], d[2];
    __device__ __forceinline__ stream_scales(const stream_source<T> &from, const uint8_t *stage, int u0, int u) {
        typedef stream_layout<T> layout;
        constexpr int bytes = layout::bytes.s;
        const int r = threadIdx.x % 32 / 4;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const uint8_t *at = stage + layout::s_at + (r + 8 * k) * layout::s_row + u * bytes;
            uint32_t v[(N * bytes + 3) / 4];
            if constexpr (N * bytes == 16)
                *(uint4 *)v = *(const uint4 *)at;
            else if constexpr (N * bytes == 8)
                *(uint2 *)v = *(const uint2 *)at;
            else if constexpr (N * bytes == 4)
                v[0] = *(const uint32_t *)at;
            else if constexpr (N * bytes == 2)
                v[0] = *(const uint16_t *)at;
            else
                v[0] = *at;
#pragma unroll
            for (int j = 0; j < N; j++)
                s[k][j] = bytes == 4 ? v[j] : v[j * bytes / 4] >> (8 * (j * bytes % 4)) & (bytes == 2 ? 0xffff : 0xff);
            d[k] = 0;
            const uint8_t *block = stage + layout::d_at + 16 * (r + 8 * k);
            if constexpr (layout::bytes.d == 4) d[k] = *(const uint32_t *)(block + 4 * (u / UNITS_SUPER));
            if constexpr (layout::bytes.d == 2) {
                const int n_blocks = from.m.n_units / UNITS_SUPER;
                const int odd = ((int)from.row_at(r + 8 * k) * n_blocks + u0 / UNITS_SUPER) & 1;
                d[k] = *(const uint16_t *)(block + 2 * (odd + u / UNITS_SUPER));
            }
        }
    }
};

/* ---------------------------------------------------------------- products */

/* N units from unit u of a stage with activations x of 8 NT rows: x points to the lane's part of the first unit of the first
 * eight rows; from a unit to the next are STREAM_UNIT_ACTS bytes, from eight rows to the next x_step. */
template <int T, int NT, int N>
__device__ __forceinline__ void stream_meet(const uint8_t *stage, const stream_scales<T, N> &scales, int u, const uint8_t *x,
                                            int x_step, float (&acc)[NT][4]) {
    typedef stream_layout<T> layout;
    typedef rows_factor<T> factor;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const uint8_t *q = stage + g * layout::q_row + u * (T == TENSOR_Q8_0 ? 16 : layout::bytes.q);
    const uint8_t *h = stage + layout::h_at + g * layout::h_row + u * layout::bytes.h;
#pragma unroll
    for (int j = 0; j < N; j++) {
        uint32_t w[2][4];
        factor f[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            rows_weights<T, layout::units>(q + 8 * r * layout::q_row, h + 8 * r * layout::h_row, j, t, w[r]);
            f[r].set(scales.s[r][j], scales.d[r]);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) rows_unit<T>(w, f, *(const uint4 *)(x + n * x_step + j * STREAM_UNIT_ACTS), acc[n]);
    }
}

/* Barriers of a block's activations. */
struct stream_gates {
    uint64_t full[STREAM_SLOTS], empty[STREAM_SLOTS];
};

/* Where a block is: units [begin, end) of its split, tiles [first_tile, first_tile + n_tiles), n_rings of them in a pass. */
struct stream_place {
    int begin, end, first_tile, n_tiles, n_rings, n_passes;
};
__device__ __forceinline__ stream_place stream_place_of(const rows_args &p) {
    const int n_units = p.w[0].n_units, n_grains = (n_units + ROWS_GRAIN - 1) / ROWS_GRAIN, split = blockIdx.y;
    stream_place c;
    c.begin = ROWS_GRAIN * (n_grains * split / p.n_splits);
    c.end = min(ROWS_GRAIN * (n_grains * (split + 1) / p.n_splits), n_units);
    c.first_tile = blockIdx.x * p.block_tiles;
    c.n_tiles = min(p.block_tiles, p.first_tile[p.n_jobs] - c.first_tile);
    c.n_rings = blockDim.x / 32 - 1;
    c.n_passes = (c.n_tiles + c.n_rings - 1) / c.n_rings;
    return c;
}

/* Units of activations that are brought at once, of N times eight rows. */
template <int T, int N> constexpr __host__ __device__ int stream_act_units() {
    const int most = N <= 4 ? 16 : N == 8 ? 8 : 4;
    return most < stream_layout<T>::units ? most : stream_layout<T>::units;
}

/* The activations of a split, of up to N times eight rows, UNITS at a time, for every pass. One thread. */
template <int N, int UNITS>
__device__ static void stream_bring(const rows_args &p, const stream_place &c, uint8_t *acts, stream_gates &gates) {
    const int n = (p.n_rows + 7) / 8, n_units = p.w[0].n_units;
    int slot = 0, parity = 1;
    for (int pass = 0; pass < c.n_passes; pass++)
        for (int u = c.begin; u < c.end; u += UNITS) {
            const int bytes = min(UNITS, c.end - u) * STREAM_UNIT_ACTS;
            uint8_t *to = acts + slot * N * UNITS * STREAM_UNIT_ACTS;
            barrier_wait(&gates.empty[slot], parity);
            barrier_expect(&gates.full[slot], n * bytes);
            for (int i = 0; i < n; i++)
                bulk_copy(to + i * UNITS * STREAM_UNIT_ACTS, (const uint8_t *)p.x + ((int64_t)i * n_units + u) * STREAM_UNIT_ACTS,
                          bytes, &gates.full[slot]);
            if (++slot == STREAM_SLOTS) slot = 0, parity ^= 1;
        }
}

__device__ __forceinline__ int stream_job(const rows_args &p, int tile) {
    int job = 0;
    while (job + 1 < p.n_jobs && tile >= p.first_tile[job + 1]) job++;
    return job;
}

/* A warp's ring of weights. */
template <int T> struct stream_ring {
    const rows_args &p;
    const stream_place &c;
    uint8_t *base;
    int tile, unit, slot, used; /* what is to be asked for, and where it goes; where what is met next lies */

    __device__ __forceinline__ stream_ring(const rows_args &p, const stream_place &c, uint8_t *rings, int warp)
        : p(p), c(c), base(rings + warp * STREAM_STAGES * stream_layout<T>::size), tile(warp), unit(c.begin), slot(0), used(0) {}
    __device__ __forceinline__ stream_source<T> source(int at) const {
        const int job = stream_job(p, c.first_tile + at);
        return {p.w[job], STREAM_TILE * (c.first_tile + at - p.first_tile[job])};
    }
    __device__ __forceinline__ void ask() {
        if (tile < c.n_tiles && unit < c.end) source(tile).fetch(unit, c.end, base + slot * stream_layout<T>::size);
        rows_commit();
        slot = (slot + 1) % STREAM_STAGES;
        unit += stream_layout<T>::units;
        if (unit >= c.end) unit = c.begin, tile += c.n_rings;
    }
    /* The next stage; and the one after the last that is on its way is asked for. */
    __device__ __forceinline__ const uint8_t *next() {
        rows_arrive(STREAM_STAGES - 2);
        __syncwarp(); /* all lanes' copies have arrived, and all lanes are done with the place to be filled */
        ask();
        const uint8_t *stage = base + used * stream_layout<T>::size;
        used = (used + 1) % STREAM_STAGES;
        return stage;
    }
};

/* A tile's sums into its split's part of y. */
template <int NT> __device__ __forceinline__ void stream_store(const rows_args &p, int tile, const float (&acc)[NT][4]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, job = stream_job(p, tile);
    const int first = STREAM_TILE * (tile - p.first_tile[job]);
    float *y = p.y + (int64_t)blockIdx.y * p.part + p.at[job];
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int r = 8 * n + 2 * t + (e & 1), o = first + g + 8 * (e >> 1);
            if (r < p.n_rows && o < p.w[job].n_out) y[(int64_t)r * p.y_stride + o] = acc[n][e];
        }
}

/* Activations as a warp meets them. */
struct stream_acts {
    const uint8_t *base; /* this lane's in the first slot */
    int slot, parity;
};

/* A stage with its activations, UNITS of them at a time; is_live: the warp has a tile. */
template <int T, int NT>
__device__ __forceinline__ void stream_stage(const stream_source<T> &source, const uint8_t *stage, int u0, int end, bool is_live,
                                             stream_acts &x, stream_gates &gates, float (&acc)[NT][4]) {
    constexpr int step = NT == 16 ? 1 : NT >= 4 ? 2 : 4; /* units whose work is mixed: as many as registers hold */
    constexpr int act_units = stream_act_units<T, NT>(), eight = act_units * STREAM_UNIT_ACTS;
#pragma unroll 1
    for (int a = 0; a < stream_layout<T>::units && u0 + a < end; a += act_units) {
        const int n = min(act_units, end - u0 - a);
        const uint8_t *from = x.base + x.slot * (NT * eight);
        barrier_wait(&gates.full[x.slot], x.parity);
        if (is_live) {
            int u = 0;
#pragma unroll 1
            for (; u + step <= n; u += step)
                stream_meet<T, NT, step>(stage, stream_scales<T, step>(source, stage, u0, a + u), a + u,
                                         from + u * STREAM_UNIT_ACTS, eight, acc);
            if constexpr (!stream_layout<T>::is_k)
#pragma unroll 1
                for (; u < n; u++)
                    stream_meet<T, NT, 1>(stage, stream_scales<T, 1>(source, stage, u0, a + u), a + u,
                                          from + u * STREAM_UNIT_ACTS, eight, acc);
        }
        barrier_arrive(&gates.empty[x.slot]); /* each lane for what it has read */
        if (++x.slot == STREAM_SLOTS) x.slot = 0, x.parity ^= 1;
    }
}

/* Up to NT times eight activation rows. Dynamic shared memory: slots of activations, then rings. */
template <int T, int NT>
__global__ void __launch_bounds__(32 * (STREAM_WARPS + 1), NT <= 4 ? 2 : 1) stream_kernel(const __grid_constant__ rows_args p) {
#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
    extern __shared__ __align__(128) uint8_t dynamic[];
    __shared__ stream_gates gates;
    constexpr int act_units = stream_act_units<T, NT>(), eight = act_units * STREAM_UNIT_ACTS;
    const int n_warps = blockDim.x / 32 - 1, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const stream_place c = stream_place_of(p);
    if (threadIdx.x < STREAM_SLOTS) {
        barrier_init(&gates.full[threadIdx.x], 1);
        barrier_init(&gates.empty[threadIdx.x], 32 * n_warps);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    queue_trigger();
    if (warp == n_warps) {
        __syncthreads();
        queue_wait();
        if (lane == 0) stream_bring<NT, act_units>(p, c, dynamic, gates);
        return;
    }
    stream_ring<T> ring(p, c, dynamic + STREAM_SLOTS * NT * eight, warp);
    for (int i = 0; i < STREAM_STAGES - 1; i++) ring.ask();
    __syncthreads(); /* the barriers are there */
    queue_wait();
    stream_acts x = {dynamic + 16 * lane, 0, 0};
    for (int at = warp; at - warp < c.n_passes * c.n_rings; at += c.n_rings) {
        const bool is_live = at < c.n_tiles;
        const stream_source<T> source = ring.source(min(at, c.n_tiles - 1));
        float acc[NT][4] = {};
        for (int u0 = c.begin; u0 < c.end; u0 += stream_layout<T>::units) {
            const uint8_t *stage = ring.next();
            stream_stage<T, NT>(source, stage, u0, c.end, is_live, x, gates, acc);
        }
        if (is_live) stream_store<NT>(p, c.first_tile + at, acc);
    }
    rows_arrive(0);
#endif
}

/* ---------------------------------------------------------------- launch */

/* Tiles of a block so that all multiprocessors have about as many, and rings so that all passes have as many. */
template <int T, int NT> static cudaError_t stream_launch_as(cuda_queue *q, rows_args *p) {
    constexpr int acts = STREAM_SLOTS * NT * stream_act_units<T, NT>() * STREAM_UNIT_ACTS;
    constexpr int ring = STREAM_STAGES * stream_layout<T>::size;
    const int n_tiles = p->first_tile[p->n_jobs], per_split = q->n_sm / p->n_splits > 0 ? q->n_sm / p->n_splits : 1;
    p->block_tiles = (n_tiles + per_split - 1) / per_split;
    const int room = (q->shared_bytes - acts - (int)sizeof(stream_gates)) / ring,
              most = room < STREAM_WARPS ? room : STREAM_WARPS;
    if (most < 1) return cudaErrorInvalidConfiguration;
    const int n_passes = (p->block_tiles + most - 1) / most, n_rings = (p->block_tiles + n_passes - 1) / n_passes;
    const int shared = acts + n_rings * ring;
    const cudaError_t e = cudaFuncSetAttribute(stream_kernel<T, NT>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (e != cudaSuccess) return e;
    const dim3 grid((unsigned)((n_tiles + p->block_tiles - 1) / p->block_tiles), (unsigned)p->n_splits);
    return launch(stream_kernel<T, NT>, grid, 32 * (n_rings + 1), (size_t)shared, q, *p);
}

template <int T> static int32_t stream_launch(cuda_queue *q, const rows_args *all) {
    rows_args p = *all;
    return p.n_rows <= 8    ? stream_launch_as<T, 1>(q, &p)
           : p.n_rows <= 16 ? stream_launch_as<T, 2>(q, &p)
           : p.n_rows <= 32 ? stream_launch_as<T, 4>(q, &p)
           : p.n_rows <= 64 ? stream_launch_as<T, 8>(q, &p)
                            : stream_launch_as<T, 16>(q, &p);
}

#endif
