/* Bytes collect in `held`; whatever cannot be the beginning of a stop string any more moves through the UTF-8 stream. */
#include "runtime/release.h"

#include <stdlib.h>
#include <string.h>

galen_status release_open(release *r, const char *const *stop, size_t n_stop, galen_error *err) {
    *r = (release){.stop = stop, .n_stop = n_stop};
    for (size_t i = 0; i < n_stop; i++)
        if (!stop[i] || !stop[i][0]) return galen_fail(err, GALEN_E_ARG, 0, "stop string %zu is empty", i + 1);
    return GALEN_OK;
}

void release_close(release *r) {
    free(r->held);
    free(r->out);
    *r = (release){0};
}

static galen_status reserve(release *r, size_t more, galen_error *err) {
    const size_t need = r->n_held + more; /* both are lengths of things in memory */
    if (r->out && need <= r->cap) return GALEN_OK;
    const size_t cap = need * 2 + 64;
    char *held = realloc(r->held, cap);
    if (held) r->held = held;
    char *out = realloc(r->out, 3 * (cap + 4));
    if (out) r->out = out;
    if (!held || !out) return galen_fail(err, GALEN_E_NOMEM, 0, "text of %zu bytes", need);
    r->cap = cap;
    return GALEN_OK;
}

/* Where the earliest stop string begins in held, or n_held. */
static size_t find_stop(const release *r) {
    size_t first = r->n_held;
    for (size_t i = 0; i < r->n_stop; i++) {
        const char *at = memmem(r->held, r->n_held, r->stop[i], strlen(r->stop[i]));
        if (at && (size_t)(at - r->held) < first) first = (size_t)(at - r->held);
    }
    return first;
}

/* The longest end of held that begins some stop string. */
static size_t partial_stop(const release *r) {
    size_t longest = 0;
    for (size_t i = 0; i < r->n_stop; i++) {
        const size_t len = strlen(r->stop[i]);
        size_t k = len - 1 < r->n_held ? len - 1 : r->n_held;
        for (; k > longest; k--)
            if (memcmp(r->held + r->n_held - k, r->stop[i], k) == 0) longest = k;
    }
    return longest;
}

galen_status release_push(release *r, const tokenizer *t, int32_t id, const char **text, size_t *n, bool *is_stopped,
                          galen_error *err) {
    const int32_t len = tokenizer_bytes(t, id, false, NULL, 0);
    *text = "";
    *n = 0;
    *is_stopped = false;
    const galen_status st = reserve(r, len > 0 ? (size_t)len : 0, err);
    if (st) return st;
    if (len > 0) r->n_held += (size_t)tokenizer_bytes(t, id, false, r->held + r->n_held, (size_t)len);
    const size_t stop_at = find_stop(r);
    *is_stopped = stop_at < r->n_held;
    const size_t ready = *is_stopped ? stop_at : r->n_held - partial_stop(r);
    *n = utf8_push(&r->utf8, r->held, ready, r->out);
    *text = r->out;
    r->n_held = *is_stopped ? 0 : r->n_held - ready;
    memmove(r->held, r->held + ready, r->n_held);
    return GALEN_OK;
}

void release_flush(release *r, const char **text, size_t *n) {
    *text = "";
    *n = 0;
    if (!r->out) return;
    *n = utf8_push(&r->utf8, r->held, r->n_held, r->out);
    *n += utf8_flush(&r->utf8, r->out + *n);
    *text = r->out;
    r->n_held = 0;
}
