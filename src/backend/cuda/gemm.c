/* cuBLASLt by dlopen. Row-major y = x W^T is, in its column-major eyes, y^T = W^T' x^T': W transposed, x as it is. */
#include "backend/cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define GEMM_CALLS(X)                                                                                                            \
    X(cublasLtCreate)                                                                                                            \
    X(cublasLtDestroy)                                                                                                           \
    X(cublasLtMatmul)                                                                                                            \
    X(cublasLtMatmulDescCreate)                                                                                                  \
    X(cublasLtMatmulDescDestroy)                                                                                                 \
    X(cublasLtMatmulDescSetAttribute)                                                                                            \
    X(cublasLtMatrixLayoutCreate)                                                                                                \
    X(cublasLtMatrixLayoutDestroy)                                                                                               \
    X(cublasLtMatmulPreferenceCreate)                                                                                            \
    X(cublasLtMatmulPreferenceDestroy)                                                                                           \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                                      \
    X(cublasLtMatmulAlgoGetHeuristic)

enum { MAX_PLANS = 64 };

typedef struct plan_key {
    int32_t type, n_out, n_rows, n_in;
    int64_t w_stride, x_stride, y_stride;
} plan_key;

typedef struct plan {
    plan_key key;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algo;
} plan;

struct gemm {
    void *library;
    cublasLtHandle_t handle;
#define X(name) __typeof__(name) *name;
    GEMM_CALLS(X)
#undef X
    plan plans[MAX_PLANS];
    int n_plans, next;
};

static bool load_calls(gemm *g) {
#define X(sym)                                                                                                                   \
    {                                                                                                                            \
        void *p = dlsym(g->library, #sym);                                                                                       \
        if (!p) return false;                                                                                                    \
        memcpy(&g->sym, &p, sizeof p);                                                                                           \
    }
    GEMM_CALLS(X)
#undef X
    return true;
}

gemm *gemm_open(void) {
    static const char *const names[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"};
    gemm *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    for (size_t i = 0; !g->library && i < sizeof names / sizeof *names; i++) g->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!g->library || !load_calls(g) || g->cublasLtCreate(&g->handle) != CUBLAS_STATUS_SUCCESS) {
        gemm_close(g);
        return NULL;
    }
    return g;
}

static void plan_free(gemm *g, plan *p) {
    if (p->op) (void)g->cublasLtMatmulDescDestroy(p->op);
    if (p->w) (void)g->cublasLtMatrixLayoutDestroy(p->w);
    if (p->x) (void)g->cublasLtMatrixLayoutDestroy(p->x);
    if (p->y) (void)g->cublasLtMatrixLayoutDestroy(p->y);
    *p = (plan){0};
}

void gemm_close(gemm *g) {
    if (!g) return;
    for (int i = 0; i < g->n_plans; i++) plan_free(g, &g->plans[i]);
    if (g->handle) (void)g->cublasLtDestroy(g->handle);
    if (g->library) (void)dlclose(g->library);
    free(g);
}

/* ---------------------------------------------------------------- started early */

struct gemm_start {
    pthread_t thread;
    int device;
    bool is_over;
    pthread_mutex_t lock; /* works of several threads may wait */
    gemm *held;           /* so that the library stays */
};

static void *start(void *user) {
    gemm_start *s = user;
    if (cudaSetDevice(s->device) == cudaSuccess) s->held = gemm_open();
    return NULL;
}

gemm_start *gemm_start_open(int device) {
    gemm_start *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->device = device;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (pthread_create(&s->thread, NULL, start, s) == 0) return s;
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

void gemm_start_wait(gemm_start *s) {
    if (!s) return;
    (void)pthread_mutex_lock(&s->lock);
    if (!s->is_over) (void)pthread_join(s->thread, NULL);
    s->is_over = true;
    (void)pthread_mutex_unlock(&s->lock);
}

void gemm_start_close(gemm_start *s) {
    if (!s) return;
    gemm_start_wait(s);
    gemm_close(s->held);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---------------------------------------------------------------- products */

static bool choose_algo(gemm *g, plan *p, size_t space_bytes) {
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t best;
    int n = 0;
    if (g->cublasLtMatmulPreferenceCreate(&pref) != CUBLAS_STATUS_SUCCESS) return false;
    const bool is_ok = g->cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &space_bytes,
                                                               sizeof space_bytes) == CUBLAS_STATUS_SUCCESS &&
                       g->cublasLtMatmulAlgoGetHeuristic(g->handle, p->op, p->w, p->x, p->y, p->y, pref, 1, &best, &n) ==
                           CUBLAS_STATUS_SUCCESS &&
                       n == 1;
    (void)g->cublasLtMatmulPreferenceDestroy(pref);
    if (is_ok) p->algo = best.algo;
    return is_ok;
}

static bool plan_make(gemm *g, plan *p, const plan_key *k, size_t space_bytes) {
    static const cudaDataType_t types[] = {[GEMM_F16] = CUDA_R_16F, [GEMM_BF16] = CUDA_R_16BF, [GEMM_F32] = CUDA_R_32F};
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cudaDataType_t t = types[k->type];
    p->key = *k;
    return g->cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->w, t, (uint64_t)k->n_in, (uint64_t)k->n_out, k->w_stride) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->x, t, (uint64_t)k->n_in, (uint64_t)k->n_rows, k->x_stride) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->y, CUDA_R_32F, (uint64_t)k->n_out, (uint64_t)k->n_rows, k->y_stride) ==
               CUBLAS_STATUS_SUCCESS &&
           choose_algo(g, p, space_bytes);
}

static plan *plan_of(gemm *g, const plan_key *k, size_t space_bytes) {
    for (int i = 0; i < g->n_plans; i++)
        if (memcmp(&g->plans[i].key, k, sizeof *k) == 0) return &g->plans[i];
    if (g->n_plans < MAX_PLANS) g->n_plans++;
    plan *p = &g->plans[g->next];
    g->next = (g->next + 1) % MAX_PLANS;
    plan_free(g, p);
    if (plan_make(g, p, k, space_bytes)) return p;
    plan_free(g, p);
    return NULL;
}

int gemm_run(gemm *g, void *stream, gemm_type type, const void *w, int64_t w_stride, const void *x, int64_t x_stride, float *y,
             int64_t y_stride, int32_t n_out, int32_t n_rows, int32_t n_in, void *space, size_t space_bytes) {
    const float one = 1, zero = 0;
    plan_key k;
    memset(&k, 0, sizeof k); /* keys are compared as bytes */
    k.type = (int32_t)type;
    k.n_out = n_out;
    k.n_rows = n_rows;
    k.n_in = n_in;
    k.w_stride = w_stride;
    k.x_stride = x_stride;
    k.y_stride = y_stride;
    const plan *p = plan_of(g, &k, space_bytes);
    if (!p) return cudaErrorNotSupported;
    const cublasStatus_t st = g->cublasLtMatmul(g->handle, p->op, &one, w, p->w, x, p->x, &zero, y, p->y, y, p->y, &p->algo,
                                                space, space_bytes, (cudaStream_t)stream);
    return st == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
}
