/* Strings, numbers and lists of values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/regex.h"
#include "grammar/schema.h"

/* ---------------------------------------------------------------- values */

static void put_value(schema *s, const json_t *value, const char *pointer) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text) {
        schema_fail(s, GALEN_E_NOMEM, pointer, "a value");
        return;
    }
    program_literal(s->p, text, strlen(text), true);
    free(text);
}

void schema_enum(schema *s, const schema_limits *l) {
    bool is_first = true;
    if (l->implied) {
        schema_fail(s, GALEN_E_UNSUPPORTED, l->enum_pointer, "a list of values together with other constraints than their type");
        return;
    }
    if (l->constant && l->enumeration) {
        bool is_in = false;
        for (size_t i = 0; i < json_array_size(l->enumeration); i++)
            is_in |= json_equal(json_array_get(l->enumeration, i), l->constant) == 1;
        if (!is_in) schema_fail(s, GALEN_E_RANGE, l->enum_pointer, "admits nothing: the constant is not in the list");
    }
    const size_t n = l->constant ? 1 : json_array_size(l->enumeration);
    for (size_t i = 0; i < n && !s->p->st; i++) {
        const json_t *value = l->constant ? l->constant : json_array_get(l->enumeration, i);
        if (!(schema_type_of_value(value) & l->types)) continue;
        if (!is_first) program_or(s->p);
        is_first = false;
        put_value(s, value, l->enum_pointer);
    }
    if (is_first && !s->p->st) schema_fail(s, GALEN_E_RANGE, l->enum_pointer, "admits nothing: no value is of the type");
}

/* ---------------------------------------------------------------- strings */

void schema_string(schema *s, const schema_limits *l) {
    program *p = s->p;
    const bool has_length = l->min_length > 0 || l->max_length != GRAMMAR_NO_LIMIT;
    if ((l->pattern && l->format) || (has_length && (l->pattern || l->format))) {
        schema_fail(s, GALEN_E_UNSUPPORTED, l->pattern ? l->pattern_pointer : l->format_pointer,
                    "pattern, format and length together; write the length into the pattern, as in ^.{1,20}$");
        return;
    }
    if (!l->pattern && !l->format && !has_length) {
        program_call(p, s->json.string);
        return;
    }
    program_text(p, "\"");
    if (l->format) {
        const uint32_t rule = json_format_rule(&s->formats, json_string_value(l->format));
        if (rule == UINT32_MAX)
            program_fail(p, GALEN_E_UNSUPPORTED, 0, "%.200s: this format cannot be enforced; known: %s", l->format_pointer,
                         json_format_names());
        if (!p->st) program_call(p, rule);
    } else if (l->pattern) {
        regex_build(p, json_string_value(l->pattern), json_string_length(l->pattern), l->pattern_pointer, s->json.character);
    } else {
        program_call_times(p, s->json.character, l->min_length, l->max_length);
    }
    program_text(p, "\"");
}

/* ---------------------------------------------------------------- numbers between bounds */

/* Digits of low and high around a number of n_whole + n_part digits. */
typedef struct digits {
    const char *low, *high;
    int n_whole, n_part;
    bool is_above, is_below; /* the bounds themselves are not allowed */
    uint32_t to;
} digits;

enum { MAX_DIGITS = 40 };
enum { LOW_TIGHT = 1, HIGH_TIGHT = 2 }; /* so far the number is the beginning of the bound */

static bool is_zero(const char *d, int n) {
    for (int i = 0; i < n; i++)
        if (d[i] != '0') return false;
    return true;
}

/* Whether the number may end after i digits, the rest being zeros. */
static bool may_end(const digits *d, int i, int tight) {
    const int n = d->n_whole + d->n_part;
    if (i < d->n_whole) return false;
    if ((tight & LOW_TIGHT) && (d->is_above || !is_zero(d->low + i, n - i))) return false;
    return !(tight & HIGH_TIGHT) || !d->is_below || !is_zero(d->high + i, n - i);
}

/* What a digit at i leads to; c is between the bounds. */
static int then(const digits *d, int i, int tight, char c) {
    const int low = tight & LOW_TIGHT && c == d->low[i] ? LOW_TIGHT : 0;
    return low | (tight & HIGH_TIGHT && c == d->high[i] ? HIGH_TIGHT : 0);
}

static char least(const digits *d, int i, int tight) {
    return tight & LOW_TIGHT ? d->low[i] : '0';
}
static char greatest(const digits *d, int i, int tight) {
    return tight & HIGH_TIGHT ? d->high[i] : '9';
}

/* alive[i][tight]: some number goes on from i digits. Where none does, no digit may lead. */
static void find_alive(const digits *d, bool alive[MAX_DIGITS + 1][4]) {
    const int n = d->n_whole + d->n_part;
    for (int i = n; i >= 0; i--)
        for (int tight = 0; tight < 4; tight++) {
            alive[i][tight] = may_end(d, i, tight);
            if (i == n) continue;
            for (char c = least(d, i, tight); c <= greatest(d, i, tight); c++)
                alive[i][tight] |= alive[i + 1][then(d, i, tight, c)];
        }
}

/* False when there is no such number. */
static bool put_digits(program *p, const digits *d, uint32_t from) {
    const int n = d->n_whole + d->n_part;
    bool alive[MAX_DIGITS + 1][4];
    uint32_t now[4] = {0}; /* the state for each tightness */
    find_alive(d, alive);
    if (!alive[0][LOW_TIGHT | HIGH_TIGHT]) return false;
    now[LOW_TIGHT | HIGH_TIGHT] = from;
    for (int i = 0; i <= n && !p->st; i++) {
        uint32_t next[4] = {0};
        for (int tight = 0; tight < 4 && !p->st; tight++) {
            uint32_t at = now[tight], point = 0;
            if (!at) continue;
            if (may_end(d, i, tight)) program_empty(p, at, d->to);
            for (char c = '0'; i < n && c <= '9' && !p->st; c++) {
                if (c < least(d, i, tight) || c > greatest(d, i, tight) || !alive[i + 1][then(d, i, tight, c)]) continue;
                if (i == d->n_whole && !point) {
                    point = program_state(p);
                    program_bytes(p, at, '.', '.', point);
                }
                const int to = then(d, i, tight, c);
                if (!next[to]) next[to] = program_state(p);
                program_bytes(p, point ? point : at, (uint8_t)c, (uint8_t)c, next[to]);
            }
        }
        memcpy(now, next, sizeof now);
    }
    return true;
}

/* A bound of at most 18 digits before the point and n_part behind it, as digits, zero-padded to n_whole. */
typedef struct range {
    char low[MAX_DIGITS], high[MAX_DIGITS];
    bool is_above, is_below;
} range;

/* Texts of 0 <= low <= high: for each number of digits before the point the part of the range that has so many. False when
 * there are none. */
static bool put_range(program *p, const range *r, int n_whole, int n_part, uint32_t from, uint32_t to) {
    bool is_any = false;
    const int n = n_whole + n_part;
    for (int k = 1; k <= n_whole && !p->st; k++) {
        char low[MAX_DIGITS], high[MAX_DIGITS];
        const int skip = n_whole - k;
        memset(low, '0', (size_t)n);
        memset(high, '9', (size_t)n);
        memset(high, '0', (size_t)skip);
        if (k > 1) low[skip] = '1';
        digits d = {.n_whole = k, .n_part = n_part, .to = to};
        if (memcmp(r->low, high, (size_t)n) > 0 || memcmp(r->high, low, (size_t)n) < 0) continue;
        if (memcmp(r->low, low, (size_t)n) >= 0) {
            memcpy(low, r->low, (size_t)n);
            d.is_above = r->is_above;
        }
        if (memcmp(r->high, high, (size_t)n) <= 0) {
            memcpy(high, r->high, (size_t)n);
            d.is_below = r->is_below;
        }
        d.low = low + skip;
        d.high = high + skip;
        is_any |= put_digits(p, &d, from);
    }
    return is_any;
}

/* |v| as digits: n_whole before the point, n_part behind it. False when that is not v. */
static bool to_digits(double v, int n_whole, int n_part, char out[MAX_DIGITS]) {
    char text[64];
    const int len = snprintf(text, sizeof text, "%0*.*f", n_whole + (n_part ? n_part + 1 : 0), n_part, fabs(v));
    if (len != n_whole + (n_part ? n_part + 1 : 0)) return false;
    if (strtod(text, NULL) != fabs(v)) return false;
    memcpy(out, text, (size_t)n_whole);
    memcpy(out + n_whole, text + n_whole + 1, (size_t)n_part);
    return true;
}

static int whole_digits(double v) {
    int n = 1;
    v = floor(fabs(v));
    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

/* Numbers with at most 15 digits in all, so that different texts are different numbers to every reader; the side without a
 * bound goes as far as nine digits, or three more than the other side. */
static void put_number(schema *s, const schema_limits *l, bool is_integer) {
    enum { LEAST_DIGITS = 9, MORE_DIGITS = 3, DOUBLE_DIGITS = 15 };
    const double lo = l->low.value ? json_number_value(l->low.value) : -INFINITY;
    const double hi = l->high.value ? json_number_value(l->high.value) : INFINITY;
    const int of_lo = isfinite(lo) ? whole_digits(lo) : 0, of_hi = isfinite(hi) ? whole_digits(hi) : 0;
    int n_whole = of_lo > of_hi ? of_lo : of_hi;
    if (!isfinite(lo) || !isfinite(hi)) n_whole = n_whole + MORE_DIGITS > LEAST_DIGITS ? n_whole + MORE_DIGITS : LEAST_DIGITS;
    if (n_whole > DOUBLE_DIGITS) {
        schema_fail(s, GALEN_E_UNSUPPORTED, l->pointer, "a bound of more than 12 digits on one side, or 15 on both");
        return;
    }
    const int n_part = is_integer ? 0 : DOUBLE_DIGITS - n_whole;
    const double most = pow(10, n_whole) - 1;
    char low[MAX_DIGITS], high[MAX_DIGITS], zero[MAX_DIGITS];
    const double lo_in = isfinite(lo) ? lo : -most, hi_in = isfinite(hi) ? hi : most;
    if (!to_digits(is_integer ? ceil(lo_in) : lo_in, n_whole, n_part, low) ||
        !to_digits(is_integer ? floor(hi_in) : hi_in, n_whole, n_part, high)) {
        schema_fail(s, GALEN_E_UNSUPPORTED, l->pointer, "a bound with more than 15 digits");
        return;
    }
    const bool is_above = l->low.is_exclusive && (!is_integer || ceil(lo_in) == lo_in);
    const bool is_below = l->high.is_exclusive && (!is_integer || floor(hi_in) == hi_in);
    const double lo_v = is_integer ? ceil(lo_in) : lo_in, hi_v = is_integer ? floor(hi_in) : hi_in;
    memset(zero, '0', sizeof zero);
    uint32_t from, to;
    bool is_any = false;
    program_item(s->p, &from, &to);
    if (lo_v <= hi_v && hi_v >= 0 && !s->p->st) {
        range r = {.is_above = lo_v >= 0 && is_above, .is_below = is_below};
        memcpy(r.low, lo_v >= 0 ? low : zero, sizeof r.low);
        memcpy(r.high, high, sizeof r.high);
        is_any |= put_range(s->p, &r, n_whole, n_part, from, to);
    }
    if (lo_v <= hi_v && lo_v < 0 && !s->p->st) { /* -x, x from -high (or above 0) to -low */
        range r = {.is_above = hi_v >= 0 || is_below, .is_below = is_above};
        memcpy(r.low, hi_v >= 0 ? zero : high, sizeof r.low);
        memcpy(r.high, low, sizeof r.high);
        const uint32_t minus = program_state(s->p);
        if (put_range(s->p, &r, n_whole, n_part, minus, to)) {
            program_bytes(s->p, from, '-', '-', minus);
            is_any = true;
        }
    }
    if (!is_any && !s->p->st) schema_fail(s, GALEN_E_RANGE, l->pointer, "admits nothing: no number is between the bounds");
}

void schema_number(schema *s, const schema_limits *l, bool is_integer) {
    if (l->low.value || l->high.value)
        put_number(s, l, is_integer);
    else
        program_call(s->p, is_integer ? s->json.integer : s->json.number);
}
