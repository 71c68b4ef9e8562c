/* The fields of a request's body, each with its type and range. The first one that is wrong is answered with its name and what
 * was expected; later reads are then no-ops, so that a caller reads all and looks once at is_bad. Absent and null leave *out. */
#ifndef GALEN_SERVER_FIELDS_H
#define GALEN_SERVER_FIELDS_H

#include "server/http.h"

typedef struct fields {
    exchange *x;
    const json_t *o;
    bool is_bad; /* answered */
} fields;

const json_t *field_any(fields *f, const char *name); /* NULL: absent or null */
bool field_has(const fields *f, const char *name);
void field_int(fields *f, const char *name, int64_t min, int64_t max, int64_t *out);
void field_real(fields *f, const char *name, double min, double max, double *out);
void field_bool(fields *f, const char *name, bool *out);
/** A string of at most max bytes, lives with the body. */
void field_str(fields *f, const char *name, size_t max, const char **out, size_t *n);
/** Answers: 'name' (or name[index]) must be `expected`. */
void field_fail(fields *f, const char *name, const char *expected);
void field_refuse(fields *f, const char *name, const char *why); /* unsupported */

/* How a field that is known but not used is treated. */
typedef enum field_rule { FIELD_USED, FIELD_IGNORED, FIELD_REFUSED } field_rule;
typedef struct field_row {
    const char *name;
    field_rule rule; /* REFUSED: unless it is null, false, "", [], {} or `neutral` */
    double neutral;
} field_row;

/** Every field of the body is in one of the tables (ended by a NULL name); REFUSED ones are not given. */
void fields_check(fields *f, const field_row *a, const field_row *b);

#endif
