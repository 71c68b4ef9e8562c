/* A model's vocabulary as its grammars need it: indexed when the first one is opened, freed with the model. */
#ifndef GALEN_RUNTIME_GRAMMARS_H
#define GALEN_RUNTIME_GRAMMARS_H

#include "grammar/grammar.h"

typedef struct lazy_vocab lazy_vocab;

galen_status lazy_vocab_open(lazy_vocab **out, galen_error *err);
void lazy_vocab_close(lazy_vocab *l); /* NULL is fine */

#endif
