/* The public face of grammars. */
#include "runtime/grammars.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/runtime.h"

struct lazy_vocab {
    pthread_mutex_t lock;
    grammar_vocab *v; /* NULL until it is asked for */
};

galen_status lazy_vocab_open(lazy_vocab **out, galen_error *err) {
    *out = calloc(1, sizeof **out);
    if (!*out) return galen_fail(err, GALEN_E_NOMEM, 0, "model");
    (void)pthread_mutex_init(&(*out)->lock, NULL); /* default attributes: never fails here */
    return GALEN_OK;
}

void lazy_vocab_close(lazy_vocab *l) {
    if (!l) return;
    grammar_vocab_close(l->v);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}

static galen_status vocab_of(const galen_model *m, const grammar_vocab **out, galen_error *err) {
    lazy_vocab *l = m->lazy;
    galen_status st = GALEN_OK;
    (void)pthread_mutex_lock(&l->lock);
    if (!l->v) st = grammar_vocab_open(&l->v, m->vocab, err);
    *out = l->v;
    (void)pthread_mutex_unlock(&l->lock);
    return st;
}

galen_status galen_grammar_open(galen_grammar **out, const galen_model *m, galen_grammar_kind kind, const char *text, size_t len,
                                galen_error *err) {
    const grammar_vocab *v;
    *out = NULL;
    if (kind != GALEN_GRAMMAR_JSON_OBJECT && !text) return galen_fail(err, GALEN_E_ARG, 0, "a grammar without text");
    const galen_status st = vocab_of(m, &v, err);
    if (st) return st;
    switch (kind) {
    case GALEN_GRAMMAR_GBNF:
        return grammar_open_gbnf(out, v, text, len, err);
    case GALEN_GRAMMAR_JSON_SCHEMA:
        return grammar_open_schema(out, v, text, len, err);
    case GALEN_GRAMMAR_JSON_OBJECT:
        return grammar_open_json_object(out, v, err);
    }
    return galen_fail(err, GALEN_E_ARG, 0, "grammar kind %d is not known", (int)kind);
}

void galen_grammar_close(galen_grammar *g) {
    grammar_close(g);
}
