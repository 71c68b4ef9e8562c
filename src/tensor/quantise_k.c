/* The K family and IQ4: search.h finds the numbers, here they are packed as blocks.h draws them. */
#include <string.h>

#include "tensor/quants.h"
#include "tensor/search.h"

void quantise_q2_k(const float *in, void *blocks, int64_t n) {
    block_q2_k *b = blocks;
    search_affine_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_affine(in + at, 16, 16, 3, 15, &s);
        *b = (block_q2_k){.d = s.d, .dmin = s.dmin};
        for (int i = 0; i < 16; i++) b->scales[i] = (uint8_t)(s.sc[i] | s.m[i] << 4);
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            uint8_t *q = &b->qs[32 * (i / 128) + i % 32];
            *q = (uint8_t)(*q | s.q[i] << (2 * (i % 128 / 32)));
        }
    }
}

void quantise_q3_k(const float *in, void *blocks, int64_t n) {
    static const search_grid grid = {.n = 8, .min = -4, .reach_lo = 0.55, .reach_hi = 1.15, .n_tries = 13};
    block_q3_k *b = blocks;
    search_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_scales(&grid, in + at, 16, 16, -32, &s);
        *b = (block_q3_k){.d = s.d};
        for (int i = 0; i < 16; i++) {
            const int scale = s.sc[i] + 32;
            b->scales[i % 8] = (uint8_t)(b->scales[i % 8] | (scale & 15) << (4 * (i / 8)));
            b->scales[8 + i % 4] = (uint8_t)(b->scales[8 + i % 4] | (scale >> 4) << (2 * (i / 4)));
        }
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            uint8_t *q = &b->qs[32 * (i / 128) + i % 32];
            *q = (uint8_t)(*q | (s.q[i] & 3) << (2 * (i % 128 / 32)));
            b->hmask[i % 32] = (uint8_t)(b->hmask[i % 32] | (s.q[i] >> 2) << (i / 32));
        }
    }
}

static void pack_k4_scales(const search_affine_block *s, uint8_t *scales) {
    for (int i = 0; i < 4; i++) {
        scales[i] = (uint8_t)(s->sc[i] | s->sc[i + 4] >> 4 << 6);
        scales[i + 4] = (uint8_t)(s->m[i] | s->m[i + 4] >> 4 << 6);
        scales[i + 8] = (uint8_t)((s->sc[i + 4] & 15) | (s->m[i + 4] & 15) << 4);
    }
}

static void pack_k4_nibbles(const uint8_t *q, uint8_t *qs) {
    for (int i = 0; i < BLOCKS_SUPER / 2; i++) {
        const int at = 64 * (i / 32) + i % 32;
        qs[i] = (uint8_t)((q[at] & 15) | (q[at + 32] & 15) << 4);
    }
}

void quantise_q4_k(const float *in, void *blocks, int64_t n) {
    block_q4_k *b = blocks;
    search_affine_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_affine(in + at, 8, 32, 15, 63, &s);
        *b = (block_q4_k){.d = s.d, .dmin = s.dmin};
        pack_k4_scales(&s, b->scales);
        pack_k4_nibbles(s.q, b->qs);
    }
}

void quantise_q5_k(const float *in, void *blocks, int64_t n) {
    block_q5_k *b = blocks;
    search_affine_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_affine(in + at, 8, 32, 31, 63, &s);
        *b = (block_q5_k){.d = s.d, .dmin = s.dmin};
        pack_k4_scales(&s, b->scales);
        pack_k4_nibbles(s.q, b->qs);
        for (int i = 0; i < BLOCKS_SUPER; i++) b->qh[i % 32] = (uint8_t)(b->qh[i % 32] | (s.q[i] >> 4) << (i / 32));
    }
}

void quantise_q6_k(const float *in, void *blocks, int64_t n) {
    static const search_grid grid = {.n = 64, .min = -32, .reach_lo = 0.88, .reach_hi = 1.04, .n_tries = 9};
    block_q6_k *b = blocks;
    search_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_scales(&grid, in + at, 16, 16, -128, &s);
        *b = (block_q6_k){.d = s.d};
        memcpy(b->scales, s.sc, sizeof b->scales);
        for (int i = 0; i < BLOCKS_SUPER; i++) {
            const int h = i / 128, k = i % 128 / 32, l = i % 32;
            uint8_t *low = &b->ql[64 * h + 32 * (k % 2) + l], *high = &b->qh[32 * h + l];
            *low = (uint8_t)(*low | (s.q[i] & 15) << (k < 2 ? 0 : 4));
            *high = (uint8_t)(*high | (s.q[i] >> 4) << (2 * k));
        }
    }
}
