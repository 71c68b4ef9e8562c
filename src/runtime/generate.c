/* Prompt in, tokens out, over one session: the loop of choose, evaluate. */
#include <stdlib.h>

#include "base/clock.h"
#include "runtime/generation.h"
#include "runtime/runtime.h"

/* Choose and evaluate until something ends it. logits holds those of the last token. */
static galen_status loop(galen_session *s, generation *g, sampler *choice, float *logits, galen_error *err) {
    while (!generation_is_full(g)) {
        int32_t id;
        bool is_over;
        galen_status st = generation_step(g, choice, logits, s->history, s->n_past, &id, &is_over, err);
        if (st || is_over) return st;
        if (s->n_past == s->n_ctx) {
            g->finish = GALEN_FINISH_LENGTH;
            return GALEN_OK;
        }
        if ((st = galen_session_eval(s, &id, 1, logits, err))) return st;
    }
    return GALEN_OK;
}

static galen_status generate(galen_session *s, generation *g, sampler *choice, float *logits, const int32_t *prompt,
                             int32_t n_prompt, galen_result *result, galen_error *err) {
    const uint64_t start = clock_monotonic_ns();
    galen_status st = galen_session_eval(s, prompt, n_prompt, logits, err);
    if (st) return st;
    const uint64_t prefilled = clock_monotonic_ns();
    result->n_prompt = n_prompt;
    result->prefill_s = (double)(prefilled - start) * 1e-9;
    st = loop(s, g, choice, logits, err);
    result->decode_s = (double)(clock_monotonic_ns() - prefilled) * 1e-9;
    result->n_generated = g->n_generated;
    result->finish = st ? GALEN_FINISH_ERROR : g->finish;
    generation_end(g);
    return st;
}

galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *opts,
                            galen_result *result, galen_error *err) {
    galen_status st;
    const int32_t n_vocab = s->model->info.n_vocab;
    galen_generate_opts o = galen_generate_default_opts();
    galen_result r = {0};
    generation g = {0};
    sampler choice = {0};
    float *logits = NULL;
    if ((st = opts_take(&o, sizeof o, opts, "galen_generate_opts", err))) return st;
    if (n_prompt < 1) return galen_fail(err, GALEN_E_ARG, 0, "a prompt of %d tokens", n_prompt);
    if ((st = generation_open(&g, s->model->vocab, &o, err))) goto done;
    if ((st = sampler_open(&choice, n_vocab, err))) goto done;
    logits = calloc((size_t)n_vocab, sizeof *logits);
    if (!logits) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "logits of %d tokens", n_vocab);
        goto done;
    }
    st = generate(s, &g, &choice, logits, prompt, n_prompt, &r, err);
done:
    if (result) *result = r;
    free(logits);
    sampler_close(&choice);
    generation_close(&g);
    return st;
}
