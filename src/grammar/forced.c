/* Text that the grammar leaves no choice about, as tokens. */
#include <stdlib.h>
#include <string.h>

#include "grammar/state.h"

enum { MAX_FORCED_BYTES = 1024 }; /* at a time; the rest comes with the next call */

/* The only byte that may come at a place. */
static bool only_byte(const machine *m, uint32_t place_id, uint8_t *byte) {
    const text_place *d = &m->places[place_id];
    bool is_first = true;
    if (d->may_end) return false;
    for (uint32_t k = 0; k < d->n; k++) {
        const grammar_pc *pc = &m->p->pcs[m->nodes[m->sets[d->first + k]].pc];
        for (uint32_t i = 0; i < pc->n_bytes; i++) {
            const grammar_edge *e = &m->p->edges[pc->first + i];
            if (e->lo != e->hi || (!is_first && e->lo != *byte)) return false;
            *byte = e->lo;
            is_first = false;
        }
    }
    return !is_first;
}

/* Whether ids, from the skip-th byte of what they spell, are exactly text[0, n), in tokens that may be written. *first: the id
 * that begins it. */
static bool spells(const grammar_vocab *v, const galen_tokens *ids, size_t skip, const char *text, size_t n, size_t *first) {
    char piece[MAX_FORCED_BYTES + 8];
    size_t at = 0, i = 0;
    for (; i < ids->n && at < skip; i++) at += (size_t)tokenizer_bytes(v->t, ids->ids[i], false, NULL, 0);
    *first = i;
    if (at != skip) return false;
    for (at = 0; i < ids->n; i++) {
        const int32_t len = tokenizer_bytes(v->t, ids->ids[i], false, piece, sizeof piece);
        if (len <= 0 || (size_t)len > n - at || memcmp(piece, text + at, (size_t)len) != 0) return false;
        if (!mask_has(v->is_text, ids->ids[i])) return false;
        at += (size_t)len;
    }
    return at == n;
}

/* Without the tokenizer's help: always the longest token. */
static galen_status longest(const grammar_vocab *v, const char *text, size_t n, galen_tokens *out, galen_error *err) {
    out->ids = malloc((n + 1) * sizeof *out->ids);
    if (!out->ids) return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: text that is known");
    for (size_t at = 0; at < n;) {
        size_t used = 0;
        uint32_t node = 0;
        int32_t id = -1;
        for (size_t i = at; i < n; i++) {
            uint32_t child = node + 1;
            while (child < v->nodes[node].end && v->nodes[child].byte != (uint8_t)text[i]) child = v->nodes[child].end;
            if (child >= v->nodes[node].end) break;
            node = child;
            if (v->nodes[node].token < 0) continue;
            id = v->nodes[node].token;
            used = i + 1 - at;
        }
        if (id < 0) break;
        out->ids[out->n++] = id;
        at += used;
    }
    return GALEN_OK;
}

/* As the tokenizer would within a text. SentencePiece puts a space before a text's first word, so there the text is shown to it
 * behind a line's end, whose tokens are dropped again. */
static galen_status encode(const grammar_vocab *v, const char *text, size_t n, galen_tokens *out, galen_error *err) {
    const bool is_spaced = tokenizer_adds_space(v->t);
    const text_piece pieces[] = {{.text = "\n", .len = 1}, {.text = text, .len = n}};
    size_t first;
    galen_status st = tokenizer_encode(v->t, is_spaced ? pieces : pieces + 1, is_spaced ? 2 : 1, false, out, err);
    if (st) return st;
    if (spells(v, out, is_spaced ? 2 : 0, text, n, &first)) {
        out->n -= first;
        memmove(out->ids, out->ids + first, out->n * sizeof *out->ids);
        return GALEN_OK;
    }
    free(out->ids);
    *out = (galen_tokens){0};
    return longest(v, text, n, out, err);
}

/* Whether some token begins with text[0, n), is longer, and may go on at a place. */
static galen_status may_grow(grammar_state *s, const char *text, size_t n, uint32_t place, bool *may, galen_error *err) {
    const trie_node *nodes = s->g->v->nodes;
    const uint32_t at = vocab_trie_find(s->g->v, text, n);
    *may = false;
    for (uint32_t child = at + 1; at && child < nodes[at].end && !*may; child = nodes[child].end) {
        uint32_t to;
        const galen_status st = machine_step(&s->m, place, nodes[child].byte, &to, err);
        if (st) return st;
        *may = to != PLACE_DEAD;
    }
    return GALEN_OK;
}

/* Leave the last tokens to the model from the first on where a longer token might stand instead. */
static galen_status hold_back(grammar_state *s, const char *text, size_t n, uint32_t place, galen_tokens *ids, galen_error *err) {
    const grammar_vocab *v = s->g->v;
    size_t at = 0, kept = ids->n;
    for (size_t i = 0; i < ids->n; i++) at += (size_t)tokenizer_bytes(v->t, ids->ids[i], false, NULL, 0);
    for (size_t i = ids->n; i--;) {
        bool may;
        at -= (size_t)tokenizer_bytes(v->t, ids->ids[i], false, NULL, 0);
        if (n - at >= v->max_depth) break;
        const galen_status st = may_grow(s, text + at, n - at, place, &may, err);
        if (st) return st;
        if (may) kept = i;
    }
    ids->n = kept;
    return GALEN_OK;
}

galen_status grammar_state_forced(grammar_state *s, int32_t *ids, int32_t cap, int32_t *n, galen_error *err) {
    char text[MAX_FORCED_BYTES];
    size_t len = 0;
    galen_tokens tokens = {0};
    *n = 0;
    galen_status st = state_tidy(s, err);
    uint32_t at = s->place;
    uint8_t byte = 0;
    if (s->has_ended || cap <= 0) return st;
    while (!st && len < sizeof text && only_byte(&s->m, at, &byte)) {
        text[len++] = (char)byte;
        st = machine_step(&s->m, at, byte, &at, err);
    }
    if (st || len == 0) return st;
    st = encode(s->g->v, text, len, &tokens, err);
    if (!st) st = hold_back(s, text, len, at, &tokens, err);
    if (!st) {
        *n = tokens.n < (size_t)cap ? (int32_t)tokens.n : cap;
        if (*n) memcpy(ids, tokens.ids, (size_t)*n * sizeof *ids);
    }
    free(tokens.ids);
    return st;
}
