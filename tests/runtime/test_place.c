/* From options to a placement: what is put where, what is said, what falls back and what is an error, against a fake GPU. */
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
#include "runtime/fallback.h"

enum { N_PROMPT = 100, N_VOCAB_MOST = 4096, MARGIN = 256 << 20 };

static char model_path[] = "/tmp/galen-test-place-XXXXXX", cache_dir[] = "/tmp/galen-test-speeds-XXXXXX", plugin_dir[512];
static fake_device_state *fake, fresh;
static float *cpu_logits;
static int32_t n_vocab, n_layer;

typedef struct said {
    int n_warnings, n_placed;
    char warning[1024], placed[256];
} said;

static void on_notice(void *user, galen_notice kind, const char *text) {
    said *s = user;
    if (kind == GALEN_NOTICE_WARNING) (void)snprintf(s->warning, sizeof s->warning, "%s", text), s->n_warnings++;
    if (kind == GALEN_NOTICE_PLACED) (void)snprintf(s->placed, sizeof s->placed, "%s", text), s->n_placed++;
}

static galen_model_opts opts_of(said *s) {
    galen_model_opts o = galen_model_default_opts();
    *s = (said){0};
    o.n_threads = 2;
    o.n_ctx = 256;
    o.n_batch = 64;
    o.cache_dir = cache_dir;
    o.notice = on_notice;
    o.notice_user = s;
    return o;
}

/* The logits after a prompt, in a session as the plan counted it. */
static galen_status evaluate(galen_model *m, float *logits, galen_error *err) {
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    int32_t tokens[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++) tokens[i] = 300 + 7 * i % 200;
    so.n_ctx = 256;
    so.n_batch = 64;
    galen_status st = galen_session_open(&s, m, &so, err);
    for (int i = 0; !st && i < N_PROMPT; i += i < 90 ? 90 : 1)
        st = galen_session_eval(s, tokens + i, i < 90 ? 90 : 1, logits, err);
    galen_session_close(s);
    return st;
}

static galen_status whole_life(const galen_model_opts *o, float *logits, galen_model_info *info, galen_error *err) {
    galen_model *m = NULL;
    galen_status st = galen_model_open(&m, model_path, o, err);
    if (!st && info) *info = galen_model_get_info(m);
    if (!st) st = evaluate(m, logits, err);
    galen_model_close(m);
    return st;
}

static int set_up(void **state) {
    (void)state;
    galen_error err;
    said s;
    galen_synth_opts so = galen_synth_default_opts();
    Dl_info here;
    assert_true(dladdr((void *)(uintptr_t)&set_up, &here));
    (void)snprintf(plugin_dir, sizeof plugin_dir, "%.*s/../fake", (int)(strrchr(here.dli_fname, '/') - here.dli_fname),
                   here.dli_fname);
    assert_int_equal(setenv("GALEN_PLUGIN_DIR", plugin_dir, 1), 0);
    char file[600];
    (void)snprintf(file, sizeof file, "%s/libgalen-cuda.so", plugin_dir);
    void *library = dlopen(file, RTLD_NOW); /* held: its state outlives the models */
    if (!library) fail_msg("%s", dlerror());
    fake = dlsym(library, "fake_device");
    assert_non_null(fake);
    fresh = *fake;
    assert_true(close(mkstemp(model_path)) == 0);
    assert_non_null(mkdtemp(cache_dir));
    so.shape = "tiny";
    so.type = "q8_0";
    if (galen_synth(model_path, &so, &err)) fail_msg("%s", err.msg);
    galen_model_opts o = opts_of(&s);
    galen_model_info i;
    o.device = "cpu";
    cpu_logits = calloc(2 * N_VOCAB_MOST, sizeof *cpu_logits);
    if (whole_life(&o, cpu_logits, &i, &err)) fail_msg("%s", err.msg);
    n_vocab = i.n_vocab;
    n_layer = i.n_layer;
    assert_true(n_vocab <= N_VOCAB_MOST && n_layer == 4);
    return 0;
}

static int clean_up(void **state) {
    (void)state;
    char file[64];
    free(cpu_logits);
    (void)snprintf(file, sizeof file, "%s/speeds.tsv", cache_dir);
    return unlink(file) | rmdir(cache_dir) | unlink(model_path);
}

static int reset(void **state) {
    (void)state;
    *fake = fresh;
    return 0;
}

/* Nothing of the device is left, and the logits are the CPU's. */
static void all_is_well(const float *logits, const char *why) {
    if (memcmp(logits, cpu_logits, (size_t)n_vocab * sizeof *logits) != 0) fail_msg("%s: other logits than the CPU's", why);
    if (fake->held || fake->n_open)
        fail_msg("%s: %lld bytes, %lld backends left", why, (long long)fake->held, (long long)fake->n_open);
}

/* ---------------------------------------------------------------- placement */

static void what_is_asked_is_placed(void **state) {
    (void)state;
    static const struct {
        int32_t gpu_layers;
        uint64_t memory, limit; /* 0 = plenty, none */
        bool is_kv_on_host;
        const char *device;
        int32_t n_whole; /* -1: not looked at */
        const char *line;
        int32_t stream_layers;
    } rows[] = {
        {GALEN_GPU_LAYERS_AUTO, 0, 0, false, NULL, 4, "GPU 4/4 layers, "},
        {GALEN_GPU_LAYERS_AUTO, 0, 0, false, "cuda", 4, "KV on the GPU"},
        {GALEN_GPU_LAYERS_AUTO, 0, 0, false, "cpu", 0, "CPU 4 layers"},
        {GALEN_GPU_LAYERS_ALL, 0, 0, false, NULL, 4, "KV on the GPU"},
        {4, 0, 0, false, NULL, 4, "KV on the GPU"},
        {3, 0, 0, false, NULL, 3, "GPU 3/4 layers and the head, "},
        {1, 0, 0, false, NULL, 1, "; CPU 3; KV on both", GALEN_STREAM_NONE},
        {1, 0, 0, false, NULL, 1, "; CPU 3, 2 feed-forwards streamed; KV on both", 2},
        {1, 0, 0, false, NULL, 1, "; CPU 3, 3 feed-forwards streamed; KV on both", 100},
        {2, 0, 0, true, NULL, 0, "; CPU the rest, 1 feed-forward streamed; KV on the host", 1},
        {0, 0, 0, false, NULL, 0, "CPU 4 layers"},
        {2, 0, 0, true, NULL, 0, "attention of 0 and feed-forward of 2 of 4 layers and the head"},
        {4, 0, 0, true, NULL, 0, "KV on the host"},
        {GALEN_GPU_LAYERS_AUTO, 0, MARGIN + (3 << 20), false, NULL, -1, "of 259.0 MiB"},
        {GALEN_GPU_LAYERS_AUTO, MARGIN + (3 << 20), 0, false, NULL, -1, "of 259.0 MiB"},
        {1, 0, 4 << 20, false, NULL, 1, "of 4.0 MiB"},
    };
    static float logits[N_VOCAB_MOST];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        said s;
        galen_error err = {0};
        galen_model_info i;
        galen_model *m;
        galen_model_opts o = opts_of(&s);
        *fake = fresh;
        if (rows[r].memory) fake->memory = (int64_t)rows[r].memory;
        o.gpu_layers = rows[r].gpu_layers;
        o.stream_layers = rows[r].stream_layers;
        o.vram_limit = rows[r].limit;
        o.is_kv_on_host = rows[r].is_kv_on_host;
        o.device = rows[r].device;
        if (galen_model_open(&m, model_path, &o, &err)) fail_msg("row %zu: %s", r, err.msg);
        i = galen_model_get_info(m);
        if (!strstr(i.placement, rows[r].line)) fail_msg("row %zu: \"%s\" says not \"%s\"", r, i.placement, rows[r].line);
        if (rows[r].n_whole >= 0) assert_int_equal(i.n_gpu_layers, rows[r].n_whole);
        assert_int_equal(s.n_warnings, 0);
        if (evaluate(m, logits, &err)) fail_msg("row %zu: %s", r, err.msg);
        /* what the plan said is what was taken, and never more than the limit; the loading buffer beside */
        if (i.gpu_bytes) assert_in_range(fake->most_held, i.gpu_bytes, i.gpu_bytes + (1 << 16));
        if (!i.gpu_bytes) assert_int_equal(fake->n_allocs, 0);
        if (rows[r].limit) assert_true((uint64_t)fake->most_held <= rows[r].limit);
        galen_model_close(m);
        all_is_well(logits, rows[r].line);
    }
}

/* The plan shown before is the plan that is opened. */
static void the_plan_is_kept(void **state) {
    (void)state;
    for (uint64_t more = 0; more <= 12 << 20; more += 1 << 20) {
        said s;
        galen_error err = {0};
        galen_model *m, *vocab;
        galen_plan *p;
        galen_model_opts o = opts_of(&s), v = galen_model_default_opts();
        o.vram_limit = MARGIN + more;
        v.is_vocab_only = true;
        if (galen_model_open(&vocab, model_path, &v, &err)) fail_msg("%s", err.msg);
        if (galen_plan_make(&p, vocab, &o, NULL, &err)) fail_msg("%s", err.msg);
        const galen_plan_info pi = galen_plan_get_info(p);
        if (galen_model_open(&m, model_path, &o, &err)) fail_msg("%s", err.msg);
        const galen_model_info mi = galen_model_get_info(m);
        assert_int_equal(pi.gpu.total, mi.gpu_bytes);
        assert_string_equal(pi.line, mi.placement);
        uint64_t weights = 0;
        galen_plan_tensor t;
        for (size_t k = 0; galen_plan_get_tensor(p, k, &t); k++) weights += t.is_on_gpu ? t.bytes : 0;
        assert_int_equal(weights, pi.gpu.weights);
        assert_true(pi.gpu.total + pi.host.total > 0 && pi.decode_rate > 0 && pi.prefill_rate > 0);
        galen_model_close(m);
        galen_plan_close(p);
        galen_model_close(vocab);
    }
}

/* ---------------------------------------------------------------- falling back */

typedef struct trouble {
    const char *why;
    fake_device_state set; /* fields that are not 0 are set; driver -1 = none, devices -1 = none */
    int32_t gpu_layers;
    uint64_t limit;
    galen_status required, strict, named; /* what --require-gpu, --strict and --device cuda give */
    const char *warning;                  /* what auto says, part of it; NULL = nothing */
} trouble;

static void set_trouble(const trouble *t) {
    const fake_device_state *s = &t->set;
    *fake = fresh;
    if (s->memory) fake->memory = s->memory;
    if (s->driver) fake->driver = s->driver < 0 ? 0 : s->driver;
    if (s->devices) fake->devices = s->devices < 0 ? 0 : s->devices;
    if (s->compute) fake->compute = s->compute;
    fake->used = s->used;
    fake->steal = s->steal;
    fake->alloc_fail = s->alloc_fail;
    fake->alloc_fails = s->alloc_fails;
    fake->step_fail = s->step_fail;
    fake->load_fail = s->load_fail;
    fake->unsupported = s->unsupported;
    fake->bad_layout = s->bad_layout;
}

static void each_trouble_has_its_rule(void **state) {
    (void)state;
    static const trouble rows[] = {
        {"a driver too old", {.driver = 11080}, -1, 0, GALEN_E_DEVICE, -100, GALEN_E_DEVICE, NULL},
        {"no driver", {.driver = -1}, -1, 0, GALEN_E_DEVICE, -100, GALEN_E_DEVICE, NULL},
        {"no card", {.devices = -1}, -1, 0, GALEN_E_DEVICE, -100, GALEN_E_DEVICE, NULL},
        {"a card too old", {.compute = 61}, -1, 0, GALEN_E_DEVICE, GALEN_E_DEVICE, GALEN_E_DEVICE, "capability 6.1"},
        {"another layout", {.bad_layout = 1}, -1, 0, GALEN_E_DEVICE, -100, GALEN_E_DEVICE, NULL},
        {"more layers than fit", {.memory = 4 << 20}, 4, 0, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_E_NOMEM, "are free"},
        {"more layers than the limit", {0}, 4, 4 << 20, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_E_NOMEM, "are free"},
        {"a full card", {.used = 1020 << 20}, -1, 0, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_E_NOMEM, "not used"},
        {"memory taken between plan and load",
         {.steal = 1022 << 20},
         -1,
         0,
         GALEN_E_NOMEM,
         GALEN_E_NOMEM,
         GALEN_E_NOMEM,
         "memory ran out"},
        {"weights do not load", {.load_fail = 1}, -1, 0, GALEN_E_DEVICE, GALEN_E_DEVICE, GALEN_E_DEVICE, "ECC"},
        {"a model that its code does not take", {.unsupported = 1}, -1, 0, GALEN_E_DEVICE, GALEN_E_DEVICE, GALEN_E_DEVICE, "512"},
        {"a cache that its code does not take",
         {.unsupported = 2},
         -1,
         0,
         GALEN_E_DEVICE,
         GALEN_E_DEVICE,
         GALEN_E_DEVICE,
         "q8_0"},
        {"the first allocation fails", {.alloc_fail = 1}, 2, 0, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_OK, "memory ran out"},
        {"the session's KV", {.alloc_fail = 3}, 2, 0, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_OK, "memory ran out"},
        {"the session's buffers", {.alloc_fail = 4}, 2, 0, GALEN_E_NOMEM, GALEN_E_NOMEM, GALEN_OK, "memory ran out"},
        {"a step fails", {.step_fail = 30}, -1, 0, GALEN_E_DEVICE, GALEN_E_DEVICE, GALEN_E_DEVICE, "illegal memory access"},
    };
    static float logits[N_VOCAB_MOST];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        for (int how = 0; how < 4; how++) {
            said s;
            galen_error err = {0};
            galen_model_opts o = opts_of(&s);
            const trouble *t = &rows[r];
            galen_status want = how == 0 ? GALEN_OK : how == 1 ? t->required : how == 2 ? t->strict : t->named;
            set_trouble(t);
            o.gpu_layers = t->gpu_layers;
            o.vram_limit = t->limit;
            o.is_gpu_required = how == 1;
            o.is_strict = how == 2;
            o.device = how == 3 ? "cuda" : NULL;
            const galen_status st = whole_life(&o, logits, NULL, &err);
            /* on a machine with a card, what is quiet without one is loud, and an error when strict */
            const bool is_here = access("/proc/driver/nvidia/version", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0;
            if ((int)want == -100) want = is_here ? GALEN_E_DEVICE : GALEN_OK;
            if (st != want) fail_msg("%s (%d): status %d, expected %d: %s", t->why, how, st, want, err.msg);
            if (st && strlen(err.msg) < 20) fail_msg("%s (%d): no reason given: \"%s\"", t->why, how, err.msg);
            if (how == 0 && t->warning && (s.n_warnings != 1 || !strstr(s.warning, t->warning)))
                fail_msg("%s: %d warnings, \"%s\"", t->why, s.n_warnings, s.warning);
            if (how == 0 && !t->warning && !is_here) assert_int_equal(s.n_warnings, 0);
            if (!st)
                all_is_well(logits, t->why);
            else if (fake->held || fake->n_open)
                fail_msg("%s (%d): memory of the device is left", t->why, how);
        }
    }
}

/* Every allocation fails once, and from then on: always an answer with one warning, or an error; never a leak. */
static void every_allocation_may_fail(void **state) {
    (void)state;
    static float logits[N_VOCAB_MOST];
    for (int layers = -1; layers <= 2; layers += 3) {
        for (int64_t k = 1; k < 40; k++) {
            for (int64_t more = 0; more <= 1000; more += 1000) {
                said s;
                galen_error err = {0};
                galen_model_opts o = opts_of(&s);
                *fake = fresh;
                fake->alloc_fail = k;
                fake->alloc_fails = more;
                o.gpu_layers = layers;
                const galen_status st = whole_life(&o, logits, NULL, &err);
                if (fake->n_allocs < k) {
                    assert_int_equal(s.n_warnings, 0);
                    assert_int_equal(st, GALEN_OK);
                    assert_true(k > 3);
                    k = 40;
                    break;
                }
                if (st && (st != GALEN_E_NOMEM || !more)) fail_msg("allocation %lld: status %d: %s", (long long)k, st, err.msg);
                if (s.n_warnings != 1) fail_msg("allocation %lld: %d warnings", (long long)k, s.n_warnings);
                if (!st)
                    all_is_well(logits, "an allocation failed");
                else
                    assert_true(fake->held == 0 && fake->n_open == 0);
            }
        }
    }
}

/* The device fails at every stage of a session in turn: the same logits, one warning, on the CPU from then on. */
static void every_step_may_fail(void **state) {
    (void)state;
    static float logits[N_VOCAB_MOST];
    int64_t n_failed = 0;
    for (int64_t k = 1; k < 2000; k += k < 60 ? 1 : 37) {
        said s;
        galen_error err = {0};
        galen_model_opts o = opts_of(&s);
        *fake = fresh;
        fake->step_fail = k;
        o.gpu_layers = k % 2 ? 2 : GALEN_GPU_LAYERS_ALL;
        if (whole_life(&o, logits, NULL, &err)) fail_msg("stage %lld: %s", (long long)k, err.msg);
        all_is_well(logits, "a stage failed");
        if (fake->n_steps < k) break;
        n_failed++;
        if (s.n_warnings != 1 || s.n_placed != 1)
            fail_msg("stage %lld: %d warnings, %d placements", (long long)k, s.n_warnings, s.n_placed);
        assert_non_null(strstr(s.placed, "CPU 4 layers"));
    }
    assert_true(n_failed > 60);
}

enum { N_BRANCHES = 4, N_READ = 3, N_WRITTEN = 6 };

typedef struct branched {
    double logprobs[N_BRANCHES][N_READ];
    int32_t ids[N_BRANCHES][N_WRITTEN], n[N_BRANCHES];
} branched;

typedef struct hearer {
    branched *to;
    int32_t index;
} hearer;

static bool hear(void *user, const galen_chunk *c) {
    const hearer *h = user;
    if (!c->is_last) h->to->ids[h->index][h->to->n[h->index]++] = c->id;
    return true;
}

/* Branches of a session, read and written on. */
static void branch_out(const galen_model_opts *o, branched *out) {
    const int32_t tokens[] = {300, 301, 302, 303, 304, 305, 306}, after[] = {0, 1, 1}, ids[] = {9, 10, 11};
    galen_branch branches[N_BRANCHES];
    galen_draft drafts[N_BRANCHES];
    galen_generate_opts opts[N_BRANCHES];
    hearer h[N_BRANCHES];
    galen_session_opts so = galen_session_default_opts();
    galen_model *m;
    galen_session *s;
    galen_error err = {0};
    *out = (branched){0};
    so.n_ctx = 256;
    if (galen_model_open(&m, model_path, o, &err) || galen_session_open(&s, m, &so, &err)) fail_msg("%s", err.msg);
    for (int32_t i = 0; i < N_BRANCHES; i++) {
        branches[i] = (galen_branch){
            .tokens = tokens + i, .n_tokens = 2, .after = after, .ids = ids, .logprobs = out->logprobs[i], .n_wanted = N_READ};
        h[i] = (hearer){out, i};
        opts[i] = galen_generate_default_opts();
        opts[i].max_tokens = N_WRITTEN;
        opts[i].sampling.seed = (uint64_t)i;
        opts[i].on_chunk = hear;
        opts[i].user = &h[i];
        drafts[i] = (galen_draft){.tokens = tokens + i, .n_tokens = 1, .opts = &opts[i]};
    }
    if (galen_session_eval(s, tokens, 7, NULL, &err)) fail_msg("%s", err.msg);
    if (galen_session_read(s, branches, N_BRANCHES, &err)) fail_msg("%s", err.msg);
    if (galen_session_draft(s, drafts, N_BRANCHES, &err)) fail_msg("%s", err.msg);
    assert_int_equal(galen_session_n_past(s), 7);
    galen_session_close(s);
    galen_model_close(m);
}

/* The device fails in the midst of branches: each is told once, with the same tokens, as if nothing had been. */
static void branches_go_on_elsewhere(void **state) {
    (void)state;
    static branched want, got;
    said s;
    galen_model_opts o = opts_of(&s);
    int64_t n_failed = 0;
    o.device = "cpu";
    branch_out(&o, &want);
    for (int64_t k = 1; k < 2000; k += k < 20 ? 1 : 7) {
        o = opts_of(&s);
        *fake = fresh;
        fake->step_fail = k;
        o.gpu_layers = k % 2 ? 2 : GALEN_GPU_LAYERS_ALL;
        branch_out(&o, &got);
        if (memcmp(&got, &want, sizeof want) != 0) fail_msg("stage %lld: other results than the CPU's", (long long)k);
        if (fake->n_steps < k) break;
        n_failed++;
        assert_int_equal(s.n_warnings, 1);
    }
    assert_true(n_failed > 20);
}

/* Two sessions of one model: the second learns of the failure of the first, without a second warning. */
static void sessions_move_together(void **state) {
    (void)state;
    said s;
    galen_error err = {0};
    galen_model *m;
    galen_session *a, *b;
    galen_session_opts so = galen_session_default_opts();
    galen_model_opts o = opts_of(&s);
    static float la[N_VOCAB_MOST], lb[N_VOCAB_MOST];
    const int32_t tokens[] = {300, 301, 302, 303, 304};
    so.n_ctx = 64;
    assert_int_equal(galen_model_open(&m, model_path, &o, &err), GALEN_OK);
    assert_int_equal(galen_session_open(&a, m, &so, &err), GALEN_OK);
    assert_int_equal(galen_session_open(&b, m, &so, &err), GALEN_OK);
    assert_int_equal(galen_session_eval(a, tokens, 4, la, &err), GALEN_OK);
    assert_int_equal(galen_session_eval(b, tokens, 4, lb, &err), GALEN_OK);
    fake->step_fail = 1;
    assert_int_equal(galen_session_eval(a, tokens + 4, 1, la, &err), GALEN_OK);
    assert_true(fake->held > 0); /* b still holds the old placement */
    assert_int_equal(galen_session_eval(b, tokens + 4, 1, lb, &err), GALEN_OK);
    assert_int_equal(fake->held, 0);
    assert_memory_equal(la, lb, (size_t)n_vocab * sizeof *la);
    assert_int_equal(s.n_warnings, 1);
    const galen_model_info i = galen_model_get_info(m);
    assert_non_null(i.fell_back);
    assert_non_null(strstr(i.fell_back, "illegal memory access"));
    assert_int_equal(i.n_gpu_layers, 0);
    galen_session_close(a);
    galen_session_close(b);
    galen_model_close(m);
}

/* ---------------------------------------------------------------- plugins that do not load */

static void plugins_that_do_not_load(void **state) {
    (void)state;
    char dir[] = "/tmp/galen-test-plugin-XXXXXX", file[128];
    said s;
    galen_error err = {0};
    galen_model_opts o = opts_of(&s);
    static float logits[N_VOCAB_MOST];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(setenv("GALEN_PLUGIN_DIR", dir, 1), 0);
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_OK); /* none: the CPU */
    all_is_well(logits, "no plugin");
    o.is_gpu_required = true;
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_DEVICE);
    assert_non_null(strstr(err.msg, "libgalen-cuda.so"));
    (void)snprintf(file, sizeof file, "%s/libgalen-cuda.so", dir);
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_true(fputs("this is no library\n", f) > 0 && fclose(f) == 0);
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_DEVICE);
    assert_non_null(strstr(err.msg, "too short")); /* the loader's own words */
    o.is_gpu_required = false;
    o.device = "cuda";
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_DEVICE);
    o.device = "vulkan";
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_ARG);
    o.device = "cpu";
    o.is_gpu_required = true;
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_ARG);
    (void)unlink(file);
    (void)rmdir(dir);
    assert_int_equal(setenv("GALEN_PLUGIN_DIR", plugin_dir, 1), 0);
    o = opts_of(&s);
    o.main_gpu = 3;
    o.device = "cuda";
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_E_DEVICE);
    assert_non_null(strstr(err.msg, "--main-gpu 3"));
    o.device = NULL; /* one was asked for that is not there: never in silence */
    assert_int_equal(whole_life(&o, logits, NULL, &err), GALEN_OK);
    assert_true(s.n_warnings == 1 && strstr(s.warning, "--main-gpu 3"));
}

/* The table itself: who is never served by a fall-back, and that none comes twice. */
static void the_rules(void **state) {
    (void)state;
    for (int e = 0; e < N_FALL_EVENTS; e++) {
        const fall_event ev = (fall_event)e;
        assert_int_equal(fallback_decide(ev, &(fall_policy){.is_required = true}).action, FALL_ERROR);
        assert_int_equal(fallback_decide(ev, &(fall_policy){.is_strict = true, .is_gpu_here = true}).action, FALL_ERROR);
        const fall_decision d = fallback_decide(ev, &(fall_policy){.is_gpu_here = true});
        assert_true(d.action != FALL_ERROR && d.is_loud);
        assert_true(d.code == GALEN_E_DEVICE || d.code == GALEN_E_NOMEM);
        assert_true(strlen(fallback_what(ev)) > 10 && strlen(fallback_remedy(ev)) > 10);
        if (e >= FALL_LOAD_MEMORY) assert_int_equal(fallback_decide(ev, &(fall_policy){.n_fallen = 1}).action, FALL_ERROR);
    }
    assert_false(fallback_decide(FALL_NO_PLUGIN, &(fall_policy){0}).is_loud);
    assert_int_equal(fallback_decide(FALL_NO_PLUGIN, &(fall_policy){.is_strict = true}).action, FALL_CPU);
    assert_true(fallback_decide(FALL_NO_DEVICE, &(fall_policy){.is_asked = true}).is_loud);
    assert_int_equal(fallback_decide(FALL_NO_PLUGIN, &(fall_policy){.is_strict = true, .is_asked = true}).action, FALL_ERROR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules),
        cmocka_unit_test_setup(what_is_asked_is_placed, reset),
        cmocka_unit_test_setup(the_plan_is_kept, reset),
        cmocka_unit_test_setup(each_trouble_has_its_rule, reset),
        cmocka_unit_test_setup(every_allocation_may_fail, reset),
        cmocka_unit_test_setup(every_step_may_fail, reset),
        cmocka_unit_test_setup(branches_go_on_elsewhere, reset),
        cmocka_unit_test_setup(sessions_move_together, reset),
        cmocka_unit_test_setup(plugins_that_do_not_load, reset),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}
