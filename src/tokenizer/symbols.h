/* The one merge loop of both tokenizers: a row of symbols, of which the best neighbours join until none can.
 * SentencePiece and byte-level BPE differ only in which pairs may join and in what order. */
#ifndef GALEN_TOKENIZER_SYMBOLS_H
#define GALEN_TOKENIZER_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct symbol {
    int32_t prev, next; /* neighbours, -1 at the ends                        */
    int32_t id;         /* what the symbol is; the caller's meaning          */
    uint32_t start;     /* first byte of its text                            */
    uint32_t end;       /* byte after its text                               */
    uint32_t rank;      /* of joining it with next; SYMBOL_NEVER = it cannot */
    int32_t joined;     /* the id that joining gives                         */
} symbol;

#define SYMBOL_NEVER UINT32_MAX

/** Fill left->rank and left->joined for the pair; rank SYMBOL_NEVER when it does not join. Lower ranks join first,
 *  among equals the leftmost. */
typedef void (*symbol_pair_fn)(const void *ctx, symbol *left, const symbol *right);

/** Working memory, reused from word to word; all zero to start. */
typedef struct symbols {
    symbol *s;
    size_t n, cap;
    uint64_t *heap; /* rank << 32 | index of the left symbol */
    size_t n_heap;
} symbols;

/** Empty the row and make room for n symbols, n <= INT32_MAX. false when memory is out. */
bool symbols_begin(symbols *w, size_t n);
static inline void symbols_add(symbols *w, int32_t id, uint32_t start, uint32_t end) {
    const int32_t i = (int32_t)w->n++;
    w->s[i] = (symbol){.prev = i - 1, .next = i + 1, .id = id, .start = start, .end = end};
}
/** Join until no pair can; the survivors are s[0] and what its next chain leads to. n >= 1. n log n. */
void symbols_merge(symbols *w, symbol_pair_fn pair, const void *ctx);
void symbols_free(symbols *w);

#endif
