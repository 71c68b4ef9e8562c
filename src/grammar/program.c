#include "grammar/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void program_open(program *p, galen_error *err) {
    *p = (program){.err = err};
    (void)program_state(p); /* 0 is no state */
}

void program_close(program *p) {
    free(p->pcs);
    free(p->edges);
    free(p->rules);
    free(p->loops);
    free(p->b_states);
    free(p->b_edges);
    free(p->groups);
    arena_free(&p->mem);
    *p = (program){0};
}

void program_fail(program *p, galen_status st, uint64_t offset, const char *fmt, ...) {
    char msg[GALEN_ERROR_MSG_BYTES];
    va_list args;
    if (p->st) return;
    va_start(args, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, args);
    va_end(args);
    p->st = galen_fail(p->err, st, offset, "%s", msg);
}

const char *program_rule_name(const program *p, uint32_t rule) {
    return p->rules[rule].name;
}

/* Room for one more element of size bytes in *items; false, with an error, beyond limit. */
static bool grow(program *p, void **items, uint32_t n, uint32_t *cap, size_t size, uint32_t limit, const char *what) {
    if (p->st) return false;
    if (n < *cap) return true;
    if (n >= limit) {
        program_fail(p, GALEN_E_RANGE, 0, "the grammar needs more than %u %s", limit, what);
        return false;
    }
    uint32_t more = *cap ? *cap * 2 : 64;
    if (more > limit) more = limit;
    void *grown = realloc(*items, (size_t)more * size);
    if (!grown) {
        program_fail(p, GALEN_E_NOMEM, 0, "grammar: %u %s", more, what);
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

/* ---------------------------------------------------------------- states, edges, rules */

uint32_t program_state(program *p) {
    if (!grow(p, (void **)&p->b_states, p->n_states, &p->cap_states, sizeof *p->b_states, GRAMMAR_MAX_STATES, "states")) return 0;
    p->b_states[p->n_states] = (build_state){.rule = p->rule};
    return p->n_states++;
}

static uint32_t add_edge(program *p, grammar_edge e, uint32_t next) {
    if (!grow(p, (void **)&p->b_edges, p->n_edges, &p->cap_edges, sizeof *p->b_edges, GRAMMAR_MAX_EDGES, "steps")) return 0;
    p->b_edges[p->n_edges++] = (build_edge){.e = e, .next = next};
    return p->n_edges; /* + 1 */
}

static void join(program *p, uint32_t from, grammar_edge e) {
    if (p->st) return;
    const uint32_t edge = add_edge(p, e, p->b_states[from].first);
    if (edge) p->b_states[from].first = edge;
}

void program_bytes(program *p, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to) {
    join(p, from, (grammar_edge){.to = to, .kind = EDGE_BYTES, .lo = lo, .hi = hi});
}

void program_empty(program *p, uint32_t from, uint32_t to) {
    if (from != to) join(p, from, (grammar_edge){.to = to, .kind = EDGE_EMPTY});
}

void program_step_call(program *p, uint32_t from, uint32_t rule, uint32_t to) {
    join(p, from, (grammar_edge){.to = to, .kind = EDGE_CALL, .rule = rule});
}

uint32_t program_rule(program *p, const char *name, size_t n, uint64_t offset) {
    if (!grow(p, (void **)&p->rules, p->n_rules, &p->cap_rules, sizeof *p->rules, GRAMMAR_MAX_RULES, "rules")) return 0;
    enum { SHOWN = 160 };
    const bool is_cut = n > SHOWN;
    char *copy = arena_strndup(&p->mem, name, is_cut ? SHOWN : n);
    if (!copy) {
        program_fail(p, GALEN_E_NOMEM, 0, "grammar: the name of a rule");
        return 0;
    }
    for (int i = 1; is_cut && i <= 3; i++) copy[SHOWN - i] = '.';
    for (char *c = copy; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    p->rules[p->n_rules] = (grammar_rule){.name = copy, .offset = offset};
    return p->n_rules++;
}

void program_begin(program *p, uint32_t rule) {
    p->rule = rule;
    program_group(p, p->st ? 0 : p->rules[rule].offset);
}

void program_end(program *p, uint32_t rule) {
    program_group_end(p);
    if (p->st) return;
    const build_group *g = &p->groups[0];
    p->rules[rule].start = g->item_start;
    p->rules[rule].end = g->item_end;
    p->rules[rule].is_defined = true;
    p->n_groups = 0;
}

/* ---------------------------------------------------------------- groups */

static build_group *top(program *p) {
    return &p->groups[p->n_groups - 1];
}

/* The outermost entry takes a rule's body as its item. */
void program_group(program *p, uint64_t offset) {
    const uint32_t n_new = p->n_groups ? 1 : 2;
    for (uint32_t i = 0; i < n_new; i++) {
        if (!grow(p, (void **)&p->groups, p->n_groups, &p->cap_groups, sizeof *p->groups, GRAMMAR_MAX_GROUPS, "open groups")) {
            if (p->st == GALEN_E_RANGE && p->err) p->err->offset = offset;
            return;
        }
        p->groups[p->n_groups++] = (build_group){.offset = offset};
    }
    const uint32_t start = program_state(p), end = program_state(p);
    *top(p) = (build_group){.start = start, .end = end, .cur = start, .is_tree = true, .offset = offset};
}

/* Join the last item to what is before it. */
static void commit(program *p) {
    if (p->st) return;
    build_group *g = top(p);
    if (!g->item_start) return;
    const uint32_t from = g->cur, to = g->item_start;
    g->cur = g->item_end;
    g->item_start = g->item_end = 0;
    program_empty(p, from, to);
}

static void set_item(program *p, uint32_t start, uint32_t end) {
    if (p->st) return;
    commit(p);
    build_group *g = top(p);
    g->item_start = start;
    g->item_end = end;
    g->item_rule = 0;
    g->is_tree = g->item_calls = false;
}

/* The last item calls a rule. */
static void note_call(program *p) {
    if (p->st) return;
    top(p)->item_calls = top(p)->calls = true;
}

bool program_has_item(const program *p) {
    return !p->st && p->groups[p->n_groups - 1].item_start != 0;
}

void program_or(program *p) {
    commit(p);
    if (p->st) return;
    build_group *g = top(p);
    const uint32_t from = g->cur;
    g->cur = g->start;
    g->is_tree = true;
    program_empty(p, from, g->end);
}

void program_group_end(program *p) {
    program_or(p);
    if (p->st) return;
    const build_group g = *top(p);
    p->n_groups--;
    set_item(p, g.start, g.end);
    if (g.calls) note_call(p);
}

void program_item(program *p, uint32_t *from, uint32_t *to) {
    *from = program_state(p);
    *to = program_state(p);
    set_item(p, *from, *to);
}

void program_call(program *p, uint32_t rule) {
    uint32_t from, to;
    program_item(p, &from, &to);
    program_step_call(p, from, rule, to);
    note_call(p);
    if (!p->st) top(p)->item_rule = rule + 1;
}

/* One step of the trie of literals below a state. */
static uint32_t tree_step(program *p, uint32_t from, uint8_t byte) {
    for (uint32_t i = p->b_states[from].tree; i; i = p->b_edges[i - 1].next)
        if (p->b_edges[i - 1].e.lo == byte) return p->b_edges[i - 1].e.to;
    const uint32_t to = program_state(p);
    if (p->st) return 0;
    const grammar_edge e = {.to = to, .kind = EDGE_BYTES, .lo = byte, .hi = byte};
    const uint32_t edge = add_edge(p, e, p->b_states[from].tree);
    if (edge) p->b_states[from].tree = edge;
    return to;
}

void program_literal(program *p, const char *bytes, size_t n, bool is_shared) {
    if (p->st) return;
    if (is_shared && top(p)->is_tree) {
        for (size_t i = 0; i < n && !p->st; i++) {
            const uint32_t to = tree_step(p, top(p)->cur, (uint8_t)bytes[i]);
            top(p)->cur = to;
        }
        return;
    }
    const uint32_t start = program_state(p);
    uint32_t at = start;
    for (size_t i = 0; i < n && !p->st; i++) {
        const uint32_t to = program_state(p);
        program_bytes(p, at, (uint8_t)bytes[i], (uint8_t)bytes[i], to);
        at = to;
    }
    if (n == 0) at = program_state(p), program_empty(p, start, at);
    set_item(p, start, at);
}

/* ---------------------------------------------------------------- repetition */

static void repeat_star(program *p, build_group *g) {
    const uint32_t around = program_state(p), start = g->item_start, end = g->item_end;
    if (p->st) return;
    g->item_start = g->item_end = around;
    program_empty(p, around, start);
    program_empty(p, end, around);
}

/* A state that calls a rule and counts, as the last item. */
static void put_loop(program *p, uint32_t rule, uint32_t min, uint32_t max) {
    if (!grow(p, (void **)&p->loops, p->n_loops, &p->cap_loops, sizeof *p->loops, GRAMMAR_MAX_RULES, "repetitions")) return;
    const uint32_t at = program_state(p), next = program_state(p);
    if (p->st) return;
    p->loops[p->n_loops++] = (grammar_loop){.rule = rule, .min = min, .max = max, .next = next};
    p->b_states[at].loop = p->n_loops;
    top(p)->item_start = at;
    top(p)->item_end = next;
    note_call(p);
}

/* The item becomes a rule of its own, unless it is a rule. */
static void repeat_count(program *p, uint32_t min, uint32_t max) {
    const build_group *g = top(p);
    if (g->item_rule) {
        put_loop(p, g->item_rule - 1, min, max);
        return;
    }
    const char *name = p->rules[p->rule].name;
    const uint32_t element = program_rule(p, name, strlen(name), g->offset);
    if (p->st) return;
    p->rules[element].start = g->item_start;
    p->rules[element].end = g->item_end;
    p->rules[element].is_defined = true;
    put_loop(p, element, min, max);
}

void program_call_times(program *p, uint32_t rule, uint32_t min, uint32_t max) {
    commit(p);
    if (p->st) return;
    top(p)->is_tree = false;
    put_loop(p, rule, min, max);
}

void program_repeat(program *p, uint32_t min, uint32_t max, uint64_t offset) {
    if (p->st) return;
    build_group *g = top(p);
    if (min > max) {
        program_fail(p, GALEN_E_FORMAT, offset, "rule \"%s\": repeated at least %u and at most %u times",
                     program_rule_name(p, p->rule), min, max);
    } else if (min > GRAMMAR_MAX_REPEAT || (max > GRAMMAR_MAX_REPEAT && max != GRAMMAR_NO_LIMIT)) {
        program_fail(p, GALEN_E_RANGE, offset, "rule \"%s\": repeated %u times, at most %d", program_rule_name(p, p->rule),
                     max == GRAMMAR_NO_LIMIT ? min : max, GRAMMAR_MAX_REPEAT);
    } else if (max == 0) {
        const uint32_t nothing = program_state(p);
        g->item_start = g->item_end = nothing;
    } else if (min == 0 && max == GRAMMAR_NO_LIMIT && !g->item_calls) {
        repeat_star(p, g);
    } else if (min == 1 && max == GRAMMAR_NO_LIMIT && !g->item_calls) {
        program_empty(p, g->item_end, g->item_start);
    } else if (min == 0 && max == 1) {
        program_empty(p, g->item_start, g->item_end);
    } else if (min != 1 || max != 1) { /* with calls inside, counted: table.h serves such repetitions best */
        repeat_count(p, min, max);
    }
    if (!p->st) top(p)->item_rule = 0;
}
