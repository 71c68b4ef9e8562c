/* One request: its options copied, what its rows yield, its callbacks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "runtime/batch.h"

galen_request_opts galen_request_default_opts(void) {
    return (galen_request_opts){.size = sizeof(galen_request_opts), .generate = galen_generate_default_opts(), .score_from = -1};
}

/* ---------------------------------------------------------------- options */

static galen_status check_ids(const char *what, const int32_t *ids, int32_t n, int32_t n_vocab, galen_error *err) {
    for (int32_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= n_vocab)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "%s %d is %d, expected 0 to %d", what, i, ids[i], n_vocab - 1);
    return GALEN_OK;
}

static galen_status check(const galen_batcher *b, const galen_request_opts *o, galen_error *err) {
    const int32_t n_vocab = b->m->info.n_vocab;
    if (o->n_prompt < 1 || !o->prompt) return galen_fail(err, GALEN_E_ARG, 0, "a prompt of %d tokens", o->n_prompt);
    if (o->n_prompt > b->o.n_ctx)
        return galen_fail(err, GALEN_E_FULL, 0, "a prompt of %d tokens; a request may have %d", o->n_prompt, b->o.n_ctx);
    if (o->score_from < -1 || o->score_from > o->n_prompt)
        return galen_fail(err, GALEN_E_ARG, 0, "score_from: %d, expected -1 to %d", o->score_from, o->n_prompt);
    if (o->generate.n_first && !o->generate.first)
        return galen_fail(err, GALEN_E_ARG, 0, "first: NULL for %zu tokens", o->generate.n_first);
    if (o->n_labels < 0 || o->n_labels > n_vocab || (o->n_labels > 0 && !o->labels))
        return galen_fail(err, GALEN_E_ARG, 0, "%d labels", o->n_labels);
    if (o->pooling < GALEN_POOL_NONE || o->pooling > GALEN_POOL_LAST)
        return galen_fail(err, GALEN_E_ARG, 0, "pooling %d is not known", (int)o->pooling);
    if (o->timeout_ms < 0) return galen_fail(err, GALEN_E_ARG, 0, "a timeout of %lld ms", (long long)o->timeout_ms);
    const galen_status st = check_ids("token", o->prompt, o->n_prompt, n_vocab, err);
    return st ? st : check_ids("label", o->labels, o->n_labels, n_vocab, err);
}

static void *copy(arena *mem, const void *from, size_t n, size_t size, bool *is_bad) {
    if (n == 0) return NULL;
    void *p = arena_alloc(mem, n, size);
    if (p)
        memcpy(p, from, n * size);
    else
        *is_bad = true;
    return p;
}

static void copy_generate(request *r, bool *is_bad) {
    galen_generate_opts *g = &r->o.generate;
    g->sampling.bias = copy(&r->mem, g->sampling.bias, g->sampling.n_bias, sizeof *g->sampling.bias, is_bad);
    galen_bias_list *first = copy(&r->mem, g->first, g->n_first, sizeof *first, is_bad);
    for (size_t i = 0; i < g->n_first && !*is_bad; i++)
        first[i].bias = copy(&r->mem, first[i].bias, first[i].n, sizeof *first[i].bias, is_bad);
    g->first = first;
    char **stop = g->n_stop ? arena_alloc(&r->mem, g->n_stop, sizeof *stop) : NULL;
    if (g->n_stop && !stop) *is_bad = true;
    for (size_t i = 0; i < g->n_stop && !*is_bad; i++) {
        const char *text = g->stop[i] ? g->stop[i] : ""; /* refused like an empty one */
        stop[i] = arena_strndup(&r->mem, text, strlen(text));
        *is_bad |= !stop[i];
    }
    g->stop = (const char *const *)stop;
}

static galen_status copy_all(request *r, const galen_batcher *b, galen_error *err) {
    bool is_bad = false;
    const size_t n_embd = (size_t)model_network(b->m->net)->n_embd;
    copy_generate(r, &is_bad);
    r->o.labels = copy(&r->mem, r->o.labels, (size_t)r->o.n_labels, sizeof *r->o.labels, &is_bad);
    if (r->o.n_labels) is_bad |= !(r->label_logprobs = arena_alloc(&r->mem, (size_t)r->o.n_labels, sizeof *r->label_logprobs));
    if (r->o.pooling) {
        is_bad |= !(r->pooled = arena_alloc(&r->mem, n_embd, sizeof *r->pooled));
        is_bad |= !(r->embedding = arena_alloc(&r->mem, n_embd, sizeof *r->embedding));
    }
    if (is_bad) return galen_fail(err, GALEN_E_NOMEM, 0, "a request's options");
    return GALEN_OK;
}

/* Tokens that the sequence may come to hold. */
static int32_t most_tokens(const galen_batcher *b, const galen_request_opts *o) {
    const int32_t room = b->o.n_ctx - o->n_prompt, more = o->generate.max_tokens;
    return o->n_prompt + (more < 0 || more > room ? room : more);
}

galen_status request_open(seq **out, const galen_batcher *b, const galen_request_opts *opts, galen_error *err) {
    galen_status st;
    seq *s = NULL;
    request *r = NULL;
    *out = NULL;
    galen_request_opts o = galen_request_default_opts();
    if ((st = opts_take(&o, sizeof o, opts, "galen_request_opts", err))) return st;
    galen_generate_opts g = galen_generate_default_opts();
    if ((st = opts_take(&g, sizeof g, &o.generate, "galen_generate_opts", err))) return st;
    o.generate = g;
    if ((st = check(b, &o, err))) return st;
    if ((st = seq_open(&s, most_tokens(b, &o), o.client, o.salt, err))) goto fail;
    r = calloc(1, sizeof *r);
    if (!r) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "request");
        goto fail;
    }
    r->o = o;
    if ((st = copy_all(r, b, err))) goto fail;
    if ((st = generation_open(&r->gen, b->m->vocab, &r->o.generate, err))) goto fail;
    memcpy(s->tokens, o.prompt, (size_t)o.n_prompt * sizeof *o.prompt);
    r->o.prompt = NULL; /* it is in the sequence */
    r->o.client = r->o.salt = NULL;
    r->usage.n_prompt = s->n_tokens = o.n_prompt;
    r->submitted_ns = clock_monotonic_ns();
    if (o.timeout_ms > 0 && o.timeout_ms < INT64_MAX / 2000000)
        r->deadline_ns = r->submitted_ns + (uint64_t)o.timeout_ms * 1000000u;
    s->req = r;
    *out = s;
    return GALEN_OK;
fail:
    request_close(r);
    seq_close(s);
    return st;
}

void request_close(request *r) {
    if (!r) return;
    generation_close(&r->gen);
    arena_free(&r->mem);
    free(r);
}

/* ---------------------------------------------------------------- hidden states */

/* The final norm of one row, in double: x / sqrt(mean(x^2) + eps) * w. */
static void pool_row(const network *net, const float *x, double *sum) {
    const float *w = net->out_norm.data;
    double squares = 0;
    for (int32_t i = 0; i < net->n_embd; i++) squares += (double)x[i] * (double)x[i];
    const double scale = 1 / sqrt(squares / net->n_embd + (double)net->norm_eps);
    for (int32_t i = 0; i < net->n_embd; i++) sum[i] += (double)x[i] * scale * (double)w[i];
}

static galen_status finish_embedding(request *r, int32_t n_embd, galen_error *err) {
    double squares = 0;
    for (int32_t i = 0; i < n_embd; i++) squares += r->pooled[i] * r->pooled[i];
    if (!isfinite(squares) || squares <= 0)
        return galen_fail(err, GALEN_E_NUMERIC, 0, "the final hidden states have the length %g", sqrt(squares));
    const double scale = 1 / sqrt(squares);
    for (int32_t i = 0; i < n_embd; i++) r->embedding[i] = (float)(r->pooled[i] * scale);
    return GALEN_OK;
}

galen_status request_take_hidden(galen_batcher *b, seq *s, int32_t pos, const float *hidden, galen_error *err) {
    const network *net = model_network(b->m->net);
    request *r = s->req;
    const int32_t last = r->o.n_prompt - 1;
    if (pos > last || pos < r->n_pooled || (r->o.pooling == GALEN_POOL_LAST && pos < last)) return GALEN_OK;
    pool_row(net, hidden, r->pooled);
    r->n_pooled = pos + 1;
    return pos == last ? finish_embedding(r, net->n_embd, err) : GALEN_OK;
}

/* ---------------------------------------------------------------- logits */

static double seconds_since(uint64_t ns) {
    return (double)(clock_monotonic_ns() - ns) * 1e-9;
}

/* Tell of token pos of the prompt, which follows these logits (NULL: nothing). */
static bool tell_score(seq *s, int32_t pos, const float *logits) {
    request *r = s->req;
    galen_chunk c = {.text = "", .id = s->tokens[pos], .logprob = NAN};
    if (!r->o.on_score) return true;
    if (logits) generation_logprobs(&r->gen, logits, &c);
    return r->o.on_score(r->o.user, &c);
}

static galen_status no_more(galen_error *err) {
    return galen_fail(err, GALEN_E_CANCELLED, 0, "its receiver wants no more");
}

static galen_status take_scores(seq *s, int32_t pos, const float *logits, galen_error *err) {
    const galen_request_opts *o = &s->req->o;
    bool goes_on = true;
    if (s->req->branch) branch_take(s->req, pos, logits);
    if (o->score_from < 0) return GALEN_OK;
    if (o->score_from == 0 && pos == 0) goes_on = tell_score(s, 0, NULL);
    if (goes_on && pos + 1 >= o->score_from && pos + 1 < o->n_prompt) goes_on = tell_score(s, pos + 1, logits);
    return goes_on ? GALEN_OK : no_more(err);
}

/* The whole prompt is evaluated. */
static void take_prompt(request *r, const float *logits) {
    r->is_evaluated = true;
    r->usage.prompt_s = seconds_since(r->submitted_ns);
    if (r->o.n_labels == 0) return;
    const double log_sum = log_sum_exp(logits, r->gen.n_vocab);
    for (int32_t i = 0; i < r->o.n_labels; i++) r->label_logprobs[i] = (float)((double)logits[r->o.labels[i]] - log_sum);
}

/* Append the tokens that the grammar leaves no choice about. Where their log-probabilities are wanted each is told when the
 * logits before it are there: the first's may be (else NULL). */
static galen_status append_forced(galen_batcher *b, seq *s, const float *logits, bool *is_over, galen_error *err) {
    generation *g = &s->req->gen;
    int32_t ids[MAX_FORCED], n, cap = b->o.n_ctx - s->n_tokens;
    if (cap > MAX_FORCED) cap = MAX_FORCED;
    if (g->o.max_tokens >= 0 && cap > g->o.max_tokens - g->n_generated) cap = g->o.max_tokens - g->n_generated;
    galen_status st = generation_forced(g, ids, cap, &n, err);
    if (st || n == 0) return st;
    memcpy(s->tokens + s->n_tokens, ids, (size_t)n * sizeof *ids);
    s->n_tokens += n;
    const bool is_told_later = g->o.on_chunk && g->o.n_top_logprobs >= 0;
    const int32_t n_now = !is_told_later ? n : logits ? 1 : 0;
    for (int32_t i = 0; i < n_now && !st && !*is_over; i++)
        st = generation_take(g, ids[i], is_told_later ? logits : NULL, is_over, err);
    s->req->n_forced = n - n_now;
    return st;
}

void request_choose(seq *s, const float *logits, sampler *choice) {
    request *r = s->req;
    const generation *g = &r->gen;
    const bool is_full = g->o.max_tokens >= 0 && g->n_generated >= g->o.max_tokens;
    if (is_full || r->n_forced || (g->o.grammar && !r->is_evaluated)) return; /* tokens that are forced come first */
    r->choice_status = generation_choose(&r->gen, choice, logits, s->tokens, s->n_tokens, &r->choice, &r->choice_error);
    r->is_chosen = true;
}

/* All is evaluated and told: choose what follows. */
static galen_status choose(galen_batcher *b, seq *s, const float *logits, bool *is_over, galen_error *err) {
    request *r = s->req;
    generation *g = &r->gen;
    const int32_t before = s->n_tokens;
    galen_status st = GALEN_OK;
    if (!r->is_evaluated) {
        take_prompt(r, logits);
        if (!generation_is_full(g)) st = append_forced(b, s, logits, is_over, err);
    }
    if (st || *is_over || (*is_over = generation_is_full(g))) return st;
    if (s->n_tokens > before) return GALEN_OK;
    if (!r->is_chosen) request_choose(s, logits, &b->choices[0]);
    r->is_chosen = false;
    if (r->choice_status && err) *err = r->choice_error;
    st = r->choice_status ? r->choice_status : generation_tell(g, r->choice, logits, is_over, err);
    if (st || *is_over) return st;
    *is_over = generation_is_full(g) || s->n_tokens == b->o.n_ctx; /* LENGTH, either way */
    if (*is_over) return GALEN_OK;
    s->tokens[s->n_tokens++] = r->choice;
    st = append_forced(b, s, NULL, is_over, err);
    if (!st && !*is_over) *is_over = generation_is_full(g);
    return st;
}

galen_status request_take_logits(galen_batcher *b, seq *s, int32_t pos, const float *logits, bool *is_over, galen_error *err) {
    request *r = s->req;
    const int32_t before = r->gen.n_generated;
    *is_over = false;
    galen_status st = take_scores(s, pos, logits, err);
    if (st) return st;
    if (pos < s->n_tokens - 1 && pos >= s->n_tokens - 1 - r->n_forced) {
        r->n_forced--;
        st = generation_take(&r->gen, s->tokens[pos + 1], logits, is_over, err);
        if (!st && !*is_over && r->n_forced == 0) *is_over = generation_is_full(&r->gen);
    } else if (pos == s->n_tokens - 1) {
        st = choose(b, s, logits, is_over, err);
        if (r->usage.first_token_s == 0 && r->gen.n_generated > 0) r->usage.first_token_s = seconds_since(r->submitted_ns);
    }
    b->tally.n_generated_tokens += (uint64_t)(r->gen.n_generated - before);
    if (!st && *is_over && r->gen.finish == GALEN_FINISH_CANCELLED) st = no_more(err);
    return st;
}

/* ---------------------------------------------------------------- the end */

void request_tell_end(request *r, galen_status status, const galen_error *why) {
    static const galen_error none;
    if (status) r->gen.finish = status == GALEN_E_CANCELLED ? GALEN_FINISH_CANCELLED : GALEN_FINISH_ERROR;
    if (r->is_evaluated) generation_end(&r->gen);
    r->usage.n_generated = r->gen.n_generated;
    r->usage.end_s = seconds_since(r->submitted_ns);
    const galen_end end = {.id = r->id,
                           .status = status,
                           .error = status && why ? why : &none,
                           .finish = r->gen.finish,
                           .usage = r->usage,
                           .label_logprobs = status == GALEN_OK ? r->label_logprobs : NULL,
                           .embedding = status == GALEN_OK ? r->embedding : NULL};
    if (r->o.on_end) r->o.on_end(r->o.user, &end);
}
