/* Weights from the file to planes on the device. Rows pass through a few pinned buffers of fixed size: while one is filled others
 * are copied and repacked. At load they are read past the map (network.fetch), so that no page of them stays in this process. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/mover.h"
#include "base/checked.h"

enum { COPY_GRAIN = 1 << 20 };

/* ---------------------------------------------------------------- placing */

/* Hands out 256-aligned runs of one allocation; with base NULL it only counts. */
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

static void place_matrix(taker *t, const tensor *from, dev_matrix *m) {
    cuda_matrix_shape(m, (int32_t)from->type, from->n_in, from->n_out);
    const uint64_t n = (uint64_t)from->n_out;
    m->q = take(t, n, m->q_row);
    m->h = take(t, n, m->h_row);
    m->s = take(t, n, m->s_row);
    m->d = take(t, n, m->d_row);
}

static float *place_vector(taker *t, const tensor *from, int64_t n) {
    float *p = take(t, (uint64_t)(n + ROW_PAD) / ROW_PAD * ROW_PAD, sizeof(float)); /* kernels read whole float4s */
    return from->data ? p : NULL;
}

static void place_attention(taker *t, const network *net, const network_layer *l, dev_layer *d) {
    const int64_t n_q = (int64_t)net->n_head * net->d_head, n_kv = (int64_t)net->n_head_kv * net->d_head;
    const tensor *const bias = l->bq.data ? &l->bq : l->bk.data ? &l->bk : &l->bv;
    place_matrix(t, &l->wq, &d->wq);
    place_matrix(t, &l->wk, &d->wk);
    place_matrix(t, &l->wv, &d->wv);
    place_matrix(t, &l->wo, &d->wo);
    d->attn_norm = place_vector(t, &l->attn_norm, net->n_embd);
    d->attn_post_norm = place_vector(t, &l->attn_post_norm, net->n_embd);
    d->q_norm = place_vector(t, &l->q_norm, net->d_head);
    d->k_norm = place_vector(t, &l->k_norm, net->d_head);
    d->qkv_bias = place_vector(t, bias, n_q + 2 * n_kv);
    d->bo = place_vector(t, &l->bo, net->n_embd);
}

static void place_feed_forward(taker *t, const network *net, const network_layer *l, dev_layer *d) {
    place_matrix(t, &l->w_gate, &d->gate);
    place_matrix(t, &l->w_up, &d->up);
    place_matrix(t, &l->w_down, &d->down);
    d->ffn_norm = place_vector(t, &l->ffn_norm, net->n_embd);
    d->ffn_post_norm = place_vector(t, &l->ffn_post_norm, net->n_embd);
}

static void place_parts(taker *t, const network *net, const network_layer *l, int parts, dev_layer *d) {
    if (parts & PART_ATTN) place_attention(t, net, l, d);
    if (parts & PART_FFN) place_feed_forward(t, net, l, d);
}

size_t cuda_place_part(const network *net, const network_layer *l, int part, char *base, dev_layer *d, bool *is_bad) {
    taker t = {.base = base};
    place_parts(&t, net, l, part, d);
    *is_bad = *is_bad || t.is_bad;
    return t.at;
}

size_t cuda_place_weights(const network *net, const backend_config *cfg, char *base, dev_weights *to, bool *is_bad) {
    dev_weights counted = {0};
    dev_layer layer;
    taker t = {.base = base};
    if (!to) to = &counted;
    for (int32_t i = 0; i < net->n_layer; i++) {
        dev_layer *d = to->layers ? &to->layers[i] : &layer;
        place_parts(&t, net, &net->layers[i], config_parts(cfg, i), d);
    }
    for (int i = 0; i < NETWORK_MAX_ROPES; i++)
        for (int j = 0; j < 2; j++)
            if (net->ropes[i][j].inv_freq) to->inv_freq[i][j] = take(&t, (uint64_t)net->n_rot / 2, sizeof(double));
    if (cfg->has_head) {
        to->out_norm = place_vector(&t, &net->out_norm, net->n_embd);
        place_matrix(&t, &net->head, &to->head);
    }
    if (cfg->has_head && net->embd.data == net->head.data && net->embd.type == net->head.type)
        to->table = to->head;
    else if (cfg->has_table)
        place_matrix(&t, &net->embd, &to->table);
    *is_bad = t.is_bad;
    return t.at;
}

/* ---------------------------------------------------------------- moving */

typedef struct copy {
    char *to;
    const char *from;
    size_t n;
    const network *net; /* fetch from it; NULL = copy */
    atomic_bool is_bad;
} copy;

static void copy_grains(void *ctx, int64_t begin, int64_t end, int thread) {
    copy *c = ctx;
    const size_t from = (size_t)begin * COPY_GRAIN, to = (size_t)end * COPY_GRAIN < c->n ? (size_t)end * COPY_GRAIN : c->n;
    (void)thread;
    if (!c->net)
        memcpy(c->to + from, c->from + from, to - from);
    else if (!c->net->fetch(c->net->source, c->from + from, c->to + from, to - from))
        atomic_store(&c->is_bad, true);
}

static galen_status move_matrix(mover *v, const tensor *from, const dev_matrix *to, galen_error *err) {
    const int64_t most = (int64_t)(v->piece / from->row_bytes);
    if (v->pull) return pull_matrix(v, from, to, err);
    for (int64_t row = 0; row < from->n_out;) {
        const int64_t n = from->n_out - row < most ? from->n_out - row : most;
        const int s = v->slot;
        copy c = {.to = v->pinned[s],
                  .from = tensor_row(from, row),
                  .n = (size_t)n * from->row_bytes,
                  .net = v->is_fetching && v->b->net->fetch ? v->b->net : NULL};
        int e = cudaEventSynchronize(v->free[s]);
        if (e) return cuda_fail(err, e, from->name);
        pool_run(v->pool, (int64_t)((c.n + COPY_GRAIN - 1) / COPY_GRAIN), 1, copy_grains, &c);
        if (atomic_load(&c.is_bad))
            return galen_fail(err, GALEN_E_IO, 0, "%s: the model's file cannot be read; was it cut?", from->name);
        e = cudaMemcpyAsync(v->device[s], v->pinned[s], c.n, cudaMemcpyHostToDevice, v->uploads);
        if (!e) e = cudaEventRecord(v->filled[s], v->uploads);
        if (!e) e = cudaStreamWaitEvent(v->stream, v->filled[s], 0);
        if (!e) e = cuda_repack(&v->queue, to, v->device[s], (int64_t)from->row_bytes, row, (int32_t)n);
        if (!e) e = cudaEventRecord(v->free[s], v->stream);
        if (e) return cuda_fail(err, e, from->name);
        v->slot = (s + 1) % N_SLOTS;
        row += n;
    }
    return GALEN_OK;
}

/* A vector, or a table: as it is. Never straight from the file where the host fills slots: another's pages beside it may be
 * registered, and the driver refuses what is so in part. */
static galen_status move_bytes(mover *v, const char *name, const void *from, void *to, size_t n, galen_error *err) {
    const int s = v->slot;
    int e = v->pull ? cudaSuccess : cudaEventSynchronize(v->free[s]);
    if (!e && !v->pull && n <= v->piece) from = memcpy(v->pinned[s], from, n);
    if (!e) e = cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, v->stream);
    if (!e && !v->pull) e = cudaEventRecord(v->free[s], v->stream);
    if (!v->pull) v->slot = (s + 1) % N_SLOTS;
    return e ? cuda_fail(err, e, name) : GALEN_OK;
}

static galen_status move_vector(mover *v, const tensor *from, float *to, galen_error *err) {
    return from->data ? move_bytes(v, from->name, from->data, to, (size_t)from->n_in * sizeof(float), err) : GALEN_OK;
}

/* What of a layer goes where. */
typedef struct layer_move {
    uint8_t part;
    const tensor *from;
    float *vector; /* or: */
    const dev_matrix *matrix;
} layer_move;

galen_status mover_layer(mover *v, const network *net, const network_layer *l, int parts, const dev_layer *d, galen_error *err) {
    const int64_t n_q = (int64_t)net->n_head * net->d_head, n_kv = (int64_t)net->n_head_kv * net->d_head;
    const layer_move all[] = {{PART_ATTN, &l->attn_norm, d->attn_norm, NULL},
                              {PART_ATTN, &l->attn_post_norm, d->attn_post_norm, NULL},
                              {PART_ATTN, &l->q_norm, d->q_norm, NULL},
                              {PART_ATTN, &l->k_norm, d->k_norm, NULL},
                              {PART_ATTN, &l->bq, d->qkv_bias, NULL},
                              {PART_ATTN, &l->bk, d->qkv_bias ? d->qkv_bias + n_q : NULL, NULL},
                              {PART_ATTN, &l->bv, d->qkv_bias ? d->qkv_bias + n_q + n_kv : NULL, NULL},
                              {PART_ATTN, &l->bo, d->bo, NULL},
                              {PART_ATTN, &l->wq, NULL, &d->wq},
                              {PART_ATTN, &l->wk, NULL, &d->wk},
                              {PART_ATTN, &l->wv, NULL, &d->wv},
                              {PART_ATTN, &l->wo, NULL, &d->wo},
                              {PART_FFN, &l->ffn_norm, d->ffn_norm, NULL},
                              {PART_FFN, &l->ffn_post_norm, d->ffn_post_norm, NULL},
                              {PART_FFN, &l->w_gate, NULL, &d->gate},
                              {PART_FFN, &l->w_up, NULL, &d->up},
                              {PART_FFN, &l->w_down, NULL, &d->down}};
    galen_status st = v->pull ? pull_begin(v, err) : GALEN_OK;
    for (size_t i = 0; !st && i < sizeof all / sizeof *all; i++) {
        if (!(all[i].part & parts)) continue;
        st = all[i].matrix ? move_matrix(v, all[i].from, all[i].matrix, err) : move_vector(v, all[i].from, all[i].vector, err);
    }
    return st;
}

static galen_status move_all(mover *v, backend *b, galen_error *err) {
    const network *net = b->net;
    galen_status st = GALEN_OK;
    for (int32_t i = 0; !st && i < net->n_layer; i++)
        st = mover_layer(v, net, &net->layers[i], b->parts[i], &b->weights.layers[i], err);
    for (int i = 0; i < NETWORK_MAX_ROPES; i++)
        for (int j = 0; !st && j < 2; j++)
            if (b->weights.inv_freq[i][j])
                st = move_bytes(v, "rotation frequencies", net->ropes[i][j].inv_freq, b->weights.inv_freq[i][j],
                                (size_t)(net->n_rot / 2) * sizeof(double), err);
    if (!st && b->has_head) st = move_vector(v, &net->out_norm, b->weights.out_norm, err);
    if (!st && b->has_head) st = move_matrix(v, &net->head, &b->weights.head, err);
    if (!st && b->weights.table.q && b->weights.table.q != b->weights.head.q)
        st = move_matrix(v, &net->embd, &b->weights.table, err);
    return st;
}

size_t mover_piece(const network *net, const backend_config *cfg, size_t least) {
    size_t n = least;
    if (cfg->has_head && net->head.row_bytes > n) n = net->head.row_bytes;
    if (cfg->has_table && net->embd.row_bytes > n) n = net->embd.row_bytes;
    for (int32_t i = 0; i < net->n_layer; i++) {
        const int taken = config_parts(cfg, i) | (cfg->streamed ? cfg->streamed[i] : 0);
        for (size_t j = 0; j < N_LAYER_TENSORS; j++) {
            const tensor *t = layer_tensor_of(&net->layers[i], &layer_tensors[j]);
            if ((layer_tensors[j].part & taken) && t->row_bytes > n) n = t->row_bytes;
        }
    }
    return n;
}

void cuda_weight_bytes(const network *net, const backend_config *cfg, uint64_t *weights, uint64_t *loading) {
    bool is_bad = false;
    *weights = cuda_place_weights(net, cfg, NULL, NULL, &is_bad);
    *loading = N_SLOTS * mover_piece(net, cfg, PIECE);
    if (is_bad) *weights = UINT64_MAX;
}

void mover_close(mover *v) {
    for (int i = 0; i < N_SLOTS; i++) {
        if (v->pinned[i]) (void)cudaFreeHost(v->pinned[i]);
        cuda_release(v->b, v->device[i], v->piece);
        if (v->free[i]) (void)cudaEventDestroy(v->free[i]);
        if (v->filled[i]) (void)cudaEventDestroy(v->filled[i]);
    }
    if (v->uploads) (void)cudaStreamDestroy(v->uploads);
    if (v->stream) (void)cudaStreamDestroy(v->stream);
    pool_close(v->pool);
    *v = (mover){0};
}

galen_status mover_open(mover *v, backend *b, size_t piece, int n_threads, galen_error *err) {
    enum { MOST_THREADS = 16 }; /* more do not copy faster */
    galen_status st = GALEN_OK;
    v->b = b;
    v->piece = piece;
    int e = cudaStreamCreateWithFlags(&v->stream, cudaStreamNonBlocking);
    if (!e) e = cudaStreamCreateWithFlags(&v->uploads, cudaStreamNonBlocking);
    for (int i = 0; !e && !st && i < N_SLOTS; i++) {
        if (!v->pull) e = cudaHostAlloc((void **)&v->pinned[i], v->piece, cudaHostAllocDefault);
        if (!e) e = cudaEventCreateWithFlags(&v->free[i], cudaEventDisableTiming);
        if (!e) e = cudaEventCreateWithFlags(&v->filled[i], cudaEventDisableTiming);
        if (!e) st = cuda_reserve(b, (void **)&v->device[i], v->piece, "buffers for loading weights", err);
    }
    if (e) return cuda_fail(err, e, "buffers for loading weights");
    if (st) return st;
    v->queue = (cuda_queue){.stream = v->stream, .n_sm = b->n_sm};
    if (v->pull) return GALEN_OK;
    return pool_open(&v->pool, n_threads < 1 ? 1 : n_threads > MOST_THREADS ? MOST_THREADS : n_threads, err);
}

galen_status cuda_upload(backend *b, int n_threads, galen_error *err) {
    const backend_config cfg = {.parts = b->parts, .streamed = b->streamed, .has_head = b->has_head, .has_table = b->has_table};
    mover v = {.is_fetching = true};
    galen_status st = mover_open(&v, b, mover_piece(b->net, &cfg, PIECE), n_threads, err);
    if (st) goto fail;
    int e = cudaMemsetAsync(b->memory, 0, b->memory_bytes, v.stream); /* paddings are zero */
    if (!e) st = move_all(&v, b, err);
    if (!st && !e) e = cudaStreamSynchronize(v.stream);
    if (!st && e) st = cuda_fail(err, e, "loading weights");
fail:
    mover_close(&v);
    return st;
}
