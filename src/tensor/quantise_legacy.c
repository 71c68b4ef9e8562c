/* Quantising to plain floats and to one scale for 32 weights. Finite input gives the bytes that ggml's reference gives
 * (checked against gguf-py), so every operation and its order is fixed: f32 division, f32 multiplication, then rounding. */
#include <math.h>
#include <string.h>

#include "tensor/half.h"
#include "tensor/quants.h"

void quantise_f32(const float *in, void *blocks, int64_t n) {
    memcpy(blocks, in, (size_t)n * sizeof *in);
}

void quantise_f16(const float *in, void *blocks, int64_t n) {
    uint16_t *out = blocks;
    for (int64_t i = 0; i < n; i++) out[i] = half_from_f32(in[i]);
}

void quantise_bf16(const float *in, void *blocks, int64_t n) {
    uint16_t *out = blocks;
    for (int64_t i = 0; i < n; i++) out[i] = bf16_from_f32(in[i]);
}

/* What a block of 32 spans. */
typedef struct range {
    float extreme; /* the first value of the largest magnitude, with its sign */
    float min, max;
    int is_finite;
} range;

static range range_of(const float *x) {
    range r = {.extreme = x[0], .min = x[0], .max = x[0], .is_finite = 1};
    for (int i = 0; i < BLOCKS_SMALL; i++) {
        if (!isfinite(x[i])) r.is_finite = 0;
        if (fabsf(x[i]) > fabsf(r.extreme)) r.extreme = x[i];
        if (x[i] < r.min) r.min = x[i];
        if (x[i] > r.max) r.max = x[i];
    }
    return r;
}

static float inverse(float d) {
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* Towards zero, into 0..max. A scale too small to invert makes v infinite or NaN: any level will do, its weight is 0. */
static uint8_t level(float v, int max) {
    if (!(v > 0.0f)) return 0;
    return v >= (float)max ? (uint8_t)max : (uint8_t)v;
}

void quantise_q8_0(const float *in, void *blocks, int64_t n) {
    block_q8_0 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const range r = range_of(in + at);
        const float d = fabsf(r.extreme) / 127.0f, id = inverse(d);
        *b = (block_q8_0){.d = r.is_finite ? half_from_f32(d) : HALF_NAN};
        for (int i = 0; i < BLOCKS_SMALL && r.is_finite; i++) {
            const float q = roundf(in[at + i] * id); /* halves away from zero */
            b->qs[i] = q >= 127.0f ? 127 : q <= -127.0f ? -127 : q == q ? (int8_t)q : 0;
        }
    }
}

static void pack_nibbles(const uint8_t *q, uint8_t *qs) {
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void pack_fifth_bits(const uint8_t *q, uint8_t *qh) {
    for (int i = 0; i < BLOCKS_SMALL; i++) qh[i / 8] = (uint8_t)(qh[i / 8] | (q[i] >> 4 & 1) << (i % 8));
}

/* Levels about zero: the extreme value takes the lowest level, which reaches one step further than the highest. */
static uint16_t levels_signed(const float *x, int n_levels, uint8_t *q) {
    const range r = range_of(x);
    const int half = n_levels / 2;
    const float d = r.extreme / (float)-half, id = inverse(d);
    for (int i = 0; i < BLOCKS_SMALL; i++) q[i] = r.is_finite ? level(x[i] * id + ((float)half + 0.5f), n_levels - 1) : 0;
    return r.is_finite ? half_from_f32(d) : HALF_NAN;
}

/* Levels from the least value to the largest. */
static uint16_t levels_affine(const float *x, int n_levels, uint8_t *q, uint16_t *m) {
    const range r = range_of(x);
    const float d = (r.max - r.min) / (float)(n_levels - 1), id = inverse(d);
    for (int i = 0; i < BLOCKS_SMALL; i++) q[i] = r.is_finite ? level((x[i] - r.min) * id + 0.5f, n_levels - 1) : 0;
    *m = half_from_f32(r.min);
    return r.is_finite ? half_from_f32(d) : HALF_NAN;
}

void quantise_q4_0(const float *in, void *blocks, int64_t n) {
    block_q4_0 *b = blocks;
    uint8_t q[BLOCKS_SMALL];
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        b->d = levels_signed(in + at, 16, q);
        pack_nibbles(q, b->qs);
    }
}

void quantise_q4_1(const float *in, void *blocks, int64_t n) {
    block_q4_1 *b = blocks;
    uint8_t q[BLOCKS_SMALL];
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        b->d = levels_affine(in + at, 16, q, &b->m);
        pack_nibbles(q, b->qs);
    }
}

void quantise_q5_0(const float *in, void *blocks, int64_t n) {
    block_q5_0 *b = blocks;
    uint8_t q[BLOCKS_SMALL];
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        *b = (block_q5_0){.d = levels_signed(in + at, 32, q)};
        pack_nibbles(q, b->qs);
        pack_fifth_bits(q, b->qh);
    }
}

void quantise_q5_1(const float *in, void *blocks, int64_t n) {
    block_q5_1 *b = blocks;
    uint8_t q[BLOCKS_SMALL];
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        *b = (block_q5_1){0};
        b->d = levels_affine(in + at, 32, q, &b->m);
        pack_nibbles(q, b->qs);
        pack_fifth_bits(q, b->qh);
    }
}
