/* Models split between the CPU and the GPU, with and without streaming, in large batches and in every step, against the CPU
 * alone; and that what is counted before is what is held then, to the byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "model/works.h"
#include "random_net.h"

enum {
    N_LAYER = 4,
    N_CHUNK = 60,
    N_PROMPT = 110,
    N_STEPS = 3, /* of two sequences, then as many of the first alone: the third launches what the second captured */
    N_TWO = N_PROMPT + N_STEPS,
    N_ALL = N_TWO + N_STEPS,
    N_VOCAB = 90,
    MAX_LOGITS = 12 * 2 * N_VOCAB
};

typedef enum how { HOW_NOT, HOW_LARGE, HOW_EVERY_STEP, HOW_EVERY_OTHER, HOW_COPIED, N_HOWS } how;

typedef struct split_case {
    const char *why;
    net_spec spec;
    kv_type kv;
    double bound;
} split_case;

/* A prompt in two batches of two sequences, then single steps, the last ones of one sequence. Returns how many logits. */
static size_t play(const devices *d, const work_limits *lim, float *logits, const char *why) {
    galen_error err = {0};
    works *w = NULL;
    int32_t token[2 * N_CHUNK], pos[2 * N_CHUNK], seq[2 * N_CHUNK], out_row[2], pages[2][2] = {{2, 0}, {1, 3}};
    const kv_pages seqs[2] = {{pages[0], 2}, {pages[1], 2}};
    size_t n_logits = 0;
    if (!check_that(works_open(&w, d, lim, &err) == GALEN_OK, "%s: %s", why, err.msg)) return 0;
    for (int32_t past = 0, n; past < N_ALL; past += n) {
        const int32_t n_seqs = past < N_TWO ? 2 : 1;
        int32_t rows = 0;
        n = past >= N_PROMPT ? 1 : N_PROMPT - past < N_CHUNK ? N_PROMPT - past : N_CHUNK;
        for (int32_t s = 0; s < n_seqs; s++)
            for (int32_t i = 0; i < n; i++, rows++) {
                token[rows] = (int32_t)(rng_at(9, (uint64_t)s, (uint64_t)(past + i)).v[0] % N_VOCAB);
                pos[rows] = past + i;
                seq[rows] = s;
            }
        out_row[0] = n - 1;
        out_row[1] = 2 * n - 1;
        const batch b = {rows, token, pos, seq, seqs, n_seqs, n_seqs, out_row};
        if (!check_that(works_forward(w, &b, logits + n_logits, &err) == GALEN_OK, "%s: %s", why, err.msg)) break;
        n_logits += (size_t)n_seqs * N_VOCAB;
    }
    works_close(w);
    return n_logits;
}

/* The weights in pages of their own, as a file's are: registering them must not touch what the test itself copies. */
static void *to_pages(network *net, size_t *n) {
    enum { ALIGN = 32 }; /* as a GGUF file's, so that tensors share pages */
    tensor *all[N_LAYER * N_LAYER_TENSORS + 3];
    size_t n_all = 0, at = 0;
    for (int32_t i = 0; i < net->n_layer; i++)
        for (size_t j = 0; j < N_LAYER_TENSORS; j++)
            all[n_all++] = (tensor *)(uintptr_t)layer_tensor_of(&net->layers[i], &layer_tensors[j]);
    all[n_all++] = &net->embd;
    all[n_all++] = &net->out_norm;
    all[n_all++] = &net->head;
    *n = 0;
    for (size_t i = 0; i < n_all; i++) *n += all[i]->data ? all[i]->row_bytes * (size_t)all[i]->n_out + ALIGN : 0;
    char *p = mmap(NULL, *n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    for (size_t i = 0; i < n_all; i++) {
        if (!all[i]->data) continue;
        const size_t bytes = all[i]->row_bytes * (size_t)all[i]->n_out;
        memcpy(p + at, all[i]->data, bytes);
        all[i]->data = p + at;
        at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return p;
}

static size_t free_bytes(void) {
    size_t now = 0, total = 0;
    check_that(cudaMemGetInfo(&now, &total) == cudaSuccess, "free memory");
    return now;
}

/* bits: the parts of layer i are bits 2i and 2i + 1, the head is the bit behind. */
static void one_split(const network *net, const split_case *c, int bits, how h, const work_limits *lim, const float *want,
                      size_t n_want) {
    static const char *const names[N_HOWS] = {"", ", streamed", ", fetched in every step", ", every other fetched",
                                              ", fetched through the host"};
    static float got[MAX_LOGITS];
    uint8_t device[N_LAYER], host[N_LAYER], fetched[N_LAYER];
    const bool is_streaming = h != HOW_NOT;
    int n_ffn = 0;
    char why[128];
    galen_error err = {0};
    backend *hb = NULL, *db = NULL;
    backend_work *w = NULL;
    const bool has_head = bits >> (2 * N_LAYER);
    uint64_t weights, loading, kv, buffers;
    for (int i = 0; i < N_LAYER; i++) {
        device[i] = (uint8_t)(bits >> (2 * i) & PART_BOTH);
        host[i] = PART_BOTH & ~device[i];
        fetched[i] = host[i] & PART_FFN && (h != HOW_EVERY_OTHER || n_ffn++ % 2 == 0) ? PART_FFN : 0;
    }
    is_register_failing = h == HOW_COPIED;
    snprintf(why, sizeof why, "%s, split %03x%s", c->why, (unsigned)bits, names[h]);
    const backend_config hc = {.n_threads = 2, .parts = host, .has_embed = true, .has_head = !has_head};
    backend_config dc = {.n_threads = 2,
                         .parts = device,
                         .streamed = is_streaming ? host : NULL,
                         .fetched = h >= HOW_EVERY_STEP ? fetched : NULL,
                         .has_embed = true,
                         .has_head = has_head};
    const backend_api *gpu = backend_cuda(), *cpu = backend_cpu();
    gpu->weight_bytes(net, &dc, &weights, &loading);
    gpu->work_bytes(net, &dc, lim, &kv, &buffers);
    /* the limit is what is counted: it opens; a byte less does not */
    const uint64_t load = weights + loading, run = weights + kv + buffers;
    dc.memory_limit = load > run ? load : run;
    galen_status st = gpu->open(&db, net, &dc, &err);
    if (!st) st = cpu->open(&hb, net, &hc, &err);
    if (check_that(!st, "%s: %s", why, err.msg)) {
        check_that(gpu->memory_held(db) == weights, "%s: weights %llu, counted %llu", why,
                   (unsigned long long)gpu->memory_held(db), (unsigned long long)weights);
        if (check_that(gpu->work_open(&w, db, lim, &err) == GALEN_OK, "%s: within the counted bytes: %s", why, err.msg))
            check_that(gpu->memory_held(db) == run, "%s: in all %llu, counted %llu", why,
                       (unsigned long long)gpu->memory_held(db), (unsigned long long)run);
        gpu->work_close(w);
        const devices d = {
            .net = net,
            .n = 2,
            .stream_rows = is_streaming ? STREAM_MIN_ROWS : 0,
            .at = {{cpu, hb, host, NULL, NULL, true, !has_head}, {gpu, db, device, dc.streamed, dc.fetched, true, has_head}}};
        memset(got, 0xff, sizeof got);
        const size_t n = play(&d, lim, got, why);
        if (check_that(n == n_want, "%s: %zu logits of %zu", why, n, n_want))
            check_bound(h >= HOW_EVERY_STEP ? "splits with fetching"
                        : is_streaming      ? "splits with streaming"
                                            : "splits",
                        random_net_nmse(got, want, n), c->bound, "%s", why);
    }
    if (db) gpu->close(db);
    if (hb) cpu->close(hb);
    db = NULL;
    dc.memory_limit -= 1;
    st = gpu->open(&db, net, &dc, &err);
    if (!st) st = gpu->work_open(&w, db, lim, &err);
    check_that(st == GALEN_E_NOMEM, "%s: a byte less than counted: status %d", why, (int)st);
    if (db) gpu->close(db);
    is_register_failing = false;
}

void test_splits(void) {
    static const split_case cases[] = {
        {"f32", {0}, KV_F32, 1e-8},
        {"KV f16, window", {.window = 50, .has_qk_norm = true}, KV_F16, 1e-6},
        {"q8_0, biases", {.weights = TENSOR_Q8_0, .has_bias = true}, KV_F16, 2e-3},
        {"q6_k, post-norms, KV q8_0", {.weights = TENSOR_Q6_K, .has_post_norm = true}, KV_Q8_0, 2e-3},
    };
    const int whole = (1 << (2 * N_LAYER + 1)) - 1;
    const int named[] = {0, whole, whole & ~3, 0x155, 0x0aa, 0x1f0, 0x00f, 0x100};
    enum { N_NAMED = sizeof named / sizeof *named, N_FRESH = 4 };
    const size_t before = free_bytes();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static float want[MAX_LOGITS];
        arena mem = {0};
        galen_error err;
        backend *b = NULL;
        net_spec s = cases[i].spec;
        s.n_layer = N_LAYER;
        s.n_embd = 256;
        s.n_head = 4;
        s.n_head_kv = 2;
        s.d_head = 64;
        s.n_rot = 64;
        s.n_ff = 512;
        s.n_vocab = N_VOCAB;
        s.seed = (uint64_t)(1e9 * (1 + fresh()));
        network *net = random_net(&mem, &s);
        size_t n_pages;
        void *pages = to_pages(net, &n_pages);
        if (!check_that(pages != NULL, "pages")) return;
        const backend_config cfg = {.n_threads = 2, .has_embed = true, .has_head = true};
        const work_limits lim = {.max_rows = 2 * N_CHUNK, .max_out = 2, .n_ctx = 128, .n_pages = 4, .kv = cases[i].kv};
        if (!check_that(backend_cpu()->open(&b, net, &cfg, &err) == GALEN_OK, "cpu")) return;
        const devices one = devices_of_one(net, backend_cpu(), b);
        const size_t n = play(&one, &lim, want, "the CPU alone");
        for (int k = 0; k < N_NAMED + N_FRESH; k++) {
            const int bits = k < N_NAMED ? named[k] : (int)((1 + fresh()) * whole / 2) & whole;
            const int n_hows = k < N_NAMED ? HOW_COPIED : N_HOWS;
            for (int h = 0; h < n_hows; h++) one_split(net, &cases[i], bits, (how)h, &lim, want, n);
        }
        backend_cpu()->close(b);
        (void)munmap(pages, n_pages);
        arena_free(&mem);
    }
    const size_t after = free_bytes();
    check_that(after + (8 << 20) >= before, "%zu bytes of device memory lost", before - after); /* kernels loaded meanwhile */
}
