/* Prompt in, tokens out, over one session: the loop of choose, evaluate. Where nothing needs the logits the device chooses, and a
 * device that holds the whole model runs a step ahead: while it computes, the text of the choice before is made and told. */
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
    session_pick pick;
    bool can_pick;  /* no logits are needed on the host */
    bool can_ahead; /* until a device says that it cannot */
    int32_t ids[1 + MAX_FORCED];
} run;

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* As logits_check: the last n tokens are not kept where their result is not finite. */
static galen_status check_choice(galen_session *s, const sample_choice *c, int32_t n, galen_error *err) {
    if (c->id != CHOICE_NOT_FINITE) return GALEN_OK;
    s->n_past -= n;
    return galen_fail(err, GALEN_E_NUMERIC, 0, "a logit is not finite: the model's weights or its file are damaged");
}

/* Append n tokens; then there is a choice, or logits. */
static galen_status eval(run *r, const int32_t *ids, int32_t n, galen_error *err) {
    galen_session *s = r->s;
    r->pick = (session_pick){.row = {.how = generation_sampling(&r->g), .history = s->history, .n_history = s->n_past + n}};
    s->pick = r->can_pick ? &r->pick : NULL;
    galen_status st = galen_session_eval(s, ids, n, r->logits, err);
    s->pick = NULL;
    if (!st && r->pick.is_chosen) st = check_choice(s, &r->pick.choice, n, err);
    return st;
}

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
    return eval(r, r->ids, n, err);
}

/* The choice that follows what was evaluated, told. */
static galen_status take_pick(run *r, const sample_choice *c, int32_t *id, bool *is_over, galen_error *err) {
    *id = c->id;
    *is_over = true;
    if (c->id < 0) return galen_fail(err, GALEN_E_NUMERIC, 0, "every token is forbidden");
    return generation_tell(&r->g, c->id, NULL, is_over, err);
}

static galen_status choose(run *r, int32_t *id, bool *is_over, galen_error *err) {
    galen_session *s = r->s;
    if (r->can_pick && r->pick.is_chosen) return take_pick(r, &r->pick.choice, id, is_over, err);
    return generation_step(&r->g, &r->choice, r->logits, s->history, s->n_past, id, is_over, err);
}

/* ---------------------------------------------------------------- ahead of the host */

enum { FAR = 2 }; /* steps queued: the one that is waited for, and the next */

/* Steps after ids[0], which was told: as many as tokens may still be evaluated. */
static galen_status steps_ahead(run *r, const backend_api *api, backend_work *w, bool *is_over, galen_error *err) {
    galen_session *s = r->s;
    generation *g = &r->g;
    const int32_t room = s->n_ctx - s->n_past, wanted = g->o.max_tokens - g->n_generated + 1;
    const int32_t most = g->o.max_tokens >= 0 ? least(room, wanted) : room;
    galen_status st = GALEN_OK;
    for (int32_t n_queued = 0, n_taken = 0; n_taken < most;) {
        sample_choice c;
        for (; !st && n_queued < most && n_queued - n_taken < FAR; n_queued++) st = api->ahead_step(w, err);
        if (!st) st = api->ahead_take(w, &c, err);
        *is_over = !st;
        if (st) return st;
        n_taken++;
        s->n_past++; /* past ids[0] */
        if (generation_is_full(g)) return GALEN_OK;
        if ((st = check_choice(s, &c, 1, err))) return st;
        st = take_pick(r, &c, &r->ids[0], is_over, err);
        if (st || *is_over) return st;
        if (s->n_past < s->n_ctx) s->history[s->n_past] = r->ids[0];
    }
    *is_over = true;
    g->finish = GALEN_FINISH_LENGTH;
    return GALEN_OK;
}

/* After ids[0] was told: the rest of the generation, or as far as the device goes (*is_over false: ids[0] is to be evaluated). */
static galen_status run_ahead(run *r, bool *is_over, galen_error *err) {
    galen_session *s = r->s;
    const backend_api *api = NULL;
    galen_error why = {0};
    *is_over = false;
    const bool is_plain = (size_t)r->g.n_generated >= r->g.o.n_first; /* each of the first tokens has biases of its own */
    backend_work *w = r->can_pick && r->can_ahead && is_plain && s->n_past < s->n_ctx ? works_alone(s->where.works, &api) : NULL;
    if (!w || !api->ahead_begin) return GALEN_OK;
    s->history[s->n_past] = r->ids[0];
    const kv_pages seq = {.pages = s->pages, .n_pages = s->n_pages};
    const sample_row row = {.how = &r->g.o.sampling, .history = s->history, .n_history = s->n_past + 1};
    galen_status st = api->ahead_begin(w, &seq, &row, &why);
    r->can_ahead = !st;
    if (st == GALEN_E_UNSUPPORTED) return GALEN_OK;
    if (!st) st = steps_ahead(r, api, w, is_over, &why);
    if (!st) return GALEN_OK;
    if (*is_over) return galen_fail(err, st, why.offset, "%s", why.msg); /* the device is well */
    return session_mend(s, s->n_past, &why, err);
}

/* ---------------------------------------------------------------- the loop */

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
        st = choose(r, &r->ids[0], &is_over, err);
        if (!st && !is_over) st = run_ahead(r, &is_over, err);
        if (st || is_over) return st;
    }
    g->finish = GALEN_FINISH_LENGTH;
    return GALEN_OK;
}

static galen_status generate(run *r, const int32_t *prompt, int32_t n_prompt, galen_result *result, galen_error *err) {
    const uint64_t start = clock_monotonic_ns();
    galen_status st = eval(r, prompt, n_prompt, err);
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
    r.can_pick = r.can_ahead = !s->seat && !o.grammar && o.n_top_logprobs < 0;
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
