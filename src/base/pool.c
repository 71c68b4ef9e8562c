/* Threads that spin for a moment and then sleep on a condition variable.
 *
 * A run is published in one word, the gate: its epoch, whether it is open, and how many workers are inside. A worker enters
 * by counting itself in while the gate is open, takes grains from `next` until none is left, and counts itself out.
 * pool_run takes grains too; when none is left it shuts the gate and waits only for the workers that are inside. A worker
 * that is asleep, or that the system has taken off its core, is therefore never waited for; it finds the gate shut.
 * A run's fields are read only inside the gate and written only while it is shut and empty. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"

enum {
    SPIN_NS = 500000, /* longer than the gap between two stages of a decode step, also where a GPU computes one between them: with
                       * a tenth of it a split step took 5 % longer on 16 virtual cores */
    SPINS_PER_LOOK = 32,
    GATE_INSIDE = 0xffff, /* mask: workers inside */
    GATE_OPEN = 0x10000,
    GATE_EPOCH_SHIFT = 17
};

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
    _Atomic int n_asleep;
    _Atomic bool is_closing;
    char apart_1[64]; /* what the workers spin on stands in a line of its own */
    _Atomic uint64_t gate;
    char apart_2[64];
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

/* Whether there is a run that this worker has not yet been in. */
static bool is_new(uint64_t gate, uint64_t seen) {
    return (gate & GATE_OPEN) && gate >> GATE_EPOCH_SHIFT != seen;
}

static bool is_closing(pool *p) {
    return atomic_load(&p->is_closing);
}

/* Return when there is a new run or the pool closes: spin, then sleep. */
static void wait_for_run(pool *p, uint64_t seen) {
    const uint64_t until = clock_monotonic_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (is_new(atomic_load_explicit(&p->gate, memory_order_relaxed), seen)) return;
            cpu_relax();
        }
    } while (clock_monotonic_ns() < until);
    (void)pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1); /* sequentially consistent against the opening of the gate in pool_run */
    while (!is_new(atomic_load(&p->gate), seen) && !is_closing(p)) (void)pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    (void)pthread_mutex_unlock(&p->lock);
}

/* Count in, unless the gate has been shut meanwhile; *seen becomes the run's epoch. */
static bool enter(pool *p, uint64_t *seen) {
    uint64_t gate = atomic_load_explicit(&p->gate, memory_order_relaxed);
    while (is_new(gate, *seen))
        if (atomic_compare_exchange_weak_explicit(&p->gate, &gate, gate + 1, memory_order_acquire, memory_order_relaxed)) {
            *seen = gate >> GATE_EPOCH_SHIFT;
            return true;
        }
    return false;
}

static void *work(void *arg) {
    const worker *w = arg;
    pool *p = w->owner;
    uint64_t seen = 0;
    while (!is_closing(p)) {
        wait_for_run(p, seen);
        if (!enter(p, &seen)) continue;
        take_grains(p, w->index);
        atomic_fetch_sub_explicit(&p->gate, 1, memory_order_release);
    }
    return NULL;
}

static void wake_all(pool *p) {
    (void)pthread_mutex_lock(&p->lock); /* a worker between its test and its wait holds this lock */
    (void)pthread_cond_broadcast(&p->wake);
    (void)pthread_mutex_unlock(&p->lock);
}

galen_status pool_open(pool **out, int n_threads, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    if (n_threads < 1 || n_threads > GATE_INSIDE) return galen_fail(err, GALEN_E_ARG, 0, "a pool of %d threads", n_threads);
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
    wake_all(p);
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
    const uint64_t epoch = (atomic_load_explicit(&p->gate, memory_order_relaxed) >> GATE_EPOCH_SHIFT) + 1;
    atomic_store(&p->gate, epoch << GATE_EPOCH_SHIFT | GATE_OPEN);
    if (atomic_load(&p->n_asleep) != 0) wake_all(p);
    take_grains(p, 0);
    atomic_fetch_and_explicit(&p->gate, ~(uint64_t)GATE_OPEN, memory_order_relaxed);
    for (int spins = 0; atomic_load_explicit(&p->gate, memory_order_acquire) & GATE_INSIDE; spins++) {
        cpu_relax();
        if (spins % 1024 == 1023) (void)sched_yield(); /* the worker inside may need this very core */
    }
    (void)pthread_mutex_unlock(&p->run_lock);
}
