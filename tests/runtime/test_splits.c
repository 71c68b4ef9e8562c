/* Every way to split a small model between the CPU and a (fake) GPU gives the bytes of the unsplit one, whether or not large
 * batches are streamed, or feed-forwards in every step; no device is asked for what is not its own; what is planned is what is
 * taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "backend/plugin.h"
#include "fake.h"
#include "model/works.h"
#include "random_net.h"

enum { N_LAYER = 3, N_PROMPT = 75, N_CHUNK = 40, N_STEPS = 3, N_ALL = N_PROMPT + N_STEPS, N_VOCAB = 70, N_THREADS = 2 };

static plugin *library;
static const backend_plugin *gpu;
static fake_device_state *fake;

static int load_fake(void **state) {
    char dir[512];
    galen_error err;
    (void)state;
    Dl_info here;
    assert_true(dladdr((void *)(uintptr_t)&load_fake, &here));
    (void)snprintf(dir, sizeof dir, "%.*s/../fake", (int)(strrchr(here.dli_fname, '/') - here.dli_fname), here.dli_fname);
    if (plugin_open(&library, "cuda", dir, &err)) fail_msg("%s", err.msg);
    gpu = plugin_get(library);
    void *self = dlopen(NULL, RTLD_NOW);
    (void)snprintf(dir + strlen(dir), sizeof dir - strlen(dir), "/libgalen-cuda.so");
    void *again = dlopen(dir, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(again);
    fake = dlsym(again, "fake_device");
    assert_non_null(fake);
    (void)dlclose(again);
    (void)dlclose(self);
    return 0;
}

static int unload_fake(void **state) {
    (void)state;
    plugin_close(library);
    return 0;
}

/* The parts as bits: layer i's are bits 2i and 2i + 1; the head is the bit behind. */
typedef struct split {
    uint8_t device[N_LAYER], host[N_LAYER], streamed[N_LAYER], fetched[N_LAYER];
    bool has_head;
    backend *host_b, *device_b;
    devices d;
} split;

typedef enum how { HOW_NOT, HOW_ALL, HOW_FFN, HOW_EVERY_STEP, HOW_EVERY_OTHER, N_HOWS } how;

static void split_open(split *s, const network *net, int bits, how h) {
    galen_error err;
    const bool is_streaming = h != HOW_NOT;
    int32_t n = 0;
    *s = (split){.has_head = bits >> (2 * N_LAYER)};
    for (int i = 0; i < N_LAYER; i++) {
        s->device[i] = (uint8_t)(bits >> (2 * i) & PART_BOTH);
        s->host[i] = PART_BOTH & ~s->device[i];
        s->streamed[i] = h == HOW_FFN ? s->host[i] & PART_FFN : is_streaming ? s->host[i] : 0;
        if (s->host[i] & PART_FFN && (h == HOW_EVERY_STEP || (h == HOW_EVERY_OTHER && n++ % 2 == 0))) s->fetched[i] = PART_FFN;
    }
    backend_config hc = {.n_threads = N_THREADS, .parts = s->host, .has_embed = true, .has_head = !s->has_head};
    backend_config dc = {.n_threads = N_THREADS,
                         .parts = s->device,
                         .streamed = is_streaming ? s->streamed : NULL,
                         .fetched = h >= HOW_EVERY_STEP ? s->fetched : NULL,
                         .stream_rows = h == HOW_EVERY_STEP ? 1 << 20 : STREAM_MIN_ROWS,
                         .has_embed = true,
                         .has_head = s->has_head};
    if (backend_cpu()->open(&s->host_b, net, &hc, &err)) fail_msg("%s", err.msg);
    if (gpu->api->open(&s->device_b, net, &dc, &err)) fail_msg("%s", err.msg);
    s->d = (devices){.net = net,
                     .n = 2,
                     .stream_rows = is_streaming ? dc.stream_rows : 0,
                     .at = {{backend_cpu(), s->host_b, s->host, NULL, NULL, true, !s->has_head},
                            {gpu->api, s->device_b, s->device, dc.streamed, dc.fetched, true, s->has_head}}};
}

static void split_close(split *s) {
    gpu->api->close(s->device_b);
    backend_cpu()->close(s->host_b);
}

/* A prompt in two batches, then single steps, of two sequences at once: the second runs ten tokens behind. */
static void run(const devices *d, const work_limits *lim, float *logits) {
    galen_error err;
    works *w;
    int32_t token[2 * N_CHUNK], pos[2 * N_CHUNK], seq[2 * N_CHUNK], out_row[2 * N_CHUNK], pages[2][2] = {{2, 0}, {1, 3}};
    const kv_pages seqs[2] = {{pages[0], 2}, {pages[1], 2}};
    if (works_open(&w, d, lim, &err)) fail_msg("%s", err.msg);
    for (int32_t past = 0; past < N_ALL;) {
        const int32_t n = past >= N_PROMPT ? 1 : N_PROMPT - past < N_CHUNK ? N_PROMPT - past : N_CHUNK;
        int32_t rows = 0;
        for (int32_t s = 0; s < 2; s++)
            for (int32_t i = 0; i < n; i++, rows++) {
                token[rows] = (int32_t)(rng_at(9, (uint64_t)s, (uint64_t)(past + i)).v[0] % N_VOCAB);
                pos[rows] = past + i;
                seq[rows] = s;
            }
        out_row[0] = n - 1;
        out_row[1] = 2 * n - 1;
        const batch b = {rows, token, pos, seq, seqs, 2, 2, out_row};
        if (works_forward(w, &b, logits, &err)) fail_msg("%s", err.msg);
        logits += 2 * N_VOCAB;
        past += n;
    }
    works_close(w);
}

static net_spec spec_of(tensor_type type, bool is_gemma) {
    return (net_spec){.n_layer = N_LAYER,
                      .n_embd = 64,
                      .n_head = 4,
                      .n_head_kv = 2,
                      .d_head = 32,
                      .n_ff = 96,
                      .n_vocab = N_VOCAB,
                      .n_rot = 32,
                      .weights = type,
                      .seed = 3,
                      .has_qk_norm = is_gemma,
                      .has_post_norm = is_gemma,
                      .window = is_gemma ? 30 : 0};
}

enum { N_LOGITS = (2 + N_STEPS) * 2 * N_VOCAB };

static void same_bytes(kv_type kv, bool is_gemma) {
    static float want[N_LOGITS], got[N_LOGITS];
    arena mem = {0};
    const net_spec spec = spec_of(TENSOR_Q8_0, is_gemma);
    network *net = random_net(&mem, &spec);
    const backend_config whole = {.n_threads = N_THREADS, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = 2 * N_CHUNK, .max_out = 2, .n_ctx = 128, .n_pages = 4, .kv = kv};
    backend *b;
    galen_error err;
    assert_int_equal(backend_cpu()->open(&b, net, &whole, &err), GALEN_OK);
    const devices one = devices_of_one(net, backend_cpu(), b);
    run(&one, &lim, want);
    for (int bits = 0; bits < 1 << (2 * N_LAYER + 1); bits++) {
        for (int h = 0; h < N_HOWS; h++) {
            split s;
            split_open(&s, net, bits, (how)h);
            fake->n_streamed = fake->n_fetched = 0;
            memset(got, 0xff, sizeof got);
            run(&s.d, &lim, got);
            split_close(&s);
            if (memcmp(want, got, sizeof want) != 0)
                fail_msg("split %02x, streaming %d, KV %s: other bytes", bits, h, kv_type_name(kv));
            const int whole_bits = (1 << 2 * N_LAYER) - 1;
            int n_ffn = 0; /* on the host */
            for (int i = 0; i < N_LAYER; i++) n_ffn += (s.host[i] & PART_FFN) != 0;
            if (h == HOW_ALL) assert_int_equal(fake->n_streamed > 0, (bits & whole_bits) != whole_bits);
            const int n_fetched = h == HOW_EVERY_STEP ? n_ffn : h == HOW_EVERY_OTHER ? (n_ffn + 1) / 2 : 0;
            assert_int_equal(fake->n_fetched, 2 * n_fetched * (h == HOW_EVERY_STEP ? 2 + N_STEPS : N_STEPS));
            assert_int_equal(fake->held, 0);
        }
    }
    backend_cpu()->close(b);
    arena_free(&mem);
}

static void every_split_f16(void **state) {
    (void)state;
    same_bytes(KV_F16, false);
}

static void every_split_of_gemma_q8_0(void **state) {
    (void)state;
    same_bytes(KV_Q8_0, true);
}

/* KV rows out of the cache and in again: the same bytes. */
static void kv_rows_come_back(void **state) {
    (void)state;
    enum { N = 100, WIDTH = 2 * 24 };
    static float k[N * WIDTH], v[N * WIDTH], k2[N * WIDTH], v2[N * WIDTH], k3[N * WIDTH], v3[N * WIDTH];
    for (int kv = 0; kv < N_KV_TYPES; kv++) {
        arena mem = {0};
        net_spec spec = spec_of(TENSOR_F32, false);
        spec.d_head = 24; /* neither a multiple of 16 nor of 32 */
        spec.n_rot = 24;
        network *net = random_net(&mem, &spec);
        const uint8_t parts[N_LAYER] = {0, PART_ATTN, PART_FFN};
        const backend_config cfg = {.n_threads = 2, .parts = parts};
        const work_limits lim = {.max_rows = 8, .max_out = 1, .n_ctx = 128, .n_pages = 3, .kv = (kv_type)kv};
        const int32_t pages[] = {2, 1};
        const kv_pages seq = {pages, 2};
        const backend_api *cpu = backend_cpu();
        backend *b;
        backend_work *w;
        galen_error err;
        for (int i = 0; i < N * WIDTH; i++) {
            k[i] = (float)random_net_normal(1, 1, (uint64_t)i);
            v[i] = (float)random_net_normal(1, 2, (uint64_t)i);
        }
        assert_int_equal(cpu->open(&b, net, &cfg, &err), GALEN_OK);
        assert_int_equal(cpu->work_open(&w, b, &lim, &err), GALEN_OK);
        assert_int_equal(cpu->set_kv(w, 1, &seq, 20, N, k, v, &err), GALEN_OK);
        assert_int_equal(cpu->get_kv(w, 1, &seq, 20, N, k2, v2, &err), GALEN_OK);
        static const double bound[N_KV_TYPES] = {[KV_F16] = 1e-7, [KV_F32] = 0, [KV_Q8_0] = 1e-4};
        assert_true(random_net_nmse(k2, k, N * WIDTH) <= bound[kv] && random_net_nmse(v2, v, N * WIDTH) <= bound[kv]);
        assert_int_equal(cpu->set_kv(w, 1, &seq, 20, N, k2, v2, &err), GALEN_OK);
        assert_int_equal(cpu->get_kv(w, 1, &seq, 20, N, k3, v3, &err), GALEN_OK);
        assert_memory_equal(k2, k3, sizeof k2);
        assert_memory_equal(v2, v3, sizeof v2);
        cpu->work_close(w);
        cpu->close(b);
        arena_free(&mem);
    }
}

/* Parts add up: what is counted for a split is what the parts count alone, and only the KV of the attention here. */
static void bytes_add_up(void **state) {
    (void)state;
    arena mem = {0};
    const net_spec spec = spec_of(TENSOR_Q8_0, true);
    network *net = random_net(&mem, &spec);
    const work_limits lim = {.max_rows = 8, .max_out = 1, .n_ctx = 128, .n_pages = 3, .kv = KV_F16};
    uint64_t whole, sum = 0, loading, kv_whole, buffers, n;
    backend_config cfg = {.n_threads = 1, .has_head = true};
    const backend_api *cpu = backend_cpu();
    cpu->weight_bytes(net, &cfg, &whole, &loading);
    cpu->work_bytes(net, &cfg, &lim, &kv_whole, &buffers);
    for (int i = 0; i < 2 * N_LAYER; i++) {
        uint8_t parts[N_LAYER] = {0};
        parts[i / 2] = i % 2 ? PART_FFN : PART_ATTN;
        cfg = (backend_config){.n_threads = 1, .parts = parts};
        cpu->weight_bytes(net, &cfg, &n, &loading);
        sum += n;
        cpu->work_bytes(net, &cfg, &lim, &n, &buffers);
        assert_int_equal(n, i % 2 ? 0 : kv_whole / N_LAYER);
    }
    const uint8_t none[N_LAYER] = {0};
    cfg = (backend_config){.n_threads = 1, .parts = none, .has_head = true};
    cpu->weight_bytes(net, &cfg, &n, &loading);
    assert_int_equal(sum + n, whole);
    arena_free(&mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kv_rows_come_back), cmocka_unit_test(bytes_add_up),
                                       cmocka_unit_test(every_split_f16), cmocka_unit_test(every_split_of_gemma_q8_0)};
    return cmocka_run_group_tests(tests, load_fake, unload_fake);
}
