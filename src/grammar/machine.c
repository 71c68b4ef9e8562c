#include "grammar/machine.h"

#include <stdlib.h>
#include <string.h>

static galen_status no_memory(galen_error *err) {
    return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: places of a text");
}

static bool grow(void *items, uint32_t need, uint32_t *cap, size_t size) {
    void *old, *grown;
    if (need <= *cap) return true;
    uint32_t more = *cap ? *cap : 64;
    while (more < need) more *= 2; /* need is far below 2^31: every count has a limit */
    memcpy(&old, items, sizeof old);
    grown = realloc(old, (size_t)more * size);
    if (!grown) return false;
    memcpy(items, &grown, sizeof grown);
    *cap = more;
    return true;
}

static uint32_t mix(uint32_t h, uint32_t x) {
    const uint64_t m = (uint64_t)(h ^ x) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(m ^ m >> 32);
}

/* ---------------------------------------------------------------- nodes */

static uint32_t hash_node(uint32_t pc, uint32_t count, uint32_t below) {
    return mix(mix(mix(0x51ED27u, pc), count), below);
}

static galen_status rehash_nodes(machine *m, galen_error *err) {
    const uint32_t n_slots = m->n_node_slots ? m->n_node_slots * 2 : 256;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots) return no_memory(err);
    for (uint32_t id = 1; id < m->n_nodes; id++) {
        uint32_t i = hash_node(m->nodes[id].pc, m->nodes[id].count, m->nodes[id].below) & (n_slots - 1);
        while (slots[i]) i = (i + 1) & (n_slots - 1);
        slots[i] = id + 1;
    }
    free(m->node_slots);
    m->node_slots = slots;
    m->n_node_slots = n_slots;
    return GALEN_OK;
}

static galen_status intern_node(machine *m, uint32_t pc, uint32_t count, uint32_t below, uint32_t *id, galen_error *err) {
    if (2 * (m->n_nodes + 1) > m->n_node_slots) {
        const galen_status st = rehash_nodes(m, err);
        if (st) return st;
    }
    uint32_t i = hash_node(pc, count, below) & (m->n_node_slots - 1);
    for (; m->node_slots[i]; i = (i + 1) & (m->n_node_slots - 1)) {
        const stack_node *n = &m->nodes[m->node_slots[i] - 1];
        if (n->pc != pc || n->count != count || n->below != below) continue;
        *id = m->node_slots[i] - 1;
        return GALEN_OK;
    }
    const uint32_t depth = m->nodes[below].depth + 1;
    if (depth > GRAMMAR_MAX_DEPTH)
        return galen_fail(err, GALEN_E_RANGE, 0, "rule \"%s\": more than %d rules within rules",
                          program_rule_name(m->p, m->p->pcs[pc].rule), GRAMMAR_MAX_DEPTH);
    if (!grow(&m->nodes, m->n_nodes + 1, &m->cap_nodes, sizeof *m->nodes)) return no_memory(err);
    m->nodes[m->n_nodes] = (stack_node){.pc = pc, .count = count, .below = below, .depth = depth};
    m->node_slots[i] = m->n_nodes + 1;
    *id = m->n_nodes++;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- closure: all that is reached without reading a byte */

static void closure_begin(machine *m) {
    m->closure++;
    m->n_work = m->n_found = m->n_seen = 0;
}

static galen_status visit(machine *m, uint32_t pc, uint32_t count, uint32_t below, galen_error *err) {
    uint32_t id;
    const galen_status st = intern_node(m, pc, count, below, &id, err);
    if (st) return st;
    if (m->nodes[id].seen == m->closure) return GALEN_OK;
    m->nodes[id].seen = m->closure;
    if (++m->n_seen > GRAMMAR_MAX_STEPS)
        return galen_fail(err, GALEN_E_RANGE, 0, "rule \"%s\": more than %d steps without reading a byte",
                          program_rule_name(m->p, m->p->pcs[pc].rule), GRAMMAR_MAX_STEPS);
    if (!grow(&m->work, m->n_work + 1, &m->cap_work, sizeof *m->work)) return no_memory(err);
    m->work[m->n_work++] = id;
    return GALEN_OK;
}

/* A call has ended: on with whoever called. */
static galen_status visit_return(machine *m, uint32_t id, galen_error *err) {
    const stack_node n = m->nodes[id];
    const uint32_t loop = m->p->pcs[n.pc].loop;
    if (!loop) return visit(m, n.pc, 0, n.below, err);
    const grammar_loop *l = &m->p->loops[loop - 1];
    /* Called in this very closure: the element may have been empty, and one more empty one adds nothing. */
    if (n.pushed == m->closure && m->p->rules[l->rule].is_nullable) return GALEN_OK;
    const uint32_t count = l->max == GRAMMAR_NO_LIMIT && n.count >= l->min ? l->min : n.count + 1;
    return visit(m, n.pc, count, n.below, err);
}

static galen_status expand_loop(machine *m, uint32_t id, galen_error *err) {
    const stack_node n = m->nodes[id];
    const grammar_loop *l = &m->p->loops[m->p->pcs[n.pc].loop - 1];
    const grammar_rule *element = &m->p->rules[l->rule];
    galen_status st = GALEN_OK;
    if (n.count < l->max) {
        m->nodes[id].pushed = m->closure;
        st = visit(m, element->start, 0, id, err);
    }
    if (!st && (n.count >= l->min || element->is_nullable)) st = visit(m, l->next, 0, n.below, err);
    return st;
}

static galen_status expand(machine *m, uint32_t id, bool *may_end, galen_error *err) {
    const stack_node n = m->nodes[id];
    const grammar_pc *pc = &m->p->pcs[n.pc];
    galen_status st = GALEN_OK;
    if (pc->loop) return expand_loop(m, id, err);
    if (pc->n_bytes) {
        if (!grow(&m->found, m->n_found + 1, &m->cap_found, sizeof *m->found)) return no_memory(err);
        m->found[m->n_found++] = id;
    }
    for (uint32_t i = pc->n_bytes; i < pc->n_bytes + pc->n_other && !st; i++) {
        const grammar_edge *e = &m->p->edges[pc->first + i];
        uint32_t below = n.below;
        if (e->kind == EDGE_CALL && !m->p->pcs[e->to].is_tail) st = intern_node(m, e->to, 0, n.below, &below, err);
        if (!st) st = visit(m, e->kind == EDGE_CALL ? m->p->rules[e->rule].start : e->to, 0, below, err);
    }
    if (st || !pc->is_accept) return st;
    if (n.below) return visit_return(m, n.below, err);
    *may_end = true;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- places */

static void sort_ids(uint32_t *ids, uint32_t n) {
    for (uint32_t gap = n / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11) /* Shell's method */
        for (uint32_t i = gap; i < n; i++) {
            const uint32_t x = ids[i];
            uint32_t j = i;
            for (; j >= gap && ids[j - gap] > x; j -= gap) ids[j] = ids[j - gap];
            ids[j] = x;
        }
}

static uint32_t hash_set(const uint32_t *ids, uint32_t n, bool may_end) {
    uint32_t h = may_end;
    for (uint32_t i = 0; i < n; i++) h = mix(h, ids[i]);
    return h;
}

static galen_status rehash_places(machine *m, galen_error *err) {
    const uint32_t n_slots = m->n_place_slots ? m->n_place_slots * 2 : 64;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots) return no_memory(err);
    for (uint32_t id = 0; id < m->n_places; id++) {
        const text_place *d = &m->places[id];
        uint32_t i = hash_set(m->sets + d->first, d->n, d->may_end) & (n_slots - 1);
        while (slots[i]) i = (i + 1) & (n_slots - 1);
        slots[i] = id + 1;
    }
    free(m->place_slots);
    m->place_slots = slots;
    m->n_place_slots = n_slots;
    return GALEN_OK;
}

/* The place of m->found. */
static galen_status intern_place(machine *m, bool may_end, uint32_t *id, galen_error *err) {
    const uint32_t n = m->n_found, n_classes = m->p->n_classes;
    sort_ids(m->found, n);
    if (2 * (m->n_places + 1) > m->n_place_slots) {
        const galen_status st = rehash_places(m, err);
        if (st) return st;
    }
    uint32_t i = hash_set(m->found, n, may_end) & (m->n_place_slots - 1);
    for (; m->place_slots[i]; i = (i + 1) & (m->n_place_slots - 1)) {
        const text_place *d = &m->places[m->place_slots[i] - 1];
        if (d->n != n || d->may_end != may_end || (n && memcmp(m->sets + d->first, m->found, n * sizeof *m->found) != 0))
            continue;
        *id = m->place_slots[i] - 1;
        return GALEN_OK;
    }
    if (m->n_places >= GRAMMAR_MAX_PLACES)
        return galen_fail(err, GALEN_E_RANGE, 0, "the grammar is too ambiguous: more than %d places in one search",
                          GRAMMAR_MAX_PLACES);
    if (!grow(&m->sets, m->n_sets + n, &m->cap_sets, sizeof *m->sets)) return no_memory(err);
    if (m->n_places == m->cap_places) { /* places and their rows grow together */
        const uint32_t cap = m->cap_places ? m->cap_places * 2 : 32;
        text_place *places = realloc(m->places, cap * sizeof *places);
        if (places) m->places = places;
        uint32_t *rows = places ? realloc(m->rows, (size_t)cap * n_classes * sizeof *rows) : NULL;
        if (!rows) return no_memory(err);
        m->rows = rows;
        m->cap_places = cap;
    }
    if (n) memcpy(m->sets + m->n_sets, m->found, n * sizeof *m->found);
    m->places[m->n_places] = (text_place){.first = m->n_sets, .n = n, .may_end = may_end};
    m->n_sets += n;
    memset(m->rows + (size_t)m->n_places * n_classes, 0xFF, n_classes * sizeof *m->rows);
    m->place_slots[i] = m->n_places + 1;
    *id = m->n_places++;
    return GALEN_OK;
}

static galen_status closure_end(machine *m, uint32_t *id, galen_error *err) {
    bool may_end = false;
    while (m->n_work) {
        const galen_status st = expand(m, m->work[--m->n_work], &may_end, err);
        if (st) return st;
        if (m->n_found > GRAMMAR_MAX_OPEN)
            return galen_fail(err, GALEN_E_RANGE, 0, "rule \"%s\": more than %d alternatives are open at once",
                              program_rule_name(m->p, m->p->pcs[m->nodes[m->found[0]].pc].rule), GRAMMAR_MAX_OPEN);
    }
    return intern_place(m, may_end, id, err);
}

galen_status machine_step_slow(machine *m, uint32_t from, uint8_t byte, uint32_t *to, galen_error *err) {
    const text_place d = m->places[from];
    galen_status st = GALEN_OK;
    closure_begin(m);
    for (uint32_t k = 0; k < d.n && !st; k++) {
        const stack_node n = m->nodes[m->sets[d.first + k]];
        const grammar_pc *pc = &m->p->pcs[n.pc];
        for (uint32_t i = 0; i < pc->n_bytes && !st; i++) {
            const grammar_edge *e = &m->p->edges[pc->first + i];
            if (e->lo <= byte && byte <= e->hi) st = visit(m, e->to, 0, n.below, err);
        }
    }
    if (!st) st = closure_end(m, to, err);
    if (!st) m->rows[(size_t)from * m->p->n_classes + m->p->byte_class[byte]] = *to;
    return st;
}

galen_status machine_start(machine *m, uint32_t pc, bool is_alone, uint32_t *place_id, galen_error *err) {
    closure_begin(m);
    if (!is_alone) {
        const galen_status st = visit(m, pc, 0, 0, err);
        return st ? st : closure_end(m, place_id, err);
    }
    if (!grow(&m->found, 1, &m->cap_found, sizeof *m->found)) return no_memory(err);
    const galen_status st = intern_node(m, pc, 0, 0, &m->found[0], err);
    if (st) return st;
    m->n_found = 1;
    return intern_place(m, false, place_id, err);
}

galen_status machine_return(machine *m, uint32_t id, bool is_leaving, uint32_t *place_id, galen_error *err) {
    const stack_node n = m->nodes[id];
    closure_begin(m);
    const galen_status st =
        is_leaving ? visit(m, m->p->loops[m->p->pcs[n.pc].loop - 1].next, 0, n.below, err) : visit_return(m, id, err);
    return st ? st : closure_end(m, place_id, err);
}

/* ---------------------------------------------------------------- life */

galen_status machine_open(machine *m, const program *p, galen_error *err) {
    *m = (machine){.p = p};
    uint32_t dead;
    if (!grow(&m->nodes, 1, &m->cap_nodes, sizeof *m->nodes)) return no_memory(err);
    m->nodes[0] = (stack_node){0};
    m->n_nodes = 1;
    closure_begin(m);
    const galen_status st = intern_place(m, false, &dead, err);
    if (st) {
        machine_close(m);
        return st;
    }
    memset(m->rows, 0, p->n_classes * sizeof *m->rows); /* dead leads to dead */
    return GALEN_OK;
}

void machine_close(machine *m) {
    free(m->nodes);
    free(m->places);
    free(m->sets);
    free(m->rows);
    free(m->node_slots);
    free(m->place_slots);
    free(m->work);
    free(m->found);
    *m = (machine){0};
}

/* Nodes below others have smaller numbers, so one pass down marks what is needed and one pass up copies it. */
static galen_status copy_nodes(machine *to, const machine *from, const text_place *d, uint32_t *map, galen_error *err) {
    for (uint32_t k = 0; k < d->n; k++)
        for (uint32_t id = from->sets[d->first + k]; id && !map[id]; id = from->nodes[id].below) map[id] = 1;
    for (uint32_t id = 1; id < from->n_nodes; id++) {
        const stack_node *n = &from->nodes[id];
        if (!map[id]) continue;
        const galen_status st = intern_node(to, n->pc, n->count, map[n->below], &map[id], err);
        if (st) return st;
    }
    return GALEN_OK;
}

galen_status machine_copy(machine *to, const machine *from, uint32_t *place_id, galen_error *err) {
    const text_place d = from->places[*place_id];
    galen_status st = machine_open(to, from->p, err);
    if (st) return st;
    uint32_t *map = calloc(from->n_nodes, sizeof *map);
    st = map ? copy_nodes(to, from, &d, map, err) : no_memory(err);
    if (!st && !grow(&to->found, d.n ? d.n : 1, &to->cap_found, sizeof *to->found)) st = no_memory(err);
    if (!st) {
        to->n_found = d.n;
        for (uint32_t k = 0; k < d.n; k++) to->found[k] = map[from->sets[d.first + k]];
        st = intern_place(to, d.may_end, place_id, err);
    }
    free(map);
    if (st) machine_close(to);
    return st;
}
