/* galen tokenize: text to ids. */
#include <stdlib.h>
#include <wchar.h>

#include "cli/json.h"

#define PIECE_BYTES 256

static size_t piece_of(const galen_model *m, int32_t id, char buf[PIECE_BYTES]) {
    const int32_t n = galen_token_bytes(m, id, true, buf, PIECE_BYTES);
    return n < 0 || n > PIECE_BYTES ? 0 : (size_t)n;
}

static void print_ids(const galen_tokens *t) {
    (void)putchar('[');
    for (size_t i = 0; i < t->n; i++) (void)printf("%s%d", i ? ", " : "", t->ids[i]);
    (void)puts("]");
}

/* A piece with what a terminal could not show written as \xNN. */
static void print_piece(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t k = 1;
        const unsigned char b = (unsigned char)s[i];
        if (b >= 0x80) {
            mbstate_t state = {0};
            wchar_t wide;
            k = mbrtowc(&wide, s + i, n - i, &state);
            cp = k > 0 && k <= 4 ? (uint32_t)wide : 0;
        } else if (b >= 0x20 && b != 0x7F && b != '\\') {
            cp = b;
        }
        if (cp >= 0xA0 || (cp && cp < 0x80)) {
            (void)fwrite(s + i, 1, k, stdout);
            i += k;
        } else {
            if (b == '\n')
                (void)fputs("\\n", stdout);
            else if (b == '\\')
                (void)fputs("\\\\", stdout);
            else
                (void)printf("\\x%02X", b);
            i++;
        }
    }
}

static void print_table(const galen_model *m, const galen_tokens *t) {
    char buf[PIECE_BYTES];
    for (size_t i = 0; i < t->n; i++) {
        (void)printf("%8d  \"", t->ids[i]);
        print_piece(buf, piece_of(m, t->ids[i], buf));
        (void)puts("\"");
    }
}

static cli_exit print_json(cli *c, const galen_model *m, const galen_tokens *t) {
    json_t *root = json_begin(c), *list = json_array();
    char buf[PIECE_BYTES];
    for (size_t i = 0; i < t->n && list; i++) {
        const size_t n = piece_of(m, t->ids[i], buf);
        json_t *one = json_pack("{s:i, s:o, s:o}", "id", t->ids[i], "text", json_text(buf, n), "bytes", json_bytes(buf, n));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            list = NULL;
        }
    }
    if (json_object_set_new(root, "n_tokens", json_integer((json_int_t)t->n)) || json_object_set_new(root, "tokens", list)) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_tokenize(cli *c) {
    galen_model *m = NULL;
    galen_tokens t = {0};
    galen_error err = {0};
    text_buf text = {0};
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st) st = input_query(c, NULL, "text", &text);
    if (!st) st = engine_open(c, name, true, &m);
    if (st) goto done;
    if (galen_tokenize(m, text.bytes, text.n, !c->args.no_bos, c->args.parse_special, &t, &err)) {
        st = engine_fail(c, PHASE_USE, &err);
        goto done;
    }
    if (c->args.ids)
        print_ids(&t);
    else if (c->args.json)
        st = print_json(c, m, &t);
    else
        print_table(m, &t);
done:
    galen_tokens_free(&t);
    galen_model_close(m);
    free(text.bytes);
    return st;
}
