/* Status texts and the one function that fills a galen_error. */
#include "base/error.h"

#include <stdio.h>

const char *galen_status_text(galen_status st) {
    switch (st) {
#define X(name, value, text)                                                                                                     \
    case name:                                                                                                                   \
        return text;
        GALEN_STATUS_TABLE(X)
#undef X
    }
    return "unknown status";
}

galen_status galen_fail(galen_error *err, galen_status st, uint64_t offset, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = st;
        err->offset = offset;
        (void)vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        /* A name in the message may come from a file: its control characters must not reach a terminal or a log. */
        for (char *c = err->msg; *c; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    }
    return st;
}
