/* The thread pool: every index once, whoever runs it, however often, asleep or awake. Meant to be run under TSan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/pool.h"

enum { MOST = 10000 };

typedef struct tally {
    int64_t n, grain;
    int n_threads;
    uint8_t count[MOST]; /* plain bytes: a task owns its indices, so this is no race */
    _Atomic int n_bad;
} tally;

static void mark(void *ctx, int64_t begin, int64_t end, int thread) {
    tally *t = ctx;
    const bool is_last = end == t->n;
    if (begin < 0 || begin >= end || end > t->n || begin % t->grain || (!is_last && end - begin != t->grain) ||
        end - begin > t->grain || thread < 0 || thread >= t->n_threads)
        atomic_fetch_add(&t->n_bad, 1);
    for (int64_t i = begin; i < end; i++) t->count[i]++;
}

static void run_once(pool *p, tally *t, int64_t n, int64_t grain) {
    memset(t->count, 0, sizeof t->count);
    t->n = n;
    t->grain = grain < 1 ? 1 : grain;
    t->n_threads = pool_n_threads(p);
    t->n_bad = 0;
    pool_run(p, n, grain, mark, t);
    assert_int_equal(t->n_bad, 0);
    for (int64_t i = 0; i < MOST; i++) assert_int_equal(t->count[i], i < n);
}

static const struct {
    int64_t n, grain;
    const char *why;
} cases[] = {
    {0, 1, "nothing"},
    {-5, 1, "less than nothing"},
    {1, 1, "one"},
    {2, 1, "two"},
    {7, 100, "less than a grain"},
    {100, 100, "one grain"},
    {101, 100, "a grain and 1"},
    {MOST, 1, "many small"},
    {MOST, 33, "a short last grain"},
    {5, 0, "grain 0 means 1"},
    {5, -3, "a negative grain means 1"},
    {MOST, INT64_MAX, "the largest grain"},
};

static void every_index_once(void **state) {
    static tally t;
    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads++) {
        pool *p;
        assert_int_equal(pool_open(&p, n_threads, NULL), GALEN_OK);
        assert_int_equal(pool_n_threads(p), n_threads);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_once(p, &t, cases[i].n, cases[i].grain);
        pool_close(p);
    }
}

/* Runs that follow at once, and runs that find the workers asleep. */
static void spinning_and_sleeping(void **state) {
    static tally t;
    pool *p;
    (void)state;
    assert_int_equal(pool_open(&p, 3, NULL), GALEN_OK);
    for (int i = 0; i < 300; i++) run_once(p, &t, 64, 1);
    for (int i = 0; i < 30; i++) {
        const struct timespec nap = {.tv_nsec = i % 3 * 100000}; /* none, about as long as the workers spin, longer */
        (void)nanosleep(&nap, NULL);
        run_once(p, &t, 64, 1);
    }
    pool_close(p);
}

/* Results of a run are seen by the caller and by the next run's tasks. */
static void add_one(void *ctx, int64_t begin, int64_t end, int thread) {
    int64_t *v = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) v[i] += v[(i + 1) % 64 + 64];
}
static void copy_up(void *ctx, int64_t begin, int64_t end, int thread) {
    int64_t *v = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) v[i + 64] = 1 + v[i] % 2;
}
static void runs_are_ordered(void **state) {
    static int64_t v[128], want[128];
    pool *p;
    (void)state;
    assert_int_equal(pool_open(&p, 4, NULL), GALEN_OK);
    for (int i = 0; i < 2000; i++) {
        pool_run(p, 64, 3, copy_up, v);
        pool_run(p, 64, 5, add_one, v);
        copy_up(want, 0, 64, 0);
        add_one(want, 0, 64, 0);
    }
    assert_memory_equal(v, want, sizeof v);
    pool_close(p);
}

typedef struct caller {
    pool *p;
    _Atomic int64_t sum;
} caller;

static void count(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    atomic_fetch_add((_Atomic int64_t *)ctx, end - begin);
}

static void *call(void *arg) {
    caller *c = arg;
    for (int i = 0; i < 300; i++) pool_run(c->p, 100, 7, count, &c->sum);
    return NULL;
}

static void several_callers(void **state) {
    pool *p;
    caller c[3] = {0};
    pthread_t t[3];
    (void)state;
    assert_int_equal(pool_open(&p, 3, NULL), GALEN_OK);
    for (int i = 0; i < 3; i++) {
        c[i].p = p;
        assert_int_equal(pthread_create(&t[i], NULL, call, &c[i]), 0);
    }
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_join(t[i], NULL), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(c[i].sum, 30000);
    pool_close(p);
}

static void opening_and_closing(void **state) {
    pool *p = (pool *)&p;
    galen_error err = {0};
    (void)state;
    assert_int_equal(pool_open(&p, 0, &err), GALEN_E_ARG);
    assert_null(p);
    assert_int_equal(pool_open(&p, -1, NULL), GALEN_E_ARG);
    assert_int_equal(pool_open(&p, INT32_MAX, &err), GALEN_E_ARG);
    for (int i = 0; i < 50; i++) { /* workers that have not yet begun, spin, or sleep */
        const struct timespec nap = {.tv_nsec = i % 5 * 40000};
        assert_int_equal(pool_open(&p, 4, NULL), GALEN_OK);
        (void)nanosleep(&nap, NULL);
        pool_close(p);
    }
    pool_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_index_once), cmocka_unit_test(spinning_and_sleeping),
                                       cmocka_unit_test(runs_are_ordered), cmocka_unit_test(several_callers),
                                       cmocka_unit_test(opening_and_closing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
