/* Generation under a grammar: whole texts, forced tokens, limits within them, log-probabilities, alone and in a batch. */
#include "../support/batch.h"

#include <jansson.h>
#include <math.h>

static char path[] = "/tmp/galen-test-constrained-XXXXXX";
enum { CTX = 256 };

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":8},\"ill\":{\"type\":\"boolean\"},"
    "\"days\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":99}},\"required\":[\"name\",\"ill\",\"days\"]}";

static galen_model *open_tiny(const char *arch) {
    tiny_write(path, arch, NULL, 0);
    return tiny_open(path, "cpu", 2);
}

static galen_grammar *open_grammar(const galen_model *m, galen_grammar_kind kind, const char *text) {
    galen_grammar *g;
    galen_error err = {0};
    if (galen_grammar_open(&g, m, kind, text, strlen(text), &err)) fail_msg("%s", err.msg);
    return g;
}

static job make(const galen_grammar *g, uint64_t seed) {
    job j = job_make(seed, 40);
    j.grammar = g;
    j.max_tokens = 150;
    j.repeat_penalty = 1;
    j.temperature = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1 : 2;
    return j;
}

static bool fits(const char *text, size_t n) {
    json_t *o = json_loadb(text, n, 0, NULL);
    const json_t *name = json_object_get(o, "name"), *days = json_object_get(o, "days");
    const bool ok = json_object_size(o) == 3 && json_is_string(name) && json_is_boolean(json_object_get(o, "ill")) &&
                    json_is_integer(days) && json_integer_value(days) >= 0 && json_integer_value(days) <= 99;
    json_decref(o);
    return ok;
}

/* Random weights, any temperature: always whole and valid; with and without log-probabilities the same tokens; in a batch too. */
static void texts_are_whole_and_the_same_everywhere(void **state) {
    (void)state;
    enum { N = 24 };
    static job want[N], got[N];
    galen_error err = {0};
    galen_model *m = open_tiny("llama");
    galen_grammar *g = open_grammar(m, GALEN_GRAMMAR_JSON_SCHEMA, schema);
    for (int i = 0; i < N; i++) {
        want[i] = make(g, (uint64_t)i);
        job_alone(m, &want[i], CTX, "f16");
        if (want[i].st) fail_msg("%s", want[i].err.msg);
        if (want[i].finish != GALEN_FINISH_STOP || !fits(want[i].text, want[i].n_text))
            fail_msg("seed %d: finish %d, \"%.*s\"", i, want[i].finish, (int)want[i].n_text, want[i].text);
        job other = make(g, (uint64_t)i);
        other.n_top = want[i].n_top < 0 ? 3 : -1;
        job_alone(m, &other, CTX, "f16");
        assert_int_equal(other.n_ids, want[i].n_ids);
        assert_memory_equal(other.ids, want[i].ids, sizeof other.ids);
    }
    galen_batcher_opts o = galen_batcher_default_opts();
    galen_batcher *b;
    o.n_ctx = CTX;
    o.max_seqs = 6;
    o.kv_tokens = 2 * CTX; /* so that some give way to others */
    if (galen_batcher_open(&b, m, &o, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < N; i++) {
        got[i] = make(g, (uint64_t)i);
        assert_int_equal(job_submit(b, &got[i], NULL), GALEN_OK);
    }
    for (int i = 0; i < N; i++) {
        job_wait(&got[i]);
        if (got[i].st) fail_msg("%s", got[i].err.msg);
        if (!job_is_same(&got[i], &want[i]))
            fail_msg("job %d: in a batch \"%.*s\", alone \"%.*s\"", i, (int)got[i].n_text, got[i].text, (int)want[i].n_text,
                     want[i].text);
    }
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_grammar_close(g);
    galen_model_close(m);
}

/* The probability told of each token, forced or not, is that of the whole distribution, without the mask. */
static void log_probabilities_are_of_the_unmasked(void **state) {
    (void)state;
    galen_model *m = open_tiny("llama");
    galen_grammar *g = open_grammar(m, GALEN_GRAMMAR_JSON_SCHEMA, schema);
    job j = make(g, 4);
    j.n_top = 0;
    job_alone(m, &j, CTX, "f16");
    assert_int_equal(j.st, GALEN_OK);
    galen_session *s;
    galen_session_opts so = galen_session_default_opts();
    so.n_ctx = CTX;
    assert_int_equal(galen_session_open(&s, m, &so, NULL), GALEN_OK);
    int32_t all[2 * JOB_TOKENS];
    const int32_t n = j.n_prompt + j.n_ids;
    memcpy(all, j.prompt, (size_t)j.n_prompt * sizeof *all);
    memcpy(all + j.n_prompt, j.ids, (size_t)j.n_ids * sizeof *all);
    float *logits = calloc((size_t)n * TINY_VOCAB, sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(galen_session_eval_all(s, all, n, logits, NULL), GALEN_OK);
    for (int32_t i = 0; i < j.n_ids; i++) {
        const float *row = logits + (size_t)(j.n_prompt + i - 1) * TINY_VOCAB;
        double sum = 0;
        for (int k = 0; k < TINY_VOCAB; k++) sum += exp((double)row[k]);
        const double want = (double)row[j.ids[i]] - log(sum);
        if (!(fabs(want - (double)j.logprobs[i]) < 1e-4)) fail_msg("token %d: %g, expected %g", i, (double)j.logprobs[i], want);
    }
    free(logits);
    galen_session_close(s);
    galen_grammar_close(g);
    galen_model_close(m);
}

/* Limits, stop strings and cancelling, at every place of a text most of which is forced: exact, and the session holds what it
 * would hold without forced tokens. */
static void limits_within_forced_text_are_exact(void **state) {
    (void)state;
    static const char gbnf[] = "root ::= \"the patient is \" (\"well\" | \"ill\") \" and at home.\"";
    galen_model *m = open_tiny("llama");
    galen_grammar *g = open_grammar(m, GALEN_GRAMMAR_GBNF, gbnf);
    for (int n_top = -1; n_top <= 0; n_top++) {
        job whole = make(g, 5);
        whole.n_top = n_top;
        job_alone(m, &whole, CTX, "f16");
        assert_int_equal(whole.finish, GALEN_FINISH_STOP);
        assert_true(whole.n_ids > 10);
        for (int32_t k = 0; k <= whole.n_ids; k++) {
            job j = make(g, 5), c = make(g, 5), f = make(g, 5);
            j.n_top = c.n_top = f.n_top = n_top;
            j.max_tokens = k;
            job_alone(m, &j, CTX, "f16");
            assert_int_equal(j.n_ids, k);
            assert_memory_equal(j.ids, whole.ids, (size_t)k * sizeof *j.ids);
            assert_int_equal(j.finish, k < whole.n_ids ? GALEN_FINISH_LENGTH : GALEN_FINISH_STOP);
            f.max_tokens = -1; /* until the context is full */
            job_alone(m, &f, f.n_prompt + k + 1, "f16");
            assert_int_equal(f.st, GALEN_OK);
            assert_int_equal(f.n_ids, k + 2 <= whole.n_ids ? k + 2 : whole.n_ids);
            if (k == 0) continue;
            c.cancel_after = k;
            job_alone(m, &c, CTX, "f16");
            assert_int_equal(c.n_ids, k);
            assert_int_equal(c.finish, GALEN_FINISH_CANCELLED);
        }
        job s = make(g, 5);
        s.n_top = n_top;
        s.stop = " is ";
        job_alone(m, &s, CTX, "f16");
        assert_int_equal(s.finish, GALEN_FINISH_STOP);
        assert_int_equal(s.n_text, strlen("the patient"));
    }
    galen_grammar_close(g);
    galen_model_close(m);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    galen_error err = {0};
    galen_model *m = open_tiny("llama"), *other = tiny_open(path, "cpu", 1);
    galen_grammar *g = open_grammar(other, GALEN_GRAMMAR_JSON_OBJECT, ""), *none;
    job j = make(g, 1);
    job_alone(m, &j, CTX, "f16");
    assert_int_equal(j.st, GALEN_E_ARG);
    assert_non_null(strstr(j.err.msg, "another model"));
    assert_int_equal(galen_grammar_open(&none, m, GALEN_GRAMMAR_GBNF, NULL, 0, &err), GALEN_E_ARG);
    assert_int_equal(galen_grammar_open(&none, m, (galen_grammar_kind)9, "", 0, &err), GALEN_E_ARG);
    assert_int_equal(galen_grammar_open(&none, m, GALEN_GRAMMAR_GBNF, "root ::=", 8, &err), GALEN_OK); /* only the end */
    j = make(none, 1);
    job_alone(m, &j, CTX, "f16");
    assert_int_equal(j.st, GALEN_OK);
    assert_int_equal(j.n_ids, 0);
    assert_int_equal(j.finish, GALEN_FINISH_STOP);
    galen_grammar_close(none);
    galen_grammar_close(g);
    galen_grammar_close(NULL);
    /* A bias may forbid all that the grammar admits. */
    g = open_grammar(m, GALEN_GRAMMAR_GBNF, "root ::= [ab]");
    const galen_logit_bias bias[] = {{3 + 'a', -INFINITY}, {3 + 'b', -INFINITY}, {260, -INFINITY}};
    galen_session *s;
    galen_session_opts so = galen_session_default_opts();
    galen_generate_opts o = galen_generate_default_opts();
    const int32_t prompt[] = {5};
    so.n_ctx = CTX;
    assert_int_equal(galen_session_open(&s, m, &so, NULL), GALEN_OK);
    o.grammar = g;
    o.sampling.bias = bias;
    o.sampling.n_bias = 3;
    assert_int_equal(galen_generate(s, prompt, 1, &o, NULL, &err), GALEN_E_NUMERIC);
    assert_non_null(strstr(err.msg, "by the grammar or a bias"));
    galen_session_close(s);
    galen_grammar_close(g);
    galen_model_close(m);
    galen_model_close(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_whole_and_the_same_everywhere),
        cmocka_unit_test(log_probabilities_are_of_the_unmasked),
        cmocka_unit_test(limits_within_forced_text_are_exact),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    const int fd = mkstemp(path);
    if (fd < 0) return 1;
    (void)close(fd);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return failed;
}
