/* One generation, token by token: what galen_generate and the batcher share. */
#ifndef GALEN_RUNTIME_GENERATION_H
#define GALEN_RUNTIME_GENERATION_H

#include "grammar/grammar.h"
#include "runtime/release.h"
#include "runtime/sampler.h"

enum {
    GENERATION_MAX_TOP = 20, /* log-probabilities told beside a token's own                            */
    MAX_FORCED = 32          /* tokens that a grammar leaves no choice about, evaluated together */
};

typedef struct generation {
    const tokenizer *vocab;
    int32_t n_vocab;
    galen_generate_opts o;
    release release;
    grammar_state *state; /* of o.grammar, or NULL                              */
    uint32_t *mask;       /* [grammar_mask_words] what it admits, with a grammar */
    int32_t n_generated;
    galen_sampling first; /* o.sampling with the biases of one of the first tokens */
    galen_finish finish;  /* why it is over                                        */
    int32_t top_ids[GENERATION_MAX_TOP];
    float top[GENERATION_MAX_TOP];
} generation;

/** Check the options (ARG names the one that is wrong); what they point to is kept, not copied. Allocates nothing. */
galen_status generation_open(generation *g, const tokenizer *vocab, const galen_generate_opts *o, galen_error *err);
void generation_close(generation *g); /* an all-zero one too */

/** How the next token is chosen; lives until the one after it. */
const galen_sampling *generation_sampling(generation *g);

/** Whether max_tokens are there; g->finish says so then. */
bool generation_is_full(generation *g);

/** Choose the token that follows history; -1 when the grammar has nothing to follow. Tells nobody; g and s are one thread's.
 *  logits  f32 [n_vocab], finite.   Errors  NUMERIC; REFUSED no token fits the grammar; NOMEM. */
galen_status generation_choose(generation *g, sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                               int32_t *id, galen_error *err);
/** Take what was chosen: release its text, tell the caller. *is_over: it was the last one (g->finish), or the end itself, which
 * is never told. Errors  NOMEM. */
galen_status generation_tell(generation *g, int32_t id, const float *logits, bool *is_over, galen_error *err);
/** Both. */
galen_status generation_step(generation *g, sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                             int32_t *id, bool *is_over, galen_error *err);

/** With a grammar: up to cap tokens that are bound to come now (*n; 0 without a grammar), to be taken one by one. They cost no
 *  choice, and their evaluation can share one batch with the token before them.   Errors  NOMEM, RANGE. */
galen_status generation_forced(generation *g, int32_t *ids, int32_t cap, int32_t *n, galen_error *err);

/** Take a forced token: its text released, the caller told. logits as for generation_step, or NULL when no log-probabilities are
 *  wanted. *is_over: it was the last one. Errors  NOMEM, RANGE. */
galen_status generation_take(generation *g, int32_t id, const float *logits, bool *is_over, galen_error *err);

/** The last call: text that was held. */
void generation_end(generation *g);

/** Fill the log-probabilities of c->id: its own and the n_top_logprobs most likely, when they are wanted. */
void generation_logprobs(generation *g, const float *logits, galen_chunk *c);

bool logits_are_finite(const float *logits, int32_t n);
/** Errors  NUMERIC a logit is NaN or infinite: caught here, before it can steer anything. logits f32 [n_rows][n_vocab]. */
galen_status logits_check(const float *logits, int64_t n_rows, int32_t n_vocab, galen_error *err);

#endif
