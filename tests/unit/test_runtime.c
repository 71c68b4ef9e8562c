/* Sessions and generation on a tiny model: limits, rewinding, reproducibility, stop strings, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/tiny.h"
#include "base/utf8.h"
#include "galen/galen.h"

#include "../support/temp.h"

static void write_model(const char *arch, const tiny_edit *edits, size_t n) {
    tiny_bytes bytes;
    assert_int_equal(tiny_build(arch, edits, n, &bytes, NULL), GALEN_OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    assert_int_equal(fclose(f), 0);
    free(bytes.p);
}

static galen_model *open_model(const char *device, int n_threads) {
    galen_model *m;
    galen_error err = {0};
    galen_model_opts o = galen_model_default_opts();
    o.device = device;
    o.n_threads = n_threads;
    if (galen_model_open(&m, path, &o, &err)) fail_msg("%s", err.msg);
    return m;
}

static galen_session *open_session(const galen_model *m, int32_t n_ctx, int32_t n_batch, const char *kv) {
    galen_session *s;
    galen_error err = {0};
    galen_session_opts o = galen_session_default_opts();
    o.n_ctx = n_ctx;
    o.n_batch = n_batch;
    o.kv_type = kv;
    if (galen_session_open(&s, m, &o, &err)) fail_msg("%s", err.msg);
    return s;
}

static void fill(int32_t *tokens, int32_t n) {
    for (int32_t i = 0; i < n; i++) tokens[i] = 3 + (int32_t)(rng_at(4, 4, (uint64_t)i).v[0] % 256);
}

/* Any way of cutting a prompt into batches and calls gives the same bytes; so does rewinding; so does any thread count. */
static void the_same_tokens_give_the_same_bytes(void **state) {
    (void)state;
    enum { N = 150 };
    static const struct {
        int32_t n_batch, step;
        int n_threads;
        const char *why;
    } rows[] = {{0, N, 1, "one call, one thread"}, {0, N, 2, "two threads"}, {0, N, 3, "more threads than cores"},
                {1, N, 2, "row by row"},           {7, N, 2, "odd batches"}, {64, N, 1, "batches of a page"},
                {0, 1, 2, "one token a call"},     {0, 33, 2, "calls of 33"}};
    int32_t tokens[N];
    fill(tokens, N);
    for (int a = 0; a < 5; a++) {
        static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "phi3"};
        float first[TINY_VOCAB], logits[TINY_VOCAB];
        write_model(archs[a], NULL, 0);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            galen_model *m = open_model("cpu", rows[r].n_threads);
            galen_session *s = open_session(m, 200, rows[r].n_batch, "f16");
            for (int32_t i = 0; i < N; i += rows[r].step)
                assert_int_equal(galen_session_eval(s, tokens + i, N - i < rows[r].step ? N - i : rows[r].step, logits, NULL),
                                 GALEN_OK);
            if (r == 0) memcpy(first, logits, sizeof first);
            if (memcmp(first, logits, sizeof first) != 0) fail_msg("%s: %s: other bytes", archs[a], rows[r].why);
            assert_int_equal(galen_session_rewind(s, 70, NULL), GALEN_OK);
            assert_int_equal(galen_session_eval(s, tokens + 70, N - 70, logits, NULL), GALEN_OK);
            if (memcmp(first, logits, sizeof first) != 0) fail_msg("%s: %s: other bytes after a rewind", archs[a], rows[r].why);
            galen_session_close(s);
            galen_model_close(m);
        }
    }
}

/* The CPU backend against the definition, and eval_all against eval. F32 weights and KV: rounding of f32 only. */
static void cpu_agrees_with_ref(void **state) {
    (void)state;
    enum { N = 90 };
    static const struct {
        const char *kv;
        double bound;
    } kvs[] = {{"f32", 1e-9}, {"f16", 1e-6}, {"q8_0", 1e-3}};
    int32_t tokens[N];
    fill(tokens, N);
    static float ref[N][TINY_VOCAB], cpu[N][TINY_VOCAB], last[TINY_VOCAB];
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "phi3"};
    for (int a = 0; a < 5; a++) {
        write_model(archs[a], NULL, 0);
        for (int k = 0; k < 3; k++) {
            galen_model *mr = open_model("ref", 1), *mc = open_model("cpu", 2);
            galen_session *sr = open_session(mr, 128, 0, kvs[k].kv), *sc = open_session(mc, 128, 0, kvs[k].kv);
            assert_int_equal(galen_session_eval_all(sr, tokens, N, ref[0], NULL), GALEN_OK);
            assert_int_equal(galen_session_eval_all(sc, tokens, N, cpu[0], NULL), GALEN_OK);
            double num = 0, den = 0;
            for (int i = 0; i < N; i++)
                for (int j = 0; j < TINY_VOCAB; j++) {
                    num += pow((double)cpu[i][j] - (double)ref[i][j], 2);
                    den += pow((double)ref[i][j], 2);
                }
            if (!(num / den <= kvs[k].bound))
                fail_msg("%s, KV %s: NMSE %.3g > %.3g", archs[a], kvs[k].kv, num / den, kvs[k].bound);
            assert_int_equal(galen_session_rewind(sc, 0, NULL), GALEN_OK);
            assert_int_equal(galen_session_eval(sc, tokens, N, last, NULL), GALEN_OK);
            assert_memory_equal(last, cpu[N - 1], sizeof last);
            galen_session_close(sr);
            galen_session_close(sc);
            galen_model_close(mr);
            galen_model_close(mc);
        }
    }
}

static void limits_are_errors_that_change_nothing(void **state) {
    (void)state;
    write_model("llama", NULL, 0);
    galen_model *m = open_model("cpu", 1);
    galen_session *s = open_session(m, 20, 0, NULL);
    galen_error err = {0};
    int32_t tokens[32];
    float a[TINY_VOCAB], b[TINY_VOCAB];
    fill(tokens, 32);
    assert_int_equal(galen_session_eval(s, tokens, 10, NULL, &err), GALEN_OK);
    assert_int_equal(galen_session_eval(s, tokens, 11, NULL, &err), GALEN_E_FULL);
    assert_non_null(strstr(err.msg, "21"));
    assert_non_null(strstr(err.msg, "20"));
    const int32_t bad[] = {3, TINY_VOCAB}, negative[] = {-1};
    assert_int_equal(galen_session_eval(s, bad, 2, NULL, &err), GALEN_E_RANGE);
    assert_int_equal(galen_session_eval(s, negative, 1, NULL, &err), GALEN_E_RANGE);
    assert_int_equal(galen_session_rewind(s, 11, &err), GALEN_E_RANGE);
    assert_int_equal(galen_session_n_past(s), 10);
    assert_int_equal(galen_session_eval(s, tokens + 10, 10, a, &err), GALEN_OK);
    assert_int_equal(galen_session_n_past(s), 20);
    galen_session *other = open_session(m, 20, 0, NULL);
    assert_int_equal(galen_session_eval(other, tokens, 20, b, &err), GALEN_OK);
    assert_memory_equal(a, b, sizeof a);
    galen_session_close(other);
    galen_session_close(s);
    galen_session_opts o = galen_session_default_opts();
    static const struct {
        int32_t n_ctx, n_batch;
        const char *kv;
        galen_status want;
    } rows[] = {{-1, 0, NULL, GALEN_E_ARG}, {257, 0, NULL, GALEN_E_FULL}, {0, -5, NULL, GALEN_E_ARG}, {0, 0, "q2", GALEN_E_ARG}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        o.n_ctx = rows[i].n_ctx;
        o.n_batch = rows[i].n_batch;
        o.kv_type = rows[i].kv;
        assert_int_equal(galen_session_open(&s, m, &o, &err), rows[i].want);
        assert_null(s);
    }
    galen_model_close(m);
}

/* ---------------------------------------------------------------- generation */

typedef struct heard {
    char text[4096];
    size_t n;
    int n_chunks, stop_after;
    bool is_last;
    double logprob_sum;
} heard;

static bool hear(void *user, const galen_chunk *c) {
    heard *h = user;
    assert_true(h->n + c->text_len < sizeof h->text);
    assert_true(utf8_is_valid(c->text, c->text_len));
    memcpy(h->text + h->n, c->text, c->text_len);
    h->n += c->text_len;
    h->text[h->n] = '\0';
    if (c->is_last)
        h->is_last = true;
    else
        h->n_chunks++;
    if (c->n_top) {
        assert_true(c->top_logprobs[0] >= c->logprob);
        h->logprob_sum += (double)c->logprob;
    }
    return h->stop_after == 0 || h->n_chunks < h->stop_after;
}

/* Only ASCII letters, so that text and raw bytes are the same. */
static void only_letters(galen_generate_opts *o) {
    static galen_logit_bias bias[TINY_VOCAB];
    o->sampling.n_bias = 0;
    for (int32_t id = 0; id < TINY_VOCAB; id++)
        if (id < 3 + 'a' || id > 3 + 'z') bias[o->sampling.n_bias++] = (galen_logit_bias){id, -INFINITY};
    o->sampling.bias = bias;
}

static galen_result generate(const galen_model *m, galen_generate_opts *o, heard *h, galen_status want) {
    galen_session *s = open_session(m, 128, 0, NULL);
    galen_result r = {0};
    galen_error err = {0};
    int32_t prompt[9];
    fill(prompt, 9);
    memset(h->text, 0, sizeof h->text);
    h->n = 0;
    h->n_chunks = 0;
    o->on_chunk = hear;
    o->user = h;
    if (galen_generate(s, prompt, 9, o, &r, &err) != want) fail_msg("%s", err.msg);
    galen_session_close(s);
    return r;
}

static void generation_is_reproducible(void **state) {
    (void)state;
    static heard a, b;
    write_model("llama", NULL, 0);
    galen_generate_opts o = galen_generate_default_opts();
    o.max_tokens = 60;
    o.sampling.temperature = 1.5f;
    o.n_top_logprobs = 3;
    for (uint64_t seed = 0; seed < 3; seed++) {
        o.sampling.seed = seed;
        for (int threads = 1; threads <= 3; threads++) {
            galen_model *m = open_model("cpu", threads);
            (void)generate(m, &o, threads == 1 ? &a : &b, GALEN_OK);
            galen_model_close(m);
            if (threads > 1) assert_memory_equal(a.text, b.text, sizeof a.text);
        }
        assert_true(a.is_last && a.n_chunks > 0 && a.logprob_sum < 0);
    }
}

static void stops_by_length_string_and_caller(void **state) {
    (void)state;
    static heard h;
    write_model("llama", NULL, 0);
    galen_model *m = open_model("cpu", 2);
    galen_generate_opts o = galen_generate_default_opts();
    o.max_tokens = 40;
    only_letters(&o);
    galen_result r = generate(m, &o, &h, GALEN_OK);
    assert_int_equal(r.finish, GALEN_FINISH_LENGTH);
    assert_int_equal(r.n_generated, 40);
    assert_int_equal(h.n_chunks, 40);
    char stop[8], whole[sizeof h.text];
    memcpy(whole, h.text, sizeof whole);
    memcpy(stop, h.text + 17, 5); /* some bytes of the output itself; held back while they arrive one token at a time */
    stop[5] = '\0';
    const char *const stops[] = {"\x01never", stop};
    o.stop = stops;
    o.n_stop = 2;
    r = generate(m, &o, &h, GALEN_OK);
    assert_int_equal(r.finish, GALEN_FINISH_STOP);
    assert_null(strstr(h.text, stop));
    assert_memory_equal(h.text, whole, h.n);
    assert_true(h.n <= 17);
    const char *const empty[] = {""};
    o.stop = empty;
    o.n_stop = 1;
    (void)generate(m, &o, &h, GALEN_E_ARG);
    o.n_stop = 0;
    h.stop_after = 5;
    r = generate(m, &o, &h, GALEN_OK);
    h.stop_after = 0;
    assert_int_equal(r.finish, GALEN_FINISH_CANCELLED);
    assert_int_equal(r.n_generated, 5);
    o.max_tokens = -1; /* until the context of 128 is full: 9 + 119 evaluated, one more sampled */
    r = generate(m, &o, &h, GALEN_OK);
    assert_int_equal(r.finish, GALEN_FINISH_LENGTH);
    assert_int_equal(r.n_generated, 128 - 9 + 1);
    galen_model_close(m);
}

static void damaged_weights_end_in_an_error(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        float value;
        const char *why;
    } rows[] = {{"blk.1.ffn_norm.weight", NAN, "NaN in a norm"},
                {"blk.0.attn_q.weight", NAN, "NaN in a projection"},
                {"output_norm.weight", INFINITY, "infinity at the end"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const tiny_edit edit = {rows[i].tensor, TINY_FILL, .f = rows[i].value};
        static heard h;
        write_model("llama", &edit, 1);
        galen_model *m = open_model("cpu", 2);
        galen_generate_opts o = galen_generate_default_opts();
        o.max_tokens = 3;
        print_message("%s\n", rows[i].why);
        (void)generate(m, &o, &h, GALEN_E_NUMERIC);
        galen_model_close(m);
    }
}

static void a_file_cut_while_in_use_is_noticed(void **state) {
    (void)state;
    write_model("llama", NULL, 0);
    galen_model *m = open_model("cpu", 1);
    galen_session *s = open_session(m, 32, 0, NULL);
    const int32_t token = 5;
    galen_error err = {0};
    assert_int_equal(galen_session_eval(s, &token, 1, NULL, &err), GALEN_OK);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(galen_session_eval(s, &token, 1, NULL, &err), GALEN_E_IO);
    assert_non_null(strstr(err.msg, "cut from"));
    galen_session_close(s);
    galen_model_close(m);
}

static void a_model_can_be_looked_into(void **state) {
    (void)state;
    write_model("qwen2", NULL, 0);
    galen_model *m;
    galen_model_opts o = galen_model_default_opts();
    o.is_vocab_only = true;
    assert_int_equal(galen_model_open(&m, path, &o, NULL), GALEN_OK);
    const galen_model_info i = galen_model_get_info(m);
    assert_string_equal(i.arch, "qwen2");
    assert_int_equal(i.n_vocab, TINY_VOCAB);
    assert_string_equal(i.type_name, "F32");
    const char *key;
    char type[64], value[40];
    assert_true(galen_model_meta(m, 0, &key, type, sizeof type, value, sizeof value));
    assert_string_equal(key, "general.architecture");
    assert_string_equal(value, "qwen2");
    for (size_t cap = 1; cap <= 6; cap++) { /* cut at any length, always terminated */
        memset(value, 'x', sizeof value);
        assert_true(galen_model_meta(m, 0, &key, type, sizeof type, value, cap));
        assert_int_equal(strlen(value), cap - 1 < 5 ? cap - 1 : 5);
        assert_memory_equal(value, "qwen2", strlen(value));
    }
    size_t n = 0;
    galen_tensor_info t;
    while (galen_model_tensor(m, n, &t)) n++;
    assert_int_equal(n, 2 + TINY_LAYERS * 12);
    assert_string_equal(t.name, "blk.1.ffn_down.weight");
    uint64_t kv, work;
    assert_int_equal(galen_model_memory(m, 100, "f16", &kv, &work, NULL), GALEN_OK);
    assert_true(kv >= 128 * 2 * 2 * TINY_LAYERS * TINY_KV_HEADS * TINY_HEAD && work > 0);
    galen_session *s;
    assert_int_equal(galen_session_open(&s, m, NULL, NULL), GALEN_E_ARG);
    galen_model_close(m);
}

static bool stop_at(void *user, uint64_t done, uint64_t total) {
    int *left = user;
    assert_true(done <= total && total == 100);
    return (*left)-- > 0;
}

/* One batch, and the caller changes its mind between any two of its parts: nothing is appended, and the session goes on as if
 * nothing had been. */
static void a_pass_is_cancelled_between_layers(void **state) {
    (void)state;
    enum { N = 100 };
    int32_t tokens[N];
    float plain[TINY_VOCAB], after[TINY_VOCAB];
    fill(tokens, N);
    write_model("llama", NULL, 0);
    galen_model *m = open_model("cpu", 2);
    galen_session *s = open_session(m, 200, 0, "f16");
    assert_int_equal(galen_session_eval(s, tokens, N, plain, NULL), GALEN_OK);
    for (int at = 0; at < 2 * TINY_LAYERS; at++) {
        int left = at;
        galen_error err = {0};
        assert_int_equal(galen_session_rewind(s, 0, NULL), GALEN_OK);
        galen_session_set_progress(s, stop_at, &left);
        assert_int_equal(galen_session_eval(s, tokens, N, after, &err), GALEN_E_CANCELLED);
        assert_non_null(strstr(err.msg, "0 of 100 tokens"));
        assert_int_equal(galen_session_n_past(s), 0);
        galen_session_set_progress(s, NULL, NULL);
        assert_int_equal(galen_session_eval(s, tokens, N, after, NULL), GALEN_OK);
        assert_memory_equal(plain, after, sizeof plain);
    }
    int left = 2 * TINY_LAYERS; /* the last call, after the batch, is too late */
    assert_int_equal(galen_session_rewind(s, 0, NULL), GALEN_OK);
    galen_session_set_progress(s, stop_at, &left);
    assert_int_equal(galen_session_eval(s, tokens, N, after, NULL), GALEN_OK);
    assert_int_equal(left, -1);
    galen_session_close(s);
    galen_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_tokens_give_the_same_bytes),   cmocka_unit_test(cpu_agrees_with_ref),
        cmocka_unit_test(limits_are_errors_that_change_nothing), cmocka_unit_test(generation_is_reproducible),
        cmocka_unit_test(stops_by_length_string_and_caller),     cmocka_unit_test(damaged_weights_end_in_an_error),
        cmocka_unit_test(a_file_cut_while_in_use_is_noticed),    cmocka_unit_test(a_model_can_be_looked_into),
        cmocka_unit_test(a_pass_is_cancelled_between_layers),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
