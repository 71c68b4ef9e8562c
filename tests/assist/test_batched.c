/* The same seed gives the same answer: alone in sessions of its own with large and small batches and contexts, and over a batcher
 * beside others, from several threads. On the CPU to the last bit. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "galen/assist.h"

static char path[] = "/tmp/galen-batched-XXXXXX";
static const char symptoms[] = "persistent cough, fever and chest pain for 3 days, worse at night";

static int make_model(void **state) {
    (void)state;
    galen_synth_opts o = galen_synth_default_opts();
    const int fd = mkstemp(path);
    if (fd < 0 || close(fd)) return -1;
    o.shape = "tiny";
    o.type = "q8_0";
    return galen_synth(path, &o, NULL) ? -1 : 0;
}

static int drop_model(void **state) {
    (void)state;
    return unlink(path);
}

/* A list, five questions and an answer in words. */
typedef struct answer {
    const galen_model *m;
    galen_batcher *b;
    int32_t n_ctx, n_batch;
    uint64_t seed;
    galen_differential d, after;
    galen_questions q;
} answer;

static void *take_case(void *user) {
    answer *x = user;
    galen_assistant *a = NULL;
    galen_assistant_opts o = galen_assistant_default_opts();
    galen_error err = {0};
    galen_question next;
    galen_stop stop;
    galen_update u;
    o.batcher = x->b;
    o.n_ctx = x->n_ctx;
    o.n_batch = x->n_batch;
    o.seed = x->seed;
    if (galen_assistant_open(&a, x->m, &o, &err)) fail_msg("%s", err.msg);
    if (galen_assistant_diagnose(a, symptoms, sizeof symptoms - 1, &x->d, &err)) fail_msg("%s", err.msg);
    if (galen_assistant_questions(a, &x->q, &err)) fail_msg("%s", err.msg);
    if (galen_assistant_ask(a, &next, &stop, &err)) fail_msg("%s", err.msg);
    assert_int_equal(stop, GALEN_STOP_NONE);
    if (galen_assistant_answer(a, GALEN_ANSWER_TEXT, "only when lying down", 20, &u, &err)) fail_msg("%s", err.msg);
    x->after = u.now;
    x->after.usage = x->d.usage = x->q.usage = (galen_assist_usage){0}; /* seconds, and passes */
    galen_assistant_close(a);
    return NULL;
}

static void check_same(const answer *x, const answer *y, const char *why) {
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        if (strcmp(x->d.conditions[i].name, y->d.conditions[i].name) != 0)
            fail_msg("%s: condition %d: %s, %s", why, i, x->d.conditions[i].name, y->d.conditions[i].name);
    for (int i = 0; i < GALEN_N_QUESTIONS; i++)
        if (strcmp(x->q.questions[i].text, y->q.questions[i].text) != 0)
            fail_msg("%s: question %d: %s, %s", why, i, x->q.questions[i].text, y->q.questions[i].text);
    if (memcmp(&x->d, &y->d, sizeof x->d) != 0) fail_msg("%s: the list has other bytes", why);
    if (memcmp(&x->q, &y->q, sizeof x->q) != 0) fail_msg("%s: the questions have other bytes", why);
    if (memcmp(&x->after, &y->after, sizeof x->after) != 0) fail_msg("%s: the ranking after an answer has other bytes", why);
}

static void the_same_seed_gives_the_same_answer(void **state) {
    (void)state;
    enum { N = 4 };
    static answer alone[N], small[N], among[N];
    pthread_t threads[N];
    galen_model *m = NULL;
    galen_batcher *b = NULL;
    galen_error err = {0};
    galen_model_opts mo = galen_model_default_opts();
    galen_batcher_opts bo = galen_batcher_default_opts();
    mo.chat_format = "plain";
    mo.device = "cpu";
    mo.n_threads = 2;
    bo.n_ctx = 1024;
    bo.kv_tokens = 2048; /* less than they take together */
    bo.max_seqs = 6;
    if (galen_model_open(&m, path, &mo, &err)) fail_msg("%s", err.msg);
    if (galen_batcher_open(&b, m, &bo, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < N; i++) {
        const uint64_t seed = (uint64_t)(i / 2); /* two of each: who comes second finds the pages of the first */
        alone[i] = (answer){.m = m, .n_ctx = 1024, .seed = seed};
        small[i] = (answer){.m = m, .n_ctx = 512, .n_batch = 33, .seed = seed};
        among[i] = (answer){.m = m, .b = b, .seed = seed};
        assert_int_equal(pthread_create(&threads[i], NULL, take_case, &among[i]), 0);
    }
    for (int i = 0; i < N; i += 2) {
        (void)take_case(&alone[i]);
        (void)take_case(&small[i]);
        check_same(&alone[i], &small[i], "small batches, few pages");
        alone[i + 1] = alone[i];
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        check_same(&alone[i], &among[i], "over a batcher");
    }
    assert_true(strcmp(alone[0].d.conditions[0].name, alone[2].d.conditions[0].name) != 0 ||
                strcmp(alone[0].q.questions[0].text, alone[2].q.questions[0].text) != 0); /* another seed, another answer */
    galen_batcher_close(b);
    galen_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_seed_gives_the_same_answer)};
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
