/* SentencePiece BPE: every character a symbol, neighbours join when their joined text is a token, best score first.
 * Source: google/sentencepiece src/bpe_model.cc, as llama.cpp reads it: the whole fragment is one word, spaces are U+2581. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer_impl.h"

typedef struct spm_text {
    const vocab *v;
    const char *p;
} spm_text;

static void pair(const void *ctx, symbol *left, const symbol *right) {
    const spm_text *x = ctx;
    const int32_t id = vocab_find_text(x->v, x->p + left->start, right->end - left->start);
    if (id < 0) return;
    left->rank = x->v->tokens[id].rank;
    left->joined = id;
}

static galen_status emit(encoder *e, const symbol *s, const char *p, galen_error *err) {
    const int32_t id = s->id >= 0 ? s->id : vocab_find_text(&e->t->v, p + s->start, s->end - s->start);
    if (id >= 0) {
        return id_list_add(&e->out, id) ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "%zu ids", e->out.n);
    }
    for (uint32_t i = s->start; i < s->end; i++) {
        galen_status st = encode_byte(e, (uint8_t)p[i], err);
        if (st) return st;
    }
    return GALEN_OK;
}

static galen_status encode_word(encoder *e, const char *p, size_t n, galen_error *err) {
    const spm_text x = {&e->t->v, p};
    if (!symbols_begin(&e->sym, n)) return galen_fail(err, GALEN_E_NOMEM, 0, "a word of %zu bytes", n);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        const size_t len = utf8_decode(p + i, n - i, &cp), used = len ? len : 1;
        symbols_add(&e->sym, VOCAB_NONE, (uint32_t)i, (uint32_t)(i + used));
        i += used;
    }
    symbols_merge(&e->sym, pair, &x);
    for (int32_t i = 0; i >= 0; i = e->sym.s[i].next) {
        galen_status st = emit(e, &e->sym.s[i], p, err);
        if (st) return st;
    }
    return GALEN_OK;
}

/* Spaces to U+2581, one more in front when asked for. The length in *out_n. */
static bool replace_spaces(encoder *e, const char *text, size_t n, bool add_space, size_t *out_n) {
    size_t n_spaces = add_space, need;
    for (size_t i = 0; i < n; i++) n_spaces += text[i] == ' ';
    if (!size_mul(n_spaces, SPM_SPACE_LEN, &need) || !size_add(need, n, &need) || need > INT32_MAX) return false;
    if (need > e->spaced_cap) {
        free(e->spaced);
        e->spaced_cap = 0;
        e->spaced = malloc(need);
        if (!e->spaced) return false;
        e->spaced_cap = need;
    }
    char *p = e->spaced;
    if (add_space) {
        memcpy(p, SPM_SPACE, SPM_SPACE_LEN);
        p += SPM_SPACE_LEN;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            memcpy(p, SPM_SPACE, SPM_SPACE_LEN);
            p += SPM_SPACE_LEN;
        } else {
            *p++ = text[i];
        }
    }
    *out_n = (size_t)(p - e->spaced);
    return true;
}

static bool is_space_at(const char *p, size_t n, size_t i) {
    return n - i >= SPM_SPACE_LEN && memcmp(p + i, SPM_SPACE, SPM_SPACE_LEN) == 0;
}

/* Where no token has a space behind another character, nothing joins across such a place, and the text may be cut there:
 * the same ids, from rows of symbols that fit the cache. Returns the end of the word that begins at i. */
static size_t word_end(const tokenizer *t, const char *p, size_t n, size_t i) {
    if (t->has_inner_space) return n;
    while (i < n && is_space_at(p, n, i)) i += SPM_SPACE_LEN;
    while (i < n && !is_space_at(p, n, i)) i++;
    return i;
}

galen_status spm_encode(encoder *e, const char *text, size_t n, bool add_space, galen_error *err) {
    size_t len;
    if (!replace_spaces(e, text, n, add_space, &len)) {
        return galen_fail(err, GALEN_E_NOMEM, 0, "a text of %zu bytes", n);
    }
    for (size_t i = 0, end; i < len; i = end) {
        end = word_end(e->t, e->spaced, len, i);
        galen_status st = encode_word(e, e->spaced + i, end - i, err);
        if (st) return st;
    }
    return GALEN_OK;
}
