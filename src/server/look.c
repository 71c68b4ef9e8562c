/* The card's figures, read once a second by the watcher, for the page's plot: a request never waits for the driver. */
#include <stdlib.h>

#include "server/inside.h"
#include "system/nvml.h"

#define EVERY 1000000000ull

struct look {
    nvml *cards; /* NULL: none, or not told */
    uint64_t last_ns;
    pthread_mutex_t lock; /* guards gpu */
    nvml_gpu gpu;
    bool has_gpu;
};

galen_status look_open(server *s, galen_error *err) {
    look *k = calloc(1, sizeof *k);
    if (!k) return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    (void)pthread_mutex_init(&k->lock, NULL);
    (void)nvml_open(&k->cards, NULL, NULL);
    s->look = k;
    return GALEN_OK;
}

void look_tick(server *s, uint64_t now) {
    look *k = s->look;
    nvml_gpu gpu;
    if (!k->cards || now - k->last_ns < EVERY) return;
    k->last_ns = now;
    const bool is_told = nvml_read(k->cards, s->o.model.main_gpu, &gpu, NULL) == GALEN_OK && gpu.memory_total > 0;
    (void)pthread_mutex_lock(&k->lock);
    k->has_gpu = is_told;
    k->gpu = gpu;
    (void)pthread_mutex_unlock(&k->lock);
}

static json_t *told(double v) {
    return v == v ? json_real(v) : json_null(); /* NaN: not told */
}

json_t *look_gpu(server *s) {
    look *k = s->look;
    (void)pthread_mutex_lock(&k->lock);
    const bool has = k->has_gpu;
    const nvml_gpu g = k->gpu;
    (void)pthread_mutex_unlock(&k->lock);
    if (!has) return json_null();
    return json_pack("{s:I, s:I, s:o, s:o}", "memory_used", (json_int_t)g.memory_used, "memory_total", (json_int_t)g.memory_total,
                     "busy_percent", told(g.gpu_percent), "temp_c", told(g.temp_c));
}

void look_close(server *s) {
    look *k = s->look;
    if (!k) return;
    nvml_close(k->cards);
    (void)pthread_mutex_destroy(&k->lock);
    free(k);
    s->look = NULL;
}
