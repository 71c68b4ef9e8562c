/* What a program must be before it is matched: every rule defined, able to end, and never calling itself before it has read a
 * byte; then the layout for matching. All of it is linear in the edges, with lists instead of recursion. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "grammar/program.h"

/* Steps backwards: for each state, who steps to it and what must hold for that. */
typedef struct back {
    uint32_t from;
    uint32_t rule; /* + 1: only when this rule passes */
    uint32_t next; /* + 1 */
} back;

typedef struct search {
    program *p;
    back *backs; /* [n_edges + n_loops] */
    uint32_t n_backs;
    uint32_t *first; /* [n_states] the backs into a state, + 1                      */
    uint32_t *waits; /* [n_rules] backs that wait for a rule, + 1, joined by wait_next */
    uint32_t *wait_next;
    uint32_t *start_of; /* [n_states] the rule that starts there, + 1 */
    uint32_t *work;     /* [n_states] */
    uint32_t n_work;
    bool *reaches; /* [n_states] the end of its rule */
    bool *passes;  /* [n_rules] */
} search;

static void search_close(search *s) {
    free(s->backs);
    free(s->first);
    free(s->waits);
    free(s->wait_next);
    free(s->start_of);
    free(s->work);
    free(s->reaches);
    free(s->passes);
}

static bool search_open(search *s, program *p) {
    const size_t n_backs = (size_t)p->n_edges + p->n_loops + 1;
    *s = (search){.p = p};
    s->backs = calloc(n_backs, sizeof *s->backs);
    s->wait_next = calloc(n_backs, sizeof *s->wait_next);
    s->first = calloc(p->n_states, sizeof *s->first);
    s->start_of = calloc(p->n_states, sizeof *s->start_of);
    s->work = calloc(p->n_states, sizeof *s->work);
    s->reaches = calloc(p->n_states, sizeof *s->reaches);
    s->waits = calloc(p->n_rules, sizeof *s->waits);
    s->passes = calloc(p->n_rules, sizeof *s->passes);
    if (s->backs && s->wait_next && s->first && s->start_of && s->work && s->reaches && s->waits && s->passes) return true;
    program_fail(p, GALEN_E_NOMEM, 0, "grammar: %u states", p->n_states);
    search_close(s);
    return false;
}

static void mark(search *s, uint32_t state) {
    if (s->reaches[state]) return;
    s->reaches[state] = true;
    s->work[s->n_work++] = state;
}

static void add_back(search *s, uint32_t from, uint32_t to, uint32_t rule) {
    s->backs[s->n_backs] = (back){.from = from, .rule = rule, .next = s->first[to]};
    s->first[to] = ++s->n_backs;
}

/* Which rules can reach their end; reading bytes or not. */
static void search_run(search *s, bool reads_bytes) {
    const program *p = s->p;
    for (uint32_t state = 0; state < p->n_states; state++) {
        const grammar_pc *pc = &p->pcs[state];
        for (uint32_t i = 0; i < pc->n_bytes + pc->n_other; i++) {
            const grammar_edge *e = &p->edges[pc->first + i];
            if (e->kind == EDGE_BYTES && !reads_bytes) continue;
            add_back(s, state, e->to, e->kind == EDGE_CALL ? e->rule + 1 : 0);
        }
        if (pc->loop) {
            const grammar_loop *l = &p->loops[pc->loop - 1];
            add_back(s, state, l->next, l->min ? l->rule + 1 : 0);
        }
    }
    for (uint32_t rule = 0; rule < p->n_rules; rule++) {
        s->start_of[p->rules[rule].start] = rule + 1;
        mark(s, p->rules[rule].end);
    }
    while (s->n_work) {
        const uint32_t state = s->work[--s->n_work], rule = s->start_of[state];
        for (uint32_t b = s->first[state]; b; b = s->backs[b - 1].next) {
            const uint32_t needs = s->backs[b - 1].rule;
            if (!needs || s->passes[needs - 1]) {
                mark(s, s->backs[b - 1].from);
            } else {
                s->wait_next[b - 1] = s->waits[needs - 1];
                s->waits[needs - 1] = b;
            }
        }
        if (!rule || s->passes[rule - 1]) continue;
        s->passes[rule - 1] = true;
        for (uint32_t b = s->waits[rule - 1]; b; b = s->wait_next[b - 1]) mark(s, s->backs[b - 1].from);
    }
}

/* ---------------------------------------------------------------- layout */

static void put_edges(program *p, uint32_t first, bool is_bytes, uint32_t *n) {
    for (uint32_t i = first; i; i = p->b_edges[i - 1].next)
        if ((p->b_edges[i - 1].e.kind == EDGE_BYTES) == is_bytes) p->edges[(*n)++] = p->b_edges[i - 1].e;
}

/* From lists to arrays. */
static bool lay_out(program *p) {
    p->pcs = calloc(p->n_states, sizeof *p->pcs);
    p->edges = calloc((size_t)p->n_edges + 1, sizeof *p->edges);
    if (!p->pcs || !p->edges) {
        program_fail(p, GALEN_E_NOMEM, 0, "grammar: %u states", p->n_states);
        return false;
    }
    uint32_t n = 0;
    for (uint32_t state = 0; state < p->n_states; state++) {
        const build_state *b = &p->b_states[state];
        grammar_pc *pc = &p->pcs[state];
        *pc = (grammar_pc){.first = n, .loop = b->loop, .rule = b->rule};
        put_edges(p, b->first, true, &n);
        put_edges(p, b->tree, true, &n);
        pc->n_bytes = n - pc->first;
        put_edges(p, b->first, false, &n);
        pc->n_other = n - pc->first - pc->n_bytes;
    }
    for (uint32_t rule = 0; rule < p->n_rules; rule++) p->pcs[p->rules[rule].end].is_accept = true;
    free(p->b_states);
    free(p->b_edges);
    free(p->groups);
    p->b_states = NULL;
    p->b_edges = NULL;
    p->groups = NULL;
    return true;
}

/* A call in tail position needs no return, so lists written by recursion at the right do not grow the stack. */
static void find_tails(program *p) {
    enum { FAR = 8 }; /* empty steps looked along */
    for (uint32_t state = 0; state < p->n_states; state++) {
        uint32_t at = state;
        for (int i = 0; i < FAR; i++) {
            const grammar_pc *pc = &p->pcs[at];
            if (pc->loop || pc->n_bytes || pc->n_other > 1 || pc->is_accept || pc->n_other == 0) break;
            if (p->edges[pc->first].kind != EDGE_EMPTY) break;
            at = p->edges[pc->first].to;
        }
        const grammar_pc *pc = &p->pcs[at];
        p->pcs[state].is_tail = pc->is_accept && !pc->loop && pc->n_bytes == 0 && pc->n_other == 0;
    }
}

/* Bytes that no edge separates behave alike. */
static void find_classes(program *p) {
    bool begins[257] = {true};
    for (uint32_t i = 0; i < p->n_edges; i++) {
        if (p->edges[i].kind != EDGE_BYTES) continue;
        begins[p->edges[i].lo] = true;
        begins[p->edges[i].hi + 1] = true;
    }
    p->n_classes = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        if (begins[byte]) p->class_byte[p->n_classes++] = (uint8_t)byte;
        p->byte_class[byte] = (uint8_t)(p->n_classes - 1);
    }
}

/* ---------------------------------------------------------------- left recursion */

typedef struct lefts {
    program *p;
    uint32_t *seen;                 /* [n_states] rule + 1 that last came by           */
    uint32_t *states;               /* [n_states] work                                  */
    uint32_t *calls, *n_calls_from; /* rules called first by each rule, one after another */
    uint32_t n_calls, cap_calls;
} lefts;

static bool add_call(lefts *l, uint32_t rule) {
    if (l->n_calls == l->cap_calls) {
        const uint32_t cap = l->cap_calls ? l->cap_calls * 2 : 256;
        uint32_t *grown = cap > l->cap_calls ? realloc(l->calls, (size_t)cap * sizeof *grown) : NULL;
        if (!grown) return false;
        l->calls = grown;
        l->cap_calls = cap;
    }
    l->calls[l->n_calls++] = rule;
    return true;
}

static void visit(lefts *l, uint32_t state, uint32_t rule, uint32_t *n) {
    if (l->seen[state] == rule + 1) return;
    l->seen[state] = rule + 1;
    l->states[(*n)++] = state;
}

/* The rules that `rule` may call before it has read a byte. */
static bool first_calls(lefts *l, uint32_t rule) {
    const program *p = l->p;
    uint32_t n = 0;
    visit(l, p->rules[rule].start, rule, &n);
    while (n) {
        const grammar_pc *pc = &p->pcs[l->states[--n]];
        for (uint32_t i = pc->n_bytes; i < pc->n_bytes + pc->n_other; i++) {
            const grammar_edge *e = &p->edges[pc->first + i];
            if (e->kind == EDGE_CALL && !add_call(l, e->rule)) return false;
            if (e->kind == EDGE_EMPTY || p->rules[e->rule].is_nullable) visit(l, e->to, rule, &n);
        }
        if (pc->loop) {
            const grammar_loop *loop = &p->loops[pc->loop - 1];
            if (!add_call(l, loop->rule)) return false;
            if (loop->min == 0 || p->rules[loop->rule].is_nullable) visit(l, loop->next, rule, &n);
        }
    }
    return true;
}

/* Depth first through the calls: a rule met while it is still open calls itself. colour: 0 new, 1 open, 2 done. */
static void find_cycle(lefts *l, uint8_t *colour, uint32_t *stack, uint32_t *next) {
    program *p = l->p;
    for (uint32_t root = 0; root < p->n_rules; root++) {
        uint32_t depth = 0;
        if (colour[root]) continue;
        stack[depth++] = root;
        colour[root] = 1;
        while (depth) {
            const uint32_t rule = stack[depth - 1];
            if (next[rule] == l->n_calls_from[rule + 1]) {
                colour[rule] = 2;
                depth--;
                continue;
            }
            const uint32_t called = l->calls[next[rule]++];
            if (colour[called] == 1) {
                program_fail(p, GALEN_E_RANGE, p->rules[called].offset,
                             "rule \"%s\" is left-recursive: it may call itself before it has read anything",
                             program_rule_name(p, called));
                return;
            }
            if (colour[called] == 0) {
                colour[called] = 1;
                stack[depth++] = called;
            }
        }
    }
}

static void check_left_recursion(program *p) {
    lefts l = {.p = p};
    uint8_t *colour = calloc(p->n_rules, 1);
    uint32_t *stack = calloc(p->n_rules, sizeof *stack), *next = calloc(p->n_rules, sizeof *next);
    l.seen = calloc(p->n_states, sizeof *l.seen);
    l.states = calloc(p->n_states, sizeof *l.states);
    l.n_calls_from = calloc((size_t)p->n_rules + 1, sizeof *l.n_calls_from);
    bool ok = colour && stack && next && l.seen && l.states && l.n_calls_from;
    for (uint32_t rule = 0; ok && rule < p->n_rules; rule++) {
        next[rule] = l.n_calls_from[rule] = l.n_calls;
        ok = first_calls(&l, rule);
        l.n_calls_from[rule + 1] = l.n_calls;
    }
    if (ok)
        find_cycle(&l, colour, stack, next);
    else
        program_fail(p, GALEN_E_NOMEM, 0, "grammar: %u rules", p->n_rules);
    free(colour);
    free(stack);
    free(next);
    free(l.seen);
    free(l.states);
    free(l.calls);
    free(l.n_calls_from);
}

/* ---------------------------------------------------------------- all of it */

static void check_defined(program *p) {
    for (uint32_t rule = 0; rule < p->n_rules && !p->st; rule++)
        if (!p->rules[rule].is_defined)
            program_fail(p, GALEN_E_FORMAT, p->rules[rule].offset, "rule \"%s\" is used and never defined",
                         program_rule_name(p, rule));
}

static void check_ends(program *p) {
    search s;
    if (!search_open(&s, p)) return;
    search_run(&s, true);
    for (uint32_t rule = 0; rule < p->n_rules && !p->st; rule++)
        if (!s.passes[rule])
            program_fail(p, GALEN_E_RANGE, p->rules[rule].offset, "rule \"%s\" can never end: it always calls itself again",
                         program_rule_name(p, rule));
    search_close(&s);
}

static void find_nullable(program *p) {
    search s;
    if (p->st || !search_open(&s, p)) return;
    search_run(&s, false);
    for (uint32_t rule = 0; rule < p->n_rules; rule++) p->rules[rule].is_nullable = s.passes[rule];
    search_close(&s);
}

void program_finish(program *p, uint32_t root) {
    check_defined(p);
    if (p->st || !lay_out(p)) return;
    p->root = root;
    find_classes(p);
    find_tails(p);
    check_ends(p);
    find_nullable(p);
    if (!p->st) check_left_recursion(p);
}
