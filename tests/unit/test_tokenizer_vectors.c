/* The reference vectors of the folder GALEN_DATA (default ../shared/data): NAME.inp holds strings, NAME.out their ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tokenizer/tokenizer.h"

static const char *data_folder(void) {
    const char *f = getenv("GALEN_DATA");
    return f ? f : "../shared/data";
}

static char *read_all(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *p = malloc(1 << 20);
    *n = p ? fread(p, 1, (1 << 20) - 1, f) : 0;
    if (p) p[*n] = '\0';
    (void)fclose(f);
    return p;
}

/* One line of NAME.out against the ids. */
static void check_ids(const galen_tokens *got, char **line, const char *name, int index) {
    char *p = *line;
    for (size_t i = 0;; i++) {
        while (*p == ' ') p++;
        if (*p == '\n' || *p == '\0') {
            if (i != got->n) fail_msg("%s, string %d: %zu ids, expected %zu", name, index, got->n, i);
            break;
        }
        const long id = strtol(p, &p, 10);
        if (i >= got->n || got->ids[i] != id) {
            fail_msg("%s, string %d, id %zu: %d, expected %ld", name, index, i, i < got->n ? got->ids[i] : -1, id);
        }
    }
    *line = *p ? p + 1 : p;
}

static void check_vocab(const char *name) {
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[1024];
    size_t n_in = 0, n_out = 0;
    gguf *g;
    tokenizer *t;
    galen_error err;
    (void)snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf", data_folder(), name);
    if (gguf_open(&g, path, &err) != GALEN_OK) fail_msg("%s", err.msg);
    if (tokenizer_open(&t, g, &err) != GALEN_OK) fail_msg("%s", err.msg);
    (void)snprintf(path, sizeof path, "%s/vocab/%s.inp", data_folder(), name);
    char *in = read_all(path, &n_in);
    (void)snprintf(path, sizeof path, "%s/vocab/%s.out", data_folder(), name);
    char *out = read_all(path, &n_out), *line = out;
    if (!in || !out) fail_msg("%s: no %s.inp or .out", data_folder(), name);
    int index = 0;
    for (char *p = in, *next; p; p = next, index++) {
        next = strstr(p, mark);
        const text_piece piece = {p, next ? (size_t)(next - p) : strlen(p), false};
        galen_tokens got;
        assert_int_equal(tokenizer_encode(t, &piece, 1, false, &got, &err), GALEN_OK);
        check_ids(&got, &line, name, index);
        galen_tokens_free(&got);
        if (next) next += sizeof mark - 1;
    }
    assert_int_equal(*line, '\0'); /* every line was compared */
    assert_true(index > 40);
    free(in);
    free(out);
    tokenizer_close(t);
    gguf_close(g);
}

static void test_vectors(void **state) {
    (void)state;
    static const char *const names[] = {"llama-spm", "phi-3", "gpt-2", "llama-bpe", "qwen2", "falcon"};
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/vocab", data_folder());
    if (access(path, R_OK) != 0) {
        print_message("SKIP: no vectors in %s (set GALEN_DATA)\n", path);
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_vocab(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
