/* Philox 4x32 with ten rounds; constants from the paper. Known answers: tests/unit/test_base.c. */
#include "base/rng.h"

rng_block rng_at(uint64_t seed, uint64_t stream, uint64_t index) {
    const uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    rng_block c = {{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)m0 * c.v[0], p1 = (uint64_t)m1 * c.v[2];
        c = (rng_block){{(uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0}};
        k0 += w0;
        k1 += w1;
    }
    return c;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    const rng_block b = rng_at(seed, stream, index);
    const uint64_t u = ((uint64_t)b.v[1] << 32 | b.v[0]) >> 11;
    return (double)u * 0x1p-53;
}
