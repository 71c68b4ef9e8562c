/* Plain floats and the types with one scale for 32 weights. The arithmetic is ggml's, operation for operation, so that the
 * same file means the same weights. */
#include <string.h>

#include "tensor/half.h"
#include "tensor/quants.h"

void dequantise_f32(const void *blocks, float *out, int64_t n) {
    memcpy(out, blocks, (size_t)n * sizeof *out);
}

void dequantise_f16(const void *blocks, float *out, int64_t n) {
    const uint16_t *in = blocks;
    for (int64_t i = 0; i < n; i++) out[i] = half_to_f32(in[i]);
}

void dequantise_bf16(const void *blocks, float *out, int64_t n) {
    const uint16_t *in = blocks;
    for (int64_t i = 0; i < n; i++) out[i] = bf16_to_f32(in[i]);
}

void dequantise_q8_0(const void *blocks, float *out, int64_t n) {
    const block_q8_0 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < BLOCKS_SMALL; i++) out[at + i] = (float)b->qs[i] * d;
    }
}

/* Nibble i of 16 bytes that hold weights j and j + 16. */
static int nibble(const uint8_t *qs, int i) {
    return qs[i % 16] >> (i < 16 ? 0 : 4) & 15;
}

static int fifth_bit(const uint8_t *qh, int i) {
    return (qh[i / 8] >> (i % 8) & 1) << 4;
}

void dequantise_q4_0(const void *blocks, float *out, int64_t n) {
    const block_q4_0 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < BLOCKS_SMALL; i++) out[at + i] = d * (float)(nibble(b->qs, i) - 8);
    }
}

void dequantise_q4_1(const void *blocks, float *out, int64_t n) {
    const block_q4_1 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d), m = half_to_f32(b->m);
        for (int i = 0; i < BLOCKS_SMALL; i++) out[at + i] = d * (float)nibble(b->qs, i) + m;
    }
}

void dequantise_q5_0(const void *blocks, float *out, int64_t n) {
    const block_q5_0 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < BLOCKS_SMALL; i++) out[at + i] = d * (float)((nibble(b->qs, i) | fifth_bit(b->qh, i)) - 16);
    }
}

void dequantise_q5_1(const void *blocks, float *out, int64_t n) {
    const block_q5_1 *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d), m = half_to_f32(b->m);
        for (int i = 0; i < BLOCKS_SMALL; i++) out[at + i] = d * (float)(nibble(b->qs, i) | fifth_bit(b->qh, i)) + m;
    }
}
