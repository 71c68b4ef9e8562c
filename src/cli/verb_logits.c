/* galen logits: the logits after each token, to a .npy file. The file appears under its name only when it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/json.h"
#include "cli/npy.h"
#include "cli/numbers.h"
#include "cli/options.h"

#define ROWS_AT_ONCE 64 /* 33 MB for a vocabulary of 128,256 */

typedef struct sink {
    FILE *f;
    char path[4096];
    bool is_temporary; /* path is renamed to --out at the end */
} sink;

static cli_exit read_tokens(cli *c, int32_t **ids, size_t *n) {
    text_buf text = {0};
    const char *list = c->args.tokens;
    size_t at = 0;
    cli_exit st = CLI_DONE;
    const bool is_stdin = list && strcmp(list, "-") == 0;
    if (!list) {
        term_error(c, "logits: --tokens is missing: --tokens 1,5,7");
        return CLI_USAGE;
    }
    if (is_stdin) st = input_read(c, "-", &text);
    if (st) return st;
    const galen_status got = number_tokens(is_stdin ? text.bytes : list, is_stdin ? text.n : strlen(list), ids, n, &at);
    if (got == GALEN_E_NOMEM) {
        term_error(c, "out of memory");
        st = CLI_MEMORY;
    } else if (got) {
        char safe[64];
        const char *rest = (is_stdin ? text.bytes : list) + at;
        if (!*rest)
            term_error(c, "--tokens: a token id is missing at the end (byte %zu)", at);
        else
            term_error(c, "--tokens: '%s' at byte %zu is not a token id", term_safe(rest, safe, 24), at);
        st = CLI_USAGE;
    }
    free(text.bytes);
    return st;
}

static cli_exit sink_fail(cli *c, const char *path) {
    char safe[512];
    term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), strerror(errno));
    return CLI_FAILED;
}

static cli_exit sink_open(cli *c, sink *s) {
    struct stat info;
    const char *out = c->args.out;
    const bool is_special = stat(out, &info) == 0 && !S_ISREG(info.st_mode); /* a pipe, /dev/null: no renaming */
    const int n = snprintf(s->path, sizeof s->path, is_special ? "%s" : "%s.part", out);
    if (n < 0 || (size_t)n >= sizeof s->path) {
        errno = ENAMETOOLONG;
        return sink_fail(c, out);
    }
    s->f = fopen(s->path, "wb");
    if (!s->f) return sink_fail(c, s->path);
    s->is_temporary = !is_special;
    return CLI_DONE;
}

/* Publish the file, or remove what there is of it. */
static cli_exit sink_close(cli *c, sink *s, cli_exit st) {
    if (!s->f) return st;
    const bool is_bad = ferror(s->f) != 0;
    if ((fclose(s->f) || is_bad) && !st) st = sink_fail(c, s->path);
    if (s->is_temporary && !st && rename(s->path, c->args.out)) st = sink_fail(c, c->args.out);
    if (s->is_temporary && st) (void)unlink(s->path);
    return st;
}

static cli_exit write_logits(cli *c, galen_session *s, const int32_t *ids, size_t n, size_t n_vocab, float *rows, FILE *f) {
    char header[NPY_HEADER_BYTES];
    galen_error err = {0};
    npy_header(header, n, n_vocab);
    if (fwrite(header, 1, sizeof header, f) != sizeof header) return sink_fail(c, c->args.out);
    for (size_t i = 0; i < n; i += ROWS_AT_ONCE) {
        const size_t k = n - i < ROWS_AT_ONCE ? n - i : ROWS_AT_ONCE;
        if (galen_session_eval_all(s, ids + i, (int32_t)k, rows, &err)) return engine_fail(c, PHASE_USE, &err);
        if (fwrite(rows, sizeof(float) * n_vocab, k, f) != k) return sink_fail(c, c->args.out);
        if (signals_stop()) return signals_exit();
        term_progress(c, "evaluating", i + k, n);
    }
    return CLI_DONE;
}

static cli_exit report(cli *c, const galen_model *m, size_t n, double seconds) {
    const galen_model_info info = galen_model_get_info(m);
    term_note(c, "%zu tokens in %.2f s (%.1f tokens/s): float32 [%zu][%d] in %s", n, seconds,
              seconds > 0 ? (double)n / seconds : 0, n, info.n_vocab, c->args.out);
    if (!c->args.json) return CLI_DONE;
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "model", json_model(m)) || json_object_set_new(root, "out", json_text0(c->args.out)) ||
        json_object_set_new(root, "shape", json_pack("[I, I]", (json_int_t)n, (json_int_t)info.n_vocab)) ||
        json_object_set_new(root, "seconds", json_number(seconds))) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

/* The engine checks ids too; here the option is named. */
static cli_exit check_ids(cli *c, const int32_t *ids, size_t n, int32_t n_vocab) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < n_vocab) continue;
        term_error(c, "--tokens: token %d (number %zu) is not in this model's 0..%d", ids[i], i + 1, n_vocab - 1);
        return CLI_USAGE;
    }
    if (c->args.ctx && n > (size_t)c->args.ctx) {
        term_error(c, "%zu tokens are over the context of %lld (--ctx)", n, (long long)c->args.ctx);
        return CLI_CONTEXT;
    }
    return CLI_DONE;
}

cli_exit verb_logits(cli *c) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    sink out = {0};
    int32_t *ids = NULL;
    float *rows = NULL;
    size_t n = 0;
    const char *name;
    double start = 0;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st && (!c->args.out || !*c->args.out)) {
        term_error(c, "logits: --out is missing: -o out.npy");
        st = CLI_USAGE;
    }
    if (!st) st = read_tokens(c, &ids, &n);
    if (!st) st = engine_open(c, name, false, &m);
    if (st) goto done;
    const size_t n_vocab = (size_t)galen_model_get_info(m).n_vocab;
    st = check_ids(c, ids, n, (int32_t)n_vocab);
    if (!st) st = engine_session(c, m, (int32_t)n, &s);
    if (st) goto done;
    rows = calloc(n < ROWS_AT_ONCE ? n : ROWS_AT_ONCE, n_vocab * sizeof *rows);
    if (!rows) {
        term_error(c, "out of memory: %zu rows of %zu logits", (size_t)ROWS_AT_ONCE, n_vocab);
        st = CLI_MEMORY;
        goto done;
    }
    st = sink_open(c, &out);
    start = clock_s();
    if (!st) st = write_logits(c, s, ids, n, n_vocab, rows, out.f);
    st = sink_close(c, &out, st);
    if (!st) st = report(c, m, n, clock_s() - start);
done:
    free(rows);
    free(ids);
    galen_session_close(s);
    galen_model_close(m);
    return st;
}
