/* A grammar from fuzzed bytes, opened and followed. */
#ifndef TESTS_FUZZ_GRAMMAR_H
#define TESTS_FUZZ_GRAMMAR_H

#include <jansson.h>

#include "../grammar/grammars.h"
#include "base/utf8.h"

enum { FUZZ_STEPS = 24, FUZZ_TEXT = 4096 };

static void require(bool ok) {
    if (!ok) abort();
}

/* A token of the mask, by a number drawn from the input. */
static int32_t fuzz_pick(const uint32_t *bits, int32_t n_vocab, uint32_t number) {
    int32_t n = 0;
    for (int32_t id = 0; id < n_vocab; id++) n += (int32_t)(bits[id / 32] >> (id % 32) & 1);
    require(n > 0);
    int32_t k = (int32_t)(number % (uint32_t)n);
    for (int32_t id = 0; id < n_vocab; id++)
        if (bits[id / 32] >> (id % 32) & 1 && k-- == 0) return id;
    return -1;
}

static void fuzz_follow(const words *w, const grammar *g, grammar_kind kind, const uint8_t *data, size_t n) {
    static uint32_t bits[64];
    static char text[FUZZ_TEXT];
    const int32_t n_vocab = tokenizer_n_vocab(w->m.t);
    grammar_state *s;
    uint32_t h = 2166136261u;
    size_t len = 0;
    bool has_ended = false;
    galen_status st = grammar_state_open(&s, g, NULL);
    require(st == GALEN_OK || st == GALEN_E_RANGE);
    for (int step = 0; step < FUZZ_STEPS && !st && !grammar_state_is_done(s); step++) {
        int32_t forced[4], n_forced;
        st = grammar_state_mask(s, bits, NULL);
        require(st == GALEN_OK || st == GALEN_E_RANGE);
        if (st) break;
        h = (h ^ (n ? data[(size_t)step * 7 % n] : 0)) * 16777619u;
        const int32_t id = fuzz_pick(bits, n_vocab, h >> 8), other = (int32_t)(h % (uint32_t)n_vocab);
        st = grammar_state_forced(s, forced, 4, &n_forced, NULL);
        require(st == GALEN_OK || st == GALEN_E_RANGE);
        if (st) break;
        if (n_forced) require(bits[forced[0] / 32] >> (forced[0] % 32) & 1);
        if (!(bits[other / 32] >> (other % 32) & 1)) require(grammar_state_accept(s, other, NULL) != GALEN_OK);
        st = grammar_state_accept(s, id, NULL);
        require(st == GALEN_OK || st == GALEN_E_RANGE);
        has_ended = tokenizer_is_end(w->m.t, id);
        const int32_t piece = tokenizer_bytes(w->m.t, id, false, text + len, FUZZ_TEXT - len);
        if (piece > 0 && len + (size_t)piece <= FUZZ_TEXT) len += (size_t)piece;
    }
    if (!st && (has_ended || grammar_state_is_done(s))) {
        require(utf8_is_valid(text, len));
        json_t *json = kind == SCHEMA ? json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : json_null();
        require(json != NULL);
        json_decref(json);
    }
    grammar_state_close(s);
}

static void fuzz_grammar(grammar_kind kind, const uint8_t *data, size_t n) {
    static words w;
    grammar *g;
    galen_error err = {0};
    if (!w.v) words_open(&w);
    const galen_status st = kind == GBNF ? grammar_open_gbnf(&g, w.v, (const char *)data, n, &err)
                                         : grammar_open_schema(&g, w.v, (const char *)data, n, &err);
    require(st == GALEN_OK || st == GALEN_E_FORMAT || st == GALEN_E_UNSUPPORTED || st == GALEN_E_RANGE);
    require(st == GALEN_OK ? g != NULL : g == NULL && err.code == st && err.msg[0]);
    if (g) fuzz_follow(&w, g, kind, data, n);
    grammar_close(g);
}

#endif
