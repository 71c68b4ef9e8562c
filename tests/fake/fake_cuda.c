#include "fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plugin.h"
#include "runtime/sampler.h"

enum { FAKE_RUNTIME = 13000, LOADING = 1 << 16, SAMPLE_MOST = 8 };

__attribute__((visibility("default"))) fake_device_state fake_device;

#define CPU (backend_cpu())

struct backend {
    backend *inner; /* of the cpu backend: what lives here and what may be streamed */
    const network *net;
    uint8_t *parts, *streamed, *fetched;
    uint64_t weights, limit, held;
    int32_t n_threads, stream_rows;
    bool has_table;
};

/* Steps are computed when they are queued: so what was queued and not taken has really been written to the KV. */
typedef struct ahead_run {
    bool is_on;
    kv_pages seq;
    galen_sampling how;
    int32_t pos, n_queued, n_taken;
    sample_choice choices[AHEAD_STEPS];
} ahead_run;

struct backend_work {
    backend *b;
    backend_work *inner;
    work_limits lim;
    uint64_t bytes;
    int32_t lent[STREAM_LAYERS]; /* streamed layers whose KV is kept, -1 = none */
    int n_lent;
    bool is_dead;
    /* sampling */
    sampler choice;
    float *logits;   /* [max_out][n_vocab] */
    int32_t *tokens; /* [n_ctx + 1] of a sequence that runs ahead */
    ahead_run ahead;
};

/* ---------------------------------------------------------------- configuration */

static int64_t size_of_text(const char *s) {
    char *end;
    const long long n = strtoll(s, &end, 10);
    return n * (*end == 'k' ? 1 << 10 : *end == 'M' ? 1 << 20 : *end == 'G' ? 1 << 30 : 1);
}

static const struct {
    const char *name;
    size_t field;
} settings[] = {
#define FIELD(name)                                                                                                              \
    { #name "=", offsetof(fake_device_state, name) }
    FIELD(memory),    FIELD(used),       FIELD(steal),    FIELD(alloc_fail),  FIELD(alloc_fails), FIELD(step_fail),
    FIELD(load_fail), FIELD(no_sample),  FIELD(no_ahead), FIELD(unsupported), FIELD(devices),     FIELD(compute),
    FIELD(driver),    FIELD(bad_layout), FIELD(read),     FIELD(upload),
#undef FIELD
};

__attribute__((constructor)) static void configure(void) {
    fake_device = (fake_device_state){.memory = (int64_t)1 << 30,
                                      .devices = 1,
                                      .compute = 90,
                                      .driver = FAKE_RUNTIME,
                                      .read = (int64_t)1e12,
                                      .upload = (int64_t)20e9};
    const char *text = getenv("GALEN_FAKE");
    for (const char *p = text; p && *p;) {
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
            const size_t n = strlen(settings[i].name);
            if (strncmp(p, settings[i].name, n) == 0)
                *(int64_t *)(void *)((char *)&fake_device + settings[i].field) = size_of_text(p + n);
        }
        p = strchr(p, ',');
        if (p) p++;
    }
}

/* ---------------------------------------------------------------- memory */

static int64_t free_now(void) {
    const int64_t n = fake_device.memory - fake_device.used - fake_device.held;
    return n > 0 ? n : 0;
}

static galen_status take(backend *b, uint64_t n, const char *what, galen_error *err) {
    const int64_t k = ++fake_device.n_allocs, fails = fake_device.alloc_fail;
    const bool is_failing = fails && k >= fails && k <= fails + fake_device.alloc_fails;
    if (is_failing || (int64_t)n > free_now() || (b->limit && b->held + n > b->limit))
        return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %llu bytes on Fake GPU, %lld are free", what, (unsigned long long)n,
                          (long long)free_now());
    b->held += n;
    fake_device.held += (int64_t)n;
    if (fake_device.held > fake_device.most_held) fake_device.most_held = fake_device.held;
    return GALEN_OK;
}

static void give(backend *b, uint64_t n) {
    b->held -= n;
    fake_device.held -= (int64_t)n;
}

static void fake_weight_bytes(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading) {
    backend_config c = *cfg;
    c.has_embed = false; /* embeddings are read from the host's memory */
    CPU->weight_bytes(net, &c, weights, loading);
    if (cfg->has_table && net->embd.data != net->head.data) *weights += (uint64_t)net->embd.n_out * net->embd.row_bytes;
    *loading = LOADING;
}

/* Streaming takes the largest layer, and KV of the layers lent. */
static void fake_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv,
                            uint64_t *buffers) {
    CPU->work_bytes(net, cfg, lim, kv, buffers);
    if (!cfg->streamed) return;
    uint8_t *one = calloc((size_t)net->n_layer + 1, 1);
    uint64_t most = 0, kv_one = 0, unused;
    for (int32_t i = 0; one && i < net->n_layer; i++) {
        backend_config c = {.n_threads = 1, .parts = one};
        uint64_t n;
        one[i] = cfg->streamed[i];
        CPU->weight_bytes(net, &c, &n, &unused);
        if (n > most) most = n;
        CPU->work_bytes(net, &c, lim, &n, &unused);
        if (n > kv_one) kv_one = n;
        one[i] = 0;
    }
    free(one);
    *buffers += most + STREAM_LAYERS * kv_one;
}

/* ---------------------------------------------------------------- the backend */

static void fake_close(backend *b) {
    if (!b) return;
    CPU->close(b->inner);
    give(b, b->weights);
    fake_device.n_open--;
    free(b->parts);
    free(b->streamed);
    free(b->fetched);
    free(b);
}

static galen_status load(backend *b, const backend_config *cfg, galen_error *err) {
    uint64_t weights, loading;
    fake_weight_bytes(b->net, cfg, &weights, &loading);
    galen_status st = take(b, weights, "weights", err);
    if (st) return st;
    b->weights = weights;
    if ((st = take(b, loading, "buffers for loading weights", err))) return st;
    if (fake_device.load_fail) st = galen_fail(err, GALEN_E_DEVICE, 0, "GPU: loading weights: uncorrectable ECC error");
    give(b, loading);
    return st;
}

static galen_status fake_open(backend **out, const network *net, const backend_config *cfg, galen_error *err) {
    const size_t n = (size_t)net->n_layer + 1;
    backend *b = calloc(1, sizeof *b);
    uint8_t *all = calloc(n, 1);
    galen_status st = GALEN_OK;
    *out = NULL;
    if (fake_device.unsupported == 1) {
        free(all);
        free(b);
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "heads of 512 dimensions; the GPU backend takes up to 256");
    }
    if (!b || !all || !(b->parts = calloc(n, 1)) || !(b->streamed = calloc(n, 1)) || !(b->fetched = calloc(n, 1))) {
        free(all);
        if (b) free(b->parts);
        if (b) free(b->streamed);
        free(b);
        return galen_fail(err, GALEN_E_NOMEM, 0, "fake backend");
    }
    b->net = net;
    b->limit = cfg->memory_limit;
    b->n_threads = cfg->n_threads;
    b->stream_rows = cfg->stream_rows ? cfg->stream_rows : STREAM_MIN_ROWS;
    b->has_table = cfg->has_head && (cfg->has_table || net->embd.data == net->head.data);
    fake_device.n_open++;
    for (int32_t i = 0; i < net->n_layer; i++) {
        b->parts[i] = config_parts(cfg, i);
        b->streamed[i] = cfg->streamed ? cfg->streamed[i] : 0;
        b->fetched[i] = cfg->fetched ? cfg->fetched[i] & b->streamed[i] & PART_FFN : 0;
        all[i] = b->parts[i] | b->streamed[i];
    }
    backend_config inner = *cfg;
    inner.parts = all;
    inner.streamed = inner.fetched = NULL;
    st = CPU->open(&b->inner, net, &inner, err);
    if (!st) st = load(b, cfg, err);
    free(all);
    if (st)
        fake_close(b);
    else
        *out = b;
    return st;
}

static const char *fake_describe(const backend *b) {
    (void)b;
    return "Fake GPU";
}

static uint64_t fake_memory_held(const backend *b) {
    return b->held;
}

/* ---------------------------------------------------------------- the work */

static void fake_work_close(backend_work *w) {
    if (!w) return;
    CPU->work_close(w->inner);
    give(w->b, w->bytes);
    sampler_close(&w->choice);
    free(w->logits);
    free(w->tokens);
    free(w);
}

static galen_status open_sampling(backend_work *w, galen_error *err) {
    const int32_t n_vocab = w->b->net->n_vocab, rows = w->lim.max_out < SAMPLE_MOST ? w->lim.max_out : SAMPLE_MOST;
    w->logits = calloc((size_t)(rows > 0 ? rows : 1) * (size_t)n_vocab, sizeof *w->logits);
    w->tokens = calloc((size_t)w->lim.n_ctx + 1, sizeof *w->tokens);
    if (!w->logits || !w->tokens) return galen_fail(err, GALEN_E_NOMEM, 0, "fake sampling");
    return sampler_open(&w->choice, n_vocab, err);
}

static galen_status fake_work_open(backend_work **out, backend *b, const work_limits *lim, galen_error *err) {
    backend_work *w = calloc(1, sizeof *w);
    uint64_t kv, buffers;
    bool is_streaming = false;
    *out = NULL;
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "fake work");
    if (fake_device.unsupported == 2) {
        free(w);
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "KV type q8_0 needs heads of a multiple of 32 dimensions, not 24");
    }
    for (int32_t i = 0; i < b->net->n_layer; i++) is_streaming |= b->streamed[i] != 0;
    const backend_config cfg = {.n_threads = b->n_threads, .parts = b->parts, .streamed = is_streaming ? b->streamed : NULL};
    fake_work_bytes(b->net, &cfg, lim, &kv, &buffers);
    w->b = b;
    w->lim = *lim;
    for (int i = 0; i < STREAM_LAYERS; i++) w->lent[i] = -1;
    galen_status st = take(b, kv, "KV cache", err);
    if (!st) w->bytes += kv;
    if (!st) st = take(b, buffers, "work buffers", err);
    if (!st) w->bytes += buffers;
    if (!st) st = CPU->work_open(&w->inner, b->inner, lim, err);
    if (!st) st = open_sampling(w, err);
    if (st)
        fake_work_close(w);
    else
        *out = w;
    return st;
}

static galen_status step(backend_work *w, galen_error *err) {
    if (fake_device.step_fail && ++fake_device.n_steps >= fake_device.step_fail) w->is_dead = true;
    return w->is_dead ? galen_fail(err, GALEN_E_DEVICE, 0, "GPU: a stage: an illegal memory access was encountered") : GALEN_OK;
}

/* A streamed layer's KV is gone when two others came after it: written over with what would be noticed. */
static galen_status forget(backend_work *w, int32_t layer, const batch *b, galen_error *err) {
    const size_t n_kv = (size_t)w->b->net->n_head_kv * (size_t)w->b->net->d_head;
    galen_status st = GALEN_OK;
    float *bad = malloc(KV_PAGE * n_kv * sizeof *bad);
    if (!bad) return galen_fail(err, GALEN_E_NOMEM, 0, "fake");
    for (size_t i = 0; i < KV_PAGE * n_kv; i++) bad[i] = 1e4f;
    for (int32_t s = 0; !st && s < b->n_seqs; s++)
        for (int32_t p = 0; !st && p < b->seqs[s].n_pages; p++)
            st = CPU->set_kv(w->inner, layer, &b->seqs[s], p * KV_PAGE, KV_PAGE, bad, bad, err);
    free(bad);
    return st;
}

static bool is_lent(const backend_work *w, int32_t layer) {
    for (int i = 0; i < STREAM_LAYERS; i++)
        if (w->lent[i] == layer) return true;
    return false;
}

static void lend(backend_work *w, int32_t layer) {
    if (!is_lent(w, layer)) w->lent[w->n_lent++ % STREAM_LAYERS] = layer;
}

static galen_status fake_run(backend_work *w, stage s, int32_t layer, const batch *b, galen_error *err) {
    const int part = s <= STAGE_ATTN_OUT ? PART_ATTN : PART_FFN;
    galen_status st = step(w, err);
    if (st) return st;
    if (!(w->b->parts[layer] & part)) {
        const bool is_large = b->n_rows >= w->b->stream_rows;
        if (!((is_large ? w->b->streamed : w->b->fetched)[layer] & part))
            return galen_fail(err, GALEN_E_FAIL, 0, "stage %d of layer %d with %d rows does not belong here", (int)s, layer,
                              b->n_rows);
        ++*(is_large ? &fake_device.n_streamed : &fake_device.n_fetched);
        const int32_t old = w->lent[w->n_lent % STREAM_LAYERS];
        if (s == STAGE_ATTN_IN && !is_lent(w, layer) && old >= 0 && (st = forget(w, old, b, err))) return st;
        if (s == STAGE_ATTN_IN) lend(w, layer);
    }
    return CPU->run(w->inner, s, layer, b, err);
}

static galen_status fake_embed(backend_work *w, const batch *b, galen_error *err) {
    const galen_status st = step(w, err);
    w->ahead.is_on = false;
    return st ? st : CPU->embed(w->inner, b, err);
}

static galen_status fake_head(backend_work *w, const batch *b, float *logits, galen_error *err) {
    const galen_status st = step(w, err);
    return st ? st : CPU->head(w->inner, b, logits, err);
}

static galen_status fake_sync(backend_work *w, galen_error *err) {
    if (w->is_dead) return galen_fail(err, GALEN_E_DEVICE, 0, "GPU: a stage: an illegal memory access was encountered");
    return CPU->sync(w->inner, err);
}

static galen_status fake_get_hidden(backend_work *w, const batch *b, float *x, galen_error *err) {
    return CPU->get_hidden(w->inner, b, x, err);
}

static galen_status fake_set_hidden(backend_work *w, const batch *b, const float *x, galen_error *err) {
    return CPU->set_hidden(w->inner, b, x, err);
}

static galen_status fake_get_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                                galen_error *err) {
    if (!(w->b->parts[layer] & PART_ATTN) && !is_lent(w, layer))
        return galen_fail(err, GALEN_E_FAIL, 0, "the KV of layer %d is not here any more", layer);
    return CPU->get_kv(w->inner, layer, seq, first, n, k, v, err);
}

/* Before attn_in of a streamed layer: it takes the place of the oldest then. */
static galen_status fake_set_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                                const float *v, galen_error *err) {
    if (!(w->b->parts[layer] & PART_ATTN)) lend(w, layer);
    return CPU->set_kv(w->inner, layer, seq, first, n, k, v, err);
}

/* ---------------------------------------------------------------- sampling */

static sample_choice choose(backend_work *w, const float *logits, const sample_row *row) {
    const int32_t n_vocab = w->b->net->n_vocab;
    galen_error ignored;
    sample_choice c = {.id = CHOICE_NOT_FINITE};
    for (int32_t i = 0; i < n_vocab; i++)
        if (!isfinite(logits[i])) return c;
    if (sampler_choose(&w->choice, row->how, logits, row->history, row->n_history, NULL, &c.id, &ignored))
        c.id = CHOICE_FORBIDDEN;
    if (c.id >= 0) c.logprob = logprobs_of(logits, n_vocab, c.id, 0, NULL, NULL);
    return c;
}

static galen_status fake_sample(backend_work *w, const batch *b, const sample_row *rows, sample_choice *out, galen_error *err) {
    if (b->n_out < 1 || b->n_out > SAMPLE_MOST || fake_device.no_sample)
        return galen_fail(err, GALEN_E_ARG, 0, "%d rows to choose for; at most %d", b->n_out, SAMPLE_MOST);
    galen_status st = fake_head(w, b, w->logits, err);
    if (!st) st = CPU->sync(w->inner, err);
    for (int32_t i = 0; !st && i < b->n_out; i++)
        out[i] = choose(w, w->logits + (size_t)i * (size_t)w->b->net->n_vocab, &rows[i]);
    fake_device.n_samples += !st;
    return st;
}

static galen_status fake_ahead_begin(backend_work *w, const kv_pages *seq, const sample_row *row, galen_error *err) {
    bool is_whole = w->b->has_table;
    for (int32_t i = 0; i < w->b->net->n_layer; i++) is_whole = is_whole && w->b->parts[i] == PART_BOTH;
    if (!is_whole || fake_device.no_ahead) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "the model is not all here");
    if (row->n_history > w->lim.n_ctx) return galen_fail(err, GALEN_E_RANGE, 0, "the context is full");
    memcpy(w->tokens, row->history, (size_t)row->n_history * sizeof *w->tokens);
    w->ahead = (ahead_run){.is_on = true, .seq = *seq, .how = *row->how, .pos = row->n_history - 1};
    return GALEN_OK;
}

static galen_status fake_ahead_step(backend_work *w, galen_error *err) {
    ahead_run *a = &w->ahead;
    const int32_t zero = 0, pos = a->pos;
    if (!a->is_on || a->n_queued - a->n_taken == AHEAD_STEPS) return galen_fail(err, GALEN_E_ARG, 0, "steps ahead");
    if (pos >= w->lim.n_ctx) return galen_fail(err, GALEN_E_RANGE, 0, "the context is full");
    const batch b = {1, &w->tokens[pos], &pos, &zero, &a->seq, 1, 1, &zero};
    galen_status st = step(w, err);
    if (!st) st = CPU->embed(w->inner, &b, err);
    for (int32_t l = 0; !st && l < w->b->net->n_layer; l++)
        for (stage s = STAGE_ATTN_IN; !st && s < N_STAGES; s++) st = CPU->run(w->inner, s, l, &b, err);
    if (!st) st = CPU->head(w->inner, &b, w->logits, err);
    if (!st) st = CPU->sync(w->inner, err);
    if (st) return st;
    const sample_row row = {&a->how, w->tokens, pos + 1};
    const sample_choice c = choose(w, w->logits, &row);
    a->choices[a->n_queued++ % AHEAD_STEPS] = c;
    w->tokens[pos + 1] = c.id >= 0 ? c.id : 0;
    a->pos++;
    fake_device.n_ahead++;
    return GALEN_OK;
}

static galen_status fake_ahead_take(backend_work *w, sample_choice *out, galen_error *err) {
    ahead_run *a = &w->ahead;
    if (!a->is_on || a->n_taken == a->n_queued) return galen_fail(err, GALEN_E_ARG, 0, "nothing ahead");
    *out = a->choices[a->n_taken++ % AHEAD_STEPS];
    return GALEN_OK;
}

/* ---------------------------------------------------------------- the plugin */

static void fake_versions(int32_t *driver, int32_t *runtime) {
    *driver = (int32_t)fake_device.driver;
    *runtime = FAKE_RUNTIME;
}

static galen_status fake_count(int32_t *n, galen_error *err) {
    *n = 0;
    if (fake_device.driver == 0) return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA driver answers; install one");
    if (fake_device.driver < FAKE_RUNTIME)
        return galen_fail(err, GALEN_E_DEVICE, 0,
                          "the NVIDIA driver is for CUDA %lld.%lld, this build needs 13.0; update the driver",
                          (long long)fake_device.driver / 1000, (long long)fake_device.driver % 1000 / 10);
    if (fake_device.devices == 0) return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA GPU is visible");
    *n = (int32_t)fake_device.devices;
    return GALEN_OK;
}

static galen_status fake_info(int32_t index, device_info *out, galen_error *err) {
    (void)err;
    *out = (device_info){.name = "Fake GPU", .compute = (int32_t)fake_device.compute, .n_units = 1 + index};
    out->total_bytes = (uint64_t)fake_device.memory;
    out->free_bytes = (uint64_t)free_now();
    out->read_peak = (uint64_t)fake_device.read;
    out->is_usable = fake_device.compute >= 75;
    if (!out->is_usable)
        (void)snprintf(out->why, sizeof out->why, "Fake GPU has compute capability %lld.%lld; 7.5 or later is needed",
                       (long long)fake_device.compute / 10, (long long)fake_device.compute % 10);
    fake_device.used += fake_device.steal;
    fake_device.steal = 0;
    return GALEN_OK;
}

static galen_status fake_probe(int32_t index, device_speed *out, galen_error *err) {
    (void)index;
    *out =
        (device_speed){.read = (double)fake_device.read, .upload = (double)fake_device.upload, .hop_s = 20e-6, .can_pull = true};
    return fake_device.read ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "no memory for the probe");
}

static galen_status fake_upload(int32_t index, double seconds, double *rate, galen_error *err) {
    (void)index;
    (void)seconds;
    *rate = (double)fake_device.upload;
    return *rate > 0 ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "no memory for the probe");
}

__attribute__((visibility("default"))) const backend_plugin *backend_plugin_entry_v2(void);

const backend_plugin *backend_plugin_entry_v2(void) {
    static const backend_api api = {.name = "cuda",
                                    .open = fake_open,
                                    .close = fake_close,
                                    .describe = fake_describe,
                                    .weight_bytes = fake_weight_bytes,
                                    .work_open = fake_work_open,
                                    .work_close = fake_work_close,
                                    .work_bytes = fake_work_bytes,
                                    .embed = fake_embed,
                                    .run = fake_run,
                                    .head = fake_head,
                                    .sync = fake_sync,
                                    .sample = fake_sample,
                                    .ahead_begin = fake_ahead_begin,
                                    .ahead_step = fake_ahead_step,
                                    .ahead_take = fake_ahead_take,
                                    .get_hidden = fake_get_hidden,
                                    .set_hidden = fake_set_hidden,
                                    .get_kv = fake_get_kv,
                                    .set_kv = fake_set_kv,
                                    .memory_held = fake_memory_held};
    static backend_plugin table;
    table = (backend_plugin){.layout = fake_device.bad_layout ? 1 : BACKEND_PLUGIN_LAYOUT,
                             .api = &api,
                             .archs = "90",
                             .versions = fake_versions,
                             .count = fake_count,
                             .info = fake_info,
                             .probe = fake_probe,
                             .upload = fake_upload};
    return &table;
}
