#include "grammar/vocab_trie.h"

#include <stdlib.h>
#include <string.h>

#include "grammar/state.h"

enum { MAX_TEXT_BYTES = 1 << 30 };

typedef struct token_text {
    const char *p;
    uint32_t n;
    int32_t id;
} token_text;

static int by_text(const void *a, const void *b) {
    const token_text *x = a, *y = b;
    const int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The texts of all tokens that may be written, in *pool, sorted. *n_bytes in all. */
static galen_status collect(const grammar_vocab *v, token_text *texts, size_t *n_texts, char **pool, size_t *n_bytes,
                            galen_error *err) {
    *n_texts = *n_bytes = 0;
    *pool = NULL;
    for (int32_t id = 0; id < v->n_vocab; id++) {
        const int32_t n = tokenizer_bytes(v->t, id, false, NULL, 0);
        if (n > 0) *n_bytes += (size_t)n;
        if (*n_bytes > MAX_TEXT_BYTES)
            return galen_fail(err, GALEN_E_RANGE, 0, "the vocabulary's texts are over %d bytes", MAX_TEXT_BYTES);
    }
    *pool = malloc(*n_bytes + 1);
    if (!*pool) return galen_fail(err, GALEN_E_NOMEM, 0, "vocabulary: texts of %zu bytes", *n_bytes);
    char *at = *pool;
    for (int32_t id = 0; id < v->n_vocab; id++) {
        const int32_t n = tokenizer_bytes(v->t, id, false, NULL, 0);
        if (tokenizer_is_end(v->t, id)) mask_set(v->is_end, id);
        if (n <= 0 || tokenizer_is_end(v->t, id)) continue;
        (void)tokenizer_bytes(v->t, id, false, at, (size_t)n);
        texts[(*n_texts)++] = (token_text){.p = at, .n = (uint32_t)n, .id = id};
        mask_set(v->is_text, id);
        at += n;
    }
    if (*n_texts) qsort(texts, *n_texts, sizeof *texts, by_text);
    return GALEN_OK;
}

/* 0 .. 31 */
static uint32_t kind_of(int byte) {
    static const char single[] = " \n\t\r\"\\'()-,.:;/_[]{}";
    const char *at = byte ? strchr(single, byte) : NULL;
    if (byte >= 'a' && byte <= 'z') return 0;
    if (byte >= 'A' && byte <= 'Z') return 1;
    if (byte >= '0' && byte <= '9') return 2;
    if (byte >= 0x80) return byte < 0xC0 ? 3 : byte < 0xE0 ? 4 : byte < 0xF0 ? 5 : byte < 0xF8 ? 6 : 7;
    if (at) return 8 + (uint32_t)(at - single);
    return byte < 0x20 || byte == 0x7F ? 28 : byte < 0x30 ? 29 : byte < 0x41 ? 30 : 31;
}

/* What lies below each node, and the nodes by their byte. Backwards, a node comes after all below it: kinds[d] gathers those of
 * depth d that have not met their parent yet. */
static void index_bytes(grammar_vocab *v, uint32_t *kinds) {
    for (int b = 0; b < 256; b++) v->kind[b] = 1u << kind_of(b);
    memset(kinds, 0, ((size_t)v->max_depth + 2) * sizeof *kinds);
    for (uint32_t i = v->n_nodes; i-- > 0;) {
        const trie_node *n = &v->nodes[i];
        v->below[i] = kinds[n->depth + 1];
        kinds[n->depth + 1] = 0;
        if (i == 0) break;
        kinds[n->depth] |= v->below[i] | v->kind[n->byte];
        v->byte_ends[n->byte + 1]++;
    }
    uint32_t at[256];
    for (int b = 0; b < 256; b++) {
        at[b] = v->byte_ends[b];
        v->byte_ends[b + 1] += v->byte_ends[b];
    }
    for (uint32_t i = 1; i < v->n_nodes; i++) v->by_byte[at[v->nodes[i].byte]++] = i;
}

/* Sorted texts are the walk itself: each adds the nodes beyond what it shares with the one before. */
static void build(grammar_vocab *v, const token_text *texts, size_t n_texts, uint32_t *open) {
    v->nodes[0] = (trie_node){.token = -1};
    v->n_nodes = 1;
    v->first[0] = 0;
    open[0] = 0; /* open[d]: the node of depth d on the path to the last text */
    uint32_t depth = 0;
    for (size_t i = 0; i < n_texts; i++) {
        const token_text *t = &texts[i];
        uint32_t shared = 0;
        if (i)
            while (shared < t->n && shared < texts[i - 1].n && t->p[shared] == texts[i - 1].p[shared]) shared++;
        for (; depth > shared; depth--) v->nodes[open[depth]].end = v->n_nodes;
        while (depth < t->n) {
            const uint8_t byte = (uint8_t)t->p[depth++];
            v->has_byte[byte] = true;
            open[depth] = v->n_nodes;
            v->first[v->n_nodes] = (uint32_t)i;
            v->nodes[v->n_nodes++] = (trie_node){.token = -1, .depth = depth, .byte = byte};
        }
        if (t->n > v->max_depth) v->max_depth = t->n;
        v->order[i] = t->id;
        v->length[i] = t->n;
        trie_node *node = &v->nodes[open[depth]];
        if (node->token < 0) node->token = t->id; /* equal texts are neighbours, by id */
    }
    for (uint32_t d = 0; d <= depth; d++) v->nodes[open[d]].end = v->n_nodes;
    v->first[v->n_nodes] = (uint32_t)n_texts;
}

/* The arrays beside the nodes: room for at most n_bytes + 1 nodes. */
static bool make_room(grammar_vocab *v, size_t n_texts, size_t n_bytes) {
    v->nodes = calloc(n_bytes + 1, sizeof *v->nodes);
    v->first = calloc(n_bytes + 2, sizeof *v->first);
    v->order = calloc(n_texts + 1, sizeof *v->order);
    v->length = calloc(n_texts + 1, sizeof *v->length);
    return v->nodes && v->first && v->order && v->length;
}

/* Give back what equal beginnings have saved, then index. open: room of two more than the deepest node. */
static bool fit(grammar_vocab *v, uint32_t *open) {
    trie_node *nodes = realloc(v->nodes, v->n_nodes * sizeof *nodes);
    if (nodes) v->nodes = nodes;
    uint32_t *first = realloc(v->first, ((size_t)v->n_nodes + 1) * sizeof *first);
    if (first) v->first = first;
    v->below = malloc(v->n_nodes * sizeof *v->below);
    v->by_byte = malloc(v->n_nodes * sizeof *v->by_byte);
    if (!v->below || !v->by_byte) return false;
    index_bytes(v, open);
    return true;
}

/* The rules of JSON, and the one table of theirs that takes milliseconds: within a string nearly every token fits. */
static galen_status open_json(grammar_vocab *v, galen_error *err) {
    static const char string[] = "{\"";
    grammar_state *s = NULL;
    bool is_admitted;
    uint32_t *bits = malloc(grammar_mask_words(v->n_vocab) * sizeof *bits);
    if (!bits) return galen_fail(err, GALEN_E_NOMEM, 0, "grammar: a mask");
    galen_status st = grammar_open_json_object(&v->json, v, err);
    if (st == GALEN_E_RANGE) { /* a vocabulary that cannot write JSON may still write other things */
        free(bits);
        return GALEN_OK;
    }
    if (!st) st = grammar_state_open(&s, v->json, err);
    if (!st) st = state_accept_text(s, string, sizeof string - 1, &is_admitted, err);
    if (!st) st = grammar_state_mask(s, bits, err);
    grammar_state_close(s);
    free(bits);
    return st == GALEN_E_REFUSED ? GALEN_OK : st;
}

galen_status grammar_vocab_open(grammar_vocab **out, const tokenizer *t, galen_error *err) {
    char *pool = NULL;
    uint32_t *open = NULL;
    size_t n_texts = 0, n_bytes = 0;
    *out = NULL;
    grammar_vocab *v = calloc(1, sizeof *v);
    const size_t n_vocab = (size_t)tokenizer_n_vocab(t), n_words = grammar_mask_words(tokenizer_n_vocab(t));
    token_text *texts = calloc(n_vocab, sizeof *texts);
    galen_status st = GALEN_E_NOMEM;
    if (!v || !texts) goto fail;
    v->t = t;
    v->n_vocab = (int32_t)n_vocab;
    v->is_text = calloc(n_words, sizeof *v->is_text);
    v->is_end = calloc(n_words, sizeof *v->is_end);
    if (!v->is_text || !v->is_end) goto fail;
    if ((st = collect(v, texts, &n_texts, &pool, &n_bytes, err))) goto fail;
    st = GALEN_E_NOMEM;
    open = calloc(n_bytes + 2, sizeof *open);
    if (!open || !make_room(v, n_texts, n_bytes)) goto fail;
    build(v, texts, n_texts, open);
    if (!fit(v, open)) goto fail;
    if ((st = open_json(v, err))) goto fail;
    free(open);
    free(pool);
    free(texts);
    *out = v;
    return GALEN_OK;
fail:
    if (st == GALEN_E_NOMEM) (void)galen_fail(err, st, 0, "an index of %zu tokens", n_vocab);
    free(open);
    free(pool);
    free(texts);
    grammar_vocab_close(v);
    return st;
}

void grammar_vocab_close(grammar_vocab *v) {
    if (!v) return;
    grammar_close(v->json);
    free(v->nodes);
    free(v->below);
    free(v->first);
    free(v->order);
    free(v->length);
    free(v->by_byte);
    free(v->is_text);
    free(v->is_end);
    free(v);
}

uint32_t vocab_trie_find(const grammar_vocab *v, const char *text, size_t n) {
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t child = node + 1;
        const uint32_t end = v->nodes[node].end;
        while (child < end && v->nodes[child].byte != (uint8_t)text[i]) child = v->nodes[child].end;
        if (child >= end) return 0;
        node = child;
    }
    return node;
}
