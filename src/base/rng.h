/* Counter-based random numbers: the value at (seed, stream, index) needs no state, so results do not depend on
 * threads, batches or order. Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
#ifndef GALEN_BASE_RNG_H
#define GALEN_BASE_RNG_H

#include <stdint.h>

typedef struct rng_block {
    uint32_t v[4];
} rng_block;

/** 128 random bits for the counter (stream, index) under the key seed. Pure. */
rng_block rng_at(uint64_t seed, uint64_t stream, uint64_t index);

/** Uniform in [0, 1), 53 bits, from the first two words. */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

#endif
