/* Strict reading of numbers. strtol and strtod skip blanks and stop at junk, so the text is looked over first. */
#include "cli/numbers.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool number_i64(const char *s, int64_t *out) {
    const bool is_negative = *s == '-';
    const char *p = s + is_negative;
    int64_t v = 0;
    if (!is_digit(*p)) return false;
    for (; is_digit(*p); p++) { /* summed below zero, where there is one value more */
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *p - '0', &v)) return false;
    }
    if (!is_negative && __builtin_sub_overflow((int64_t)0, v, &v)) return false;
    if (*p == 'k' || *p == 'K') {
        if (__builtin_mul_overflow(v, 1024, &v)) return false;
        p++;
    }
    if (*p != '\0') return false;
    *out = v;
    return true;
}

/* [-] digits [. digits] [e [+-] digits], with a digit on one side of the point. */
static bool is_decimal(const char *s) {
    bool has_digit = false;
    if (*s == '-' || *s == '+') s++;
    for (; is_digit(*s); s++) has_digit = true;
    if (*s == '.') {
        for (s++; is_digit(*s); s++) has_digit = true;
    }
    if (!has_digit) return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '-' || *s == '+') s++;
        if (!is_digit(*s)) return false;
        while (is_digit(*s)) s++;
    }
    return *s == '\0';
}

bool number_f64(const char *s, double *out) {
    if (!is_decimal(s)) return false;
    errno = 0;
    const double v = strtod(s, NULL);
    if (errno == ERANGE || !isfinite(v)) return false;
    *out = v;
    return true;
}

bool number_size(const char *s, uint64_t *out) {
    static const struct {
        const char *name;
        double factor;
    } units[] = {{"", 1}, {"k", 0x1p10}, {"m", 0x1p20}, {"g", 0x1p30}, {"t", 0x1p40}};
    static const char *const ends[] = {"", "b", "ib"};
    char digits[32];
    double v;
    const size_t n = strspn(s, "0123456789."), n_unit = strlen(s + n);
    if (n == 0 || n >= sizeof digits || n_unit > 3) return false;
    memcpy(digits, s, n);
    digits[n] = '\0';
    if (!number_f64(digits, &v)) return false;
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
            char name[8];
            (void)snprintf(name, sizeof name, "%s%s", units[u].name, ends[e]);
            if (strcasecmp(s + n, name) != 0 || (u == 0 && e == 2)) continue;
            v *= units[u].factor;
            if (!(v >= 1 && v < 0x1p62)) return false;
            *out = (uint64_t)v;
            return true;
        }
    }
    return false;
}

bool number_bias(const char *s, galen_logit_bias *out) {
    const char *eq = strchr(s, '=');
    char id_text[16];
    if (!eq || eq == s || (size_t)(eq - s) >= sizeof id_text) return false;
    memcpy(id_text, s, (size_t)(eq - s));
    id_text[eq - s] = '\0';
    int64_t id = 0;
    double v = -INFINITY;
    if (!number_i64(id_text, &id) || id < 0 || id > INT32_MAX) return false;
    if (strcmp(eq + 1, "-inf") != 0 && (!number_f64(eq + 1, &v) || fabs(v) > 1e30)) return false;
    *out = (galen_logit_bias){.id = (int32_t)id, .bias = (float)v};
    return true;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* An upper bound on the ids in the text: every id has a first digit. */
static size_t count_starts(const char *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += is_digit(s[i]) && (i == 0 || !is_digit(s[i - 1]));
    return k;
}

static size_t skip_blanks(const char *s, size_t n, size_t i) {
    while (i < n && is_blank(s[i])) i++;
    return i;
}

/* The id at s[*i], moved past. */
static galen_status read_id(const char *s, size_t n, size_t *i, int32_t *id) {
    if (*i >= n || !is_digit(s[*i])) return GALEN_E_FORMAT;
    int32_t v = 0;
    size_t p = *i;
    for (; p < n && is_digit(s[p]); p++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s[p] - '0', &v)) return GALEN_E_RANGE;
    }
    *i = p;
    *id = v;
    return GALEN_OK;
}

/* Ids into out until the end of text or a bracket; *i is where reading stopped. */
static galen_status read_ids(const char *s, size_t n, size_t *i, int32_t *out, size_t *n_out) {
    for (;;) {
        const galen_status st = read_id(s, n, i, &out[*n_out]);
        if (st) return st;
        (*n_out)++;
        const size_t after = *i;
        *i = skip_blanks(s, n, *i);
        if (*i == n || s[*i] == ']') return GALEN_OK;
        if (s[*i] == ',') {
            *i = skip_blanks(s, n, *i + 1);
        } else if (*i == after) {
            return GALEN_E_FORMAT; /* two ids with neither a comma nor a blank between: junk */
        }
    }
}

galen_status number_tokens(const char *s, size_t n, int32_t **ids, size_t *n_ids, size_t *at) {
    *ids = NULL;
    *n_ids = 0;
    const size_t cap = count_starts(s, n);
    int32_t *out = calloc(cap + 1, sizeof *out);
    size_t i = skip_blanks(s, n, 0), n_out = 0;
    galen_status st = out ? GALEN_OK : GALEN_E_NOMEM;
    if (st) goto fail;
    const bool has_bracket = i < n && s[i] == '[';
    if (has_bracket) i = skip_blanks(s, n, i + 1);
    st = read_ids(s, n, &i, out, &n_out);
    if (st) goto fail;
    if (has_bracket != (i < n && s[i] == ']')) {
        st = GALEN_E_FORMAT;
        goto fail;
    }
    i = skip_blanks(s, n, i + has_bracket);
    if (i != n) {
        st = GALEN_E_FORMAT;
        goto fail;
    }
    *ids = out;
    *n_ids = n_out;
    return GALEN_OK;
fail:
    *at = i;
    free(out);
    return st;
}
