/* Known answers: tests/unit/test_base.c. */
#include "base/rng.h"

#include "base/philox.h"

rng_block rng_at(uint64_t seed, uint64_t stream, uint64_t index) {
    return philox_at(seed, stream, index);
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return philox_uniform(seed, stream, index);
}
