/* From logits to a token. Pure: the same logits, history, options and position give the same token. */
#ifndef GALEN_RUNTIME_SAMPLER_H
#define GALEN_RUNTIME_SAMPLER_H

#include "base/error.h"

typedef struct sampler_item {
    float logit;
    int32_t id;
} sampler_item;

/* Memory to choose in; one serves any number of generations, one after another. */
typedef struct sampler {
    int32_t n_vocab;
    float *logits;       /* [n_vocab] as bias and penalties leave them                              */
    sampler_item *items; /* [n_vocab] */
    int32_t *counts;     /* [n_vocab] occurrences in the penalty window, all zero between calls */
} sampler;

/** Errors  ARG an option is out of range (named). */
galen_status sampling_check(const galen_sampling *o, int32_t n_vocab, galen_error *err);

/** Errors  NOMEM; s is left empty. */
galen_status sampler_open(sampler *s, int32_t n_vocab, galen_error *err);
void sampler_close(sampler *s); /* an all-zero one too */

/** Choose the token that follows history[0..n_history). logits f32 [n_vocab], not changed; o was checked.
 *  mask  of a grammar: bit id%32 of mask[id/32] says that id may be chosen; NULL = all.
 *  Order: bias, penalties, mask, top-k, top-p, min-p, temperature; the draw is keyed by (seed, n_history).
 *  Errors  NUMERIC every token is forbidden. Allocates nothing. */
galen_status sampler_choose(sampler *s, const galen_sampling *o, const float *logits, const int32_t *history, int32_t n_history,
                            const uint32_t *mask, int32_t *id, galen_error *err);

/** log(sum(exp(logits))). */
double log_sum_exp(const float *logits, int32_t n);

/** Natural log-probabilities over the unmasked logits: of id, and of the n most likely (ids and values, best first). */
float logprobs_of(const float *logits, int32_t n_vocab, int32_t id, int32_t n, int32_t *top_ids, float *top);

#endif
