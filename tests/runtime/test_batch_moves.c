/* The GPU fails in the middle of many requests: the model moves to the processor, all KV is lost, no request is. Against a fake
 * GPU, which computes with the cpu backend: so the bytes are those of each request alone. */
#include "../support/batch.h"

#include <dlfcn.h>

#include "../fake/fake.h"

static char path[] = "/tmp/galen-test-moves-XXXXXX";
static fake_device_state *fake;
enum { CTX = 256, JOBS = 20 };

static int n_warnings;
static void on_notice(void *user, galen_notice kind, const char *text) {
    (void)user;
    (void)text;
    n_warnings += kind == GALEN_NOTICE_WARNING;
}

static int find_fake(void **state) {
    (void)state;
    char dir[512], file[600];
    Dl_info here;
    const char *build = getenv("GALEN_BUILD");
    assert_true(dladdr((void *)(uintptr_t)&find_fake, &here));
    if (build)
        (void)snprintf(dir, sizeof dir, "%s/tests/fake", build);
    else
        (void)snprintf(dir, sizeof dir, "%.*s/../fake", (int)(strrchr(here.dli_fname, '/') - here.dli_fname), here.dli_fname);
    assert_int_equal(setenv("GALEN_PLUGIN_DIR", dir, 1), 0);
    (void)snprintf(file, sizeof file, "%s/libgalen-cuda.so", dir);
    void *library = dlopen(file, RTLD_NOW);
    if (!library) fail_msg("%s", dlerror());
    fake = dlsym(library, "fake_device");
    assert_non_null(fake);
    assert_int_equal(close(mkstemp(path)), 0);
    galen_synth_opts so = galen_synth_default_opts();
    so.shape = "tiny";
    so.type = "q8_0";
    return galen_synth(path, &so, NULL);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static galen_model *open_model(const char *device, bool is_gpu_required) {
    galen_model *m;
    galen_error err = {0};
    galen_model_opts o = galen_model_default_opts();
    o.device = device;
    o.n_threads = 2;
    o.n_ctx = CTX;
    o.is_gpu_required = is_gpu_required;
    o.notice = on_notice;
    if (galen_model_open(&m, path, &o, &err)) fail_msg("%s", err.msg);
    return m;
}

static galen_batcher *open_batcher(const galen_model *m) {
    galen_batcher *b;
    galen_error err = {0};
    galen_batcher_opts o = galen_batcher_default_opts();
    o.n_ctx = CTX;
    o.max_seqs = 6;
    o.kv_tokens = 3 * CTX;
    o.n_batch = 48;
    if (galen_batcher_open(&b, m, &o, &err)) fail_msg("%s", err.msg);
    return b;
}

static void requests_survive_a_lost_gpu(void **state) {
    (void)state;
    static job want[JOBS], jobs[JOBS];
    galen_model *cpu = open_model("cpu", false);
    for (int i = 0; i < JOBS; i++) {
        want[i] = job_make((uint64_t)i, 150);
        job_alone(cpu, &want[i], CTX, "f16");
    }
    galen_model_close(cpu);
    for (int64_t steps = 40; steps < 4000; steps *= 3) {
        n_warnings = 0;
        galen_model *m = open_model(NULL, false);
        assert_true(galen_model_get_info(m).n_gpu_layers > 0);
        galen_batcher *b = open_batcher(m);
        galen_session *s;
        galen_session_opts so = galen_session_default_opts();
        float logits[4096], again[4096];
        so.batcher = b;
        assert_int_equal(galen_session_open(&s, m, &so, NULL), GALEN_OK);
        assert_int_equal(galen_session_eval(s, want[1].prompt, want[1].n_prompt, logits, NULL), GALEN_OK);
        fake->step_fail = fake->n_steps + steps;
        for (int i = 0; i < JOBS; i++) {
            jobs[i] = job_make((uint64_t)i, 150);
            assert_int_equal(job_submit(b, &jobs[i], NULL), GALEN_OK);
        }
        for (int i = 0; i < JOBS; i++) {
            job_wait(&jobs[i]);
            if (jobs[i].st) fail_msg("%lld steps: request %d: %s", (long long)steps, i, jobs[i].err.msg);
            if (!job_is_same(&jobs[i], &want[i])) fail_msg("%lld steps: request %d has other bytes", (long long)steps, i);
        }
        assert_int_equal(n_warnings, 1);
        assert_int_equal(galen_model_get_info(m).n_gpu_layers, 0);
        assert_int_equal(galen_session_rewind(s, want[1].n_prompt - 1, NULL), GALEN_OK); /* it was idle, and its pages are lost */
        assert_int_equal(galen_session_eval(s, want[1].prompt + want[1].n_prompt - 1, 1, again, NULL), GALEN_OK);
        assert_memory_equal(logits, again, (size_t)galen_model_get_info(m).n_vocab * sizeof *logits);
        galen_session_close(s);
        batch_is_clean(b);
        galen_batcher_close(b);
        galen_model_close(m);
        fake->step_fail = 0;
    }
}

static void a_required_gpu_that_is_lost_ends_all(void **state) {
    (void)state;
    static job jobs[JOBS];
    galen_model *m = open_model("cuda", true);
    galen_batcher *b = open_batcher(m);
    fake->step_fail = fake->n_steps + 100;
    int n_lost = 0;
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = job_make((uint64_t)i, 150);
        if (job_submit(b, &jobs[i], NULL)) break;
    }
    for (int i = 0; i < JOBS && jobs[i].id; i++) {
        job_wait(&jobs[i]);
        n_lost += jobs[i].st == GALEN_E_DEVICE;
        assert_true(jobs[i].st == GALEN_OK || jobs[i].st == GALEN_E_DEVICE);
    }
    assert_true(n_lost > 0);
    assert_true(batch_stats(b).is_failed);
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
    fake->step_fail = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_survive_a_lost_gpu),
        cmocka_unit_test(a_required_gpu_that_is_lost_ends_all),
    };
    return cmocka_run_group_tests(tests, find_fake, remove_path);
}
