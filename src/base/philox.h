/* The generator of rng.h, for host and device code alike: Philox 4x32 with ten rounds; constants from the paper. */
#ifndef GALEN_BASE_PHILOX_H
#define GALEN_BASE_PHILOX_H

#include "base/rng.h"

#ifdef __CUDACC__
#define PHILOX_FN __host__ __device__ static inline
#else
#define PHILOX_FN static inline
#endif

PHILOX_FN rng_block philox_at(uint64_t seed, uint64_t stream, uint64_t index) {
    const uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    rng_block c;
    c.v[0] = (uint32_t)index, c.v[1] = (uint32_t)(index >> 32), c.v[2] = (uint32_t)stream, c.v[3] = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)m0 * c.v[0], p1 = (uint64_t)m1 * c.v[2];
        const uint32_t v1 = c.v[1], v3 = c.v[3];
        c.v[0] = (uint32_t)(p1 >> 32) ^ v1 ^ k0, c.v[1] = (uint32_t)p1;
        c.v[2] = (uint32_t)(p0 >> 32) ^ v3 ^ k1, c.v[3] = (uint32_t)p0;
        k0 += w0;
        k1 += w1;
    }
    return c;
}

PHILOX_FN double philox_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    const rng_block b = philox_at(seed, stream, index);
    const uint64_t u = ((uint64_t)b.v[1] << 32 | b.v[0]) >> 11;
    return (double)u * (1.0 / 9007199254740992.0); /* 2^-53 */
}

#endif
