/* From logits to a caller who knows the next token and its text. */
#include "runtime/generation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

galen_generate_opts galen_generate_default_opts(void) {
    return (galen_generate_opts){
        .size = sizeof(galen_generate_opts), .sampling = galen_sampling_default(), .max_tokens = -1, .n_top_logprobs = -1};
}

static galen_status open_grammar(generation *g, galen_error *err) {
    if (grammar_tokenizer(g->o.grammar) != g->vocab)
        return galen_fail(err, GALEN_E_ARG, 0, "the grammar was opened for another model");
    g->mask = calloc(grammar_mask_words(g->n_vocab), sizeof *g->mask);
    if (!g->mask) return galen_fail(err, GALEN_E_NOMEM, 0, "a mask of %d tokens", g->n_vocab);
    return grammar_state_open(&g->state, g->o.grammar, err);
}

static const galen_sampling *sampling_of(generation *g, size_t token) {
    if (token >= g->o.n_first) return &g->o.sampling;
    g->first = g->o.sampling;
    g->first.bias = g->o.first[token].bias;
    g->first.n_bias = g->o.first[token].n;
    return &g->first;
}

const galen_sampling *generation_sampling(generation *g) {
    return sampling_of(g, (size_t)g->n_generated);
}

galen_status generation_open(generation *g, const tokenizer *vocab, const galen_generate_opts *o, galen_error *err) {
    *g = (generation){.vocab = vocab, .n_vocab = tokenizer_n_vocab(vocab), .o = *o};
    if (o->max_tokens < -1) return galen_fail(err, GALEN_E_ARG, 0, "max_tokens: %d, expected -1 or more", o->max_tokens);
    if (o->n_top_logprobs < -1 || o->n_top_logprobs > GENERATION_MAX_TOP)
        return galen_fail(err, GALEN_E_ARG, 0, "n_top_logprobs: %d, expected -1 to %d", o->n_top_logprobs, GENERATION_MAX_TOP);
    galen_status st = sampling_check(&o->sampling, g->n_vocab, err);
    if (!st && o->n_first && !o->first) st = galen_fail(err, GALEN_E_ARG, 0, "first: NULL for %zu tokens", o->n_first);
    for (size_t i = 0; i < o->n_first && !st; i++) st = sampling_check(sampling_of(g, i), g->n_vocab, err);
    if (!st) st = release_open(&g->release, o->stop, o->n_stop, err);
    return st || !o->grammar ? st : open_grammar(g, err);
}

void generation_close(generation *g) {
    release_close(&g->release);
    grammar_state_close(g->state);
    free(g->mask);
    *g = (generation){0};
}

void generation_logprobs(generation *g, const float *logits, galen_chunk *c) {
    c->logprob = NAN;
    if (g->o.n_top_logprobs < 0) return;
    c->n_top = g->o.n_top_logprobs < g->n_vocab ? g->o.n_top_logprobs : g->n_vocab;
    c->logprob = logprobs_of(logits, g->n_vocab, c->id, c->n_top, g->top_ids, g->top);
    c->top_ids = g->top_ids;
    c->top_logprobs = g->top;
}

bool generation_is_full(generation *g) {
    g->finish = GALEN_FINISH_LENGTH;
    return g->o.max_tokens >= 0 && g->n_generated >= g->o.max_tokens;
}

/* Release the text of a token and tell the caller. */
static galen_status tell(generation *g, int32_t id, const float *logits, bool *is_over, galen_error *err) {
    galen_chunk c = {.id = id, .logprob = NAN};
    bool is_stopped;
    g->n_generated++;
    const galen_status st = release_push(&g->release, g->vocab, id, &c.text, &c.text_len, &is_stopped, err);
    if (st) return st;
    if (g->o.on_chunk) {
        if (logits) generation_logprobs(g, logits, &c);
        if (!g->o.on_chunk(g->o.user, &c)) {
            g->finish = GALEN_FINISH_CANCELLED;
            return GALEN_OK;
        }
    }
    *is_over = is_stopped || (g->state && grammar_state_is_done(g->state));
    return GALEN_OK;
}

galen_status generation_choose(generation *g, sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                               int32_t *id, galen_error *err) {
    galen_status st = GALEN_OK;
    *id = -1;
    if (g->state && grammar_state_is_done(g->state)) return GALEN_OK;
    if (g->state) st = grammar_state_mask(g->state, g->mask, err);
    if (!st) st = sampler_choose(s, generation_sampling(g), logits, history, n_history, g->mask, id, err);
    if (!st && g->state) st = grammar_state_accept(g->state, *id, err);
    return st;
}

galen_status generation_tell(generation *g, int32_t id, const float *logits, bool *is_over, galen_error *err) {
    *is_over = true;
    g->finish = GALEN_FINISH_STOP;
    return id < 0 || tokenizer_is_end(g->vocab, id) ? GALEN_OK : tell(g, id, logits, is_over, err);
}

galen_status generation_step(generation *g, sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                             int32_t *id, bool *is_over, galen_error *err) {
    *is_over = true;
    const galen_status st = generation_choose(g, s, logits, history, n_history, id, err);
    return st ? st : generation_tell(g, *id, logits, is_over, err);
}

galen_status generation_forced(generation *g, int32_t *ids, int32_t cap, int32_t *n, galen_error *err) {
    *n = 0;
    return g->state ? grammar_state_forced(g->state, ids, cap, n, err) : GALEN_OK;
}

galen_status generation_take(generation *g, int32_t id, const float *logits, bool *is_over, galen_error *err) {
    *is_over = true;
    g->finish = GALEN_FINISH_STOP;
    const galen_status st = grammar_state_accept(g->state, id, err);
    return st ? st : tell(g, id, logits, is_over, err);
}

void generation_end(generation *g) {
    galen_chunk c = {.id = -1, .logprob = NAN, .is_last = true};
    release_flush(&g->release, &c.text, &c.text_len);
    if (g->o.on_chunk) (void)g->o.on_chunk(g->o.user, &c);
}

/* Eight sums, so that the loop is not one long wait: every row of every step is read. 0 x is 0 for what is finite, else NaN. */
bool logits_are_finite(const float *x, int32_t n) {
    enum { WAYS = 8 };
    float sum[WAYS] = {0};
    int32_t i = 0;
    for (; i + WAYS <= n; i += WAYS)
        for (int j = 0; j < WAYS; j++) sum[j] += 0.0f * x[i + j];
    for (; i < n; i++) sum[0] += 0.0f * x[i];
    for (int j = 1; j < WAYS; j++) sum[0] += sum[j];
    return !isnan(sum[0]);
}

galen_status logits_check(const float *logits, int64_t n_rows, int32_t n_vocab, galen_error *err) {
    for (int64_t row = 0; row < n_rows; row++, logits += n_vocab) {
        if (logits_are_finite(logits, n_vocab)) continue;
        for (int32_t i = 0; i < n_vocab; i++)
            if (!isfinite(logits[i]))
                return galen_fail(err, GALEN_E_NUMERIC, 0,
                                  "the logit of token %d is %g: the model's weights or its file are damaged", i,
                                  (double)logits[i]);
    }
    return GALEN_OK;
}
