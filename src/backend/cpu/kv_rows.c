/* Keys and values as rows, in and out of the cache: how a layer's KV moves to another device and back. Reading what was put and
 * putting it again changes no byte. */
#include "backend/cpu/cpu_impl.h"
#include "tensor/half.h"

typedef struct rows_ctx {
    const backend_work *w;
    char *kv; /* of the layer */
    const int32_t *pages;
    int32_t first;
    float *k, *v; /* to, when reading */
    const float *k_from, *v_from;
} rows_ctx;

static float element(const kv_layout *kl, const char *at, size_t i, const uint16_t *scale) {
    switch (kl->type) {
    case KV_F16:
        return half_to_f32(((const uint16_t *)(const void *)at)[i]);
    case KV_F32:
        return ((const float *)(const void *)at)[i];
    case KV_Q8_0:
        return half_to_f32(*scale) * (float)((const int8_t *)at)[i];
    case N_KV_TYPES:
        break;
    }
    return 0.0f;
}

/* Key and value of one position of a head's run; kv.h draws it. */
static void read_position(const kv_layout *kl, const char *head, int32_t slot, float *k, float *v) {
    const size_t tile = (size_t)(slot / KV_LANES), lane = (size_t)(slot % KV_LANES), blocks = (size_t)kl->n_blocks;
    const uint16_t *ks = (const uint16_t *)(const void *)(head + kl->k_scales) + tile * KV_LANES * blocks + lane;
    const uint16_t *vs = (const uint16_t *)(const void *)(head + kl->v_scales) + (size_t)slot * blocks;
    for (size_t i = 0; i < (size_t)kl->d; i++) {
        const size_t block = i / KV_BLOCK;
        k[i] = element(kl, head, tile * KV_LANES * (size_t)kl->d + i * KV_LANES + lane, ks + block * KV_LANES);
        v[i] = element(kl, head + kl->v, (size_t)slot * (size_t)kl->d_pad + i, vs + block);
    }
}

static void move_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const rows_ctx *c = ctx;
    const network *net = c->w->b->net;
    const kv_layout *kl = &c->w->shape.kl;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const int32_t pos = c->first + (int32_t)r;
        char *page = c->kv + (size_t)c->pages[pos / KV_PAGE] * kl->page_bytes;
        for (int32_t h = 0; h < net->n_head_kv; h++) {
            char *head = page + (size_t)h * kl->head_bytes;
            const int64_t at = (r * net->n_head_kv + h) * net->d_head;
            if (c->k)
                read_position(kl, head, pos % KV_PAGE, c->k + at, c->v + at);
            else
                c->w->b->ops->kv_put(kl, head, pos % KV_PAGE, c->k_from + at, c->v_from + at);
        }
    }
}

static void move(backend_work *w, rows_ctx *c, int32_t n) {
    pool_run(w->b->pool, n, row_grain((int64_t)w->b->net->n_head_kv * w->b->net->d_head), move_rows, c);
}

galen_status cpu_get_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                        galen_error *err) {
    rows_ctx c = {.w = w, .kv = layer_kv(w, layer), .pages = seq->pages, .first = first, .k = k, .v = v};
    (void)err;
    move(w, &c, n);
    return GALEN_OK;
}

galen_status cpu_set_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                        const float *v, galen_error *err) {
    rows_ctx c = {.w = w, .kv = layer_kv(w, layer), .pages = seq->pages, .first = first, .k_from = k, .v_from = v};
    (void)err;
    move(w, &c, n);
    return GALEN_OK;
}
