/* The products in plain C, one weight at a time: the definition in matmul.h written down, against which every other
 * instruction set is compared bit for bit. Slow; it serves processors for which there is nothing better. */
#include <math.h>
#include <string.h>

#include "backend/cpu/matmul_ops.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

/* One scale block: w[i] = dw * u[i] - mw over n weights. */
typedef struct scale_block {
    int32_t u[32];
    float dw, mw;
} scale_block;

/* Block number i of n weights (32, or 16 where the type's scales are that fine) of a row. */
typedef void (*unpack_fn)(const uint8_t *row, int64_t i, scale_block *out);

static void quantise(const float *x, int64_t n_blocks, mm_act *out, int64_t stride) {
    for (int64_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        float max = 0;
        bool is_finite = true;
        for (int i = 0; i < 32; i++) {
            is_finite = is_finite && isfinite(x[i]);
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        }
        memset(out, 0, sizeof *out);
        out->d = is_finite ? max / (float)MM_Q_MAX : NAN;
        if (!is_finite || out->d == 0) continue;
        for (int i = 0; i < 32; i++) {
            const float f = nearbyintf(x[i] / out->d); /* beyond MM_Q_MAX only where d is subnormal */
            const int32_t q = (int32_t)(f > MM_Q_MAX ? MM_Q_MAX : f < -MM_Q_MAX ? -MM_Q_MAX : f);
            out->coarse[i] = (int8_t)((q + (1 << (MM_FINE_BITS - 1))) >> MM_FINE_BITS);
            out->fine[i] = (int8_t)(q - out->coarse[i] * (1 << MM_FINE_BITS));
        }
    }
}

static void unpack_q8_0(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q8_0 *b = (const block_q8_0 *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = b->qs[j];
    out->dw = half_to_f32(b->d);
}

static int nibble(const uint8_t *qs, int j) {
    return j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
}

static int fifth(const uint8_t *qh, int j) {
    return (qh[j / 8] >> (j % 8) & 1) << 4;
}

static void unpack_q4_0(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q4_0 *b = (const block_q4_0 *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = nibble(b->qs, j) - 8;
    out->dw = half_to_f32(b->d);
}

static void unpack_q4_1(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q4_1 *b = (const block_q4_1 *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = nibble(b->qs, j);
    out->dw = half_to_f32(b->d);
    out->mw = -half_to_f32(b->m);
}

static void unpack_q5_0(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q5_0 *b = (const block_q5_0 *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = (nibble(b->qs, j) | fifth(b->qh, j)) - 16;
    out->dw = half_to_f32(b->d);
}

static void unpack_q5_1(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q5_1 *b = (const block_q5_1 *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = nibble(b->qs, j) | fifth(b->qh, j);
    out->dw = half_to_f32(b->d);
    out->mw = -half_to_f32(b->m);
}

static void unpack_iq4_nl(const uint8_t *row, int64_t i, scale_block *out) {
    const block_iq4_nl *b = (const block_iq4_nl *)row + i;
    for (int j = 0; j < 32; j++) out->u[j] = blocks_iq4_values[nibble(b->qs, j)];
    out->dw = half_to_f32(b->d);
}

static void unpack_iq4_xs(const uint8_t *row, int64_t i, scale_block *out) {
    const block_iq4_xs *b = (const block_iq4_xs *)row + i / 8;
    const int s = (int)(i % 8);
    for (int j = 0; j < 32; j++) out->u[j] = blocks_iq4_values[nibble(b->qs + 16 * s, j)];
    out->dw = half_to_f32(b->d) * (float)blocks_iq4_xs_scale(b, s);
}

static void unpack_q2_k(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q2_k *b = (const block_q2_k *)row + i / 16;
    const int s = (int)(i % 16), first = 16 * s;
    for (int j = 0; j < 16; j++) {
        const int w = first + j;
        out->u[j] = b->qs[32 * (w / 128) + w % 32] >> (2 * (w % 128 / 32)) & 3;
    }
    out->dw = half_to_f32(b->d) * (float)(b->scales[s] & 15);
    out->mw = half_to_f32(b->dmin) * (float)(b->scales[s] >> 4);
}

static void unpack_q3_k(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q3_k *b = (const block_q3_k *)row + i / 16;
    const int s = (int)(i % 16), first = 16 * s;
    for (int j = 0; j < 16; j++) {
        const int w = first + j;
        const int low = b->qs[32 * (w / 128) + w % 32] >> (2 * (w % 128 / 32)) & 3;
        out->u[j] = low - (b->hmask[w % 32] >> (w / 32) & 1 ? 0 : 4);
    }
    out->dw = half_to_f32(b->d) * (float)blocks_q3_k_scale(b->scales, s);
}

static void unpack_q4_k(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q4_k *b = (const block_q4_k *)row + i / 8;
    const int s = (int)(i % 8);
    uint8_t sc, m;
    blocks_k4_scale(b->scales, s, &sc, &m);
    for (int j = 0; j < 32; j++) out->u[j] = b->qs[32 * (s / 2) + j] >> (4 * (s % 2)) & 15;
    out->dw = half_to_f32(b->d) * (float)sc;
    out->mw = half_to_f32(b->dmin) * (float)m;
}

static void unpack_q5_k(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q5_k *b = (const block_q5_k *)row + i / 8;
    const int s = (int)(i % 8);
    uint8_t sc, m;
    blocks_k4_scale(b->scales, s, &sc, &m);
    for (int j = 0; j < 32; j++) out->u[j] = (b->qs[32 * (s / 2) + j] >> (4 * (s % 2)) & 15) | (b->qh[j] >> s & 1) << 4;
    out->dw = half_to_f32(b->d) * (float)sc;
    out->mw = half_to_f32(b->dmin) * (float)m;
}

static void unpack_q6_k(const uint8_t *row, int64_t i, scale_block *out) {
    const block_q6_k *b = (const block_q6_k *)row + i / 16;
    const int s = (int)(i % 16), first = 16 * s;
    for (int j = 0; j < 16; j++) {
        const int w = first + j, h = w / 128, k = w % 128 / 32, l = w % 32;
        const int low = b->ql[64 * h + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15;
        const int high = b->qh[32 * h + l] >> (2 * k) & 3;
        out->u[j] = (low | high << 4) - 32;
    }
    out->dw = half_to_f32(b->d) * (float)b->scales[s];
}

/* W[r] . x over scale blocks of size weights. */
static void dot_rows(const mm_rows_args *a, unpack_fn unpack, int size, bool has_min, float *sum) {
    for (int r = 0; r < a->n; r++) {
        const uint8_t *row = a->w + (size_t)r * a->row_bytes;
        float y = 0;
        for (int64_t i = 0; i < a->n_in / size; i++) {
            const mm_act *x = a->act.first + i * size / 32 * a->act.stride;
            const int8_t *coarse = x->coarse + i * size % 32, *fine = x->fine + i * size % 32;
            scale_block w = {0};
            int32_t dot = 0, sum_q = 0;
            unpack(row, i, &w);
            for (int j = 0; j < size; j++) {
                const int32_t q = coarse[j] * (1 << MM_FINE_BITS) + fine[j];
                dot += w.u[j] * q;
                sum_q += q;
            }
            y = fmaf((float)dot, w.dw * x->d, y);
            if (has_min) y = fmaf(-w.mw, x->d * (float)sum_q, y);
        }
        sum[r] = y;
    }
}

/* One kernel per type: X(name, weights in a scale block, has a minimum). */
#define QUANTISED(X)                                                                                                             \
    X(q8_0, 32, false)                                                                                                           \
    X(q4_0, 32, false)                                                                                                           \
    X(q4_1, 32, true)                                                                                                            \
    X(q5_0, 32, false)                                                                                                           \
    X(q5_1, 32, true)                                                                                                            \
    X(q2_k, 16, true)                                                                                                            \
    X(q3_k, 16, false)                                                                                                           \
    X(q4_k, 32, true)                                                                                                            \
    X(q5_k, 32, true)                                                                                                            \
    X(q6_k, 16, false)                                                                                                           \
    X(iq4_nl, 32, false)                                                                                                         \
    X(iq4_xs, 32, false)
#define ROWS(name, size, has_min)                                                                                                \
    static void rows_##name(const mm_rows_args *a, float *sum) {                                                                 \
        dot_rows(a, unpack_##name, size, has_min, sum);                                                                          \
    }
QUANTISED(ROWS)

static float weight_f32(const uint8_t *row, int64_t i) {
    float f;
    memcpy(&f, row + 4 * i, sizeof f);
    return f;
}

static uint16_t weight_u16(const uint8_t *row, int64_t i) {
    uint16_t h;
    memcpy(&h, row + 2 * i, sizeof h);
    return h;
}

static float weight_f16(const uint8_t *row, int64_t i) {
    return half_to_f32(weight_u16(row, i));
}

static float weight_bf16(const uint8_t *row, int64_t i) {
    return bf16_to_f32(weight_u16(row, i));
}

static void dot_floats(const mm_rows_args *a, float (*weight)(const uint8_t *, int64_t), float *sum) {
    for (int r = 0; r < a->n; r++) {
        const uint8_t *row = a->w + (size_t)r * a->row_bytes;
        float part[16] = {0};
        for (int64_t i = 0; i < a->n_in; i++) part[i % 16] = fmaf(weight(row, i), a->x[i], part[i % 16]);
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++) part[i] += part[i + half];
        sum[r] = part[0];
    }
}

static void rows_f32(const mm_rows_args *a, float *sum) {
    dot_floats(a, weight_f32, sum);
}

static void rows_f16(const mm_rows_args *a, float *sum) {
    dot_floats(a, weight_f16, sum);
}

static void rows_bf16(const mm_rows_args *a, float *sum) {
    dot_floats(a, weight_bf16, sum);
}

const matmul_ops matmul_generic = {
    .isa = "generic",
    .group = 1,
    .few = INT32_MAX,
    .quantise = quantise,
    .rows = {[TENSOR_F32] = rows_f32,
             [TENSOR_F16] = rows_f16,
             [TENSOR_BF16] = rows_bf16,
             [TENSOR_Q8_0] = rows_q8_0,
             [TENSOR_Q4_0] = rows_q4_0,
             [TENSOR_Q4_1] = rows_q4_1,
             [TENSOR_Q5_0] = rows_q5_0,
             [TENSOR_Q5_1] = rows_q5_1,
             [TENSOR_Q2_K] = rows_q2_k,
             [TENSOR_Q3_K] = rows_q3_k,
             [TENSOR_Q4_K] = rows_q4_k,
             [TENSOR_Q5_K] = rows_q5_k,
             [TENSOR_Q6_K] = rows_q6_k,
             [TENSOR_IQ4_NL] = rows_iq4_nl,
             [TENSOR_IQ4_XS] = rows_iq4_xs},
};
