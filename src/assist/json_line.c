#include "assist/json_line.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Read twice: an allocation that failed once leaves two different values. When every one fails, a look tells. */
galen_status json_line_read(const char *s, size_t n, json_t **out, galen_error *err) {
    json_error_t why = {0};
    json_t *first = json_loadb(s, n, JSON_REJECT_DUPLICATES, NULL), *second = json_loadb(s, n, JSON_REJECT_DUPLICATES, &why);
    const bool is_same = first && second && json_equal(first, second);
    bool has_memory = !first == !second;
    json_decref(second);
    *out = NULL;
    if (is_same) {
        *out = first;
        return GALEN_OK;
    }
    json_decref(first);
    void *probe = malloc(n + 64);
    has_memory = has_memory && !first && probe;
    free(probe);
    if (!has_memory) return galen_fail(err, GALEN_E_NOMEM, 0, "a line of %zu bytes", n);
    return galen_fail(err, GALEN_E_FORMAT, (uint64_t)(why.position > 0 ? why.position : 0), "not one JSON object");
}

typedef struct written {
    char *s;
    size_t n, cap;
    bool is_bad;
} written;

static int put(const char *s, size_t n, void *user) {
    written *w = user;
    if (w->cap - w->n <= n) {
        const size_t cap = (w->n + n + 256) * 2;
        char *p = realloc(w->s, cap);
        if (!p) {
            w->is_bad = true;
            return -1;
        }
        w->s = p;
        w->cap = cap;
    }
    memcpy(w->s + w->n, s, n);
    w->n += n;
    w->s[w->n] = '\0';
    return 0;
}

char *json_line_write(const json_t *j, size_t *n) {
    written w = {NULL, 0, 0, false};
    if (j && json_dump_callback(j, put, &w, JSON_COMPACT) == 0 && !w.is_bad) {
        *n = w.n;
        return w.s;
    }
    free(w.s);
    return NULL;
}
