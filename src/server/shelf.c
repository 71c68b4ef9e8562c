#include "server/shelf.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/inside.h"
#include "server/perf.h"

#define SECOND      1000000000ull
#define RETRY_AFTER (5 * SECOND) /* a model that did not open is tried again after this */
#define STUCK_S     30.0         /* a step that takes longer: systemd may start us anew */

/* AWAY -> WANTED -> READY -> (BROKEN | IDLE) -> AWAY. FAILED: it did not open. Only the thread leaves WANTED, BROKEN, IDLE. */
enum { AWAY, WANTED, READY, BROKEN, IDLE, FAILED };

typedef struct waiter {
    struct waiter *next;
    exchange *x;
    book *b;
} waiter;

struct shelf {
    server *s;
    book *books;
    size_t n;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool has_thread, is_ending;
    waiter *waiters;
};

book *shelf_at(shelf *sh, size_t i) {
    return i < sh->n ? &sh->books[i] : NULL;
}

book *shelf_find(shelf *sh, const char *name) {
    if (!name) return &sh->books[0];
    for (size_t i = 0; i < sh->n; i++)
        if (strcmp(sh->books[i].name, name) == 0) return &sh->books[i];
    return NULL;
}

/* ------------------------------------------------------------ the thread */

static size_t n_in_memory(const shelf *sh) {
    size_t n = 0;
    for (size_t i = 0; i < sh->n; i++) n += sh->books[i].model != NULL;
    return n;
}

/* Those who wait for a book that is no longer WANTED run again. With the lock, which is let go meanwhile. */
static void wake_waiters(shelf *sh) {
    waiter *list = NULL, **at = &sh->waiters;
    while (*at) {
        waiter *w = *at;
        if (w->b->state == WANTED && !sh->is_ending) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = list;
        list = w;
    }
    (void)pthread_mutex_unlock(&sh->lock);
    while (list) {
        waiter *w = list;
        list = w->next;
        exchange_retry(w->x);
        exchange_unref(w->x);
        free(w);
    }
    (void)pthread_mutex_lock(&sh->lock);
}

/* With the lock; let go while the engine works. Nobody uses b, and its state keeps others off. */
static void put_away(shelf *sh, book *b, int state) {
    galen_model *m = b->model;
    galen_batcher *batcher = b->batcher;
    b->model = NULL;
    b->batcher = NULL;
    (void)pthread_mutex_unlock(&sh->lock);
    galen_batcher_close(batcher);
    galen_model_close(m);
    metrics_add(&sh->s->metrics, METRIC_UNLOADS, 1);
    log_event(sh->s, "info", "unloaded", "model", b->name);
    (void)pthread_mutex_lock(&sh->lock);
    b->state = state;
}

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    const shelf *sh = user;
    (void)done;
    (void)total;
    return !atomic_load(&sh->s->is_stopping);
}

static galen_status open_engine(shelf *sh, const book *b, galen_model **m, galen_batcher **batcher, galen_error *err) {
    const server_opts *o = &sh->s->o;
    galen_model_opts mo = b->opts ? *b->opts : o->model;
    galen_batcher_opts bo = galen_batcher_default_opts();
    mo.progress = on_progress;
    mo.progress_user = sh;
    *m = NULL;
    galen_status st = galen_model_open(m, b->path, &mo, err);
    if (st) return st;
    bo.n_ctx = o->n_ctx;
    bo.max_seqs = o->n_parallel;
    bo.max_queue = o->n_queue;
    bo.n_batch = o->n_batch;
    bo.kv_type = o->kv_type;
    st = galen_batcher_open(batcher, *m, &bo, err);
    if (st) {
        galen_model_close(*m);
        *m = NULL;
    }
    return st;
}

static int32_t context_of(const server_opts *o, const galen_model_info *info) {
    if (o->n_ctx) return o->n_ctx;
    return info->n_ctx_train < 4096 ? info->n_ctx_train : 4096;
}

static void load(shelf *sh, book *b) {
    galen_model *m = NULL;
    galen_batcher *batcher = NULL;
    galen_error err = {0};
    (void)pthread_mutex_unlock(&sh->lock);
    const uint64_t began = clock_monotonic_ns();
    const galen_status st = open_engine(sh, b, &m, &batcher, &err);
    const uint64_t took = clock_monotonic_ns() - began;
    if (st) perf_load_failed(sh->s, b, (double)took * 1e-9, st);
    log_event(sh->s, st ? "error" : "info", st ? "load_failed" : "loaded", "model", b->name);
    (void)pthread_mutex_lock(&sh->lock);
    b->used_ns = clock_monotonic_ns();
    if (st) {
        b->state = FAILED;
        b->error = err;
        b->failed_ns = b->used_ns;
        return;
    }
    metrics_add(&sh->s->metrics, METRIC_LOADS, 1);
    b->model = m;
    b->batcher = batcher;
    b->info = galen_model_get_info(m);
    b->n_ctx = context_of(&sh->s->o, &b->info);
    atomic_store(&b->load_us, took / 1000);
    b->was_loaded = true;
    b->state = READY;
}

/* The least recently used book that nobody uses; NULL: all are in use. */
static book *oldest_unused(shelf *sh) {
    book *oldest = NULL;
    for (size_t i = 0; i < sh->n; i++) {
        book *b = &sh->books[i];
        if (b->state == READY && b->n_users == 0 && (!oldest || b->used_ns < oldest->used_ns)) oldest = b;
    }
    return oldest;
}

/* One thing to do; false: nothing. With the lock. */
static bool work_once(shelf *sh) {
    for (size_t i = 0; i < sh->n; i++) {
        book *b = &sh->books[i];
        if ((b->state == BROKEN || b->state == IDLE) && b->n_users == 0) {
            put_away(sh, b, b->state == BROKEN ? WANTED : AWAY);
            return true;
        }
    }
    for (size_t i = 0; i < sh->n; i++) {
        book *b = &sh->books[i];
        if (b->state != WANTED) continue;
        if (n_in_memory(sh) >= (size_t)sh->s->o.max_loaded) {
            book *old = oldest_unused(sh);
            if (!old) continue; /* when one is given back */
            old->state = IDLE;
            put_away(sh, old, AWAY);
        }
        load(sh, b);
        return true;
    }
    return false;
}

static void *work(void *arg) {
    shelf *sh = arg;
    (void)pthread_mutex_lock(&sh->lock);
    while (!sh->is_ending) {
        const bool did = work_once(sh);
        wake_waiters(sh);
        if (!did && !sh->is_ending) (void)pthread_cond_wait(&sh->changed, &sh->lock);
    }
    wake_waiters(sh);
    (void)pthread_mutex_unlock(&sh->lock);
    return NULL;
}

/* ------------------------------------------------------------ taking and giving */

static bool wait_for(shelf *sh, book *b, exchange *x) {
    waiter *w = calloc(1, sizeof *w);
    if (!w) return false;
    exchange_ref(x);
    *w = (waiter){.next = sh->waiters, .x = x, .b = b};
    sh->waiters = w;
    return true;
}

static bool is_broken(const book *b) {
    galen_batcher_stats stats = {.size = sizeof stats};
    galen_batcher_get_stats(b->batcher, &stats);
    return stats.is_failed;
}

bool shelf_take(shelf *sh, book *b, exchange *x) {
    http_error refusal = HTTP_LOADING;
    bool is_taken = false, is_waiting = false;
    x->model = b->name;
    (void)pthread_mutex_lock(&sh->lock);
    const uint64_t now = clock_monotonic_ns();
    if (b->state == READY && is_broken(b)) b->state = BROKEN;
    switch (b->state) {
    case READY:
        b->n_users++;
        b->used_ns = now;
        is_taken = true;
        break;
    case BROKEN:
        refusal = HTTP_DEVICE;
        break;
    case FAILED:
        if (now - b->failed_ns > RETRY_AFTER) b->state = WANTED;
        refusal = b->state == WANTED                               ? HTTP_LOADING
                  : http_error_of(b->error.code) == HTTP_NO_MEMORY ? HTTP_NO_MEMORY
                                                                   : HTTP_FAILED;
        break;
    case AWAY:
        b->state = WANTED; /* fall through */
    default:
        /* At the start a load balancer should look elsewhere; later the request waits. */
        is_waiting = (b->was_loaded || b != &sh->books[0]) && !sh->is_ending && wait_for(sh, b, x);
    }
    (void)pthread_cond_signal(&sh->changed);
    (void)pthread_mutex_unlock(&sh->lock);
    if (!is_taken && !is_waiting) reply_error(x, refusal, NULL, NULL);
    return is_taken;
}

galen_status shelf_wait(shelf *sh, book *b, bool (*is_gone)(void *user), void *user, galen_error *err) {
    const struct timespec pause = {.tv_nsec = 10000000};
    for (;;) {
        (void)pthread_mutex_lock(&sh->lock);
        const uint64_t now = clock_monotonic_ns();
        if (b->state == READY && is_broken(b)) b->state = BROKEN;
        const int state = b->state;
        if (state == READY) {
            b->n_users++;
            b->used_ns = now;
        }
        if (state == AWAY || (state == FAILED && now - b->failed_ns > RETRY_AFTER)) b->state = WANTED;
        const bool is_failed = b->state == FAILED;
        if (is_failed) *err = b->error;
        (void)pthread_cond_signal(&sh->changed);
        (void)pthread_mutex_unlock(&sh->lock);
        if (state == READY) return GALEN_OK;
        if (is_failed) return err->code;
        if (is_gone(user)) return galen_fail(err, GALEN_E_CANCELLED, 0, "nobody waits any more");
        (void)nanosleep(&pause, NULL);
    }
}

bool shelf_peek(shelf *sh, book *b) {
    (void)pthread_mutex_lock(&sh->lock);
    const bool is_there = b->state == READY;
    b->n_users += is_there;
    (void)pthread_mutex_unlock(&sh->lock);
    return is_there;
}

void shelf_give(shelf *sh, book *b) {
    (void)pthread_mutex_lock(&sh->lock);
    b->n_users--;
    if (b->state == READY && is_broken(b)) b->state = BROKEN;
    (void)pthread_cond_signal(&sh->changed);
    (void)pthread_mutex_unlock(&sh->lock);
}

int shelf_state(shelf *sh, galen_error *err) {
    (void)pthread_mutex_lock(&sh->lock);
    const book *b = &sh->books[0];
    int state = b->state == READY || ((b->state == AWAY || b->state == IDLE) && b->was_loaded) ? 1 : 0;
    if (b->state == WANTED && b->was_loaded && b->error.code == GALEN_OK) state = 1;
    if (b->state == FAILED) {
        state = -1;
        *err = b->error;
    }
    (void)pthread_mutex_unlock(&sh->lock);
    return state;
}

void shelf_tick(shelf *sh, uint64_t now_ns) {
    if (sh->s->o.idle_s <= 0) return;
    (void)pthread_mutex_lock(&sh->lock);
    for (size_t i = 0; i < sh->n; i++) {
        book *b = &sh->books[i];
        if (b->state != READY || b->n_users || now_ns < b->used_ns || now_ns - b->used_ns < (uint64_t)sh->s->o.idle_s * SECOND)
            continue;
        b->state = IDLE;
        (void)pthread_cond_signal(&sh->changed);
    }
    (void)pthread_mutex_unlock(&sh->lock);
}

bool shelf_is_alive(shelf *sh) {
    bool is_alive = true;
    (void)pthread_mutex_lock(&sh->lock);
    for (size_t i = 0; i < sh->n; i++) {
        galen_batcher_stats stats = {.size = sizeof stats};
        if (sh->books[i].state != READY) continue;
        galen_batcher_get_stats(sh->books[i].batcher, &stats);
        is_alive &= stats.last_step_s < STUCK_S;
    }
    (void)pthread_mutex_unlock(&sh->lock);
    return is_alive;
}

/* ------------------------------------------------------------ open and close */

galen_status shelf_open(shelf **out, server *s, galen_error *err) {
    *out = NULL;
    shelf *sh = calloc(1, sizeof *sh);
    if (sh) sh->books = calloc(s->o.n_models, sizeof *sh->books);
    if (!sh || !sh->books) {
        free(sh);
        return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    }
    sh->s = s;
    sh->n = s->o.n_models;
    (void)pthread_mutex_init(&sh->lock, NULL);
    (void)pthread_cond_init(&sh->changed, NULL);
    for (size_t i = 0; i < sh->n; i++) {
        sh->books[i].name = s->o.models[i].name;
        sh->books[i].path = s->o.models[i].path;
        sh->books[i].opts = s->o.models[i].opts;
    }
    sh->books[0].state = WANTED;
    sh->has_thread = pthread_create(&sh->thread, NULL, work, sh) == 0;
    if (!sh->has_thread) {
        shelf_close(sh);
        return galen_fail(err, GALEN_E_NOMEM, 0, "a thread cannot be started");
    }
    *out = sh;
    return GALEN_OK;
}

void shelf_close(shelf *sh) {
    if (!sh) return;
    (void)pthread_mutex_lock(&sh->lock);
    sh->is_ending = true;
    (void)pthread_cond_signal(&sh->changed);
    (void)pthread_mutex_unlock(&sh->lock);
    if (sh->has_thread) (void)pthread_join(sh->thread, NULL);
    for (size_t i = 0; i < sh->n; i++) {
        galen_batcher_close(sh->books[i].batcher);
        galen_model_close(sh->books[i].model);
    }
    (void)pthread_cond_destroy(&sh->changed);
    (void)pthread_mutex_destroy(&sh->lock);
    free(sh->books);
    free(sh);
}
