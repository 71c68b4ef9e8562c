/* The batcher's face and its thread: take in, end what must end, plan a step, run it, hand out what it yields. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "runtime/batch.h"

enum {
    DEFAULT_SEQS = 32,
    DEFAULT_QUEUE = 256,
    DEFAULT_CONTEXTS = 8, /* kv_tokens, in n_ctx */
    MOST_ROWS = 1 << 16,
    HOST_ROWS = 128,        /* on a processor more rows gain little, and a step is what a cancel waits for */
    MOST_CREW = 8,          /* threads that choose tokens                          */
    WORTH_WAKING = 1 << 20, /* logits that take one thread some half a millisecond */
    SCORE_ROWS = 64         /* rows with logits that a step has at least, where its rows allow */
};

galen_batcher_opts galen_batcher_default_opts(void) {
    return (galen_batcher_opts){.size = sizeof(galen_batcher_opts), .has_prefix_cache = true};
}

/* ---------------------------------------------------------------- rates */

/* Sums that fade over ten seconds of work. */
static void count_time(galen_batcher *b, double seconds, uint64_t n_tokens) {
    const double fade = exp(-seconds / 10);
    b->busy_s = b->busy_s * fade + seconds;
    b->busy_tokens = b->busy_tokens * fade + (double)n_tokens;
    b->busy_ends *= fade;
}

/* With the lock: what the thread counted is there to be read. */
static void tell_stats(galen_batcher *b) {
    const page_counts n = pages_count(b->pool);
    b->stats = b->tally;
    b->stats.n_running = b->running.n;
    b->stats.n_pages = n.n_pages;
    b->stats.n_pages_used = n.n_held;
    b->stats.n_pages_cached = n.n_cached;
    b->stats.n_evictions = n.n_evicted;
    b->stats.tokens_per_s = b->busy_s > 0 ? b->busy_tokens / b->busy_s : 0;
    b->stats.expected_s = b->busy_ends > 0 ? b->busy_s / b->busy_ends : 1; /* for one request to make room */
    b->stats.is_failed = b->is_broken;
}

void galen_batcher_get_stats(const galen_batcher *batcher, galen_batcher_stats *out) {
    galen_batcher *b = (galen_batcher *)(uintptr_t)batcher; /* its lock is not part of its state */
    const size_t size = out->size < sizeof *out ? out->size : sizeof *out;
    pthread_mutex_lock(&b->lock);
    galen_batcher_stats s = b->stats;
    s.size = out->size;
    s.n_sessions = b->n_sessions;
    s.n_waiting = b->n_queued;
    s.n_requests = b->n_submitted;
    s.n_refused = b->n_refused;
    s.is_draining = b->is_draining;
    const int32_t ahead = b->n_live - b->o.max_seqs + 1;
    s.expected_s = ahead > 0 ? s.expected_s * ahead : 0;
    s.last_step_s = b->progress_ns ? (double)(clock_monotonic_ns() - b->progress_ns) * 1e-9 : 0;
    pthread_mutex_unlock(&b->lock);
    memcpy(out, &s, size);
}

/* ---------------------------------------------------------------- the thread */

/* A sequence that was queued waits for its turn from now on. */
static void absorb(galen_batcher *b, seq *s) {
    galen_error why = {0}, unused;
    if (s->seat && s->seat->is_parking) {
        seq_rewind(b, s, s->seat->n_keep);
        seq_let_pages(b, s, true);
        seat_tell_end(b, s, GALEN_OK, NULL);
        return;
    }
    if (s->root == PAGE_NONE) s->root = pages_take_root(b->pool, s->salt);
    if (s->root != PAGE_NONE) s->client = client_enter(b, s->client_key);
    if (s->client && s->seat) seat_begin(b, s);
    seq_move(b, s, SEQ_WAITING);
    if (s->client) return;
    const galen_status st = galen_fail(&why, GALEN_E_NOMEM, 0, "a client's entry");
    (void)step_end(b, s, st, &why, &unused); /* it meets no device */
}

static galen_status why_ended(const seq *s, bool is_closing, uint64_t now, galen_error *why) {
    if (is_closing) return galen_fail(why, GALEN_E_CANCELLED, 0, "the batcher is closing");
    if (s->seat)
        return s->seat->is_cancelled ? galen_fail(why, GALEN_E_CANCELLED, 0, "cancelled after %d of %d tokens",
                                                  s->seat->n_evaluated, s->seat->n_new)
                                     : GALEN_OK;
    if (atomic_load(&s->req->is_cancelled)) return galen_fail(why, GALEN_E_CANCELLED, 0, "cancelled");
    if (s->req->deadline_ns && now > s->req->deadline_ns)
        return galen_fail(why, GALEN_E_CANCELLED, 0, "its time of %lld ms is over", (long long)s->req->o.timeout_ms);
    return GALEN_OK;
}

/* End what was cancelled, what has run out of time; everything when closing or when the device failed. */
static void reap(galen_batcher *b, bool is_closing) {
    const uint64_t now = clock_monotonic_ns();
    seq_list *const lists[] = {&b->running, &b->waiting};
    galen_error unused;
    for (int i = 0; i < 2; i++)
        for (seq *s = lists[i]->first, *next; s; s = next) {
            galen_error why = b->failure;
            next = s->next;
            pthread_mutex_lock(&b->lock); /* a seat's is_cancelled */
            const galen_status st = b->is_broken ? b->failure.code : why_ended(s, is_closing, now, &why);
            pthread_mutex_unlock(&b->lock);
            if (st) (void)step_end(b, s, st, &why, &unused);
        }
}

static void break_down(galen_batcher *b, const galen_error *why) {
    b->is_broken = true;
    b->failure = *why;
    pthread_mutex_lock(&b->lock);
    tell_stats(b);
    pthread_mutex_unlock(&b->lock);
    reap(b, false);
}

static void take_step(galen_batcher *b) {
    galen_error err = {0};
    const uint64_t begin = clock_monotonic_ns(), n = b->tally.n_generated_tokens;
    galen_status st = plan_step(b, &err);
    if (!st && b->n_members > 0) st = step_run(b, &err);
    count_time(b, (double)(clock_monotonic_ns() - begin) * 1e-9, b->tally.n_generated_tokens - n);
    if (st) break_down(b, &err);
}

/* Wait for work and take over what came; whether the batcher is closing. */
static bool await(galen_batcher *b, seq **incoming, seq **leaving) {
    pthread_mutex_lock(&b->lock);
    tell_stats(b);
    const bool is_busy = b->running.n + b->waiting.n > 0;
    if (!is_busy) b->progress_ns = 0;
    while (!is_busy && !b->incoming && !b->leaving && !b->is_closing) (void)pthread_cond_wait(&b->wake, &b->lock);
    if (is_busy || b->incoming) b->progress_ns = clock_monotonic_ns();
    *incoming = b->incoming;
    *leaving = b->leaving;
    b->incoming = b->incoming_last = b->leaving = NULL;
    const bool is_closing = b->is_closing;
    pthread_mutex_unlock(&b->lock);
    return is_closing;
}

static void *serve(void *user) {
    galen_batcher *b = user;
    for (bool is_closing = false; !is_closing;) {
        seq *incoming, *leaving, *next;
        is_closing = await(b, &incoming, &leaving);
        for (; incoming; incoming = next) {
            next = incoming->next_queued;
            absorb(b, incoming);
        }
        for (; leaving; leaving = next) {
            next = leaving->seat->next_leaving;
            seat_free(b, leaving);
        }
        reap(b, is_closing);
        if (!is_closing && b->running.n + b->waiting.n > 0) take_step(b);
    }
    return NULL;
}

/* ---------------------------------------------------------------- open, close */

static galen_status fill(int32_t *v, int32_t otherwise, int32_t max, const char *name, galen_error *err) {
    if (*v == 0) *v = otherwise;
    if (*v >= 1 && *v <= max) return GALEN_OK;
    return galen_fail(err, GALEN_E_ARG, 0, "%s: %d, expected 0 to %d", name, *v, max);
}

static galen_status settle(const galen_model *m, galen_batcher_opts *o, kv_type *kv, galen_error *err) {
    galen_status st;
    work_limits lim;
    const galen_session_opts one = {.size = sizeof one, .n_ctx = o->n_ctx, .kv_type = o->kv_type};
    if (!m->placer) return galen_fail(err, GALEN_E_ARG, 0, "%s was opened for its vocabulary only", m->info.path);
    if ((st = session_limits_of(model_network(m->net), &one, &lim, err))) return st;
    o->n_ctx = lim.n_ctx;
    *kv = lim.kv;
    if ((st = fill(&o->max_seqs, DEFAULT_SEQS, MOST_ROWS, "max_seqs", err))) return st;
    if ((st = fill(&o->max_queue, DEFAULT_QUEUE, INT32_MAX / 2, "max_queue", err))) return st;
    const int32_t usual = galen_model_get_info(m).n_gpu_layers > 0 ? SESSION_BATCH : HOST_ROWS;
    const int32_t rows = o->max_seqs > usual ? o->max_seqs : usual;
    if ((st = fill(&o->n_batch, rows, MOST_ROWS, "n_batch", err))) return st;
    if (o->n_batch < o->max_seqs)
        return galen_fail(err, GALEN_E_ARG, 0, "n_batch: %d, less than max_seqs, %d", o->n_batch, o->max_seqs);
    const int32_t chunk = o->n_batch / 4 > KV_PAGE ? o->n_batch / 4 : KV_PAGE;
    if ((st = fill(&o->n_chunk, chunk < o->n_batch ? chunk : o->n_batch, o->n_batch, "n_chunk", err))) return st;
    if (o->kv_tokens == 0) o->kv_tokens = (int64_t)DEFAULT_CONTEXTS * o->n_ctx;
    if (o->kv_tokens < o->n_ctx || o->kv_tokens / KV_PAGE >= INT32_MAX - 1)
        return galen_fail(err, GALEN_E_ARG, 0, "kv_tokens: %lld, expected n_ctx (%d) or more", (long long)o->kv_tokens, o->n_ctx);
    o->kv_type = NULL; /* settled in kv */
    return GALEN_OK;
}

static galen_status alloc_step(galen_batcher *b, galen_error *err) {
    const size_t rows = (size_t)b->o.n_batch, seqs = (size_t)b->o.max_seqs, out = (size_t)b->max_out;
    b->token = arena_alloc(&b->mem, rows, sizeof *b->token);
    b->pos = arena_alloc(&b->mem, rows, sizeof *b->pos);
    b->row_seq = arena_alloc(&b->mem, rows, sizeof *b->row_seq);
    b->out_row = arena_alloc(&b->mem, out, sizeof *b->out_row);
    b->tables = arena_alloc(&b->mem, seqs, sizeof *b->tables);
    b->members = arena_alloc(&b->mem, seqs, sizeof(seq *));
    b->logits = arena_alloc(&b->mem, out * (size_t)b->m->info.n_vocab, sizeof *b->logits);
    b->how = arena_alloc(&b->mem, out, sizeof *b->how);
    b->picks = arena_alloc(&b->mem, out, sizeof *b->picks);
    b->hidden = arena_alloc(&b->mem, rows * (size_t)model_network(b->m->net)->n_embd, sizeof *b->hidden);
    if (b->token && b->pos && b->row_seq && b->out_row && b->tables && b->members && b->logits && b->how && b->picks && b->hidden)
        return GALEN_OK;
    return galen_fail(err, GALEN_E_NOMEM, 0, "a batcher of %d rows and %d sequences", b->o.n_batch, b->o.max_seqs);
}

static galen_status open_crew(galen_batcher *b, galen_error *err) {
    const int32_t threads = placer_threads(b->m->placer), n = threads < MOST_CREW ? threads : MOST_CREW;
    galen_status st = pool_open(&b->crew, n, err);
    if (st) return st;
    b->worth_waking = WORTH_WAKING;
    b->choices = arena_alloc(&b->mem, (size_t)n, sizeof *b->choices);
    if (!b->choices) return galen_fail(err, GALEN_E_NOMEM, 0, "%d samplers", n);
    for (int32_t i = 0; i < n && !st; i++) st = sampler_open(&b->choices[i], b->m->info.n_vocab, err);
    return st;
}

galen_status galen_batcher_open(galen_batcher **out, const galen_model *m, const galen_batcher_opts *opts, galen_error *err) {
    galen_status st;
    kv_type kv = KV_F16;
    galen_batcher_opts o = galen_batcher_default_opts();
    *out = NULL;
    if ((st = opts_take(&o, sizeof o, opts, "galen_batcher_opts", err))) return st;
    if ((st = settle(m, &o, &kv, err))) return st;
    galen_batcher *b = calloc(1, sizeof *b);
    if (!b) return galen_fail(err, GALEN_E_NOMEM, 0, "batcher");
    b->m = m;
    b->o = o;
    b->max_out = o.max_seqs > SCORE_ROWS ? o.max_seqs : o.n_batch < SCORE_ROWS ? o.n_batch : SCORE_ROWS;
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->wake, NULL);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&b->ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    /* one page more than one sequence can need: what a page is copied from is there beside the copy */
    const int32_t least = (o.n_ctx - 1) / KV_PAGE + 2, n_pages = (int32_t)((o.kv_tokens + KV_PAGE - 1) / KV_PAGE);
    if ((st = alloc_step(b, err))) goto fail;
    if ((st = open_crew(b, err))) goto fail;
    if ((st = pages_open(&b->pool, n_pages > least ? n_pages : least, err))) goto fail;
    if ((st = device_open(b, kv, n_pages > least ? n_pages : least, err))) goto fail;
    tell_stats(b);
    if (pthread_create(&b->thread, NULL, serve, b) != 0) {
        st = galen_fail(err, GALEN_E_DEVICE, 0, "the batcher's thread cannot be started");
        goto fail;
    }
    b->has_thread = true;
    *out = b;
    return GALEN_OK;
fail:
    galen_batcher_close(b);
    return st;
}

void galen_batcher_close(galen_batcher *b) {
    if (!b) return;
    if (b->has_thread) {
        pthread_mutex_lock(&b->lock);
        b->is_closing = true;
        pthread_cond_signal(&b->wake);
        pthread_mutex_unlock(&b->lock);
        (void)pthread_join(b->thread, NULL);
    }
    device_close(b);
    pages_close(b->pool);
    for (int i = 0; b->choices && i < pool_n_threads(b->crew); i++) sampler_close(&b->choices[i]);
    pool_close(b->crew);
    (void)pthread_cond_destroy(&b->ended);
    (void)pthread_cond_destroy(&b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    arena_free(&b->mem);
    free(b);
}

galen_status galen_batcher_drain(galen_batcher *b, int64_t timeout_ms, galen_error *err) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += (time_t)(timeout_ms / 1000);
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&b->lock);
    b->is_draining = true;
    int rc = 0;
    while (b->n_live > 0 && rc == 0)
        rc = timeout_ms < 0 ? pthread_cond_wait(&b->ended, &b->lock) : pthread_cond_timedwait(&b->ended, &b->lock, &until);
    const int32_t left = b->n_live;
    pthread_mutex_unlock(&b->lock);
    if (left == 0) return GALEN_OK;
    return galen_fail(err, GALEN_E_CANCELLED, 0, "%d requests still run after %lld ms", left, (long long)timeout_ms);
}

/* ---------------------------------------------------------------- requests from any thread */

void batcher_enqueue(galen_batcher *b, seq *s) {
    s->next_queued = NULL;
    *(b->incoming_last ? &b->incoming_last->next_queued : &b->incoming) = s;
    b->incoming_last = s;
    pthread_cond_signal(&b->wake);
}

/* With the lock: whether one more request may come. */
static galen_status check_room(galen_batcher *b, bool is_inside, galen_error *err) {
    if (b->stats.is_failed)
        return galen_fail(err, GALEN_E_DEVICE, 0, "the device failed earlier; the batcher can only be closed and opened again");
    if (is_inside && b->is_closing) return galen_fail(err, GALEN_E_CANCELLED, 0, "the batcher is closing");
    if (is_inside) return GALEN_OK;
    if (b->is_draining || b->is_closing) return galen_fail(err, GALEN_E_BUSY, 0, "no new requests are taken");
    if (b->n_live >= b->o.max_seqs + b->o.max_queue)
        return galen_fail(err, GALEN_E_BUSY, 0, "%d requests run or wait, as many as there is room for", b->n_live);
    return GALEN_OK;
}

static galen_status refuse(galen_batcher *b, galen_status st) {
    b->n_refused++;
    pthread_mutex_unlock(&b->lock);
    return st;
}

galen_status batcher_submit(galen_batcher *b, seq *s, bool is_inside, uint64_t *id, galen_error *err) {
    request *r = s->req;
    pthread_mutex_lock(&b->lock);
    const galen_status st = check_room(b, is_inside, err);
    if (st) {
        (void)refuse(b, st);
        request_close(r);
        seq_close(s);
        return st;
    }
    *id = r->id = ++b->n_submitted;
    s->order = b->next_order++;
    r->next = b->live;
    if (b->live) b->live->prev = r;
    b->live = r;
    b->n_live++;
    b->n_queued++;
    batcher_enqueue(b, s);
    pthread_mutex_unlock(&b->lock);
    return GALEN_OK;
}

galen_status galen_batcher_submit(galen_batcher *b, const galen_request_opts *opts, uint64_t *id, galen_error *err) {
    seq *s;
    pthread_mutex_lock(&b->lock);
    const galen_status st = check_room(b, false, err); /* before any work is done for it */
    if (st) return refuse(b, st);
    pthread_mutex_unlock(&b->lock);
    const galen_status bad = request_open(&s, b, opts, err);
    return bad ? bad : batcher_submit(b, s, false, id, err);
}

void galen_batcher_cancel(galen_batcher *b, uint64_t id) {
    pthread_mutex_lock(&b->lock);
    request *r = b->live;
    while (r && r->id != id) r = r->next;
    if (r) atomic_store(&r->is_cancelled, true);
    pthread_mutex_unlock(&b->lock);
}
