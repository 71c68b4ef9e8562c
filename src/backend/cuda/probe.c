/* How fast the device reads its own memory and takes the host's: what the memory plan reckons with. */
#include <string.h>
#include <time.h>

#include "backend/cuda/impl.h"

enum { READ_BYTES = 256 << 20, UPLOAD_BYTES = 64 << 20, HOP_BYTES = 16 << 10, REPEATS = 4, HOPS = 64 };

typedef struct probe {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    char *device, *host;
} probe;

static int timed(const probe *p, double *seconds) {
    float ms = 0;
    int e = cudaEventRecord(p->end, p->stream);
    if (!e) e = cudaEventSynchronize(p->end);
    if (!e) e = cudaEventElapsedTime(&ms, p->begin, p->end);
    *seconds = (double)ms / 1e3;
    return e;
}

/* A copy inside the device reads and writes: its traffic is twice its size. */
static int measure_read(const probe *p, double *rate) {
    double s = 0;
    int e = cudaMemcpyAsync(p->device, p->device + READ_BYTES / 2, READ_BYTES / 2, cudaMemcpyDeviceToDevice, p->stream);
    if (!e) e = cudaEventRecord(p->begin, p->stream);
    for (int i = 0; !e && i < REPEATS; i++)
        e = cudaMemcpyAsync(p->device, p->device + READ_BYTES / 2, READ_BYTES / 2, cudaMemcpyDeviceToDevice, p->stream);
    if (!e) e = timed(p, &s);
    if (!e && s > 0) *rate = (double)READ_BYTES * REPEATS / s;
    return e;
}

static int measure_upload(const probe *p, double *rate) {
    double s = 0;
    int e = cudaMemcpyAsync(p->device, p->host, UPLOAD_BYTES, cudaMemcpyHostToDevice, p->stream);
    if (!e) e = cudaEventRecord(p->begin, p->stream);
    for (int i = 0; !e && i < REPEATS; i++)
        e = cudaMemcpyAsync(p->device, p->host, UPLOAD_BYTES, cudaMemcpyHostToDevice, p->stream);
    if (!e) e = timed(p, &s);
    if (!e && s > 0) *rate = (double)UPLOAD_BYTES * REPEATS / s;
    return e;
}

static double now_s(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A row of hidden states there and back, the host waiting each time. */
static int measure_hop(const probe *p, double *seconds) {
    int e = cudaStreamSynchronize(p->stream);
    const double start = now_s();
    for (int i = 0; !e && i < HOPS; i++) {
        e = cudaMemcpyAsync(p->device, p->host, HOP_BYTES, cudaMemcpyHostToDevice, p->stream);
        if (!e) e = cudaMemcpyAsync(p->host, p->device, HOP_BYTES, cudaMemcpyDeviceToHost, p->stream);
        if (!e) e = cudaStreamSynchronize(p->stream);
    }
    *seconds = (now_s() - start) / HOPS;
    return e;
}

static int probe_open(probe *p, size_t device_bytes) {
    int e = cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking);
    if (!e) e = cudaEventCreate(&p->begin);
    if (!e) e = cudaEventCreate(&p->end);
    if (!e) e = cudaMalloc((void **)&p->device, device_bytes);
    if (!e) e = cudaHostAlloc((void **)&p->host, UPLOAD_BYTES, cudaHostAllocDefault);
    return e;
}

static void probe_close(probe *p) {
    if (p->host) (void)cudaFreeHost(p->host);
    if (p->device) (void)cudaFree(p->device);
    if (p->end) (void)cudaEventDestroy(p->end);
    if (p->begin) (void)cudaEventDestroy(p->begin);
    if (p->stream) (void)cudaStreamDestroy(p->stream);
}

galen_status cuda_probe(int32_t index, device_speed *out, galen_error *err) {
    probe p = {0};
    memset(out, 0, sizeof *out);
    const galen_status st = cuda_find_device(index, NULL, err);
    if (st) return st;
    int e = probe_open(&p, READ_BYTES);
    if (!e) e = measure_read(&p, &out->read);
    if (!e) e = measure_upload(&p, &out->upload);
    if (!e) e = measure_hop(&p, &out->hop_s);
    int can_pull = 0;
    if (!e) e = cudaDeviceGetAttribute(&can_pull, cudaDevAttrHostRegisterReadOnlySupported, index);
    out->can_pull = can_pull != 0;
    probe_close(&p);
    if (!e) return GALEN_OK;
    memset(out, 0, sizeof *out);
    return cuda_fail(err, e, "measuring the device's speed");
}

galen_status cuda_probe_upload(int32_t index, double seconds, double *rate, galen_error *err) {
    probe p = {0};
    *rate = 0;
    const galen_status st = cuda_find_device(index, NULL, err);
    if (st) return st;
    int e = probe_open(&p, UPLOAD_BYTES), n = 0;
    const double start = now_s();
    double passed = 0;
    for (; !e && passed < seconds; n++) {
        e = cudaMemcpyAsync(p.device, p.host, UPLOAD_BYTES, cudaMemcpyHostToDevice, p.stream);
        if (!e) e = cudaStreamSynchronize(p.stream);
        passed = now_s() - start;
    }
    probe_close(&p);
    if (e) return cuda_fail(err, e, "measuring the device's speed");
    if (passed > 0) *rate = (double)UPLOAD_BYTES * n / passed;
    return GALEN_OK;
}
