/* The public face of the tokenizer and the chat formats. */
#include <stdlib.h>

#include "runtime/runtime.h"

void galen_tokens_free(galen_tokens *t) {
    if (!t) return;
    free(t->ids);
    *t = (galen_tokens){0};
}

galen_status galen_tokenize(const galen_model *m, const char *text, size_t len, bool add_special, bool parse_special,
                            galen_tokens *out, galen_error *err) {
    const text_piece piece = {.text = text, .len = len, .is_trusted = parse_special};
    return tokenizer_encode(m->vocab, &piece, 1, add_special, out, err);
}

int32_t galen_token_bytes(const galen_model *m, int32_t id, bool render_special, char *buf, size_t cap) {
    return tokenizer_bytes(m->vocab, id, render_special, buf, cap);
}

bool galen_token_is_end(const galen_model *m, int32_t id) {
    return tokenizer_is_end(m->vocab, id);
}

galen_status galen_chat_tokens(const galen_model *m, const galen_message *messages, size_t n, galen_tokens *out,
                               galen_error *err) {
    *out = (galen_tokens){0};
    if (!m->chat)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: its chat template is %s; choose a format with --chat-format: %s",
                          m->info.path, gguf_find(m->file, "tokenizer.chat_template") ? "not one that is known" : "missing",
                          chat_format_choices());
    return chat_encode(m->chat, m->vocab, messages, n, out, err);
}

const char *galen_chat_format_name(size_t index) {
    const chat_format *f = chat_format_at(index);
    return f ? chat_format_name(f) : NULL;
}
