/* The cuda backend: opening a device, its name, the table. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/gemm.h"
#include "backend/cuda/mover.h"
#include "backend/cuda/stream.h"

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

static galen_status check_weights(const network *net, const backend_config *cfg, galen_error *err) {
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < net->n_layer; i++) {
        const int taken = config_parts(cfg, i) | (cfg->streamed ? cfg->streamed[i] : 0);
        for (size_t j = 0; !st && j < N_LAYER_TENSORS; j++) {
            const layer_tensor *t = &layer_tensors[j];
            if (t->part & taken) st = check_weight(layer_tensor_of(&net->layers[i], t), t->is_vector, err);
        }
    }
    if (!st && cfg->has_embed) st = check_weight(&net->embd, false, err);
    if (!st && cfg->has_head) st = check_weight(&net->head, false, err);
    if (!st && cfg->has_head) st = check_weight(&net->out_norm, true, err);
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

galen_status cuda_find_device(int index, backend *b, galen_error *err) {
    struct cudaDeviceProp prop;
    int n = 0;
    const int e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        (void)cudaGetLastError();
        return galen_fail(err, GALEN_E_DEVICE, 0, "the NVIDIA driver is missing or older than CUDA %d.%d, which this build needs",
                          CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (e && e != cudaErrorNoDevice) return cuda_fail(err, e, "looking for a device");
    (void)cudaGetLastError();
    if (n == 0) return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA GPU is visible");
    if (index < 0 || index >= n)
        return galen_fail(err, GALEN_E_DEVICE, 0, "GPU %d: there %s %d, numbered from 0", index, n == 1 ? "is" : "are", n);
    const int f = cudaGetDeviceProperties(&prop, index);
    if (f) return cuda_fail(err, f, "a device's properties");
    const int s = cudaSetDevice(index);
    if (s) return cuda_fail(err, s, prop.name);
    if (10 * prop.major + prop.minor < 75)
        return galen_fail(err, GALEN_E_DEVICE, 0, "%.200s has compute capability %d.%d; 7.5 or later is needed", prop.name,
                          prop.major, prop.minor);
    if (!b) return GALEN_OK;
    b->device = index;
    b->n_sm = prop.multiProcessorCount;
    b->compute = 10 * prop.major + prop.minor;
    b->shared_bytes = (int)prop.sharedMemPerBlockOptin;
    (void)snprintf(b->name, sizeof b->name, "%.200s", prop.name);
    return GALEN_OK;
}

/* ---------------------------------------------------------------- memory */

static galen_status refuse_memory(const backend *b, size_t n, const char *what, int e, galen_error *err) {
    size_t free_bytes = 0, total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free_bytes, &total);
    if (b->memory_limit && b->memory_limit < total) {
        total = b->memory_limit;
        const size_t left = b->held < total ? total - b->held : 0;
        if (left < free_bytes) free_bytes = left;
    }
    return galen_fail(err, e == cudaErrorMemoryAllocation ? GALEN_E_NOMEM : GALEN_E_DEVICE, 0,
                      "%s: %zu bytes on %s, %zu of %zu are free: %s", what, n, b->name, free_bytes, total,
                      cudaGetErrorString((cudaError_t)e));
}

galen_status cuda_reserve(backend *b, void **out, size_t n, const char *what, galen_error *err) {
    *out = NULL;
    if (n == 0) return GALEN_OK;
    const uint64_t held = b->held += n;
    int e = b->memory_limit && held > b->memory_limit ? cudaErrorMemoryAllocation : cudaSuccess;
    if (!e) e = cudaMalloc(out, n);
    if (!e) return GALEN_OK;
    *out = NULL;
    b->held -= n;
    return refuse_memory(b, n, what, e, err);
}

void cuda_release(backend *b, void *p, size_t n) {
    if (!p) return;
    (void)cudaFree(p);
    b->held -= n;
}

static uint64_t cuda_memory_held(const backend *b) {
    return b->held;
}

/* ---------------------------------------------------------------- open, close */

static void cuda_close(backend *b) {
    if (!b) return;
    gemm_start_close(b->start);
    if (b->memory || b->pins) (void)cudaSetDevice(b->device);
    pins_close(b->pins);
    cuda_release(b, b->memory, b->memory_bytes);
    (void)cudaGetLastError();
    free(b->weights.layers);
    free(b->parts);
    free(b->kv_index);
    free(b->streamed);
    free(b->fetched);
    free(b);
}

/* Which parts live here, and where their KV stands. */
static galen_status take_parts(backend *b, const backend_config *cfg, galen_error *err) {
    const size_t n = b->net->n_layer > 0 ? (size_t)b->net->n_layer : 1;
    int32_t n_kv = 0;
    b->has_embed = cfg->has_embed;
    b->has_head = cfg->has_head;
    b->has_table = cfg->has_table;
    b->is_whole = cfg->has_head;
    b->memory_limit = cfg->memory_limit;
    b->n_threads = cfg->n_threads;
    b->weights.layers = calloc(n, sizeof *b->weights.layers);
    b->parts = calloc(n, sizeof *b->parts);
    b->kv_index = calloc(n, sizeof *b->kv_index);
    b->streamed = calloc(n, sizeof *b->streamed);
    b->fetched = calloc(n, sizeof *b->fetched);
    b->stream_rows = cfg->stream_rows > STREAM_MIN_ROWS ? cfg->stream_rows : STREAM_MIN_ROWS;
    if (!b->weights.layers || !b->parts || !b->kv_index || !b->streamed || !b->fetched)
        return galen_fail(err, GALEN_E_NOMEM, 0, "cuda layers");
    for (int32_t i = 0; i < b->net->n_layer; i++) {
        b->parts[i] = config_parts(cfg, i);
        b->streamed[i] = cfg->streamed ? cfg->streamed[i] & ~b->parts[i] : 0;
        b->fetched[i] = cfg->fetched ? cfg->fetched[i] & b->streamed[i] & PART_FFN : 0;
        b->kv_index[i] = n_kv;
        n_kv += b->parts[i] & PART_ATTN;
        b->is_whole = b->is_whole && b->parts[i] == PART_BOTH;
    }
    return GALEN_OK;
}

enum { EARLY_BYTES = 1 << 30 }; /* their loading hides the start of cuBLASLt */

static galen_status cuda_open(backend **out, const network *net, const backend_config *cfg, galen_error *err) {
    galen_status st;
    bool is_bad = false;
    *out = NULL;
    backend *b = calloc(1, sizeof *b);
    if (!b) return galen_fail(err, GALEN_E_NOMEM, 0, "cuda backend");
    b->net = net;
    if ((st = check_weights(net, cfg, err))) goto fail;
    if ((st = check_shape(net, err))) goto fail;
    if ((st = take_parts(b, cfg, err))) goto fail;
    if ((st = cuda_find_device(cfg->device, b, err))) goto fail;
    b->memory_bytes = cuda_place_weights(net, cfg, NULL, NULL, &is_bad);
    if (is_bad) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "weights: the size overflows");
        goto fail;
    }
    if ((st = cuda_reserve(b, &b->memory, b->memory_bytes, "weights", err))) goto fail;
    (void)cuda_place_weights(net, cfg, b->memory, &b->weights, &is_bad);
    if (b->memory_bytes >= EARLY_BYTES) b->start = gemm_start_open(b->device);
    if ((st = cuda_upload(b, cfg->n_threads, err))) goto fail;
    pins_open(&b->pins, b);
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
                                    .weight_bytes = cuda_weight_bytes,
                                    .work_open = cuda_work_open,
                                    .work_close = cuda_work_close,
                                    .work_bytes = cuda_work_bytes,
                                    .embed = cuda_embed,
                                    .run = cuda_run,
                                    .head = cuda_head,
                                    .sample = cuda_sample,
                                    .read = cuda_read,
                                    .ahead_begin = cuda_ahead_begin,
                                    .ahead_step = cuda_ahead_step,
                                    .ahead_take = cuda_ahead_take,
                                    .sync = cuda_sync,
                                    .get_hidden = cuda_get_hidden,
                                    .set_hidden = cuda_set_hidden,
                                    .get_kv = cuda_get_kv,
                                    .set_kv = cuda_set_kv,
                                    .copy_page = cuda_copy_page,
                                    .memory_held = cuda_memory_held};
    return &api;
}
