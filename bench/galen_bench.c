/* Speed of the engine alone: no sampling, no text. One line of JSON on standard output.
 *
 *   galen_bench MODEL THREADS PREFILL DECODE [ISA]
 * Warms up (the weights are read once), then times one evaluation of PREFILL random tokens in an empty session and DECODE
 * evaluations of one token in an empty session. Peak resident memory is the kernel's VmHWM at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "galen/galen.h"

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t peak_resident_bytes(void) {
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtoull(line + 6, NULL, 10);
    if (f) (void)fclose(f);
    return kib * 1024;
}

static int complain(const char *what, const galen_error *err) {
    fprintf(stderr, "galen_bench: %s: %s\n", what, err->msg);
    return 1;
}

static galen_status decode(galen_session *s, const int32_t *ids, int32_t n, float *logits, galen_error *err) {
    galen_status st = galen_session_rewind(s, 0, err);
    for (int32_t i = 0; i < n && !st; i++) st = galen_session_eval(s, ids + i, 1, logits, err);
    return st;
}

int main(int argc, char **argv) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_error err = {0};
    if (argc < 5) {
        fprintf(stderr, "usage: galen_bench MODEL THREADS PREFILL DECODE [ISA]\n");
        return 2;
    }
    const int32_t n_prefill = (int32_t)strtol(argv[3], NULL, 10), n_decode = (int32_t)strtol(argv[4], NULL, 10);
    galen_model_opts mo = galen_model_default_opts();
    galen_session_opts so = galen_session_default_opts();
    mo.n_threads = (int32_t)strtol(argv[2], NULL, 10);
    if (argc > 5) mo.isa = argv[5];
    so.n_ctx = n_prefill > n_decode ? n_prefill : n_decode;
    if (galen_model_open(&m, argv[1], &mo, &err)) return complain("open", &err);
    if (galen_session_open(&s, m, &so, &err)) return complain("session", &err);
    const galen_model_info info = galen_model_get_info(m);
    float *logits = malloc(sizeof *logits * (size_t)info.n_vocab);
    int32_t *ids = malloc(sizeof *ids * (size_t)so.n_ctx);
    if (!logits || !ids) return complain("memory", &err);
    for (int32_t i = 0; i < so.n_ctx; i++) ids[i] = (int32_t)(((uint32_t)i * 2654435761u >> 8) % (uint32_t)info.n_vocab);

    const int32_t n_warm = n_prefill < 16 ? n_prefill : 16;
    if (galen_session_eval(s, ids, n_warm, logits, &err) || decode(s, ids, 2, logits, &err)) return complain("warm-up", &err);
    if (galen_session_rewind(s, 0, &err)) return complain("rewind", &err);
    const double t0 = now_s();
    if (galen_session_eval(s, ids, n_prefill, logits, &err)) return complain("prefill", &err);
    const double t1 = now_s();
    if (decode(s, ids, n_decode, logits, &err)) return complain("decode", &err);
    const double t2 = now_s();

    uint64_t kv = 0, work = 0;
    if (galen_model_memory(m, so.n_ctx, NULL, &kv, &work, &err)) return complain("memory", &err);
    printf("{\"prefill\": %.3f, \"decode\": %.3f, \"peak_bytes\": %" PRIu64 ", \"weight_bytes\": %" PRIu64
           ", \"kv_bytes\": %" PRIu64 ", \"work_bytes\": %" PRIu64 ", \"device\": \"%s\"}\n",
           n_prefill / (t1 - t0), n_decode / (t2 - t1), peak_resident_bytes(), info.weight_bytes, kv, work, info.device);
    free(ids);
    free(logits);
    galen_session_close(s);
    galen_model_close(m);
    return 0;
}
