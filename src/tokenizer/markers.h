/* Tokens known by their text: what ends a turn, and what the files' types sometimes get wrong. */
#ifndef GALEN_TOKENIZER_MARKERS_H
#define GALEN_TOKENIZER_MARKERS_H

#include "tokenizer/vocab.h"

/** Set is_end, is_stripping and the control kind of the tokens that the table names. */
void markers_apply(vocab *v, const gguf *g);

#endif
