/* Small vocabularies for tests, written as GGUF files in memory and opened. */
#ifndef TESTS_VOCAB_MAKER_H
#define TESTS_VOCAB_MAKER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"

/* U+2581 is the space. The last two make a token that only a chain through an untrained text could reach. */
#define SPM_WORDS                                                                                                                \
    "\xE2\x96\x81", "a", "b", "c", "e", "h", "l", "o", "d", "r", "w", "aa", "aaaa", "he", "ll", "hell", "hello",                 \
        "\xE2\x96\x81h", "\xE2\x96\x81hello", "\xE2\x96\x81w", "or", "ld", "orld", "\xE2\x96\x81world",                          \
        "\xE2\x96\x81\xE2\x96\x81", "\xE4\xB8\xAD", "\n", "\n\n", "7", "77"
#define BPE_MERGES                                                                                                               \
    "a a", "aa aa", "h e", "l l", "he ll", "hell o", "\xC4\xA0 w", "o r", "l d", "or ld", "\xC4\xA0w orld", "\xC4\xA0 \xC4\xA0", \
        "\xC4\x8A \xC4\x8A", "7 7", "\xC3\xA4 \xC2\xB8", "\xC3\xA4\xC2\xB8 \xC5\x83"

enum { MAKER_CAP = 1024, MAKER_POOL = 1 << 16 };

/* What the file will say. Fields a test wants wrong are changed between maker_spm / maker_bpe and maker_open. */
typedef struct maker {
    const char *model, *pre, *name;
    gguf_str tokens[MAKER_CAP], merges[MAKER_CAP];
    int32_t kinds[MAKER_CAP];
    float scores[MAKER_CAP];
    size_t n, n_merges, n_kinds, n_scores; /* n_kinds, n_scores: as many as tokens unless changed */
    bool has_kinds, has_scores, has_merges;
    struct {
        const char *key;
        uint64_t value;
        gguf_type type;
    } ids[8];
    size_t n_ids;
    int add_bos; /* -1 = the key is absent */
    char pool[MAKER_POOL];
    size_t n_pool;
    uint8_t *bytes; /* the file */
    size_t n_bytes, cap_bytes;
    gguf *g;
    tokenizer *t;
} maker;

static inline galen_status maker_sink(void *user, const void *p, size_t n, galen_error *err) {
    maker *m = user;
    if (m->n_bytes + n > m->cap_bytes) {
        m->cap_bytes = 2 * (m->n_bytes + n);
        uint8_t *grown = realloc(m->bytes, m->cap_bytes);
        if (!grown) return galen_fail(err, GALEN_E_NOMEM, 0, "test");
        m->bytes = grown;
    }
    memcpy(m->bytes + m->n_bytes, p, n);
    m->n_bytes += n;
    return GALEN_OK;
}

static inline gguf_str maker_keep(maker *m, const char *p, size_t n) {
    if (m->n_pool + n > MAKER_POOL) abort();
    char *at = m->pool + m->n_pool;
    if (n) memcpy(at, p, n);
    m->n_pool += n;
    return (gguf_str){at, n};
}

static inline int32_t maker_token_n(maker *m, const char *p, size_t n, int32_t kind, float score) {
    if (m->n == MAKER_CAP) abort();
    m->tokens[m->n] = maker_keep(m, p, n);
    m->kinds[m->n] = kind;
    m->scores[m->n] = score;
    m->n_kinds = m->n_scores = m->n + 1;
    return (int32_t)m->n++;
}
static inline int32_t maker_token(maker *m, const char *text, int32_t kind, float score) {
    return maker_token_n(m, text, strlen(text), kind, score);
}
static inline void maker_merge(maker *m, const char *text) {
    if (m->n_merges == MAKER_CAP) abort();
    m->merges[m->n_merges++] = maker_keep(m, text, strlen(text));
}
static inline void maker_id(maker *m, const char *key, uint64_t value, gguf_type type) {
    m->ids[m->n_ids].key = key;
    m->ids[m->n_ids].value = value;
    m->ids[m->n_ids++].type = type;
}

/* <unk> 0, <s> 1, </s> 2, all bytes 3 .. 258, then words. */
static inline void maker_spm(maker *m) {
    memset(m, 0, sizeof *m);
    m->model = "llama";
    m->has_kinds = m->has_scores = true;
    m->add_bos = -1;
    maker_token(m, "<unk>", TOKEN_UNKNOWN, 0);
    maker_token(m, "<s>", TOKEN_CONTROL, 0);
    maker_token(m, "</s>", TOKEN_CONTROL, 0);
    for (int b = 0; b < 256; b++) {
        char text[8];
        (void)snprintf(text, sizeof text, "<0x%02X>", b);
        maker_token(m, text, TOKEN_BYTE, 0);
    }
    static const char *const words[] = {SPM_WORDS};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) maker_token(m, words[i], TOKEN_NORMAL, -(float)i);
    maker_token(m, "<|im_start|>", TOKEN_CONTROL, 0);
    maker_token(m, "<|im_end|>", TOKEN_CONTROL, 0);
    maker_token(m, "<tool>", TOKEN_USER_DEFINED, 0);
}

/* All bytes 0 .. 255 as characters, what the merges make, then special tokens. */
static inline void maker_bpe(maker *m) {
    memset(m, 0, sizeof *m);
    m->model = "gpt2";
    m->pre = "gpt-2";
    m->has_kinds = m->has_merges = true;
    m->add_bos = -1;
    for (int b = 0; b < 256; b++) {
        char text[2];
        maker_token_n(m, text, vocab_byte_text((uint8_t)b, text), TOKEN_NORMAL, 0);
    }
    static const char *const merges[] = {BPE_MERGES};
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        char joined[64];
        const char *space = strchr(merges[i] + 1, ' ');
        (void)snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        maker_merge(m, merges[i]);
        maker_token(m, joined, TOKEN_NORMAL, 0);
    }
    maker_token(m, "<|endoftext|>", TOKEN_CONTROL, 0);
    maker_token(m, "<|im_start|>", TOKEN_CONTROL, 0);
    maker_token(m, "<|im_end|>", TOKEN_CONTROL, 0);
    maker_token(m, "<tool>", TOKEN_USER_DEFINED, 0);
    maker_token(m, "<tool><tool>", TOKEN_USER_DEFINED, 0);
}

static inline int32_t maker_find(const maker *m, const char *text) {
    for (size_t i = 0; i < m->n; i++) {
        if (m->tokens[i].n == strlen(text) && memcmp(m->tokens[i].p, text, m->tokens[i].n) == 0) return (int32_t)i;
    }
    return -1;
}

static inline galen_status maker_write(maker *m, galen_error *err) {
    gguf_writer *w = NULL;
    galen_status st = gguf_writer_open(&w, 3, 32, maker_sink, m, err);
    if (!st) st = gguf_put_str(w, "general.architecture", "llama", 5, err);
    if (!st && m->name) st = gguf_put_str(w, "general.name", m->name, strlen(m->name), err);
    if (!st && m->model) st = gguf_put_str(w, "tokenizer.ggml.model", m->model, strlen(m->model), err);
    if (!st && m->pre) st = gguf_put_str(w, "tokenizer.ggml.pre", m->pre, strlen(m->pre), err);
    if (!st) st = gguf_put_arr_str(w, "tokenizer.ggml.tokens", m->tokens, m->n, err);
    if (!st && m->has_kinds) st = gguf_put_arr(w, "tokenizer.ggml.token_type", GGUF_I32, m->kinds, m->n_kinds, err);
    if (!st && m->has_scores) st = gguf_put_arr(w, "tokenizer.ggml.scores", GGUF_F32, m->scores, m->n_scores, err);
    if (!st && m->has_merges) st = gguf_put_arr_str(w, "tokenizer.ggml.merges", m->merges, m->n_merges, err);
    for (size_t i = 0; !st && i < m->n_ids; i++) {
        st = gguf_put_scalar(w, m->ids[i].key, m->ids[i].type, &m->ids[i].value, err);
    }
    if (!st && m->add_bos >= 0) st = gguf_put_bool(w, "tokenizer.ggml.add_bos_token", m->add_bos != 0, err);
    if (!st) st = gguf_write_header(w, err);
    if (!st) st = gguf_write_end(w, err);
    gguf_writer_close(w);
    return st;
}

static inline galen_status maker_open(maker *m, galen_error *err) {
    galen_status st = maker_write(m, err);
    if (!st) st = gguf_parse(&m->g, m->bytes, m->n_bytes, "test", err);
    return st ? st : tokenizer_open(&m->t, m->g, err);
}

static inline void maker_close(maker *m) {
    tokenizer_close(m->t);
    gguf_close(m->g);
    free(m->bytes);
    m->t = NULL;
    m->g = NULL;
    m->bytes = NULL;
    m->n_bytes = m->cap_bytes = 0;
}

#endif
