/* Inside the grammar: a sequence's place, for state.c and forced.c. */
#ifndef GALEN_GRAMMAR_STATE_H
#define GALEN_GRAMMAR_STATE_H

#include "grammar/grammar.h"
#include "grammar/machine.h"
#include "grammar/table.h"
#include "grammar/vocab_trie.h"

struct grammar_state {
    const grammar *g;
    machine m;
    uint32_t place;
    uint32_t n_least; /* nodes right after the last tidying: the stack at hand */
    bool has_ended;   /* an end token was taken */
    char *text;       /* [max_depth + 1] of one token */
    uint32_t *stack;  /* [max_depth + 1] of a walk    */
    uint32_t *kept;   /* [words] of a mask            */
};

/** Forget what is remembered when it is too much. Between two calls only: it renumbers places. */
galen_status state_tidy(grammar_state *s, galen_error *err);
/** Move over bytes; where they are not admitted, s stays. */
galen_status state_accept_text(grammar_state *s, const char *text, size_t n, bool *is_admitted, galen_error *err);

#endif
