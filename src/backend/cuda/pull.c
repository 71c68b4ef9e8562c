/* Weights of the host's that the device takes out of the mapped file by itself: the pages of streamed parts are registered with
 * the driver, so that its copy engine reads them while the processor does something else. Raw rows come into two small slots on
 * the device in turn; while one is filled the other is repacked. */
#include <stdlib.h>
#include <unistd.h>

#include "backend/cuda/mover.h"

/* ---------------------------------------------------------------- registering */

typedef struct pin {
    uintptr_t begin, end; /* whole pages */
} pin;

struct pins {
    pin *at;
    int32_t n;
};

static int by_begin(const void *pa, const void *pb) {
    const pin *a = pa, *b = pb;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

/* The pages of every streamed tensor, in order, what touches joined. */
static int32_t gather(const backend *b, pin *to) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    int32_t n = 0, joined = 0;
    for (int32_t i = 0; i < b->net->n_layer; i++)
        for (size_t j = 0; j < N_LAYER_TENSORS; j++) {
            const tensor *t = layer_tensor_of(&b->net->layers[i], &layer_tensors[j]);
            if (!t->data || !(layer_tensors[j].part & b->streamed[i])) continue;
            const uintptr_t begin = (uintptr_t)t->data, end = begin + t->row_bytes * (size_t)t->n_out;
            to[n++] = (pin){begin / page * page, (end + page - 1) / page * page};
        }
    qsort(to, (size_t)n, sizeof *to, by_begin);
    for (int32_t i = 0; i < n; i++) {
        pin *const last = joined ? &to[joined - 1] : NULL;
        if (last && to[i].begin <= last->end) {
            if (to[i].end > last->end) last->end = to[i].end;
        } else {
            to[joined++] = to[i];
        }
    }
    return joined;
}

static bool register_all(pins *p, unsigned flags) {
    for (int32_t i = 0; i < p->n; i++) {
        if (cudaHostRegister((void *)p->at[i].begin, p->at[i].end - p->at[i].begin, flags) == cudaSuccess) continue;
        (void)cudaGetLastError();
        while (--i >= 0) (void)cudaHostUnregister((void *)p->at[i].begin);
        return false;
    }
    return true;
}

void pins_open(pins **out, const backend *b) {
    bool has_streamed = false;
    *out = NULL;
    for (int32_t i = 0; i < b->net->n_layer; i++) has_streamed = has_streamed || b->streamed[i];
    if (!has_streamed) return;
    pins *p = calloc(1, sizeof *p);
    if (p) p->at = calloc((size_t)b->net->n_layer * N_LAYER_TENSORS, sizeof *p->at);
    if (p && p->at) {
        p->n = gather(b, p->at);
        if (register_all(p, cudaHostRegisterReadOnly) || register_all(p, cudaHostRegisterDefault)) {
            *out = p;
            return;
        }
        p->n = 0;
    }
    pins_close(p);
}

void pins_close(pins *p) {
    if (!p) return;
    for (int32_t i = 0; i < p->n; i++) (void)cudaHostUnregister((void *)p->at[i].begin);
    free(p->at);
    free(p);
}

/* ---------------------------------------------------------------- pulling */

galen_status pull_open(puller *u, galen_error *err) {
    int e = cudaStreamCreateWithFlags(&u->copies, cudaStreamNonBlocking);
    if (!e) e = cudaEventCreateWithFlags(&u->begun, cudaEventDisableTiming);
    for (int i = 0; !e && i < N_SLOTS; i++) {
        e = cudaEventCreateWithFlags(&u->filled[i], cudaEventDisableTiming);
        if (!e) e = cudaEventCreateWithFlags(&u->emptied[i], cudaEventDisableTiming);
    }
    return e ? cuda_fail(err, e, "streaming") : GALEN_OK;
}

void pull_close(puller *u) {
    if (u->copies) (void)cudaStreamSynchronize(u->copies);
    for (int i = 0; i < N_SLOTS; i++) {
        if (u->filled[i]) (void)cudaEventDestroy(u->filled[i]);
        if (u->emptied[i]) (void)cudaEventDestroy(u->emptied[i]);
    }
    if (u->begun) (void)cudaEventDestroy(u->begun);
    if (u->copies) (void)cudaStreamDestroy(u->copies);
    *u = (puller){0};
}

/* Only events of this part are waited for, so that all of it may be captured. */
galen_status pull_begin(mover *v, galen_error *err) {
    v->pull->n_pieces = 0;
    int e = cudaEventRecord(v->pull->begun, v->stream);
    if (!e) e = cudaStreamWaitEvent(v->pull->copies, v->pull->begun, 0);
    return e ? cuda_fail(err, e, "streaming a layer") : GALEN_OK;
}

galen_status pull_matrix(mover *v, const tensor *from, const dev_matrix *to, galen_error *err) {
    puller *u = v->pull;
    const int64_t most = (int64_t)(v->piece / from->row_bytes);
    for (int64_t row = 0, n; row < from->n_out; row += n, u->n_pieces++) {
        const int s = u->n_pieces % N_SLOTS;
        n = from->n_out - row < most ? from->n_out - row : most;
        int e = u->n_pieces >= N_SLOTS ? cudaStreamWaitEvent(u->copies, u->emptied[s], 0) : cudaSuccess;
        if (!e)
            e = cudaMemcpyAsync(v->device[s], tensor_row(from, row), (size_t)n * from->row_bytes, cudaMemcpyHostToDevice,
                                u->copies);
        if (!e) e = cudaEventRecord(u->filled[s], u->copies);
        if (!e) e = cudaStreamWaitEvent(v->stream, u->filled[s], 0);
        if (!e) e = cuda_repack(&v->queue, to, v->device[s], (int64_t)from->row_bytes, row, (int32_t)n);
        if (!e) e = cudaEventRecord(u->emptied[s], v->stream);
        if (e) return cuda_fail(err, e, from->name);
    }
    return GALEN_OK;
}
