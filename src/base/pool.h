/* A pool of threads that parks. Work is an index range handed out in grains; which thread takes which grain never
 * changes a result, because a task writes only what its indices own. */
#ifndef GALEN_BASE_POOL_H
#define GALEN_BASE_POOL_H

#include <stdint.h>

#include "base/error.h"

typedef struct pool pool; /* pool_run calls from several threads are served one after the other */

/** Work on indices [begin, end) as thread number thread in [0, n_threads). */
typedef void (*pool_fn)(void *ctx, int64_t begin, int64_t end, int thread);

/** n_threads >= 1 in all, the caller of pool_run being one of them. Errors  NOMEM; DEVICE a thread cannot be started. */
galen_status pool_open(pool **out, int n_threads, galen_error *err);
void pool_close(pool *p);
int pool_n_threads(const pool *p);

/** Call fn over [0, n) in grains of grain indices (the last may be shorter), return when all are done.
 *  Allocates nothing. Workers that find no further work spin briefly, then sleep. fn must not call pool_run. */
void pool_run(pool *p, int64_t n, int64_t grain, pool_fn fn, void *ctx);

#endif
