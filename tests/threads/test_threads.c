/* One model, several threads: sessions that generate at once give the bytes that each gives alone. Also run under
 * ThreadSanitizer, which judges the locking; here only results are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "galen/galen.h"

static char path[64];

typedef struct writer {
    const galen_model *m;
    uint64_t seed;
    const char *kv_type;
    const galen_grammar *grammar;
    char text[4096];
    size_t n;
    int32_t n_generated;
    galen_status st;
} writer;

static bool take(void *user, const galen_chunk *c) {
    writer *w = user;
    if (w->n + c->text_len < sizeof w->text) {
        memcpy(w->text + w->n, c->text, c->text_len);
        w->n += c->text_len;
    }
    return true;
}

static void *generate(void *user) {
    writer *w = user;
    galen_session *s = NULL;
    galen_error err;
    galen_result result = {0};
    galen_tokens prompt = {0};
    char text[64];
    galen_session_opts so = galen_session_default_opts();
    galen_generate_opts go = galen_generate_default_opts();
    so.n_ctx = 128;
    so.kv_type = w->kv_type;
    go.max_tokens = 24;
    go.sampling.seed = w->seed;
    go.grammar = w->grammar;
    go.on_chunk = take;
    go.user = w;
    w->n = 0;
    (void)snprintf(text, sizeof text, "Patient %llu has a fever since noon.", (unsigned long long)w->seed);
    w->st = galen_tokenize(w->m, text, strlen(text), true, false, &prompt, &err);
    if (!w->st) w->st = galen_session_open(&s, w->m, &so, &err);
    if (!w->st) w->st = galen_generate(s, prompt.ids, (int32_t)prompt.n, &go, &result, &err);
    w->n_generated = result.n_generated;
    galen_session_close(s);
    galen_tokens_free(&prompt);
    return NULL;
}

static galen_model *open_model(int32_t n_threads) {
    galen_model *m = NULL;
    galen_error err;
    galen_model_opts mo = galen_model_default_opts();
    mo.n_threads = n_threads;
    if (galen_model_open(&m, path, &mo, &err)) fail_msg("%s", err.msg);
    return m;
}

enum { N_WRITERS = 3 };

static void sessions_at_once(void **state) {
    static const char *const kv[N_WRITERS] = {"f16", "f32", "q8_0"};
    galen_model *m = open_model(2);
    writer *alone = calloc(N_WRITERS, sizeof *alone), *together = calloc(N_WRITERS, sizeof *together);
    pthread_t threads[N_WRITERS];
    (void)state;
    assert_true(alone && together);
    for (uint64_t i = 0; i < N_WRITERS; i++) {
        alone[i] = together[i] = (writer){.m = m, .seed = i, .kv_type = kv[i]};
        (void)generate(&alone[i]);
        assert_int_equal(alone[i].st, GALEN_OK);
        assert_true(alone[i].n_generated > 0);
    }
    for (int i = 0; i < N_WRITERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, generate, &together[i]), 0);
    for (int i = 0; i < N_WRITERS; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(together[i].st, GALEN_OK);
        assert_int_equal(together[i].n, alone[i].n);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].n);
    }
    assert_true(alone[0].n != alone[1].n || memcmp(alone[0].text, alone[1].text, alone[0].n) != 0); /* seeds matter */
    free(alone);
    free(together);
    galen_model_close(m);
}

static void *open_grammar(void *user) {
    writer *w = user;
    galen_grammar *g = NULL;
    w->st = galen_grammar_open(&g, w->m, GALEN_GRAMMAR_JSON_OBJECT, "", 0, NULL); /* the first indexes the vocabulary */
    galen_grammar_close(g);
    return NULL;
}

static void together_as_alone(writer *alone, writer *together) {
    pthread_t threads[N_WRITERS];
    for (int i = 0; i < N_WRITERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, generate, &together[i]), 0);
    for (int i = 0; i < N_WRITERS; i++) {
        (void)pthread_join(threads[i], NULL);
        (void)generate(&alone[i]);
        assert_int_equal(alone[i].st, GALEN_OK);
        assert_int_equal(together[i].st, GALEN_OK);
        assert_int_equal(together[i].n, alone[i].n);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].n);
        assert_int_equal(alone[i].text[0], '[');
    }
}

/* One grammar, whose tables are made by whoever needs them first. */
static void one_grammar_for_all(void **state) {
    static const char schema[] = "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":12},\"minItems\":3}";
    galen_model *m = open_model(2);
    writer *alone = calloc(N_WRITERS, sizeof *alone), *together = calloc(N_WRITERS, sizeof *together);
    galen_grammar *own = NULL, *shared = NULL;
    pthread_t threads[N_WRITERS];
    (void)state;
    assert_true(alone && together);
    for (int i = 0; i < N_WRITERS; i++) {
        together[i].m = m;
        assert_int_equal(pthread_create(&threads[i], NULL, open_grammar, &together[i]), 0);
    }
    for (int i = 0; i < N_WRITERS; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(together[i].st, GALEN_OK);
    }
    assert_int_equal(galen_grammar_open(&own, m, GALEN_GRAMMAR_JSON_SCHEMA, schema, sizeof schema - 1, NULL), GALEN_OK);
    assert_int_equal(galen_grammar_open(&shared, m, GALEN_GRAMMAR_JSON_SCHEMA, schema, sizeof schema - 1, NULL), GALEN_OK);
    for (uint64_t i = 0; i < N_WRITERS; i++) {
        alone[i] = together[i] = (writer){.m = m, .seed = i, .kv_type = "f16", .grammar = own};
        together[i].grammar = shared;
    }
    together_as_alone(alone, together);
    free(alone);
    free(together);
    galen_grammar_close(own);
    galen_grammar_close(shared);
    galen_model_close(m);
}

static void any_number_of_threads(void **state) {
    writer *first = calloc(1, sizeof *first), *other = calloc(1, sizeof *other);
    (void)state;
    assert_true(first && other);
    for (int32_t n = 1; n <= 4; n++) {
        galen_model *m = open_model(n);
        writer *w = n == 1 ? first : other;
        *w = (writer){.m = m, .seed = 7, .kv_type = "f16"};
        (void)generate(w);
        assert_int_equal(w->st, GALEN_OK);
        assert_int_equal(w->n, first->n);
        assert_memory_equal(w->text, first->text, first->n);
        galen_model_close(m);
    }
    free(first);
    free(other);
}

static void *open_and_close(void *user) {
    galen_status *st = user;
    for (int i = 0; i < 4 && !*st; i++) {
        galen_model *m = NULL;
        galen_error err;
        galen_model_opts mo = galen_model_default_opts();
        mo.n_threads = 2;
        *st = galen_model_open(&m, path, &mo, &err);
        galen_model_close(m);
    }
    return NULL;
}

static void models_at_once(void **state) {
    pthread_t threads[2];
    galen_status st[2] = {GALEN_OK, GALEN_OK};
    (void)state;
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &st[i]), 0);
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(st[i], GALEN_OK);
    }
}

static int write_model(void **state) {
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    galen_error err;
    galen_synth_opts so = galen_synth_default_opts();
    (void)state;
    (void)snprintf(path, sizeof path, "%.30s/galen-threads-%ld.gguf", folder, (long)getpid());
    so.shape = "tiny";
    so.type = "q8_0";
    return galen_synth(path, &so, &err) ? -1 : 0;
}

static int remove_model(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_at_once),
        cmocka_unit_test(one_grammar_for_all),
        cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(models_at_once),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
