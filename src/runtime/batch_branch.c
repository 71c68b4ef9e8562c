/* Branches of a session of a batcher: the caller's thread submits a request for each and waits for all. */
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"
#include "tensor/log_sum.h"

/* ---------------------------------------------------------------- the batcher's side */

/* Those wanted after pos stand together in the branch. */
static int32_t find_wanted(const request *r, int32_t pos, int32_t *n) {
    const galen_branch *in = r->branch;
    int32_t from = r->n_read;
    *n = 0;
    while (from < in->n_wanted && in->after[from] < pos - r->n_before) from++;
    while (from + *n < in->n_wanted && in->after[from + *n] == pos - r->n_before) ++*n;
    return from;
}

int32_t branch_count(const request *r, int32_t pos) {
    int32_t n;
    (void)find_wanted(r, pos, &n);
    return n;
}

void branch_take(request *r, int32_t pos, const float *logits) {
    const galen_branch *in = r->branch;
    int32_t n;
    const int32_t from = find_wanted(r, pos, &n);
    if (n == 0) return;
    const double sum = log_sum(logits, r->gen.n_vocab);
    for (int32_t i = from; i < from + n; i++) in->logprobs[i] = (double)logits[in->ids[i]] - sum;
    r->n_read = from + n;
}

/* ---------------------------------------------------------------- the caller's side */

/* Requests of one call. */
typedef struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    galen_batcher *b;
    galen_draft *drafts; /* [n], or NULL */
    uint64_t *ids;       /* [n]; 0 = not submitted */
    struct member {
        struct crowd *of;
        int32_t index;
        galen_chunk_fn on_chunk; /* of the draft's caller */
        void *user;
        bool wants_no_more;
    } * members;            /* [n] */
    int32_t *prompt;        /* [n_ctx] */
    int32_t n, n_ended;     /* lock: n_ended */
    uint64_t n_done, n_all; /* lock: n_done; tokens */
    galen_status status;    /* lock: of the first that failed */
    galen_error error;
} crowd;

/* Who wants no more ends one draft, not the call. */
static bool on_chunk(void *user, const galen_chunk *chunk) {
    struct member *m = user;
    m->wants_no_more |= !m->on_chunk(m->user, chunk);
    return !m->wants_no_more;
}

static void on_end(void *user, const galen_end *end) {
    const struct member *m = user;
    crowd *c = m->of;
    pthread_mutex_lock(&c->lock);
    if (c->drafts) {
        galen_result *r = &c->drafts[m->index].result;
        r->finish = end->finish;
        r->n_generated = end->usage.n_generated;
        r->prefill_s = end->usage.prompt_s;
        r->decode_s = end->usage.end_s - end->usage.prompt_s;
    }
    if (end->status && !m->wants_no_more && !c->status) {
        c->status = end->status;
        c->error = *end->error;
    }
    c->n_ended++;
    c->n_done += (uint64_t)end->usage.n_prompt;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void crowd_close(crowd *c) {
    free(c->ids);
    free(c->members);
    free(c->prompt);
    (void)pthread_cond_destroy(&c->changed);
    (void)pthread_mutex_destroy(&c->lock);
}

static galen_status crowd_open(crowd *c, galen_session *s, int32_t n, galen_error *err) {
    *c = (crowd){.b = s->batcher, .n = n};
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->changed, NULL);
    c->ids = calloc((size_t)n, sizeof *c->ids);
    c->members = calloc((size_t)n, sizeof *c->members);
    c->prompt = calloc((size_t)s->n_ctx, sizeof *c->prompt);
    if (!c->ids || !c->members || !c->prompt) return galen_fail(err, GALEN_E_NOMEM, 0, "%d branches of a session", n);
    memcpy(c->prompt, s->history, (size_t)s->n_past * sizeof *c->prompt);
    return GALEN_OK;
}

/* One branch as a request. */
static galen_status submit(crowd *c, galen_session *s, int32_t i, const int32_t *tokens, int32_t n_tokens,
                           const galen_generate_opts *opts, const galen_branch *branch, galen_error *err) {
    galen_request_opts o = galen_request_default_opts();
    seq *one;
    memcpy(c->prompt + s->n_past, tokens, (size_t)n_tokens * sizeof *tokens);
    c->members[i] = (struct member){.of = c, .index = i};
    o.prompt = c->prompt;
    o.n_prompt = s->n_past + n_tokens;
    o.client = s->seat->client_key;
    o.salt = s->seat->salt;
    o.on_end = on_end;
    o.user = &c->members[i];
    galen_status st = opts ? opts_take(&o.generate, sizeof o.generate, opts, "galen_generate_opts", err) : GALEN_OK;
    if (branch) o.generate.max_tokens = 0;
    o.generate.size = sizeof o.generate;
    if (o.generate.on_chunk) {
        c->members[i].on_chunk = o.generate.on_chunk;
        c->members[i].user = o.generate.user;
        o.generate.on_chunk = on_chunk;
        o.generate.user = &c->members[i];
    }
    if (!st) st = request_open(&one, s->batcher, &o, err);
    if (st) return st;
    one->req->branch = branch;
    one->req->n_before = s->n_past;
    return batcher_submit(s->batcher, one, true, &c->ids[i], err);
}

static void cancel_all(const crowd *c) {
    for (int32_t i = 0; i < c->n; i++)
        if (c->ids[i]) galen_batcher_cancel(c->b, c->ids[i]);
}

/* Until the n submitted have ended. A failure, or a caller who wants no more, ends them all. */
static void wait_for(crowd *c, int32_t n, galen_progress_fn progress, void *user) {
    int32_t told = 0;
    bool is_ending = false;
    pthread_mutex_lock(&c->lock);
    while (c->n_ended < n) {
        const bool is_bad = c->status != GALEN_OK && !is_ending;
        const bool is_news = progress && c->n_ended != told && !is_ending;
        if (!is_bad && !is_news) {
            (void)pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        told = c->n_ended;
        const uint64_t done = c->n_done;
        pthread_mutex_unlock(&c->lock);
        is_ending = is_bad || !progress(user, done, c->n_all);
        if (is_ending) cancel_all(c);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

static galen_status run(crowd *c, galen_session *s, const galen_branch *read, galen_draft *drafts, galen_error *err) {
    galen_status st = GALEN_OK;
    int32_t n = 0;
    for (int32_t i = 0; i < c->n; i++) c->n_all += (uint64_t)(s->n_past + (read ? read[i].n_tokens : drafts[i].n_tokens));
    if (s->progress && !s->progress(s->progress_user, 0, c->n_all)) /* asked once before they begin, however quick they are */
        return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled");
    if (s->batcher->o.has_prefix_cache) st = seat_park(s->batcher, s->seat, s->n_past, err);
    for (; n < c->n && !st; n += !st)
        st = read ? submit(c, s, n, read[n].tokens, read[n].n_tokens, NULL, &read[n], err)
                  : submit(c, s, n, drafts[n].tokens, drafts[n].n_tokens, drafts[n].opts, NULL, err);
    if (st) cancel_all(c);
    wait_for(c, n, s->progress, s->progress_user);
    if (st || !c->status) return st;
    return galen_fail(err, c->status, c->error.offset, "%s", c->error.msg);
}

galen_status seat_read(galen_session *s, const galen_branch *in, int32_t n, galen_error *err) {
    crowd c;
    galen_status st = crowd_open(&c, s, n, err);
    if (!st) st = run(&c, s, in, NULL, err);
    crowd_close(&c);
    return st;
}

galen_status seat_draft(galen_session *s, galen_draft *in, int32_t n, galen_error *err) {
    crowd c;
    galen_status st = crowd_open(&c, s, n, err);
    c.drafts = in;
    if (!st) st = run(&c, s, NULL, in, err);
    crowd_close(&c);
    return st;
}
