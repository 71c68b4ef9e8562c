/* The asynchronous adapter over a real engine with random weights: jobs in order, cancelled before and while they run, closed in
 * the middle. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "assist/form.h"
#include "galen/assist.h"

static char path[64] = "/tmp/galen-adapter-XXXXXX";

static int make_model(void **state) {
    (void)state;
    galen_error err = {0};
    galen_synth_opts o = galen_synth_default_opts();
    const int fd = mkstemp(path);
    if (fd < 0 || close(fd)) return -1;
    o.shape = "tiny";
    o.type = "q8_0";
    return galen_synth(path, &o, &err) ? -1 : 0;
}

static int drop_model(void **state) {
    (void)state;
    return unlink(path);
}

/* What callbacks saw, in their order. */
typedef struct log_entry {
    uint64_t job;
    galen_status status;
    bool has_text, has_triage, has_differential, has_questions;
} log_entry;

typedef struct job_log {
    pthread_mutex_t lock;
    pthread_cond_t more;
    log_entry of[64];
    int n;
    char text[4096]; /* of the last */
} job_log;

static void on_done(void *user, const galen_adapter_result *r) {
    job_log *l = user;
    pthread_mutex_lock(&l->lock);
    assert_non_null(r->error);
    l->of[l->n++] = (log_entry){.job = r->job,
                                .status = r->status,
                                .has_text = r->text[0] != '\0',
                                .has_triage = r->triage != NULL,
                                .has_differential = r->differential != NULL,
                                .has_questions = r->questions != NULL};
    (void)snprintf(l->text, sizeof l->text, "%s", r->text);
    pthread_cond_signal(&l->more);
    pthread_mutex_unlock(&l->lock);
}

static void wait_for(job_log *l, int n) {
    pthread_mutex_lock(&l->lock);
    while (l->n < n) pthread_cond_wait(&l->more, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static const char symptoms[] = "persistent cough, fever and chest pain for 3 days";

static void load(galen_adapter *ad, job_log *l, uint64_t *id) {
    galen_error err = {0};
    galen_model_opts mo = galen_model_default_opts();
    mo.chat_format = "plain";
    mo.device = "cpu";
    mo.n_threads = 1;
    assert_int_equal(galen_adapter_load_model(ad, path, &mo, NULL, on_done, l, id, &err), GALEN_OK);
}

/* The guide's three calls. */
static void test_three_calls(void **state) {
    (void)state;
    job_log l = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    galen_adapter *ad = NULL;
    galen_error err = {0};
    uint64_t id[5];
    assert_int_equal(galen_adapter_open(&ad, &err), GALEN_OK);
    assert_int_equal(galen_adapter_generate_diagnosis(ad, symptoms, strlen(symptoms), on_done, &l, NULL, &err), GALEN_OK);
    wait_for(&l, 1);
    assert_int_equal(l.of[0].status, GALEN_E_ARG); /* nothing is loaded */
    load(ad, &l, &id[0]);
    assert_int_equal(galen_adapter_generate_diagnosis(ad, symptoms, strlen(symptoms), on_done, &l, &id[1], &err), GALEN_OK);
    assert_int_equal(galen_adapter_generate_followup_questions(ad, NULL, 0, 0, on_done, &l, &id[2], &err), GALEN_OK);
    wait_for(&l, 4);
    assert_true(strncmp(l.text, "1. ", 3) == 0 && strstr(l.text, "\n5. "));
    static const char context[] = "- diagnosis: flu\n- confidence: 0.8";
    assert_int_equal(galen_adapter_generate_followup_questions(ad, context, sizeof context - 1, 0.8, on_done, &l, &id[3], &err),
                     GALEN_OK);
    assert_int_equal(galen_adapter_generate_diagnosis(ad, "hello", 5, on_done, &l, &id[4], &err), GALEN_OK);
    wait_for(&l, 6);
    for (int i = 0; i < 5; i++) assert_int_equal(l.of[i + 1].job, id[i]); /* in the order submitted */
    for (int i = 1; i < 5; i++) assert_int_equal(l.of[i].status, GALEN_OK);
    assert_true(l.of[2].has_differential && l.of[2].has_triage && l.of[2].has_text);
    assert_true(l.of[3].has_questions && l.of[4].has_questions && !l.of[4].has_triage);
    assert_int_equal(l.of[5].status, GALEN_E_REFUSED);
    assert_true(l.of[5].has_triage && !l.of[5].has_text); /* red flags without a list */
    galen_adapter_close(ad);
    galen_adapter_close(NULL);
}

static void test_cancelled(void **state) {
    (void)state;
    enum { N_JOBS = 6 }; /* each takes a minute under ThreadSanitizer on a busy machine */
    job_log l = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    galen_adapter *ad = NULL;
    galen_error err = {0};
    uint64_t id[N_JOBS];
    assert_int_equal(galen_adapter_open(&ad, &err), GALEN_OK);
    pthread_mutex_lock(&l.lock); /* holds up the first end */
    load(ad, &l, &id[0]);
    for (int i = 1; i < N_JOBS; i++)
        assert_int_equal(galen_adapter_generate_diagnosis(ad, symptoms, strlen(symptoms), on_done, &l, &id[i], &err), GALEN_OK);
    galen_adapter_cancel(ad, id[N_JOBS - 3]); /* one that waits */
    pthread_mutex_unlock(&l.lock);
    wait_for(&l, 2);
    galen_adapter_cancel(ad, id[1]); /* one that has ended: nothing */
    wait_for(&l, N_JOBS - 2);
    assert_int_equal(l.of[N_JOBS - 3].job, id[N_JOBS - 3]);
    assert_int_equal(l.of[N_JOBS - 3].status, GALEN_E_CANCELLED);
    for (int i = 1; i < N_JOBS - 3; i++) assert_int_equal(l.of[i].status, GALEN_OK);
    galen_adapter_close(ad); /* in the middle of the others: each is told */
    assert_int_equal(l.n, N_JOBS);
    for (int i = N_JOBS - 2; i < N_JOBS; i++) assert_true(l.of[i].status == GALEN_OK || l.of[i].status == GALEN_E_CANCELLED);
    galen_adapter_fn none = NULL;
    assert_int_equal(galen_adapter_open(&ad, &err), GALEN_OK);
    assert_int_equal(galen_adapter_generate_diagnosis(ad, symptoms, 3, none, NULL, NULL, &err), GALEN_E_ARG);
    galen_adapter_close(ad);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_three_calls), cmocka_unit_test(test_cancelled)};
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
