/* How fast this machine reads memory and reaches its GPU: measured once in under a second, kept in a file, measured again when
 * processor, threads, card or driver change. */
#ifndef GALEN_RUNTIME_SPEEDS_H
#define GALEN_RUNTIME_SPEEDS_H

#include "backend/plugin.h"
#include "plan/plan.h"

/** p NULL: the host alone. cache_dir NULL: nothing is kept. What cannot be measured is typical. *is_measured: the host's was. */
plan_speeds speeds_find(int32_t n_threads, const backend_plugin *p, int32_t device, const char *cache_dir, bool *is_measured);

#endif
