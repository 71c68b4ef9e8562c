/* Prompt in, tokens out: the loop of sample, release text, evaluate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "runtime/release.h"
#include "runtime/runtime.h"
#include "runtime/sampler.h"

enum { MAX_TOP = 20 };

galen_generate_opts galen_generate_default_opts(void) {
    return (galen_generate_opts){
        .size = sizeof(galen_generate_opts), .sampling = galen_sampling_default(), .max_tokens = -1, .n_top_logprobs = -1};
}

typedef struct generation {
    galen_session *s;
    galen_generate_opts o;
    sampler sampler;
    release release;
    float *logits; /* [n_vocab] */
    int32_t top_ids[MAX_TOP];
    float top[MAX_TOP];
    galen_result result;
} generation;

static galen_status check_opts(const galen_generate_opts *o, int32_t n_prompt, galen_error *err) {
    if (n_prompt < 1) return galen_fail(err, GALEN_E_ARG, 0, "a prompt of %d tokens", n_prompt);
    if (o->max_tokens < -1) return galen_fail(err, GALEN_E_ARG, 0, "max_tokens: %d, expected -1 or more", o->max_tokens);
    if (o->n_top_logprobs < -1 || o->n_top_logprobs > MAX_TOP)
        return galen_fail(err, GALEN_E_ARG, 0, "n_top_logprobs: %d, expected -1 to %d", o->n_top_logprobs, MAX_TOP);
    return GALEN_OK;
}

/* Tell the caller of one token; false when it wants no more. */
static bool emit(generation *g, int32_t id, const char *text, size_t len, bool is_last) {
    galen_chunk c = {.text = text, .text_len = len, .id = id, .logprob = NAN, .is_last = is_last};
    if (!g->o.on_chunk) return true;
    if (id >= 0 && g->o.n_top_logprobs >= 0) {
        const int32_t n_vocab = g->s->model->info.n_vocab;
        c.n_top = g->o.n_top_logprobs < n_vocab ? g->o.n_top_logprobs : n_vocab;
        c.logprob = logprobs_of(g->logits, n_vocab, id, c.n_top, g->top_ids, g->top);
        c.top_ids = g->top_ids;
        c.top_logprobs = g->top;
    }
    return g->o.on_chunk(g->o.user, &c);
}

/* Sample and evaluate until something ends it. g->logits holds those of the last token. */
static galen_status loop(generation *g, galen_error *err) {
    galen_session *s = g->s;
    galen_status st;
    for (;;) {
        int32_t id;
        const char *text;
        size_t len;
        g->result.finish = GALEN_FINISH_LENGTH;
        if (g->o.max_tokens >= 0 && g->result.n_generated >= g->o.max_tokens) return GALEN_OK;
        if ((st = sampler_choose(&g->sampler, g->logits, s->history, s->n_past, &id, err))) return st;
        if (tokenizer_is_end(s->model->vocab, id)) {
            g->result.finish = GALEN_FINISH_STOP;
            return GALEN_OK;
        }
        g->result.n_generated++;
        bool is_stopped;
        if ((st = release_push(&g->release, s->model->vocab, id, &text, &len, &is_stopped, err))) return st;
        if (!emit(g, id, text, len, false)) {
            g->result.finish = GALEN_FINISH_CANCELLED;
            return GALEN_OK;
        }
        if (is_stopped) {
            g->result.finish = GALEN_FINISH_STOP;
            return GALEN_OK;
        }
        if (s->n_past == s->n_ctx) return GALEN_OK;
        if ((st = galen_session_eval(s, &id, 1, g->logits, err))) return st;
    }
}

static galen_status generate(generation *g, const int32_t *prompt, int32_t n_prompt, galen_error *err) {
    const char *text;
    size_t len;
    const uint64_t start = clock_monotonic_ns();
    galen_status st = galen_session_eval(g->s, prompt, n_prompt, g->logits, err);
    if (st) return st;
    const uint64_t prefilled = clock_monotonic_ns();
    g->result.n_prompt = n_prompt;
    g->result.prefill_s = (double)(prefilled - start) * 1e-9;
    st = loop(g, err);
    g->result.decode_s = (double)(clock_monotonic_ns() - prefilled) * 1e-9;
    if (st) g->result.finish = GALEN_FINISH_ERROR;
    release_flush(&g->release, &text, &len);
    (void)emit(g, -1, text, len, true);
    return st;
}

galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *opts,
                            galen_result *result, galen_error *err) {
    galen_status st;
    const int32_t n_vocab = s->model->info.n_vocab;
    generation g = {.s = s, .o = galen_generate_default_opts()};
    if ((st = opts_take(&g.o, sizeof g.o, opts, "galen_generate_opts", err))) return st;
    if ((st = check_opts(&g.o, n_prompt, err))) return st;
    if ((st = sampler_open(&g.sampler, &g.o.sampling, n_vocab, err))) goto done;
    if ((st = release_open(&g.release, g.o.stop, g.o.n_stop, err))) goto done;
    g.logits = calloc((size_t)n_vocab, sizeof *g.logits);
    if (!g.logits) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "logits of %d tokens", n_vocab);
        goto done;
    }
    st = generate(&g, prompt, n_prompt, err);
done:
    if (result) *result = g.result;
    free(g.logits);
    release_close(&g.release);
    sampler_close(&g.sampler);
    return st;
}
