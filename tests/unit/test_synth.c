/* galen_synth: weights of the right size in every type, a vocabulary that holds together, files that are whole or not there. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"

static char folder[256];
static char path[300], part[310];

static int make_folder(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/test_synth_XXXXXX", tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(path, sizeof path, "%s/model.gguf", folder);
    (void)snprintf(part, sizeof part, "%s.part", path);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    (void)unlink(path);
    (void)unlink(part);
    return rmdir(folder);
}

static galen_synth_opts tiny(const char *type, uint64_t seed) {
    galen_synth_opts o = galen_synth_default_opts();
    o.shape = "tiny";
    o.type = type;
    o.seed = seed;
    return o;
}

static gguf *make(const char *type, uint64_t seed) {
    galen_error err = {0};
    gguf *g = NULL;
    const galen_synth_opts o = tiny(type, seed);
    if (galen_synth(path, &o, &err) != GALEN_OK) fail_msg("%s: %s", type, err.msg);
    assert_int_not_equal(access(part, F_OK), 0);
    if (gguf_open(&g, path, &err) != GALEN_OK) fail_msg("%s: %s", type, err.msg);
    return g;
}

static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0",   "q4_1",   "q5_0",   "q5_1",  "q2_k",
                                    "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "q4_k_m", "q5_k_m"};

typedef struct sums {
    double n, sum, squares;
} sums;

/* Sum and sum of squares of a matrix, in units of the spread 1 / sqrt(n_in) that it must have. */
static sums measure(const gguf_tensor *t) {
    const uint64_t n = t->ne[0] * t->ne[1];
    float *w = malloc(n * sizeof *w);
    sums s = {.n = (double)n};
    assert_non_null(w);
    tensor_type_get(t->type)->dequantise(t->data, w, (int64_t)n);
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(w[i])) fail_msg("weight %llu is not finite", (unsigned long long)i);
        s.sum += (double)w[i] * sqrt((double)t->ne[0]);
        s.squares += (double)w[i] * (double)w[i] * (double)t->ne[0];
    }
    free(w);
    return s;
}

/* The smallest matrix has 128 blocks of 256. The square of a block's own factor, even in [0.5, 1.5), varies by 0.55 of its
 * mean, that of sub-block scales by up to 1.4 within 8: three standard deviations are 3 * sqrt(0.55^2 + 1.4^2 / 8) / sqrt(128)
 * = 20 %. All matrices together have 100 times as many: 3 %. */
static void test_weights(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        gguf *g = make(types[k], 3);
        sums all = {0};
        int n_matrices = 0;
        for (size_t i = 0; i < gguf_n_tensors(g); i++) {
            const gguf_tensor *t = gguf_tensor_at(g, i);
            if (t->n_dims != 2) continue;
            const sums s = measure(t);
            const double variance = s.squares / s.n;
            if (fabs(variance - 1.0) > 0.2) fail_msg("%s: %.*s: variance %.3f", types[k], (int)t->name.n, t->name.p, variance);
            all = (sums){all.n + s.n, all.sum + s.sum, all.squares + s.squares};
            n_matrices++;
        }
        assert_int_equal(n_matrices, 4 * 7 + 2);
        const double variance = all.squares / all.n, mean = all.sum / all.n;
        if (fabs(variance - 1.0) > 0.03 || fabs(mean) > 0.02) fail_msg("%s: variance %.4f, mean %.4f", types[k], variance, mean);
        gguf_close(g);
    }
}

/* Every level occurs but the one that no quantiser writes. */
static void test_levels(void **state) {
    (void)state;
    int n_seen = 0, seen[256] = {0};
    gguf *g = make("q8_0", 3);
    const gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
    for (size_t i = 0; i < t->n_bytes; i++) {
        if (i % 34 >= 2) seen[((const uint8_t *)t->data)[i]] = 1;
    }
    for (int i = 0; i < 256; i++) n_seen += seen[i];
    assert_int_equal(n_seen, 255);
    assert_int_equal(seen[128], 0); /* -128 */
    gguf_close(g);
}

static void test_vectors(void **state) {
    (void)state;
    gguf *g = make("f16", 3);
    const gguf_tensor *norm = gguf_find_tensor(g, "blk.2.ffn_norm.weight"), *rope = gguf_find_tensor(g, "rope_freqs.weight");
    assert_true(norm && rope && norm->type == TENSOR_F32 && rope->type == TENSOR_F32 && rope->ne[0] == 32);
    for (int i = 0; i < 256; i++) {
        float w;
        memcpy(&w, (const char *)norm->data + 4 * i, 4);
        assert_true(w >= 0.875f && w <= 1.125f);
    }
    /* From the formula of transformers modeling_rope_utils.py (llama3), evaluated in Python. */
    static const struct {
        int i;
        double want;
        const char *why;
    } cases[] = {{0, 1.0, "fast rotations stay"},
                 {14, 1.0, "the last that turns in 2048 tokens"},
                 {15, 1.5534146, "blended"},
                 {17, 5.2573266, "blended"},
                 {18, 8.0, "the first that needs more than 8192"},
                 {31, 8.0, "slow rotations stretch by the factor"}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        float w;
        memcpy(&w, (const char *)rope->data + 4 * cases[k].i, 4);
        if (fabs((double)w / cases[k].want - 1.0) > 1e-5) fail_msg("%s: %.7f", cases[k].why, (double)w);
    }
    gguf_close(g);
}

static void test_mix(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        tensor_type type;
        const char *why;
    } cases[] = {
        {"output.weight", TENSOR_Q6_K, "the head"},
        {"token_embd.weight", TENSOR_Q4_K, "not tied to the head"},
        {"blk.3.attn_v.weight", TENSOR_Q6_K, "last eighth (7 * 4 / 8 = 3)"},
        {"blk.2.ffn_down.weight", TENSOR_Q6_K, "every third"},
        {"blk.1.ffn_down.weight", TENSOR_Q4_K, "between"},
        {"blk.3.attn_k.weight", TENSOR_Q4_K, "never favoured"},
        {"blk.0.attn_norm.weight", TENSOR_F32, "norms stay float"},
    };
    gguf *g = make("q4_k_m", 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const gguf_tensor *t = gguf_find_tensor(g, cases[i].tensor);
        assert_non_null(t);
        if (t->type != cases[i].type) fail_msg("%s: %s", cases[i].tensor, cases[i].why);
    }
    gguf_close(g);
}

static int compare_str(const void *a, const void *b) {
    const gguf_str *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->p, y->p, n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static gguf_str *strings(const gguf *g, const char *key, uint64_t *n) {
    const gguf_kv *kv = NULL;
    size_t pos = 0;
    assert_int_equal(gguf_get_arr(g, key, GGUF_STR, GGUF_REQUIRED, &kv, NULL), GALEN_OK);
    gguf_str *all = malloc(kv->n * sizeof *all);
    assert_non_null(all);
    for (uint64_t i = 0; i < kv->n; i++) all[i] = gguf_kv_str_next(kv, &pos);
    *n = kv->n;
    return all;
}

static void test_vocab(void **state) {
    (void)state;
    gguf *g = make("q4_0", 3);
    uint64_t n_tokens, n_merges;
    gguf_str *tokens = strings(g, "tokenizer.ggml.tokens", &n_tokens), *merges = strings(g, "tokenizer.ggml.merges", &n_merges);
    uint32_t bos = 0, eos = 0, n_vocab = 0;
    assert_int_equal(gguf_get_u32(g, "llama.vocab_size", GGUF_REQUIRED, &n_vocab, NULL), GALEN_OK);
    assert_int_equal(gguf_get_u32(g, "tokenizer.ggml.bos_token_id", GGUF_REQUIRED, &bos, NULL), GALEN_OK);
    assert_int_equal(gguf_get_u32(g, "tokenizer.ggml.eos_token_id", GGUF_REQUIRED, &eos, NULL), GALEN_OK);
    assert_int_equal(n_tokens, n_vocab);
    assert_int_equal(n_merges, n_vocab - 512);
    assert_true(gguf_str_eq(tokens[bos], "<|begin_of_text|>"));
    assert_true(gguf_str_eq(tokens[eos], "<|eot_id|>"));
    assert_true(gguf_str_eq(tokens[0], "!"));
    assert_true(gguf_str_eq(tokens[220], "\xC4\xA0")); /* space, as in GPT-2 and Llama 3 */
    assert_true(gguf_str_eq(tokens[n_tokens - 1], "<|reserved_special_token_247|>"));
    for (uint64_t i = 0; i < n_merges; i++) { /* merge i makes token 256 + i */
        const gguf_str m = merges[i], t = tokens[256 + i];
        const char *gap = memchr(m.p, ' ', m.n);
        assert_non_null(gap);
        const size_t left = (size_t)(gap - m.p);
        assert_int_equal(m.n, t.n + 1);
        assert_memory_equal(m.p, t.p, left);
        assert_memory_equal(gap + 1, t.p + left, t.n - left);
    }
    qsort(tokens, n_tokens, sizeof *tokens, compare_str);
    for (uint64_t i = 1; i < n_tokens; i++) assert_int_not_equal(compare_str(&tokens[i - 1], &tokens[i]), 0);
    free(tokens);
    free(merges);
    gguf_close(g);
}

static void *read_file(const char *name, size_t *n) {
    FILE *f = fopen(name, "rb");
    char *bytes = malloc(8 << 20);
    assert_true(f && bytes);
    *n = fread(bytes, 1, 8 << 20, f);
    (void)fclose(f);
    return bytes;
}

static void test_same_bytes(void **state) {
    (void)state;
    size_t n[3];
    void *bytes[3];
    for (int i = 0; i < 3; i++) {
        gguf_close(make("q4_k", i == 2 ? 8 : 7));
        bytes[i] = read_file(path, &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    assert_int_equal(n[0], n[2]);
    assert_memory_not_equal(bytes[0], bytes[2], n[0]);
    for (int i = 0; i < 3; i++) free(bytes[i]);
}

static void test_bad_opts(void **state) {
    (void)state;
    static const struct {
        const char *shape, *type, *message, *why;
    } cases[] = {
        {"llama-70b", "q8_0", "tiny, llama-1b, llama-8b", "the shapes are listed"},
        {"tiny", "q4", "q4_k_m", "the types are listed"},
        {"", "q8_0", "llama-8b", "an empty name"},
        {NULL, "q8_0", "no shape", "no name"},
        {"tiny", NULL, "no type", "no name"},
    };
    galen_error err;
    (void)unlink(path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        galen_synth_opts o = tiny(cases[i].type, 0);
        o.shape = cases[i].shape;
        memset(&err, 0, sizeof err);
        assert_int_equal(galen_synth(path, &o, &err), GALEN_E_ARG);
        if (!strstr(err.msg, cases[i].message)) fail_msg("%s: %s", cases[i].why, err.msg);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access(part, F_OK), 0);
    }
    galen_synth_opts o = tiny("q8_0", 0);
    o.size = 3;
    assert_int_equal(galen_synth(path, &o, &err), GALEN_E_ARG);
    assert_int_equal(galen_synth(NULL, NULL, &err), GALEN_E_ARG);
    assert_int_equal(galen_synth("", NULL, NULL), GALEN_E_ARG);
}

static void put_text(const char *name, const char *text) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_text(const char *name, const char *text) {
    size_t n;
    char *bytes = read_file(name, &n);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(bytes, text, n);
    free(bytes);
}

static void test_bad_paths(void **state) {
    (void)state;
    char long_path[5000], missing[300];
    galen_error err;
    const galen_synth_opts o = tiny("q8_0", 0);
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    (void)snprintf(missing, sizeof missing, "%s/none/model.gguf", folder);
    assert_int_equal(galen_synth(missing, &o, &err), GALEN_E_IO);
    assert_int_equal(galen_synth(folder, &o, &err), GALEN_E_IO);
    assert_int_equal(galen_synth("/dev/null", &o, &err), GALEN_E_IO);
    assert_int_equal(galen_synth(long_path, &o, &err), GALEN_E_ARG);
    put_text(part, "somebody's");
    assert_int_equal(galen_synth(path, &o, &err), GALEN_E_IO);
    assert_non_null(strstr(err.msg, "remove it first"));
    assert_text(part, "somebody's");
    assert_int_equal(unlink(part), 0);
}

static bool stop_halfway(void *user, uint64_t done, uint64_t total) {
    ++*(int *)user;
    return done < total / 2;
}

static void test_cancel_keeps_the_old_file(void **state) {
    (void)state;
    int n_calls = 0;
    galen_synth_opts o = tiny("q8_0", 0);
    o.progress = stop_halfway;
    o.progress_user = &n_calls;
    put_text(path, "old");
    assert_int_equal(galen_synth(path, &o, NULL), GALEN_E_CANCELLED);
    assert_true(n_calls > 1);
    assert_text(path, "old");
    assert_int_not_equal(access(part, F_OK), 0);
    gguf_close(make("q8_0", 0)); /* and a whole one replaces it */
}

/* A full disk, played by a limit on the size of files: in the header, in the first tensor, in the last. */
static void test_full_disk_keeps_the_old_file(void **state) {
    (void)state;
    static const rlim_t limits[] = {0, 100, 10000, 100000, 3900000};
    struct rlimit before;
    galen_error err;
    const galen_synth_opts o = tiny("q8_0", 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    put_text(path, "old");
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const struct rlimit now = {limits[i], before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
        const galen_status st = galen_synth(path, &o, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(st, GALEN_E_IO);
        assert_text(path, "old");
        assert_int_not_equal(access(part, F_OK), 0);
    }
    (void)signal(SIGXFSZ, handler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_mix),
        cmocka_unit_test(test_vocab),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_bad_opts),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_cancel_keeps_the_old_file),
        cmocka_unit_test(test_full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
