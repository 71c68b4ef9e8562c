/* A grammar: compiled, checked against the vocabulary, shared. */
#include "grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "grammar/compile.h"
#include "grammar/state.h"

/* ---------------------------------------------------------------- can this vocabulary write it? */

static bool has_byte_of(const grammar_vocab *v, const program *p, const grammar_pc *pc) {
    for (uint32_t i = 0; i < pc->n_bytes; i++)
        for (uint32_t b = p->edges[pc->first + i].lo; b <= p->edges[pc->first + i].hi; b++)
            if (v->has_byte[b]) return true;
    return pc->n_bytes == 0;
}

static void reach(uint32_t state, uint32_t *work, uint32_t *n, bool *is_reached) {
    if (is_reached[state]) return;
    is_reached[state] = true;
    work[(*n)++] = state;
}

/* Every state that can be reached needs a byte that some token holds. */
static void check_reached(program *p, const grammar_vocab *v, uint32_t *work, bool *is_reached) {
    uint32_t n = 0;
    reach(p->rules[p->root].start, work, &n, is_reached);
    while (n && !p->st) {
        const grammar_pc *pc = &p->pcs[work[--n]];
        if (!has_byte_of(v, p, pc))
            program_fail(p, GALEN_E_RANGE, p->rules[pc->rule].offset, "rule \"%s\": byte 0x%02X is in no token of the vocabulary",
                         program_rule_name(p, pc->rule), p->edges[pc->first].lo);
        for (uint32_t i = 0; i < pc->n_bytes + pc->n_other; i++) {
            const grammar_edge *e = &p->edges[pc->first + i];
            reach(e->to, work, &n, is_reached);
            if (e->kind == EDGE_CALL) reach(p->rules[e->rule].start, work, &n, is_reached);
        }
        if (pc->loop) {
            reach(p->loops[pc->loop - 1].next, work, &n, is_reached);
            reach(p->rules[p->loops[pc->loop - 1].rule].start, work, &n, is_reached);
        }
    }
}

static void check_bytes(program *p, const grammar_vocab *v) {
    uint32_t *work = calloc(p->n_states, sizeof *work);
    bool *is_reached = calloc(p->n_states, sizeof *is_reached);
    if (work && is_reached)
        check_reached(p, v, work, is_reached);
    else
        program_fail(p, GALEN_E_NOMEM, 0, "grammar: %u states", p->n_states);
    free(work);
    free(is_reached);
}

/* The first mask: a grammar under which nothing can be said is refused here, not while text is written. */
static galen_status check_first(const grammar *g, galen_error *err) {
    grammar_state *s = NULL;
    uint32_t *bits = malloc(grammar_mask_words(g->v->n_vocab) * sizeof *bits);
    galen_status st = bits ? grammar_state_open(&s, g, err) : galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a mask");
    if (!st && !grammar_state_is_done(s)) st = grammar_state_mask(s, bits, err);
    if (st == GALEN_E_REFUSED) {
        st = GALEN_E_RANGE;
        if (err) err->code = st;
    }
    grammar_state_close(s);
    free(bits);
    return st;
}

/* ---------------------------------------------------------------- open, close */

/* Takes g->p, whose rules have been built. */
static galen_status finish(grammar **out, grammar *g, const grammar_vocab *v, uint32_t root, galen_error *err) {
    program *p = &g->p;
    g->v = v;
    if (!p->st) program_finish(p, root);
    if (!p->st) check_bytes(p, v);
    galen_status st = p->st;
    p->err = NULL; /* the caller's, which ends with this call */
    if (!st) {
        g->tables = calloc(p->n_states, sizeof *g->tables);
        g->kinds = calloc(p->n_rules, sizeof *g->kinds);
        if (!g->tables || !g->kinds) st = galen_fail(err, GALEN_E_NOMEM, 0, "grammar: %u states", p->n_states);
    }
    if (!st) st = check_first(g, err);
    if (st)
        grammar_close(g);
    else
        *out = g;
    return st;
}

/* NULL and *st when it cannot be begun. */
static grammar *begin(size_t len, galen_status *st, galen_error *err) {
    if (len > GRAMMAR_MAX_TEXT) {
        *st = galen_fail(err, GALEN_E_RANGE, 0, "a grammar of %zu bytes, at most %d", len, GRAMMAR_MAX_TEXT);
        return NULL;
    }
    grammar *g = calloc(1, sizeof *g);
    if (!g) {
        *st = galen_fail(err, GALEN_E_NOMEM, 0, "grammar");
        return NULL;
    }
    (void)pthread_mutex_init(&g->lock, NULL); /* default attributes: never fails here */
    program_open(&g->p, err);
    return g;
}

galen_status grammar_open_gbnf(grammar **out, const grammar_vocab *v, const char *text, size_t len, galen_error *err) {
    galen_status st = GALEN_OK;
    grammar *g = begin(len, &st, err);
    *out = NULL;
    return g ? finish(out, g, v, gbnf_compile(&g->p, text, len), err) : st;
}

galen_status grammar_open_schema(grammar **out, const grammar_vocab *v, const char *text, size_t len, galen_error *err) {
    galen_status st = GALEN_OK;
    grammar *g = begin(len, &st, err);
    *out = NULL;
    if (!g) return st;
    g->json = v->json;
    return finish(out, g, v, schema_compile(&g->p, text, len), err);
}

galen_status grammar_open_json_object(grammar **out, const grammar_vocab *v, galen_error *err) {
    galen_status st = GALEN_OK;
    grammar *g = begin(0, &st, err);
    *out = NULL;
    if (!g) return st;
    g->json = v->json; /* NULL for the one that the vocabulary keeps */
    return finish(out, g, v, json_object_compile(&g->p), err);
}

void grammar_close(grammar *g) {
    if (!g) return;
    for (uint32_t i = 0; g->tables && i < g->p.n_states; i++) {
        table *t = atomic_load_explicit(&g->tables[i], memory_order_relaxed);
        while (t) {
            table *next = t->next;
            table_close(t);
            t = next;
        }
    }
    free(g->tables);
    free(g->kinds);
    machine_close(&g->scratch);
    (void)pthread_mutex_destroy(&g->lock);
    program_close(&g->p);
    free(g);
}

const tokenizer *grammar_tokenizer(const grammar *g) {
    return g->v->t;
}
