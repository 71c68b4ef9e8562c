#include "server/perf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/inside.h"
#include "store/store.h"

#define N_ROWS    1024 /* some seconds of a server at its fastest */
#define N_BATCH   128  /* rows of one transaction */
#define BUSY_MS   1000
#define GATHER_MS 500 /* rows of so long make one transaction: the store's other writers are patients' turns */
#define RETRY_MS  1000
#define TIDY_MS   3600000 /* how often retention is looked at */

typedef struct row {
    store_perf p; /* its strings are those below */
    const char *path;
    char name[96], device[96], placement[192], fallback[256];
} row;

struct perf_log {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    row *rows; /* a ring; the thread reads [first, first + n) without the lock: nobody else touches these */
    size_t first, n;
    int64_t n_dropped; /* since the last row that was taken in */
    bool is_ending, has_thread;
    pthread_t thread;
    /* the thread's own */
    store *st;
    bool has_failed;
    uint64_t tidied_ns;
};

static int64_t now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ------------------------------------------------------------ taking in */

static const char *keep(char *to, size_t cap, const char *from) {
    if (!from) return NULL;
    (void)snprintf(to, cap, "%s", from);
    return to;
}

static void put(server *s, const row *from) {
    perf_log *q = s->perf;
    (void)pthread_mutex_lock(&q->lock);
    const bool is_full = q->n == N_ROWS;
    if (is_full) {
        q->n_dropped++;
    } else {
        row *r = &q->rows[(q->first + q->n++) % N_ROWS];
        *r = *from;
        r->p.model_name = keep(r->name, sizeof r->name, from->p.model_name);
        r->p.device = keep(r->device, sizeof r->device, from->p.device);
        r->p.placement = keep(r->placement, sizeof r->placement, from->p.placement);
        r->p.fallback = keep(r->fallback, sizeof r->fallback, from->p.fallback);
        r->p.n_dropped = q->n_dropped;
        q->n_dropped = 0;
        (void)pthread_cond_signal(&q->changed);
    }
    (void)pthread_mutex_unlock(&q->lock);
    if (is_full) metrics_add(&s->metrics, METRIC_PERF_DROPPED, 1);
}

void perf_generation(server *s, book *b, const perf_figures *f) {
    const galen_model_info i = galen_model_get_info(b->model); /* now: the model may have moved since it was opened */
    const double load_s = (double)atomic_exchange(&b->load_us, 0) * 1e-6;
    const row r = {.path = b->path,
                   .p = {.time_ms = now_ms(),
                         .verb = f->verb,
                         .model_name = i.name,
                         .device = i.device,
                         .placement = i.placement,
                         .fallback = i.fell_back,
                         .load_s = load_s,
                         .prefill_s = f->prefill_s,
                         .decode_s = f->decode_s,
                         .first_s = f->first_s,
                         .n_prompt = f->n_prompt,
                         .n_cached = f->n_cached,
                         .n_generated = f->n_generated,
                         .error = f->status}};
    put(s, &r);
}

void perf_load_failed(server *s, const book *b, double seconds, galen_status status) {
    const row r = {.path = b->path,
                   .p = {.time_ms = now_ms(), .verb = "serve.load", .model_name = b->name, .load_s = seconds, .error = status}};
    put(s, &r);
}

/* ------------------------------------------------------------ the thread */

/* The n oldest rows; without the lock. */
static galen_status write_rows(server *s, size_t n, galen_error *err) {
    perf_log *q = s->perf;
    store_perf batch[N_BATCH];
    char hex[N_BATCH][SHA256_HEX_BYTES];
    const store_opts o = {.path = s->o.store_path, .busy_ms = BUSY_MS};
    const galen_status st = q->st ? GALEN_OK : store_open(&q->st, &o, err);
    if (st) return st;
    for (size_t i = 0; i < n; i++) {
        const row *r = &q->rows[(q->first + i) % N_ROWS];
        batch[i] = r->p;
        batch[i].model_sha256 = store_model_hash_known(q->st, r->path, hex[i]) ? hex[i] : NULL;
    }
    return store_perf_append_all(q->st, batch, n, err);
}

/* A server is open for longer than rows are kept. */
static void tidy(perf_log *q) {
    const uint64_t now = clock_monotonic_ns();
    if (!q->st || now - q->tidied_ns < (uint64_t)TIDY_MS * 1000000) return;
    if (!store_perf_expire(q->st, NULL)) q->tidied_ns = now; /* else after the next rows */
}

/* Said once when it begins and once when it is over. */
static void tell(server *s, galen_status st, const galen_error *err) {
    perf_log *q = s->perf;
    if (st && !q->has_failed) log_event(s, "error", "perf_not_kept", "detail", err->msg);
    if (!st && q->has_failed) log_event(s, "info", "perf_kept_again", NULL, "");
    q->has_failed = st != GALEN_OK;
}

/* With the lock: so long, or until the end; or until a row comes. */
static void pause_ms(perf_log *q, int ms, bool is_for_rows) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!q->is_ending && !(is_for_rows && q->n))
        if (pthread_cond_timedwait(&q->changed, &q->lock, &until) == ETIMEDOUT) break;
}

/* With the lock, which is let go while the store works. False: it failed, the rows wait. */
static bool write_some(server *s) {
    perf_log *q = s->perf;
    galen_error err = {0};
    const size_t n = q->n < N_BATCH ? q->n : N_BATCH;
    (void)pthread_mutex_unlock(&q->lock);
    const galen_status st = n ? write_rows(s, n, &err) : GALEN_OK;
    if (n) tell(s, st, &err);
    if (!st) tidy(q);
    (void)pthread_mutex_lock(&q->lock);
    if (st) return false;
    q->first = (q->first + n) % N_ROWS;
    q->n -= n;
    return true;
}

static void *work(void *arg) {
    server *s = arg;
    perf_log *q = s->perf;
    bool ok = true;
    (void)pthread_mutex_lock(&q->lock);
    while (ok ? q->n || !q->is_ending : !q->is_ending) { /* a store that fails at the end is not tried again */
        if (!q->n) pause_ms(q, TIDY_MS, true);
        pause_ms(q, ok ? GATHER_MS : RETRY_MS, false);
        ok = write_some(s);
    }
    (void)pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* ------------------------------------------------------------ open and close */

galen_status perf_open(server *s, galen_error *err) {
    perf_log *q = calloc(1, sizeof *q);
    if (q) q->rows = calloc(N_ROWS, sizeof *q->rows);
    if (!q || !q->rows) {
        free(q);
        return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    }
    (void)pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t monotonic; /* a clock that is set back holds no row back */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&q->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    s->perf = q;
    q->has_thread = pthread_create(&q->thread, NULL, work, s) == 0;
    return q->has_thread ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "a thread cannot be started");
}

void perf_close(server *s) {
    perf_log *q = s->perf;
    char count[32];
    if (!q) return;
    (void)pthread_mutex_lock(&q->lock);
    q->is_ending = true;
    (void)pthread_cond_signal(&q->changed);
    (void)pthread_mutex_unlock(&q->lock);
    if (q->has_thread) (void)pthread_join(q->thread, NULL);
    (void)snprintf(count, sizeof count, "%zu", q->n);
    if (q->n) log_event(s, "error", "perf_rows_lost", "rows", count);
    store_close(q->st);
    (void)pthread_cond_destroy(&q->changed);
    (void)pthread_mutex_destroy(&q->lock);
    free(q->rows);
    free(q);
    s->perf = NULL;
}
