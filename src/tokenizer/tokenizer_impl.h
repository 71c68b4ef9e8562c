/* What the files of this folder share: the object itself. */
#ifndef GALEN_TOKENIZER_IMPL_H
#define GALEN_TOKENIZER_IMPL_H

#include "tokenizer/merges.h"
#include "tokenizer/special.h"
#include "tokenizer/split.h"
#include "tokenizer/symbols.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"

struct tokenizer {
    arena mem;
    vocab v;
    specials special;
    merges m;                /* BPE */
    const pretokenizer *pre; /* BPE */
    splitter *split;         /* BPE */
    bool has_inner_space;    /* SentencePiece: some token has a space behind another character */
};

#define SPM_SPACE "\xE2\x96\x81" /* U+2581 stands for the space in SentencePiece texts */
enum { SPM_SPACE_LEN = 3 };

/** Ids, growing. */
typedef struct id_list {
    int32_t *ids;
    size_t n, cap;
} id_list;
bool id_list_add(id_list *l, int32_t id); /* false when memory is out */

/** Working memory of one encode call; all zero to start. */
typedef struct encoder {
    const tokenizer *t;
    id_list out;
    symbols sym;
    split_work split;
    char *neutral; /* BPE: the text as the pre-tokenizer sees it */
    char *spaced;  /* SentencePiece: a fragment with its spaces replaced */
    size_t spaced_cap;
} encoder;

/** Append the ids of text[0, n), which holds no special token. */
galen_status bpe_encode(encoder *e, const char *text, const char *neutral, size_t n, galen_error *err);
galen_status spm_encode(encoder *e, const char *text, size_t n, bool add_space, galen_error *err);

/** Append what stands for one byte; the unknown token when nothing does, no id when there is neither. */
galen_status encode_byte(encoder *e, uint8_t byte, galen_error *err);

#endif
