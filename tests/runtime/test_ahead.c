/* galen_generate where the device chooses, and where it runs ahead of the host: the same tokens, texts and ends as on the CPU,
 * the same session afterwards; and what happens when the device fails on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "fake.h"
#include "galen/galen.h"

enum { MOST = 400, N_CTX = 96 };

static char model_path[] = "/tmp/galen-test-ahead-XXXXXX";
static fake_device_state *fake, fresh;

/* What a caller sees of two generations in one session. */
typedef struct outcome {
    int32_t ids[MOST], n, n_past[2];
    char text[4096];
    size_t n_text;
    galen_finish finish[2];
    galen_status status[2];
    int32_t n_generated[2];
    int cancel_after;
} outcome;

static bool on_chunk(void *user, const galen_chunk *c) {
    outcome *o = user;
    if (c->id >= 0) o->ids[o->n++] = c->id;
    memcpy(o->text + o->n_text, c->text, c->text_len);
    o->n_text += c->text_len;
    return o->cancel_after == 0 || o->n < o->cancel_after;
}

typedef struct way {
    const char *why;
    galen_sampling how;
    int32_t max_tokens;
    int cancel_after;
    const char *stop;
    int32_t n_prompt;
} way;

static galen_logit_bias bias[] = {{.id = 40, .bias = 3}, {.id = 70, .bias = -3}, {.id = 70, .bias = 4}};

static const way ways[] = {
    {"greedy", {.top_p = 1, .repeat_penalty = 1}, 20, 0, NULL, 5},
    {"the defaults", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1}, 30, 0, NULL, 5},
    {"no filter", {.temperature = 1.2f, .top_p = 1, .repeat_penalty = 1, .seed = 8}, 30, 0, NULL, 7},
    {"penalties",
     {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1.3f, .frequency_penalty = 0.1f, .penalty_last_n = 12, .seed = 4},
     40,
     0,
     NULL,
     5},
    {"penalties over all", {.top_p = 1, .repeat_penalty = 1.2f, .presence_penalty = 0.3f, .penalty_last_n = -1}, 40, 0, NULL, 9},
    {"biases", {.top_p = 1, .repeat_penalty = 1, .temperature = 0.7f, .bias = bias, .n_bias = 3}, 20, 0, NULL, 5},
    {"one token", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1}, 1, 0, NULL, 5},
    {"two tokens", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1}, 2, 0, NULL, 5},
    {"none", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1}, 0, 0, NULL, 5},
    {"until the context is full", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .seed = 1}, -1, 0, NULL, 5},
    {"a prompt that fills the context", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1}, -1, 0, NULL, N_CTX},
    {"one before that", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1}, -1, 0, NULL, N_CTX - 1},
    {"cancelled", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .seed = 3}, 40, 7, NULL, 5},
    {"cancelled at once", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .seed = 3}, 40, 1, NULL, 5},
    {"a stop string", {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .seed = 2}, 60, 0, "e", 5},
};

/* Two generations; the second shows that what was dropped of the first is not there. */
static void generate(const galen_model_opts *mo, const way *w, outcome *out) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_error err = {0};
    galen_session_opts so = galen_session_default_opts();
    int32_t prompt[N_CTX];
    memset(out, 0, sizeof *out);
    out->cancel_after = w->cancel_after;
    so.n_ctx = N_CTX;
    so.n_batch = 32;
    if (galen_model_open(&m, model_path, mo, &err) || galen_session_open(&s, m, &so, &err)) fail_msg("%s: %s", w->why, err.msg);
    for (int32_t i = 0; i < N_CTX; i++) prompt[i] = 300 + 7 * i % 200;
    galen_generate_opts o = galen_generate_default_opts();
    o.sampling = w->how;
    o.sampling.size = sizeof o.sampling;
    o.max_tokens = w->max_tokens;
    o.stop = &w->stop;
    o.n_stop = w->stop ? 1 : 0;
    o.on_chunk = on_chunk;
    o.user = out;
    for (int k = 0; k < 2; k++) {
        galen_result r = {0};
        const int32_t room = N_CTX - galen_session_n_past(s), n = k ? 3 : w->n_prompt;
        if (k && room < n && galen_session_rewind(s, N_CTX / 2, &err)) fail_msg("%s", err.msg);
        out->status[k] = galen_generate(s, prompt, n, &o, &r, &err);
        out->finish[k] = r.finish;
        out->n_generated[k] = r.n_generated;
        out->n_past[k] = galen_session_n_past(s);
    }
    galen_session_close(s);
    galen_model_close(m);
}

static galen_model_opts opts_of(const char *device, int32_t gpu_layers) {
    galen_model_opts o = galen_model_default_opts();
    o.n_threads = 2;
    o.n_ctx = N_CTX;
    o.n_batch = 32;
    o.device = device;
    o.gpu_layers = gpu_layers;
    return o;
}

static int set_up(void **state) {
    (void)state;
    char dir[512], file[600];
    galen_error err;
    galen_synth_opts so = galen_synth_default_opts();
    Dl_info here;
    assert_true(dladdr((void *)(uintptr_t)&set_up, &here));
    (void)snprintf(dir, sizeof dir, "%.*s/../fake", (int)(strrchr(here.dli_fname, '/') - here.dli_fname), here.dli_fname);
    assert_int_equal(setenv("GALEN_PLUGIN_DIR", dir, 1), 0);
    (void)snprintf(file, sizeof file, "%s/libgalen-cuda.so", dir);
    void *library = dlopen(file, RTLD_NOW); /* held: its state outlives the models */
    if (!library) fail_msg("%s", dlerror());
    fake = dlsym(library, "fake_device");
    assert_non_null(fake);
    fresh = *fake;
    assert_true(close(mkstemp(model_path)) == 0);
    so.shape = "tiny";
    so.type = "q8_0";
    if (galen_synth(model_path, &so, &err)) fail_msg("%s", err.msg);
    return 0;
}

static int clean_up(void **state) {
    (void)state;
    return unlink(model_path);
}

static bool is_same(const outcome *a, const outcome *b) {
    bool same = a->n == b->n && a->n_text == b->n_text && memcmp(a->ids, b->ids, sizeof a->ids) == 0 &&
                memcmp(a->text, b->text, a->n_text) == 0;
    for (int k = 0; k < 2; k++)
        same = same && a->n_past[k] == b->n_past[k] && a->finish[k] == b->finish[k] && a->status[k] == b->status[k] &&
               a->n_generated[k] == b->n_generated[k];
    return same;
}

static void same(const outcome *a, const outcome *b, const char *why, const char *mode) {
    if (is_same(a, b)) return;
    fail_msg("%s, %s: %d tokens, expected %d; text \"%s\", expected \"%s\"; ends %d %d, %d %d; n_past %d %d, expected %d %d", why,
             mode, a->n, b->n, a->text, b->text, a->finish[0], b->finish[0], a->finish[1], b->finish[1], a->n_past[0],
             a->n_past[1], b->n_past[0], b->n_past[1]);
}

/* ---------------------------------------------------------------- the same as on the CPU */

static void every_way_is_the_cpus(void **state) {
    (void)state;
    static const struct {
        const char *mode;
        int32_t gpu_layers;
        int64_t no_ahead, no_sample;
        bool is_chosen, is_ahead;
    } modes[] = {{"ahead", GALEN_GPU_LAYERS_ALL, 0, 0, true, true},
                 {"chosen on the device", GALEN_GPU_LAYERS_ALL, 1, 0, true, false},
                 {"split", 2, 0, 0, true, false},
                 {"a device that does not choose", GALEN_GPU_LAYERS_ALL, 1, 1, false, false}};
    static outcome cpu, gpu;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const galen_model_opts host = opts_of("cpu", 0);
        generate(&host, &ways[i], &cpu);
        for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
            const galen_model_opts o = opts_of("cuda", modes[k].gpu_layers);
            *fake = fresh;
            fake->no_ahead = modes[k].no_ahead;
            fake->no_sample = modes[k].no_sample;
            generate(&o, &ways[i], &gpu);
            same(&gpu, &cpu, ways[i].why, modes[k].mode);
            const bool has_choice = gpu.n > 0, has_steps = gpu.n > 2 && ways[i].max_tokens != 1;
            if (has_choice && (fake->n_samples > 0) != modes[k].is_chosen) fail_msg("%s: not so chosen", modes[k].mode);
            if (has_steps && (fake->n_ahead > 0) != modes[k].is_ahead) fail_msg("%s, %s: ahead", ways[i].why, modes[k].mode);
            if (fake->held || fake->n_open) fail_msg("%s: %lld bytes left", modes[k].mode, (long long)fake->held);
        }
    }
}

/* Log-probabilities are the host's work: so are their tokens. */
static bool has_logprob(void *user, const galen_chunk *c) {
    *(int *)user += c->id >= 0 && c->logprob <= 0;
    return true;
}

static void logprobs_come_from_the_host(void **state) {
    (void)state;
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_error err = {0};
    const galen_model_opts mo = opts_of("cuda", GALEN_GPU_LAYERS_ALL);
    galen_generate_opts o = galen_generate_default_opts();
    const int32_t prompt[] = {300, 301};
    int n = 0;
    *fake = fresh;
    if (galen_model_open(&m, model_path, &mo, &err) || galen_session_open(&s, m, NULL, &err)) fail_msg("%s", err.msg);
    o.n_top_logprobs = 2;
    o.max_tokens = 5;
    o.on_chunk = has_logprob;
    o.user = &n;
    if (galen_generate(s, prompt, 2, &o, NULL, &err)) fail_msg("%s", err.msg);
    assert_true(n > 0 && fake->n_samples == 0 && fake->n_ahead == 0);
    galen_session_close(s);
    galen_model_close(m);
}

/* ---------------------------------------------------------------- failures */

static void count_warning(void *user, galen_notice kind, const char *text) {
    (void)text;
    *(int *)user += kind == GALEN_NOTICE_WARNING;
}

/* The device fails at one stage or step after another: the same text, one warning; with a GPU required, an error. */
static void every_step_may_fail(void **state) {
    (void)state;
    static outcome cpu, gpu;
    const galen_model_opts host = opts_of("cpu", 0);
    const way *w = &ways[3];
    int n_failed = 0;
    generate(&host, w, &cpu);
    for (int64_t k = 1; k < 300; k += k < 40 ? 3 : 7) {
        galen_model_opts o = opts_of("auto", GALEN_GPU_LAYERS_ALL);
        int n_warnings = 0;
        o.notice = count_warning;
        o.notice_user = &n_warnings;
        *fake = fresh;
        fake->step_fail = k;
        generate(&o, w, &gpu);
        same(&gpu, &cpu, w->why, "a failing device");
        if (fake->held || fake->n_open) fail_msg("step %lld: %lld bytes left", (long long)k, (long long)fake->held);
        assert_int_equal(n_warnings, fake->n_steps >= k);
        n_failed += n_warnings;
        o.is_gpu_required = true;
        *fake = fresh;
        fake->step_fail = k;
        generate(&o, w, &gpu);
        if (n_warnings) assert_true(gpu.status[0] == GALEN_E_DEVICE || gpu.status[1] == GALEN_E_DEVICE);
    }
    assert_true(n_failed > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_is_the_cpus),
        cmocka_unit_test(logprobs_come_from_the_host),
        cmocka_unit_test(every_step_may_fail),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}
