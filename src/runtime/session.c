/* A session: one timeline of tokens over a model, its KV pages and its batches. */
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"

galen_session_opts galen_session_default_opts(void) {
    return (galen_session_opts){.size = sizeof(galen_session_opts)};
}

work_limits session_limits(int32_t n_ctx, int32_t n_batch, kv_type kv) {
    const int32_t rows = n_batch < n_ctx ? n_batch : n_ctx;
    return (work_limits){
        .max_rows = rows, .max_out = rows, .n_ctx = n_ctx, .n_pages = n_ctx / KV_PAGE + (n_ctx % KV_PAGE != 0), .kv = kv};
}

static galen_status alloc_arrays(galen_session *s, galen_error *err) {
    const size_t rows = (size_t)s->n_batch;
    s->history = arena_alloc(&s->mem, (size_t)s->n_ctx, sizeof *s->history);
    s->pages = arena_alloc(&s->mem, (size_t)s->n_pages, sizeof *s->pages);
    s->pos = arena_alloc(&s->mem, rows, sizeof *s->pos);
    s->seq = arena_alloc(&s->mem, rows, sizeof *s->seq);
    s->out_row = arena_alloc(&s->mem, rows, sizeof *s->out_row);
    if (!s->history || !s->pages || !s->pos || !s->seq || !s->out_row)
        return galen_fail(err, GALEN_E_NOMEM, 0, "a session of %d tokens", s->n_ctx);
    for (int32_t i = 0; i < s->n_pages; i++) s->pages[i] = i;
    return GALEN_OK;
}

galen_status session_limits_of(const network *net, const galen_session_opts *o, work_limits *out, galen_error *err) {
    kv_type kv = KV_F16;
    if (o->n_ctx < 0) return galen_fail(err, GALEN_E_ARG, 0, "a context of %d tokens", o->n_ctx);
    if (o->n_batch < 0) return galen_fail(err, GALEN_E_ARG, 0, "batches of %d tokens", o->n_batch);
    if (o->kv_type && !kv_type_by_name(o->kv_type, &kv))
        return galen_fail(err, GALEN_E_ARG, 0, "KV type \"%.40s\" is not known; known: f16, f32, q8_0", o->kv_type);
    const int32_t n_train = net->n_ctx_train;
    if (o->n_ctx > n_train)
        return galen_fail(err, GALEN_E_FULL, 0, "a context of %d tokens; the model was made for %d", o->n_ctx, n_train);
    const int32_t n_ctx = o->n_ctx ? o->n_ctx : n_train < SESSION_CTX ? n_train : SESSION_CTX;
    *out = session_limits(n_ctx, o->n_batch ? o->n_batch : SESSION_BATCH, kv);
    return GALEN_OK;
}

/* Works of its own, or a seat in the batcher. */
static galen_status open_place(galen_session *s, const galen_session_opts *o, galen_error *err) {
    galen_status st;
    work_limits lim = {0};
    if ((st = session_limits_of(model_network(s->model->net), o, &lim, err))) return st;
    s->n_ctx = lim.n_ctx;
    s->n_batch = lim.max_rows;
    s->n_pages = lim.n_pages;
    if (!o->batcher) {
        if ((st = alloc_arrays(s, err))) return st;
        return placed_open(&s->where, s->model->placer, &lim, err);
    }
    s->batcher = o->batcher;
    if ((st = seat_open(&s->seat, o->batcher, o, &s->n_ctx, err))) return st;
    s->history = arena_alloc(&s->mem, (size_t)s->n_ctx, sizeof *s->history);
    return s->history ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "a session of %d tokens", s->n_ctx);
}

galen_status galen_session_open(galen_session **out, const galen_model *m, const galen_session_opts *opts, galen_error *err) {
    galen_status st;
    galen_session_opts o = galen_session_default_opts();
    *out = NULL;
    if ((st = opts_take(&o, sizeof o, opts, "galen_session_opts", err))) return st;
    if (!m->placer) return galen_fail(err, GALEN_E_ARG, 0, "%s was opened for its vocabulary only", m->info.path);
    galen_session *s = calloc(1, sizeof *s);
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "session");
    s->model = m;
    if ((st = open_place(s, &o, err))) {
        galen_session_close(s);
        return st;
    }
    *out = s;
    return GALEN_OK;
}

void galen_session_close(galen_session *s) {
    if (!s) return;
    if (s->seat) seat_close(s->batcher, s->seat);
    placed_close(&s->where);
    arena_free(&s->mem);
    free(s->room);
    free(s);
}

/* ---------------------------------------------------------------- evaluation */

/* One batch of n tokens at position past, logits for its last n_out tokens. */
static galen_status run_batch(galen_session *s, int32_t past, int32_t n, int32_t n_out, float *logits, galen_error *err) {
    for (int32_t i = 0; i < n; i++) s->pos[i] = past + i;
    for (int32_t i = 0; i < n_out; i++) s->out_row[i] = n - n_out + i;
    const kv_pages table = {.pages = s->pages, .n_pages = s->n_pages};
    const batch b = {.n_rows = n,
                     .token = s->history + past,
                     .pos = s->pos,
                     .seq = s->seq,
                     .seqs = &table,
                     .n_seqs = 1,
                     .n_out = n_out,
                     .out_row = s->out_row};
    const galen_status st = gguf_check(s->model->file, err);
    session_pick *pick = s->pick;
    if (st || !pick || n_out == 0) return st ? st : works_forward(s->where.works, &b, logits, err);
    return works_choose(s->where.works, &b, &pick->row, &pick->choice, &pick->is_chosen, logits, err);
}

galen_status session_recover(galen_session *s, int32_t past, const galen_error *cause, galen_error *err) {
    galen_status st = placed_recover(&s->where, cause, err);
    for (int32_t done = 0; !st && done < past; done += s->n_batch)
        st = run_batch(s, done, past - done < s->n_batch ? past - done : s->n_batch, 0, NULL, err);
    return st;
}

galen_status session_mend(galen_session *s, int32_t past, const galen_error *cause, galen_error *err) {
    const galen_status st = placed_can_recover(&s->where, cause->code)
                                ? session_recover(s, past, cause, err)
                                : galen_fail(err, cause->code, cause->offset, "%s", cause->msg);
    if (st) s->is_broken = true;
    return st;
}

static bool goes_on(void *user) {
    const galen_session *s = user;
    return s->progress(s->progress_user, s->n_told, s->n_asked);
}

static galen_status eval_batch(galen_session *s, int32_t past, int32_t n, int32_t n_out, float *logits, galen_error *err) {
    galen_error why = {0};
    if (s->progress && !s->where.at->device) works_ask(s->where.works, goes_on, s);
    galen_status st = run_batch(s, past, n, n_out, logits, &why);
    works_ask(s->where.works, NULL, NULL);
    if (!st) return GALEN_OK;
    if (st == GALEN_E_CANCELLED)
        return galen_fail(err, st, 0, "cancelled after %llu of %llu tokens", (unsigned long long)s->n_told,
                          (unsigned long long)s->n_asked);
    if ((st = session_mend(s, past, &why, err))) return st;
    st = run_batch(s, past, n, n_out, logits, err);
    if (st) s->is_broken = true;
    return st;
}

static galen_status check_tokens(const galen_session *s, const int32_t *tokens, int32_t n, galen_error *err) {
    const int32_t n_vocab = s->model->info.n_vocab;
    if (s->is_broken) return galen_fail(err, GALEN_E_DEVICE, 0, "the device failed earlier; the session can only be closed");
    if (n < 0) return galen_fail(err, GALEN_E_ARG, 0, "%d tokens", n);
    if (n > s->n_ctx && !s->n_past) return galen_fail(err, GALEN_E_FULL, 0, "%d tokens; the context holds %d", n, s->n_ctx);
    if (n > s->n_ctx - s->n_past)
        return galen_fail(err, GALEN_E_FULL, 0, "%d tokens after %d need a context of %lld; this one holds %d", n, s->n_past,
                          (long long)n + s->n_past, s->n_ctx);
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "token %d is %d, expected 0 to %d", i, tokens[i], n_vocab - 1);
    return GALEN_OK;
}

/* The tokens behind n_past, in batches of our own. */
static galen_status eval_alone(galen_session *s, int32_t n_tokens, bool is_all, float *logits, galen_error *err) {
    const int32_t n_vocab = s->model->info.n_vocab;
    galen_status st;
    for (int32_t done = 0; done < n_tokens;) {
        const int32_t n = n_tokens - done < s->n_batch ? n_tokens - done : s->n_batch;
        const bool is_last = done + n == n_tokens;
        const int32_t n_out = is_all ? n : is_last && logits ? 1 : 0;
        float *out = is_all ? logits + (int64_t)done * n_vocab : logits;
        s->n_told = (uint64_t)done;
        s->n_asked = (uint64_t)n_tokens;
        if ((st = eval_batch(s, s->n_past + done, n, n_out, out, err))) return st;
        const bool has_logits = n_out > 0 && !(s->pick && s->pick->is_chosen);
        if (has_logits && (st = logits_check(out, n_out, n_vocab, err))) return st;
        done += n;
        if (s->progress && !s->progress(s->progress_user, (uint64_t)done, (uint64_t)n_tokens) && !is_last)
            return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled after %d of %d tokens", done, n_tokens);
    }
    return GALEN_OK;
}

static galen_status eval(galen_session *s, const int32_t *tokens, int32_t n_tokens, bool is_all, float *logits,
                         galen_error *err) {
    galen_status st = check_tokens(s, tokens, n_tokens, err);
    if (st || n_tokens <= 0) return st;
    memcpy(s->history + s->n_past, tokens, (size_t)n_tokens * sizeof *tokens);
    if (s->seat)
        st = seat_eval(s->batcher, s->seat, s->n_past, s->history + s->n_past, n_tokens, is_all, logits, s->progress,
                       s->progress_user, err);
    else
        st = eval_alone(s, n_tokens, is_all, logits, err);
    if (!st) s->n_past += n_tokens;
    return st;
}

galen_status galen_session_eval(galen_session *s, const int32_t *tokens, int32_t n_tokens, float *logits, galen_error *err) {
    return eval(s, tokens, n_tokens, false, logits, err);
}

galen_status galen_session_eval_all(galen_session *s, const int32_t *tokens, int32_t n_tokens, float *logits, galen_error *err) {
    return eval(s, tokens, n_tokens, true, logits, err);
}

galen_status galen_session_rewind(galen_session *s, int32_t n_past, galen_error *err) {
    if (n_past < 0 || n_past > s->n_past)
        return galen_fail(err, GALEN_E_RANGE, 0, "rewind to %d tokens of %d", n_past, s->n_past);
    s->n_past = n_past; /* pages beyond are overwritten as the session grows again */
    return GALEN_OK;
}

int32_t galen_session_n_past(const galen_session *s) {
    return s->n_past;
}

int32_t galen_session_n_ctx(const galen_session *s) {
    return s->n_ctx;
}

void galen_session_set_progress(galen_session *s, galen_progress_fn fn, void *user) {
    s->progress = fn;
    s->progress_user = user;
}
