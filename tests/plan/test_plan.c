/* The memory plan: bytes against a count by hand, fits and never spills, and is never slower than what a user could ask for. The
 * cpu backend counts for both sides, so nothing here depends on a plugin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "plan/plan.h"
#include "tensor/tensor.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

enum { N_LAYER = 32, N_EMBD = 4096, N_FF = 14336, N_KV = 1024, N_VOCAB = 128256, N_CTX = 4096 };

/* Llama 3.1 8B in Q8_0, by hand: 34 bytes for 32 weights. */
static const uint64_t attn_bytes = (uint64_t)(2 * N_EMBD + 2 * N_KV) * N_EMBD / 32 * 34 + N_EMBD * 4;
static const uint64_t ffn_bytes = (uint64_t)3 * N_FF * N_EMBD / 32 * 34 + N_EMBD * 4;
static const uint64_t head_bytes = (uint64_t)N_VOCAB * N_EMBD / 32 * 34 + N_EMBD * 4;
static const uint64_t embd_bytes = (uint64_t)N_VOCAB * N_EMBD / 32 * 34;
static const uint64_t kv_layer = (uint64_t)N_CTX * N_KV * 2 * 2;

static network_layer layers[N_LAYER];
static char weights; /* an address: no weight is ever read */

static tensor matrix(tensor_type type, int64_t n_in, int64_t n_out) {
    return (tensor){
        .name = "w", .data = &weights, .type = type, .n_in = n_in, .n_out = n_out, .row_bytes = tensor_row_bytes(type, n_in)};
}

static network net_of(tensor_type type) {
    network n = {.n_layer = N_LAYER,
                 .n_embd = N_EMBD,
                 .n_head = 32,
                 .n_head_kv = 8,
                 .d_head = 128,
                 .n_ff = N_FF,
                 .n_vocab = N_VOCAB,
                 .n_ctx_train = 131072,
                 .n_rot = 128,
                 .n_ctx_orig = 131072,
                 .layers = layers};
    n.embd = matrix(type, N_EMBD, N_VOCAB);
    n.head = matrix(type, N_EMBD, N_VOCAB);
    n.head.data = layers; /* not tied */
    n.out_norm = matrix(TENSOR_F32, N_EMBD, 1);
    for (int i = 0; i < N_LAYER; i++)
        layers[i] = (network_layer){.attn_norm = matrix(TENSOR_F32, N_EMBD, 1),
                                    .wq = matrix(type, N_EMBD, N_EMBD),
                                    .wk = matrix(type, N_EMBD, N_KV),
                                    .wv = matrix(type, N_EMBD, N_KV),
                                    .wo = matrix(type, N_EMBD, N_EMBD),
                                    .ffn_norm = matrix(TENSOR_F32, N_EMBD, 1),
                                    .w_gate = matrix(type, N_EMBD, N_FF),
                                    .w_up = matrix(type, N_EMBD, N_FF),
                                    .w_down = matrix(type, N_FF, N_EMBD)};
    return n;
}

/* A device that counts as the cpu backend does, without embeddings, and offers no streaming. */
static void device_weight_bytes(const network *net, const backend_config *cfg, uint64_t *n, uint64_t *loading) {
    backend_config c = *cfg;
    c.has_embed = false;
    backend_cpu()->weight_bytes(net, &c, n, loading);
    *loading = 64 * MIB;
}

static backend_api device_of(void) {
    return (backend_api){.name = "cuda", .weight_bytes = device_weight_bytes, .work_bytes = backend_cpu()->work_bytes};
}

/* 16 cores reading 86 GB/s beside an H100, as the design page measured llama.cpp there. */
static plan_request request_of(const network *net, const backend_api *device, uint64_t device_free) {
    plan_request r = {.net = net,
                      .host = backend_cpu(),
                      .device = device,
                      .n_threads = 16,
                      .limits = {.max_rows = 512, .max_out = 512, .n_ctx = N_CTX, .n_pages = N_CTX / KV_PAGE, .kv = KV_F16},
                      .gpu_layers = PLAN_AUTO,
                      .device_free = device_free,
                      .margin = PLAN_MARGIN,
                      .host_free = 64 * GIB};
    r.speeds = plan_typical_host(16);
    r.speeds.host_read = 86e9;
    plan_fill_device(&r.speeds, 3e12, 50e9, 20e-6);
    return r;
}

static plan *make(const plan_request *r) {
    plan *p;
    galen_error err = {0};
    if (plan_make(&p, r, &err)) fail_msg("%s", err.msg);
    return p;
}

static double score_of(const plan *p) {
    return p->prefill_s * 512 / p->prefill_rows + 128 * p->decode_s;
}

static void bytes_by_hand(void **state) {
    (void)state;
    const network net = net_of(TENSOR_Q8_0);
    const backend_api device = device_of();
    plan_request r = request_of(&net, &device, 80 * GIB);
    static const int32_t layers_asked[] = {0, 1, 16, 31, 32, 1000};
    for (size_t i = 0; i < sizeof layers_asked / sizeof *layers_asked; i++) {
        const int32_t asked = layers_asked[i];
        const uint64_t n = asked > N_LAYER ? N_LAYER : (uint64_t)asked;
        r.gpu_layers = asked;
        plan *p = make(&r);
        assert_int_equal(p->device.weights, n * (attn_bytes + ffn_bytes) + (n ? head_bytes : 0));
        assert_int_equal(p->device.kv, n * kv_layer);
        assert_int_equal(p->host.kv, (N_LAYER - n) * kv_layer);
        if (n < N_LAYER)
            assert_int_equal(p->host.weights, (N_LAYER - n) * (attn_bytes + ffn_bytes) + embd_bytes + (n ? 0 : head_bytes));
        else
            assert_int_equal(plan_total(&p->host), 0);
        assert_int_equal(p->n_whole, n);
        assert_int_equal(p->n_crossings, n == 0 || n == N_LAYER ? 0 : 1);
        plan_free(p);
    }
    r.gpu_layers = 16;
    r.is_kv_on_host = true;
    plan *p = make(&r);
    assert_int_equal(p->device.weights, 16 * ffn_bytes + head_bytes);
    assert_int_equal(p->device.kv, 0);
    assert_int_equal(p->host.kv, N_LAYER * kv_layer);
    assert_int_equal(p->n_crossings, 2 * 16 - 1); /* the last feed-forward and the head stay */
    plan_free(p);
}

/* More memory is never slower; nothing is over the budget; nothing whole that a user could ask for is quicker. */
static void the_best_that_fits(void **state) {
    (void)state;
    static const tensor_type types[] = {TENSOR_Q8_0, TENSOR_Q4_K};
    for (size_t t = 0; t < 2; t++) {
        const network net = net_of(types[t]);
        const backend_api device = device_of();
        double before = 1e9;
        for (uint64_t mib = 256; mib <= 10 * 1024; mib += 384) {
            plan_request r = request_of(&net, &device, mib * MIB);
            plan *p = make(&r);
            const double score = score_of(p);
            if (plan_uses_device(p)) assert_true(plan_peak(&p->device) + PLAN_MARGIN <= mib * MIB);
            if (score > before * 1.0001) fail_msg("%llu MiB: slower than with less", (unsigned long long)mib);
            before = score;
            for (int32_t n = 0; n <= N_LAYER; n++) {
                plan_request q = r;
                plan *asked;
                q.gpu_layers = n;
                q.device_free = mib * MIB > PLAN_MARGIN ? mib * MIB - PLAN_MARGIN : 0;
                if (plan_make(&asked, &q, NULL)) break;
                if (score_of(asked) < score * 0.9999)
                    fail_msg("%llu MiB: %d whole layers are quicker", (unsigned long long)mib, n);
                plan_free(asked);
            }
            plan_free(p);
        }
    }
}

/* Placements as they are today; a change here is a change of what users get. */
static void goldens(void **state) {
    (void)state;
    static const struct {
        uint64_t mib;
        kv_type kv;
        int32_t n_ctx, n_attn, n_ffn;
        bool has_head;
        const char *why;
    } rows[] = {
        {80 * 1024, KV_F16, 4096, 32, 32, true, "a large card takes all"},
        {9 * 1024, KV_F16, 4096, 32, 32, true, "it just fits"},
        {4 * 1024, KV_F16, 4096, 15, 15, false, "the guide's card: whole layers cross once"},
        {4 * 1024, KV_Q8_0, 4096, 16, 16, false, "a smaller cache makes room"},
        {2 * 1024, KV_F16, 1024, 32, 1, false, "little room: attention of all, which the CPU does worst"},
        {300, KV_F16, 4096, 0, 0, false, "the margin leaves nothing"},
    };
    const network net = net_of(TENSOR_Q8_0);
    const backend_api device = device_of();
    int n_other = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        plan_request r = request_of(&net, &device, rows[i].mib * MIB);
        r.limits.kv = rows[i].kv;
        r.limits.n_ctx = rows[i].n_ctx;
        r.limits.n_pages = rows[i].n_ctx / KV_PAGE;
        plan *p = make(&r);
        if (p->n_attn != rows[i].n_attn || p->n_ffn != rows[i].n_ffn || p->has_head != rows[i].has_head) {
            n_other++;
            print_message("%s: attention %d, feed-forward %d, head %d: %s\n", rows[i].why, p->n_attn, p->n_ffn, p->has_head,
                          p->why);
        }
        plan_free(p);
    }
    assert_int_equal(n_other, 0);
}

/* What does not fit is refused with figures and choices, before anything is loaded. */
static void refusals(void **state) {
    (void)state;
    const network net = net_of(TENSOR_Q8_0);
    const backend_api device = device_of();
    plan_request r = request_of(&net, &device, 4 * GIB);
    galen_error err = {0};
    plan *p = NULL;
    r.gpu_layers = 32;
    assert_int_equal(plan_make(&p, &r, &err), GALEN_E_NOMEM);
    assert_null(p);
    assert_non_null(strstr(err.msg, "32 of 32 layers on the GPU need"));
    assert_non_null(strstr(err.msg, "4.0 GiB are free"));
    const char *fit = strstr(err.msg, "--gpu-layers ");
    int n = 0;
    assert_non_null(fit);
    assert_int_equal(sscanf(fit, "--gpu-layers %d", &n), 1);
    r.gpu_layers = n; /* and that does fit, one more does not */
    assert_int_equal(plan_make(&p, &r, &err), GALEN_OK);
    plan_free(p);
    r.gpu_layers = n + 1;
    assert_int_equal(plan_make(&p, &r, &err), GALEN_E_NOMEM);

    r = request_of(&net, NULL, 0);
    r.host_free = 7 * GIB; /* 7.9 GiB of weights, half a GiB of KV */
    assert_int_equal(plan_make(&p, &r, &err), GALEN_E_NOMEM);
    assert_non_null(strstr(err.msg, "7.0 GiB are free"));
    assert_non_null(strstr(err.msg, "a Q4_K_M file of this model"));
    r.host_free = 0; /* not known: not refused */
    plan_free(make(&r));
}

static void choices(void **state) {
    (void)state;
    const network net = net_of(TENSOR_Q8_0);
    const backend_api device = device_of();
    const plan_request r = request_of(&net, &device, 5 * GIB);
    plan *p = make(&r);
    plan_choice c[PLAN_CHOICES];
    const int32_t n = plan_choices(&r, c);
    bool has_lean = false, has_ctx = false;
    assert_in_range(n, 4, PLAN_CHOICES);
    for (int32_t i = 0; i < n; i++) {
        assert_true(c[i].fits == (c[i].plan != NULL) && c[i].what[0]);
        if (strstr(c[i].what, "Q4_K_M")) {
            has_lean = true;
            assert_true(c[i].fits && c[i].plan->n_whole > p->n_whole && c[i].plan->decode_s < p->decode_s);
        }
        if (strcmp(c[i].option, "--ctx 2048") == 0) {
            has_ctx = true;
            assert_int_equal(c[i].plan->device.kv + c[i].plan->host.kv, N_LAYER * kv_layer / 2);
        }
        plan_free(c[i].plan);
    }
    assert_true(has_lean && has_ctx);
    plan_free(p);
}

/* Digits are left out of the comparison: the backends' buffers decide them. */
static bool is_alike(const char *a, const char *b) {
    for (;; a++, b++) {
        while (*a == '.' || (*a >= '0' && *a <= '9')) a++;
        while (*b == '.' || (*b >= '0' && *b <= '9')) b++;
        if (*a != *b) return false;
        if (!*a) return true;
    }
}

static void lines(void **state) {
    (void)state;
    char line[256];
    const network net = net_of(TENSOR_Q8_0);
    const backend_api device = device_of();
    plan_request r = request_of(&net, &device, 80 * GIB);
    static const struct {
        int32_t layers;
        bool is_kv_on_host;
        const char *begin, *line;
    } rows[] = {
        {16, false, "GPU 16/32 layers", "GPU 16/32 layers and the head, 4.8 of 80.0 GiB; CPU 16; KV on both"},
        {32, false, "GPU 32/32 layers, 8.", "GPU 32/32 layers, 8.5 of 80.0 GiB; KV on the GPU"},
        {0, false, "CPU 32 layers, 8.", "CPU 32 layers, 8.6 GiB; KV on the host"},
        {8, true, "GPU attention of 0 and feed-forward of 8 of 32",
         "GPU attention of 0 and feed-forward of 8 of 32 layers and the head, 2.0 of 80.0 GiB; CPU the rest; KV on the host"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        r.gpu_layers = rows[i].layers;
        r.is_kv_on_host = rows[i].is_kv_on_host;
        plan *p = make(&r);
        (void)plan_line(p, r.device_free, line, sizeof line);
        if (!is_alike(line, rows[i].line) || strncmp(line, rows[i].begin, strlen(rows[i].begin)) != 0)
            fail_msg("\"%s\", expected like \"%s\"", line, rows[i].line);
        plan_free(p);
    }
}

/* Room for two layers' weights where something is streamed. */
static void streaming_work_bytes(const network *net, const backend_config *cfg, const work_limits *lim, uint64_t *kv,
                                 uint64_t *buffers) {
    backend_cpu()->work_bytes(net, cfg, lim, kv, buffers);
    if (cfg->streamed) *buffers += 2 * (attn_bytes + ffn_bytes);
}

/* The most layers that fit leave no room to stream the others: the plan says how many would be quicker, and a refusal names
 * those.
 */
static void no_room_to_stream(void **state) {
    (void)state;
    const network net = net_of(TENSOR_Q8_0);
    backend_api device = device_of();
    device.set_kv = backend_cpu()->set_kv;
    device.work_bytes = streaming_work_bytes;
    plan_request r = request_of(&net, &device, 0);
    r.gpu_layers = 14;
    r.device_free = 100 * GIB;
    plan *p = make(&r);
    const uint64_t streaming = plan_peak(&p->device);
    plan_free(p);
    r.device_free = streaming - 1;
    p = make(&r);
    const plan without = *p;
    assert_int_equal(p->n_whole, 14);
    assert_int_equal(p->stream_rows, 0);
    int32_t named = 0;
    const char *with = strstr(p->why, "no room to stream the other layers: with ");
    assert_non_null(with);
    assert_int_equal(sscanf(strstr(with, "with "), "with %d", &named), 1);
    plan_free(p);
    r.gpu_layers = named;
    p = make(&r);
    assert_true(named < 14 && p->stream_rows > 0);
    assert_true(score_of(p) < score_of(&without));
    assert_string_equal(p->why, "as asked");
    plan_free(p);

    galen_error err = {0};
    char option[32];
    r.gpu_layers = 32;
    assert_int_equal(plan_make(&p, &r, &err), GALEN_E_NOMEM);
    (void)snprintf(option, sizeof option, "--gpu-layers %d,", named);
    if (!strstr(err.msg, option)) fail_msg("\"%s\" does not offer %s", err.msg, option);
}

/* Feed-forwards fetched in every step: as many as host and link reach side by side, evenly spread, the same bytes; none where
 * both share one memory or nobody measured it. */
static void fetched(void **state) {
    (void)state;
    static const struct {
        double host_beside, upload_beside; /* GB/s; alone 88 and 54 */
        int32_t asked, least, most;        /* fetched */
        double gain;                       /* of a step, at least */
        const char *why;
    } rows[] = {
        {73, 49, PLAN_AUTO, 7, 9, 1.25, "an H100 with 16 cores, as measured"},
        {88, 12, PLAN_AUTO, 1, 4, 1.05, "a narrow link"},
        {44, 44, PLAN_AUTO, 0, 0, 1, "one memory, shared"},
        {86, 4, PLAN_AUTO, 0, 0, 1, "less than it is worth"},
        {0, 0, PLAN_AUTO, 0, 0, 1, "not measured"},
        {73, 49, 0, 0, 0, 1, "none asked for"},
        {73, 49, 5, 5, 5, 1.05, "five asked for"},
        {73, 49, 100, 16, 16, 0, "more than there are"},
    };
    const network net = net_of(TENSOR_Q8_0);
    backend_api device = device_of();
    device.set_kv = backend_cpu()->set_kv;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        plan_request r = request_of(&net, &device, 80 * GIB);
        r.gpu_layers = 16;
        r.speeds.host_read = 88e9;
        r.speeds.upload = 54e9;
        r.speeds.host_beside = rows[i].host_beside * 1e9;
        r.speeds.upload_beside = rows[i].upload_beside * 1e9;
        plan *const none = make(&r);
        r.n_fetched = rows[i].asked;
        plan *const p = make(&r);
        if (p->n_fetched < rows[i].least || p->n_fetched > rows[i].most || none->decode_s < rows[i].gain * p->decode_s)
            fail_msg("%s: %d fetched, %.1f tokens/s, %.1f without", rows[i].why, p->n_fetched, 1 / p->decode_s,
                     1 / none->decode_s);
        assert_int_equal(none->n_fetched, 0);
        assert_int_equal(plan_peak(&p->device), plan_peak(&none->device));
        int32_t n = 0, gap = 0, least = N_LAYER, most = 0;
        for (int32_t k = 0; k < N_LAYER; k++) {
            assert_true(p->fetched[k] == 0 || (p->fetched[k] == PART_FFN && p->streamed[k] == PART_BOTH && k < 16));
            gap++;
            if (!p->fetched[k]) continue;
            if (n++ > 0) {
                least = gap < least ? gap : least;
                most = gap > most ? gap : most;
            }
            gap = 0;
        }
        assert_int_equal(n, p->n_fetched);
        assert_true(n < 3 || most - least <= 1);
        assert_int_equal(p->n_crossings, n ? 2 * n - 1 : 1); /* the last one is followed by what lives on the device */
        plan_free(p);
        plan_free(none);
    }
}

static void cards(void **state) {
    (void)state;
    size_t n = 0;
    for (const plan_card *c; (c = plan_card_at(n)); n++) {
        assert_ptr_equal(plan_card_find(c->name), c);
        assert_true(c->total_bytes >= 4 * GIB && c->read > 1e11 && c->upload > 1e9 && c->compute >= 75);
    }
    assert_true(n >= 10);
    assert_null(plan_card_find("voodoo2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_by_hand),
                                       cmocka_unit_test(the_best_that_fits),
                                       cmocka_unit_test(goldens),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(choices),
                                       cmocka_unit_test(lines),
                                       cmocka_unit_test(no_room_to_stream),
                                       cmocka_unit_test(fetched),
                                       cmocka_unit_test(cards)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
