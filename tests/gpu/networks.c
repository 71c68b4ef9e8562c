/* Whole networks on the GPU against ref, stage by stage, and the promises about company, NaN and context. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
#include "random_net.h"

enum { N_SEQS = 3, MAX_ROWS = 256, MAX_PAGES = 64, MAX_SLOTS = 9 };

/* What a run leaves behind: hidden states after attn_out and ffn_out of each layer, then the logits, by sequence and position. */
typedef struct record {
    float *x[MAX_SLOTS];
    int width[MAX_SLOTS], n_slots, most;
} record;

static void record_free(record *r) {
    for (int i = 0; i < MAX_SLOTS; i++) free(r->x[i]);
    *r = (record){0};
}

static void keep(record *rec, int slot, int width, int most, const batch *b, const float *x) {
    if (!rec->x[slot]) {
        rec->x[slot] = calloc((size_t)N_SEQS * (size_t)most * (size_t)width, sizeof(float));
        rec->width[slot] = width;
        rec->most = most;
        if (slot >= rec->n_slots) rec->n_slots = slot + 1;
    }
    for (int r = 0; r < b->n_rows; r++)
        memcpy(rec->x[slot] + ((size_t)b->seq[r] * (size_t)most + (size_t)b->pos[r]) * (size_t)width,
               x + (size_t)r * (size_t)width, sizeof(float) * (size_t)width);
}

typedef struct play_opts {
    const int *length; /* [N_SEQS] */
    int chunk;         /* tokens of a sequence in a batch */
    bool is_alone;     /* one sequence after the other */
    bool is_uniform;   /* a lone row as several */
    bool has_hidden;   /* look at hidden states; else whole steps, as a session runs them */
    kv_type kv;
    int n_ctx;
    int ill_seq, ill_pos; /* this token is number 0; -1 = none */
} play_opts;

static int token_at(const play_opts *o, int seq, int pos, int n_vocab) {
    if (seq == o->ill_seq && pos == o->ill_pos) return 0;
    return 1 + (int)(rng_at(77, (uint64_t)seq, (uint64_t)pos).v[0] % (uint32_t)(n_vocab - 1));
}

static galen_status run_batch(const backend_api *api, backend_work *w, const network *net, const batch *b, const play_opts *o,
                              record *rec, int most, galen_error *err) {
    static float x[MAX_ROWS * 4096];
    galen_status st = api->embed(w, b, err);
    for (int layer = 0; !st && layer < net->n_layer; layer++)
        for (int s = 0; !st && s < N_STAGES; s++) {
            st = api->run(w, (stage)s, layer, b, err);
            if (st || !o->has_hidden || (s != STAGE_ATTN_OUT && s != STAGE_FFN_OUT)) continue;
            memset(x, 0xff, sizeof x);
            st = api->get_hidden(w, b, x, err);
            keep(rec, 2 * layer + (s == STAGE_FFN_OUT), net->n_embd, most, b, x);
        }
    memset(x, 0xff, sizeof x);
    if (!st) st = api->head(w, b, x, err);
    if (!st) st = api->sync(w, err);
    keep(rec, 2 * net->n_layer, net->n_vocab, most, b, x);
    return st;
}

static record play(const backend_api *api, const network *net, const play_opts *o) {
    static int32_t token[MAX_ROWS], pos[MAX_ROWS], seq[MAX_ROWS], row[MAX_ROWS], ids[N_SEQS][MAX_PAGES];
    record rec = {0};
    galen_error err = {0};
    backend *b = NULL;
    backend_work *w = NULL;
    kv_pages pages[N_SEQS];
    int done[N_SEQS] = {0}, n_pages = 0, next = 0, most = 0;
    for (int i = 0; i < N_SEQS; i++) {
        pages[i] = (kv_pages){.pages = ids[i], .n_pages = (o->length[i] + KV_PAGE - 1) / KV_PAGE};
        n_pages += pages[i].n_pages;
        most = o->length[i] > most ? o->length[i] : most;
    }
    for (int p = 0; p < MAX_PAGES; p++) /* dealt in turn, counted from the end: never consecutive */
        for (int i = 0; i < N_SEQS; i++)
            if (p < pages[i].n_pages) ids[i][p] = n_pages - 1 - next++;
    const backend_config cfg = {.n_threads = 2, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = MAX_ROWS,
                             .max_out = MAX_ROWS,
                             .n_ctx = o->n_ctx,
                             .n_pages = n_pages,
                             .kv = o->kv,
                             .is_uniform = o->is_uniform};
    galen_status st = api->open(&b, net, &cfg, &err);
    if (!st) st = api->work_open(&w, b, &lim, &err);
    for (int first = 0; !st && first < (o->is_alone ? N_SEQS : 1); first++)
        for (;;) {
            int n = 0;
            for (int i = o->is_alone ? first : 0; i < (o->is_alone ? first + 1 : N_SEQS); i++)
                for (int k = 0; k < o->chunk && done[i] < o->length[i] && n < MAX_ROWS; k++, n++) {
                    token[n] = token_at(o, i, done[i], net->n_vocab);
                    pos[n] = done[i]++;
                    seq[n] = i;
                    row[n] = n;
                }
            if (n == 0) break;
            const batch bt = {n, token, pos, seq, pages, N_SEQS, n, row};
            st = run_batch(api, w, net, &bt, o, &rec, most, &err);
            if (st) break;
        }
    check_that(st == GALEN_OK, "%s: %s", api->name, err.msg);
    if (w) api->work_close(w);
    if (b) api->close(b);
    return rec;
}

static net_spec spec_of(net_spec s) {
    if (!s.n_layer) s.n_layer = 2;
    if (!s.n_embd) s.n_embd = s.weights == TENSOR_F32 || s.weights == TENSOR_F16 ? 64 : 256;
    if (!s.n_head) s.n_head = 4;
    if (!s.n_head_kv) s.n_head_kv = s.n_head == 4 ? 2 : s.n_head;
    if (!s.d_head) s.d_head = 64;
    if (!s.n_ff) s.n_ff = s.weights == TENSOR_F32 || s.weights == TENSOR_F16 ? 96 : 512;
    if (!s.n_vocab) s.n_vocab = 90;
    if (!s.n_rot) s.n_rot = s.d_head;
    s.seed = (uint64_t)(1e9 * (1 + fresh()));
    return s;
}

/* bound for few rows and for tiles. f32 throughout: 1e-7 a product by the design page; tiles round inputs to halves. KV in f16
 * or q8_0 rounds K and V the same way as ref does, but from inputs that differ in the last bit: some values go the other way. */
typedef struct net_case {
    const char *why;
    net_spec spec;
    kv_type kv;
    double few, tiles;
} net_case;

static const net_case nets[] = {
    {"plain, 2:1", {0}, KV_F32, 1e-10, 1e-10},
    {"no groups", {.n_head = 3, .n_head_kv = 3}, KV_F32, 1e-10, 1e-10},
    {"8 heads to 1, halves", {.n_head = 8, .n_head_kv = 1, .rope = ROPE_HALVES}, KV_F32, 1e-10, 1e-10},
    {"7 heads to 1", {.n_head = 7, .n_head_kv = 1}, KV_F32, 1e-10, 1e-10},
    {"12 heads to 1: two groups", {.n_head = 12, .n_head_kv = 1}, KV_F32, 1e-10, 1e-10},
    {"6:2, QK-norm", {.n_head = 6, .n_head_kv = 2, .has_qk_norm = true}, KV_F32, 1e-10, 1e-10},
    {"d 80, partial rotation", {.d_head = 80, .n_rot = 32, .rope = ROPE_HALVES}, KV_F32, 1e-10, 1e-10},
    {"d 96, pairs", {.d_head = 96}, KV_F32, 1e-10, 1e-10},
    {"d 128, biases", {.d_head = 128, .has_bias = true}, KV_F32, 1e-10, 1e-10},
    {"d 256, post-norms, gelu",
     {.n_head_kv = 1, .d_head = 256, .has_post_norm = true, .act = ACT_GELU_TANH},
     KV_F32,
     1e-10,
     1e-10},
    {"d 20: no multiple of 8", {.d_head = 20}, KV_F32, 1e-10, 1e-10},
    {"d 6, rotation of 2", {.d_head = 6, .n_rot = 2, .rope = ROPE_HALVES}, KV_F32, 1e-10, 1e-10},
    {"window 5, two ropes", {.window = 5, .rope = ROPE_HALVES}, KV_F32, 1e-10, 1e-10},
    {"window 70", {.window = 70}, KV_F32, 1e-10, 1e-10},
    {"gemma's all", {.window = 64, .has_qk_norm = true, .has_post_norm = true, .act = ACT_GELU_TANH}, KV_F32, 1e-10, 1e-10},
    {"both softcaps", {.softcap = 2, .logit_softcap = 3}, KV_F32, 1e-10, 1e-10},
    {"odd widths", {.n_embd = 52, .n_ff = 37, .n_vocab = 91}, KV_F32, 1e-10, 1e-10},
    {"KV f16", {.has_qk_norm = true}, KV_F16, 1e-6, 1e-6},
    {"KV f16, d 128, window 70", {.d_head = 128, .window = 70}, KV_F16, 1e-6, 1e-6},
    {"KV f16, softcap, 7 to 1", {.n_head = 7, .n_head_kv = 1, .softcap = 2}, KV_F16, 1e-6, 1e-6},
    {"KV f16, d 80", {.d_head = 80}, KV_F16, 1e-8, 1e-8},
    {"KV q8_0", {.d_head = 64}, KV_Q8_0, 1e-6, 1e-6},
    {"KV q8_0, d 96, window", {.d_head = 96, .window = 21}, KV_Q8_0, 1e-6, 1e-6},
    {"F16 weights", {.weights = TENSOR_F16, .has_bias = true}, KV_F32, 1e-10, 1e-6},
    {"F16 weights, post-norms", {.weights = TENSOR_F16, .has_post_norm = true, .has_bias = true}, KV_F32, 1e-10, 1e-6},
    {"BF16", {.weights = TENSOR_BF16}, KV_F32, 1e-10, 5e-5},
    {"Q8_0, biases, post-norms, KV q8_0", {.weights = TENSOR_Q8_0, .has_bias = true, .has_post_norm = true}, KV_Q8_0, 2e-5, 1e-4},
    {"Q8_0, d 80: heads straddle units", {.weights = TENSOR_Q8_0, .d_head = 80}, KV_F16, 2e-5, 1e-4},
    {"Q8_0", {.weights = TENSOR_Q8_0}, KV_F16, 2e-5, 1e-4},
    {"Q4_0", {.weights = TENSOR_Q4_0}, KV_F16, 2e-5, 1e-4},
    {"Q4_1", {.weights = TENSOR_Q4_1}, KV_F16, 2e-5, 1e-4},
    {"Q5_0", {.weights = TENSOR_Q5_0}, KV_F16, 2e-5, 1e-4},
    {"Q5_1", {.weights = TENSOR_Q5_1}, KV_F16, 2e-5, 1e-4},
    {"Q2_K", {.weights = TENSOR_Q2_K}, KV_F16, 2e-5, 1e-4},
    {"Q3_K", {.weights = TENSOR_Q3_K}, KV_F16, 2e-5, 1e-4},
    {"Q4_K", {.weights = TENSOR_Q4_K}, KV_F16, 2e-5, 1e-4},
    {"Q5_K", {.weights = TENSOR_Q5_K}, KV_F16, 2e-5, 1e-4},
    {"Q6_K", {.weights = TENSOR_Q6_K}, KV_F16, 2e-5, 1e-4},
    {"IQ4_NL", {.weights = TENSOR_IQ4_NL}, KV_F16, 2e-5, 1e-4},
    {"IQ4_XS", {.weights = TENSOR_IQ4_XS}, KV_F16, 2e-5, 1e-4},
};

static void compare(const record *got, const record *want, double bound, const char *title, const char *why, int chunk) {
    for (int slot = 0; slot < want->n_slots; slot++) {
        if (!got->x[slot] || !want->x[slot]) continue;
        const size_t n = (size_t)N_SEQS * (size_t)want->most * (size_t)want->width[slot];
        check_bound(title, random_net_nmse(got->x[slot], want->x[slot], n), bound, "%s, chunks of %d, %s %d", why, chunk,
                    slot + 1 == want->n_slots ? "logits"
                    : slot % 2                ? "ffn_out of layer"
                                              : "attn_out of layer",
                    slot / 2);
    }
}

static void against_ref(void) {
    static const int length[N_SEQS] = {70, 3, 133};
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        arena mem = {0};
        const net_spec spec = spec_of(nets[i].spec);
        network *net = random_net(&mem, &spec);
        play_opts o = {
            .length = length, .chunk = 65, .has_hidden = true, .kv = nets[i].kv, .n_ctx = i % 2 ? 140 : 60 + 80, .ill_seq = -1};
        record want = play(backend_ref(), net, &o);
        static const int chunks[] = {65, 7, 1};
        for (int c = 0; c < 3; c++) {
            o.chunk = chunks[c];
            record got = play(backend_cuda(), net, &o);
            const bool is_tiles = chunks[c] == 65;
            const double bound = !is_tiles ? nets[i].few : nets[i].tiles > nets[i].few ? nets[i].tiles : nets[i].few;
            compare(&got, &want, bound, nets[i].few < 1e-5 ? "network against ref, f32" : "network against ref, quantised",
                    nets[i].why, chunks[c]);
            record_free(&got);
        }
        record_free(&want);
        arena_free(&mem);
    }
}

static void check_same(const record *got, const record *want, int slot, const char *net, const char *why) {
    const size_t n = (size_t)N_SEQS * (size_t)want->most * (size_t)want->width[slot];
    size_t n_differ = 0;
    for (size_t j = 0; j < n; j++) n_differ += memcmp(&got->x[slot][j], &want->x[slot][j], sizeof(float)) != 0;
    check_that(n_differ == 0, "%s, %s: %zu of %zu logits differ", net, why, n_differ, n);
}

/* A row's bytes in company, alone, in graphs and stage by stage. In a uniform work, and with float weights in any, they are the
 * same in all batches of up to STREAM_ROWS rows, and of up to FEW_ROWS where each sequence has one; else lone rows are one class
 * and several another. */
static void same_bytes(void) {
    static const int length[N_SEQS] = {70, 3, 333};
    static const struct {
        const char *why;
        net_spec spec;
        kv_type kv;
    } table[] = {
        {"f32, KV f16", {.n_head = 6, .n_head_kv = 2, .has_qk_norm = true}, KV_F16},
        {"q8_0, KV q8_0, window", {.weights = TENSOR_Q8_0, .window = 37, .has_post_norm = true}, KV_Q8_0},
        {"q4_k, biases", {.weights = TENSOR_Q4_K, .has_bias = true}, KV_F16},
        {"q6_k, gelu, softcaps", {.weights = TENSOR_Q6_K, .act = ACT_GELU_TANH, .softcap = 3}, KV_F32},
    };
    static const struct {
        const char *why;
        int chunk;
        bool is_alone, has_hidden;
    } variants[] = {{"together, stage by stage", 1, false, true},
                    {"alone, whole steps", 1, true, false},
                    {"alone, stage by stage", 1, true, true},
                    {"chunks of 7", 7, false, false},
                    {"chunks of 10, alone", 10, true, false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        arena mem = {0};
        const net_spec spec = spec_of(table[i].spec);
        network *net = random_net(&mem, &spec);
        play_opts o = {.length = length, .chunk = 1, .is_uniform = true, .kv = table[i].kv, .n_ctx = 400, .ill_seq = -1};
        record want = play(backend_cuda(), net, &o);
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
            o.chunk = variants[v].chunk;
            o.is_alone = variants[v].is_alone;
            o.has_hidden = variants[v].has_hidden;
            record got = play(backend_cuda(), net, &o);
            check_same(&got, &want, 2 * net->n_layer, table[i].why, variants[v].why);
            record_free(&got);
        }
        record_free(&want);
        o = (play_opts){.length = length, .chunk = 1, .is_alone = true, .kv = table[i].kv, .n_ctx = 400, .ill_seq = -1};
        want = play(backend_cuda(), net, &o);
        o.has_hidden = true;
        record got = play(backend_cuda(), net, &o);
        check_same(&got, &want, 2 * net->n_layer, table[i].why, "lone rows, in a graph and stage by stage");
        record_free(&got);
        record_free(&want);
        arena_free(&mem);
    }
}

/* Token 0 embeds as NaN in one sequence: its neighbours' bytes do not change, and it is not swallowed. In large batches it may
 * also reach the rows before it in its own tile, whose weights of it are zero. */
static void nan_stays_home(void) {
    static const int length[N_SEQS] = {40, 50, 20};
    for (int kv = 0; kv < N_KV_TYPES; kv++)
        for (int chunk = 1; chunk <= 25; chunk += 24) {
            arena mem = {0};
            net_spec spec = spec_of((net_spec){.n_head = 6, .n_head_kv = 3, .weights = kv == KV_F32 ? TENSOR_F32 : TENSOR_Q8_0});
            network *net = random_net(&mem, &spec);
            float *row = malloc(sizeof *row * (size_t)spec.n_embd);
            for (int i = 0; i < spec.n_embd; i++) row[i] = i == 3 ? NAN : 1;
            tensor_type_get((uint32_t)spec.weights)->quantise(row, (void *)(uintptr_t)net->embd.data, spec.n_embd);
            free(row);
            play_opts o = {.length = length, .chunk = chunk, .is_uniform = true, .kv = (kv_type)kv, .n_ctx = 64, .ill_seq = -1};
            record want = play(backend_cuda(), net, &o);
            o.ill_seq = 1;
            o.ill_pos = 21;
            record got = play(backend_cuda(), net, &o);
            const int slot = 2 * spec.n_layer;
            int n_changed = 0, n_swallowed = 0;
            for (int i = 0; i < N_SEQS; i++)
                for (int p = 0; p < length[i]; p++) {
                    const size_t at = ((size_t)i * (size_t)want.most + (size_t)p) * (size_t)spec.n_vocab;
                    if (i != 1 || (chunk == 1 && p < 21))
                        n_changed += memcmp(got.x[slot] + at, want.x[slot] + at, (size_t)spec.n_vocab * sizeof(float)) != 0;
                    else if (i == 1 && p >= 21)
                        n_swallowed += !isnan(got.x[slot][at]);
                }
            check_that(n_changed == 0, "NaN, KV %s, chunks of %d: %d rows of others changed", kv_type_name((kv_type)kv), chunk,
                       n_changed);
            check_that(n_swallowed == 0, "NaN, KV %s, chunks of %d: swallowed in %d rows", kv_type_name((kv_type)kv), chunk,
                       n_swallowed);
            record_free(&want);
            record_free(&got);
            arena_free(&mem);
        }
}

/* Contexts long enough for every piece the attention is cut into. */
static void long_context(void) {
    static const int length[N_SEQS] = {2300, 30, 700};
    arena mem = {0};
    net_spec spec = spec_of((net_spec){.n_embd = 32, .n_head = 4, .n_head_kv = 1, .d_head = 64, .n_ff = 32, .n_vocab = 32});
    network *net = random_net(&mem, &spec);
    play_opts o = {.length = length, .chunk = 80, .kv = KV_F16, .n_ctx = 2400, .ill_seq = -1};
    record want = play(backend_cpu(), net, &o); /* itself within 1e-11 of ref, and quicker */
    static const int chunks[] = {80, 1};
    for (int c = 0; c < 2; c++) {
        o.chunk = chunks[c];
        record got = play(backend_cuda(), net, &o);
        compare(&got, &want, 1e-6, "network, long context", "f32, KV f16", chunks[c]);
        record_free(&got);
    }
    record_free(&want);
    arena_free(&mem);
}

/* Few tokens through every path: decode, small batches, tiles; one quantised type and one float. */
void test_small(void) {
    static const int length[N_SEQS] = {40, 2, 5};
    static const struct {
        net_spec spec;
        kv_type kv;
    } table[] = {
        {{.weights = TENSOR_Q4_K}, KV_F16}, {{.weights = TENSOR_Q8_0, .d_head = 80}, KV_F16}, {{.weights = TENSOR_F32}, KV_Q8_0}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        arena mem = {0};
        const net_spec spec = spec_of(table[i].spec);
        network *net = random_net(&mem, &spec);
        play_opts o = {.length = length, .chunk = 40, .has_hidden = true, .kv = table[i].kv, .n_ctx = 64, .ill_seq = -1};
        record want = play(backend_cpu(), net, &o);
        static const int chunks[] = {40, 5, 1};
        for (int c = 0; c < 3; c++) {
            o.chunk = chunks[c];
            record got = play(backend_cuda(), net, &o);
            compare(&got, &want, 1e-4, "small networks against the CPU", tensor_type_get((uint32_t)spec.weights)->name,
                    chunks[c]);
            record_free(&got);
        }
        record_free(&want);
        arena_free(&mem);
    }
    test_sampling();
    test_ahead_small();
}

void test_networks(void) {
    against_ref();
    same_bytes();
    nan_stays_home();
    long_context();
}
