/* The device's choice against runtime/sampler.c, given the same logits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/sample.h"
#include "base/rng.h"
#include "gpu.h"
#include "random_net.h"
#include "runtime/sampler.h"

enum { N_VOCAB = 3000, N_ROWS = 8, N_CTX = 64 };

typedef struct sampling_case {
    const char *why;
    galen_sampling how;
    int n_bias;
} sampling_case;

static const sampling_case cases[] = {
    {"greedy", {.temperature = 0, .top_p = 1, .repeat_penalty = 1}, 0},
    {"greedy, penalties, biases",
     {.temperature = 0,
      .top_p = 1,
      .repeat_penalty = 1.3f,
      .presence_penalty = 0.2f,
      .frequency_penalty = 0.1f,
      .penalty_last_n = 40},
     9},
    {"everything off", {.temperature = 1, .top_p = 1, .repeat_penalty = 1}, 0},
    {"cold, everything off", {.temperature = 0.3f, .top_p = 1, .repeat_penalty = 1}, 3},
    {"the defaults", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1}, 0},
    {"top-k 1", {.temperature = 1, .top_k = 1, .top_p = 1, .repeat_penalty = 1}, 0},
    {"top-k 2500: more than is put in order in shared memory",
     {.temperature = 2, .top_k = 2500, .top_p = 1, .repeat_penalty = 1},
     0},
    {"top-p alone", {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1}, 0},
    {"top-p 0", {.temperature = 1, .top_p = 0, .repeat_penalty = 1}, 0},
    {"min-p alone", {.temperature = 1.5f, .top_p = 1, .min_p = 0.01f, .repeat_penalty = 1}, 0},
    {"all of them",
     {.temperature = 1.1f,
      .top_k = 200,
      .top_p = 0.97f,
      .min_p = 0.001f,
      .repeat_penalty = 1.1f,
      .frequency_penalty = 0.3f,
      .penalty_last_n = -1},
     20},
};

typedef struct device_scratch {
    float *logits;
    sample_how *how;
    int32_t *lists;
    sample_result *out;
    sample_args args;
} device_scratch;

static device_scratch scratch(void) {
    enum { PADDED = 4096 };
    device_scratch d = {.logits = device_copy(NULL, sizeof(float) * N_ROWS * N_VOCAB),
                        .how = device_copy(NULL, sizeof(sample_how) * N_ROWS),
                        .lists = device_copy(NULL, sizeof(int32_t) * 4096),
                        .out = device_copy(NULL, sizeof(sample_result) * N_ROWS)};
    void *zero = calloc(N_ROWS * N_VOCAB, sizeof(int32_t));
    d.args = (sample_args){.logits = d.logits,
                           .n_rows = N_ROWS,
                           .n_vocab = N_VOCAB,
                           .n_padded = PADDED,
                           .how = d.how,
                           .lists = d.lists,
                           .out = d.out,
                           .adjusted = device_copy(NULL, sizeof(float) * N_ROWS * N_VOCAB),
                           .counts = device_copy(zero, sizeof(int32_t) * N_ROWS * N_VOCAB),
                           .keys = device_copy(NULL, sizeof(uint64_t) * N_ROWS * PADDED),
                           .weights = device_copy(NULL, sizeof(double) * N_ROWS * PADDED),
                           .surveys = device_copy(NULL, sizeof(sample_survey) * N_ROWS * SAMPLE_SLICES)};
    free(zero);
    return d;
}

static void scratch_free(device_scratch *d) {
    device_free(d->logits);
    device_free(d->how);
    device_free(d->lists);
    device_free(d->out);
    device_free(d->args.adjusted);
    device_free(d->args.counts);
    device_free(d->args.keys);
    device_free(d->args.weights);
    device_free(d->args.surveys);
}

/* Rows of all shapes: flat, steep, with ties, with much forbidden. */
static void draw_logits(float *logits, int row) {
    for (int i = 0; i < N_VOCAB; i++) {
        const double x = fresh() * fresh() * fresh();
        logits[i] = (float)(row % 4 == 0 ? 0.5 * x : row % 4 == 1 ? 25 * x : row % 4 == 2 ? floor(8 * x) : 60 * x - 3);
    }
}

static void one_case(cuda_queue *q, device_scratch *d, sampler *s, const sampling_case *c) {
    static float logits[N_ROWS][N_VOCAB];
    static int32_t history[N_CTX], lists[4096];
    galen_logit_bias bias[32];
    sample_how how[N_ROWS];
    sample_result out[N_ROWS];
    galen_error err;
    for (int i = 0; i < N_CTX; i++) history[i] = (int32_t)(fabs(fresh()) * 30);
    for (int i = 0; i < c->n_bias; i++)
        bias[i] = (galen_logit_bias){.id = (int32_t)(fabs(fresh()) * 40), .bias = i % 5 ? (float)(3 * fresh()) : -INFINITY};
    galen_sampling o = c->how;
    o.size = sizeof o;
    o.bias = bias, o.n_bias = (size_t)c->n_bias;
    const bool is_penalised = o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0;
    const int n_window = !is_penalised ? 0 : o.penalty_last_n < 0 ? N_CTX : o.penalty_last_n;
    memcpy(lists, history + N_CTX - n_window, sizeof(int32_t) * (size_t)n_window);
    for (int i = 0; i < c->n_bias; i++) {
        lists[n_window + i] = bias[i].id;
        memcpy(&lists[n_window + c->n_bias + i], &bias[i].bias, sizeof(float));
    }
    for (int r = 0; r < N_ROWS; r++) {
        draw_logits(logits[r], r);
        how[r] = (sample_how){o.temperature,
                              o.top_p,
                              o.min_p,
                              o.repeat_penalty,
                              o.presence_penalty,
                              o.frequency_penalty,
                              o.top_k,
                              n_window,
                              0,
                              c->n_bias,
                              n_window,
                              n_window + c->n_bias,
                              rng_uniform((uint64_t)r, 0, N_CTX)};
    }
    check_that(cudaMemcpy(d->logits, logits, sizeof logits, cudaMemcpyHostToDevice) == cudaSuccess &&
                   cudaMemcpy(d->how, how, sizeof how, cudaMemcpyHostToDevice) == cudaSuccess &&
                   cudaMemcpy(d->lists, lists, sizeof lists, cudaMemcpyHostToDevice) == cudaSuccess &&
                   !cuda_choose(q, &d->args) && cudaDeviceSynchronize() == cudaSuccess,
               "%s: choosing", c->why);
    host_copy(out, d->out, sizeof out);
    for (int r = 0; r < N_ROWS; r++) {
        int32_t want;
        o.seed = (uint64_t)r;
        check_that(!sampler_choose(s, &o, logits[r], history, N_CTX, NULL, &want, &err), "%s: %s", c->why, err.msg);
        check_that(out[r].id == want, "%s, row %d: token %d, expected %d", c->why, r, out[r].id, want);
        const double p = (double)logprobs_of(logits[r], N_VOCAB, want, 0, NULL, NULL);
        check_bound("log-probabilities", fabs((double)out[r].logprob - p), 2e-5, "%s, row %d", c->why, r);
    }
}

/* One row's NaN, and a vocabulary that is forbidden whole: told, and their neighbours choose as before. */
static void ill_rows(cuda_queue *q, device_scratch *d) {
    static float logits[N_ROWS][N_VOCAB];
    sample_how how[N_ROWS] = {0};
    sample_result out[N_ROWS];
    for (int r = 0; r < N_ROWS; r++) {
        how[r].top_p = how[r].repeat_penalty = 1;
        for (int i = 0; i < N_VOCAB; i++) logits[r][i] = i == 7 * r + 1 ? 2.0f : (float)fresh();
    }
    logits[2][N_VOCAB - 1] = NAN;
    logits[5][0] = INFINITY;
    check_that(cudaMemcpy(d->logits, logits, sizeof logits, cudaMemcpyHostToDevice) == cudaSuccess &&
                   cudaMemcpy(d->how, how, sizeof how, cudaMemcpyHostToDevice) == cudaSuccess && !cuda_choose(q, &d->args) &&
                   cudaDeviceSynchronize() == cudaSuccess,
               "choosing");
    host_copy(out, d->out, sizeof out);
    for (int r = 0; r < N_ROWS; r++)
        check_that(out[r].id == (r == 2 || r == 5 ? SAMPLE_NOT_FINITE : 7 * r + 1), "ill rows: row %d chose %d", r, out[r].id);
}

/* Through the backend: the same token as the logits it hands to the host would give. */
static void whole_step(void) {
    arena mem = {0};
    const net_spec spec = {.n_layer = 2,
                           .n_embd = 256,
                           .n_head = 4,
                           .n_head_kv = 2,
                           .d_head = 64,
                           .n_ff = 512,
                           .n_vocab = 300,
                           .n_rot = 64,
                           .weights = TENSOR_Q8_0,
                           .seed = 9};
    network *net = random_net(&mem, &spec);
    const backend_api *api = backend_cuda();
    const backend_config cfg = {.n_threads = 1, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = 16, .max_out = 16, .n_ctx = 64, .n_pages = 16, .kv = KV_F16};
    backend *b = NULL;
    backend_work *w = NULL;
    galen_error err = {0};
    int32_t token[16], pos[16], seq[16], page[16], row[16];
    kv_pages seqs[16];
    sampler s = {0};
    static float logits[16 * 300];
    galen_sampling how = {.size = sizeof how,
                          .temperature = 0.7f,
                          .top_k = 50,
                          .top_p = 0.9f,
                          .repeat_penalty = 1.2f,
                          .penalty_last_n = 64,
                          .seed = 4};
    check_that(!api->open(&b, net, &cfg, &err) && !api->work_open(&w, b, &lim, &err) && !sampler_open(&s, 300, &err), "%s",
               err.msg);
    for (int i = 0; i < 16; i++)
        token[i] = 11 * i + 1, pos[i] = 0, seq[i] = i, page[i] = i, row[i] = i, seqs[i] = (kv_pages){&page[i], 1};
    for (int n = 1; w && n <= 16; n += 15) {
        sample_row rows[16];
        sample_choice got[16];
        const batch bt = {n, token, pos, seq, seqs, n, n, row};
        for (int pass = 0; pass < 2; pass++) {
            galen_status st = api->embed(w, &bt, &err);
            for (int32_t l = 0; !st && l < net->n_layer; l++)
                for (stage k = STAGE_ATTN_IN; !st && k < N_STAGES; k++) st = api->run(w, k, l, &bt, &err);
            for (int i = 0; i < n; i++) rows[i] = (sample_row){&how, &token[i], 1};
            if (!st) st = pass ? api->sample(w, &bt, rows, got, &err) : api->head(w, &bt, logits, &err);
            if (!st) st = api->sync(w, &err);
            check_that(!st, "a step of %d: %s", n, err.msg);
        }
        for (int i = 0; i < n; i++) {
            int32_t want = -9;
            check_that(!sampler_choose(&s, &how, logits + 300 * i, &token[i], 1, NULL, &want, &err), "%s", err.msg);
            check_that(got[i].id == want, "a step of %d, row %d: token %d, expected %d", n, i, got[i].id, want);
        }
    }
    sampler_close(&s);
    if (w) api->work_close(w);
    if (b) api->close(b);
    arena_free(&mem);
}

void test_sampling(void) {
    struct cudaDeviceProp prop;
    galen_error err;
    sampler s;
    check_that(cudaGetDeviceProperties(&prop, 0) == cudaSuccess, "device");
    cuda_queue q = {
        .n_sm = prop.multiProcessorCount, .has_pdl = prop.major >= 9, .shared_bytes = (int32_t)prop.sharedMemPerBlockOptin};
    device_scratch d = scratch();
    if (!check_that(!sampler_open(&s, N_VOCAB, &err), "%s", err.msg)) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 4; k++) one_case(&q, &d, &s, &cases[i]);
    ill_rows(&q, &d);
    sampler_close(&s);
    scratch_free(&d);
    whole_step();
}
