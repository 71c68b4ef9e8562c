/* Time is passed in, so that tests can fake it. */
#ifndef GALEN_BASE_CLOCK_H
#define GALEN_BASE_CLOCK_H

#include <stdint.h>

/** Nanoseconds since an arbitrary start, never going backwards. */
uint64_t clock_monotonic_ns(void);

#endif
