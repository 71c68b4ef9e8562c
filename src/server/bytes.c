#include "server/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static bool reserve(bytes *b, size_t more) {
    size_t need;
    if (!size_add(b->n, more, &need) || !size_add(need, 1, &need)) return false;
    if (need <= b->cap) return true;
    size_t cap;
    if (!size_add(need, need / 2, &cap)) return false;
    char *p = realloc(b->p, cap);
    if (!p) return false;
    b->p = p;
    b->cap = cap;
    return true;
}

bool bytes_add(bytes *b, const void *p, size_t n) {
    if (!reserve(b, n)) return false;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
    return true;
}

bool bytes_addf(bytes *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    const bool ok = n >= 0 && reserve(b, (size_t)n);
    if (ok) {
        (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    va_end(ap);
    return ok;
}

void bytes_free(bytes *b) {
    free(b->p);
    *b = (bytes){0};
}
