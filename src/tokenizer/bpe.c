/* Byte-level BPE: words by the pre-tokenizer, each byte of a word a symbol, the merge of lowest rank first. */
#include "tokenizer/tokenizer_impl.h"

static void pair(const void *ctx, symbol *left, const symbol *right) {
    const merge_slot *m = merges_find(ctx, left->id, right->id);
    if (!m) return;
    left->rank = m->rank;
    left->joined = m->merged;
}

/* Tokenizers that were trained elsewhere (tiktoken) hold words that no chain of merges reaches. */
static int32_t whole_word(const vocab *v, const char *word, size_t n) {
    char text[512];
    size_t len = 0;
    if (n > v->max_len || n > sizeof text / 2) return VOCAB_NONE;
    for (size_t i = 0; i < n; i++) len += vocab_byte_text((uint8_t)word[i], text + len);
    return vocab_find_text(v, text, len);
}

/* A symbol that is no token (merges may pass through such) goes out as its bytes. */
static galen_status emit(encoder *e, const symbol *s, const char *word, galen_error *err) {
    const vocab *v = &e->t->v;
    if (s->id < v->n_tokens && vocab_is_text(&v->tokens[s->id])) {
        if (!id_list_add(&e->out, s->id)) return galen_fail(err, GALEN_E_NOMEM, 0, "%zu ids", e->out.n);
        return GALEN_OK;
    }
    for (uint32_t i = s->start; i < s->end; i++) {
        galen_status st = encode_byte(e, (uint8_t)word[i], err);
        if (st) return st;
    }
    return GALEN_OK;
}

static galen_status encode_word(encoder *e, const char *word, size_t n, galen_error *err) {
    const tokenizer *t = e->t;
    if (t->pre->ignore_merges) {
        const int32_t id = whole_word(&t->v, word, n);
        if (id >= 0) {
            return id_list_add(&e->out, id) ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "%zu ids", e->out.n);
        }
    }
    if (!symbols_begin(&e->sym, n)) return galen_fail(err, GALEN_E_NOMEM, 0, "a word of %zu bytes", n);
    for (uint32_t i = 0; i < n; i++) symbols_add(&e->sym, t->v.byte_syms[(uint8_t)word[i]], i, i + 1);
    symbols_merge(&e->sym, pair, &t->m);
    for (int32_t i = 0; i >= 0; i = e->sym.s[i].next) {
        galen_status st = emit(e, &e->sym.s[i], word, err);
        if (st) return st;
    }
    return GALEN_OK;
}

galen_status bpe_encode(encoder *e, const char *text, const char *neutral, size_t n, galen_error *err) {
    galen_status st = splitter_run(e->t->split, &e->split, neutral, n, err);
    size_t begin = 0;
    for (size_t i = 0; !st && i < e->split.n; begin = e->split.ends[i++]) {
        st = encode_word(e, text + begin, e->split.ends[i] - begin, err);
    }
    return st;
}
