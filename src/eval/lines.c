#include "eval/lines.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 1 << 16, FULL_BYTES = LINES_MAX_BYTES + 1 };

/* Room behind buf[n): the part that was given is thrown away first. */
static bool make_room(lines *l) {
    if (l->at) {
        memmove(l->buf, l->buf + l->at, l->n - l->at);
        l->n -= l->at;
        l->looked -= l->at;
        l->at = 0;
    }
    if (l->n < l->cap) return true;
    size_t cap = l->cap ? l->cap * 2 : FIRST_BYTES;
    cap = cap > FULL_BYTES ? FULL_BYTES : cap;
    char *p = realloc(l->buf, cap);
    if (!p) return false;
    l->buf = p;
    l->cap = cap;
    return true;
}

static lines_result fill(lines *l) {
    if (!make_room(l)) return LINES_NO_MEMORY;
    const long k = l->read(l->user, l->buf + l->n, l->cap - l->n);
    if (k < 0) return LINES_FAILED;
    l->is_end = k == 0;
    l->n += (size_t)k;
    return LINES_TEXT;
}

static const char *find_break(lines *l) {
    const char *nl = l->n > l->looked ? memchr(l->buf + l->looked, '\n', l->n - l->looked) : NULL;
    l->looked = nl ? (size_t)(nl - l->buf) + 1 : l->n;
    return nl;
}

/* To behind the next break, keeping nothing. */
static lines_result pass_over(lines *l) {
    for (;;) {
        const char *nl = find_break(l);
        l->at = nl ? l->looked : l->n;
        if (nl || l->is_end) return LINES_LONG;
        const lines_result r = fill(l);
        if (r != LINES_TEXT) return r;
    }
}

static void give(lines *l, size_t end, const char **line, size_t *n) {
    *line = l->buf + l->at;
    *n = end - l->at;
    if (l->number == 1 && *n >= 3 && memcmp(*line, "\xEF\xBB\xBF", 3) == 0) {
        *line += 3;
        *n -= 3;
    }
    l->at = l->looked;
}

lines_result lines_next(lines *l, const char **line, size_t *n) {
    *line = "";
    *n = 0;
    for (;;) {
        const char *nl = find_break(l);
        if (nl || (l->is_end && l->n > l->at)) {
            l->number++;
            l->is_cut = !nl;
            give(l, nl ? (size_t)(nl - l->buf) : l->n, line, n);
            return LINES_TEXT;
        }
        if (l->is_end) return LINES_END;
        if (l->n - l->at >= LINES_MAX_BYTES) {
            l->number++;
            return pass_over(l);
        }
        const lines_result r = fill(l);
        if (r != LINES_TEXT) return r;
    }
}

void lines_free(lines *l) {
    free(l->buf);
    *l = (lines){0};
}
