/* IQ4: four bits index a table of uneven steps. */
#include "tensor/half.h"
#include "tensor/quants.h"

const int8_t blocks_iq4_values[16] = BLOCKS_IQ4_VALUES;

void dequantise_iq4_nl(const void *blocks, float *out, int64_t n) {
    const block_iq4_nl *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SMALL, b++) {
        const float d = half_to_f32(b->d);
        for (int i = 0; i < 16; i++) {
            out[at + i] = d * (float)blocks_iq4_values[b->qs[i] & 15];
            out[at + i + 16] = d * (float)blocks_iq4_values[b->qs[i] >> 4];
        }
    }
}

void dequantise_iq4_xs(const void *blocks, float *out, int64_t n) {
    const block_iq4_xs *b = blocks;
    for (int64_t at = 0; at < n; at += BLOCKS_SUPER, b++) {
        const float d = half_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            const float scale = d * (float)blocks_iq4_xs_scale(b, s);
            float *w = out + at + 32 * s;
            for (int i = 0; i < 16; i++) {
                w[i] = scale * (float)blocks_iq4_values[b->qs[16 * s + i] & 15];
                w[i + 16] = scale * (float)blocks_iq4_values[b->qs[16 * s + i] >> 4];
            }
        }
    }
}
