/* Allocations that fail, and what is refused. */
#include <stdio.h>
#include <string.h>

#include "gpu.h"
#include "random_net.h"

int64_t malloc_countdown;
bool is_register_failing;

cudaError_t __real_cudaMalloc(void **p, size_t n);
cudaError_t __wrap_cudaMalloc(void **p, size_t n);
cudaError_t __real_cudaHostAlloc(void **p, size_t n, unsigned flags);
cudaError_t __wrap_cudaHostAlloc(void **p, size_t n, unsigned flags);

cudaError_t __wrap_cudaMalloc(void **p, size_t n) {
    if (malloc_countdown > 0 && --malloc_countdown == 0) return cudaErrorMemoryAllocation;
    return __real_cudaMalloc(p, n);
}
cudaError_t __wrap_cudaHostAlloc(void **p, size_t n, unsigned flags) {
    if (malloc_countdown > 0 && --malloc_countdown == 0) return cudaErrorMemoryAllocation;
    return __real_cudaHostAlloc(p, n, flags);
}

cudaError_t __real_cudaHostRegister(void *p, size_t n, unsigned flags);
cudaError_t __wrap_cudaHostRegister(void *p, size_t n, unsigned flags);

cudaError_t __wrap_cudaHostRegister(void *p, size_t n, unsigned flags) {
    return is_register_failing ? cudaErrorNotSupported : __real_cudaHostRegister(p, n, flags);
}

static size_t free_bytes(void) {
    size_t now = 0, total = 0;
    check_that(cudaMemGetInfo(&now, &total) == cudaSuccess, "free memory");
    return now;
}

/* Open everything with the k-th allocation failing, the second layer streamed or not; true when it went through. */
static bool open_all(const network *net, int64_t k, bool is_streaming) {
    static const uint8_t parts[] = {PART_BOTH, 0}, streamed[] = {0, PART_BOTH}, fetched[] = {0, PART_FFN};
    const backend_api *api = backend_cuda();
    const backend_config cfg = {.n_threads = 2,
                                .parts = is_streaming ? parts : NULL,
                                .streamed = is_streaming ? streamed : NULL,
                                .fetched = is_streaming ? fetched : NULL,
                                .has_embed = true,
                                .has_head = true};
    const work_limits lim = {.max_rows = 64, .max_out = 16, .n_ctx = 128, .n_pages = 4, .kv = KV_F16};
    backend *b = NULL;
    backend_work *w = NULL;
    galen_error err = {0};
    malloc_countdown = k;
    galen_status st = api->open(&b, net, &cfg, &err);
    if (!st) st = api->work_open(&w, b, &lim, &err);
    malloc_countdown = 0;
    check_that(!st || st == GALEN_E_NOMEM, "allocation %lld fails: status %d, %s", (long long)k, (int)st, err.msg);
    check_that(!st || strlen(err.msg) > 10, "allocation %lld fails: no reason given", (long long)k);
    check_that(st == GALEN_OK ? w != NULL : w == NULL, "allocation %lld fails: half a work", (long long)k);
    if (w) api->work_close(w);
    if (b) api->close(b);
    return st == GALEN_OK;
}

static void refusals(network *net) {
    const backend_api *api = backend_cuda();
    backend_config cfg = {.n_threads = 1, .has_embed = true, .has_head = true};
    backend *b = NULL;
    backend_work *w = NULL;
    galen_error err = {0};
    const tensor_type type = net->layers[1].w_up.type;
    net->layers[1].w_up.type = (tensor_type)4; /* Q4_2, removed from the format */
    check_that(api->open(&b, net, &cfg, &err) == GALEN_E_UNSUPPORTED && !b && strstr(err.msg, "w_up"), "unknown type: %s",
               err.msg);
    net->layers[1].w_up.type = type;
    const int32_t d = net->d_head;
    net->d_head = 512;
    check_that(api->open(&b, net, &cfg, &err) == GALEN_E_UNSUPPORTED && strstr(err.msg, "512"), "long heads: %s", err.msg);
    net->d_head = d;
    if (!check_that(api->open(&b, net, &cfg, &err) == GALEN_OK, "open: %s", err.msg)) return;
    work_limits lim = {.max_rows = 8, .max_out = 8, .n_ctx = 64, .n_pages = INT32_MAX, .kv = KV_F32};
    uint64_t kv, buffers;
    api->work_bytes(net, &cfg, &lim, &kv, &buffers);
    check_that(kv > (uint64_t)1 << 40, "bytes of a huge cache: %llu", (unsigned long long)kv);
    check_that(api->work_open(&w, b, &lim, &err) == GALEN_E_NOMEM && !w, "a huge cache: %s", err.msg);
    lim.max_rows = 0;
    check_that(api->work_open(&w, b, &lim, &err) == GALEN_E_ARG, "no rows: %s", err.msg);
    lim = (work_limits){.max_rows = 2, .max_out = 2, .n_ctx = 64, .n_pages = 1, .kv = KV_F16};
    if (check_that(api->work_open(&w, b, &lim, &err) == GALEN_OK, "work: %s", err.msg)) {
        int32_t token = 1 << 30, pos = 0, seq = 0, page = 0;
        const kv_pages pages = {&page, 1};
        batch bt = {1, &token, &pos, &seq, &pages, 1, 0, NULL};
        check_that(api->embed(w, &bt, &err) == GALEN_E_RANGE, "a token beyond the vocabulary: %s", err.msg);
        token = 1;
        pos = 64;
        check_that(api->embed(w, &bt, &err) == GALEN_E_RANGE, "a position beyond the context: %s", err.msg);
        pos = 0;
        page = 1;
        check_that(api->embed(w, &bt, &err) == GALEN_E_RANGE, "a page that is not there: %s", err.msg);
        page = 0;
        check_that(api->embed(w, &bt, &err) == GALEN_OK && api->sync(w, &err) == GALEN_OK, "after refusals: %s", err.msg);
        api->work_close(w);
    }
    api->close(b);
    api->close(NULL);
    api->work_close(NULL);
}

void test_failures(void) {
    arena mem = {0};
    const net_spec spec = {.n_layer = 2,
                           .n_embd = 64,
                           .n_head = 4,
                           .n_head_kv = 2,
                           .d_head = 16,
                           .n_ff = 96,
                           .n_vocab = 50,
                           .n_rot = 16,
                           .weights = TENSOR_Q8_0,
                           .seed = 5};
    network *net = random_net(&mem, &spec);
    for (int how = 0; how < 3; how++) { /* whole, streamed, streamed through the host */
        is_register_failing = how == 2;
        check_that(open_all(net, 0, how > 0), "opens when nothing fails"); /* and loads what is loaded once */
        const size_t before = free_bytes();
        int64_t k = 1;
        while (k < 100 && !open_all(net, k, how > 0)) k++;
        check_that(k > 5 && k < 100, "%lld allocations failed in turn", (long long)k);
        const size_t after = free_bytes();
        check_that(after >= before, "%zu bytes of device memory lost", before - after);
    }
    is_register_failing = false;
    refusals(net);
    arena_free(&mem);
}
