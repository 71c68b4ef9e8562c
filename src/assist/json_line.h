/* JSON read and written so that memory that runs out is told. jansson 2.14 calls it a syntax error, or drops characters of a long
 * token or of what it writes without a word. */
#ifndef GALEN_ASSIST_JSON_LINE_H
#define GALEN_ASSIST_JSON_LINE_H

#include <jansson.h>

#include "galen/galen.h"

/** One value, no key twice in an object, nothing behind it.  Errors  FORMAT (err->offset: where; the message quotes nothing);
 * NOMEM. *out is NULL then. */
galen_status json_line_read(const char *s, size_t n, json_t **out, galen_error *err);

/** j on one line, a NUL behind it; free it. NULL: no memory. */
char *json_line_write(const json_t *j, size_t *n);

#endif
