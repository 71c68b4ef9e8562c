/* Grammars and the small vocabularies they are tried on. */
#ifndef TESTS_GRAMMAR_GRAMMARS_H
#define TESTS_GRAMMAR_GRAMMARS_H

#include "../unit/vocab_maker.h"
#include "grammar/grammar.h"

/* A byte-level vocabulary of all bytes and some words that cross the borders of JSON and of small grammars. */
static const char *const grammar_words[] = {"ab",       "abc",    "aa",
                                            "aaa",      "aaaaaa", "bc",
                                            "\"",       "\":",    "\",",
                                            "\"}",      "{\"",    "\": \"",
                                            "\",\"",    "\"]",    "[\"",
                                            "}}",       "}]",     "],",
                                            "\", \"",   "name",   "na",
                                            "true",     "tru",    "false",
                                            "null",     "12",     "1.5",
                                            "e1",       "-1",     "00",
                                            ", ",       "\\n",    "\\\"",
                                            "\\u00",    "e\xCC",  "\xC3\xA9",
                                            "\xE4\xB8", "\xAD",   "\xF0\x9F\xA4\x92",
                                            "x\"",      "hello",  "hello\"",
                                            "\n  ",     "  ",     ": "};

typedef struct words {
    maker m;
    grammar_vocab *v;
} words;

static inline void words_open(words *w) {
    maker_bpe(&w->m);
    for (size_t i = 0; i < sizeof grammar_words / sizeof *grammar_words; i++) {
        char text[64];
        size_t n = 0;
        for (const char *c = grammar_words[i]; *c; c++) n += vocab_byte_text((uint8_t)*c, text + n);
        if (maker_find(&w->m, grammar_words[i]) < 0) maker_token_n(&w->m, text, n, TOKEN_NORMAL, 0);
    }
    maker_id(&w->m, "tokenizer.ggml.eos_token_id", (uint64_t)maker_find(&w->m, "<|endoftext|>"), GGUF_U32);
    galen_error err = {0};
    if (maker_open(&w->m, &err) || grammar_vocab_open(&w->v, w->m.t, &err)) {
        printf("vocabulary: %s\n", err.msg);
        abort();
    }
}

static inline void words_close(words *w) {
    grammar_vocab_close(w->v);
    maker_close(&w->m);
}

typedef enum grammar_kind { GBNF, SCHEMA, ANY_OBJECT } grammar_kind;

static inline galen_status open_any(grammar **out, const grammar_vocab *v, grammar_kind kind, const char *text,
                                    galen_error *err) {
    if (kind == ANY_OBJECT) return grammar_open_json_object(out, v, err);
    return kind == GBNF ? grammar_open_gbnf(out, v, text, strlen(text), err)
                        : grammar_open_schema(out, v, text, strlen(text), err);
}

/* Whether the whole text is in the language. Byte by byte, through the tokens that are single bytes (id = byte). */
static inline bool is_in(const grammar *g, const char *text, size_t n) {
    grammar_state *s;
    if (grammar_state_open(&s, g, NULL)) abort();
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) ok = grammar_state_accept(s, (uint8_t)text[i], NULL) == GALEN_OK;
    ok = ok && grammar_state_may_end(s);
    grammar_state_close(s);
    return ok;
}

/* ---- of a cmocka test: the words, opened once */

static words w;

static int grammar_setup(void **state) {
    (void)state;
    words_open(&w);
    return 0;
}
static int grammar_teardown(void **state) {
    (void)state;
    words_close(&w);
    return 0;
}

static inline grammar *must_open(grammar_kind kind, const char *text) {
    grammar *g;
    galen_error err = {0};
    if (open_any(&g, w.v, kind, text, &err)) fail_msg("%.200s\n  %s", text, err.msg);
    return g;
}

typedef struct language {
    const char *text;
    const char *in[8], *out[8]; /* up to the first NULL */
    const char *why;
} language;

static inline void check_language(grammar_kind kind, const language *l) {
    grammar *g = must_open(kind, l->text);
    for (int i = 0; i < 8 && l->in[i]; i++)
        if (!is_in(g, l->in[i], strlen(l->in[i]))) fail_msg("%s: \"%s\" is refused", l->why, l->in[i]);
    for (int i = 0; i < 8 && l->out[i]; i++)
        if (is_in(g, l->out[i], strlen(l->out[i]))) fail_msg("%s: \"%s\" is admitted", l->why, l->out[i]);
    grammar_close(g);
}

static inline bool mask_bit(const uint32_t *bits, int32_t id) {
    return bits[id / 32] >> (id % 32) & 1;
}

typedef struct text_buf {
    char p[8192];
    size_t n;
} text_buf;

static inline void put(text_buf *t, const char *s) {
    const size_t n = strlen(s);
    if (t->n + n + 1 > sizeof t->p) return;
    memcpy(t->p + t->n, s, n + 1);
    t->n += n;
}

#endif
