/* Filling a galen_error: the status is returned, the reason is kept. */
#ifndef GALEN_BASE_ERROR_H
#define GALEN_BASE_ERROR_H

#include <stdarg.h>

#include "galen/galen.h"

/** Fill err (may be NULL) and return st. The message is cut at GALEN_ERROR_MSG_BYTES. */
galen_status galen_fail(galen_error *err, galen_status st, uint64_t offset, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
