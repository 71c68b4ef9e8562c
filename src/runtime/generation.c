/* From logits to a caller who knows the next token and its text. */
#include "runtime/generation.h"

#include <math.h>
#include <string.h>

galen_generate_opts galen_generate_default_opts(void) {
    return (galen_generate_opts){
        .size = sizeof(galen_generate_opts), .sampling = galen_sampling_default(), .max_tokens = -1, .n_top_logprobs = -1};
}

galen_status generation_open(generation *g, const tokenizer *vocab, const galen_generate_opts *o, galen_error *err) {
    *g = (generation){.vocab = vocab, .n_vocab = tokenizer_n_vocab(vocab), .o = *o};
    if (o->max_tokens < -1) return galen_fail(err, GALEN_E_ARG, 0, "max_tokens: %d, expected -1 or more", o->max_tokens);
    if (o->n_top_logprobs < -1 || o->n_top_logprobs > GENERATION_MAX_TOP)
        return galen_fail(err, GALEN_E_ARG, 0, "n_top_logprobs: %d, expected -1 to %d", o->n_top_logprobs, GENERATION_MAX_TOP);
    if (o->grammar) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "grammars are not built yet");
    const galen_status st = sampling_check(&o->sampling, g->n_vocab, err);
    if (st) return st;
    return release_open(&g->release, o->stop, o->n_stop, err);
}

void generation_close(generation *g) {
    release_close(&g->release);
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

galen_status generation_step(generation *g, sampler *s, const float *logits, const int32_t *history, int32_t n_history,
                             int32_t *id, bool *is_over, galen_error *err) {
    galen_chunk c = {0};
    bool is_stopped;
    *is_over = true;
    g->finish = GALEN_FINISH_STOP;
    galen_status st = sampler_choose(s, &g->o.sampling, logits, history, n_history, NULL, id, err);
    if (st || tokenizer_is_end(g->vocab, *id)) return st;
    g->n_generated++;
    if ((st = release_push(&g->release, g->vocab, *id, &c.text, &c.text_len, &is_stopped, err))) return st;
    c.id = *id;
    if (g->o.on_chunk) {
        generation_logprobs(g, logits, &c);
        if (!g->o.on_chunk(g->o.user, &c)) {
            g->finish = GALEN_FINISH_CANCELLED;
            return GALEN_OK;
        }
    }
    *is_over = is_stopped;
    return GALEN_OK;
}

void generation_end(generation *g) {
    galen_chunk c = {.id = -1, .logprob = NAN, .is_last = true};
    release_flush(&g->release, &c.text, &c.text_len);
    if (g->o.on_chunk) (void)g->o.on_chunk(g->o.user, &c);
}

galen_status logits_check(const float *logits, int64_t n_rows, int32_t n_vocab, galen_error *err) {
    for (int64_t row = 0; row < n_rows; row++, logits += n_vocab) {
        bool is_wrong = false;
        for (int32_t i = 0; i < n_vocab; i++) is_wrong |= !isfinite(logits[i]); /* no branch: every row of every step is read */
        if (!is_wrong) continue;
        for (int32_t i = 0; i < n_vocab; i++)
            if (!isfinite(logits[i]))
                return galen_fail(err, GALEN_E_NUMERIC, 0,
                                  "the logit of token %d is %g: the model's weights or its file are damaged", i,
                                  (double)logits[i]);
    }
    return GALEN_OK;
}
