/* One look at the machine and at the engines that run on it: what `galen monitor`, `galen ps` and the server's page show. */
#ifndef GALEN_SYSTEM_SAMPLE_H
#define GALEN_SYSTEM_SAMPLE_H

#include "system/host.h"
#include "system/nvml.h"
#include "system/running.h"

enum { SAMPLE_MAX_GPUS = 16, SAMPLE_MAX_ENGINES = 64 };

typedef struct sample {
    int64_t time_s;     /* since 1970 */
    double cpu_percent; /* since the look before; NAN on the first */
    host_info host;
    int32_t n_gpus;
    nvml_gpu gpus[SAMPLE_MAX_GPUS];
    char gpu_why[256]; /* why there are none */
    size_t n_engines;
    running_info engines[SAMPLE_MAX_ENGINES];
    uint64_t engine_rss[SAMPLE_MAX_ENGINES]; /* bytes resident on the host */
} sample;

typedef struct sampler_state sampler_state; /* what lasts from look to look; one thread at a time */

/** root: prefix for host.h; nvml: path for nvml_open; run_dir: folder for running.h. "" and NULLs for the machine itself.
 *  A machine without NVIDIA's library is no failure. Errors  NOMEM. */
galen_status sampler_state_open(sampler_state **out, const char *root, const char *nvml_path, const char *run_dir,
                                galen_error *err);
void sampler_state_close(sampler_state *s); /* NULL is fine */
void sample_take(sampler_state *s, sample *out);

#endif
