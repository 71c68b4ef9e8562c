/* A vocabulary as a trie, its nodes in the order of a walk: a node, then all below it. */
#ifndef GALEN_GRAMMAR_VOCAB_TRIE_H
#define GALEN_GRAMMAR_VOCAB_TRIE_H

#include "grammar/grammar.h"

typedef struct trie_node {
    uint32_t end;   /* the first node that is not below this one */
    int32_t token;  /* lowest id with exactly these bytes, -1 = none */
    uint32_t depth; /* bytes; the root has 0 */
    uint8_t byte;   /* the last of them */
} trie_node;

struct grammar_vocab {
    const tokenizer *t;
    int32_t n_vocab;
    trie_node *nodes; /* [n_nodes] */
    uint32_t n_nodes, max_depth;
    uint32_t *below;   /* [n_nodes] kinds of the bytes below a node                                   */
    uint32_t *first;   /* [n_nodes + 1] how many of `order` stand before a node                       */
    int32_t *order;    /* [first[n_nodes]] the tokens as a walk meets them                            */
    uint32_t *length;  /* [first[n_nodes]] their bytes                                                */
    uint32_t *by_byte; /* [n_nodes - 1] the nodes of a byte, in order: from byte_ends[b] to byte_ends[b + 1] */
    uint32_t byte_ends[257];
    uint32_t kind[256]; /* one bit: bytes that classes of characters seldom tell apart have the same kind */
    uint32_t *is_text;  /* [words] the tokens in the trie                              */
    uint32_t *is_end;   /* [words] the tokens that end a text                          */
    bool has_byte[256]; /* some token holds it */
    grammar *json;      /* any JSON object: what all schemas share */
};

static inline void mask_set(uint32_t *bits, int32_t id) {
    bits[id / 32] |= 1u << (id % 32);
}
static inline bool mask_has(const uint32_t *bits, int32_t id) {
    return bits[id / 32] >> (id % 32) & 1;
}

/** The node of text[0, n), or 0 when no token begins so (or n is 0). */
uint32_t vocab_trie_find(const grammar_vocab *v, const char *text, size_t n);

#endif
