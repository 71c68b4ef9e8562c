/* Log-probabilities read on the device against those of the logits that it hands to the host. */
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/read.h"
#include "gpu.h"
#include "random_net.h"
#include "tensor/log_sum.h"

enum { N_VOCAB = 3001, N_ROWS = 7, EACH = 3 };

/* Rows flat and steep, one with a NaN, one with an infinity: told, and their neighbours read as before. */
static void read_rows(void) {
    static float logits[N_ROWS][N_VOCAB];
    int32_t first[N_ROWS + 1], ids[N_ROWS * EACH];
    double out[N_ROWS * EACH];
    struct cudaDeviceProp prop;
    check_that(cudaGetDeviceProperties(&prop, 0) == cudaSuccess, "device");
    cuda_queue q = {.n_sm = prop.multiProcessorCount, .has_pdl = prop.major >= 9};
    for (int r = 0; r < N_ROWS; r++) {
        first[r + 1] = EACH * (r + 1);
        for (int i = 0; i < N_VOCAB; i++) logits[r][i] = (float)(fresh() * (r % 2 ? 40 : 3));
        for (int i = 0; i < EACH; i++) ids[EACH * r + i] = i == 0 ? N_VOCAB - 1 : 977 * i + r;
    }
    first[0] = 0;
    logits[2][N_VOCAB - 1] = NAN;
    logits[5][1] = -INFINITY;
    read_args a = {.logits = device_copy(logits, sizeof logits),
                   .n_rows = N_ROWS,
                   .n_vocab = N_VOCAB,
                   .first = device_copy(first, sizeof first),
                   .ids = device_copy(ids, sizeof ids),
                   .out = device_copy(NULL, sizeof out)};
    check_that(!cuda_read_rows(&q, &a) && cudaDeviceSynchronize() == cudaSuccess, "reading");
    host_copy(out, a.out, sizeof out);
    for (int r = 0; r < N_ROWS; r++) {
        const double sum = log_sum(logits[r], N_VOCAB);
        for (int i = EACH * r; i < EACH * (r + 1); i++) {
            if (r == 2 || r == 5)
                check_that(isnan(out[i]), "row %d: %g of what is not finite", r, out[i]);
            else
                check_bound("log-probability", fabs(out[i] - ((double)logits[r][ids[i]] - sum)), 2e-6, "row %d, token %d", r,
                            ids[i]);
        }
    }
    device_free((void *)(uintptr_t)a.logits);
    device_free((void *)(uintptr_t)a.first);
    device_free((void *)(uintptr_t)a.ids);
    device_free(a.out);
}

enum { STEP_ROWS = 45, STEP_VOCAB = 300 }; /* more rows than the head takes at a time */

/* Row r is read r % 4 times. */
static read_list list_of(int n, int32_t *first, int32_t *ids, double *out) {
    first[0] = 0;
    for (int r = 0; r < n; r++) {
        first[r + 1] = first[r] + r % 4;
        for (int i = first[r]; i < first[r + 1]; i++) ids[i] = (37 * r + 101 * i) % STEP_VOCAB;
    }
    return (read_list){.first = first, .ids = ids, .out = out};
}

static galen_status run_step(const backend_api *api, backend_work *w, int32_t n_layer, const batch *bt, const read_list *list,
                             float *logits, galen_error *err) {
    galen_status st = api->embed(w, bt, err);
    for (int32_t l = 0; !st && l < n_layer; l++)
        for (stage k = STAGE_ATTN_IN; !st && k < N_STAGES; k++) st = api->run(w, k, l, bt, err);
    if (!st) st = list ? api->read(w, bt, list, err) : api->head(w, bt, logits, err);
    return st ? st : api->sync(w, err);
}

static void whole_step(bool is_uniform) {
    arena mem = {0};
    const net_spec spec = {.n_layer = 2,
                           .n_embd = 256,
                           .n_head = 4,
                           .n_head_kv = 2,
                           .d_head = 64,
                           .n_ff = 512,
                           .n_vocab = STEP_VOCAB,
                           .n_rot = 64,
                           .weights = TENSOR_Q8_0,
                           .seed = 10};
    network *net = random_net(&mem, &spec);
    const backend_api *api = backend_cuda();
    const backend_config cfg = {.n_threads = 1, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = 64, .max_out = 64, .n_ctx = 64, .n_pages = 64, .kv = KV_F16, .is_uniform = is_uniform};
    static float logits[STEP_ROWS * STEP_VOCAB];
    int32_t token[STEP_ROWS], pos[STEP_ROWS], seq[STEP_ROWS], page[STEP_ROWS], row[STEP_ROWS], first[STEP_ROWS + 1],
        ids[4 * STEP_ROWS];
    double out[4 * STEP_ROWS];
    kv_pages seqs[STEP_ROWS];
    backend *b = NULL;
    backend_work *w = NULL;
    galen_error err = {0};
    check_that(!api->open(&b, net, &cfg, &err) && !api->work_open(&w, b, &lim, &err), "%s", err.msg);
    for (int i = 0; i < STEP_ROWS; i++)
        token[i] = 5 * i + 1, pos[i] = 0, seq[i] = i, page[i] = i, row[i] = i, seqs[i] = (kv_pages){&page[i], 1};
    static const int sizes[] = {1, 2, 33, STEP_ROWS};
    for (size_t k = 0; w && k < 2 * sizeof sizes / sizeof *sizes; k++) { /* twice each: queued, then as a graph */
        const int n = sizes[k / 2];
        const batch bt = {n, token, pos, seq, seqs, n, n, row};
        read_list list = list_of(n, first, ids, out);
        const batch last = {n, token, pos, seq, seqs, n, 1, &row[n - 1]}; /* one output of many rows */
        const int32_t last_first[2] = {0, 1}, last_id = 7;
        double last_out = 0;
        const read_list last_list = {.first = last_first, .ids = &last_id, .out = &last_out};
        check_that(!run_step(api, w, net->n_layer, &bt, NULL, logits, &err) &&
                       !run_step(api, w, net->n_layer, &bt, &list, NULL, &err) &&
                       !run_step(api, w, net->n_layer, &last, &last_list, NULL, &err),
                   "a step of %d: %s", n, err.msg);
        for (int r = 0; r < n; r++)
            for (int i = first[r]; i < first[r + 1]; i++)
                check_bound(
                    "log-probability in a step",
                    fabs(out[i] - ((double)logits[STEP_VOCAB * r + ids[i]] - log_sum(logits + STEP_VOCAB * r, STEP_VOCAB))), 2e-6,
                    "%d rows, row %d", n, r);
        const float *l = logits + STEP_VOCAB * (n - 1);
        check_bound("log-probability in a step", fabs(last_out - ((double)l[last_id] - log_sum(l, STEP_VOCAB))), 2e-6,
                    "the last of %d rows", n);
    }
    const batch bt = {1, token, pos, seq, seqs, 1, 1, row};
    const int32_t too_many[2] = {0, READ_IDS + 1};
    const read_list list = {.first = too_many, .ids = ids, .out = out};
    check_that(!w || run_step(api, w, net->n_layer, &bt, &list, NULL, &err) == GALEN_E_ARG, "too many: %s", err.msg);
    if (w) api->work_close(w);
    if (b) api->close(b);
    arena_free(&mem);
}

void test_reading(void) {
    read_rows();
    whole_step(false);
    whole_step(true);
}
