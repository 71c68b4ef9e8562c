/* All phrases at once over one sentence's words: a set of places in the trie that moves on with each word. Places are few: a
 * phrase goes on with the very next word, or waits a few words where it has a gap. */
#include <string.h>

#include "assist/triage_impl.h"

enum { MAX_COVERS = 48 }; /* longer cues of a sentence */

typedef struct place {
    uint64_t mask; /* the node's */
    uint32_t node;
    uint16_t gap;         /* the node's */
    uint8_t first, until; /* the phrase's first word; the last word that may come next */
} place;

typedef struct places {
    place at[MAX_ACTIVE];
    int n;
} places;

/* One sentence being matched. masks[i]: the symbols of word i mod 64; 0 where no phrase goes on, at a comma and at the end. */
typedef struct matching {
    scan *x;
    const triage_rules *r;
    sentence *s;
    uint64_t masks[MAX_TOKENS + 1];
    places a, b, *now, *next;
} matching;

/* A node that waits for the very next word: one way leads to it, so it is not there yet. Left out when that word cannot do. */
static void wait_next(matching *m, uint64_t mask, uint32_t node, int first, int i) {
    places *p = m->next;
    if (mask & m->masks[i + 1] && p->n < MAX_ACTIVE)
        p->at[p->n++] = (place){.mask = mask, .node = node, .first = (uint8_t)first, .until = (uint8_t)(i + 1)};
}

/* A node after a gap may wait already, from an earlier word: the longer wait stays. */
static void wait_after_gap(matching *m, place w) {
    places *p = m->next;
    uint8_t *at = &m->x->waits[w.gap];
    if (*at < p->n && p->at[*at].gap == w.gap) {
        if (p->at[*at].until < w.until) p->at[*at] = w;
        return;
    }
    if (p->n == MAX_ACTIVE) return;
    *at = (uint8_t)p->n;
    p->at[p->n++] = w;
}

static uint8_t end_of_gap(const triage_rules *r, int i, uint16_t gap) {
    const int end = i + 1 + (r->gap_words[gap] & ~GAP_IS_WIDE);
    return (uint8_t)(end < MAX_TOKENS ? end : MAX_TOKENS);
}

static void say(sentence *s, uint32_t id, int first, int i) {
    if (s->n_hits < MAX_HITS) s->hits[s->n_hits++] = (hit){.id = (uint16_t)id, .first = (uint8_t)first, .last = (uint8_t)i};
}

/* A phrase has come to a node with word i. */
static void arrive(matching *m, uint32_t id, int first, int i) {
    const triage_rules *r = m->r;
    const trie_node *nd = &r->nodes[id];
    for (int32_t k = nd->outs; k >= 0; k = r->links[k].next) say(m->s, r->links[k].value, first, i);
    if (nd->n_edges) wait_next(m, nd->mask, id, first, i);
    for (int32_t k = nd->gaps; k >= 0; k = r->links[k].next) {
        const trie_node *after = &r->nodes[r->links[k].value];
        wait_after_gap(m, (place){after->mask, r->links[k].value, after->gap, (uint8_t)first, end_of_gap(r, i, after->gap)});
    }
}

/* The phrases that a word begins. Symbols that two of a word's rows share count once. */
static void begin(matching *m, const word_row *w, bool is_only, int i) {
    const triage_rules *r = m->r;
    places *p = m->next;
    for (uint32_t k = 0; k < w->says.n; k++) say(m->s, r->says[w->says.first + k], i, i);
    for (uint32_t k = 0; k < w->opens.n; k++) {
        const opening *o = &r->openings[w->opens.first + k];
        if (o->gap) {
            wait_after_gap(m, (place){o->mask, o->node, o->gap, (uint8_t)i, end_of_gap(r, i, o->gap)});
            continue;
        }
        if (!(o->mask & m->masks[i + 1])) continue;
        bool is_there = false;
        for (int j = 0; !is_only && j < p->n; j++) is_there |= p->at[j].node == o->node;
        if (!is_there) wait_next(m, o->mask, o->node, i, i);
    }
}

/* The word's symbols, to be found by number. */
static void stamp(scan *x, const token *t) {
    x->n_words++;
    for (int j = 0; j < t->n_rows; j++) {
        const run list = x->r->words[t->rows[j]].list;
        for (uint32_t k = 0; k < list.n; k++) x->stamps[x->r->word_syms[list.first + k]] = x->n_words;
    }
}

/* What waits, at a word that may lead on; at a comma's only where the gap is wide. */
static void go_on(matching *m, const token *t, int i) {
    scan *x = m->x;
    const bool is_breaker = token_has(t, SYM_BREAKS), is_list = token_has(t, SYM_AND) || token_has(t, SYM_OR);
    bool is_stamped = false;
    for (int k = 0; k < m->now->n; k++) {
        const place p = m->now->at[k];
        const bool is_wide = m->r->gap_words[p.gap] & GAP_IS_WIDE;
        if (t->before != BRK_NONE && !is_wide) continue;
        if (p.mask & t->mask) {
            if (!is_stamped) stamp(x, t);
            is_stamped = true;
            const edge *e = &m->r->edges[m->r->nodes[p.node].edges], *const end = e + m->r->nodes[p.node].n_edges;
            for (; e < end; e++)
                if (x->stamps[e->sym] == x->n_words) arrive(m, e->to, p.first, i);
        }
        if (p.until > i && (!is_breaker || (is_wide && is_list))) wait_after_gap(m, p);
    }
}

/* The same concept within a longer hit of it, and cues within a longer cue ("no" in "not only", "pulse" in "pulse ox"), are
 * one thing said; what lies within a phrase to ignore was not said at all. */
static bool hides(uint8_t over, uint8_t what) {
    const bool is_scope = what >= CUE_NEGATE && what <= CUE_HYPOTHETICAL;
    return (over == CUE_IGNORE && what != CUE_IGNORE) || (over >= CUE_NEGATE && over <= CUE_HYPOTHETICAL && is_scope) ||
           (over >= CUE_VITAL && what >= CUE_VITAL) || (over && over < CUE_VITAL && what == CUE_END);
}

static void hide_covered(const triage_rules *r, sentence *s) {
    int covers[MAX_COVERS], n = 0;
    for (int k = 0; k < s->n_hits && n < MAX_COVERS; k++)
        if (s->hits[k].last > s->hits[k].first && r->concepts[s->hits[k].id].cue) covers[n++] = k;
    for (int a = 0; a < s->n_hits; a++) {
        hit *h = &s->hits[a];
        for (int k = 0; k < n && !h->is_hidden; k++) {
            const hit *g = &s->hits[covers[k]];
            if (g->first > h->first || g->last < h->last || g->last - g->first <= h->last - h->first) continue;
            h->is_hidden = hides(r->concepts[g->id].cue, r->concepts[h->id].cue);
        }
    }
}

void match_sentence(scan *x) {
    matching m;
    sentence *s = &x->s;
    m.x = x;
    m.r = x->r;
    m.s = s;
    m.now = &m.a;
    m.next = &m.b;
    m.a.n = s->n_hits = 0;
    for (int i = 0; i < s->n_tokens; i++) m.masks[i] = s->tokens[i].before == BRK_NONE ? s->tokens[i].mask : 0;
    m.masks[s->n_tokens] = 0;
    for (int i = 0; i < s->n_tokens; i++) {
        const token *t = &s->tokens[i];
        m.next->n = 0;
        go_on(&m, t, i);
        for (int j = 0; j < t->n_rows; j++) begin(&m, &m.r->words[t->rows[j]], t->n_rows == 1, i);
        places *swap = m.now;
        m.now = m.next;
        m.next = swap;
    }
    hide_covered(m.r, s);
}
