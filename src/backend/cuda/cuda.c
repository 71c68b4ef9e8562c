/* The cuda backend: opening a device, its name, the table. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/impl.h"

galen_status cuda_fail(galen_error *err, int e, const char *what) {
    (void)cudaGetLastError();
    return galen_fail(err, e == cudaErrorMemoryAllocation ? GALEN_E_NOMEM : GALEN_E_DEVICE, 0, "GPU: %s: %s (%s)", what,
                      cudaGetErrorString((cudaError_t)e), cudaGetErrorName((cudaError_t)e));
}

/* ---------------------------------------------------------------- checks */

static galen_status check_weight(const tensor *t, bool is_vector, galen_error *err) {
    if (!t->data) return GALEN_OK;
    const tensor_type_info *info = tensor_type_get((uint32_t)t->type);
    if (!info || !cuda_takes((int32_t)t->type))
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: weight type %d is not supported", t->name, (int)t->type);
    if (is_vector && t->type != TENSOR_F32)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: a vector of type %s, expected F32", t->name, info->name);
    return GALEN_OK;
}

static galen_status check_weights(const backend *b, galen_error *err) {
    const network *net = b->net;
    galen_status st = GALEN_OK;
    for (int32_t i = b->first_layer; !st && i < b->first_layer + b->n_layers; i++) {
        const network_layer *l = &net->layers[i];
        const tensor *const vectors[] = {&l->attn_norm,      &l->bq, &l->bk,       &l->bv,           &l->q_norm, &l->k_norm,
                                         &l->attn_post_norm, &l->bo, &l->ffn_norm, &l->ffn_post_norm};
        const tensor *const matrices[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
        for (size_t j = 0; !st && j < sizeof vectors / sizeof *vectors; j++) st = check_weight(vectors[j], true, err);
        for (size_t j = 0; !st && j < sizeof matrices / sizeof *matrices; j++) st = check_weight(matrices[j], false, err);
    }
    if (st || !b->has_ends) return st;
    st = check_weight(&net->embd, false, err);
    if (!st) st = check_weight(&net->head, false, err);
    if (!st) st = check_weight(&net->out_norm, true, err);
    return st;
}

static galen_status check_shape(const network *net, galen_error *err) {
    if (net->d_head > MAX_HEAD)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "heads of %d dimensions; the GPU backend takes up to %d", net->d_head,
                          MAX_HEAD);
    if (net->n_head_kv < 1 || net->n_head % net->n_head_kv != 0)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%d heads in groups of %d; the GPU backend takes equal groups",
                          net->n_head, net->n_head_kv);
    return GALEN_OK;
}

/* ---------------------------------------------------------------- open, close */

/* The first device, or why there is none, with the remedy. */
galen_status cuda_find_device(backend *b, galen_error *err) {
    struct cudaDeviceProp prop;
    int n = 0;
    const int e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        (void)cudaGetLastError();
        return galen_fail(err, GALEN_E_DEVICE, 0, "the NVIDIA driver is missing or older than CUDA %d.%d, which this build needs",
                          CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (e) return cuda_fail(err, e, "looking for a device");
    if (n == 0) return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA GPU is visible");
    const int f = cudaGetDeviceProperties(&prop, 0);
    if (f) return cuda_fail(err, f, "device 0");
    const int s = cudaSetDevice(0);
    if (s) return cuda_fail(err, s, prop.name);
    if (10 * prop.major + prop.minor < 75)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%.200s has compute capability %d.%d; 7.5 or later is needed", prop.name,
                          prop.major, prop.minor);
    if (!b) return GALEN_OK;
    b->n_sm = prop.multiProcessorCount;
    b->compute = 10 * prop.major + prop.minor;
    (void)snprintf(b->name, sizeof b->name, "%.200s", prop.name);
    return GALEN_OK;
}

static void cuda_close(backend *b) {
    if (!b) return;
    if (b->memory) (void)cudaFree(b->memory);
    (void)cudaGetLastError();
    free(b->layers);
    free(b);
}

static galen_status cuda_open(backend **out, const network *net, const backend_config *cfg, galen_error *err) {
    galen_status st;
    bool is_bad = false;
    *out = NULL;
    backend *b = calloc(1, sizeof *b);
    if (!b) return galen_fail(err, GALEN_E_NOMEM, 0, "cuda backend");
    b->net = net;
    b->first_layer = cfg->first_layer;
    b->n_layers = cfg->n_layers;
    b->has_ends = cfg->has_ends;
    if ((st = check_weights(b, err))) goto fail;
    if ((st = check_shape(net, err))) goto fail;
    if ((st = cuda_find_device(b, err))) goto fail;
    b->layers = calloc(b->n_layers ? (size_t)b->n_layers : 1, sizeof *b->layers);
    if (!b->layers) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "cuda layers");
        goto fail;
    }
    b->memory_bytes = cuda_place_weights(b, NULL, &is_bad);
    const int e = is_bad ? cudaErrorMemoryAllocation : cudaMalloc(&b->memory, b->memory_bytes ? b->memory_bytes : 1);
    if (e) {
        b->memory = NULL;
        size_t free_bytes = 0, total = 0;
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&free_bytes, &total);
        st = galen_fail(err, e == cudaErrorMemoryAllocation ? GALEN_E_NOMEM : GALEN_E_DEVICE, 0,
                        "weights: %zu bytes on %s, %zu of %zu are free: %s", b->memory_bytes, b->name, free_bytes, total,
                        cudaGetErrorString((cudaError_t)e));
        goto fail;
    }
    (void)cuda_place_weights(b, b->memory, &is_bad);
    if ((st = cuda_upload(b, cfg->n_threads, err))) goto fail;
    *out = b;
    return GALEN_OK;
fail:
    cuda_close(b);
    return st;
}

static const char *cuda_describe(const backend *b) {
    return b->name;
}

const backend_api *backend_cuda(void) {
    static const backend_api api = {.name = "cuda",
                                    .open = cuda_open,
                                    .close = cuda_close,
                                    .describe = cuda_describe,
                                    .work_open = cuda_work_open,
                                    .work_close = cuda_work_close,
                                    .work_bytes = cuda_work_bytes,
                                    .embed = cuda_embed,
                                    .run = cuda_run,
                                    .head = cuda_head,
                                    .sync = cuda_sync,
                                    .get_hidden = cuda_get_hidden,
                                    .set_hidden = cuda_set_hidden};
    return &api;
}
