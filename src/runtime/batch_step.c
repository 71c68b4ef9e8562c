/* What a step yields, to whom it belongs; and the end of a sequence. */
#include "runtime/batch.h"

/* ---------------------------------------------------------------- the end */

static void end_request(galen_batcher *b, seq *s, galen_status status, const galen_error *why) {
    request *r = s->req;
    request_tell_end(r, status, why);
    b->tally.n_cancelled += status == GALEN_E_CANCELLED;
    b->tally.n_errors += status != GALEN_OK && status != GALEN_E_CANCELLED;
    b->busy_ends += 1;
    pthread_mutex_lock(&b->lock);
    *(r->prev ? &r->prev->next : &b->live) = r->next;
    if (r->next) r->next->prev = r->prev;
    b->n_live--;
    if (!r->has_begun) b->n_queued--;
    if (b->n_live == 0) pthread_cond_broadcast(&b->ended);
    pthread_mutex_unlock(&b->lock);
    request_close(r);
    if (s->root != PAGE_NONE) pages_let_root(b->pool, s->root);
    seq_close(s);
}

/* Pages that may hold what is not a number are wiped: a masked key still meets a factor of zero on some devices. */
static galen_status wipe(galen_batcher *b, const seq *s, galen_error *err) {
    for (int32_t i = s->n_known; i < s->n_pages && device_can_copy(b); i++) {
        if (!pages_is_private(b->pool, s->pages[i])) continue;
        const galen_status st = device_copy_page(b, s->pages[i], PAGE_NONE, err);
        if (st) return st;
    }
    return GALEN_OK;
}

galen_status step_end(galen_batcher *b, seq *s, galen_status status, const galen_error *why, galen_error *err) {
    const bool is_poisoned = status == GALEN_E_NUMERIC;
    const galen_status st = is_poisoned ? wipe(b, s, err) : GALEN_OK;
    if (s->req || is_poisoned) seq_let_pages(b, s, !is_poisoned);
    seq_move(b, s, s->req ? SEQ_NEW : SEQ_IDLE);
    if (s->client) client_leave(b, s->client);
    s->client = NULL;
    if (s->req)
        end_request(b, s, status, why);
    else
        seat_tell_end(b, s, status, why);
    return st;
}

/* ---------------------------------------------------------------- results */

/* What needs no order: whether logits are finite, and the choice of the next token. */
static void prepare(void *ctx, int64_t begin, int64_t end, int thread) {
    galen_batcher *b = ctx;
    const int32_t n_vocab = b->m->info.n_vocab;
    for (int64_t i = begin; i < end; i++) {
        seq *s = b->members[i];
        const float *logits = b->logits + (int64_t)s->first_out * n_vocab;
        const int32_t n_out = (i + 1 < b->n_members ? b->members[i + 1]->first_out : b->step.n_out) - s->first_out;
        s->n_finite = 0;
        while (s->n_finite < n_out && logits_are_finite(logits + (int64_t)s->n_finite * n_vocab, n_vocab)) s->n_finite++;
        if (s->req && n_out > 0 && s->n_finite == n_out && s->n_rows == seq_pending(s))
            request_choose(s, logits + (int64_t)(n_out - 1) * n_vocab, &b->choices[thread]);
    }
}

/* The same from what the device chose: one output row a sequence at most, its last. */
static void prepare_picked(galen_batcher *b) {
    for (int32_t i = 0; i < b->n_members; i++) {
        seq *s = b->members[i];
        if (s->n_rows < seq_pending(s)) continue;
        const sample_choice *pick = &b->picks[s->first_out];
        request *r = s->req;
        s->n_finite = pick->id == CHOICE_NOT_FINITE ? 0 : 1;
        r->is_chosen = true;
        r->choice = pick->id;
        r->choice_status = GALEN_OK;
        if (pick->id == CHOICE_FORBIDDEN)
            r->choice_status = galen_fail(&r->choice_error, GALEN_E_NUMERIC, 0, "every token is forbidden");
    }
}

static galen_status not_finite(const galen_batcher *b, const float *logits, galen_error *err) {
    if (!b->is_picked) return logits_check(logits, 1, b->m->info.n_vocab, err);
    return galen_fail(err, GALEN_E_NUMERIC, 0, "a logit is not finite: the model's weights or its file are damaged");
}

static void prepare_all(galen_batcher *b) {
    if (b->is_picked) {
        prepare_picked(b);
        return;
    }
    if ((int64_t)b->step.n_out * b->m->info.n_vocab >= b->worth_waking)
        pool_run(b->crew, b->n_members, 1, prepare, b);
    else
        prepare(b, 0, b->n_members, 0);
}

/* Row by row: the hidden state where it is pooled, the logits where they are wanted. */
static galen_status take_rows(galen_batcher *b, seq *s, bool *is_over, galen_error *err) {
    const int32_t n_vocab = b->m->info.n_vocab, n_embd = model_network(b->m->net)->n_embd, begin = s->n_done;
    int32_t out = s->first_out;
    *is_over = false;
    s->n_done = begin + s->n_rows;
    for (int32_t i = 0; i < s->n_rows; i++) {
        galen_status st = GALEN_OK;
        const int32_t pos = begin + i;
        if (s->req && s->req->o.pooling)
            st = request_take_hidden(b, s, pos, b->hidden + (int64_t)(s->first_row + i) * n_embd, err);
        if (st) return st;
        if (!seq_wants(s, pos)) continue;
        const float *logits = b->logits + (int64_t)out++ * n_vocab;
        if (out - s->first_out > s->n_finite) return not_finite(b, logits, err);
        s->n_out = pos + 1;
        s->n_sound = pos + 1;
        if (s->seat) {
            seat_take_logits(b, s, pos, logits);
            *is_over = pos == s->n_tokens - 1;
        } else if ((st = request_take_logits(b, s, pos, logits, is_over, err)) || *is_over) {
            return st;
        }
    }
    return GALEN_OK;
}

galen_status step_run(galen_batcher *b, galen_error *err) {
    bool is_moved;
    galen_status st = device_run(b, &is_moved, err);
    if (is_moved && !st) plan_anew(b);
    if (is_moved || st) return st;
    prepare_all(b);
    for (int32_t i = 0; i < b->n_members && !st; i++) {
        seq *s = b->members[i];
        galen_error why = {0};
        bool is_over;
        b->tally.n_prompt_tokens += (uint64_t)(seq_pending(s) > 1 ? s->n_rows : 0);
        const galen_status of_it = take_rows(b, s, &is_over, &why);
        seq_publish(b, s);
        if (of_it || is_over)
            st = step_end(b, s, of_it, &why, err);
        else if (s->seat)
            seat_tell_progress(b, s);
    }
    b->tally.n_steps += !st;
    return st;
}
