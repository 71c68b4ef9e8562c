/* The models by name: loaded when asked for, at most so many at once, the least recently used one makes room; unloaded when
 * idle. One thread opens and closes; requests wait suspended meanwhile. */
#ifndef GALEN_SERVER_SHELF_H
#define GALEN_SERVER_SHELF_H

#include "server/http.h"
#include "server/metrics.h"

typedef struct shelf shelf;

/* One model. What follows `is_ready` is there between shelf_take and shelf_give. */
typedef struct book {
    const char *name, *path;
    const galen_model_opts *opts;
    model_metrics metrics;
    int state, n_users; /* guarded by the shelf's lock */
    uint64_t used_ns, failed_ns;
    bool was_loaded;
    galen_error error;
    galen_model *model;
    galen_batcher *batcher;
    galen_model_info info;
    int32_t n_ctx;
    atomic_uint_fast64_t load_us; /* what the load took, until the performance log has it */
} book;

galen_status shelf_open(shelf **out, server *s, galen_error *err);
/** Every exchange is done: nobody holds a book. NULL is fine. */
void shelf_close(shelf *sh);

/** By name; NULL: the first. NULL: there is none of that name. */
book *shelf_find(shelf *sh, const char *name);
book *shelf_at(shelf *sh, size_t i);

/** The book for x: true: taken, x must shelf_give it. False: x was answered, or will be run again when the model is there. */
bool shelf_take(shelf *sh, book *b, exchange *x);
/** As shelf_take from a thread that may wait: until it is there, or is_gone says that nobody waits any more.
 *  Errors  the book's own; CANCELLED; DEVICE. */
galen_status shelf_wait(shelf *sh, book *b, bool (*is_gone)(void *user), void *user, galen_error *err);
/** Take it only if it is in memory, without waking it. */
bool shelf_peek(shelf *sh, book *b);
void shelf_give(shelf *sh, book *b);

/** Of the first model: 0 loading, 1 loaded, -1 failed (why in err). A model that was put aside idle counts as loaded. */
int shelf_state(shelf *sh, galen_error *err);
void shelf_tick(shelf *sh, uint64_t now_ns);
/** Every loaded model's batcher has ended a step of late. */
bool shelf_is_alive(shelf *sh);

#endif
