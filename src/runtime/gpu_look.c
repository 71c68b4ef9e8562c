/* What the GPU plugin says of itself and its cards. */
#include <stdio.h>

#include "backend/plugin.h"
#include "galen/galen.h"

static void look_at(const backend_plugin *p, int32_t index, galen_gpu *out) {
    device_info d = {0};
    galen_error err = {0};
    if (p->info(index, &d, &err)) {
        (void)snprintf(out->why, sizeof out->why, "%.250s", err.msg);
        return;
    }
    (void)snprintf(out->name, sizeof out->name, "%s", d.name);
    (void)snprintf(out->why, sizeof out->why, "%s", d.why);
    out->compute = d.compute;
    out->free_bytes = d.free_bytes;
    out->total_bytes = d.total_bytes;
    out->is_usable = d.is_usable;
}

void galen_gpu_look(galen_gpu_report *out) {
    plugin *library;
    galen_error err = {0};
    *out = (galen_gpu_report){0};
    out->plugin = plugin_open(&library, "cuda", NULL, &err);
    if (out->plugin) {
        (void)snprintf(out->plugin_why, sizeof out->plugin_why, "%s", err.msg);
        return;
    }
    const backend_plugin *p = plugin_get(library);
    (void)snprintf(out->archs, sizeof out->archs, "%s", p->archs);
    p->versions(&out->driver, &out->runtime);
    if (p->count(&out->n_gpus, &err)) {
        out->n_gpus = 0;
        (void)snprintf(out->why, sizeof out->why, "%s", err.msg);
    }
    if (out->n_gpus > GALEN_MAX_GPUS) out->n_gpus = GALEN_MAX_GPUS;
    for (int32_t i = 0; i < out->n_gpus; i++) look_at(p, i, &out->gpus[i]);
    plugin_close(library);
}
