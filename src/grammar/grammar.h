/* Grammar-constrained generation: GBNF or JSON Schema in, the set of tokens that may come next out.
 *
 * A grammar is compiled to one automaton over bytes with an explicit stack; a trie over the vocabulary is matched against it.
 * Nothing here knows sessions or samplers: one grammar_state per sequence, whoever runs the sequence. */
#ifndef GALEN_GRAMMAR_GRAMMAR_H
#define GALEN_GRAMMAR_GRAMMAR_H

#include "tokenizer/tokenizer.h"

typedef struct grammar_vocab grammar_vocab; /* a vocabulary as a trie; immutable, share freely, outlives its grammars         */
typedef struct galen_grammar grammar;       /* compiled; share freely between threads (what it caches is locked inside)        */
typedef struct grammar_state grammar_state; /* the place of one sequence in a grammar; one thread at a time                    */

/** The trie of t, which must outlive it. Tokens without text (control, unknown) and end tokens are not in it: they are never
 *  allowed inside a grammar. Errors  NOMEM, RANGE texts of more than 2^31 bytes in all. */
galen_status grammar_vocab_open(grammar_vocab **out, const tokenizer *t, galen_error *err);
void grammar_vocab_close(grammar_vocab *v);

/** Compile. v is kept and must outlive the grammar; text is not kept.
 *  Errors  FORMAT malformed (err->offset: byte in the text; a schema that is not what JSON Schema says names its JSON pointer);
 *          UNSUPPORTED something that cannot be enforced (rule or JSON pointer named); RANGE over one of the limits of
 *          program.h, or the grammar admits nothing, never ends or recurs at its left; NOMEM. *out is NULL after a failure. */
galen_status grammar_open_gbnf(grammar **out, const grammar_vocab *v, const char *text, size_t len, galen_error *err);
galen_status grammar_open_schema(grammar **out, const grammar_vocab *v, const char *text, size_t len, galen_error *err);
galen_status grammar_open_json_object(grammar **out, const grammar_vocab *v, galen_error *err); /* any JSON object */
void grammar_close(grammar *g);                                                                 /* close its states first */
const tokenizer *grammar_tokenizer(const grammar *g);                                           /* whose tokens it admits */

/** At the grammar's beginning. Errors  NOMEM. g must outlive it. */
galen_status grammar_state_open(grammar_state **out, const grammar *g, galen_error *err);
galen_status grammar_state_clone(grammar_state **out, const grammar_state *s, galen_error *err);
void grammar_state_close(grammar_state *s);
galen_status grammar_state_reset(grammar_state *s, galen_error *err); /* to the beginning; unchanged after a failure */

static inline size_t grammar_mask_words(int32_t n_vocab) {
    return ((size_t)n_vocab + 31) / 32;
}

/** The tokens that may come next: bit id%32 of bits[id/32], grammar_mask_words(n_vocab) words, every word written.
 *  End tokens are in it exactly when the text may end here. s is the same place afterwards (it caches).
 *  Errors  REFUSED no token of this vocabulary fits (the rule is named); RANGE a limit; NOMEM. */
galen_status grammar_state_mask(grammar_state *s, uint32_t *bits, galen_error *err);

/** Move over a token. Errors  REFUSED the grammar does not admit it here; RANGE a limit or no such id; NOMEM. Unchanged then. */
galen_status grammar_state_accept(grammar_state *s, int32_t token, galen_error *err);

bool grammar_state_may_end(const grammar_state *s); /* the text so far is whole                            */
bool grammar_state_is_done(const grammar_state *s); /* it is whole and nothing may follow, or has ended    */

/** Tokens that are bound to come: while the grammar admits one byte only, the text is known without asking the model. At most
 *  cap ids, *n of them (0: the model must choose). s does not move; accept them like any others.
 *  The known text is tokenised as the tokenizer would; its last tokens are left to the model where a longer token that begins
 *  alike may go on in what follows. Errors  RANGE, NOMEM. */
galen_status grammar_state_forced(grammar_state *s, int32_t *ids, int32_t cap, int32_t *n, galen_error *err);

#endif
