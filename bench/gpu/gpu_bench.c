/* gpu_bench [--json FILE] [--decode | --long] [--quick] [--many] [choices to try] [case ...]: decode and prefill of synthetic
 * networks in real shapes, stage by stage unless --quick. --decode: an empty context alone; --long: no prefill, but 16k
 * positions. Weights are random blocks; every layer has its own copy in device memory, so nothing is timed out of a cache. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cuda/impl.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/rng.h"

typedef struct shape {
    const char *name;
    int32_t n_embd, n_layer, n_head, n_head_kv, d_head, n_ff, n_vocab;
} shape;

static const shape llama_8b = {"8B", 4096, 32, 32, 8, 128, 14336, 128256};
static const shape llama_1b = {"1B", 2048, 16, 32, 8, 64, 8192, 128256};

enum { TEMPLATE_ROWS = 32, REPEATS = 5, N_DECODE = 64 };
/* Choices to try beside the backend's own; -1 = its own. */
static struct {
    int per_sm, act_rows, carveout;
    bool has_no_pdl, has_few, has_many, has_stages, has_no_stages, is_decode;
} tuning = {.per_sm = -1};
static FILE *json;
static bool is_first = true;

static void report(const char *name, const char *unit, const double *v, int n) {
    double s[REPEATS];
    memcpy(s, v, sizeof(double) * (size_t)n);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            if (s[j] < s[i]) {
                const double t = s[i];
                s[i] = s[j];
                s[j] = t;
            }
    printf("  %-44s %10.2f %-9s (%.2f .. %.2f)\n", name, s[n / 2], unit, s[0], s[n - 1]);
    fflush(stdout);
    if (json)
        fprintf(json, "%s\n  {\"name\": \"%s\", \"unit\": \"%s\", \"median\": %.4f, \"min\": %.4f, \"max\": %.4f, \"n\": %d}",
                is_first ? "" : ",", name, unit, s[n / 2], s[0], s[n - 1], n);
    is_first = false;
}

static void must(galen_status st, const galen_error *err) {
    if (!st) return;
    printf("FAILED %s\n", err->msg);
    exit(1);
}

static void must_cuda(cudaError_t e) {
    if (e == cudaSuccess) return;
    printf("FAILED %s\n", cudaGetErrorString(e));
    exit(1);
}

/* A matrix whose rows repeat a few random ones. */
static tensor matrix(arena *a, tensor_type type, int64_t n_in, int64_t n_out, uint64_t seed) {
    const tensor_type_info *info = tensor_type_get((uint32_t)type);
    tensor t = {.name = "w", .type = type, .n_in = n_in, .n_out = n_out, .row_bytes = tensor_row_bytes(type, n_in)};
    char *data = arena_alloc(a, (size_t)n_out, t.row_bytes);
    float *row = arena_alloc(a, (size_t)n_in, sizeof *row);
    const double spread = 1.7 / sqrt((double)n_in);
    if (!data || !row) exit(1);
    for (int64_t r = 0; r < n_out; r++) {
        if (r >= TEMPLATE_ROWS) {
            memcpy(data + (size_t)r * t.row_bytes, data + (size_t)(r * 7 % TEMPLATE_ROWS) * t.row_bytes, t.row_bytes);
            continue;
        }
        for (int64_t i = 0; i < n_in; i++) row[i] = (float)(spread * (2 * rng_uniform(seed, (uint64_t)r, (uint64_t)i) - 1));
        info->quantise(row, data + (size_t)r * t.row_bytes, n_in);
    }
    t.data = data;
    return t;
}

static tensor vector(arena *a, int64_t n) {
    tensor t = {.name = "norm", .type = TENSOR_F32, .n_in = n, .n_out = 1, .row_bytes = (size_t)n * 4};
    float *data = arena_alloc(a, (size_t)n, sizeof *data);
    for (int64_t i = 0; i < n; i++) data[i] = 1;
    t.data = data;
    return t;
}

/* is_mixed: llama.cpp's _M: Q6_K for the head and for V and the down projection of half of the layers. */
static network *make_network(arena *a, const shape *s, tensor_type type, bool is_mixed) {
    network *n = arena_alloc(a, 1, sizeof *n);
    const int64_t n_q = (int64_t)s->n_head * s->d_head, n_kv = (int64_t)s->n_head_kv * s->d_head;
    double *freq = arena_alloc(a, (size_t)s->d_head / 2, sizeof *freq);
    for (int i = 0; i < s->d_head / 2; i++) freq[i] = pow(500000, -2.0 * i / s->d_head);
    *n = (network){.n_layer = s->n_layer,
                   .n_embd = s->n_embd,
                   .n_head = s->n_head,
                   .n_head_kv = s->n_head_kv,
                   .d_head = s->d_head,
                   .n_ff = s->n_ff,
                   .n_vocab = s->n_vocab,
                   .n_ctx_train = 131072,
                   .norm_eps = 1e-5f,
                   .embd_scale = 1,
                   .attn_scale = (float)(1 / sqrt(s->d_head)),
                   .n_rot = s->d_head,
                   .n_ctx_orig = 131072};
    n->ropes[0][0] = n->ropes[0][1] = (rope_table){.inv_freq = freq, .magnitude = 1};
    network_layer l = {.attn_norm = vector(a, s->n_embd), .ffn_norm = vector(a, s->n_embd)};
    l.wq = matrix(a, type, s->n_embd, n_q, 1);
    l.wk = matrix(a, type, s->n_embd, n_kv, 2);
    l.wv = matrix(a, type, s->n_embd, n_kv, 3);
    l.wo = matrix(a, type, n_q, s->n_embd, 4);
    l.w_gate = matrix(a, type, s->n_embd, s->n_ff, 5);
    l.w_up = matrix(a, type, s->n_embd, s->n_ff, 6);
    l.w_down = matrix(a, type, s->n_ff, s->n_embd, 7);
    network_layer big = l;
    if (is_mixed) {
        big.wv = matrix(a, TENSOR_Q6_K, s->n_embd, n_kv, 8);
        big.w_down = matrix(a, TENSOR_Q6_K, s->n_ff, s->n_embd, 9);
    }
    n->layers = arena_alloc(a, (size_t)s->n_layer, sizeof *n->layers);
    for (int32_t i = 0; i < s->n_layer; i++) n->layers[i] = i % 2 ? l : big;
    n->out_norm = vector(a, s->n_embd);
    n->head = matrix(a, is_mixed ? TENSOR_Q6_K : type, s->n_embd, s->n_vocab, 10);
    n->embd = matrix(a, type, s->n_embd, s->n_vocab, 11);
    return n;
}

typedef struct machine {
    const backend_api *api;
    const network *net;
    backend *b;
    backend_work *w;
    float *logits; /* pinned by nobody: as a session's */
    bool is_sampling;
    int32_t *pages;
    kv_pages seq;
} machine;

enum { MAX_BATCH = 2048, MAX_CTX = 16384 + 2048, MAX_SEQS = 128, SEQ_PAGES = 4, SEQ_PAST = 128 };

static void run_step(machine *m, int32_t past, int32_t n, int32_t n_out) {
    static int32_t token[MAX_BATCH], pos[MAX_BATCH], seq[MAX_BATCH];
    galen_error err;
    for (int32_t i = 0; i < n; i++) {
        token[i] = (int32_t)(rng_at(3, 5, (uint64_t)(past + i)).v[0] % (uint32_t)m->net->n_vocab);
        pos[i] = past + i;
    }
    const int32_t out = n - 1;
    const batch b = {n, token, pos, seq, &m->seq, 1, n_out, &out};
    must(m->api->embed(m->w, &b, &err), &err);
    for (int32_t l = 0; l < m->net->n_layer; l++)
        for (int s = 0; s < N_STAGES; s++) must(m->api->run(m->w, (stage)s, l, &b, &err), &err);
    if (n_out) must(m->api->head(m->w, &b, m->logits, &err), &err);
    must(m->api->sync(m->w, &err), &err);
}

/* One token of each of n sequences. */
static void run_many(machine *m, int32_t past, int32_t n, int32_t n_out) {
    static int32_t token[MAX_SEQS], pos[MAX_SEQS], seq[MAX_SEQS], out[MAX_SEQS];
    kv_pages seqs[MAX_SEQS];
    galen_error err;
    for (int32_t i = 0; i < n; i++) {
        token[i] = (int32_t)(rng_at(3, (uint64_t)i, (uint64_t)past).v[0] % (uint32_t)m->net->n_vocab);
        pos[i] = past, seq[i] = i, out[i] = i;
        seqs[i] = (kv_pages){m->pages + SEQ_PAGES * i, SEQ_PAGES};
    }
    const batch b = {n, token, pos, seq, seqs, n, n_out, out};
    must(m->api->embed(m->w, &b, &err), &err);
    for (int32_t l = 0; l < m->net->n_layer; l++)
        for (int s = 0; s < N_STAGES; s++) must(m->api->run(m->w, (stage)s, l, &b, &err), &err);
    if (n_out && m->is_sampling) {
        static const galen_sampling greedy = {.size = sizeof greedy, .top_p = 1, .repeat_penalty = 1};
        sample_row rows[MAX_SEQS];
        sample_choice choices[MAX_SEQS];
        for (int32_t i = 0; i < n; i++) rows[i] = (sample_row){.how = &greedy};
        must(m->api->sample(m->w, &b, rows, choices, &err), &err);
    } else if (n_out) {
        must(m->api->head(m->w, &b, m->logits, &err), &err);
    }
    must(m->api->sync(m->w, &err), &err);
}

static double seconds(void) {
    return 1e-9 * (double)clock_monotonic_ns();
}

static void decode(machine *m, const char *name, int32_t past) {
    double v[REPEATS];
    for (int i = 0; i < 8; i++) run_step(m, past + i, 1, 1);
    for (int k = 0; k < REPEATS; k++) {
        const double t = seconds();
        for (int i = 0; i < N_DECODE; i++) run_step(m, past + 8 + i, 1, 1);
        v[k] = N_DECODE / (seconds() - t);
    }
    report(name, "tokens/s", v, REPEATS);
    for (int i = 0; i < m->net->n_vocab; i++)
        if (!isfinite(m->logits[i])) printf("FAILED %s: logit %d is not finite\n", name, i), exit(1);
}

/* The last step's graph again and again, the host out of the way. */
static void device_time(machine *m, const char *name) {
    backend_work *w = m->w;
    cudaGraphExec_t exec = NULL;
    cudaEvent_t from, to;
    double v[REPEATS];
    char text[128];
    for (int32_t i = 0; i < w->n_steps; i++)
        if (w->steps[i].exec && w->steps[i].key.n_rows == w->batch.n_rows && w->steps[i].key.n_splits == w->batch.n_splits)
            exec = w->steps[i].exec;
    if (!exec) return;
    must_cuda(cudaEventCreate(&from));
    must_cuda(cudaEventCreate(&to));
    for (int k = -1; k < REPEATS; k++) {
        float ms;
        must_cuda(cudaEventRecord(from, w->queue.stream));
        for (int i = 0; i < 16; i++) must_cuda(cudaGraphLaunch(exec, w->queue.stream));
        must_cuda(cudaEventRecord(to, w->queue.stream));
        must_cuda(cudaEventSynchronize(to));
        must_cuda(cudaEventElapsedTime(&ms, from, to));
        if (k >= 0) v[k] = 1000.0 * (double)ms / 16;
    }
    snprintf(text, sizeof text, "%s, a step on the device alone", name);
    report(text, "us", v, REPEATS);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
}

static void decode_many(machine *m, const char *name, int32_t n, int32_t n_out) {
    enum { STEPS = 32 };
    double v[REPEATS];
    char text[128];
    for (int i = 0; i < 4; i++) run_many(m, SEQ_PAST + i, n, n_out);
    for (int k = 0; k < REPEATS; k++) {
        const double t = seconds();
        for (int i = 0; i < STEPS; i++) run_many(m, SEQ_PAST + 4 + i, n, n_out);
        v[k] = n * STEPS / (seconds() - t);
    }
    snprintf(text, sizeof text, "%s decode, %d sequences%s", name, n, n_out ? "" : ", without head");
    report(text, "tokens/s", v, REPEATS);
    device_time(m, text);
}

static void prefill(machine *m, const char *name, int32_t n) {
    double v[REPEATS];
    run_step(m, 0, n, 1);
    run_step(m, 0, n, 1);
    for (int k = 0; k < REPEATS; k++) {
        const double t = seconds();
        run_step(m, 0, n, 1);
        v[k] = n / (seconds() - t);
    }
    report(name, "tokens/s", v, REPEATS);
}

/* One stage over all layers as a graph of its own, microseconds a layer. The batch is the last decode step's. */
static void stage_times(machine *m, const char *name) {
    static const char *const names[] = {"attn_in", "attend", "attn_out", "ffn_in", "ffn_out", "head"};
    backend_work *w = m->w;
    cudaStream_t stream = w->queue.stream;
    cudaEvent_t from, to;
    galen_error err;
    char text[96];
    must_cuda(cudaEventCreate(&from));
    must_cuda(cudaEventCreate(&to));
    for (int s = 0; s <= N_STAGES; s++) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        double v[REPEATS];
        const int32_t n_layer = m->net->n_layer, n = s == N_STAGES ? 1 : n_layer;
        must_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        w->queue.is_chained = false;
        for (int32_t l = 0; l < n; l++)
            must(cuda_queue_operation(w, s == N_STAGES ? head_operation(m->b) : N_STAGES * l + s, w->logits, &err), &err);
        must_cuda(cudaStreamEndCapture(stream, &graph));
        must_cuda(cudaGraphInstantiate(&exec, graph, 0));
        for (int k = -2; k < REPEATS; k++) {
            float ms;
            must_cuda(cudaEventRecord(from, stream));
            for (int i = 0; i < 4; i++) must_cuda(cudaGraphLaunch(exec, stream));
            must_cuda(cudaEventRecord(to, stream));
            must_cuda(cudaEventSynchronize(to));
            must_cuda(cudaEventElapsedTime(&ms, from, to));
            if (k >= 0) v[k] = 1000.0 * (double)ms / 4 / n;
        }
        snprintf(text, sizeof text, "%s, stage %s alone", name, names[s]);
        report(text, "us", v, REPEATS);
        cudaGraphExecDestroy(exec);
        cudaGraphDestroy(graph);
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
}

typedef struct bench_case {
    const char *name;
    const shape *shape;
    tensor_type type;
    bool is_mixed, has_prefill, has_long;
} bench_case;

static const bench_case cases[] = {{"8B-Q8_0", &llama_8b, TENSOR_Q8_0, false, true, true},
                                   {"8B-Q4_K_M", &llama_8b, TENSOR_Q4_K, true, true, false},
                                   {"1B-Q8_0", &llama_1b, TENSOR_Q8_0, false, true, false},
                                   {"8B-F16", &llama_8b, TENSOR_F16, false, true, false}};

static void run_case(const bench_case *c) {
    arena a = {0};
    char text[96];
    galen_error err;
    machine m = {.api = backend_cuda(), .net = make_network(&a, c->shape, c->type, c->is_mixed)};
    const backend_config cfg = {.n_threads = 8, .has_embed = true, .has_head = true};
    work_limits lim = {.max_rows = 1, .max_out = MAX_SEQS, .n_ctx = MAX_CTX, .n_pages = MAX_SEQS * SEQ_PAGES, .kv = KV_F16};
    lim.max_rows = c->has_prefill || c->has_long ? MAX_BATCH : 1;
    m.pages = arena_alloc(&a, (size_t)lim.n_pages, sizeof *m.pages);
    for (int32_t i = 0; i < lim.n_pages; i++) m.pages[i] = i;
    m.seq = (kv_pages){m.pages, lim.n_pages};
    m.logits = arena_alloc(&a, MAX_SEQS * (size_t)m.net->n_vocab, sizeof(float));
    const double t = seconds();
    must(m.api->open(&m.b, m.net, &cfg, &err), &err);
    const double load = seconds() - t;
    must(m.api->work_open(&m.w, m.b, &lim, &err), &err);
    if (tuning.per_sm >= 0) m.w->queue.per_sm = tuning.per_sm;
    m.w->queue.act_rows = tuning.act_rows;
    m.w->queue.carveout = tuning.carveout;
    if (tuning.has_no_pdl) m.w->queue.has_pdl = false;
    printf("%s on %s: %.2f GB of weights, loaded in %.2f s\n", c->name, m.api->describe(m.b), (double)m.b->memory_bytes / 1e9,
           load);
    snprintf(text, sizeof text, "%s load", c->name);
    report(text, "s", &load, 1);
    snprintf(text, sizeof text, "%s decode, empty context", c->name);
    decode(&m, text, 0);
    printf("  graphs %d%s\n", m.w->n_steps, m.w->has_no_graphs ? ", NONE: capture failed" : "");
    device_time(&m, text);
    if (!tuning.has_no_stages) stage_times(&m, c->name);
    if (tuning.has_many) {
        static const int n[] = {2, 8, 32, 128};
        for (int i = 0; i < 4; i++) {
            m.is_sampling = true; /* greedy, on the device */
            decode_many(&m, c->name, n[i], n[i]);
            decode_many(&m, c->name, n[i], 0);
            m.is_sampling = false;
            snprintf(text, sizeof text, "%s, %d sequences", c->name, n[i]);
            if (tuning.has_stages) stage_times(&m, text);
        }
    }
    if (c->has_prefill && !tuning.has_few && !tuning.is_decode) {
        snprintf(text, sizeof text, "%s prefill 512", c->name);
        prefill(&m, text, 512);
        snprintf(text, sizeof text, "%s prefill 2048", c->name);
        prefill(&m, text, 2048);
    }
    if (c->has_long && !tuning.has_few) {
        for (int32_t at = 0; at < 16384; at += MAX_BATCH) run_step(&m, at, MAX_BATCH, 0);
        snprintf(text, sizeof text, "%s decode at 16384", c->name);
        decode(&m, text, 16384);
        device_time(&m, text);
        snprintf(text, sizeof text, "%s at 16384", c->name);
        stage_times(&m, text);
    }
    m.api->work_close(m.w);
    m.api->close(m.b);
    arena_free(&a);
}

int main(int argc, char **argv) {
    bool has_choice = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json") && i + 1 < argc)
            json = fopen(argv[++i], "w");
        else if (!strcmp(argv[i], "--per-sm") && i + 1 < argc)
            tuning.per_sm = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--act-rows") && i + 1 < argc)
            tuning.act_rows = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--carveout") && i + 1 < argc)
            tuning.carveout = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--quick"))
            tuning.has_no_stages = true;
        else if (!strcmp(argv[i], "--long"))
            tuning.is_decode = true;
        else if (!strcmp(argv[i], "--no-pdl"))
            tuning.has_no_pdl = true;
        else if (!strcmp(argv[i], "--many"))
            tuning.has_many = true;
        else if (!strcmp(argv[i], "--stages"))
            tuning.has_stages = true;
        else if (!strcmp(argv[i], "--decode"))
            tuning.has_few = true;
        else
            has_choice = true;
    }
    int runtime = 0, driver = 0;
    char date[32];
    const time_t now = time(NULL);
    struct tm tm;
    must_cuda(cudaRuntimeGetVersion(&runtime));
    must_cuda(cudaDriverGetVersion(&driver));
    struct cudaDeviceProp prop;
    must_cuda(cudaGetDeviceProperties(&prop, 0));
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
    if (json)
        fprintf(json, "{\"date\": \"%s\", \"card\": \"%s\", \"driver\": %d, \"runtime\": %d, \"commit\": \"%s\", \"results\": [",
                date, prop.name, driver, runtime, getenv("GALEN_COMMIT") ? getenv("GALEN_COMMIT") : "");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        bool is_chosen = !has_choice;
        for (int i = 1; i < argc; i++) is_chosen |= !strcmp(argv[i], cases[c].name);
        if (is_chosen) run_case(&cases[c]);
    }
    if (json) fprintf(json, "\n]}\n");
    if (json) fclose(json);
    return 0;
}
