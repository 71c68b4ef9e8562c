/* The place of one sequence in a grammar: masks, tokens taken. */
#include <stdlib.h>
#include <string.h>

#include "grammar/state.h"

galen_status grammar_state_open(grammar_state **out, const grammar *g, galen_error *err) {
    *out = NULL;
    grammar_state *s = calloc(1, sizeof *s);
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a state");
    s->g = g;
    galen_status st = GALEN_OK;
    s->text = malloc((size_t)g->v->max_depth + 1);
    s->stack = malloc(((size_t)g->v->max_depth + 1) * sizeof *s->stack);
    s->kept = calloc(grammar_mask_words(g->v->n_vocab), sizeof *s->kept);
    if (!s->text || !s->stack || !s->kept) st = galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a state");
    if (!st) st = grammar_state_reset(s, err);
    if (st)
        grammar_state_close(s);
    else
        *out = s;
    return st;
}

void grammar_state_close(grammar_state *s) {
    if (!s) return;
    machine_close(&s->m);
    free(s->text);
    free(s->stack);
    free(s->kept);
    free(s);
}

galen_status grammar_state_reset(grammar_state *s, galen_error *err) {
    machine fresh;
    uint32_t place;
    const program *p = &s->g->p;
    galen_status st = machine_open(&fresh, p, err);
    if (!st) st = machine_start(&fresh, p->rules[p->root].start, false, &place, err);
    if (st) {
        machine_close(&fresh);
        return st;
    }
    machine_close(&s->m);
    s->m = fresh;
    s->place = place;
    s->has_ended = false;
    return GALEN_OK;
}

galen_status grammar_state_clone(grammar_state **out, const grammar_state *s, galen_error *err) {
    grammar_state *c = NULL;
    galen_status st = grammar_state_open(&c, s->g, err);
    *out = NULL;
    if (!c) return st;
    machine_close(&c->m);
    c->place = s->place;
    c->has_ended = s->has_ended;
    st = machine_copy(&c->m, &s->m, &c->place, err);
    if (st)
        grammar_state_close(c);
    else
        *out = c;
    return st;
}

galen_status state_tidy(grammar_state *s, galen_error *err) {
    machine fresh;
    uint32_t place = s->place;
    const uint32_t n_nodes = s->n_least > GRAMMAR_KEPT_PLACES * 8 ? s->n_least : GRAMMAR_KEPT_PLACES * 8;
    if (s->m.n_places < GRAMMAR_KEPT_PLACES && s->m.n_nodes < 2 * n_nodes) return GALEN_OK;
    const galen_status st = machine_copy(&fresh, &s->m, &place, err);
    if (st) return st;
    machine_close(&s->m);
    s->m = fresh;
    s->place = place;
    s->n_least = fresh.n_nodes;
    return GALEN_OK;
}

bool grammar_state_may_end(const grammar_state *s) {
    return s->has_ended || s->m.places[s->place].may_end;
}

bool grammar_state_is_done(const grammar_state *s) {
    const text_place *d = &s->m.places[s->place];
    return s->has_ended || (d->may_end && d->n == 0);
}

/* ---------------------------------------------------------------- masks */

static void set_token(const grammar_vocab *v, uint32_t *bits, uint32_t at) {
    if (v->nodes[at].token < 0) return;
    for (uint32_t i = v->first[at]; i < v->first[at + 1]; i++) mask_set(bits, v->order[i]);
}

/* A node of the trie that was just reached at a place, and all below it. */
static galen_status walk(grammar_state *s, uint32_t at, uint32_t place_id, uint32_t *bits, galen_error *err) {
    const trie_node *nodes = s->g->v->nodes;
    const uint32_t end = nodes[at].end, base = nodes[at].depth;
    set_token(s->g->v, bits, at);
    s->stack[0] = place_id;
    for (uint32_t i = at + 1; i < end;) {
        const uint32_t depth = nodes[i].depth - base;
        uint32_t to;
        const galen_status st = machine_step(&s->m, s->stack[depth - 1], nodes[i].byte, &to, err);
        if (st) return st;
        if (to == PLACE_DEAD) {
            i = nodes[i].end;
            continue;
        }
        set_token(s->g->v, bits, i);
        s->stack[depth] = to;
        i++;
    }
    return GALEN_OK;
}

/* How many elements a repetition still takes, and how many it must. */
typedef struct room {
    uint32_t max, min;
} room;

static void add_ids(const table *t, uint32_t n, uint32_t *bits) {
    for (uint32_t i = 0; i < n; i++) mask_set(bits, t->ids[i]);
}

static void add_table(const grammar_state *s, const table *t, room r, uint32_t *bits) {
    const size_t n_words = grammar_mask_words(s->g->v->n_vocab);
    const uint32_t n = t->element && r.max < t->max_need ? t->need_ends[r.max] : t->n_ids;
    if (!t->bits || n < t->n_ids / 8) {
        add_ids(t, n, bits);
        return;
    }
    if (n == t->n_ids) {
        for (size_t i = 0; i < n_words; i++) bits[i] |= t->bits[i];
        return;
    }
    /* All but those that need more: they may be there from elsewhere, so what was there is kept beside. */
    for (size_t i = 0; i < n_words; i++) s->kept[i] = bits[i];
    for (size_t i = 0; i < n_words; i++) bits[i] |= t->bits[i];
    for (uint32_t i = n; i < t->n_ids; i++) {
        const uint32_t word = (uint32_t)t->ids[i] / 32, bit = 1u << (t->ids[i] % 32);
        bits[word] = (bits[word] & ~bit) | (s->kept[word] & bit);
    }
}

/* Those whose first byte behind the end of the rule leads to `to`. */
static galen_status add_group(grammar_state *s, const table *t, uint8_t byte, uint32_t to, room r, uint32_t *bits,
                              galen_error *err) {
    const table_group *group;
    galen_status st = table_group_get(t, byte, &group, err);
    for (uint32_t i = 0; !st && i < group->n; i++) {
        const table_exit *x = &group->exits[i];
        if (!t->element || (x->n_elements >= r.min && x->n_elements <= r.max)) st = walk(s, x->node, to, bits, err);
    }
    return st;
}

/* Tokens that go on behind the end of the rule: tried against the stack. */
static galen_status add_exits(grammar_state *s, const table *t, uint32_t below, room r, uint32_t *bits, galen_error *err) {
    uint32_t after;
    if (t->n_runs == 0) return GALEN_OK;
    galen_status st = machine_return(&s->m, below, t->element != 0, &after, err);
    for (uint32_t i = 0; i < t->n_exit_bytes && !st; i++) {
        uint32_t to;
        st = machine_step(&s->m, after, t->exit_bytes[i], &to, err);
        if (!st && to != PLACE_DEAD) st = add_group(s, t, t->exit_bytes[i], to, r, bits, err);
    }
    return st;
}

static galen_status add_node(grammar_state *s, uint32_t id, uint32_t *bits, galen_error *err) {
    const program *p = &s->g->p;
    const stack_node n = s->m.nodes[id], below = s->m.nodes[n.below];
    const uint32_t loop = n.below ? p->pcs[below.pc].loop : 0;
    room r = {UINT32_MAX, 0};
    uint32_t element = 0;
    const table *t;
    if (loop) {
        const grammar_loop *l = &p->loops[loop - 1];
        bool is_counted;
        const galen_status st = table_is_counted(s->g, l->rule, &is_counted, err);
        if (st) return st;
        if (is_counted) element = l->rule + 1;
        if (l->max != GRAMMAR_NO_LIMIT) r.max = l->max - below.count;
        r.min = l->min > below.count ? l->min - below.count : 0;
    }
    galen_status st = table_get(s->g, n.pc, element, &t, err);
    if (st) return st;
    add_table(s, t, r, bits);
    if (n.below) st = add_exits(s, t, n.below, r, bits, err);
    table_release(t);
    return st;
}

static bool is_empty(const uint32_t *bits, size_t n) {
    uint32_t any = 0;
    for (size_t i = 0; i < n; i++) any |= bits[i];
    return any == 0;
}

galen_status grammar_state_mask(grammar_state *s, uint32_t *bits, galen_error *err) {
    const grammar_vocab *v = s->g->v;
    const size_t n_words = grammar_mask_words(v->n_vocab);
    galen_status st = state_tidy(s, err);
    if (st) return st;
    memset(bits, 0, n_words * sizeof *bits);
    const text_place d = s->m.places[s->place];
    for (uint32_t k = 0; k < d.n && !st && !s->has_ended; k++) st = add_node(s, s->m.sets[d.first + k], bits, err);
    if (st) return st;
    if (grammar_state_may_end(s))
        for (size_t i = 0; i < n_words; i++) bits[i] |= v->is_end[i];
    if (!is_empty(bits, n_words)) return GALEN_OK;
    if (d.n == 0) return galen_fail(err, GALEN_E_REFUSED, 0, "the text is whole and the vocabulary has no token that ends it");
    return galen_fail(err, GALEN_E_REFUSED, 0, "rule \"%s\": no token of the vocabulary fits here",
                      program_rule_name(&s->g->p, s->g->p.pcs[s->m.nodes[s->m.sets[d.first]].pc].rule));
}

/* ---------------------------------------------------------------- moving */

galen_status state_accept_text(grammar_state *s, const char *text, size_t n, bool *is_admitted, galen_error *err) {
    uint32_t place_id = s->place;
    *is_admitted = !s->has_ended;
    for (size_t i = 0; i < n && *is_admitted; i++) {
        const galen_status st = machine_step(&s->m, place_id, (uint8_t)text[i], &place_id, err);
        if (st) return st;
        *is_admitted = place_id != PLACE_DEAD;
    }
    if (*is_admitted) s->place = place_id;
    return GALEN_OK;
}

galen_status grammar_state_accept(grammar_state *s, int32_t token, galen_error *err) {
    const grammar_vocab *v = s->g->v;
    bool is_admitted = false;
    if (token < 0 || token >= v->n_vocab)
        return galen_fail(err, GALEN_E_RANGE, 0, "token %d, expected 0 to %d", token, v->n_vocab - 1);
    galen_status st = state_tidy(s, err);
    if (st) return st;
    if (mask_has(v->is_end, token)) {
        is_admitted = grammar_state_may_end(s);
        s->has_ended |= is_admitted;
    } else if (mask_has(v->is_text, token)) {
        const int32_t n = tokenizer_bytes(v->t, token, false, s->text, v->max_depth);
        st = state_accept_text(s, s->text, (size_t)n, &is_admitted, err);
        if (st) return st;
    }
    if (is_admitted) return GALEN_OK;
    return galen_fail(err, GALEN_E_REFUSED, 0, "token %d is not admitted by the grammar here", token);
}
