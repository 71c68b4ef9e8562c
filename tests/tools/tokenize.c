/* Ids of many strings at once, for checks against other programs.
 * Usage: tokenize MODEL.gguf [--trusted] [--special]
 * Reads records u32 length, bytes (little-endian) from standard input; answers each with u32 count, then count int32 ids.
 * A failure is one record of count 0xFFFFFFFF; its message goes to standard error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

static bool answer(const tokenizer *t, const char *text, uint32_t len, bool is_trusted, bool add_special) {
    const text_piece piece = {text, len, is_trusted};
    galen_tokens out;
    galen_error err;
    uint32_t n = UINT32_MAX;
    if (tokenizer_encode(t, &piece, 1, add_special, &out, &err) != GALEN_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return fwrite(&n, sizeof n, 1, stdout) == 1;
    }
    n = (uint32_t)out.n;
    const bool is_written = fwrite(&n, sizeof n, 1, stdout) == 1 && fwrite(out.ids, sizeof *out.ids, n, stdout) == n;
    free(out.ids);
    return is_written;
}

int main(int argc, char **argv) {
    bool is_trusted = false, add_special = false, is_fine = true;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--trusted") == 0) is_trusted = true;
        if (strcmp(argv[i], "--special") == 0) add_special = true;
    }
    gguf *g = NULL;
    tokenizer *t = NULL;
    galen_error err = {0};
    if (argc < 2 || gguf_open(&g, argv[1], &err) != GALEN_OK || tokenizer_open(&t, g, &err) != GALEN_OK) {
        fprintf(stderr, "tokenize: %s\n", argc < 2 ? "no model" : err.msg);
        gguf_close(g);
        return 1;
    }
    for (uint32_t len; is_fine && fread(&len, sizeof len, 1, stdin) == 1;) {
        char *text = malloc((size_t)len + 1);
        is_fine = text && fread(text, 1, len, stdin) == len && answer(t, text, len, is_trusted, add_special);
        free(text);
    }
    tokenizer_close(t);
    gguf_close(g);
    return is_fine ? 0 : 1;
}
