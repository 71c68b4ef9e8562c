/* The K family: 256 weights share half-float scales, sub-blocks of 16 or 32 have small integer ones. */
#include "tensor/half.h"
#include "tensor/quants.h"

void dequantise_q2_k(const void *blocks, float *out, int64_t n) {
    const block_q2_k *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d), dmin = half_to_f32(b->dmin);
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            const uint8_t scale = b->scales[i / 16];
            const int q = b->qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
            out[at + i] = d * (float)(scale & 15) * (float)q - dmin * (float)(scale >> 4);
        }
    }
}

void dequantise_q3_k(const void *blocks, float *out, int64_t n) {
    const block_q3_k *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            const int low = b->qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
            const int is_high = b->hmask[i % 32] >> (i / 32) & 1;
            out[at + i] = d * (float)blocks_q3_k_scale(b->scales, i / 16) * (float)(low - (is_high ? 0 : 4));
        }
    }
}

void dequantise_q4_k(const void *blocks, float *out, int64_t n) {
    const block_q4_k *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d), dmin = half_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            uint8_t sc, m;
            blocks_k4_scale(b->scales, s, &sc, &m);
            const float scale = d * (float)sc, low = dmin * (float)m;
            for (int i = 0; i < 32; i++) {
                const int q = b->qs[32 * (s / 2) + i] >> (4 * (s % 2)) & 15;
                out[at + 32 * s + i] = scale * (float)q - low;
            }
        }
    }
}

void dequantise_q5_k(const void *blocks, float *out, int64_t n) {
    const block_q5_k *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d), dmin = half_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            uint8_t sc, m;
            blocks_k4_scale(b->scales, s, &sc, &m);
            const float scale = d * (float)sc, low = dmin * (float)m;
            for (int i = 0; i < 32; i++) {
                const int q = (b->qs[32 * (s / 2) + i] >> (4 * (s % 2)) & 15) | (b->qh[i] >> s & 1) << 4;
                out[at + 32 * s + i] = scale * (float)q - low;
            }
        }
    }
}

void dequantise_q6_k(const void *blocks, float *out, int64_t n) {
    const block_q6_k *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            const int h = i / 128, k = i % 128 / 32, l = i % 32;
            const int8_t scale = b->scales[i / 16];
            const int low = b->ql[64 * h + 32 * (k % 2) + l] >> (k < 2 ? 0 : 4) & 15;
            const int high = b->qh[32 * h + l] >> (2 * k) & 3;
            out[at + i] = d * (float)scale * (float)((low | high << 4) - 32);
        }
    }
}
