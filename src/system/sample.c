#include "system/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct sampler_state {
    nvml *gpus;
    char why[256];
    char root[128];
    const char *run_dir;
    host_load load;
};

galen_status sampler_state_open(sampler_state **out, const char *root, const char *nvml_path, const char *run_dir,
                                galen_error *err) {
    galen_error why = {0};
    sampler_state *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "sampler");
    (void)snprintf(s->root, sizeof s->root, "%s", root);
    s->run_dir = run_dir;
    if (nvml_open(&s->gpus, nvml_path, &why)) (void)snprintf(s->why, sizeof s->why, "%.250s", why.msg);
    (void)host_cpu_percent(s->root, &s->load);
    return GALEN_OK;
}

void sampler_state_close(sampler_state *s) {
    if (!s) return;
    nvml_close(s->gpus);
    free(s);
}

void sample_take(sampler_state *s, sample *out) {
    *out = (sample){.time_s = (int64_t)time(NULL)};
    host_read(s->root, &out->host);
    out->cpu_percent = host_cpu_percent(s->root, &s->load);
    const int32_t n = s->gpus ? nvml_count(s->gpus) : 0;
    for (int32_t i = 0; i < n && out->n_gpus < SAMPLE_MAX_GPUS; i++) {
        galen_error why = {0};
        if (nvml_read(s->gpus, i, &out->gpus[out->n_gpus], &why) == GALEN_OK)
            out->n_gpus++;
        else
            (void)snprintf(out->gpu_why, sizeof out->gpu_why, "%.250s", why.msg);
    }
    if (!s->gpus) (void)snprintf(out->gpu_why, sizeof out->gpu_why, "%s", s->why);
    out->n_engines = running_list(s->run_dir, out->engines, SAMPLE_MAX_ENGINES);
    for (size_t i = 0; i < out->n_engines; i++) out->engine_rss[i] = host_process_rss(s->root, out->engines[i].pid);
}
