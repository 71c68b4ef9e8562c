/* The merges of a byte-level BPE vocabulary: a hash from a pair of symbols to its rank and the symbol it becomes. */
#ifndef GALEN_TOKENIZER_MERGES_H
#define GALEN_TOKENIZER_MERGES_H

#include "tokenizer/vocab.h"

typedef struct merge_slot {
    uint64_t pair; /* (left << 32 | right) + 1; 0 = empty */
    uint32_t rank; /* position in the file: lower merges first */
    int32_t merged;
} merge_slot;

typedef struct merges {
    merge_slot *slots; /* power of two, at most half full */
    size_t n_slots;
} merges;

/** Read tokenizer.ggml.merges. Texts that no token has become symbols of v: a chain of merges may pass through them.
 *  Errors  FORMAT a merge that is not two texts with a space between (numbered); NOMEM. */
galen_status merges_load(merges *m, vocab *v, arena *mem, const gguf *g, galen_error *err);

/** NULL when the pair does not merge. */
const merge_slot *merges_find(const merges *m, int32_t left, int32_t right);

#endif
