#include "grammar/table.h"

#include <stdlib.h>
#include <string.h>

#include "grammar/vocab_trie.h"

enum { KIND_UNKNOWN, KIND_COUNTED, KIND_OTHER };
enum { MAX_ELEMENT_PLACES = 256 }; /* a rule that may be counted has no more */

enum { N_STEADY = 16 };

/* A table being made. */
typedef struct maker {
    grammar *g;
    machine *m;
    uint32_t again;  /* repetition: the place where an element begins, else 0 */
    int32_t *ids;    /* [n_vocab] */
    uint32_t *needs; /* [n_vocab] elements each needs */
    struct level {
        uint32_t place, count; /* whole elements so far */
        bool is_ended;         /* the rule may end here */
    } * levels;                /* [max_depth + 1] of the path in the trie */
    exit_run *runs;            /* [n_nodes] */
    uint32_t n_ids, n_runs, exit_kinds, max_need;
    struct steady {
        uint32_t place, kinds; /* the bytes that lead from the place to itself, as kinds that do so wholly */
    } steady[N_STEADY];
} maker;

static galen_status no_memory(galen_error *err) {
    return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a table of tokens");
}

void table_close(table *t) {
    if (!t) return;
    for (int b = 0; t->groups && b < 256; b++) free(atomic_load_explicit(&t->groups[b], memory_order_relaxed));
    free(t->groups);
    free(t->bits);
    free(t->ids);
    free(t->need_ends);
    free(t->runs);
    free(t);
}

void table_release(const table *t) {
    if (t && !t->is_kept) table_close((table *)(uintptr_t)t);
}

/* ---------------------------------------------------------------- the walk */

static void add_token(maker *k, int32_t id, uint32_t need) {
    k->ids[k->n_ids] = id;
    k->needs[k->n_ids++] = need;
    if (need > k->max_need) k->max_need = need;
}

/* A byte from `from`, and what that makes of the level. */
static galen_status step(maker *k, const struct level *from, uint8_t byte, struct level *to, galen_error *err) {
    *to = (struct level){.count = from->count};
    const galen_status st = machine_step(k->m, from->place, byte, &to->place, err);
    if (st || to->place == PLACE_DEAD) return st;
    to->is_ended = k->m->places[to->place].may_end;
    if (to->is_ended && k->again) { /* an element is whole; the next begins */
        to->count++;
        to->place = k->again;
    }
    return GALEN_OK;
}

/* Whole kinds of bytes that lead from a place to itself; in a repetition, each as one element. */
static uint32_t steady_kinds(maker *k, uint32_t place) {
    struct steady *known = &k->steady[place % N_STEADY];
    if (known->place == place) return known->kinds;
    uint32_t others = 0;
    const struct level here = {.place = place};
    for (int byte = 0; byte < 256; byte++) {
        const uint32_t kind = k->g->v->kind[byte];
        struct level to;
        if (others & kind) continue;
        if (step(k, &here, (uint8_t)byte, &to, NULL) || to.place != place || (k->again && !to.is_ended)) others |= kind;
    }
    *known = (struct steady){.place = place, .kinds = ~others};
    return ~others;
}

/* Everything below a node is as the node is: no need to walk it. */
static void add_below(maker *k, uint32_t at, const struct level *here) {
    const grammar_vocab *v = k->g->v;
    const trie_node *n = &v->nodes[at];
    const uint32_t base = here->is_ended ? here->count : here->count + 1;
    for (uint32_t i = v->first[at + 1]; i < v->first[n->end]; i++)
        add_token(k, v->order[i], k->again ? here->count + v->length[i] - n->depth : base);
    if (!here->is_ended) return;
    k->runs[k->n_runs++] = (exit_run){.first = at + 1, .end = n->end, .n_elements = here->count, .is_each = k->again != 0};
    k->exit_kinds |= v->below[at];
}

/* Where the rule may end, every node one byte further is an exit, whether the rule itself goes on there or not. */
static galen_status walk(maker *k, uint32_t start, galen_error *err) {
    const grammar_vocab *v = k->g->v;
    k->levels[0] = (struct level){.place = start};
    for (uint32_t at = 1; at < v->n_nodes;) {
        const trie_node *n = &v->nodes[at];
        const struct level up = k->levels[n->depth - 1];
        struct level here;
        if (up.is_ended) {
            k->runs[k->n_runs++] = (exit_run){.first = at, .end = at + 1, .n_elements = up.count};
            k->exit_kinds |= v->kind[n->byte];
        }
        const galen_status st = step(k, &up, n->byte, &here, err);
        if (st) return st;
        if (here.place == PLACE_DEAD) {
            at = n->end;
            continue;
        }
        for (uint32_t i = v->first[at]; n->token >= 0 && i < v->first[at + 1]; i++)
            add_token(k, v->order[i], here.is_ended ? here.count : here.count + 1);
        k->levels[n->depth] = here;
        const bool is_steady = here.place == up.place && (!k->again || here.is_ended) && n->end > at + 1;
        if (is_steady && !(v->below[at] & ~steady_kinds(k, here.place))) {
            add_below(k, at, &here);
            at = n->end;
        } else {
            at++;
        }
    }
    return GALEN_OK;
}

/* ---------------------------------------------------------------- from a walk to a table */

static bool keep_runs(const maker *k, table *t) {
    t->runs = malloc(((size_t)k->n_runs + 1) * sizeof *t->runs);
    t->groups = k->n_runs ? calloc(256, sizeof *t->groups) : NULL;
    if (!t->runs || (k->n_runs && !t->groups)) return false;
    memcpy(t->runs, k->runs, k->n_runs * sizeof *t->runs);
    t->n_runs = k->n_runs;
    for (int b = 0; b < 256; b++)
        if (k->exit_kinds & k->g->v->kind[b] && k->g->v->has_byte[b]) t->exit_bytes[t->n_exit_bytes++] = (uint8_t)b;
    return true;
}

/* A counting sort of the tokens by need. */
static bool sort_needs(const maker *k, table *t) {
    t->max_need = k->max_need;
    t->need_ends = calloc((size_t)k->max_need + 2, sizeof *t->need_ends);
    t->ids = calloc((size_t)k->n_ids + 1, sizeof *t->ids);
    if (!t->need_ends || !t->ids) return false;
    for (uint32_t i = 0; i < k->n_ids; i++) t->need_ends[k->needs[i] + 1]++;
    for (uint32_t n = 0; n <= k->max_need; n++) t->need_ends[n + 1] += t->need_ends[n];
    for (uint32_t i = 0; i < k->n_ids; i++) t->ids[t->need_ends[k->needs[i]]++] = k->ids[i];
    return true;
}

static table *finish(const maker *k, size_t *bytes) {
    const size_t n_words = grammar_mask_words(k->g->v->n_vocab);
    table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->n_ids = k->n_ids;
    bool ok = keep_runs(k, t);
    if (ok && k->again) {
        ok = sort_needs(k, t);
    } else if (ok && k->n_ids <= n_words) {
        t->ids = calloc((size_t)k->n_ids + 1, sizeof *t->ids);
        ok = t->ids != NULL;
        if (ok) memcpy(t->ids, k->ids, k->n_ids * sizeof *t->ids);
    }
    if (ok && k->n_ids > n_words) {
        t->bits = calloc(n_words + 1, sizeof *t->bits);
        ok = t->bits != NULL;
        for (uint32_t i = 0; ok && i < k->n_ids; i++) mask_set(t->bits, k->ids[i]);
    }
    *bytes = sizeof *t + k->n_runs * sizeof *t->runs + (t->groups ? 256 * sizeof *t->groups : 0) +
             (t->bits ? n_words * sizeof *t->bits : 0) + (t->ids ? k->n_ids * sizeof *t->ids : 0) +
             (t->need_ends ? (k->max_need + 2) * sizeof *t->need_ends : 0);
    if (ok) return t;
    table_close(t);
    return NULL;
}

static galen_status fill(maker *k, uint32_t pc, uint32_t element, table **out, size_t *bytes, galen_error *err) {
    const program *p = &k->g->p;
    uint32_t start = 0;
    galen_status st = GALEN_OK;
    if (element) st = machine_start(k->m, p->rules[element - 1].start, false, &k->again, err);
    if (!st) st = machine_start(k->m, pc, true, &start, err);
    if (!st) st = walk(k, start, err);
    if (st) return st;
    *out = finish(k, bytes);
    if (!*out) return no_memory(err);
    (*out)->element = element;
    (*out)->owner = k->g;
    return GALEN_OK;
}

static galen_status make(grammar *g, uint32_t pc, uint32_t element, table **out, size_t *bytes, galen_error *err) {
    maker k = {.g = g, .m = &g->scratch};
    const size_t n_vocab = (size_t)g->v->n_vocab, n_depths = (size_t)g->v->max_depth + 1;
    k.ids = malloc(n_vocab * sizeof *k.ids);
    k.needs = malloc(n_vocab * sizeof *k.needs);
    k.levels = malloc(n_depths * sizeof *k.levels);
    k.runs = malloc((size_t)g->v->n_nodes * sizeof *k.runs);
    const bool ok = k.ids && k.needs && k.levels && k.runs;
    const galen_status st = ok ? fill(&k, pc, element, out, bytes, err) : no_memory(err);
    free(k.ids);
    free(k.needs);
    free(k.levels);
    free(k.runs);
    return st;
}

/* The scratch machine keeps what it learnt until that is too much. */
static galen_status tidy(grammar *g, galen_error *err) {
    if (g->scratch.p && g->scratch.n_places < GRAMMAR_KEPT_PLACES * 4) return GALEN_OK;
    machine_close(&g->scratch);
    return machine_open(&g->scratch, &g->p, err);
}

static table *find(table *t, uint32_t element) {
    while (t && t->element != element) t = t->next;
    return t;
}

galen_status table_get(const grammar *cg, uint32_t pc, uint32_t element, const table **out, galen_error *err) {
    if (cg->json && pc < cg->json->p.n_states && element <= cg->json->p.n_rules) cg = cg->json;
    grammar *g = (grammar *)(uintptr_t)cg; /* what it caches is not part of what it is */
    _Atomic(table *) *slot = &g->tables[pc];
    table *t = find(atomic_load_explicit(slot, memory_order_acquire), element);
    size_t bytes = 0;
    *out = t;
    if (t) return GALEN_OK;
    (void)pthread_mutex_lock(&g->lock);
    table *first = atomic_load_explicit(slot, memory_order_relaxed);
    galen_status st = GALEN_OK;
    t = find(first, element);
    if (!t) {
        st = tidy(g, err);
        if (!st) st = make(g, pc, element, &t, &bytes, err);
        if (t && g->cached_bytes + bytes <= GRAMMAR_CACHE_BYTES) {
            g->cached_bytes += bytes;
            t->is_kept = true;
            t->next = first;
            atomic_store_explicit(slot, t, memory_order_release);
        }
    }
    (void)pthread_mutex_unlock(&g->lock);
    *out = t;
    return st;
}

/* ---------------------------------------------------------------- exits by byte */

/* The nodes of a byte and the runs are both in the trie's order. out NULL: only count. */
static uint32_t find_exits(const table *t, uint8_t byte, table_exit *out) {
    const grammar_vocab *v = t->owner->v;
    uint32_t n = 0, at = v->byte_ends[byte];
    for (uint32_t i = 0; i < t->n_runs; i++) {
        const exit_run *r = &t->runs[i];
        while (at < v->byte_ends[byte + 1] && v->by_byte[at] < r->first) at++;
        for (; at < v->byte_ends[byte + 1] && v->by_byte[at] < r->end; at++, n++) {
            const uint32_t node = v->by_byte[at], more = r->is_each ? v->nodes[node].depth - v->nodes[r->first].depth : 0;
            if (out) out[n] = (table_exit){.node = node, .n_elements = r->n_elements + more};
        }
    }
    return n;
}

galen_status table_group_get(const table *t, uint8_t byte, const table_group **out, galen_error *err) {
    _Atomic(table_group *) *slot = &t->groups[byte];
    table_group *group = atomic_load_explicit(slot, memory_order_acquire);
    *out = group;
    if (group) return GALEN_OK;
    (void)pthread_mutex_lock(&t->owner->lock);
    group = atomic_load_explicit(slot, memory_order_relaxed);
    if (!group) {
        const uint32_t n = find_exits(t, byte, NULL);
        group = malloc(sizeof *group + n * sizeof group->exits[0]);
        if (group) {
            group->n = find_exits(t, byte, group->exits);
            t->owner->cached_bytes += t->is_kept ? sizeof *group + n * sizeof group->exits[0] : 0;
            atomic_store_explicit(slot, group, memory_order_release);
        }
    }
    (void)pthread_mutex_unlock(&t->owner->lock);
    *out = group;
    return group ? GALEN_OK : no_memory(err);
}

/* ---------------------------------------------------------------- which rules are counted when repeated */

/* Every place of the rule: one that may end has nothing after it, and the beginning is not an end. */
static galen_status examine(grammar *g, uint32_t rule, bool *is_counted, galen_error *err) {
    uint32_t places[MAX_ELEMENT_PLACES], n = 0;
    const program *p = &g->p;
    machine *m = &g->scratch;
    *is_counted = false;
    galen_status st = machine_start(m, p->rules[rule].start, false, &places[n++], err);
    for (uint32_t i = 0; i < n && !st; i++) {
        const text_place d = m->places[places[i]];
        if (d.may_end && (d.n || i == 0)) return GALEN_OK;
        for (uint32_t c = 0; c < p->n_classes && !st; c++) {
            uint32_t to, k = 0;
            st = machine_step(m, places[i], p->class_byte[c], &to, err);
            if (st || to == PLACE_DEAD) continue;
            while (k < n && places[k] != to) k++;
            if (k < n) continue;
            if (n == MAX_ELEMENT_PLACES) return GALEN_OK;
            places[n++] = to;
        }
    }
    *is_counted = !st;
    return st;
}

galen_status table_is_counted(const grammar *cg, uint32_t rule, bool *is_counted, galen_error *err) {
    grammar *g = (grammar *)(uintptr_t)cg;
    galen_status st = GALEN_OK;
    (void)pthread_mutex_lock(&g->lock);
    uint8_t *kind = &g->kinds[rule];
    if (*kind == KIND_UNKNOWN) {
        bool counted = false;
        st = tidy(g, err);
        if (!st) st = examine(g, rule, &counted, err);
        if (!st) *kind = counted ? KIND_COUNTED : KIND_OTHER;
    }
    *is_counted = *kind == KIND_COUNTED;
    (void)pthread_mutex_unlock(&g->lock);
    return st;
}
