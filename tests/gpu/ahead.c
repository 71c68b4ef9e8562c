/* Steps that run ahead of the host: the same tokens as one step at a time with the host's sampler between them, for every way of
 * choosing and every type of embeddings; what was not taken is dropped and written over. */
#include <string.h>

#include "backend/cuda/impl.h"
#include "gpu.h"
#include "random_net.h"
#include "runtime/sampler.h"

enum { N_VOCAB = 300, MOST_CTX = 200, N_PAGES = 4, N_PROMPT = 5 };

static int32_t n_ctx;

typedef struct device {
    const network *net;
    const backend_api *api;
    backend *b;
    backend_work *w;
    kv_pages seq;
} device;

static const int32_t pages[N_PAGES] = {2, 0, 3, 1};

/* One token through the model, its logits to the host. */
static galen_status one_step(device *d, int32_t token, int32_t pos, float *logits, galen_error *err) {
    const int32_t zero = 0;
    const batch b = {1, &token, &pos, &zero, &d->seq, 1, 1, &zero};
    galen_status st = d->api->embed(d->w, &b, err);
    for (int32_t l = 0; !st && l < d->net->n_layer; l++)
        for (stage s = STAGE_ATTN_IN; !st && s < N_STAGES; s++) st = d->api->run(d->w, s, l, &b, err);
    if (!st) st = d->api->head(d->w, &b, logits, err);
    return st ? st : d->api->sync(d->w, err);
}

/* Tokens of the whole context by the host's sampler. */
static galen_status by_host(device *d, const galen_sampling *o, int32_t *history, galen_error *err) {
    static float logits[N_VOCAB];
    sampler s;
    galen_status st = sampler_open(&s, N_VOCAB, err);
    for (int32_t pos = 0; !st && pos < n_ctx; pos++) {
        st = one_step(d, history[pos], pos, logits, err);
        if (!st && pos >= N_PROMPT - 1) st = sampler_choose(&s, o, logits, history, pos + 1, NULL, &history[pos + 1], err);
    }
    sampler_close(&s);
    return st;
}

/* The same from position first on, up to n_far steps ahead; the last steps are dropped. Returns how many tokens agree. */
static int32_t by_device(device *d, const galen_sampling *o, const int32_t *want, int32_t first, int32_t n_far,
                         galen_error *err) {
    const sample_row row = {o, want, first + 1};
    int32_t n = 0, n_queued = 0;
    galen_status st = d->api->ahead_begin(d->w, &d->seq, &row, err);
    while (!st && first + n < n_ctx - 3) { /* so that some are dropped */
        sample_choice got = {-9, 0};
        while (!st && n_queued - n < n_far && first + n_queued < n_ctx) {
            st = d->api->ahead_step(d->w, err);
            n_queued++;
        }
        if (!st) st = d->api->ahead_take(d->w, &got, err);
        if (st || got.id != want[first + n + 1]) break;
        n++;
    }
    check_that(!st, "ahead: %s", err->msg);
    return n;
}

static void one_model(const net_spec *spec, bool is_tied, bool is_uniform, const galen_sampling *how, const char *why) {
    arena mem = {0};
    network *net = random_net(&mem, spec);
    galen_error err = {0};
    int32_t history[MOST_CTX + 1] = {7, 250, 31, 31, 8};
    if (is_tied) net->head = net->embd;
    const backend_config cfg = {.n_threads = 1, .has_embed = true, .has_head = true, .has_table = true};
    const work_limits lim = {
        .max_rows = 8, .max_out = 8, .n_ctx = n_ctx, .n_pages = N_PAGES, .kv = KV_F16, .is_uniform = is_uniform};
    device d = {.net = net, .api = backend_cuda(), .seq = {pages, N_PAGES}};
    if (check_that(!d.api->open(&d.b, net, &cfg, &err) && !d.api->work_open(&d.w, d.b, &lim, &err), "%s: %s", why, err.msg) &&
        check_that(!by_host(&d, how, history, &err), "%s: %s", why, err.msg)) {
        static const int far[] = {1, 2, AHEAD_STEPS};
        uint64_t weights, loading, kv, buffers;
        d.api->weight_bytes(net, &cfg, &weights, &loading);
        d.api->work_bytes(net, &cfg, &lim, &kv, &buffers);
        check_that(d.api->memory_held(d.b) == weights + kv + buffers, "%s: bytes", why);
        for (int i = 0; i < 3; i++) {
            const int32_t first = i == 1 ? n_ctx / 2 : N_PROMPT - 1, n = by_device(&d, how, history, first, far[i], &err);
            check_that(n == n_ctx - 3 - first, "%s, type %d, %d ahead: %d tokens agree of %d", why, (int)spec->weights, far[i], n,
                       n_ctx - 3 - first);
        }
        sample_choice c;
        float logits[N_VOCAB];
        check_that(d.api->ahead_begin(d.w, &d.seq, &(sample_row){how, history, n_ctx + 1}, &err) == GALEN_E_RANGE, "%s: end",
                   why);
        check_that(!one_step(&d, history[0], 0, logits, &err), "%s: a step after them: %s", why, err.msg);
        check_that(d.api->ahead_step(d.w, &err) == GALEN_E_ARG && d.api->ahead_take(d.w, &c, &err) == GALEN_E_ARG,
                   "%s: another call has ended it", why);
    }
    if (d.w) d.api->work_close(d.w);
    if (d.b) d.api->close(d.b);
    arena_free(&mem);
}

/* Not all of the model, or no embeddings: refused, and the rest goes on. */
static void refusals(const net_spec *spec) {
    arena mem = {0};
    network *net = random_net(&mem, spec);
    const galen_sampling how = {.top_p = 1, .repeat_penalty = 1};
    const int32_t history[] = {1};
    const sample_row row = {&how, history, 1};
    static const uint8_t parts[] = {PART_BOTH, PART_FFN};
    for (int i = 0; i < 2; i++) {
        const backend_config cfg = {
            .n_threads = 1, .parts = i ? parts : NULL, .has_embed = true, .has_head = true, .has_table = i == 1};
        const work_limits lim = {.max_rows = 8, .max_out = 8, .n_ctx = n_ctx, .n_pages = N_PAGES, .kv = KV_F16};
        device d = {.net = net, .api = backend_cuda(), .seq = {pages, N_PAGES}};
        galen_error err = {0};
        check_that(!d.api->open(&d.b, net, &cfg, &err) && !d.api->work_open(&d.w, d.b, &lim, &err) &&
                       d.api->ahead_begin(d.w, &d.seq, &row, &err) == GALEN_E_UNSUPPORTED,
                   "refusal %d: %s", i, err.msg);
        if (d.w) d.api->work_close(d.w);
        if (d.b) d.api->close(d.b);
    }
    arena_free(&mem);
}

static const net_spec plain = {.n_layer = 2,
                               .n_embd = 256,
                               .n_head = 4,
                               .n_head_kv = 2,
                               .d_head = 64,
                               .n_ff = 512,
                               .n_vocab = N_VOCAB,
                               .n_rot = 64,
                               .weights = TENSOR_Q8_0,
                               .seed = 11};

void test_ahead_small(void) {
    const galen_sampling how = {.temperature = 0.9f, .top_k = 50, .top_p = 1, .repeat_penalty = 1.3f, .penalty_last_n = 20};
    n_ctx = 16;
    one_model(&plain, false, false, &how, "small");
}

void test_ahead(void) {
    static const struct {
        const char *why;
        galen_sampling how;
    } ways[] = {
        {"greedy", {.top_p = 1, .repeat_penalty = 1}},
        {"the defaults", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .seed = 3}},
        {"hot, top-p", {.temperature = 1.5f, .top_p = 0.9f, .repeat_penalty = 1, .seed = 5}},
        {"penalties over 20",
         {.temperature = 0.9f, .top_k = 50, .top_p = 1, .repeat_penalty = 1.3f, .penalty_last_n = 20, .seed = 7}},
        {"greedy, penalties over all",
         {.top_p = 1, .repeat_penalty = 1.1f, .presence_penalty = 0.4f, .frequency_penalty = 0.2f, .penalty_last_n = -1}}};
    static const galen_logit_bias bias[] = {{.id = 3, .bias = 4}, {.id = 9, .bias = -100}, {.id = 3, .bias = 1}};
    static const tensor_type types[] = {TENSOR_Q8_0, TENSOR_F32,  TENSOR_F16,  TENSOR_BF16,   TENSOR_Q4_0,
                                        TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_IQ4_NL, TENSOR_Q2_K,
                                        TENSOR_Q3_K, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
    net_spec spec = plain;
    n_ctx = MOST_CTX;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        galen_sampling how = ways[i].how;
        how.size = sizeof how;
        one_model(&spec, i % 2, false, &how, ways[i].why);
        how.bias = bias, how.n_bias = sizeof bias / sizeof *bias;
        one_model(&spec, i % 2 == 0, i == 0, &how, ways[i].why);
    }
    refusals(&spec);
    spec.has_post_norm = true, spec.window = 30, spec.has_qk_norm = true; /* embeddings are scaled */
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        spec.weights = types[i];
        one_model(&spec, i % 2, false, &ways[1].how, "types");
    }
}
