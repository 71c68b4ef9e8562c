/* Opening a tokenizer and asking it about its tokens. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizer/tokenizer_impl.h"

/* A file without tokenizer.ggml.pre is older than the key (April 2024). llama.cpp treats such files as "default" and warns
 * of worse quality; refusing them would refuse files that every other program opens. */
static galen_status find_pretokenizer(const gguf *g, const pretokenizer **out, galen_error *err) {
    static const char key[] = "tokenizer.ggml.pre";
    char choices[360], shown[VOCAB_SHOWN_BYTES];
    gguf_str name = {"default", 7};
    galen_status st = gguf_get_str(g, key, GGUF_OPTIONAL, &name, err);
    if (st) return st;
    if (name.n == 0) name = (gguf_str){"default", 7};
    *out = pretokenizer_find(name.p, name.n);
    if (*out) return GALEN_OK;
    return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: pre-tokenizer \"%s\" is not known; known: %s", key,
                      vocab_shown(shown, name), pretokenizer_choices(choices, sizeof choices));
}

static galen_status find_model(const gguf *g, vocab_model *out, galen_error *err) {
    static const char key[] = "tokenizer.ggml.model";
    static const struct {
        const char *name;
        vocab_model model;
    } models[] = {{"llama", VOCAB_SPM}, {"gpt2", VOCAB_BPE}};
    char shown[VOCAB_SHOWN_BYTES];
    gguf_str name;
    galen_status st = gguf_get_str(g, key, GGUF_REQUIRED, &name, err);
    if (st) return st;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (!gguf_str_eq(name, models[i].name)) continue;
        *out = models[i].model;
        return GALEN_OK;
    }
    return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: \"%s\" is not known; known: llama (SentencePiece), gpt2 (byte-level BPE)",
                      key, vocab_shown(shown, name));
}

static bool token_has_inner_space(const vocab_token *t) {
    for (size_t i = 1; i + SPM_SPACE_LEN <= t->n; i++) {
        if (memcmp(t->p + i, SPM_SPACE, SPM_SPACE_LEN) != 0) continue;
        if (i < SPM_SPACE_LEN || memcmp(t->p + i - SPM_SPACE_LEN, SPM_SPACE, SPM_SPACE_LEN) != 0) return true;
    }
    return false;
}

galen_status tokenizer_open(tokenizer **out, const gguf *g, galen_error *err) {
    vocab_model model = VOCAB_SPM;
    *out = NULL;
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) return galen_fail(err, GALEN_E_NOMEM, 0, "tokenizer: %zu bytes", sizeof *t);
    galen_status st = find_model(g, &model, err);
    if (!st && model == VOCAB_BPE) st = find_pretokenizer(g, &t->pre, err);
    if (st) goto fail;
    st = vocab_load(&t->v, &t->mem, g, model, model == VOCAB_SPM || t->pre->add_bos, err);
    if (!st && model == VOCAB_BPE) st = merges_load(&t->m, &t->v, &t->mem, g, err);
    if (!st && model == VOCAB_BPE) st = splitter_open(&t->split, t->pre, err);
    if (!st) st = specials_load(&t->special, &t->v, &t->mem, err);
    if (st) goto fail;
    for (int32_t id = 0; id < t->v.n_tokens && !t->has_inner_space; id++) {
        t->has_inner_space = vocab_is_text(&t->v.tokens[id]) && token_has_inner_space(&t->v.tokens[id]);
    }
    *out = t;
    return GALEN_OK;
fail:
    tokenizer_close(t);
    return st;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    splitter_close(t->split);
    arena_free(&t->mem);
    free(t);
}

/* ---------------------------------------------------------------- tokens to text */

/* SentencePiece text: U+2581 is a space. Writes when buf is not NULL; the length. */
static size_t spm_text(const vocab_token *t, char *buf) {
    size_t n = 0;
    for (size_t i = 0; i < t->n; n++) {
        const bool is_space = t->n - i >= SPM_SPACE_LEN && memcmp(t->p + i, SPM_SPACE, SPM_SPACE_LEN) == 0;
        if (buf) buf[n] = is_space ? ' ' : t->p[i];
        i += is_space ? SPM_SPACE_LEN : 1;
    }
    return n;
}

/* Byte-level text: each character is a byte. Characters that stand for none are kept as they are. */
static size_t bpe_text(const vocab_token *t, char *buf) {
    size_t n = 0;
    for (size_t i = 0; i < t->n;) {
        uint32_t cp = 0;
        const size_t len = utf8_decode(t->p + i, t->n - i, &cp), used = len ? len : 1;
        const int byte = len ? vocab_text_byte(cp) : -1;
        if (byte >= 0) {
            if (buf) buf[n] = (char)byte;
            n++;
        } else {
            if (buf) memcpy(buf + n, t->p + i, used);
            n += used;
        }
        i += used;
    }
    return n;
}

static size_t token_text(const vocab *v, const vocab_token *t, char *buf) {
    switch (t->kind) {
    case TOKEN_BYTE:
        if (buf) buf[0] = (char)t->byte;
        return 1;
    case TOKEN_CONTROL:
    case TOKEN_UNKNOWN:
    case TOKEN_USER_DEFINED:
        if (buf) memcpy(buf, t->p, t->n);
        return t->n;
    default:
        return v->model == VOCAB_SPM ? spm_text(t, buf) : bpe_text(t, buf);
    }
}

int32_t tokenizer_bytes(const tokenizer *t, int32_t id, bool render_special, char *buf, size_t cap) {
    if (id < 0 || id >= t->v.n_tokens) return -1;
    const vocab_token *tok = &t->v.tokens[id];
    if (!render_special && (tok->kind == TOKEN_CONTROL || tok->kind == TOKEN_UNKNOWN)) return 0;
    const size_t n = token_text(&t->v, tok, NULL); /* <= the token's length, which fits an int32_t */
    if (buf && n <= cap) token_text(&t->v, tok, buf);
    return (int32_t)n;
}

int32_t tokenizer_n_vocab(const tokenizer *t) {
    return t->v.n_tokens;
}
int32_t tokenizer_bos(const tokenizer *t) {
    return t->v.bos;
}
int32_t tokenizer_eos(const tokenizer *t) {
    return t->v.eos;
}
bool tokenizer_is_end(const tokenizer *t, int32_t id) {
    return id >= 0 && id < t->v.n_tokens && t->v.tokens[id].is_end;
}
bool tokenizer_adds_space(const tokenizer *t) {
    return t->v.add_space;
}
