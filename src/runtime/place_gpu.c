/* Looking for the GPU, and what a plan is asked. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/host_memory.h"
#include "runtime/place.h"
#include "runtime/runtime.h"

bool found_gpu_is_here(void) {
    static const char *const traces[] = {"/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"};
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++)
        if (access(traces[i], F_OK) == 0) return true;
    return false;
}

static galen_status look(found_gpu *g, const galen_model_opts *o, galen_error *err) {
    galen_status st;
    int32_t n = 0;
    g->event = FALL_NO_PLUGIN;
    if ((st = plugin_open(&g->library, "cuda", NULL, err))) return st;
    g->table = plugin_get(g->library);
    g->event = FALL_NO_DEVICE;
    if ((st = g->table->count(&n, err))) return st;
    g->index = o->main_gpu;
    g->n_visible = n;
    if (g->index < 0 || g->index >= n)
        return galen_fail(err, GALEN_E_DEVICE, 0, "--main-gpu %d: there %s %d GPU%s, numbered from 0", g->index,
                          n == 1 ? "is" : "are", n, n == 1 ? "" : "s");
    if ((st = g->table->info(g->index, &g->info, err))) return st;
    if (!g->info.is_usable) return galen_fail(err, GALEN_E_DEVICE, 0, "%s", g->info.why);
    return GALEN_OK;
}

void found_gpu_open(found_gpu *g, const galen_model_opts *o) {
    *g = (found_gpu){0};
    g->is_usable = look(g, o, &g->why) == GALEN_OK;
}

void found_gpu_close(found_gpu *g) {
    plugin_close(g->library);
    *g = (found_gpu){0};
}

struct gpu_search {
    pthread_t thread;
    galen_model_opts opts;
    found_gpu found;
};

static void *search(void *user) {
    gpu_search *s = user;
    found_gpu_open(&s->found, &s->opts);
    return NULL;
}

gpu_search *gpu_search_start(const galen_model_opts *o) {
    if (o->device && strcmp(o->device, "auto") != 0 && strcmp(o->device, "cuda") != 0) return NULL;
    gpu_search *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->opts.main_gpu = o->main_gpu; /* all that is asked for */
    if (pthread_create(&s->thread, NULL, search, s) == 0) return s;
    free(s);
    return NULL;
}

void gpu_search_end(gpu_search *s, found_gpu *out) {
    *out = (found_gpu){0};
    if (!s) return;
    (void)pthread_join(s->thread, NULL);
    *out = s->found;
    free(s);
}

static int32_t count_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

galen_status place_threads(const galen_model_opts *o, int32_t *n, galen_error *err) {
    if (o->n_threads < 0 || o->n_threads > 1024)
        return galen_fail(err, GALEN_E_ARG, 0, "%d threads, expected 0 to 1024", o->n_threads);
    *n = o->n_threads ? o->n_threads : count_cores();
    return GALEN_OK;
}

galen_status place_limits(const network *net, const galen_model_opts *o, work_limits *out, galen_error *err) {
    const galen_session_opts s = {.n_ctx = o->n_ctx, .n_batch = o->n_batch, .kv_type = o->kv_type};
    if (o->n_seqs < 0 || o->n_seqs > 65536)
        return galen_fail(err, GALEN_E_ARG, 0, "%d sequences, expected 0 to 65536", o->n_seqs);
    const galen_status st = session_limits_of(net, &s, out, err);
    if (!st && o->n_seqs > 1)
        out->n_pages = (int32_t)((int64_t)out->n_pages * o->n_seqs > INT32_MAX ? INT32_MAX : out->n_pages * o->n_seqs);
    return st;
}

uint64_t place_device_free(const found_gpu *g, const galen_model_opts *o) {
    return o->vram_limit && o->vram_limit < g->info.free_bytes ? o->vram_limit : g->info.free_bytes;
}

plan_request place_request(const network *net, const galen_model_opts *o, int32_t n_threads, const work_limits *limits,
                           const found_gpu *g) {
    return (plan_request){.net = net,
                          .host = backend_cpu(),
                          .device = g->is_usable ? g->table->api : NULL,
                          .n_threads = n_threads,
                          .limits = *limits,
                          .gpu_layers = o->gpu_layers,
                          .is_kv_on_host = o->is_kv_on_host,
                          .n_fetched = o->stream_layers == 0  ? PLAN_AUTO
                                       : o->stream_layers < 0 ? 0
                                                              : o->stream_layers,
                          .device_free = place_device_free(g, o),
                          .margin = PLAN_MARGIN,
                          .host_free = host_memory_free()};
}
