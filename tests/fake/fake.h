/* A GPU that is none: a plugin behind the real entry point, computing with the cpu backend, with memory of a stated size and
 * failures on request. Tests load it as libgalen-cuda.so (GALEN_PLUGIN_DIR) and reach its state by dlsym("fake_device").
 * The environment's GALEN_FAKE sets the same fields at load: "memory=64M,used=1M,driver=old,step_fail=3". */
#ifndef GALEN_TESTS_FAKE_H
#define GALEN_TESTS_FAKE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fake_device_state {
    /* what is asked of it */
    int64_t memory;       /* bytes in all                                            */
    int64_t used;         /* by others                                               */
    int64_t steal;        /* taken by others after the first look at it              */
    int64_t alloc_fail;   /* the so-many-th allocation fails; 0 = none               */
    int64_t alloc_fails;  /* and so many after it                                    */
    int64_t step_fail;    /* the so-many-th stage fails, and all that follow         */
    int64_t load_fail;    /* weights do not load: a device error                     */
    int64_t unsupported;  /* 1: it takes no such weights; 2: no such cache */
    int64_t devices;      /* how many are visible                                    */
    int64_t compute;      /* capability; below 75 it is refused                      */
    int64_t driver;       /* 0 = none; below runtime: too old                        */
    int64_t no_sample;    /* it does not choose tokens                               */
    int64_t no_ahead;     /* it does not run ahead of the host                       */
    int64_t bad_layout;   /* the plugin is made for other headers                    */
    int64_t read, upload; /* bytes a second that the probe reports; 0 = it fails    */
    /* what happened */
    int64_t held, most_held; /* bytes now, and the most at once */
    int64_t n_allocs, n_steps, n_open;
    int64_t n_streamed, n_fetched; /* stages of the host's parts, for large batches and for those below stream_rows */
    int64_t n_samples, n_ahead;    /* calls that chose; steps ahead of the host */
} fake_device_state;

#endif
