#include "server/fields.h"

#include <math.h>
#include <string.h>

const json_t *field_any(fields *f, const char *name) {
    const json_t *v = f->is_bad ? NULL : json_object_get(f->o, name);
    return json_is_null(v) ? NULL : v;
}

bool field_has(const fields *f, const char *name) {
    const json_t *v = json_object_get(f->o, name);
    return v && !json_is_null(v);
}

void field_fail(fields *f, const char *name, const char *expected) {
    if (f->is_bad) return;
    f->is_bad = true;
    reply_error(f->x, HTTP_BAD_VALUE, name, "'%s' must be %s", name, expected);
}

void field_refuse(fields *f, const char *name, const char *why) {
    if (f->is_bad) return;
    f->is_bad = true;
    reply_error(f->x, HTTP_UNSUPPORTED, name, "'%s': %s", name, why);
}

void field_int(fields *f, const char *name, int64_t min, int64_t max, int64_t *out) {
    const json_t *v = field_any(f, name);
    char expected[96];
    if (!v) return;
    int64_t i = 0;
    bool ok = json_is_integer(v);
    if (ok) {
        i = json_integer_value(v);
    } else if (json_is_real(v)) { /* 5.0 is an integer in JSON Schema's sense */
        const double d = json_real_value(v);
        ok = floor(d) == d && d >= -9007199254740992.0 && d <= 9007199254740992.0;
        if (ok) i = (int64_t)d;
    }
    if (ok && i >= min && i <= max) {
        *out = i;
        return;
    }
    (void)snprintf(expected, sizeof expected, "an integer between %lld and %lld", (long long)min, (long long)max);
    field_fail(f, name, expected);
}

void field_real(fields *f, const char *name, double min, double max, double *out) {
    const json_t *v = field_any(f, name);
    char expected[96];
    if (!v) return;
    const double d = json_number_value(v);
    if (json_is_number(v) && isfinite(d) && d >= min && d <= max) {
        *out = d;
        return;
    }
    (void)snprintf(expected, sizeof expected, "a number between %g and %g", min, max);
    field_fail(f, name, expected);
}

void field_bool(fields *f, const char *name, bool *out) {
    const json_t *v = field_any(f, name);
    if (!v) return;
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else
        field_fail(f, name, "true or false");
}

void field_str(fields *f, const char *name, size_t max, const char **out, size_t *n) {
    const json_t *v = field_any(f, name);
    char expected[64];
    if (!v) return;
    if (json_is_string(v) && json_string_length(v) <= max) {
        *out = json_string_value(v);
        if (n) *n = json_string_length(v);
        return;
    }
    (void)snprintf(expected, sizeof expected, "a string of at most %zu bytes", max);
    field_fail(f, name, expected);
}

static const field_row *find_row(const field_row *rows, const char *name) {
    for (; rows && rows->name; rows++)
        if (strcmp(rows->name, name) == 0) return rows;
    return NULL;
}

static bool is_neutral(const field_row *r, const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(v) == r->neutral;
    default:
        return false;
    }
}

void fields_check(fields *f, const field_row *a, const field_row *b) {
    int number = 0;
    for (void *it = json_object_iter((json_t *)(uintptr_t)f->o); it && !f->is_bad;
         it = json_object_iter_next((json_t *)(uintptr_t)f->o, it)) {
        const char *name = json_object_iter_key(it);
        number++;
        const field_row *r = find_row(a, name);
        if (!r) r = find_row(b, name);
        if (!r) {
            /* The name is the client's text, so it is counted, not repeated. */
            f->is_bad = true;
            reply_error(f->x, HTTP_UNKNOWN_FIELD, NULL, "field number %d of the body is not known here; see /openapi.json",
                        number);
        } else if (r->rule == FIELD_REFUSED && !is_neutral(r, json_object_iter_value(it))) {
            field_refuse(f, r->name, "not supported by this server");
        }
    }
}
