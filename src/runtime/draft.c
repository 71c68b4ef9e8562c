/* Writing on several branches: a batch takes one row of each that goes on, so a token costs one pass over the weights for all. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "runtime/batch.h"
#include "runtime/branches.h"

/* Drafts under way. */
typedef struct drafting {
    branches b;
    galen_draft *in;
    generation *g;     /* [n] */
    int32_t **history; /* [n] of [n_most]: the session's tokens, then the branch's */
    sampler choice;
    sample_row *how;      /* [n] of each output */
    sample_choice *picks; /* [n] */
    float *logits;        /* [n][n_vocab] */
    uint64_t begin_ns, prefilled_ns;
} drafting;

static int32_t wants(void *ctx, int32_t i, int32_t pos) {
    const drafting *d = ctx;
    return pos == d->b.all[i].n_tokens - 1;
}

/* Whether the device may choose: nobody looks at logits. */
static bool can_pick(const drafting *d) {
    for (int32_t o = 0; o < d->b.batch.n_out; o++) {
        const generation *g = &d->g[d->b.out_of[o]];
        if (g->o.grammar || g->o.n_top_logprobs >= 0) return false;
    }
    return d->b.batch.n_out > 0;
}

static galen_status evaluate(drafting *d, bool *is_picked, galen_error *err) {
    branches *b = &d->b;
    works *w = b->s->where.works;
    *is_picked = false;
    const galen_status st = gguf_check(b->s->model->file, err);
    if (st) return st;
    if (!can_pick(d)) return works_forward(w, &b->batch, d->logits, err);
    for (int32_t o = 0; o < b->batch.n_out; o++) {
        const int32_t i = b->out_of[o];
        d->how[o] = (sample_row){.how = generation_sampling(&d->g[i]), .history = d->history[i], .n_history = b->all[i].n_tokens};
    }
    return works_choose(w, &b->batch, d->how, d->picks, is_picked, d->logits, err);
}

/* The token after the last of branch i, from output o. */
static galen_status choose(drafting *d, int32_t i, int32_t o, bool is_picked, int32_t *id, galen_error *err) {
    const int32_t n_vocab = d->b.s->model->info.n_vocab;
    if (is_picked) {
        *id = d->picks[o].id;
        if (*id >= 0) return GALEN_OK;
        return galen_fail(err, GALEN_E_NUMERIC, 0, "draft %d: %s", i,
                          *id == CHOICE_FORBIDDEN ? "every token is forbidden"
                                                  : "a logit is not finite: the model's weights or its file are damaged");
    }
    const float *logits = d->logits + (size_t)o * (size_t)n_vocab;
    return generation_choose(&d->g[i], &d->choice, logits, d->history[i], d->b.all[i].n_tokens, id, err);
}

/* The branch is whole: nothing of it is evaluated any more. */
static void end_draft(drafting *d, int32_t i) {
    d->b.all[i].is_over = true;
    d->in[i].result.n_generated = d->g[i].n_generated;
    d->in[i].result.finish = d->g[i].finish;
}

/* The next token, told; the one that a grammar is bound to have, or a choice. */
static galen_status write_on(drafting *d, int32_t i, int32_t o, bool is_picked, int32_t *id, bool *is_over, galen_error *err) {
    generation *g = &d->g[i];
    const float *logits = is_picked ? NULL : d->logits + (size_t)o * (size_t)d->b.s->model->info.n_vocab;
    int32_t n_forced;
    galen_status st = is_picked ? GALEN_OK : logits_check(logits, 1, g->n_vocab, err);
    if (!st) st = generation_forced(g, id, 1, &n_forced, err);
    if (!st && n_forced) return generation_take(g, *id, logits, is_over, err);
    if (!st) st = choose(d, i, o, is_picked, id, err);
    return st ? st : generation_tell(g, *id, logits, is_over, err);
}

static galen_status take(drafting *d, int32_t i, int32_t o, bool is_picked, galen_error *err) {
    branch *one = &d->b.all[i];
    generation *g = &d->g[i];
    bool is_over = generation_is_full(g);
    int32_t id = -1;
    const galen_status st = is_over ? GALEN_OK : write_on(d, i, o, is_picked, &id, &is_over, err);
    if (st) return st;
    if (!is_over) is_over = generation_is_full(g) || one->n_tokens == one->n_most;
    if (is_over) {
        end_draft(d, i);
        return GALEN_OK;
    }
    d->history[i][one->n_tokens++] = id;
    return GALEN_OK;
}

static galen_status step(drafting *d, galen_error *err) {
    branches *b = &d->b;
    galen_session *s = b->s;
    galen_error why = {0};
    bool is_picked;
    galen_status st = evaluate(d, &is_picked, &why);
    if (st) return branches_recover(b, st, &why, err);
    branches_advance(b);
    for (int32_t o = 0; o < b->batch.n_out && !st; o++) st = take(d, b->out_of[o], o, is_picked, err);
    if (!d->prefilled_ns) d->prefilled_ns = clock_monotonic_ns();
    if (st || !s->progress || s->progress(s->progress_user, (uint64_t)b->batch.n_rows, (uint64_t)b->batch.n_rows)) return st;
    return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled");
}

/* Positions that a draft may come to hold: the last token is never evaluated. */
static int32_t most_of(const galen_session *s, const galen_draft *in, const generation *g) {
    const int32_t room = s->n_ctx - s->n_past - in->n_tokens, more = g->o.max_tokens;
    return s->n_past + in->n_tokens + (more < 0 || more > room ? room : more);
}

static galen_status open_one(drafting *d, int32_t i, galen_error *err) {
    galen_session *s = d->b.s;
    galen_draft *in = &d->in[i];
    branch *one = &d->b.all[i];
    galen_generate_opts o = galen_generate_default_opts();
    galen_status st = opts_take(&o, sizeof o, in->opts, "galen_generate_opts", err);
    if (!st) st = generation_open(&d->g[i], s->model->vocab, &o, err);
    if (st) return st;
    one->n_tokens = s->n_past + in->n_tokens;
    one->n_most = most_of(s, in, &d->g[i]);
    d->history[i] = arena_alloc(&d->b.mem, (size_t)one->n_most + 1, sizeof **d->history);
    if (!d->history[i]) return galen_fail(err, GALEN_E_NOMEM, 0, "draft %d of %d tokens", i, one->n_most);
    memcpy(d->history[i], s->history, (size_t)s->n_past * sizeof **d->history);
    memcpy(d->history[i] + s->n_past, in->tokens, (size_t)in->n_tokens * sizeof **d->history);
    one->tokens = d->history[i] + s->n_past;
    return GALEN_OK;
}

static galen_status open_drafting(drafting *d, galen_session *s, galen_draft *in, int32_t n, galen_error *err) {
    galen_status st = branches_open(&d->b, s, n, n, err);
    if (st) return st;
    arena *mem = &d->b.mem;
    const size_t all = (size_t)n;
    d->in = in;
    d->g = arena_alloc(mem, all, sizeof *d->g);
    d->history = arena_alloc(mem, all, sizeof *d->history);
    d->how = arena_alloc(mem, all, sizeof *d->how);
    d->picks = arena_alloc(mem, all, sizeof *d->picks);
    d->logits = branches_room(s, n < s->n_batch ? n : s->n_batch);
    if (!d->g || !d->history || !d->how || !d->picks || !d->logits) return galen_fail(err, GALEN_E_NOMEM, 0, "%d drafts", n);
    st = sampler_open(&d->choice, s->model->info.n_vocab, err);
    for (int32_t i = 0; i < n && !st; i++) st = open_one(d, i, err);
    return st;
}

static void close_drafting(drafting *d, galen_status st) {
    const uint64_t end = clock_monotonic_ns();
    for (int32_t i = 0; d->g && i < d->b.n; i++) {
        galen_result *r = &d->in[i].result;
        if (st && !d->b.all[i].is_over) r->finish = GALEN_FINISH_ERROR;
        r->prefill_s = d->prefilled_ns ? (double)(d->prefilled_ns - d->begin_ns) * 1e-9 : 0;
        r->decode_s = d->prefilled_ns ? (double)(end - d->prefilled_ns) * 1e-9 : 0;
        if (d->prefilled_ns) generation_end(&d->g[i]);
        generation_close(&d->g[i]);
    }
    sampler_close(&d->choice);
    branches_close(&d->b);
}

static galen_status draft_alone(galen_session *s, galen_draft *in, int32_t n, galen_error *err) {
    drafting d = {.begin_ns = clock_monotonic_ns()};
    bool is_over = false;
    galen_status st = open_drafting(&d, s, in, n, err);
    while (!st && !(st = branches_next_wave(&d.b, &is_over, err)) && !is_over)
        while (!st && branches_fill(&d.b, wants, &d, s->n_batch)) st = step(&d, err);
    close_drafting(&d, st);
    return st;
}

galen_status galen_session_draft(galen_session *s, galen_draft *in, int32_t n, galen_error *err) {
    galen_status st = GALEN_OK;
    if (s->is_broken) return galen_fail(err, GALEN_E_DEVICE, 0, "the device failed earlier; the session can only be closed");
    if (n < 0 || (n && !in)) return galen_fail(err, GALEN_E_ARG, 0, "%d drafts", n);
    for (int32_t i = 0; i < n && !st; i++) {
        in[i].result = (galen_result){.n_prompt = in[i].n_tokens};
        st = branches_check(s, i, in[i].tokens, in[i].n_tokens, 0, err);
    }
    if (st || n == 0) return st;
    return s->seat ? seat_draft(s, in, n, err) : draft_alone(s, in, n, err);
}
