/* Conversations as ids, for checks against rendered templates.
 * Usage: chat_tokens MODEL.gguf TEMPLATE.jinja      the format is the one that the template is recognised as
 * The format's name goes to standard error ("none" and exit 3 when there is none). Standard input holds conversations: u32
 * number of messages, for each its role and its content as u32 length, bytes (little-endian). The answer to each is u32 count,
 * then count int32 ids; 0xFFFFFFFF when it was refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/chat.h"

enum { MAX_MESSAGES = 64 };

static char *read_text(uint32_t *len) {
    if (fread(len, sizeof *len, 1, stdin) != 1) return NULL;
    char *p = malloc((size_t)*len + 1);
    if (!p || fread(p, 1, *len, stdin) != *len) {
        free(p);
        return NULL;
    }
    p[*len] = '\0';
    return p;
}

static bool answer(const chat_format *f, const tokenizer *t, const galen_message *messages, uint32_t n) {
    galen_tokens out;
    uint32_t count = UINT32_MAX;
    if (chat_encode(f, t, messages, n, &out, NULL) == GALEN_OK) count = (uint32_t)out.n;
    bool is_written = fwrite(&count, sizeof count, 1, stdout) == 1;
    if (is_written && out.n) is_written = fwrite(out.ids, sizeof *out.ids, out.n, stdout) == out.n;
    free(out.ids);
    return is_written;
}

static bool converse(const chat_format *f, const tokenizer *t, uint32_t n) {
    galen_message messages[MAX_MESSAGES] = {{0}};
    char *texts[2 * MAX_MESSAGES] = {0};
    bool is_fine = n <= MAX_MESSAGES;
    for (uint32_t i = 0; is_fine && i < n; i++) {
        uint32_t len = 0;
        texts[2 * i] = read_text(&len);
        texts[2 * i + 1] = texts[2 * i] ? read_text(&len) : NULL;
        is_fine = texts[2 * i + 1] != NULL;
        messages[i] = (galen_message){.role = texts[2 * i], .content = texts[2 * i + 1], .content_len = len};
    }
    is_fine = is_fine && answer(f, t, messages, n);
    for (size_t i = 0; i < 2 * MAX_MESSAGES; i++) free(texts[i]);
    return is_fine;
}

static const chat_format *detect(const char *path) {
    static char jinja[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    const size_t n = fread(jinja, 1, sizeof jinja, f);
    (void)fclose(f);
    return chat_format_detect(jinja, n);
}

int main(int argc, char **argv) {
    gguf *g = NULL;
    tokenizer *t = NULL;
    galen_error err = {0};
    const chat_format *f = argc > 2 ? detect(argv[2]) : NULL;
    fprintf(stderr, "%s\n", f ? chat_format_name(f) : "none");
    if (!f) return 3;
    if (gguf_open(&g, argv[1], &err) != GALEN_OK || tokenizer_open(&t, g, &err) != GALEN_OK) {
        fprintf(stderr, "chat_tokens: %s\n", err.msg);
        gguf_close(g);
        return 1;
    }
    bool is_fine = true;
    for (uint32_t n; is_fine && fread(&n, sizeof n, 1, stdin) == 1;) is_fine = converse(f, t, n);
    tokenizer_close(t);
    gguf_close(g);
    return is_fine ? 0 : 1;
}
