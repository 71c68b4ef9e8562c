/* The life of an exchange, its answer and its stream. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/inside.h"

static const struct {
    int status;
    const char *type, *code, *text;
} errors[] = {
#define X(name, status, type, code, text) {status, type, code, text},
    HTTP_ERROR_TABLE(X)
#undef X
};

int http_error_status(http_error e) {
    return errors[e].status;
}

const char *http_error_code(http_error e) {
    return errors[e].code;
}

http_error http_error_of(galen_status st) {
    switch (st) {
    case GALEN_E_FULL:
        return HTTP_TOO_LONG;
    case GALEN_E_ARG:
    case GALEN_E_RANGE:
    case GALEN_E_FORMAT:
        return HTTP_BAD_VALUE;
    case GALEN_E_UNSUPPORTED:
        return HTTP_UNSUPPORTED;
    case GALEN_E_NOMEM:
        return HTTP_NO_MEMORY;
    case GALEN_E_DEVICE:
        return HTTP_DEVICE;
    case GALEN_E_NUMERIC:
        return HTTP_NUMERIC;
    case GALEN_E_REFUSED:
        return HTTP_TOO_LITTLE;
    case GALEN_E_BUSY:
        return HTTP_BUSY;
    case GALEN_E_NOT_FOUND:
        return HTTP_NO_CASE;
    default:
        return HTTP_FAILED;
    }
}

json_t *http_error_json(http_error e, const char *param, const char *message) {
    return json_pack("{s:{s:s, s:s, s:s?, s:s}}", "error", "message", message ? message : errors[e].text, "type", errors[e].type,
                     "param", param, "code", errors[e].code);
}

/* ------------------------------------------------------------ answers */

static void wake(exchange *x) { /* with the lock */
    if (!x->is_suspended) return;
    x->is_suspended = false;
    MHD_resume_connection(x->c);
}

static void add_header(struct MHD_Response *r, const char *name, const char *value) {
    (void)MHD_add_response_header(r, name, value); /* fails for want of memory alone; the body still says what it says */
}

static void add_headers(const exchange *x, struct MHD_Response *r, int status, const char *type) {
    add_header(r, "Content-Type", type);
    add_header(r, "X-Request-Id", x->request_id);
    add_header(r, "Cache-Control", "no-store");
    add_header(r, "X-Content-Type-Options", "nosniff");
    if (x->origin[0]) {
        add_header(r, "Access-Control-Allow-Origin", x->origin);
        add_header(r, "Vary", "Origin");
    }
    if (status == 401) add_header(r, "WWW-Authenticate", "Bearer");
    if (status == 429 || status == 503) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%d", x->retry_s > 0 ? (int)x->retry_s : status == 429 ? 1 : 2);
        add_header(r, "Retry-After", seconds);
    }
}

/* Takes over r, NULL: out of memory. */
static void settle(exchange *x, int status, struct MHD_Response *r) {
    (void)pthread_mutex_lock(&x->lock);
    const bool is_kept = !x->is_replied && r;
    if (is_kept) {
        x->is_replied = true;
        x->status = status;
        x->reply = r;
        if (!x->is_stream) x->on_gone = NULL; /* the answer is whole */
    } else if (!r) {
        x->is_failed = true; /* the connection is closed */
    }
    wake(x);
    (void)pthread_mutex_unlock(&x->lock);
    if (!is_kept && r) MHD_destroy_response(r);
}

void reply_static(exchange *x, int status, const char *type, const char *p, size_t n) {
    struct MHD_Response *r = MHD_create_response_from_buffer(n, (void *)(uintptr_t)p, MHD_RESPMEM_PERSISTENT);
    if (r) add_headers(x, r, status, type);
    settle(x, status, r);
}

void reply_bytes(exchange *x, int status, const char *type, bytes *b) {
    struct MHD_Response *r = MHD_create_response_from_buffer(b->n, b->p, b->n ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!b->n || !r) free(b->p);
    *b = (bytes){0};
    if (r) add_headers(x, r, status, type);
    settle(x, status, r);
}

void reply_json(exchange *x, int status, json_t *root) {
    static const char no_memory[] =
        "{\"error\":{\"message\":\"out of memory; try again\",\"type\":\"unavailable_error\",\"param\":null,"
        "\"code\":\"out_of_memory\"}}";
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) {
        reply_static(x, 503, "application/json", no_memory, sizeof no_memory - 1);
        return;
    }
    bytes b = {.p = text, .n = strlen(text)};
    reply_bytes(x, status, "application/json", &b);
}

void reply_error(exchange *x, http_error e, const char *param, const char *fmt, ...) {
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    if (fmt) (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    reply_json(x, errors[e].status, http_error_json(e, param, fmt ? message : NULL));
}

void reply_status(exchange *x, const galen_error *err) {
    const http_error e = http_error_of(err->code);
    reply_error(x, e, NULL, errors[e].status < 500 && err->msg[0] ? "%s" : NULL, err->msg);
}

/* ------------------------------------------------------------ streams */

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max) {
    exchange *x = cls;
    ssize_t n;
    (void)pos;
    (void)pthread_mutex_lock(&x->lock);
    const size_t have = x->out.n - x->out_at;
    x->last_read_ns = clock_monotonic_ns();
    if (x->is_failed || x->is_gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (have) {
        n = (ssize_t)(have < max ? have : max);
        memcpy(buf, x->out.p + x->out_at, (size_t)n);
        x->out_at += (size_t)n;
        x->n_out += (uint64_t)n;
        if (x->out_at == x->out.n) x->out_at = x->out.n = 0;
    } else if (x->is_ended || atomic_load(&x->s->is_stopping)) {
        n = x->is_ended ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        n = 0;
        x->is_suspended = true;
        MHD_suspend_connection(x->c);
    }
    (void)pthread_mutex_unlock(&x->lock);
    return n;
}

static void on_stream_freed(void *cls) {
    exchange_unref(cls);
}

void stream_begin(exchange *x) {
    exchange_ref(x);
    struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, on_read, x, on_stream_freed);
    if (!r) {
        (void)atomic_fetch_sub(&x->refs, 1); /* the daemon still holds x */
    } else {
        add_headers(x, r, 200, "text/event-stream; charset=utf-8");
        add_header(r, "X-Accel-Buffering", "no");
    }
    (void)pthread_mutex_lock(&x->lock);
    x->is_stream = true;
    x->last_read_ns = x->last_event_ns = clock_monotonic_ns();
    (void)pthread_mutex_unlock(&x->lock);
    settle(x, 200, r);
}

bool stream_raw(exchange *x, const char *p, size_t n) {
    (void)pthread_mutex_lock(&x->lock);
    bool ok = !x->is_gone && !x->is_failed && !x->is_ended;
    if (ok && x->out_at > 65536) { /* what was read makes room */
        memmove(x->out.p, x->out.p + x->out_at, x->out.n - x->out_at);
        x->out.n -= x->out_at;
        x->out_at = 0;
    }
    if (ok && (x->out.n - x->out_at > STREAM_LIMIT || !bytes_add(&x->out, p, n))) {
        x->is_failed = true; /* it does not read: cut */
        ok = false;
    }
    x->last_event_ns = clock_monotonic_ns();
    wake(x);
    (void)pthread_mutex_unlock(&x->lock);
    return ok;
}

bool stream_event(exchange *x, const char *name, json_t *root) {
    bytes b = {0};
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    bool ok = text && (name ? bytes_addf(&b, "event: %s\ndata: ", name) : bytes_addf(&b, "data: ")) &&
              bytes_add(&b, text, strlen(text)) && bytes_add(&b, "\n\n", 2);
    free(text);
    if (ok) {
        ok = stream_raw(x, b.p, b.n);
    } else {
        (void)pthread_mutex_lock(&x->lock);
        x->is_failed = true;
        wake(x);
        (void)pthread_mutex_unlock(&x->lock);
    }
    bytes_free(&b);
    return ok;
}

void stream_end(exchange *x) {
    (void)pthread_mutex_lock(&x->lock);
    x->is_ended = true;
    x->on_gone = NULL;
    wake(x);
    (void)pthread_mutex_unlock(&x->lock);
}

void stream_fail(exchange *x, const char *name, json_t *root) {
    (void)stream_event(x, name, root);
    stream_end(x);
}

/* ------------------------------------------------------------ life */

void exchange_ref(exchange *x) {
    (void)atomic_fetch_add(&x->refs, 1);
}

void exchange_unref(exchange *x) {
    if (atomic_fetch_sub(&x->refs, 1) != 1) return;
    if (x->free_job) x->free_job(x->job);
    if (x->reply) MHD_destroy_response(x->reply);
    if (x->budget) (void)atomic_fetch_sub(&x->s->body_budget, x->budget);
    bytes_free(&x->body);
    bytes_free(&x->out);
    (void)pthread_mutex_destroy(&x->lock);
    free(x);
}

void exchange_set_job(exchange *x, void *job, void (*on_gone)(void *job), void (*free_job)(void *job)) {
    (void)pthread_mutex_lock(&x->lock);
    x->job = job;
    x->on_gone = on_gone;
    x->free_job = free_job;
    const bool is_gone = x->is_gone;
    if (is_gone) x->on_gone = NULL;
    (void)pthread_mutex_unlock(&x->lock);
    if (is_gone && on_gone) on_gone(job);
}

bool exchange_is_gone(exchange *x) {
    (void)pthread_mutex_lock(&x->lock);
    const bool is_gone = x->is_gone || x->is_failed;
    (void)pthread_mutex_unlock(&x->lock);
    return is_gone;
}

void exchange_count(exchange *x, int32_t n_prompt, int32_t n_cached, int32_t n_generated) {
    (void)pthread_mutex_lock(&x->lock);
    x->n_prompt += n_prompt;
    x->n_cached += n_cached;
    x->n_generated += n_generated;
    (void)pthread_mutex_unlock(&x->lock);
}

void exchange_retry(exchange *x) {
    (void)pthread_mutex_lock(&x->lock);
    x->is_dispatched = false;
    wake(x);
    (void)pthread_mutex_unlock(&x->lock);
}

void exchange_hang_up(exchange *x) {
    (void)pthread_mutex_lock(&x->lock);
    void (*on_gone)(void *) = x->on_gone;
    x->on_gone = NULL;
    x->is_gone = true;
    wake(x);
    (void)pthread_mutex_unlock(&x->lock);
    if (on_gone) on_gone(x->job);
}

enum MHD_Result exchange_queue(exchange *x, struct MHD_Connection *c) {
    (void)pthread_mutex_lock(&x->lock);
    struct MHD_Response *r = x->reply;
    const int status = x->status;
    x->reply = NULL;
    (void)pthread_mutex_unlock(&x->lock);
    const enum MHD_Result ok = r ? MHD_queue_response(c, (unsigned)status, r) : MHD_NO;
    if (r) MHD_destroy_response(r); /* the daemon holds its own reference */
    return ok;
}
