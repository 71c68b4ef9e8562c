#include "grammar/table.h"

#include <stdlib.h>
#include <string.h>

#include "grammar/vocab_trie.h"

enum { KIND_UNKNOWN, KIND_COUNTED, KIND_OTHER };
enum { MAX_ELEMENT_PLACES = 256 }; /* a rule that may be counted has no more */

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
    table_exit *exits;         /* [n_nodes] */
    uint32_t n_ids, n_exits, max_need;
} maker;

static galen_status no_memory(galen_error *err) {
    return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a table of tokens");
}

void table_close(table *t) {
    if (!t) return;
    free(t->bits);
    free(t->ids);
    free(t->need_ends);
    free(t->groups);
    free(t->exits);
    free(t);
}

void table_release(const table *t) {
    if (t && !t->is_owned) table_close((table *)(uintptr_t)t);
}

/* ---------------------------------------------------------------- the walk */

static void add_tokens(maker *k, uint32_t at, uint32_t need) {
    const grammar_vocab *v = k->g->v;
    for (int32_t id = v->nodes[at].token; id >= 0; id = v->same[id]) {
        k->ids[k->n_ids] = id;
        k->needs[k->n_ids++] = need;
        if (need > k->max_need) k->max_need = need;
    }
}

/* Where the rule may end, every node one byte further is an exit, whether the rule itself goes on there or not. */
static galen_status walk(maker *k, uint32_t start, galen_error *err) {
    const grammar_vocab *v = k->g->v;
    k->levels[0] = (struct level){.place = start};
    for (uint32_t at = 1; at < v->n_nodes;) {
        const trie_node *n = &v->nodes[at];
        const struct level *up = &k->levels[n->depth - 1];
        struct level here = {.count = up->count};
        if (up->is_ended) k->exits[k->n_exits++] = (table_exit){.node = at, .n_elements = up->count};
        const galen_status st = machine_step(k->m, up->place, n->byte, &here.place, err);
        if (st) return st;
        if (here.place == PLACE_DEAD) {
            at = n->end;
            continue;
        }
        here.is_ended = k->m->places[here.place].may_end;
        if (here.is_ended && k->again) { /* an element is whole; the next begins */
            here.count++;
            here.place = k->again;
        }
        if (n->token >= 0) add_tokens(k, at, here.is_ended ? here.count : here.count + 1);
        k->levels[n->depth] = here;
        at++;
    }
    return GALEN_OK;
}

/* ---------------------------------------------------------------- from a walk to a table */

/* Counting sorts: exits by byte and, in a repetition, tokens by need. */
static bool sort_exits(const maker *k, table *t) {
    const trie_node *nodes = k->g->v->nodes;
    uint32_t ends[257] = {0};
    t->exits = malloc(((size_t)k->n_exits + 1) * sizeof *t->exits);
    for (uint32_t i = 0; i < k->n_exits; i++) ends[nodes[k->exits[i].node].byte + 1]++;
    for (int byte = 0; byte < 256; byte++) t->n_groups += ends[byte + 1] > 0;
    t->groups = calloc((size_t)t->n_groups + 1, sizeof *t->groups);
    if (!t->exits || !t->groups) return false;
    for (uint32_t byte = 0, n = 0; byte < 256; byte++) {
        const bool has_any = ends[byte + 1] > 0;
        ends[byte + 1] += ends[byte];
        if (has_any) t->groups[n++] = (table_group){.end = ends[byte + 1], .byte = (uint8_t)byte};
    }
    t->n_exits = k->n_exits;
    for (uint32_t i = 0; i < k->n_exits; i++) t->exits[ends[nodes[k->exits[i].node].byte]++] = k->exits[i];
    return true;
}

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
    bool ok = sort_exits(k, t);
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
    *bytes = sizeof *t + k->n_exits * sizeof *t->exits + t->n_groups * sizeof *t->groups +
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
    return GALEN_OK;
}

static galen_status make(grammar *g, uint32_t pc, uint32_t element, table **out, size_t *bytes, galen_error *err) {
    maker k = {.g = g, .m = &g->scratch};
    const size_t n_vocab = (size_t)g->v->n_vocab, n_depths = (size_t)g->v->max_depth + 1;
    k.ids = malloc(n_vocab * sizeof *k.ids);
    k.needs = malloc(n_vocab * sizeof *k.needs);
    k.levels = malloc(n_depths * sizeof *k.levels);
    k.exits = malloc(g->v->n_nodes * sizeof *k.exits);
    const bool ok = k.ids && k.needs && k.levels && k.exits;
    const galen_status st = ok ? fill(&k, pc, element, out, bytes, err) : no_memory(err);
    free(k.ids);
    free(k.needs);
    free(k.levels);
    free(k.exits);
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
            t->is_owned = true;
            t->next = first;
            atomic_store_explicit(slot, t, memory_order_release);
        }
    }
    (void)pthread_mutex_unlock(&g->lock);
    *out = t;
    return st;
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
