/* The cpu backend's stages against ref, and the promise that a row's bytes depend on nothing but its own sequence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/cpu/cpu_impl.h"
#include "random_net.h"

enum { N_SEQS = 3, MAX_ROWS = 512, MAX_PAGES = 128 };

/* Sequences that grow: what to run next is a row range of some of them. */
typedef struct story {
    int32_t n_seqs;
    int32_t length[N_SEQS]; /* tokens in all       */
    int32_t done[N_SEQS];   /* tokens run so far   */
    int32_t page_ids[N_SEQS][MAX_PAGES];
    kv_pages pages[N_SEQS];
    int32_t n_pages;
} story;

static story story_of(const int32_t *length, int32_t n_seqs) {
    story s = {.n_seqs = n_seqs};
    for (int32_t i = 0; i < n_seqs; i++) {
        s.length[i] = length[i];
        s.pages[i].n_pages = (length[i] + KV_PAGE - 1) / KV_PAGE;
        s.n_pages += s.pages[i].n_pages;
    }
    int32_t next = 0;
    for (int32_t p = 0; p < MAX_PAGES; p++) /* pages dealt in turn, and counted from the end: never consecutive */
        for (int32_t i = 0; i < n_seqs; i++)
            if (p < s.pages[i].n_pages) s.page_ids[i][p] = s.n_pages - 1 - next++;
    return s;
}

static int32_t token_at(int32_t seq, int32_t pos, int32_t n_vocab) {
    return (int32_t)(rng_at(77, (uint64_t)seq, (uint64_t)pos).v[0] % (uint32_t)n_vocab);
}

typedef struct engine {
    const backend_api *api;
    backend *b;
    backend_work *w;
} engine;

static engine engine_open(const char *name, const network *net, const char *isa, int32_t n_threads, int32_t n_ctx,
                          int32_t n_pages, kv_type kv) {
    engine e = {.api = backend_find(name)};
    galen_error err = {0};
    const backend_config cfg = {.isa = isa, .n_threads = n_threads, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = MAX_ROWS, .max_out = MAX_ROWS, .n_ctx = n_ctx, .n_pages = n_pages, .kv = kv};
    assert_non_null(e.api);
    if (e.api->open(&e.b, net, &cfg, &err)) fail_msg("%s", err.msg);
    if (e.api->work_open(&e.w, e.b, &lim, &err)) fail_msg("%s", err.msg);
    return e;
}

static void engine_close(engine *e) {
    e->api->work_close(e->w);
    e->api->close(e->b);
}

/* Called with every hidden state a batch leaves behind: after attn_out, after ffn_out, and the logits (stage N_STAGES). */
typedef void (*seen_fn)(void *user, const story *s, const batch *b, int32_t layer, stage st, const float *x, int32_t width);

static void run_batch(engine *e, const network *net, const story *s, const batch *b, seen_fn seen, void *user) {
    const int32_t most = net->n_embd > net->n_vocab ? net->n_embd : net->n_vocab;
    float *x = malloc(sizeof *x * (size_t)b->n_rows * (size_t)most);
    galen_error err;
    assert_non_null(x);
    assert_int_equal(e->api->embed(e->w, b, &err), GALEN_OK);
    for (int32_t layer = 0; layer < net->n_layer; layer++)
        for (int st = 0; st < N_STAGES; st++) {
            assert_int_equal(e->api->run(e->w, (stage)st, layer, b, &err), GALEN_OK);
            if (st != STAGE_ATTN_OUT && st != STAGE_FFN_OUT) continue;
            assert_int_equal(e->api->get_hidden(e->w, b, x, &err), GALEN_OK);
            seen(user, s, b, layer, (stage)st, x, net->n_embd);
        }
    assert_int_equal(e->api->head(e->w, b, x, &err), GALEN_OK);
    assert_int_equal(e->api->sync(e->w, &err), GALEN_OK);
    seen(user, s, b, net->n_layer, N_STAGES, x, net->n_vocab);
    free(x);
}

/* Run the next chunk tokens of sequences [first, end) together in one batch; false when all are done. */
static bool run_next(engine *e, const network *net, story *s, int32_t first, int32_t end, int32_t chunk, seen_fn seen,
                     void *user) {
    static int32_t token[MAX_ROWS], pos[MAX_ROWS], seq[MAX_ROWS], row[MAX_ROWS];
    int32_t n = 0;
    for (int32_t i = first; i < end; i++)
        for (int32_t k = 0; k < chunk && s->done[i] + k < s->length[i] && n < MAX_ROWS; k++, n++) {
            token[n] = token_at(i, s->done[i] + k, net->n_vocab);
            pos[n] = s->done[i] + k;
            seq[n] = i;
            row[n] = n;
        }
    if (n == 0) return false;
    for (int32_t i = 0; i < s->n_seqs; i++) s->pages[i].pages = s->page_ids[i];
    const batch b = {
        .n_rows = n, .token = token, .pos = pos, .seq = seq, .seqs = s->pages, .n_seqs = s->n_seqs, .n_out = n, .out_row = row};
    run_batch(e, net, s, &b, seen, user);
    for (int32_t r = 0; r < n; r++) s->done[seq[r]]++;
    return true;
}

/* ---------------------------------------------------------------- against ref */

typedef struct record {
    float *x[2 * 4 + 1]; /* by layer and stage; logits last: [seq][pos][width] */
    int32_t width[2 * 4 + 1];
    int32_t most; /* positions of a sequence */
} record;

static int slot_of(int32_t layer, stage st) {
    return 2 * layer + (st == STAGE_FFN_OUT ? 1 : 0);
}

static void keep(void *user, const story *s, const batch *b, int32_t layer, stage st, const float *x, int32_t width) {
    record *rec = user;
    const int slot = slot_of(layer, st);
    if (!rec->x[slot]) {
        rec->width[slot] = width;
        for (int32_t i = 0; i < s->n_seqs; i++)
            if (s->length[i] > rec->most) rec->most = s->length[i];
        rec->x[slot] = calloc((size_t)s->n_seqs * (size_t)rec->most * (size_t)width, sizeof(float));
        assert_non_null(rec->x[slot]);
    }
    for (int32_t r = 0; r < b->n_rows; r++)
        memcpy(rec->x[slot] + ((size_t)b->seq[r] * (size_t)rec->most + (size_t)b->pos[r]) * (size_t)width,
               x + (size_t)r * (size_t)width, (size_t)width * sizeof *x);
}

static size_t record_size(const record *r, int slot, int32_t n_seqs) {
    return (size_t)n_seqs * (size_t)r->most * (size_t)r->width[slot];
}

static void record_free(record *r) {
    for (size_t i = 0; i < sizeof r->x / sizeof *r->x; i++) free(r->x[i]);
}

static const net_spec base_spec = {.n_layer = 2,
                                   .n_embd = 64,
                                   .n_head = 4,
                                   .n_head_kv = 2,
                                   .d_head = 32,
                                   .n_ff = 96,
                                   .n_vocab = 100,
                                   .n_rot = 32,
                                   .weights = TENSOR_F32,
                                   .seed = 5};

/* Overrides of base_spec where not zero. */
static net_spec spec_of(net_spec o) {
    net_spec s = base_spec;
#define TAKE(field)                                                                                                              \
    if (o.field) s.field = o.field
    TAKE(n_embd);
    TAKE(n_head);
    TAKE(n_head_kv);
    TAKE(d_head);
    TAKE(n_ff);
    TAKE(weights);
    TAKE(rope);
    TAKE(act);
    TAKE(has_qk_norm);
    TAKE(has_bias);
    TAKE(has_post_norm);
    TAKE(window);
    TAKE(softcap);
    TAKE(logit_softcap);
#undef TAKE
    s.n_rot = o.n_rot ? o.n_rot : s.d_head;
    return s;
}

/* Bounds. F32 weights, F32 KV: two layers of some twenty f32 roundings each of 2^-24. F16 KV: a value whose f32 and f64 fall on
 * two sides of a rounding boundary moves by 2^-11 of itself, for about one in 2^12 values. Q8_0 KV: the same with 1/127, one in
 * 2^15 or so, and d itself. Q8_0 weights: 15-bit activations, NMSE 2e-9 a product, several products deep. */
static const struct {
    const char *why;
    net_spec spec;
    kv_type kv;
    double bound;
} configs[] = {
    {"plain, grouped 2:1", {0}, KV_F32, 1e-11},
    {"no groups", {.n_head = 3, .n_head_kv = 3}, KV_F32, 1e-11},
    {"8 heads to 1, halves", {.n_head = 8, .n_head_kv = 1, .rope = ROPE_HALVES}, KV_F32, 1e-11},
    {"7 heads to 1: blocks of four and three", {.n_head = 7, .n_head_kv = 1}, KV_F32, 1e-11},
    {"6:2, d 64, QK-norm", {.n_head = 6, .n_head_kv = 2, .d_head = 64, .has_qk_norm = true}, KV_F32, 1e-11},
    {"d 80, partial rotation", {.d_head = 80, .n_rot = 32, .rope = ROPE_HALVES}, KV_F32, 1e-11},
    {"d 96, pairs", {.d_head = 96}, KV_F32, 1e-11},
    {"d 128, biases", {.d_head = 128, .has_bias = true}, KV_F32, 1e-11},
    {"d 256, post-norms, gelu", {.n_head_kv = 1, .d_head = 256, .has_post_norm = true, .act = ACT_GELU_TANH}, KV_F32, 1e-11},
    {"d 20: no multiple of 16", {.d_head = 20}, KV_F32, 1e-11},
    {"d 6, rotation of 2", {.d_head = 6, .n_rot = 2, .rope = ROPE_HALVES}, KV_F32, 1e-11},
    {"window 5, two ropes", {.window = 5, .rope = ROPE_HALVES}, KV_F32, 1e-11},
    {"window 40: over a tile", {.window = 40}, KV_F32, 1e-11},
    {"window 64, everything of gemma",
     {.window = 64, .has_qk_norm = true, .has_post_norm = true, .act = ACT_GELU_TANH},
     KV_F32,
     1e-11},
    {"both softcaps", {.softcap = 2, .logit_softcap = 3}, KV_F32, 1e-11},
    {"odd widths of the feed-forward", {.n_embd = 52, .n_ff = 37}, KV_F32, 1e-11},
    {"KV f16", {.has_qk_norm = true}, KV_F16, 1e-8},
    {"KV f16, d 80", {.d_head = 80}, KV_F16, 1e-8},
    {"KV q8_0", {.d_head = 64}, KV_Q8_0, 1e-6},
    {"KV q8_0, d 96, window", {.d_head = 96, .window = 21}, KV_Q8_0, 1e-6},
    {"weights f16", {.weights = TENSOR_F16}, KV_F32, 1e-11},
    {"weights q8_0", {.weights = TENSOR_Q8_0, .n_ff = 128}, KV_F32, 1e-6},
    {"weights q8_0, KV q8_0, biases, post-norms",
     {.weights = TENSOR_Q8_0, .n_ff = 128, .has_bias = true, .has_post_norm = true},
     KV_Q8_0,
     1e-5},
};

static void against_ref(void **state) {
    static const int32_t length[N_SEQS] = {40, 3, 97};
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        arena mem = {0};
        const net_spec spec = spec_of(configs[i].spec);
        network *net = random_net(&mem, &spec);
        record got = {0}, want = {0};
        const char *const names[] = {"cpu", "ref"};
        for (int k = 0; k < 2; k++) {
            story s = story_of(length, N_SEQS);
            engine e = engine_open(names[k], net, NULL, 2, i % 2 ? 140 : 100, s.n_pages, configs[i].kv);
            while (run_next(&e, net, &s, 0, N_SEQS, 33, keep, k ? &want : &got)) {
            }
            engine_close(&e);
        }
        for (int slot = 0; slot <= 2 * spec.n_layer; slot++) {
            const double nmse = random_net_nmse(got.x[slot], want.x[slot], record_size(&want, slot, N_SEQS));
            if (!(nmse <= configs[i].bound))
                fail_msg("%s: layer %d, %s: NMSE %.3g > %.3g", configs[i].why, slot / 2,
                         slot == 2 * spec.n_layer ? "logits"
                         : slot % 2               ? "ffn_out"
                                                  : "attn_out",
                         nmse, configs[i].bound);
        }
        record_free(&got);
        record_free(&want);
        arena_free(&mem);
    }
}

/* ---------------------------------------------------------------- the same bytes */

typedef struct variant {
    const char *isa;
    int32_t n_threads, chunk;
    bool is_alone; /* one sequence after the other, else all in one batch */
    const char *why;
} variant;

static const variant variants[] = {
    {"generic", 1, 64, false, "the instruction set"},
    {"avx2", 1, 64, false, "the instruction set"},
    {"avx512", 2, 64, false, "the instruction set"},
    {"neon", 2, 64, false, "the instruction set"},
    {"auto", 2, 64, false, "two threads"},
    {"auto", 3, 64, false, "three threads"},
    {"auto", 1, 64, true, "each sequence alone"},
    {"auto", 1, 7, false, "chunks of 7"},
    {"auto", 2, 7, true, "chunks of 7, alone"},
    {"auto", 3, 1, false, "token by token"},
    {"auto", 2, 1, true, "token by token, alone: segments split over threads"},
    {"auto", 1, 100, false, "large batches"},
};

static record play(const network *net, const variant *v, const int32_t *length, kv_type kv) {
    record rec = {0};
    story s = story_of(length, N_SEQS);
    engine e = engine_open("cpu", net, v->isa, v->n_threads, 1400, s.n_pages, kv);
    if (v->is_alone) {
        for (int32_t i = 0; i < N_SEQS; i++)
            while (run_next(&e, net, &s, i, i + 1, v->chunk, keep, &rec)) {
            }
    } else {
        while (run_next(&e, net, &s, 0, N_SEQS, v->chunk, keep, &rec)) {
        }
    }
    engine_close(&e);
    return rec;
}

static void check_same(const net_spec *spec, kv_type kv, const int32_t *length, bool is_every_isa, const char *what) {
    static const variant plain = {"auto", 1, 64, false, ""};
    arena mem = {0};
    network *net = random_net(&mem, spec);
    record want = play(net, &plain, length, kv);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const bool is_auto = strcmp(variants[i].isa, "auto") == 0;
        if (!is_auto && (!is_every_isa || !cpu_ops_get(variants[i].isa) || !matmul_ops_get(variants[i].isa))) continue;
        record got = play(net, &variants[i], length, kv);
        for (int slot = 0; slot <= 2 * spec->n_layer; slot++) {
            const size_t n = record_size(&want, slot, N_SEQS);
            for (size_t j = 0; j < n; j++)
                if (memcmp(&got.x[slot][j], &want.x[slot][j], sizeof(float)) != 0)
                    fail_msg("%s, %s (%s): slot %d differs at sequence %zu, position %zu: %a, %a", what, variants[i].why,
                             variants[i].isa, slot, j / (size_t)want.width[slot] / (size_t)want.most,
                             j / (size_t)want.width[slot] % (size_t)want.most, (double)got.x[slot][j], (double)want.x[slot][j]);
        }
        record_free(&got);
    }
    record_free(&want);
    arena_free(&mem);
}

static void same_bytes(void **state) {
    static const int32_t shorter[N_SEQS] = {40, 3, 97};
    static const struct {
        const char *what;
        net_spec spec;
        kv_type kv;
    } table[] = {
        {"f32 weights, KV f16", {.n_head = 6, .n_head_kv = 2, .has_qk_norm = true}, KV_F16},
        {"q8_0 weights, KV q8_0, window", {.weights = TENSOR_Q8_0, .n_ff = 128, .window = 37, .has_post_norm = true}, KV_Q8_0},
        {"gelu, softcaps, d 20", {.d_head = 20, .act = ACT_GELU_TANH, .softcap = 3, .logit_softcap = 5}, KV_F32},
        {"odd widths", {.n_embd = 52, .n_ff = 37, .d_head = 80, .n_rot = 36, .rope = ROPE_HALVES}, KV_F16},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const net_spec spec = spec_of(table[i].spec);
        check_same(&spec, table[i].kv, shorter, true, table[i].what);
    }
}

static void same_bytes_long(void **state) {
    static const int32_t longer[N_SEQS] = {1030, 30, 530};
    (void)state;
    net_spec spec = spec_of((net_spec){.n_embd = 32, .n_head = 2, .n_head_kv = 1, .d_head = 16, .n_ff = 32});
    spec.n_vocab = 32;
    spec.n_layer = 1;
    check_same(&spec, KV_F16, longer, false, "three segments");
    spec.n_layer = 2; /* the second has the window */
    spec.window = 600;
    check_same(&spec, KV_F32, longer, false, "three segments, a window over two");
}

/* ---------------------------------------------------------------- NaN */

/* A network whose token 0 embeds as NaN, and whose other tokens are drawn from the rest. */
typedef struct ill_row {
    int32_t seq, pos;
} ill_row;

static void run_ill(const network *net, engine *e, story *s, const ill_row *ill, int32_t chunk, record *rec) {
    static int32_t token[MAX_ROWS], pos[MAX_ROWS], seq[MAX_ROWS], row[MAX_ROWS];
    for (;;) {
        int32_t n = 0;
        for (int32_t i = 0; i < s->n_seqs; i++)
            for (int32_t k = 0; k < chunk && s->done[i] + k < s->length[i]; k++, n++) {
                const int32_t p = s->done[i] + k;
                token[n] = ill && i == ill->seq && p == ill->pos ? 0 : 1 + token_at(i, p, net->n_vocab - 1);
                pos[n] = p;
                seq[n] = i;
                row[n] = n;
            }
        if (n == 0) return;
        for (int32_t i = 0; i < s->n_seqs; i++) s->pages[i].pages = s->page_ids[i];
        const batch b = {n, token, pos, seq, s->pages, s->n_seqs, n, row};
        run_batch(e, net, s, &b, keep, rec);
        for (int32_t r = 0; r < n; r++) s->done[seq[r]]++;
    }
}

static void nan_stays_home(void **state) {
    static const int32_t length[N_SEQS] = {40, 50, 20};
    static const ill_row ill = {1, 21};
    (void)state;
    for (int kv = 0; kv < N_KV_TYPES; kv++) {
        arena mem = {0};
        net_spec spec = spec_of((net_spec){.n_head = 6, .weights = TENSOR_Q8_0, .n_ff = 128});
        if (kv == KV_F32) spec.weights = TENSOR_F32;
        network *net = random_net(&mem, &spec);
        float *row = malloc(sizeof *row * (size_t)spec.n_embd);
        for (int32_t i = 0; i < spec.n_embd; i++) row[i] = i == 3 ? NAN : 1;
        tensor_type_get((uint32_t)spec.weights)->quantise(row, (void *)(uintptr_t)net->embd.data, spec.n_embd);
        free(row);
        record want = {0}, got = {0}, again = {0};
        story s = story_of(length, N_SEQS);
        engine e = engine_open("cpu", net, NULL, 2, 60, s.n_pages, (kv_type)kv);
        run_ill(net, &e, &s, NULL, 64, &want);
        memset(s.done, 0, sizeof s.done);
        run_ill(net, &e, &s, &ill, 64, &got);
        /* the pages now hold NaN; another story on them must not see it */
        memset(s.done, 0, sizeof s.done);
        run_ill(net, &e, &s, NULL, 13, &again);
        engine_close(&e);
        const int logits = 2 * spec.n_layer;
        for (int32_t i = 0; i < N_SEQS; i++)
            for (int32_t p = 0; p < length[i]; p++) {
                const size_t at = ((size_t)i * (size_t)want.most + (size_t)p) * (size_t)spec.n_vocab;
                const size_t n = (size_t)spec.n_vocab * sizeof(float);
                assert_memory_equal(again.x[logits] + at, want.x[logits] + at, n);
                if (i != ill.seq || p < ill.pos)
                    assert_memory_equal(got.x[logits] + at, want.x[logits] + at, n);
                else
                    assert_true(isnan(got.x[logits][at])); /* and it is not swallowed: what follows it is NaN */
            }
        record_free(&want);
        record_free(&got);
        record_free(&again);
        arena_free(&mem);
    }
}

/* ---------------------------------------------------------------- opening */

static void refusals(void **state) {
    arena mem = {0};
    const net_spec spec = spec_of((net_spec){0});
    network *net = random_net(&mem, &spec);
    backend_config cfg = {.isa = "sse9", .n_threads = 1, .has_embed = true, .has_head = true};
    const backend_api *api = backend_cpu();
    backend *b = NULL;
    backend_work *w = NULL;
    galen_error err = {0};
    (void)state;
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_E_UNSUPPORTED);
    assert_null(b);
    assert_non_null(strstr(err.msg, "sse9"));
    assert_non_null(strstr(err.msg, "generic"));
    cfg.isa = cpu_ops_get("neon") ? "avx2" : "neon";
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_E_UNSUPPORTED);
    cfg.isa = "generic";
    const tensor_type type = net->layers[1].w_up.type;
    net->layers[1].w_up.type = (tensor_type)4; /* Q4_2, removed from the format */
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "w_up"));
    net->layers[1].w_up.type = type;
    net->layers[0].bq = net->layers[0].wq;
    net->layers[0].bq.type = TENSOR_F16;
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_E_UNSUPPORTED);
    net->layers[0].bq = (tensor){0};
    cfg.n_threads = 0;
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_E_ARG);
    cfg.n_threads = 2;
    assert_int_equal(api->open(&b, net, &cfg, &err), GALEN_OK);
    assert_string_equal(api->describe(b), "generic, 2 threads");
    work_limits lim = {.max_rows = 8, .max_out = 8, .n_ctx = 64, .n_pages = INT32_MAX, .kv = KV_F32};
    uint64_t kv, buffers;
    api->work_bytes(net, &cfg, &lim, &kv, &buffers);
    assert_true(kv > (uint64_t)1 << 45);
    assert_int_equal(api->work_open(&w, b, &lim, &err), GALEN_E_NOMEM);
    assert_null(w);
    lim = (work_limits){.max_rows = 0, .n_ctx = 1};
    assert_int_equal(api->work_open(&w, b, &lim, &err), GALEN_E_ARG);
    api->close(b);
    api->close(NULL);
    api->work_close(NULL);
    arena_free(&mem);
}

static void bytes_are_exact(void **state) {
    (void)state;
    for (int kv = 0; kv < N_KV_TYPES; kv++) {
        arena mem = {0};
        const net_spec spec = spec_of((net_spec){.d_head = 80});
        network *net = random_net(&mem, &spec);
        const backend_config cfg = {.n_threads = 3, .has_embed = true, .has_head = true};
        const work_limits lim = {.max_rows = 33, .max_out = 5, .n_ctx = 1025, .n_pages = 17, .kv = (kv_type)kv};
        backend *b;
        backend_work *w;
        galen_error err;
        uint64_t kv_bytes, buffer_bytes;
        assert_int_equal(backend_cpu()->open(&b, net, &cfg, &err), GALEN_OK);
        assert_int_equal(backend_cpu()->work_open(&w, b, &lim, &err), GALEN_OK);
        backend_cpu()->work_bytes(net, &cfg, &lim, &kv_bytes, &buffer_bytes);
        assert_true(kv_bytes == w->kv_bytes && buffer_bytes == w->buffer_bytes);
        /* the drawing in kv.h, by hand, for d 80: 64 positions, 3 blocks of scales */
        static const uint64_t head[N_KV_TYPES] = {
            [KV_F16] = 2 * 64 * 80 * 2, [KV_F32] = 2 * 64 * 80 * 4, [KV_Q8_0] = 2 * (64 * 80 + 64 * 3 * 2)};
        assert_int_equal(kv_bytes, 2 * 17 * 2 * head[kv]);
        backend_cpu()->work_close(w);
        backend_cpu()->close(b);
        arena_free(&mem);
    }
}

static void names(void **state) {
    kv_type t;
    (void)state;
    for (int i = 0; i < N_KV_TYPES; i++) {
        assert_true(kv_type_by_name(kv_type_name((kv_type)i), &t));
        assert_int_equal(t, i);
    }
    assert_false(kv_type_by_name("q4_0", &t));
    assert_null(backend_find("gpu"));
    assert_ptr_equal(backend_find("cpu"), backend_cpu());
    assert_ptr_equal(backend_find("ref"), backend_ref());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_ref),    cmocka_unit_test(same_bytes), cmocka_unit_test(same_bytes_long),
        cmocka_unit_test(nan_stays_home), cmocka_unit_test(refusals),   cmocka_unit_test(bytes_are_exact),
        cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
