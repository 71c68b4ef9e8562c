/* From logits to a token. Pure: the same logits, history, options and position give the same token. */
#ifndef GALEN_RUNTIME_SAMPLER_H
#define GALEN_RUNTIME_SAMPLER_H

#include "base/error.h"

typedef struct sampler_item {
    float logit;
    int32_t id;
} sampler_item;

typedef struct sampler {
    galen_sampling opts;
    int32_t n_vocab;
    sampler_item *items; /* [n_vocab] */
    int32_t *counts;     /* [n_vocab] occurrences in the penalty window, all zero between calls */
} sampler;

/** Check the options (ARG names the one that is wrong) and reserve memory. s is left empty after a failure. */
galen_status sampler_open(sampler *s, const galen_sampling *opts, int32_t n_vocab, galen_error *err);
void sampler_close(sampler *s); /* an all-zero one too */

/** Choose the token that follows history[0..n_history). logits f32 [n_vocab], not changed.
 *  Order: bias, penalties, top-k, top-p, min-p, temperature; the draw is keyed by (seed, n_history).
 *  Errors  NUMERIC every token is forbidden. Allocates nothing. */
galen_status sampler_choose(sampler *s, const float *logits, const int32_t *history, int32_t n_history, int32_t *id,
                            galen_error *err);

/** Natural log-probabilities over the unmasked logits: of id, and of the n most likely (ids and values, best first). */
float logprobs_of(const float *logits, int32_t n_vocab, int32_t id, int32_t n, int32_t *top_ids, float *top);

#endif
