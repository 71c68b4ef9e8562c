/* The cpu backend: opening, choosing an instruction set, and reserving memory. The stages are in stages.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/cpu_impl.h"
#include "base/checked.h"

/* ---------------------------------------------------------------- the backend */

static const cpu_ops *pick_isa(const char *isa, const matmul_ops **mm) {
    const bool is_auto = !isa || strcmp(isa, "auto") == 0;
    for (const char *const *name = cpu_isa_names(); *name; name++) {
        if (!is_auto && strcmp(*name, isa) != 0) continue;
        const cpu_ops *ops = cpu_ops_get(*name);
        *mm = matmul_ops_get(*name);
        if (ops && *mm) return ops;
    }
    return NULL;
}

static galen_status refuse_isa(const char *isa, galen_error *err) {
    char here[64] = "";
    for (const char *const *name = cpu_isa_names(); *name; name++) {
        if (!cpu_ops_get(*name) || !matmul_ops_get(*name)) continue;
        const size_t n = strlen(here);
        (void)snprintf(here + n, sizeof here - n, "%s%s", n ? ", " : "", *name);
    }
    return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "instruction set '%.32s': this processor and build have %s", isa, here);
}

static galen_status check_weight(const tensor *t, bool is_vector, galen_error *err) {
    if (!t->data) return GALEN_OK;
    const tensor_type_info *info = tensor_type_get((uint32_t)t->type);
    if (!info) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: weight type %d is not supported", t->name, (int)t->type);
    if (is_vector && t->type != TENSOR_F32)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: a vector of type %s, expected F32", t->name, info->name);
    return GALEN_OK;
}

static galen_status check_weights(const backend *b, galen_error *err) {
    const network *net = b->net;
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < net->n_layer; i++) {
        for (size_t j = 0; !st && j < N_LAYER_TENSORS; j++) {
            const layer_tensor *t = &layer_tensors[j];
            if (t->part & b->parts[i]) st = check_weight(layer_tensor_of(&net->layers[i], t), t->is_vector, err);
        }
    }
    if (!st && b->has_embed) st = check_weight(&net->embd, false, err);
    if (!st && b->has_head) st = check_weight(&net->head, false, err);
    if (!st && b->has_head) st = check_weight(&net->out_norm, true, err);
    return st;
}

/* Which parts live here, and where their KV stands. */
static galen_status take_parts(backend *b, const backend_config *cfg, galen_error *err) {
    const size_t n = b->net->n_layer > 0 ? (size_t)b->net->n_layer : 1;
    int32_t n_kv = 0;
    b->has_embed = cfg->has_embed;
    b->has_head = cfg->has_head;
    b->parts = calloc(n, sizeof *b->parts);
    b->kv_index = calloc(n, sizeof *b->kv_index);
    if (!b->parts || !b->kv_index) return galen_fail(err, GALEN_E_NOMEM, 0, "cpu layers");
    for (int32_t i = 0; i < b->net->n_layer; i++) {
        b->parts[i] = config_parts(cfg, i);
        b->kv_index[i] = n_kv;
        n_kv += b->parts[i] & PART_ATTN;
    }
    return GALEN_OK;
}

static void cpu_close(backend *b) {
    if (!b) return;
    pool_close(b->pool);
    free(b->parts);
    free(b->kv_index);
    free(b);
}

static galen_status cpu_open(backend **out, const network *net, const backend_config *cfg, galen_error *err) {
    galen_status st;
    *out = NULL;
    backend *b = calloc(1, sizeof *b);
    if (!b) return galen_fail(err, GALEN_E_NOMEM, 0, "cpu backend");
    b->net = net;
    if ((st = take_parts(b, cfg, err))) goto fail;
    b->ops = pick_isa(cfg->isa, &b->mm);
    if (!b->ops) {
        st = refuse_isa(cfg->isa ? cfg->isa : "auto", err);
        goto fail;
    }
    st = check_weights(b, err);
    if (st) goto fail;
    st = pool_open(&b->pool, cfg->n_threads, err);
    if (st) goto fail;
    (void)snprintf(b->name, sizeof b->name, "%s, %d thread%s", b->ops->isa, (int)cfg->n_threads, cfg->n_threads == 1 ? "" : "s");
    *out = b;
    return GALEN_OK;
fail:
    cpu_close(b);
    return st;
}

static const char *cpu_describe(const backend *b) {
    return b->name;
}

/* Weights are used where they lie in the file: these are bytes of the mapping, none is taken. */
static void cpu_weight_bytes(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading) {
    *weights = *loading = 0;
    for (int32_t i = 0; i < net->n_layer; i++) {
        for (size_t j = 0; j < N_LAYER_TENSORS; j++) {
            const tensor *t = layer_tensor_of(&net->layers[i], &layer_tensors[j]);
            if (t->data && (layer_tensors[j].part & config_parts(cfg, i))) *weights += t->row_bytes * (uint64_t)t->n_out;
        }
    }
    const uint64_t embd = net->embd.row_bytes * (uint64_t)net->embd.n_out;
    if (cfg->has_embed) *weights += embd;
    if (cfg->has_head) *weights += net->out_norm.row_bytes;
    if (cfg->has_head && !(cfg->has_embed && net->head.data == net->embd.data))
        *weights += net->head.row_bytes * (uint64_t)net->head.n_out;
}

/* ---------------------------------------------------------------- memory of a work */

/* Hands out 64-aligned runs of one reservation; with base NULL it only counts. */
typedef struct taker {
    char *base;
    size_t at;
    bool is_bad; /* a size overflowed */
} taker;

static void *take(taker *t, size_t count, size_t size) {
    const size_t begin = t->at;
    uint64_t n = 0;
    if (!u64_mul(count, size, &n) || !u64_pad(n, 64, &n) || !size_add(t->at, n, &t->at)) t->is_bad = true;
    return t->base && !t->is_bad ? t->base + begin : NULL;
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static work_shape shape_of(const network *net, const backend_config *cfg, const work_limits *lim) {
    work_shape s = {.kl = kv_layout_of(lim->kv, net->d_head, net->n_head_kv), .n_group = net->n_head / net->n_head_kv};
    for (int32_t i = 0; i < NETWORK_MAX_ROPES; i++)
        if (net->ropes[i][0].inv_freq) s.n_ropes = i + 1;
    s.max_queries = s.n_group >= ATTEND_QUERIES ? s.n_group : ATTEND_QUERIES / s.n_group * s.n_group;
    s.max_segments = (lim->n_ctx - 1) / ATTEND_SEGMENT + 1;
    if (s.max_segments > 1 && cfg->n_threads > 1) {
        enum { MOST_SPLIT_ROWS = 16 };
        s.split_rows = (4 * cfg->n_threads + net->n_head_kv - 1) / net->n_head_kv;
        if (s.split_rows > MOST_SPLIT_ROWS) s.split_rows = MOST_SPLIT_ROWS;
        if (s.split_rows > lim->max_rows) s.split_rows = lim->max_rows;
    }
    const size_t part = (size_t)s.kl.d_pad + ATTEND_STATE;
    s.thread_floats = attend_scratch_floats(&s.kl, s.max_queries) + 2 * part * (size_t)s.max_queries;
    s.thread_floats = (s.thread_floats + 15) & ~(size_t)15;
    return s;
}

static void lay_out(taker *t, const network *net, const backend_config *cfg, const work_limits *lim, const work_shape *s,
                    work_buffers *buf) {
    const size_t rows = (size_t)(lim->max_rows > lim->max_out ? lim->max_rows : lim->max_out), f = sizeof(float);
    const size_t n_q = (size_t)net->n_head * (size_t)net->d_head, n_kv = (size_t)net->n_head_kv * (size_t)net->d_head;
    const size_t n_threads = (size_t)cfg->n_threads;
    const int64_t max_in = max64(max64(net->n_embd, net->n_ff), (int64_t)n_q);
    buf->x = take(t, rows, (size_t)net->n_embd * f);
    buf->norm = take(t, rows, (size_t)net->n_embd * f);
    taker att = *t, ffn = *t;
    buf->q = take(&att, rows, n_q * f);
    buf->k = take(&att, rows, n_kv * f);
    buf->v = take(&att, rows, n_kv * f);
    buf->att = take(&att, rows, n_q * f);
    buf->gate = take(&ffn, rows, (size_t)net->n_ff * f);
    buf->up = take(&ffn, rows, (size_t)net->n_ff * f);
    t->at = att.at > ffn.at ? att.at : ffn.at;
    t->is_bad = att.is_bad || ffn.is_bad;
    buf->cos = take(t, rows * (size_t)s->n_ropes, (size_t)(net->n_rot / 2) * f);
    buf->sin = take(t, rows * (size_t)s->n_ropes, (size_t)(net->n_rot / 2) * f);
    buf->packed = take(t, matmul_input_bytes((int32_t)rows, max_in), 1);
    buf->scratch = take(t, n_threads, matmul_scratch_bytes(max_in));
    buf->attend_scratch = take(t, n_threads, s->thread_floats * f);
    buf->parts =
        take(t, (size_t)s->split_rows * (size_t)net->n_head * (size_t)s->max_segments, ((size_t)s->kl.d_pad + ATTEND_STATE) * f);
    buf->blocks = take(t, rows, sizeof(row_block));
}

/* Both sizes; false when they do not fit a size_t. */
static bool work_sizes(const network *net, const backend_config *cfg, const work_limits *lim, const work_shape *s, size_t *kv,
                       size_t *buffers) {
    taker t = {0};
    work_buffers unused;
    lay_out(&t, net, cfg, lim, s, &unused);
    *buffers = t.at;
    size_t layer, n_kv = 0;
    for (int32_t i = 0; i < net->n_layer; i++) n_kv += config_parts(cfg, i) & PART_ATTN;
    return !t.is_bad && size_mul(s->kl.page_bytes, (size_t)lim->n_pages, &layer) && size_mul(layer, n_kv, kv);
}

static void cpu_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv,
                           uint64_t *buffers) {
    const work_shape s = shape_of(net, cfg, lim);
    size_t kv_bytes = 0, buffer_bytes = 0;
    if (!work_sizes(net, cfg, lim, &s, &kv_bytes, &buffer_bytes)) kv_bytes = buffer_bytes = SIZE_MAX;
    *kv = kv_bytes;
    *buffers = buffer_bytes;
}

/* Zeroed pages from the system, taken up as they are first touched; huge ones where it has them. */
static galen_status reserve(char **out, size_t n, const char *what, galen_error *err) {
    if (n == 0) return GALEN_OK;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %zu bytes", what, n);
#ifdef MADV_HUGEPAGE
    (void)madvise(p, n, MADV_HUGEPAGE); /* advice: refusing it costs speed only */
#endif
    *out = p;
    return GALEN_OK;
}

static void cpu_work_close(backend_work *w) {
    if (!w) return;
    if (w->kv) (void)munmap(w->kv, w->kv_bytes);
    if (w->buffers) (void)munmap(w->buffers, w->buffer_bytes);
    free(w);
}

static galen_status cpu_work_open(backend_work **out, backend *b, const work_limits *lim, galen_error *err) {
    galen_status st;
    *out = NULL;
    if (lim->max_rows < 1 || lim->max_out < 0 || lim->n_ctx < 1 || lim->n_pages < 0)
        return galen_fail(err, GALEN_E_ARG, 0, "a work of %d rows, %d outputs, %d positions, %d pages", (int)lim->max_rows,
                          (int)lim->max_out, (int)lim->n_ctx, (int)lim->n_pages);
    backend_work *w = calloc(1, sizeof *w);
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "cpu work");
    const backend_config cfg = {
        .n_threads = pool_n_threads(b->pool), .parts = b->parts, .has_embed = b->has_embed, .has_head = b->has_head};
    w->b = b;
    w->lim = *lim;
    w->shape = shape_of(b->net, &cfg, lim);
    w->rope_choice = lim->n_ctx > b->net->n_ctx_orig ? 1 : 0;
    if (!work_sizes(b->net, &cfg, lim, &w->shape, &w->kv_bytes, &w->buffer_bytes)) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "KV cache or buffers: the size overflows");
        goto fail;
    }
    w->shape.layer_bytes = w->shape.kl.page_bytes * (size_t)lim->n_pages;
    st = reserve(&w->kv, w->kv_bytes, "KV cache", err);
    if (st) goto fail;
    st = reserve(&w->buffers, w->buffer_bytes, "work buffers", err);
    if (st) goto fail;
    taker t = {.base = w->buffers};
    lay_out(&t, b->net, &cfg, lim, &w->shape, &w->buf);
    *out = w;
    return GALEN_OK;
fail:
    cpu_work_close(w);
    return st;
}

/* ---------------------------------------------------------------- the table */

static galen_status cpu_sync(backend_work *w, galen_error *err) {
    (void)w; /* every stage is done when it returns */
    (void)err;
    return GALEN_OK;
}

static galen_status cpu_get_hidden(backend_work *w, const batch *b, float *x, galen_error *err) {
    (void)err;
    memcpy(x, w->buf.x, (size_t)b->n_rows * (size_t)w->b->net->n_embd * sizeof *x);
    return GALEN_OK;
}

static galen_status cpu_copy_page(backend_work *w, int32_t to, int32_t from, galen_error *err) {
    const size_t n = w->shape.kl.page_bytes;
    (void)err;
    for (char *layer = w->kv; layer < w->kv + w->kv_bytes; layer += w->shape.layer_bytes) {
        if (from < 0)
            memset(layer + (size_t)to * n, 0, n);
        else
            memcpy(layer + (size_t)to * n, layer + (size_t)from * n, n);
    }
    return GALEN_OK;
}

const backend_api *backend_cpu(void) {
    static const backend_api api = {.name = "cpu",
                                    .open = cpu_open,
                                    .close = cpu_close,
                                    .describe = cpu_describe,
                                    .weight_bytes = cpu_weight_bytes,
                                    .work_open = cpu_work_open,
                                    .work_close = cpu_work_close,
                                    .work_bytes = cpu_work_bytes,
                                    .embed = cpu_embed,
                                    .run = cpu_run,
                                    .head = cpu_head,
                                    .sync = cpu_sync,
                                    .get_hidden = cpu_get_hidden,
                                    .set_hidden = cpu_set_hidden,
                                    .get_kv = cpu_get_kv,
                                    .set_kv = cpu_set_kv,
                                    .copy_page = cpu_copy_page};
    return &api;
}
