/* Finding the texts of special tokens. Control and unknown tokens count in trusted text only; user-defined tokens count in
 * any text, as in llama.cpp and Hugging Face tokenizers: they are words that the vocabulary's author added. */
#ifndef GALEN_TOKENIZER_SPECIAL_H
#define GALEN_TOKENIZER_SPECIAL_H

#include "tokenizer/vocab.h"

/* Special tokens in the order of their texts. */
typedef struct specials {
    const vocab *v;
    int32_t *ids;
    size_t n;
    uint32_t first[257]; /* tokens beginning with byte b are ids[first[b] .. first[b + 1]) */
    uint32_t *lengths;   /* the distinct lengths, longest first */
    size_t n_lengths;
} specials;

galen_status specials_load(specials *s, const vocab *v, arena *mem, galen_error *err);

typedef struct special_match {
    uint32_t begin, end; /* the token's text */
    uint32_t resume;     /* end, or later when the token swallows white space */
    int32_t id;
} special_match;

/** A run of the text, from the end of the one before; no two neighbours are both trusted. */
typedef struct text_span {
    uint32_t end;
    bool is_trusted;
} text_span;

/** The special tokens in text[0, n), in order, none overlapping: longer ones first wherever they stand, equally long ones
 *  from the left. *out is malloc'ed (NULL when there are none).  Errors  NOMEM. */
galen_status specials_find(const specials *s, const char *text, size_t n, const text_span *spans, size_t n_spans,
                           special_match **out, size_t *n_out, galen_error *err);

#endif
