/* Pieces of text to ids: joined, special tokens cut out, the rest to one of the two tokenizers. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "tokenizer/neutral.h"
#include "tokenizer/tokenizer_impl.h"

bool id_list_add(id_list *l, int32_t id) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap : 32, bytes;
        if (!size_mul(cap, 2, &cap) || !size_mul(cap, sizeof *l->ids, &bytes)) return false;
        int32_t *p = realloc(l->ids, bytes);
        if (!p) return false;
        l->ids = p;
        l->cap = cap;
    }
    l->ids[l->n++] = id;
    return true;
}

/* Falcon's vocabulary, for one, has no token for 28 of the bytes (most control characters) and no unknown token. The model
 * cannot be told of them: they are left out, as llama.cpp and Hugging Face tokenizers do, rather than the text refused.
 * SmolLM2's file names <|endoftext|> as its unknown token: no byte of a user's may become a control token. */
galen_status encode_byte(encoder *e, uint8_t byte, galen_error *err) {
    const vocab *v = &e->t->v;
    int32_t id = v->byte_ids[byte];
    if (id < 0 && v->unk >= 0 && v->tokens[v->unk].kind == TOKEN_UNKNOWN) id = v->unk;
    if (id < 0 || id_list_add(&e->out, id)) return GALEN_OK;
    return galen_fail(err, GALEN_E_NOMEM, 0, "%zu ids", e->out.n);
}

/* The pieces as one text; neighbours of the same trust share a span. */
typedef struct joined {
    char *text;
    size_t n;
    text_span *spans;
    size_t n_spans;
} joined;

static galen_status join(joined *j, const text_piece *pieces, size_t n_pieces, galen_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        if (!size_add(n, pieces[i].len, &n) || n > INT32_MAX) {
            return galen_fail(err, GALEN_E_RANGE, 0, "text of more than %d bytes", INT32_MAX);
        }
    }
    j->text = malloc(n + 1);
    j->spans = calloc(n_pieces + 1, sizeof *j->spans);
    if (!j->text || !j->spans) return galen_fail(err, GALEN_E_NOMEM, 0, "a text of %zu bytes", n);
    for (size_t i = 0; i < n_pieces; i++) {
        const text_piece *p = &pieces[i];
        if (p->len == 0) continue;
        memcpy(j->text + j->n, p->text, p->len);
        j->n += p->len;
        if (j->n_spans == 0 || j->spans[j->n_spans - 1].is_trusted != p->is_trusted) j->n_spans++;
        j->spans[j->n_spans - 1] = (text_span){.end = (uint32_t)j->n, .is_trusted = p->is_trusted};
    }
    return GALEN_OK;
}

/* Text between special tokens. SentencePiece begins each such fragment with a space. */
static galen_status encode_fragment(encoder *e, const joined *j, size_t begin, size_t end, galen_error *err) {
    if (begin >= end) return GALEN_OK;
    if (e->t->v.model == VOCAB_BPE) return bpe_encode(e, j->text + begin, e->neutral + begin, end - begin, err);
    return spm_encode(e, j->text + begin, end - begin, e->t->v.add_space, err);
}

static galen_status encode_joined(encoder *e, const joined *j, const special_match *m, size_t n_m, bool add_bos,
                                  galen_error *err) {
    size_t pos = 0;
    const int32_t bos = e->t->v.bos;
    const bool has_bos = n_m > 0 && m[0].begin == 0 && m[0].id == bos; /* a template that writes it itself */
    if (add_bos && !has_bos && !id_list_add(&e->out, bos)) return galen_fail(err, GALEN_E_NOMEM, 0, "ids");
    for (size_t i = 0; i < n_m; i++) {
        galen_status st = encode_fragment(e, j, pos, m[i].begin, err);
        if (st) return st;
        if (!id_list_add(&e->out, m[i].id)) return galen_fail(err, GALEN_E_NOMEM, 0, "%zu ids", e->out.n);
        pos = m[i].resume;
    }
    return encode_fragment(e, j, pos, j->n, err);
}

galen_status tokenizer_encode(const tokenizer *t, const text_piece *pieces, size_t n_pieces, bool add_special, galen_tokens *out,
                              galen_error *err) {
    encoder e = {.t = t};
    joined j = {0};
    special_match *m = NULL;
    size_t n_m = 0;
    *out = (galen_tokens){0};
    galen_status st = join(&j, pieces, n_pieces, err);
    if (!st && t->v.model == VOCAB_BPE) {
        e.neutral = malloc(j.n + 1);
        if (!e.neutral) {
            st = galen_fail(err, GALEN_E_NOMEM, 0, "a text of %zu bytes", j.n);
        } else {
            neutral_copy(e.neutral, j.text, j.n);
        }
    }
    if (!st) st = specials_find(&t->special, j.text, j.n, j.spans, j.n_spans, &m, &n_m, err);
    if (!st) st = encode_joined(&e, &j, m, n_m, add_special && t->v.add_bos, err);
    if (!st && add_special && t->v.add_eos && !id_list_add(&e.out, t->v.eos)) st = galen_fail(err, GALEN_E_NOMEM, 0, "ids");
    if (!st && e.out.n > INT32_MAX) st = galen_fail(err, GALEN_E_RANGE, 0, "%zu tokens, at most %d", e.out.n, INT32_MAX);
    if (!st) {
        *out = (galen_tokens){.ids = e.out.ids, .n = e.out.n};
        e.out.ids = NULL;
    }
    free(e.out.ids);
    free(e.neutral);
    free(e.spaced);
    symbols_free(&e.sym);
    split_work_free(&e.split);
    free(m);
    free(j.text);
    free(j.spans);
    return st;
}
