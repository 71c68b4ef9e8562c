/* A rule's condition: read into a short postfix program, run over what a text holds.
 *
 *   a & b | !c          ! binds most, then &, then |; ( ) group
 *   concept             present: said of the patient, now, and not denied
 *   past:concept        present or past;  said:concept  mentioned in any way, also denied
 *   denied:concept
 *   age < 3mo           also years (no unit), w, d; temp (C) hr rr spo2 sbp dbp glucose (mmol/L) gcs weeks (of pregnancy)
 *                       concern danger (sums of weighed words) days (a duration said) shock (hr / sbp), of the laboratory inr
 * potassium_mmol sodium_mmol hb_g platelet_count neutrophil_count ketones_mmol lactate_mmol crp_mg calcium_mmol. < looks at the
 *                       smallest value said, > at the largest; a number that was not said makes the comparison false.
 *   [a & b]             both in one sentence; of numbers only days, and no past: or said: inside
 *
 * No recursion: shunting-yard with a stack of MAX_STACK. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/triage_impl.h"
#include "base/error.h"

static const char *const var_names[VAR_LAB] = {"age",     "temp", "hr",    "rr",   "spo2",  "sbp",     "dbp",
                                               "glucose", "gcs",  "weeks", "days", "shock", "concern", "danger"};

/* Of a variable, as rules write it. */
static const char *var_name(int v) {
    return v >= VAR_LAB ? lab_name((lab)(v - VAR_LAB)) : var_names[v];
}

typedef struct reader {
    triage_rules *r;
    const char *s, *end;
    char stack[MAX_STACK]; /* operators and open brackets */
    int n_stack, depth;    /* depth: values on the machine's stack */
    bool wants_value, is_local;
    size_t local_first;
    galen_error *err;
} reader;

static galen_status bad(reader *p, const char *what) {
    return galen_fail(p->err, GALEN_E_FORMAT, 0, "%s at '%.*s'", what, (int)(p->end - p->s > 24 ? 24 : p->end - p->s), p->s);
}

static galen_status emit(reader *p, op o, int change) {
    triage_rules *r = p->r;
    p->depth += change;
    if (p->depth >= MAX_STACK || p->depth < 1) return bad(p, "too deep or a value is missing");
    if (!lexicon_grow((void **)&r->ops, &r->cap_ops, r->n_ops, sizeof *r->ops))
        return galen_fail(p->err, GALEN_E_NOMEM, 0, "rules: out of memory");
    r->ops[r->n_ops++] = o;
    return GALEN_OK;
}

static galen_status emit_operator(reader *p, char c) {
    return emit(p, (op){.code = c == '!' ? OP_NOT : c == '&' ? OP_AND : OP_OR}, c == '!' ? 0 : -1);
}

static int binding(char c) {
    return c == '!' ? 3 : c == '&' ? 2 : c == '|' ? 1 : 0;
}

static galen_status push(reader *p, char c) {
    if (p->n_stack == MAX_STACK) return bad(p, "too deep");
    p->stack[p->n_stack++] = c;
    return GALEN_OK;
}

static galen_status infix(reader *p, char c) {
    if (p->wants_value) return bad(p, "an operator where a value belongs");
    while (p->n_stack && binding(p->stack[p->n_stack - 1]) >= binding(c)) {
        const galen_status st = emit_operator(p, p->stack[--p->n_stack]);
        if (st) return st;
    }
    p->wants_value = true;
    return push(p, c);
}

/* Everything since '[' becomes a group of its own. */
static galen_status end_local(reader *p) {
    triage_rules *r = p->r;
    if (r->n_groups == MAX_GROUPS) return bad(p, "too many [ ] groups");
    if (!lexicon_grow((void **)&r->groups, &r->cap_groups, r->n_groups, sizeof *r->groups))
        return galen_fail(p->err, GALEN_E_NOMEM, 0, "rules: out of memory");
    /* The ops stay where they are, behind a jump-free layout: the rule's own ops begin after them. */
    r->groups[r->n_groups++] = (span32){(uint32_t)p->local_first, (uint32_t)(r->n_ops - p->local_first)};
    p->is_local = false;
    return emit(p, (op){.code = OP_LOCAL, .id = (uint16_t)(r->n_groups - 1)}, 0);
}

static galen_status close_bracket(reader *p, char c) {
    const char open = c == ')' ? '(' : '[';
    if (p->wants_value) return bad(p, "an empty bracket");
    while (p->n_stack && binding(p->stack[p->n_stack - 1])) {
        const galen_status st = emit_operator(p, p->stack[--p->n_stack]);
        if (st) return st;
    }
    if (!p->n_stack || p->stack[p->n_stack - 1] != open) return bad(p, "a bracket that was not opened");
    p->n_stack--;
    return c == ']' ? end_local(p) : GALEN_OK;
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static size_t read_name(reader *p) {
    const char *s = p->s;
    while (s < p->end && is_name(*s)) s++;
    return (size_t)(s - p->s);
}

static void skip_blanks(reader *p) {
    while (p->s < p->end && (*p->s == ' ' || *p->s == '\t')) p->s++;
}

static galen_status comparison(reader *p, int v) {
    op o = {.id = (uint16_t)v};
    skip_blanks(p);
    if (p->s == p->end || (*p->s != '<' && *p->s != '>')) return bad(p, "a comparison < <= > >= belongs");
    const bool is_less = *p->s++ == '<', is_eq = p->s < p->end && *p->s == '=';
    p->s += is_eq;
    o.code = (uint8_t)(is_less ? (is_eq ? OP_LESS_EQ : OP_LESS) : (is_eq ? OP_MORE_EQ : OP_MORE));
    skip_blanks(p);
    lexer x = {.s = p->s, .n = (size_t)(p->end - p->s)};
    token t;
    if (!triage_lex(&x, &t) || !t.is_digits || t.from != 0) return bad(p, "a number belongs");
    p->s += t.to;
    o.value = t.value;
    const size_t n = read_name(p);
    if (n == 2 && memcmp(p->s, "mo", 2) == 0)
        o.value /= 12;
    else if (n == 1 && *p->s == 'w')
        o.value *= 7 / 365.25;
    else if (n == 1 && *p->s == 'd')
        o.value /= 365.25;
    else if (n)
        return bad(p, "an unit is mo, w or d");
    if (n && v != VAR_AGE) return bad(p, "units are for age");
    p->s += n;
    if (p->is_local && v != VAR_DAYS) return bad(p, "only days inside [ ]");
    return emit(p, o, 1);
}

static galen_status value(reader *p) {
    static const struct {
        const char *name;
        uint8_t bits;
    } states[] = {{"past:", IS_PRESENT | IS_PAST}, {"said:", 0xFF}, {"denied:", IS_NEGATED}};
    op o = {.code = OP_CONCEPT, .bits = IS_PRESENT};
    if (!p->wants_value) return bad(p, "an operator is missing");
    p->wants_value = false;
    for (size_t k = 0; k < 3; k++) {
        const size_t n = strlen(states[k].name);
        if ((size_t)(p->end - p->s) < n || memcmp(p->s, states[k].name, n) != 0) continue;
        if (p->is_local) return bad(p, "no past:, said: or denied: inside [ ]");
        o.bits = states[k].bits;
        p->s += n;
    }
    const size_t n = read_name(p);
    for (int v = 0; v < N_VARS; v++) {
        if (strlen(var_name(v)) != n || memcmp(p->s, var_name(v), n) != 0) continue;
        p->s += n;
        return comparison(p, v);
    }
    for (size_t i = 0; i < p->r->n_concepts && n; i++) {
        if (p->r->concepts[i].n_name != n || memcmp(p->s, p->r->concepts[i].name, n) != 0) continue;
        o.id = (uint16_t)i;
        p->s += n;
        return emit(p, o, 1);
    }
    return bad(p, "no concept or number of this name");
}

static galen_status step(reader *p) {
    const char c = *p->s;
    if (c == '&' || c == '|') {
        p->s++;
        return infix(p, c);
    }
    if (c == '!' || c == '(' || c == '[') {
        if (!p->wants_value) return bad(p, "an operator is missing");
        if (c == '[') {
            if (p->is_local) return bad(p, "[ inside [");
            p->is_local = true;
            p->local_first = p->r->n_ops;
        }
        p->s++;
        return push(p, c);
    }
    if (c == ')' || c == ']') {
        p->s++;
        return close_bracket(p, c);
    }
    return value(p);
}

/* A rule's ops: those of its groups lie among them, marked by nothing, so the rule's own are copied to a row of their own. */
static galen_status pack(reader *p, size_t first, size_t first_group, span32 *out) {
    triage_rules *r = p->r;
    const size_t end = r->n_ops;
    size_t g = first_group, depth = 0;
    for (size_t i = first; i < end;) {
        if (g < r->n_groups && r->groups[g].first == i) {
            i += r->groups[g++].n;
            continue;
        }
        if (!lexicon_grow((void **)&r->ops, &r->cap_ops, r->n_ops, sizeof *r->ops))
            return galen_fail(p->err, GALEN_E_NOMEM, 0, "rules: out of memory");
        r->ops[r->n_ops] = r->ops[i++];
        r->n_ops++;
        depth++;
    }
    *out = (span32){(uint32_t)end, (uint32_t)depth};
    return GALEN_OK;
}

galen_status expr_compile(triage_rules *r, const char *text, size_t n, span32 *out, galen_error *err) {
    reader p = {.r = r, .s = text, .end = text + n, .wants_value = true, .err = err};
    const size_t first = r->n_ops, first_group = r->n_groups;
    galen_status st = GALEN_OK;
    for (skip_blanks(&p); p.s < p.end && !st; skip_blanks(&p)) st = step(&p);
    if (st) return st;
    if (p.wants_value) return bad(&p, "the expression ends too early");
    while (p.n_stack && !st) {
        const char c = p.stack[--p.n_stack];
        st = binding(c) ? emit_operator(&p, c) : bad(&p, "a bracket is not closed");
    }
    if (!st && p.depth != 1) st = bad(&p, "not one value");
    return st ? st : pack(&p, first, first_group, out);
}

bool expr_is_weighed(const triage_rules *r, span32 code) {
    for (uint32_t k = 0; k < code.n; k++) {
        const op *o = &r->ops[code.first + k];
        if (o->code >= OP_LESS && o->code <= OP_MORE_EQ && is_weighed(o->id)) return true;
    }
    return false;
}

bool expr_index(triage_rules *r) {
    r->concept_groups = malloc((r->n_concepts + 1) * sizeof *r->concept_groups);
    if (!r->concept_groups) return false;
    for (size_t i = 0; i < r->n_concepts; i++) r->concept_groups[i] = -1;
    for (size_t g = 0; g < r->n_groups; g++) {
        for (uint32_t k = 0; k < r->groups[g].n; k++) {
            const op *o = &r->ops[r->groups[g].first + k];
            if (o->code == OP_CONCEPT && !lexicon_link(r, &r->concept_groups[o->id], (uint32_t)g)) return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------ running */

static truth concept_truth(const scan *x, const op *o, bool is_local) {
    const found *f = &x->found[o->id];
    uint8_t want = o->bits;
    if (o->bits == IS_PRESENT) {
        const uint8_t flags = x->r->concepts[o->id].flags;
        if (flags & IS_LASTING) want |= IS_PAST;
        if (flags & IS_VOICED) want |= IS_HYPOTHETICAL;
    }
    const uint8_t bits = is_local ? (f->at == x->n_sentences ? f->local : 0) : f->bits;
    return (truth){.is_true = bits & want, .has_quote = f->to > f->from, .from = f->from, .to = f->to};
}

static truth number_truth(const scan *x, const op *o, bool is_local) {
    const range *v = &x->vars[o->id];
    const bool is_less = o->code == OP_LESS || o->code == OP_LESS_EQ;
    double n = is_less ? v->min : v->max;
    bool is_known = v->is_known;
    if (is_local && o->id == VAR_DAYS) {
        n = x->s.days;
        is_known = n >= 0;
    }
    truth t = {.has_quote = is_known, .from = is_less ? v->from_min : v->from_max, .to = is_less ? v->to_min : v->to_max};
    t.is_true = is_known && (o->code == OP_LESS      ? n < o->value
                             : o->code == OP_LESS_EQ ? n <= o->value
                             : o->code == OP_MORE    ? n > o->value
                                                     : n >= o->value);
    return t;
}

static truth combine(truth a, truth b, bool is_and) {
    const bool is_true = is_and ? a.is_true && b.is_true : a.is_true || b.is_true;
    const truth *from = is_and || a.is_true ? (a.has_quote || !b.has_quote ? &a : &b) : &b;
    truth t = *from;
    t.is_true = is_true;
    return t;
}

truth expr_eval(const scan *x, span32 code, bool is_local) {
    truth stack[MAX_STACK] = {{0}};
    int n = 0;
    for (uint32_t k = 0; k < code.n; k++) {
        const op *o = &x->r->ops[code.first + k];
        switch ((opcode)o->code) {
        case OP_CONCEPT:
            stack[n++] = concept_truth(x, o, is_local);
            break;
        case OP_LOCAL:
            stack[n++] = (truth){.is_true = x->groups[o->id >> 6] >> (o->id & 63) & 1,
                                 .has_quote = true,
                                 .from = x->group_from[o->id],
                                 .to = x->group_to[o->id]};
            break;
        case OP_NOT:
            stack[n - 1] = (truth){.is_true = !stack[n - 1].is_true};
            break;
        case OP_AND:
        case OP_OR:
            n--;
            stack[n - 1] = combine(stack[n - 1], stack[n], o->code == OP_AND);
            break;
        default:
            stack[n++] = number_truth(x, o, is_local);
            break;
        }
    }
    return stack[0];
}

void expr_groups(scan *x) {
    const triage_rules *r = x->r;
    for (int h = 0; h < x->s.n_hits; h++) {
        if (x->s.hits[h].is_hidden) continue;
        for (int32_t k = r->concept_groups[x->s.hits[h].id]; k >= 0; k = r->links[k].next) {
            const uint32_t g = r->links[k].value;
            if (x->group_at[g] == x->n_sentences || (x->groups[g >> 6] >> (g & 63) & 1)) continue;
            x->group_at[g] = x->n_sentences;
            const truth t = expr_eval(x, r->groups[g], true);
            if (!t.is_true) continue;
            x->groups[g >> 6] |= 1ull << (g & 63);
            x->group_from[g] = t.from;
            x->group_to[g] = t.to;
        }
    }
}
