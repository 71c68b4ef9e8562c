/* A session over a batcher: the caller's thread waits while its rows go through the common steps. */
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"

galen_status seat_open(seq **out, galen_batcher *b, const galen_session_opts *o, int32_t *n_ctx, galen_error *err) {
    galen_status st;
    *out = NULL;
    if (o->n_batch != 0 || o->kv_type)
        return galen_fail(err, GALEN_E_ARG, 0, "a session of a batcher has its n_batch and kv_type; leave them 0 and NULL");
    if (o->n_ctx < 0 || o->n_ctx > b->o.n_ctx)
        return galen_fail(err, GALEN_E_FULL, 0, "a context of %d tokens; the batcher's sequences may have %d", o->n_ctx,
                          b->o.n_ctx);
    *n_ctx = o->n_ctx ? o->n_ctx : b->o.n_ctx;
    seq *s;
    if ((st = seq_open(&s, *n_ctx, o->client, o->salt, err))) return st;
    s->seat = calloc(1, sizeof *s->seat);
    if (!s->seat) {
        seq_close(s);
        return galen_fail(err, GALEN_E_NOMEM, 0, "session");
    }
    (void)pthread_cond_init(&s->seat->changed, NULL);
    pthread_mutex_lock(&b->lock);
    s->order = b->next_order++;
    b->n_sessions++;
    pthread_mutex_unlock(&b->lock);
    *out = s;
    return GALEN_OK;
}

void seat_close(galen_batcher *b, seq *s) {
    if (!s) return;
    pthread_mutex_lock(&b->lock); /* its pages are the thread's to take back */
    s->seat->next_leaving = b->leaving;
    b->leaving = s;
    b->n_sessions--;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

void seat_free(galen_batcher *b, seq *s) {
    seq_let_pages(b, s, true);
    seq_move(b, s, SEQ_NEW);
    if (s->root != PAGE_NONE) pages_let_root(b->pool, s->root);
    (void)pthread_cond_destroy(&s->seat->changed);
    free(s->seat);
    seq_close(s);
}

/* ---------------------------------------------------------------- the caller's side */

/* With the lock: wait until it is over, telling of progress between steps without the lock. */
static void wait_for_end(galen_batcher *b, seat *t, galen_progress_fn progress, void *user) {
    int32_t told = 0;
    while (t->is_busy) {
        if (!progress || t->n_evaluated == told || t->is_cancelled) {
            (void)pthread_cond_wait(&t->changed, &b->lock);
            continue;
        }
        told = t->n_evaluated;
        pthread_mutex_unlock(&b->lock);
        const bool goes_on = progress(user, (uint64_t)told, (uint64_t)t->n_new);
        pthread_mutex_lock(&b->lock);
        t->is_cancelled = !goes_on;
    }
}

/* With a request in the seat: queue it, wait for its end. */
static galen_status ask(galen_batcher *b, seq *s, galen_progress_fn progress, void *user, galen_error *err) {
    seat *t = s->seat;
    pthread_mutex_lock(&b->lock);
    t->is_busy = true;
    t->is_cancelled = false;
    t->n_evaluated = 0;
    t->status = GALEN_OK;
    if (b->is_closing)
        t->is_busy = (t->status = galen_fail(&t->error, GALEN_E_CANCELLED, 0, "the batcher is closing")) == GALEN_OK;
    else
        batcher_enqueue(b, s);
    wait_for_end(b, t, progress, user);
    const galen_status st = t->status;
    if (st && err) *err = t->error;
    pthread_mutex_unlock(&b->lock);
    return st;
}

galen_status seat_park(galen_batcher *b, seq *s, int32_t n_keep, galen_error *err) {
    seat *t = s->seat;
    t->n_keep = n_keep;
    t->n_new = 0;
    t->is_parking = true;
    const galen_status st = ask(b, s, NULL, NULL, err);
    t->is_parking = false;
    return st;
}

galen_status seat_eval(galen_batcher *b, seq *s, int32_t n_keep, const int32_t *tokens, int32_t n, bool is_all, float *logits,
                       galen_progress_fn progress, void *user, galen_error *err) {
    seat *t = s->seat;
    t->n_keep = n_keep;
    t->new_tokens = tokens;
    t->n_new = n;
    t->is_all = is_all;
    t->logits = logits;
    const galen_status st = ask(b, s, progress, user, err);
    if (!st && progress) (void)progress(user, (uint64_t)n, (uint64_t)n); /* too late to cancel */
    return st;
}

/* ---------------------------------------------------------------- the thread's side */

void seat_begin(galen_batcher *b, seq *s) {
    const seat *t = s->seat;
    seq_rewind(b, s, t->n_keep);
    memcpy(s->tokens + t->n_keep, t->new_tokens, (size_t)t->n_new * sizeof *t->new_tokens);
    s->n_tokens = t->n_keep + t->n_new;
    s->n_out = t->n_keep;
}

void seat_take_logits(galen_batcher *b, seq *s, int32_t pos, const float *logits) {
    const size_t n_vocab = (size_t)b->m->info.n_vocab;
    const seat *t = s->seat;
    if (!t->logits) return;
    memcpy(t->logits + (t->is_all ? (size_t)(pos - t->n_keep) * n_vocab : 0), logits, n_vocab * sizeof *logits);
}

void seat_tell_progress(galen_batcher *b, seq *s) {
    pthread_mutex_lock(&b->lock);
    if (s->n_done > s->seat->n_keep) s->seat->n_evaluated = s->n_done - s->seat->n_keep;
    pthread_cond_signal(&s->seat->changed);
    pthread_mutex_unlock(&b->lock);
}

void seat_tell_end(galen_batcher *b, seq *s, galen_status status, const galen_error *why) {
    pthread_mutex_lock(&b->lock);
    s->seat->status = status;
    if (status) s->seat->error = *why;
    s->seat->is_busy = false;
    pthread_cond_signal(&s->seat->changed);
    pthread_mutex_unlock(&b->lock);
}
