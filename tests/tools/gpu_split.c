/* A real model on a real GPU, whole and split: is what was planned what is taken, are the logits the CPU's, how fast is it.
 * Usage: gpu_split SMALL.gguf MODEL.gguf [--quick [ROWS]]
 * SMALL is held open on the GPU all the while, so that the context's own memory does not count. Ends with 'N passed, N failed'.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "galen/galen.h"

enum { N_TEXT = 96, N_DECODE = 48, N_PREFILL = 512, REPEATS = 5, N_CTX = 2048 };
#define GIB ((uint64_t)1 << 30)

static int n_passed, n_failed;

static bool check(bool ok, const char *what, const char *row) {
    n_passed += ok;
    n_failed += !ok;
    if (!ok) printf("FAILED %s: %s\n", row, what);
    return ok;
}

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t gpu_free(void) {
    static galen_gpu_report r;
    galen_gpu_look(&r);
    return r.n_gpus ? r.gpus[0].free_bytes : 0;
}

static void on_notice(void *user, galen_notice kind, const char *text) {
    if (kind != GALEN_NOTICE_WARNING) return;
    ++*(int *)user;
    printf("  warning: %s\n", text);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Tokens that any vocabulary has, the same for every row. */
static int32_t token_at(int32_t i, int32_t n_vocab) {
    return 300 + (int32_t)((uint32_t)i * 2654435761u % (uint32_t)(n_vocab - 600));
}

/* Logits after each of N_TEXT tokens: a batch large enough to be streamed, then single tokens. */
static galen_status text_logits(galen_session *s, int32_t n_vocab, float *logits, galen_error *err) {
    enum { N_FIRST = 80 };
    int32_t t[N_TEXT];
    for (int32_t i = 0; i < N_TEXT; i++) t[i] = token_at(i, n_vocab);
    galen_status st = galen_session_eval_all(s, t, N_FIRST, logits, err);
    for (int32_t i = N_FIRST; !st && i < N_TEXT; i++)
        st = galen_session_eval(s, t + i, 1, logits + (size_t)i * (size_t)n_vocab, err);
    return st;
}

static void compare(const float *p_all, const float *q_all, int32_t n_vocab, double *kl, double *same_top) {
    *kl = *same_top = 0;
    for (int i = 0; i < N_TEXT; i++) {
        const float *p = p_all + (size_t)i * (size_t)n_vocab, *q = q_all + (size_t)i * (size_t)n_vocab;
        int a = 0, b = 0;
        for (int j = 1; j < n_vocab; j++) {
            if (p[j] > p[a]) a = j;
            if (q[j] > q[b]) b = j;
        }
        double sp = 0, sq = 0, sum = 0;
        for (int j = 0; j < n_vocab; j++) {
            sp += exp((double)p[j] - (double)p[a]);
            sq += exp((double)q[j] - (double)q[b]);
        }
        for (int j = 0; j < n_vocab; j++) {
            const double lp = (double)p[j] - (double)p[a] - log(sp), lq = (double)q[j] - (double)q[b] - log(sq);
            sum += exp(lp) * (lp - lq);
        }
        *kl += sum / N_TEXT;
        *same_top += (double)(a == b) / N_TEXT;
    }
}

typedef struct row {
    const char *name;
    int32_t gpu_layers;
    uint64_t limit;
    bool is_kv_on_host;
    double decode_must, prefill_must; /* tokens a second; 0 = none */
    int32_t stream_layers;
} row;

typedef struct speeds {
    double decode[REPEATS], prefill[REPEATS];
} speeds;

static galen_status measure(galen_session *s, int32_t n_vocab, int repeats, float *logits, speeds *out, galen_error *err) {
    int32_t t[N_PREFILL];
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < N_PREFILL; i++) t[i] = token_at(1000 + i, n_vocab);
    for (int r = -1; !st && r < repeats; r++) { /* the first warms up */
        st = galen_session_rewind(s, 0, err);
        const double a = now_s();
        if (!st) st = galen_session_eval(s, t, N_PREFILL, logits, err);
        const double b = now_s();
        for (int i = 0; !st && i < N_DECODE; i++) st = galen_session_eval(s, t + i, 1, logits, err);
        const double c = now_s();
        if (r < 0) continue;
        out->prefill[r] = N_PREFILL / (b - a);
        out->decode[r] = N_DECODE / (c - b);
    }
    qsort(out->prefill, (size_t)repeats, sizeof *out->prefill, by_value);
    qsort(out->decode, (size_t)repeats, sizeof *out->decode, by_value);
    return st;
}

static galen_model_opts opts_of(const row *r, int *n_warnings) {
    galen_model_opts o = galen_model_default_opts();
    *n_warnings = 0;
    o.device = r ? "cuda" : "cpu";
    o.n_ctx = N_CTX;
    o.notice = on_notice;
    o.notice_user = n_warnings;
    if (!r) return o;
    o.gpu_layers = r->gpu_layers;
    o.vram_limit = r->limit;
    o.is_kv_on_host = r->is_kv_on_host;
    o.stream_layers = r->stream_layers;
    return o;
}

static void run_row(const char *path, const row *r, const float *want, float *logits, int repeats) {
    galen_error err = {0};
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    int n_warnings;
    double kl, same;
    speeds v = {{0}, {0}};
    const galen_model_opts o = opts_of(r, &n_warnings);
    const uint64_t before = gpu_free();
    const double start = now_s();
    so.n_ctx = N_CTX;
    galen_status st = galen_model_open(&m, path, &o, &err);
    if (!st) st = galen_session_open(&s, m, &so, &err);
    if (!check(!st, err.msg, r->name)) goto done;
    const double load_s = now_s() - start;
    const galen_model_info i = galen_model_get_info(m);
    const uint64_t after = gpu_free(), taken = before > after ? before - after : 0;
    const double ratio = i.gpu_bytes ? (double)taken / (double)i.gpu_bytes : 1;
    st = text_logits(s, i.n_vocab, logits, &err);
    if (!st) st = measure(s, i.n_vocab, repeats, logits + (size_t)N_TEXT * (size_t)i.n_vocab, &v, &err);
    if (!check(!st, err.msg, r->name)) goto done;
    compare(want, logits, i.n_vocab, &kl, &same);
    printf("%-14s %s\n", r->name, i.placement);
    printf("  planned %.1f MiB, taken %.1f MiB (%.4f); loaded in %.2f s; KL %.2e, same top %.3f\n", (double)i.gpu_bytes / 0x1p20,
           (double)taken / 0x1p20, ratio, load_s, kl, same);
    printf("  decode %.1f (%.1f to %.1f), prefill %d %.0f (%.0f to %.0f) tokens/s\n", v.decode[repeats / 2], v.decode[0],
           v.decode[repeats - 1], N_PREFILL, v.prefill[repeats / 2], v.prefill[0], v.prefill[repeats - 1]);
    fflush(stdout);
    /* allocations are rounded up to 2 MiB each by the driver */
    check(fabs(ratio - 1) <= 0.01 || (taken > i.gpu_bytes ? taken - i.gpu_bytes : i.gpu_bytes - taken) <= 16 << 20,
          "planned and taken differ by more than 1 %", r->name);
    check(!r->limit || taken <= r->limit, "more than the limit was taken", r->name);
    check(n_warnings == 0, "it fell back", r->name);
    check(kl <= 1e-3 && same >= 0.99,
          "logits differ from the CPU's: KL over 1e-3, or the top token in more than one of a hundred", r->name);
    check(v.decode[repeats / 2] >= r->decode_must, "decode is slower than it must be", r->name);
    check(v.prefill[repeats / 2] >= r->prefill_must, "prefill is slower than it must be", r->name);
done:
    galen_session_close(s);
    galen_model_close(m);
}

/* The CPU alone: the logits that all are compared with. */
static bool run_cpu(const char *path, float **logits, int32_t *n_vocab, int repeats) {
    galen_error err = {0};
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    int unused;
    speeds v = {{0}, {0}};
    const galen_model_opts o = opts_of(NULL, &unused);
    so.n_ctx = N_CTX;
    galen_status st = galen_model_open(&m, path, &o, &err);
    if (!st) st = galen_session_open(&s, m, &so, &err);
    if (!st) *n_vocab = galen_model_get_info(m).n_vocab;
    if (!st) *logits = malloc((size_t)(N_TEXT + 1) * (size_t)*n_vocab * sizeof **logits);
    if (!st && *logits) st = text_logits(s, *n_vocab, *logits, &err);
    if (!st && *logits) st = measure(s, *n_vocab, repeats, *logits + (size_t)N_TEXT * (size_t)*n_vocab, &v, &err);
    if (!st)
        printf("cpu            %s\n  decode %.1f, prefill %d %.0f tokens/s\n", galen_model_get_info(m).device,
               v.decode[repeats / 2], N_PREFILL, v.prefill[repeats / 2]);
    galen_session_close(s);
    galen_model_close(m);
    return check(!st && *logits, err.msg, "cpu");
}

int main(int argc, char **argv) {
    static const row rows[] = {
        {"16 of 32", 16, 0, false, 22, 2000, 0},
        {"vram 4 GiB", GALEN_GPU_LAYERS_AUTO, 4 * GIB, false, 19.2, 0, 0},
        {"16, none", 16, 0, false, 0, 2000, GALEN_STREAM_NONE},
        {"vram 6 GiB", GALEN_GPU_LAYERS_AUTO, 6 * GIB, false, 0, 0, 0},
        {"8 of 32", 8, 0, false, 0, 0, 0},
        {"24 of 32", 24, 0, false, 0, 0, 0},
        {"KV on host", 16, 0, true, 0, 0, 0},
        {"all", GALEN_GPU_LAYERS_ALL, 0, false, 0, 0, 0},
    };
    float *want = NULL, *logits;
    int32_t n_vocab = 0;
    galen_error err = {0};
    galen_model *small = NULL;
    galen_session *held = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: gpu_split SMALL.gguf MODEL.gguf [--quick [ROWS]]\n");
        return 2;
    }
    const int repeats = argc > 3 && strcmp(argv[3], "--quick") == 0 ? 1 : REPEATS;
    size_t n_rows = sizeof rows / sizeof *rows;
    if (argc > 4 && strtoul(argv[4], NULL, 10) < n_rows) n_rows = strtoul(argv[4], NULL, 10);
    galen_model_opts o = galen_model_default_opts();
    o.device = "cuda";
    if (galen_model_open(&small, argv[1], &o, &err) || galen_session_open(&held, small, NULL, &err)) {
        printf("FAILED %s: %s\n0 passed, 1 failed\n", argv[1], err.msg);
        return 1;
    }
    int32_t t[64];
    for (int32_t i = 0; i < 64; i++) t[i] = 300 + i; /* loads the kernels of both kinds of batch */
    check(!galen_session_eval(held, t, 64, NULL, &err) && !galen_session_eval(held, t, 1, NULL, &err), err.msg, "small");
    if (run_cpu(argv[2], &want, &n_vocab, repeats)) {
        logits = malloc((size_t)(N_TEXT + 1) * (size_t)n_vocab * sizeof *logits);
        for (size_t i = 0; logits && i < n_rows; i++) run_row(argv[2], &rows[i], want, logits, repeats);
        free(logits);
    }
    free(want);
    galen_session_close(held);
    galen_model_close(small);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed ? 1 : 0;
}
