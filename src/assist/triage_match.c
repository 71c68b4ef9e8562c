/* All phrases at once over one sentence's words: a set of places in the trie that moves on with each word. Places are few: a
 * phrase goes on with the very next word, or waits a few words where it has a gap. */
#include <string.h>

#include "assist/triage_impl.h"

enum { MAX_COVERS = 48 }; /* longer cues of a sentence */

typedef struct place {
    uint32_t node;
    uint8_t first, until; /* the phrase's first word; the last word that may come next */
} place;

typedef struct places {
    place at[MAX_ACTIVE];
    int n;
} places;

static void wait_at(places *p, uint32_t node, int first, int until) {
    for (int i = 0; i < p->n; i++) {
        if (p->at[i].node != node) continue;
        if (p->at[i].until < until) p->at[i] = (place){node, (uint8_t)first, (uint8_t)until};
        return;
    }
    if (p->n < MAX_ACTIVE) p->at[p->n++] = (place){node, (uint8_t)first, (uint8_t)until};
}

static void arrive(const triage_rules *r, sentence *s, places *next, uint32_t id, int first, int i) {
    const trie_node *nd = &r->nodes[id];
    for (int32_t k = nd->outs; k >= 0; k = r->links[k].next) {
        if (s->n_hits == MAX_HITS) break;
        s->hits[s->n_hits++] = (hit){.id = (uint16_t)r->links[k].value, .first = (uint8_t)first, .last = (uint8_t)i};
    }
    if (nd->n_edges) wait_at(next, id, first, i + 1);
    for (int32_t k = nd->gaps; k >= 0; k = r->links[k].next) {
        const int until = i + 1 + r->nodes[r->links[k].value].gap;
        wait_at(next, r->links[k].value, first, until < MAX_TOKENS ? until : MAX_TOKENS);
    }
}

static void match_word(scan *x, const places *now, places *next, int i) {
    const triage_rules *r = x->r;
    sentence *s = &x->s;
    const token *t = &s->tokens[i];
    const bool is_cut = t->before != BRK_NONE, is_breaker = token_has(t, SYM_BREAKS);
    next->n = 0;
    x->n_words++;
    for (int j = 0; j < t->n_lists; j++)
        for (uint32_t k = 0; k < t->lists[j].n; k++) x->stamps[r->word_syms[t->lists[j].first + k]] = x->n_words;
    for (int k = 0; k < now->n && !is_cut; k++) {
        const place p = now->at[k];
        const edge *e = &r->edges[r->nodes[p.node].edges], *const end = e + r->nodes[p.node].n_edges;
        for (; e < end; e++)
            if (x->stamps[e->sym] == x->n_words) arrive(r, s, next, e->to, p.first, i);
        if (p.until > i && !is_breaker) wait_at(next, p.node, p.first, p.until);
    }
    for (int j = 0; j < t->n_lists; j++) {
        for (uint32_t k = 0; k < t->lists[j].n; k++) {
            const uint32_t root = r->roots[r->word_syms[t->lists[j].first + k]];
            if (root) arrive(r, s, next, root, i, i);
        }
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
    const triage_rules *r = x->r;
    sentence *s = &x->s;
    places a = {.n = 0}, b = {.n = 0}, *now = &a, *next = &b;
    s->n_hits = 0;
    for (int i = 0; i < s->n_tokens; i++) {
        match_word(x, now, next, i);
        places *swap = now;
        now = next;
        next = swap;
    }
    hide_covered(r, s);
}
