/* This server's line in `galen ps`: model, placement, figures; never text. */
#include <stdlib.h>
#include <string.h>

#include "server/inside.h"
#include "server/shelf.h"
#include "system/running.h"

struct entry {
    running *run;
    running_info info;
};

static void describe(running_info *out, const book *b, const galen_model_info *i) {
    (void)snprintf(out->verb, sizeof out->verb, "serve");
    (void)snprintf(out->model, sizeof out->model, "%.127s", b->name);
    (void)snprintf(out->placement, sizeof out->placement, "%.255s", i->placement ? i->placement : "");
    out->weight_bytes = i->weight_bytes;
    out->n_layers = i->n_layer;
    out->gpu_layers = i->n_gpu_layers;
    out->gpu_percent = i->gpu_percent;
}

/** On the watcher's thread. Being listed is a courtesy: where it cannot be had nothing else suffers. */
void entry_tick(server *s) {
    book *b = shelf_at(s->shelf, 0);
    galen_batcher_stats st = {.size = sizeof st};
    if (!s->entry) s->entry = calloc(1, sizeof *s->entry);
    if (!s->entry || !shelf_peek(s->shelf, b)) return;
    const galen_model_info i = galen_model_get_info(b->model);
    galen_batcher_get_stats(b->batcher, &st);
    describe(&s->entry->info, b, &i);
    shelf_give(s->shelf, b);
    s->entry->info.ctx_size = (int64_t)st.n_pages * 64;
    s->entry->info.ctx_used = (int64_t)st.n_pages_used * 64;
    s->entry->info.n_running = st.n_running;
    s->entry->info.n_waiting = st.n_waiting;
    s->entry->info.tokens_per_s = st.tokens_per_s;
    if (!s->entry->run) (void)running_open(&s->entry->run, NULL, &s->entry->info, NULL);
    running_update(s->entry->run, &s->entry->info, false);
}

void entry_close(server *s) {
    if (!s->entry) return;
    running_close(s->entry->run);
    free(s->entry);
    s->entry = NULL;
}
