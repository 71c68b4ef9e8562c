/* Memory of a work: one allocation of buffers, one of KV pages, two small pinned ones. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/gemm.h"
#include "backend/cuda/rows_product.h"
#include "backend/cuda/stream.h"
#include "base/checked.h"

enum { UNPACKED_BYTES = 128 << 20, GEMM_BYTES = 32 << 20 };

typedef struct taker {
    char *base;
    size_t at;
    bool is_bad; /* a size overflowed */
} taker;

static void *take(taker *t, uint64_t count, uint64_t size) {
    const size_t begin = t->at;
    uint64_t n = 0;
    if (!u64_mul(count, size, &n) || !u64_pad(n, 256, &n) || !size_add(t->at, n, &t->at)) t->is_bad = true;
    return t->base && !t->is_bad ? t->base + begin : NULL;
}

static int32_t pad(int64_t n, int32_t to) {
    return (int32_t)((n + to - 1) / to * to);
}

static int32_t max32(int32_t a, int32_t b) {
    return a > b ? a : b;
}

/* K, V, then their scales: types.h draws it. */
static dev_kv kv_of(kv_type type, int32_t d) {
    static const uint32_t bytes[N_KV_TYPES] = {[KV_F16] = 2, [KV_F32] = 4, [KV_Q8_0] = 1};
    dev_kv kv = {.type = (int32_t)type, .d_pad = pad(d, 8)};
    const uint32_t half = KV_PAGE * (uint32_t)kv.d_pad * bytes[type];
    const uint32_t scales = type == KV_Q8_0 ? KV_PAGE * (uint32_t)(kv.d_pad / 32) * 2 : 0;
    kv.v = half;
    kv.k_scales = 2 * half;
    kv.v_scales = 2 * half + scales;
    kv.head_bytes = 2 * half + 2 * scales;
    return kv;
}

static bool is_quantised(const network *net) {
    for (int32_t i = 0; i < net->n_layer; i++) {
        const network_layer *l = &net->layers[i];
        const tensor *const all[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            if (cuda_is_float((int32_t)all[j]->type)) return false;
    }
    return true;
}

/* Products of few rows leave their splits side by side. */
static int32_t few_width(const work_shape *s) {
    return max32(ROWS_MAX_SPLITS * max32(s->qkv_stride, s->embd_stride), 2 * s->ff_stride);
}

static work_shape shape_of(const network *net, const work_limits *lim) {
    const int32_t n_q = net->n_head * net->d_head, n_kv = net->n_head_kv * net->d_head;
    work_shape s = {.embd_stride = pad(net->n_embd, ACT_PAD),
                    .qkv_stride = pad(n_q + 2 * n_kv, ROW_PAD),
                    .att_stride = pad(n_q, ACT_PAD),
                    .ff_stride = pad(net->n_ff, ACT_PAD),
                    .is_quantised = is_quantised(net),
                    .max_pages = (lim->n_ctx + KV_PAGE - 1) / KV_PAGE,
                    .kv = kv_of(lim->kv, net->d_head)};
    for (int32_t i = 0; i < NETWORK_MAX_ROPES; i++)
        if (net->ropes[i][0].inv_freq) s.n_ropes = i + 1;
    for (int32_t i = 0; i < net->n_layer; i++)
        if (net->layers[i].w_gate.type != net->layers[i].w_up.type) s.has_mixed = true;
    s.few_splits = cuda_attend_splits(lim->n_ctx);
    s.few_width = few_width(&s);
    s.n_padded = 2;
    while (s.n_padded < net->n_vocab) s.n_padded *= 2;
    s.half_stride = max32(max32(s.embd_stride, s.att_stride), s.ff_stride);
    s.raw_row = net->embd.row_bytes;
    if (s.raw_row < (size_t)s.embd_stride * sizeof(float)) s.raw_row = (size_t)s.embd_stride * sizeof(float); /* set_hidden */
    s.raw_row = (s.raw_row + 15) & ~(size_t)15;
    const size_t rows = (size_t)lim->max_rows;
    s.mail_bytes = (5 * rows + rows * (size_t)s.max_pages) * sizeof(int32_t) + 64 + rows * s.raw_row;
    s.page_bytes = (size_t)net->n_head_kv * s.kv.head_bytes;
    s.layer_bytes = s.page_bytes * (size_t)lim->n_pages;
    if (lim->max_rows > (s.is_quantised ? FEW_ROWS : STREAM_ROWS)) {
        const size_t all = 2 * (size_t)s.ff_stride * (size_t)s.embd_stride * sizeof(uint16_t);
        s.unpacked_bytes = all < UNPACKED_BYTES ? all : UNPACKED_BYTES;
        const size_t qkv = (size_t)s.qkv_stride * (size_t)s.embd_stride * sizeof(uint16_t);
        if (s.unpacked_bytes < qkv && qkv < UNPACKED_BYTES) s.unpacked_bytes = qkv;
        const size_t least = 128 * (size_t)s.half_stride * sizeof(uint16_t); /* 128 rows of the longest matrix at a time */
        if (s.unpacked_bytes < least) s.unpacked_bytes = least;
        const size_t fit = s.unpacked_bytes / ((size_t)s.embd_stride * sizeof(uint16_t)); /* rows of gate and up together */
        s.tile_width = fit < 2 * (size_t)s.ff_stride ? (int32_t)fit : 2 * s.ff_stride;
        s.tile_width = max32(pad(s.tile_width, ROW_PAD), s.embd_stride);
        s.gemm_bytes = GEMM_BYTES;
    }
    return s;
}

static void lay_out_acts(taker *t, dev_acts *a, size_t rows, int32_t stride) {
    a->stride = stride;
    a->q = take(t, rows, (uint64_t)stride);
    a->rec = take(t, rows, (uint64_t)(stride / UNIT) * sizeof(act_rec));
    a->scale = take(t, rows, sizeof(float));
}

static void lay_out_choices(taker *t, const network *net, const work_limits *lim, const work_shape *s, work_buffers *b) {
    const uint64_t rows = (uint64_t)(lim->max_out < SAMPLE_ROWS ? lim->max_out : SAMPLE_ROWS);
    b->hows = take(t, 1, cuda_hows_bytes(lim));
    b->choices = take(t, SAMPLE_ALL_ROWS, sizeof *b->choices);
    b->lists = take(t, cuda_list_ints(lim), sizeof *b->lists);
    b->read = take(t, READ_IDS, sizeof *b->read);
    b->adjusted = take(t, rows, (uint64_t)net->n_vocab * sizeof(float));
    b->counts = take(t, rows, (uint64_t)net->n_vocab * sizeof(int32_t));
    b->keys = take(t, rows, (uint64_t)s->n_padded * sizeof(uint64_t));
    b->weights = take(t, rows, (uint64_t)s->n_padded * sizeof(double));
    b->surveys = take(t, rows, SAMPLE_SLICES * sizeof *b->surveys);
    b->ahead = take(t, 1, sizeof *b->ahead);
    b->history = take(t, (uint64_t)lim->n_ctx + 1, sizeof *b->history);
}

static void lay_out(taker *t, const network *net, const work_limits *lim, const work_shape *s, work_buffers *b) {
    const size_t rows = (size_t)max32(lim->max_rows, PASS_ROWS), f = sizeof(float);
    const size_t few = rows < FEW_ROWS ? rows : FEW_ROWS;
    b->x = take(t, rows, (uint64_t)s->embd_stride * f);
    b->tmp = take(t, rows, (uint64_t)s->embd_stride * f);
    b->qkv = take(t, rows, (uint64_t)s->qkv_stride * f);
    b->att = take(t, rows, (uint64_t)s->att_stride * f);
    b->ff = take(t, rows, (uint64_t)s->ff_stride * f);
    b->up = take(t, s->has_mixed && !s->is_quantised ? rows : s->has_mixed, (uint64_t)s->ff_stride * f);
    const size_t acts = s->is_quantised ? PASS_ROWS : rows; /* else rows.c has halves */
    lay_out_acts(t, &b->a, acts, max32(s->embd_stride, s->att_stride));
    lay_out_acts(t, &b->b, acts, s->ff_stride);
    b->parts = take(t, few * (size_t)net->n_head * (size_t)s->few_splits, (uint64_t)(net->d_head + 8) * f);
    b->arrived = take(t, few, (uint64_t)net->n_head * sizeof(int32_t));
    b->half_units = take(t, (uint64_t)s->ff_stride / UNIT, sizeof(int32_t));
    b->cos = take(t, rows * (size_t)s->n_ropes, (uint64_t)(net->n_rot / 2) * f);
    b->sin = take(t, rows * (size_t)s->n_ropes, (uint64_t)(net->n_rot / 2) * f);
    lay_out_choices(t, net, lim, s, b);
    b->logits = take(t, (uint64_t)(lim->max_out < HEAD_ROWS ? lim->max_out : HEAD_ROWS), (uint64_t)net->n_vocab * f);
    b->mail = take(t, 1, s->mail_bytes);
    const size_t tile = rows * (size_t)s->tile_width,
                 few_parts = lim->max_rows > 1 || lim->is_uniform ? few * (size_t)s->few_width : 0;
    b->half = take(t, (rows + 7) / 8 * 8, (uint64_t)s->half_stride * sizeof(uint16_t)); /* of few rows, in eights */
    b->half_scale = take(t, rows, f);
    b->tile = take(t, tile > few_parts ? tile : few_parts, f);
    if (s->tile_width == 0) return;
    b->unpacked = take(t, 1, s->unpacked_bytes);
    b->gemm_space = take(t, 1, s->gemm_bytes);
}

static bool work_sizes(const network *net, const backend_config *cfg, const work_limits *lim, const work_shape *s, size_t *kv,
                       size_t *buffers) {
    taker t = {0};
    work_buffers unused = {0};
    lay_out(&t, net, lim, s, &unused);
    *buffers = t.at;
    size_t layer, n_kv = 0;
    for (int32_t i = 0; i < net->n_layer; i++) n_kv += config_parts(cfg, i) & PART_ATTN;
    return !t.is_bad && size_mul(s->page_bytes, (size_t)lim->n_pages, &layer) && size_mul(layer, n_kv, kv);
}

void cuda_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv, uint64_t *buffers) {
    const work_shape s = shape_of(net, lim);
    size_t kv_bytes = 0, buffer_bytes = 0;
    bool is_bad = !work_sizes(net, cfg, lim, &s, &kv_bytes, &buffer_bytes);
    const size_t streaming = cuda_stream_bytes(net, cfg, lim, s.layer_bytes, &is_bad);
    if (is_bad || !size_add(buffer_bytes, streaming, &buffer_bytes)) kv_bytes = buffer_bytes = SIZE_MAX;
    *kv = kv_bytes;
    *buffers = buffer_bytes;
}

static galen_status check_limits(const network *net, const work_limits *lim, galen_error *err) {
    if (lim->max_rows < 1 || lim->max_out < 0 || lim->n_ctx < 1 || lim->n_pages < 0)
        return galen_fail(err, GALEN_E_ARG, 0, "a work of %d rows, %d outputs, %d positions, %d pages", (int)lim->max_rows,
                          (int)lim->max_out, (int)lim->n_ctx, (int)lim->n_pages);
    if (lim->kv == KV_Q8_0 && net->d_head % 32 != 0)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "KV type q8_0 needs heads of a multiple of 32 dimensions, not %d",
                          net->d_head);
    return GALEN_OK;
}

/* n bytes of zeroed device memory. */
static galen_status reserve(backend_work *w, void **out, size_t n, const char *what, galen_error *err) {
    const galen_status st = cuda_reserve(w->b, out, n, what, err);
    if (st || n == 0) return st;
    const int e = cudaMemsetAsync(*out, 0, n, w->queue.stream);
    return e ? cuda_fail(err, e, what) : GALEN_OK;
}

void cuda_work_close(backend_work *w) {
    if (!w) return;
    (void)cudaSetDevice(w->b->device);
    if (w->queue.stream) (void)cudaStreamSynchronize(w->queue.stream);
    for (int32_t i = 0; i < w->n_steps; i++)
        if (w->steps[i].exec) (void)cudaGraphExecDestroy(w->steps[i].exec);
    gemm_close(w->gemm);
    cuda_stream_close(w);
    if (w->mail) (void)cudaFreeHost(w->mail);
    if (w->logits) (void)cudaFreeHost(w->logits);
    if (w->hows) (void)cudaFreeHost(w->hows);
    if (w->choices) (void)cudaFreeHost(w->choices);
    if (w->lists) (void)cudaFreeHost(w->lists);
    if (w->read) (void)cudaFreeHost(w->read);
    for (int i = 0; i < AHEAD_STEPS; i++)
        if (w->ahead_done[i]) (void)cudaEventDestroy(w->ahead_done[i]);
    cuda_release(w->b, w->kv, w->kv_bytes);
    cuda_release(w->b, w->memory, w->buffer_bytes);
    if (w->queue.stream) (void)cudaStreamDestroy(w->queue.stream);
    (void)cudaGetLastError(); /* what closing a failed device reports is of no use to the next caller */
    free(w);
}

static galen_status reserve_all(backend_work *w, galen_error *err) {
    const network *net = w->b->net;
    galen_status st;
    cudaStream_t stream = NULL;
    int e = cudaSetDevice(w->b->device);
    if (!e) e = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    w->queue = (cuda_queue){.stream = stream,
                            .n_sm = w->b->n_sm,
                            .has_pdl = w->b->compute >= 90,
                            .has_bulk = w->b->compute >= 90,
                            .has_mma = w->b->compute >= 80,
                            .shared_bytes = w->b->shared_bytes};
    if (!e) e = cudaHostAlloc((void **)&w->mail, w->shape.mail_bytes, cudaHostAllocDefault);
    const size_t rows = (size_t)(w->lim.max_out < PASS_ROWS ? w->lim.max_out : PASS_ROWS);
    if (!e && rows) e = cudaHostAlloc((void **)&w->logits, rows * (size_t)net->n_vocab * sizeof(float), cudaHostAllocMapped);
    if (!e && rows) e = cudaHostAlloc((void **)&w->hows, cuda_hows_bytes(&w->lim), cudaHostAllocDefault);
    if (!e && rows) e = cudaHostAlloc((void **)&w->lists, cuda_list_ints(&w->lim) * sizeof *w->lists, cudaHostAllocDefault);
    if (!e && rows) e = cudaHostAlloc((void **)&w->read, READ_IDS * sizeof *w->read, cudaHostAllocDefault);
    if (!e && rows) e = cudaHostAlloc((void **)&w->choices, SAMPLE_ALL_ROWS * sizeof *w->choices, cudaHostAllocMapped);
    for (int i = 0; !e && rows && i < AHEAD_STEPS; i++)
        e = cudaEventCreateWithFlags(&w->ahead_done[i], cudaEventDisableTiming | cudaEventBlockingSync);
    if (e) return cuda_fail(err, e, "pinned buffers");
    if ((st = reserve(w, &w->kv, w->kv_bytes, "KV cache", err))) return st;
    if ((st = reserve(w, &w->memory, w->buffer_bytes, "work buffers", err))) return st;
    e = cudaStreamSynchronize(stream);
    return e ? cuda_fail(err, e, "work buffers") : GALEN_OK;
}

galen_status cuda_work_open(backend_work **out, backend *b, const work_limits *lim, galen_error *err) {
    galen_status st;
    *out = NULL;
    if ((st = check_limits(b->net, lim, err))) return st;
    backend_work *w = calloc(1, sizeof *w);
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "cuda work");
    w->b = b;
    w->lim = *lim;
    w->shape = shape_of(b->net, lim);
    w->rope_choice = lim->n_ctx > b->net->n_ctx_orig ? 1 : 0;
    const backend_config cfg = {.parts = b->parts, .has_embed = b->has_embed, .has_head = b->has_head};
    if (!work_sizes(b->net, &cfg, lim, &w->shape, &w->kv_bytes, &w->buffer_bytes)) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "KV cache or buffers: the size overflows");
        goto fail;
    }
    if ((st = reserve_all(w, err))) goto fail;
    taker t = {.base = w->memory};
    lay_out(&t, b->net, lim, &w->shape, &w->buf);
    w->buf.a.f = w->buf.tmp; /* a norm's output is read before tmp is written again */
    w->buf.b.f = w->buf.ff;
    w->shape.kv.base = w->kv;
    if ((st = cuda_stream_open(w, err))) goto fail;
    *out = w;
    return GALEN_OK;
fail:
    cuda_work_close(w);
    return st;
}
