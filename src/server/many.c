#include "server/many.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/inside.h"

#define WINDOW 8

static void many_free(void *p) {
    many *m = p;
    if (!m) return;
    for (size_t i = 0; m->items && i < m->n; i++) {
        galen_tokens_free(&m->items[i].prompt);
        free(m->items[i].labels);
        free(m->items[i].result);
    }
    free(m->items);
    if (m->free_extra) m->free_extra(m->extra);
    json_decref(m->body);
    (void)pthread_mutex_destroy(&m->lock);
    free(m);
}

void many_abandon(many *m) {
    shelf_give(m->x->s->shelf, m->b);
    many_free(m);
}

many *many_open(exchange *x, book *b, json_t *body, size_t n) {
    many *m = calloc(1, sizeof *m);
    many_item *items = calloc(n, sizeof *items);
    if (!m || !items || pthread_mutex_init(&m->lock, NULL)) {
        free(items);
        free(m);
        json_decref(body);
        shelf_give(x->s->shelf, b);
        reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
        return NULL;
    }
    m->x = x;
    m->b = b;
    m->body = body;
    m->items = items;
    m->n = n;
    for (size_t i = 0; i < n; i++) items[i].m = m;
    return m;
}

bool many_check_lengths(many *m) {
    for (size_t i = 0; i < m->n; i++) {
        const size_t n = m->items[i].prompt.n;
        if (n < (size_t)m->b->n_ctx) continue;
        metrics_add(&m->x->s->metrics, METRIC_TOO_LONG, 1);
        reply_error(m->x, HTTP_TOO_LONG, NULL, "input %zu has %zu tokens; this model's context is %d tokens", i + 1, n,
                    m->b->n_ctx);
        return false;
    }
    return true;
}

static void on_end(void *user, const galen_end *end);

static void cancel_all(many *m) { /* with the lock */
    for (size_t i = 0; i < m->n_begun; i++)
        if (m->items[i].id) galen_batcher_cancel(m->b->batcher, m->items[i].id);
}

/* With the lock: as many as the window allows. */
static void submit_more(many *m) {
    while (!m->is_failed && m->n_begun < m->n && m->n_running < WINDOW) {
        many_item *it = &m->items[m->n_begun];
        galen_request_opts r = galen_request_default_opts();
        r.prompt = it->prompt.ids;
        r.n_prompt = (int32_t)it->prompt.n;
        r.generate.max_tokens = 0;
        r.labels = it->labels;
        r.n_labels = it->n_labels;
        r.pooling = m->pooling;
        r.client = r.salt = m->x->key_name;
        r.on_end = on_end;
        r.user = it;
        const galen_status st = galen_batcher_submit(m->b->batcher, &r, &it->id, &m->error);
        if (st) {
            m->is_failed = true;
            m->error.code = st;
            cancel_all(m);
            return;
        }
        m->n_begun++;
        m->n_running++;
    }
}

static void finish(many *m) {
    exchange *x = m->x;
    for (size_t i = 0; i < m->n; i++) {
        exchange_count(x, m->items[i].usage.n_prompt, m->items[i].usage.n_cached, 0);
        (void)atomic_fetch_add(&m->b->metrics.prompt_tokens, (uint64_t)m->items[i].usage.n_prompt);
        (void)atomic_fetch_add(&m->b->metrics.cached_tokens, (uint64_t)m->items[i].usage.n_cached);
    }
    json_t *root = m->is_failed ? NULL : m->answer(m);
    shelf_give(x->s->shelf, m->b);
    if (!m->is_failed)
        reply_json(x, 200, root);
    else if (m->error.code == GALEN_E_CANCELLED)
        reply_error(x, HTTP_HANGUP, NULL, NULL);
    else
        reply_status(x, &m->error);
    exchange_unref(x);
}

static void on_end(void *user, const galen_end *end) {
    many_item *it = user;
    many *m = it->m;
    const float *from = end->embedding ? end->embedding : end->label_logprobs;
    const size_t n = end->embedding ? (size_t)m->b->info.n_embd : (size_t)it->n_labels;
    galen_status st = end->status;
    it->usage = end->usage;
    if (!st) {
        it->result = calloc(n ? n : 1, sizeof *it->result);
        if (it->result && from)
            memcpy(it->result, from, n * sizeof *from);
        else
            st = GALEN_E_NOMEM;
    }
    (void)pthread_mutex_lock(&m->lock);
    it->id = 0;
    m->n_running--;
    m->n_done++;
    if (st && !m->is_failed) {
        m->is_failed = true;
        m->error = *end->error;
        m->error.code = st;
        cancel_all(m);
    }
    submit_more(m);
    const bool is_last = m->n_running == 0 && (m->is_failed || m->n_done == m->n);
    (void)pthread_mutex_unlock(&m->lock);
    if (is_last) finish(m);
}

static void on_gone(void *job) {
    many *m = job;
    (void)pthread_mutex_lock(&m->lock);
    if (m->n_running) {
        m->is_failed = true;
        m->error.code = GALEN_E_CANCELLED;
        cancel_all(m);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void many_start(many *m) {
    exchange *x = m->x;
    exchange_ref(x);
    exchange_set_job(x, m, on_gone, many_free);
    (void)pthread_mutex_lock(&m->lock);
    submit_more(m);
    const bool is_over = m->n_running == 0 && m->n_begun == 0;
    (void)pthread_mutex_unlock(&m->lock);
    if (is_over) finish(m);
}
