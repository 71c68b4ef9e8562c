/* The machine's facts for doctor. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "cli/doctor.h"
#include "cli/options.h"
#include "cli/resolve.h"

#define PUT(to, ...) (void)snprintf(to, sizeof(to), __VA_ARGS__)

/* Where installers put the CUDA compiler when it is not on PATH. */
#define NVCC_ELSEWHERE "/usr/local/cuda/bin:/opt/cuda/bin:/usr/lib/cuda/bin:/usr/lib/nvidia-cuda-toolkit/bin"

static const char *env(const char *name) {
    const char *v = getenv(name);
    return v ? v : "";
}

static void gather_cards(doctor_facts *f) {
    nvml *n;
    galen_error err = {0};
    const galen_status st = nvml_open(&n, NULL, &err);
    f->nvml = st == GALEN_OK ? DOCTOR_GOOD : st == GALEN_E_NOT_FOUND ? DOCTOR_ABSENT : DOCTOR_BROKEN;
    PUT(f->nvml_why, "%s", err.msg);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    PUT(f->visible, "%s", visible ? visible : "(unset)");
    if (st) return;
    PUT(f->driver, "%s", nvml_driver(n));
    f->driver_cuda = nvml_cuda_version(n);
    for (int32_t i = 0; i < nvml_count(n) && f->n_gpus < DOCTOR_MAX_GPUS; i++)
        f->n_gpus += nvml_read(n, i, &f->gpus[f->n_gpus], &err) == GALEN_OK;
    nvml_close(n);
}

static void gather_plugin(doctor_facts *f) {
    galen_gpu_report *r = calloc(1, sizeof *r);
    if (!r) return;
    galen_gpu_look(r);
    f->plugin = r->plugin == GALEN_OK ? DOCTOR_GOOD : r->plugin == GALEN_E_NOT_FOUND ? DOCTOR_ABSENT : DOCTOR_BROKEN;
    f->is_plugin_other_version = r->plugin == GALEN_E_UNSUPPORTED;
    PUT(f->plugin_why, "%s", r->plugin_why);
    f->plugin_runtime = r->runtime;
    if (!f->driver_cuda) f->driver_cuda = r->driver;
    for (const char *p = r->archs; *p && f->n_archs < DOCTOR_MAX_ARCHS;) {
        f->archs[f->n_archs] = (int32_t)strtol(p, NULL, 10);
        f->ptx = f->archs[f->n_archs++]; /* PTX of the last one goes along: cuda.mk */
        p += strcspn(p, " ");
        p += strspn(p, " ");
    }
    for (int32_t i = 0; i < r->n_gpus; i++) f->is_device_usable |= r->gpus[i].is_usable;
    PUT(f->device_why, "%s", r->why[0] ? r->why : r->n_gpus ? r->gpus[0].why : "");
    PUT(f->forced_device, "%s", env("GALEN_DEVICE"));
    free(r);
}

static void gather_tools(const char *root, doctor_facts *f) {
    doctor_find_tool("gcc", root, "", &f->cc);
    if (!f->cc.path[0]) doctor_find_tool("cc", root, "", &f->cc);
    if (!f->cc.path[0]) doctor_find_tool("clang", root, "", &f->cc);
    doctor_find_tool("make", root, "", &f->make);
    doctor_find_tool("nvcc", root, NVCC_ELSEWHERE, &f->nvcc);
    f->n_jobs = f->host.n_cores;
}

/* ---------------------------------------------------------------- the model */

static doctor_model_state state_of(galen_status st) {
    switch (st) {
    case GALEN_OK:
        return DOCTOR_MODEL_GOOD;
    case GALEN_E_NOT_FOUND:
        return DOCTOR_MODEL_MISSING;
    case GALEN_E_IO:
        return DOCTOR_MODEL_UNREADABLE;
    case GALEN_E_UNSUPPORTED:
        return DOCTOR_MODEL_UNSUPPORTED;
    default:
        return DOCTOR_MODEL_MALFORMED;
    }
}

/* Beside a fetched file lies its sum, as `sha256sum` writes it: tools/fetch-model. */
static void compare_sum(doctor_facts *f) {
    char path[600], stated[65] = "";
    PUT(path, "%s.sha256", f->model_path);
    FILE *in = fopen(path, "r");
    if (!in) return;
    if (fgets(stated, sizeof stated, in)) f->is_hash_wrong = strcmp(stated, f->sha256) != 0;
    (void)fclose(in);
}

static bool on_hash(void *user, uint64_t done, uint64_t total) {
    term_progress(user, "hashing the model", done, total);
    return !signals_stop();
}

static void gather_hash(cli *c, doctor_facts *f) {
    uint8_t hash[SHA256_BYTES];
    galen_error err = {0};
    const galen_status st = sha256_file(f->model_path, on_hash, c, hash, &err);
    term_progress_end(c);
    if (st) return;
    sha256_hex(hash, f->sha256);
    compare_sum(f);
}

/* What would live where, as every verb would load it. */
static void gather_plan(cli *c, const galen_model *m, doctor_facts *f) {
    galen_plan *p = NULL;
    galen_error err = {0};
    galen_model_opts o;
    if (engine_model_opts(c, &o)) return;
    const galen_status st = galen_plan_make(&p, m, &o, NULL, &err);
    f->is_refused = st == GALEN_E_NOMEM || st == GALEN_E_FULL;
    if (st) {
        PUT(f->model_fit, "%s", err.msg);
        return;
    }
    const galen_plan_info i = galen_plan_get_info(p);
    PUT(f->placement, "%s", i.line);
    f->gpu_layers = i.n_whole;
    galen_plan_close(p);
}

static void gather_model(cli *c, doctor_facts *f) {
    galen_error err = {0};
    galen_model *m = NULL;
    galen_model_opts o = galen_model_default_opts();
    resolved *r = calloc(1, sizeof *r);
    if (!r) return;
    const char *name = c->args.n_positional ? c->args.positional[0] : c->args.model;
    if (!resolve_model(r, name)) {
        f->model = name || r->is_from_env ? DOCTOR_MODEL_MISSING : DOCTOR_MODEL_NONE;
        PUT(f->model_why, "no model '%.200s'; looked for %.250s%s", r->wanted, r->n_tried ? r->tried[0] : "nowhere",
            r->n_tried > 1 ? " and in the data folder" : "");
        free(r);
        return;
    }
    PUT(f->model_path, "%.511s", r->path);
    free(r);
    o.device = "cpu"; /* maps the file and checks it; weights are not read */
    signals_guard_file(f->model_path);
    f->model = state_of(galen_model_open(&m, f->model_path, &o, &err));
    PUT(f->model_why, "%s", err.msg);
    if (m) {
        const galen_model_info i = galen_model_get_info(m);
        PUT(f->model_name, "%s", i.name ? i.name : "");
        const char *open = i.device ? strchr(i.device, '(') : NULL; /* "CPU (avx512, 2 threads)" */
        if (open) PUT(f->isa, "%.*s", (int)strcspn(open + 1, ",)"), open + 1);
        f->n_layers = i.n_layer;
        gather_plan(c, m, f);
    }
    galen_model_close(m);
    if (c->args.hash && f->model >= DOCTOR_MODEL_MALFORMED) gather_hash(c, f);
}

/* Without a model: what the processor's flags allow. */
static void gather_isa(doctor_facts *f) {
    if (f->isa[0]) return;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    PUT(f->isa, "%s", has_avx2 && __builtin_cpu_supports("avx512vnni") ? "avx512" : has_avx2 ? "avx2" : "generic");
#elif defined(__aarch64__)
    PUT(f->isa, "neon");
#else
    PUT(f->isa, "generic");
#endif
}

void doctor_gather(cli *c, const char *root, doctor_facts *f) {
    galen_error err = {0};
    *f = (doctor_facts){0};
    host_read(root, &f->host);
    const char *data = env("XDG_DATA_HOME");
    if (*data)
        PUT(f->data_dir, "%.200s/galen", data);
    else
        PUT(f->data_dir, "%.200s/.local/share/galen", env("HOME"));
    if (host_disk_free(f->data_dir, &f->disk_free, &err)) f->disk_free = 0;
    gather_cards(f);
    gather_plugin(f);
    gather_tools(root, f);
    gather_model(c, f);
    gather_isa(f);
}

/* ---------------------------------------------------------------- a token */

enum { N_RUNS = 3, RUN_TOKENS = 4 };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Greedy tokens after a fixed prompt; times of equal short runs after a first one that warms up. */
static galen_status run_tokens(const galen_model *m, doctor_token *t, galen_error *err) {
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    double seconds[N_RUNS];
    so.n_ctx = 64;
    const int32_t n_vocab = galen_model_get_info(m).n_vocab;
    float *logits = calloc((size_t)n_vocab, sizeof *logits);
    if (!logits) return GALEN_E_NOMEM;
    galen_status st = galen_session_open(&s, m, &so, err);
    for (int run = -1; run < N_RUNS && !st; run++) {
        int32_t id = 1 % n_vocab;
        st = galen_session_rewind(s, 0, err);
        const double start = clock_s();
        for (int k = 0; k < RUN_TOKENS && !st; k++) {
            st = galen_session_eval(s, &id, 1, logits, err);
            id = 0;
            for (int32_t i = 1; i < n_vocab; i++) id = logits[i] > logits[id] ? i : id;
            if (k == 0) t->id = id;
        }
        if (run >= 0) seconds[run] = clock_s() - start;
    }
    galen_session_close(s);
    free(logits);
    if (st) return st;
    qsort(seconds, N_RUNS, sizeof *seconds, by_value);
    t->tokens_per_s = RUN_TOKENS / seconds[N_RUNS / 2];
    t->spread = (seconds[N_RUNS - 1] - seconds[0]) / seconds[N_RUNS / 2];
    return GALEN_OK;
}

static void try_on(const char *device, const char *path, doctor_token *t) {
    galen_error err = {0};
    galen_model *m = NULL;
    galen_model_opts o = galen_model_default_opts();
    o.device = device;
    t->was_tried = true;
    galen_status st = galen_model_open(&m, path, &o, &err);
    if (!st) st = run_tokens(m, t, &err);
    galen_model_close(m);
    t->has_failed = st != GALEN_OK;
    PUT(t->why, "%s", err.msg[0] ? err.msg : galen_status_text(st));
}

void doctor_try_tokens(cli *c, doctor_facts *f) {
    if (f->model != DOCTOR_MODEL_GOOD) return;
    term_progress_text(c, "a token on the CPU");
    try_on("cpu", f->model_path, &f->cpu);
    if (f->plugin == DOCTOR_GOOD && f->is_device_usable) {
        term_progress_text(c, "a token on the GPU");
        try_on("cuda", f->model_path, &f->gpu);
    }
    term_progress_end(c);
}
