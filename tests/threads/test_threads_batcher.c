/* A batcher used from several threads at once: submit, cancel, look, sessions. Also run under ThreadSanitizer. */
#include "../support/batch.h"

#include "runtime/batch.h"

static char path[] = "/tmp/galen-test-threads-batcher-XXXXXX";
enum { CTX = 256, THREADS = 4, ROUNDS = 12 };

typedef struct user {
    galen_batcher *b;
    const galen_model *m;
    uint64_t number;
    int n_wrong;
} user;

static void *use(void *arg) {
    user *u = arg;
    static _Thread_local job jobs[3], want;
    float logits[TINY_VOCAB];
    galen_session *s = NULL;
    galen_session_opts o = galen_session_default_opts();
    o.batcher = u->b;
    u->n_wrong += galen_session_open(&s, u->m, &o, NULL) != GALEN_OK;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < 3; i++) {
            jobs[i] = job_make(u->number * 1000 + round * 3 + i, 120);
            jobs[i].max_tokens = 12;
            u->n_wrong += job_submit(u->b, &jobs[i], NULL) != GALEN_OK;
        }
        galen_batcher_cancel(u->b, jobs[1].id);
        u->n_wrong += galen_session_rewind(s, galen_session_n_past(s) / 2, NULL) != GALEN_OK;
        u->n_wrong += galen_session_eval(s, jobs[0].prompt, jobs[0].n_prompt, logits, NULL) != GALEN_OK;
        const galen_batcher_stats stats = batch_stats(u->b);
        u->n_wrong += stats.n_pages_used > stats.n_pages || stats.is_failed;
        for (int i = 0; i < 3; i++) {
            job_wait(&jobs[i]);
            u->n_wrong += jobs[i].st != GALEN_OK && i != 1;
        }
        want = job_make(u->number * 1000 + round * 3, 120);
        want.max_tokens = 12;
        job_alone(u->m, &want, CTX, "f16");
        u->n_wrong += !job_is_same(&want, &jobs[0]);
    }
    galen_session_close(s);
    return NULL;
}

static void many_threads_one_batcher(void **state) {
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    galen_batcher_opts o = galen_batcher_default_opts();
    o.n_ctx = CTX;
    o.kv_tokens = 3 * CTX;
    o.max_seqs = 5;
    o.n_batch = 40;
    galen_batcher *b;
    assert_int_equal(galen_batcher_open(&b, m, &o, NULL), GALEN_OK);
    b->worth_waking = 1; /* tokens are chosen by several threads */
    pthread_t threads[THREADS];
    user users[THREADS];
    for (int i = 0; i < THREADS; i++) {
        users[i] = (user){.b = b, .m = m, .number = (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(users[i].n_wrong, 0);
    }
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
    (void)unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_threads_one_batcher)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
