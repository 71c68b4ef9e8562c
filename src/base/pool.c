/* Threads that spin for a moment and then sleep on a condition variable.
 *
 * One run is published by raising `epoch`; workers see it, take grains from `next` until none is left, and count
 * themselves out in `n_busy`. A worker may only look at a run's fields between seeing its epoch and counting out, and
 * pool_run returns only when every worker has counted out, so fields are never written while they are read. */
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000 }; /* some 20 to 50 us: longer than the gap between two stages of a decode step */

typedef struct worker {
    pool *owner;
    int index;
    pthread_t thread;
} worker;

struct pool {
    int n_threads;
    int n_started;
    worker *workers;
    pthread_mutex_t run_lock; /* one pool_run at a time */
    pthread_mutex_t lock;     /* guards sleeping and waking */
    pthread_cond_t wake;
    _Atomic uint32_t epoch;
    _Atomic int n_asleep;
    _Atomic int n_busy;
    _Atomic bool is_closing;
    /* the run */
    _Atomic int64_t next;
    int64_t n, grain;
    pool_fn fn;
    void *ctx;
};

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_grains(pool *p, int thread) {
    for (;;) {
        const int64_t begin = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed);
        if (begin >= p->n) return;
        const int64_t end = p->n - begin < p->grain ? p->n : begin + p->grain;
        p->fn(p->ctx, begin, end, thread);
    }
}

/* Wait for an epoch other than seen: spin, then sleep. */
static uint32_t wait_epoch(pool *p, uint32_t seen) {
    for (int i = 0; i < SPINS; i++) {
        const uint32_t e = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (e != seen) return e;
        cpu_relax();
    }
    (void)pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1); /* sequentially consistent against the raise of epoch in pool_run */
    uint32_t e;
    while ((e = atomic_load(&p->epoch)) == seen) (void)pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    (void)pthread_mutex_unlock(&p->lock);
    return e;
}

static void raise_epoch(pool *p) {
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->n_asleep) == 0) return;
    (void)pthread_mutex_lock(&p->lock); /* a worker between its test and its wait holds this lock */
    (void)pthread_cond_broadcast(&p->wake);
    (void)pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg) {
    const worker *w = arg;
    pool *p = w->owner;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_epoch(p, seen);
        if (atomic_load_explicit(&p->is_closing, memory_order_acquire)) return NULL;
        take_grains(p, w->index);
        atomic_fetch_sub_explicit(&p->n_busy, 1, memory_order_release);
    }
}

galen_status pool_open(pool **out, int n_threads, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    if (n_threads < 1) return galen_fail(err, GALEN_E_ARG, 0, "a pool of %d threads", n_threads);
    pool *p = calloc(1, sizeof *p);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "thread pool");
    p->n_threads = n_threads;
    (void)pthread_mutex_init(&p->run_lock, NULL);
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    p->workers = calloc((size_t)n_threads, sizeof *p->workers);
    if (!p->workers) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "thread pool of %d", n_threads);
        goto fail;
    }
    for (int i = 1; i < n_threads; i++) {
        worker *w = &p->workers[i];
        w->owner = p;
        w->index = i;
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            st = galen_fail(err, GALEN_E_DEVICE, 0, "cannot start thread %d of %d", i + 1, n_threads);
            goto fail;
        }
        p->n_started++;
    }
    *out = p;
    return GALEN_OK;
fail:
    pool_close(p);
    return st;
}

void pool_close(pool *p) {
    if (!p) return;
    atomic_store(&p->is_closing, true);
    raise_epoch(p);
    for (int i = 1; i <= p->n_started; i++) (void)pthread_join(p->workers[i].thread, NULL);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_mutex_destroy(&p->run_lock);
    free(p->workers);
    free(p);
}

int pool_n_threads(const pool *p) {
    return p->n_threads;
}

void pool_run(pool *p, int64_t n, int64_t grain, pool_fn fn, void *ctx) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    if (p->n_threads == 1 || n <= grain) {
        for (int64_t b = 0; b < n; b += grain) fn(ctx, b, n - b < grain ? n : b + grain, 0);
        return;
    }
    (void)pthread_mutex_lock(&p->run_lock);
    p->n = n;
    p->grain = grain;
    p->fn = fn;
    p->ctx = ctx;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->n_busy, p->n_threads - 1, memory_order_relaxed);
    raise_epoch(p);
    take_grains(p, 0);
    while (atomic_load_explicit(&p->n_busy, memory_order_acquire) != 0) cpu_relax();
    (void)pthread_mutex_unlock(&p->run_lock);
}
