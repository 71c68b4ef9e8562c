/* A streamed part's weights come into one of two areas, attention's and the feed-forward's. Where the host's pages are registered
 * (pull.c) the copy engine brings them: the next part of an area is asked for as soon as the last one's products are queued, in a
 * large batch the next layer's, in a small one the next feed-forward that is fetched in every step, round and round; so they
 * come while the host computes. Elsewhere the host fills pinned slots while the device computes the other area. The KV of the
 * last STREAM_LAYERS streamed layers is kept in turn, so that the host may fetch a layer's new rows while the next one runs. */
#include "backend/cuda/stream.h"

#include <stdlib.h>

#include "backend/cuda/mover.h"
#include "base/checked.h"

enum { AREA_ATTN, AREA_FFN, N_AREAS, NONE = -1, STREAM_PIECE = 16 << 20 };

struct streamer {
    mover mover;
    puller puller;           /* the mover's, where pages are registered */
    cudaGraphExec_t *copies; /* [n_layer] of fetched feed-forwards: all calls of a copy as one */
    cuda_queue kv_queue;     /* of get_kv, so that it waits for nothing but attention */
    void *memory;
    size_t memory_bytes;
    char *area[N_AREAS];
    size_t area_bytes[N_AREAS];
    const network_layer *form[N_AREAS]; /* whose planes the area's paddings are zero for */
    int32_t held[N_AREAS];              /* the layer that the area has or is getting     */
    dev_layer layer;                    /* of the streamed layer in hand, for queueing   */
    cudaEvent_t loaded[N_AREAS], idle[N_AREAS], attended[STREAM_LAYERS];
    char *kv[STREAM_LAYERS];
    int32_t kv_layer[STREAM_LAYERS], next_kv;
    float *in_k, *in_v, *out_k, *out_v; /* [max_rows][n_head_kv * d_head] on the way */
    int32_t *in_pages, *out_pages;      /* [max_pages]                                */
};

static int part_of(int area) {
    return area == AREA_ATTN ? PART_ATTN : PART_FFN;
}

static int area_of(stage s) {
    return s <= STAGE_ATTN_OUT ? AREA_ATTN : AREA_FFN;
}

/* ---------------------------------------------------------------- memory */

typedef struct taker {
    char *base;
    size_t at;
    bool is_bad;
} taker;

static void *take(taker *t, uint64_t count, uint64_t size) {
    const size_t begin = t->at;
    uint64_t n = 0;
    if (!u64_mul(count, size, &n) || !u64_pad(n, 256, &n) || !size_add(t->at, n, &t->at)) t->is_bad = true;
    return t->base && !t->is_bad ? t->base + begin : NULL;
}

static void lay_out(taker *t, const network *net, const uint8_t *streamed, const work_limits *lim, size_t layer_bytes,
                    streamer *s) {
    const uint64_t rows = (uint64_t)lim->max_rows, n_kv = (uint64_t)net->n_head_kv * (uint64_t)net->d_head * sizeof(float);
    const uint64_t n_pages = (uint64_t)(lim->n_ctx + KV_PAGE - 1) / KV_PAGE;
    bool has_attn = false;
    for (int a = 0; a < N_AREAS; a++) {
        s->area_bytes[a] = 0;
        for (int32_t i = 0; i < net->n_layer; i++) {
            dev_layer unused;
            if (!(streamed[i] & part_of(a))) continue;
            const size_t n = cuda_place_part(net, &net->layers[i], part_of(a), NULL, &unused, &t->is_bad);
            if (n > s->area_bytes[a]) s->area_bytes[a] = n;
            has_attn = has_attn || a == AREA_ATTN;
        }
        s->area[a] = take(t, 1, s->area_bytes[a]);
    }
    for (int i = 0; i < STREAM_LAYERS; i++) s->kv[i] = take(t, has_attn, layer_bytes);
    s->in_k = take(t, rows, n_kv);
    s->in_v = take(t, rows, n_kv);
    s->out_k = take(t, rows, n_kv);
    s->out_v = take(t, rows, n_kv);
    s->in_pages = take(t, n_pages, sizeof(int32_t));
    s->out_pages = take(t, n_pages, sizeof(int32_t));
}

static bool has_any(const network *net, const uint8_t *parts) {
    bool has = false;
    for (int32_t i = 0; parts && i < net->n_layer; i++) has = has || parts[i];
    return has;
}

/* A work of so few rows streams only what every batch fetches. */
static bool is_streaming(const network *net, const backend_config *cfg, const work_limits *lim) {
    return has_any(net, cfg->streamed) && (lim->max_rows >= STREAM_MIN_ROWS || has_any(net, cfg->fetched));
}

size_t cuda_stream_bytes(const network *net, const backend_config *cfg, const work_limits *lim, size_t layer_bytes,
                         bool *is_bad) {
    taker t = {0};
    streamer unused;
    if (!is_streaming(net, cfg, lim)) return 0;
    lay_out(&t, net, cfg->streamed, lim, layer_bytes, &unused);
    *is_bad = *is_bad || t.is_bad;
    return t.at + N_SLOTS * mover_piece(net, cfg, STREAM_PIECE);
}

static int open_events(streamer *s) {
    int e = 0;
    for (int i = 0; !e && i < N_AREAS; i++) {
        e = cudaEventCreateWithFlags(&s->loaded[i], cudaEventDisableTiming);
        if (!e) e = cudaEventCreateWithFlags(&s->idle[i], cudaEventDisableTiming);
    }
    for (int i = 0; !e && i < STREAM_LAYERS; i++) e = cudaEventCreateWithFlags(&s->attended[i], cudaEventDisableTiming);
    return e;
}

galen_status cuda_stream_open(backend_work *w, galen_error *err) {
    backend *b = w->b;
    galen_status st;
    const backend_config cfg = {.parts = b->parts, .streamed = b->streamed, .fetched = b->fetched, .has_head = b->has_head};
    if (!is_streaming(b->net, &cfg, &w->lim)) return GALEN_OK;
    streamer *s = calloc(1, sizeof *s);
    if (s) s->copies = calloc((size_t)b->net->n_layer, sizeof(cudaGraphExec_t));
    w->streamer = s;
    if (!s || !s->copies) return galen_fail(err, GALEN_E_NOMEM, 0, "streaming");
    for (int i = 0; i < STREAM_LAYERS; i++) s->kv_layer[i] = NONE;
    for (int i = 0; i < N_AREAS; i++) s->held[i] = NONE;
    if (b->pins && (st = pull_open(&s->puller, err))) return st;
    if (b->pins) s->mover.pull = &s->puller;
    taker t = {0};
    lay_out(&t, b->net, b->streamed, &w->lim, w->shape.layer_bytes, s);
    if (t.is_bad) return galen_fail(err, GALEN_E_NOMEM, 0, "streaming: the size overflows");
    s->memory_bytes = t.at;
    if ((st = cuda_reserve(b, &s->memory, s->memory_bytes, "buffers for streaming layers", err))) return st;
    t = (taker){.base = s->memory};
    lay_out(&t, b->net, b->streamed, &w->lim, w->shape.layer_bytes, s);
    if ((st = mover_open(&s->mover, b, mover_piece(b->net, &cfg, STREAM_PIECE), b->n_threads, err))) return st;
    cudaStream_t stream = NULL;
    int e = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    s->kv_queue = (cuda_queue){.stream = stream, .n_sm = b->n_sm};
    if (!e) e = open_events(s);
    if (!e) e = cudaMemsetAsync(s->memory, 0, s->memory_bytes, s->mover.stream);
    if (!e) e = cudaStreamSynchronize(s->mover.stream);
    return e ? cuda_fail(err, e, "streaming") : GALEN_OK;
}

void cuda_stream_close(backend_work *w) {
    streamer *s = w->streamer;
    if (!s) return;
    if (s->mover.stream) (void)cudaStreamSynchronize(s->mover.stream);
    pull_close(&s->puller);
    for (int32_t i = 0; s->copies && i < w->b->net->n_layer; i++)
        if (s->copies[i]) (void)cudaGraphExecDestroy(s->copies[i]);
    free(s->copies);
    if (s->kv_queue.stream) (void)cudaStreamSynchronize(s->kv_queue.stream);
    for (int i = 0; i < N_AREAS; i++) {
        if (s->loaded[i]) (void)cudaEventDestroy(s->loaded[i]);
        if (s->idle[i]) (void)cudaEventDestroy(s->idle[i]);
    }
    for (int i = 0; i < STREAM_LAYERS; i++)
        if (s->attended[i]) (void)cudaEventDestroy(s->attended[i]);
    if (s->kv_queue.stream) (void)cudaStreamDestroy(s->kv_queue.stream);
    mover_close(&s->mover);
    cuda_release(w->b, s->memory, s->memory_bytes);
    free(s);
    w->streamer = NULL;
}

/* ---------------------------------------------------------------- what the stages ask */

const dev_layer *cuda_layer(const backend_work *w, stage s, int32_t layer) {
    return cuda_is_streamed(w->b, s, layer) && w->streamer ? &w->streamer->layer : &w->b->weights.layers[layer];
}

static int kv_place(const streamer *s, int32_t layer) {
    for (int i = 0; i < STREAM_LAYERS; i++)
        if (s->kv_layer[i] == layer) return i;
    return NONE;
}

/* The place of the layer's KV, another's when it has none yet. */
static int kv_claim(streamer *s, int32_t layer) {
    int i = kv_place(s, layer);
    if (i != NONE) return i;
    i = s->next_kv;
    s->next_kv = (i + 1) % STREAM_LAYERS;
    s->kv_layer[i] = layer;
    return i;
}

uint8_t *cuda_layer_kv(const backend_work *w, int32_t layer) {
    const int i = w->streamer && !(w->b->parts[layer] & PART_ATTN) ? kv_place(w->streamer, layer) : NONE;
    if (i != NONE) return (uint8_t *)w->streamer->kv[i];
    return w->shape.kv.base + (size_t)w->b->kv_index[layer] * w->shape.layer_bytes;
}

/* ---------------------------------------------------------------- weights */

/* The same planes as another layer's: then the paddings, which nothing writes, are zero still. */
static bool is_same_form(const network_layer *a, const network_layer *b, int part) {
    for (size_t i = 0; i < N_LAYER_TENSORS; i++) {
        const tensor *x = layer_tensor_of(a, &layer_tensors[i]), *y = layer_tensor_of(b, &layer_tensors[i]);
        if ((layer_tensors[i].part & part) && (x->type != y->type || !x->data != !y->data)) return false;
    }
    return true;
}

static bool is_large(const backend_work *w) {
    return w->batch.n_rows >= w->b->stream_rows;
}

/* The copy of a feed-forward, captured; NULL when that does not work, which costs speed only. */
static cudaGraphExec_t capture(backend_work *w, int32_t layer) {
    streamer *s = w->streamer;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    galen_error ignored;
    if (cudaStreamBeginCapture(s->mover.stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return NULL;
    const galen_status st = mover_layer(&s->mover, w->b->net, &w->b->net->layers[layer], PART_FFN, &s->layer, &ignored);
    const cudaError_t e = cudaStreamEndCapture(s->mover.stream, &graph);
    if (!st && e == cudaSuccess && cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess) exec = NULL;
    if (graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    return exec;
}

/* Into the area placed for it. Small batches do this many times a second, with a processor that has better things to do. */
static galen_status copy_part(backend_work *w, int area, int32_t layer, galen_error *err) {
    streamer *s = w->streamer;
    if (s->mover.pull && !is_large(w) && area == AREA_FFN && (w->b->fetched[layer] & PART_FFN)) {
        if (!s->copies[layer]) s->copies[layer] = capture(w, layer);
        if (s->copies[layer]) {
            const int e = cudaGraphLaunch(s->copies[layer], s->mover.stream);
            return e ? cuda_fail(err, e, "streaming a layer") : GALEN_OK;
        }
    }
    return mover_layer(&s->mover, w->b->net, &w->b->net->layers[layer], part_of(area), &s->layer, err);
}

static galen_status fetch(backend_work *w, int area, int32_t layer, galen_error *err) {
    streamer *s = w->streamer;
    const network *net = w->b->net;
    const network_layer *l = &net->layers[layer];
    bool is_bad = false;
    int e = cudaStreamWaitEvent(s->mover.stream, s->idle[area], 0); /* the layer before has been computed */
    if (!e && (!s->form[area] || !is_same_form(s->form[area], l, part_of(area))))
        e = cudaMemsetAsync(s->area[area], 0, s->area_bytes[area], s->mover.stream);
    if (e) return cuda_fail(err, e, "streaming a layer");
    s->form[area] = l;
    s->held[area] = layer;
    (void)cuda_place_part(net, l, part_of(area), s->area[area], &s->layer, &is_bad);
    const galen_status st = copy_part(w, area, layer, err);
    if (st) return st;
    e = cudaEventRecord(s->loaded[area], s->mover.stream);
    return e ? cuda_fail(err, e, "streaming a layer") : GALEN_OK;
}

/* The layer whose part comes next into the area, after that of layer; NONE when there is none. After a large batch that yields
 * nothing comes another, of the same prompt; after one that does come steps. */
static int32_t next_of(const backend_work *w, int area, int32_t layer) {
    const int32_t n = w->b->net->n_layer, last = layer + n;
    const uint8_t *parts = is_large(w) ? w->b->streamed : w->b->fetched;
    for (int32_t i = layer + 1; i <= last; i++) {
        if (i == n && is_large(w) && w->batch.n_out) parts = w->b->fetched;
        if (parts[i % n] & part_of(area)) return i % n;
    }
    return NONE;
}

galen_status cuda_stream_begin(backend_work *w, stage s, int32_t layer, galen_error *err) {
    const int area = area_of(s);
    const uint8_t *const parts = is_large(w) ? w->b->streamed : w->b->fetched;
    galen_status st = GALEN_OK;
    if (!w->streamer || !(parts[layer] & part_of(area)))
        return galen_fail(err, GALEN_E_ARG, 0, "layer %d does not live on the GPU, nor is it streamed for %d rows", layer,
                          w->batch.n_rows);
    if (s == STAGE_ATTN_IN) (void)kv_claim(w->streamer, layer);
    if (s != STAGE_ATTN_IN && s != STAGE_FFN_IN) return GALEN_OK;
    if (w->streamer->held[area] != layer) st = fetch(w, area, layer, err);
    if (st) return st;
    const int e = cudaStreamWaitEvent(w->queue.stream, w->streamer->loaded[area], 0);
    w->queue.is_chained = false; /* what comes next may not start early: its weights arrive on another queue */
    return e ? cuda_fail(err, e, "streaming a layer") : GALEN_OK;
}

galen_status cuda_stream_end(backend_work *w, stage s, int32_t layer, galen_error *err) {
    streamer *t = w->streamer;
    const int area = area_of(s);
    const bool is_last = s == STAGE_ATTN_OUT || s == STAGE_FFN_OUT;
    int e = 0;
    if (s == STAGE_ATTEND) e = cudaEventRecord(t->attended[kv_claim(t, layer)], w->queue.stream);
    if (is_last) e = cudaEventRecord(t->idle[area], w->queue.stream);
    w->queue.is_chained = false;
    if (e) return cuda_fail(err, e, "streaming a layer");
    const int32_t next = is_last && t->mover.pull ? next_of(w, area, layer) : NONE;
    return next != NONE && t->held[area] != next ? fetch(w, area, next, err) : GALEN_OK;
}

/* ---------------------------------------------------------------- keys and values */

static galen_status check_rows(const backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n,
                               galen_error *err) {
    const int32_t last = first + n - 1;
    if (!w->streamer) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "this work streams nothing and moves no KV");
    if (first < 0 || n < 1 || n > w->lim.max_rows || last >= w->lim.n_ctx || last / KV_PAGE >= seq->n_pages)
        return galen_fail(err, GALEN_E_RANGE, 0, "KV of positions %d to %d of layer %d", first, last, layer);
    for (int32_t i = first / KV_PAGE; i <= last / KV_PAGE; i++)
        if (seq->pages[i] < 0 || seq->pages[i] >= w->lim.n_pages)
            return galen_fail(err, GALEN_E_RANGE, 0, "page %d of %d", seq->pages[i], w->lim.n_pages);
    return GALEN_OK;
}

static kv_rows_args rows_of(const backend_work *w, int32_t layer, const int32_t *pages, int32_t first, int32_t n, float *k,
                            float *v) {
    kv_rows_args a = {.kv = w->shape.kv,
                      .pages = pages,
                      .first = first,
                      .n_rows = n,
                      .n_head_kv = w->b->net->n_head_kv,
                      .d_head = w->b->net->d_head,
                      .k = k,
                      .v = v};
    a.kv.base = cuda_layer_kv(w, layer);
    return a;
}

galen_status cuda_set_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                         const float *v, galen_error *err) {
    const galen_status st = check_rows(w, layer, seq, first, n, err);
    if (st) return st;
    streamer *s = w->streamer;
    const size_t bytes = (size_t)n * (size_t)w->b->net->n_head_kv * (size_t)w->b->net->d_head * sizeof *k;
    const cudaStream_t stream = w->queue.stream;
    if (!(w->b->parts[layer] & PART_ATTN)) (void)kv_claim(s, layer);
    int e = cudaMemcpyAsync(s->in_k, k, bytes, cudaMemcpyHostToDevice, stream);
    if (!e) e = cudaMemcpyAsync(s->in_v, v, bytes, cudaMemcpyHostToDevice, stream);
    if (!e)
        e = cudaMemcpyAsync(s->in_pages, seq->pages, (size_t)((first + n - 1) / KV_PAGE + 1) * sizeof(int32_t),
                            cudaMemcpyHostToDevice, stream);
    w->queue.is_chained = false;
    const kv_rows_args a = rows_of(w, layer, s->in_pages, first, n, s->in_k, s->in_v);
    if (!e) e = cuda_kv_put_rows(&w->queue, &a);
    w->queue.is_chained = false;
    return e ? cuda_fail(err, e, "KV to the GPU") : GALEN_OK;
}

galen_status cuda_get_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                         galen_error *err) {
    const galen_status st = check_rows(w, layer, seq, first, n, err);
    if (st) return st;
    streamer *s = w->streamer;
    const size_t bytes = (size_t)n * (size_t)w->b->net->n_head_kv * (size_t)w->b->net->d_head * sizeof *k;
    const cudaStream_t stream = s->kv_queue.stream;
    const int place = w->b->parts[layer] & PART_ATTN ? NONE : kv_place(s, layer);
    if (place == NONE && !(w->b->parts[layer] & PART_ATTN))
        return galen_fail(err, GALEN_E_ARG, 0, "the KV of layer %d is not on the GPU any more", layer);
    int e = place != NONE ? cudaStreamWaitEvent(stream, s->attended[place], 0) : cudaStreamSynchronize(w->queue.stream);
    if (!e)
        e = cudaMemcpyAsync(s->out_pages, seq->pages, (size_t)((first + n - 1) / KV_PAGE + 1) * sizeof(int32_t),
                            cudaMemcpyHostToDevice, stream);
    const kv_rows_args a = rows_of(w, layer, s->out_pages, first, n, s->out_k, s->out_v);
    s->kv_queue.is_chained = false;
    if (!e) e = cuda_kv_get_rows(&s->kv_queue, &a);
    if (!e) e = cudaMemcpyAsync(k, s->out_k, bytes, cudaMemcpyDeviceToHost, stream);
    if (!e) e = cudaMemcpyAsync(v, s->out_v, bytes, cudaMemcpyDeviceToHost, stream);
    const int f = cudaStreamSynchronize(stream);
    return e || f ? cuda_fail(err, e ? e : f, "KV from the GPU") : GALEN_OK;
}
