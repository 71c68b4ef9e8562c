/* Prompt in, tokens out, over one session: the loop of choose, evaluate. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "runtime/generation.h"
#include "runtime/runtime.h"

/* A generation and its working memory. */
typedef struct run {
    galen_session *s;
    generation g;
    sampler choice;
    float *logits; /* [n_vocab] after the last token                                                       */
    float *rows;   /* [1 + MAX_FORCED][n_vocab], when forced tokens' log-probabilities are wanted, else NULL */
    int32_t ids[1 + MAX_FORCED];
} run;

/* Append ids[0, n) to the session, of which the last n_forced have yet to be told. */
static galen_status eval_forced(run *r, int32_t n, int32_t n_forced, bool *is_over, galen_error *err) {
    galen_session *s = r->s;
    const int32_t n_own = n - n_forced, past = s->n_past;
    const size_t n_vocab = (size_t)s->model->info.n_vocab;
    galen_status st = GALEN_OK;
    if (r->rows && n_forced) {
        memcpy(r->rows, r->logits, n_vocab * sizeof *r->rows);
        st = galen_session_eval_all(s, r->ids, n, r->rows + (n_own ? 0 : n_vocab), err);
        if (!st) memcpy(r->logits, r->rows + (size_t)(n - n_own) * n_vocab, n_vocab * sizeof *r->rows);
    }
    for (int32_t i = 0; i < n_forced && !st && !*is_over; i++) {
        st = generation_take(&r->g, r->ids[n_own + i], r->rows ? r->rows + (size_t)i * n_vocab : NULL, is_over, err);
        if (!st && *is_over && r->rows) st = galen_session_rewind(s, past + n_own + i, err); /* as if it were not evaluated */
    }
    if (st || *is_over || (r->rows && n_forced)) return st;
    return galen_session_eval(s, r->ids, n, r->logits, err);
}

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Choose and evaluate until something ends it. logits holds those of the prompt's last token. */
static galen_status loop(run *r, galen_error *err) {
    galen_session *s = r->s;
    generation *g = &r->g;
    bool is_over = false;
    galen_status st = GALEN_OK;
    for (int32_t n = 0, n_forced;; n = 1) { /* n: tokens chosen and not evaluated */
        int32_t cap = least(MAX_FORCED, s->n_ctx - s->n_past - n);
        if (cap < 0) break; /* the context is full */
        if (g->o.max_tokens >= 0) cap = least(cap, g->o.max_tokens - g->n_generated);
        if ((st = generation_forced(g, r->ids + n, cap, &n_forced, err))) return st;
        if (n + n_forced) st = eval_forced(r, n + n_forced, n_forced, &is_over, err);
        if (st || is_over || generation_is_full(g)) return st;
        st = generation_step(g, &r->choice, r->logits, s->history, s->n_past, &r->ids[0], &is_over, err);
        if (st || is_over) return st;
    }
    g->finish = GALEN_FINISH_LENGTH;
    return GALEN_OK;
}

static galen_status generate(run *r, const int32_t *prompt, int32_t n_prompt, galen_result *result, galen_error *err) {
    const uint64_t start = clock_monotonic_ns();
    galen_status st = galen_session_eval(r->s, prompt, n_prompt, r->logits, err);
    if (st) return st;
    const uint64_t prefilled = clock_monotonic_ns();
    result->n_prompt = n_prompt;
    result->prefill_s = (double)(prefilled - start) * 1e-9;
    st = loop(r, err);
    result->decode_s = (double)(clock_monotonic_ns() - prefilled) * 1e-9;
    result->n_generated = r->g.n_generated;
    result->finish = st ? GALEN_FINISH_ERROR : r->g.finish;
    generation_end(&r->g);
    return st;
}

galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *opts,
                            galen_result *result, galen_error *err) {
    galen_status st;
    const int32_t n_vocab = s->model->info.n_vocab;
    galen_generate_opts o = galen_generate_default_opts();
    galen_result done = {0};
    run r = {.s = s};
    if ((st = opts_take(&o, sizeof o, opts, "galen_generate_opts", err))) return st;
    if (n_prompt < 1) return galen_fail(err, GALEN_E_ARG, 0, "a prompt of %d tokens", n_prompt);
    if ((st = generation_open(&r.g, s->model->vocab, &o, err))) goto done;
    if ((st = sampler_open(&r.choice, n_vocab, err))) goto done;
    const bool has_rows = o.grammar && o.n_top_logprobs >= 0;
    r.logits = calloc((size_t)n_vocab, sizeof *r.logits);
    if (has_rows) r.rows = calloc((size_t)n_vocab * (1 + MAX_FORCED), sizeof *r.rows);
    if (!r.logits || (has_rows && !r.rows)) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "logits of %d tokens", n_vocab);
        goto done;
    }
    st = generate(&r, prompt, n_prompt, &done, err);
done:
    if (result) *result = done;
    free(r.logits);
    free(r.rows);
    sampler_close(&r.choice);
    generation_close(&r.g);
    return st;
}
