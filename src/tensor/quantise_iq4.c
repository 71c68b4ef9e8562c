/* IQ4: as the K family, on the table of uneven steps. */
#include "tensor/half.h"
#include "tensor/quants.h"
#include "tensor/search.h"

static const search_grid grid = {
    .values = blocks_iq4_values, .n = 16, .min = -127, .reach_lo = 0.7, .reach_hi = 1.1, .n_tries = 13};

static void pack_nibbles(const uint8_t *q, uint8_t *qs) {
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

void quantise_iq4_nl(const float *in, void *blocks, int64_t n) {
    block_iq4_nl *b = blocks;
    uint8_t q[BLOCKS_SMALL] = {0};
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        b->d = HALF_NAN;
        if (search_is_finite(in + at, BLOCKS_SMALL)) b->d = search_half(search_scale(&grid, in + at, BLOCKS_SMALL, q));
        pack_nibbles(q, b->qs);
    }
}

void quantise_iq4_xs(const float *in, void *blocks, int64_t n) {
    block_iq4_xs *b = blocks;
    search_block s;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        search_scales(&grid, in + at, 8, 32, -32, &s);
        *b = (block_iq4_xs){.d = s.d};
        for (int i = 0; i < 8; i++) {
            const int scale = s.sc[i] + 32;
            b->scales_l[i / 2] = (uint8_t)(b->scales_l[i / 2] | (scale & 15) << (4 * (i % 2)));
            b->scales_h = (uint16_t)(b->scales_h | (scale >> 4) << (2 * i));
            pack_nibbles(s.q + 32 * i, b->qs + 16 * i);
        }
    }
}
