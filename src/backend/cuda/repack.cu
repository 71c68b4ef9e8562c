/* Raw blocks to planes.  raw: n_rows rows of raw_row bytes, 2-byte aligned, in device memory; they become rows
 * [first, first + n_rows) of m.
 * Launch    a thread a unit.   Bound  memory; once per weight. */
#include "backend/cuda/formats.cuh"

template <int T> __device__ static void repack_scales(const typename raw<T>::block *b, int s, uint8_t *out_s, uint8_t *out_d) {
    uint16_t *s16 = (uint16_t *)out_s, *d16 = (uint16_t *)out_d;
    if constexpr (T == TENSOR_Q2_K) {
        s16[0] = b->scales[2 * s] | b->scales[2 * s + 1] << 8;
    } else if constexpr (T == TENSOR_Q3_K) {
        s16[0] = (uint8_t)blocks_q3_k_scale(b->scales, 2 * s) | (uint8_t)blocks_q3_k_scale(b->scales, 2 * s + 1) << 8;
    } else if constexpr (T == TENSOR_Q4_K || T == TENSOR_Q5_K) {
        uint8_t sc, m;
        blocks_k4_scale(b->scales, s, &sc, &m);
        s16[0] = sc | m << 8;
    } else if constexpr (T == TENSOR_Q6_K) {
        s16[0] = (uint8_t)b->scales[2 * s] | (uint8_t)b->scales[2 * s + 1] << 8;
    } else if constexpr (T == TENSOR_IQ4_XS) {
        out_s[0] = (uint8_t)blocks_iq4_xs_scale(b, s);
    } else {
        s16[0] = b->d;
        if constexpr (T == TENSOR_Q4_1 || T == TENSOR_Q5_1) s16[1] = b->m;
    }
    if (format_bytes_of(T).d && s == 0) {
        d16[0] = b->d;
        if constexpr (T == TENSOR_Q2_K || T == TENSOR_Q4_K || T == TENSOR_Q5_K) d16[1] = b->dmin;
    }
}

template <int T> __device__ static void repack_quants(const typename raw<T>::block *b, int s, uint8_t *q, uint8_t *h) {
    constexpr format_bytes bytes = format_bytes_of(T);
    uint32_t qw[4] = {}, hw[2] = {};
#pragma unroll
    for (int i = 0; i < UNIT; i++) {
        const uint32_t v = (uint32_t)raw<T>::quant(b, 32 * s + i);
        const int k = i / 4, byte = 8 * (i % 4);
        if (bytes.q == 8) {
            qw[k / 4] |= (v & 3) << (byte + 2 * (k % 4));
            hw[0] |= (v >> 2 & 1) << (byte + k);
        } else {
            qw[k % 4] |= (v & 15) << (byte + (k < 4 ? 0 : 4));
            if (bytes.h == 4) hw[0] |= (v >> 4 & 1) << (byte + k);
            if (bytes.h == 8) hw[k / 4] |= (v >> 4 & 3) << (byte + 2 * (k % 4));
        }
    }
    for (int i = 0; i < bytes.q / 4; i++) ((uint32_t *)q)[i] = qw[i];
    for (int i = 0; i < bytes.h / 4; i++) ((uint32_t *)h)[i] = hw[i];
}

template <int T>
__global__ void repack_kernel(const __grid_constant__ dev_matrix m, const uint8_t *data, int64_t raw_row, int64_t first,
                              int n_rows) {
    typedef typename raw<T>::block block;
    constexpr format_bytes bytes = format_bytes_of(T);
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)n_rows * m.n_units) return;
    const int u = (int)(i % m.n_units);
    const int64_t r = i / m.n_units, row = first + r;
    uint8_t *q = (uint8_t *)m.q + row * m.q_row;
    if constexpr (is_float_type(T)) {
        const block *from = (const block *)(data + r * raw_row);
        for (int j = 0; j < UNIT_FLOAT; j++) {
            const int at = UNIT_FLOAT * u + j;
            if (T == TENSOR_F32)
                ((float *)q)[at] = at < m.n_in ? raw<T>::value(from + at, 0) : 0.0f;
            else
                ((uint16_t *)q)[at] = at < m.n_in ? ((const uint16_t *)from)[at] : 0;
        }
    } else {
        constexpr int per_block = bytes.d ? UNITS_SUPER : 1;
        const block *b = (const block *)(data + r * raw_row) + u / per_block;
        repack_scales<T>(b, u % per_block, (uint8_t *)m.s + row * m.s_row + bytes.s * u,
                         (uint8_t *)m.d + row * m.d_row + bytes.d * (u / UNITS_SUPER));
        if constexpr (T == TENSOR_Q8_0) {
            for (int h = 0; h < 2; h++) {
                uint16_t *to = (uint16_t *)(q + half_offset(u, h, m.n_units));
                for (int j = 0; j < 8; j++) to[j] = ((const uint16_t *)(b->qs + 16 * h))[j];
            }
        } else {
            repack_quants<T>(b, u % per_block, q + bytes.q * u, (uint8_t *)m.h + row * m.h_row + bytes.h * u);
        }
    }
}

extern "C" int32_t cuda_repack(cuda_queue *q, const dev_matrix *m, const void *data, int64_t raw_row, int64_t first,
                               int32_t n_rows) {
    const int64_t n = (int64_t)n_rows * m->n_units;
    const dim3 grid((unsigned)((n + 255) / 256));
    q->is_chained = false;
    switch (m->type) {
#define X(T)                                                                                                                     \
    case T:                                                                                                                      \
        return launch(repack_kernel<T>, grid, 256, 0, q, *m, (const uint8_t *)data, raw_row, first, n_rows);
        FORMATS_QUANT(X)
        FORMATS_FLOAT(X)
#undef X
    default:
        return cudaErrorInvalidValue;
    }
}

extern "C" void cuda_matrix_shape(dev_matrix *m, int32_t type, int64_t n_in, int64_t n_out) {
    const format_bytes b = format_bytes_of(type);
    const int unit = is_float_type(type) ? UNIT_FLOAT : UNIT;
    *m = dev_matrix{};
    m->type = type;
    m->n_in = (int32_t)n_in;
    m->n_out = (int32_t)n_out;
    m->n_units = (int32_t)((n_in + unit - 1) / unit);
    const uint32_t n = (uint32_t)m->n_units, n_super = (n + UNITS_SUPER - 1) / UNITS_SUPER;
    m->q_row = n * (uint32_t)b.q;
    m->h_row = n * (uint32_t)b.h;
    m->s_row = n * (uint32_t)b.s;
    m->d_row = n_super * (uint32_t)b.d;
}

/* ---------------------------------------------------------------- planes to floats */

/* out[r][i] = the weight, f32, half or bfloat (which rounds), rows [first, first + n_rows) of m; out rows are out_row elements.
 * Launch  a thread a unit of a quantised type. */
template <int T, typename OUT>
__global__ void dequantise_kernel(const __grid_constant__ dev_matrix m, int64_t first, int n_rows, OUT *out, int64_t out_row) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)n_rows * m.n_units) return;
    const int u = (int)(i % m.n_units);
    const int64_t r = i / m.n_units;
    const unit_bits b = format<T>::load(row_planes(m, first + r), 0, (uint32_t)u, (uint32_t)m.n_units);
    int w[8];
    format<T>::words(b, w);
    alignas(16) OUT v[UNIT];
#pragma unroll
    for (int j = 0; j < UNIT; j++) {
        const int q = (int8_t)(w[j / 4] >> (8 * (j % 4)));
        v[j] = (OUT)format<T>::value(b, j, q);
    }
    uint4 *to = (uint4 *)(out + r * out_row + (int64_t)UNIT * u);
#pragma unroll
    for (int j = 0; j < (int)(UNIT * sizeof(OUT) / 16); j++) to[j] = ((const uint4 *)v)[j];
}

extern "C" int32_t cuda_dequantise(cuda_queue *q, const dev_matrix *m, int64_t first, int32_t n_rows, void *out, int64_t out_row,
                                   bool is_half) {
    const int64_t n = (int64_t)n_rows * m->n_units;
    const dim3 grid((unsigned)((n + 255) / 256));
    q->is_chained = false;
    switch (m->type) {
#define X(T)                                                                                                                     \
    case T:                                                                                                                      \
        return is_half ? launch(dequantise_kernel<T, __half>, grid, 256, 0, q, *m, first, n_rows, (__half *)out, out_row)        \
                       : launch(dequantise_kernel<T, float>, grid, 256, 0, q, *m, first, n_rows, (float *)out, out_row);
        FORMATS_QUANT(X)
#undef X
    default:
        return cudaErrorInvalidValue;
    }
}
