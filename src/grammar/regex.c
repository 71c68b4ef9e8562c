/* The `pattern` of a string: the regular part of ECMA 262 expressions, inside a JSON string.
 *
 *   alternatives | ( ) (?: ) | * + ? {m} {m,} {m,n}, lazy or not | . [a-z] [^a-z] \d \w \s \D \W \S | ^ and $ at the ends
 * What readers of the same pattern disagree on is narrowed, so that the text matches for all of them: \d \w \s are ASCII, their
 * complements too, and . is never a line's end. Look-around, back references, \b and \p{..} are refused. */
#include "grammar/regex.h"

#include <string.h>

#include "base/utf8.h"
#include "grammar/utf8_class.h"

typedef struct regex {
    program *p;
    const char *text, *pointer;
    size_t n, at;
    uint32_t character; /* the rule of any character */
    uint32_t base;      /* groups open outside the pattern */
    bool has_atom;      /* something that may be repeated was just read */
} regex;

static void fail(regex *r, galen_status st, size_t at, const char *what) {
    program_fail(r->p, st, 0, "%s: byte %zu of the pattern: %s", r->pointer, at, what);
}

static bool is_at(const regex *r, char c) {
    return r->at < r->n && r->text[r->at] == c;
}

static uint32_t read_hex(regex *r, int n_digits) {
    uint32_t cp = 0;
    const size_t begin = r->at - 2;
    for (int i = 0; i < n_digits; i++, r->at++) {
        const char c = r->at < r->n ? r->text[r->at] : '\0';
        const char lower = (char)(c | 0x20);
        if (!((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'f'))) {
            fail(r, GALEN_E_FORMAT, begin, "an escape with too few hexadecimal digits");
            return 0;
        }
        cp = cp << 4 | (uint32_t)(c <= '9' ? c - '0' : lower - 'a' + 10);
    }
    if (cp >= 0xD800 && cp <= 0xDFFF) fail(r, GALEN_E_UNSUPPORTED, begin, "half of a surrogate pair");
    return cp;
}

/* \d and the like into set; false when c names no class. */
static bool add_class(regex *r, char_set *set, char c) {
    static const struct {
        char c;
        char_range ranges[5];
    } classes[] = {
        {'d', {{'0', '9'}}},
        {'D', {{0, '0' - 1}, {'9' + 1, 0x7F}}},
        {'w', {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'W', {{0, '0' - 1}, {'9' + 1, 'A' - 1}, {'Z' + 1, '_' - 1}, {'_' + 1, 'a' - 1}, {'z' + 1, 0x7F}}},
        {'s', {{'\t', '\r'}, {' ', ' '}}},
        {'S', {{'!', '~'}}},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (classes[i].c != c) continue;
        for (size_t k = 0; k < 5 && classes[i].ranges[k].hi; k++)
            char_set_add(r->p, set, classes[i].ranges[k].lo, classes[i].ranges[k].hi);
        return true;
    }
    return false;
}

/* Behind a backslash: a character, or a class into set (then *is_class). */
static uint32_t read_escape(regex *r, char_set *set, bool *is_class) {
    static const char letters[] = "nrtfv0", values[] = "\n\r\t\f\v\0", marks[] = "^$\\.*+?()[]{}|/-\"'@:,;!#%&=<>~`_ ";
    const size_t begin = r->at - 1;
    *is_class = false;
    if (r->at == r->n) {
        fail(r, GALEN_E_FORMAT, begin, "a backslash at the end");
        return 0;
    }
    const char c = r->text[r->at++];
    if (add_class(r, set, c)) {
        *is_class = true;
        return 0;
    }
    if (c == 'x') return read_hex(r, 2);
    if (c == 'u') return read_hex(r, 4);
    const bool is_digit = r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9';
    const char *found = c ? strchr(letters, c) : NULL;
    if (found && !(c == '0' && is_digit)) return (uint32_t)values[found - letters];
    if (c && strchr(marks, c)) return (uint32_t)c;
    fail(r, GALEN_E_UNSUPPORTED, begin,
         c >= '1' && c <= '9'                           ? "a back reference"
         : c == 'b' || c == 'B'                         ? "a word boundary"
         : c == 'p' || c == 'P' || c == 'k' || c == 'c' ? "an escape of this kind"
                                                        : "an escape that is not known");
    return 0;
}

static uint32_t read_plain(regex *r) {
    uint32_t cp = 0;
    r->at += utf8_decode(r->text + r->at, r->n - r->at, &cp); /* valid: jansson has seen to it */
    return cp;
}

static void put_set(regex *r, char_set *set, bool is_negated, size_t begin) {
    uint32_t from, to;
    char_set_tidy(r->p, set, is_negated);
    if (!r->p->st && set->n == 0) fail(r, GALEN_E_RANGE, begin, "a class that no character is in");
    program_item(r->p, &from, &to);
    program_json_class(r->p, set, from, to);
    char_set_close(set);
}

/* One end of a range, or a whole class. */
static uint32_t read_member(regex *r, char_set *set, bool *is_class) {
    *is_class = false;
    if (!is_at(r, '\\')) return read_plain(r);
    r->at++;
    if (is_at(r, 'b')) {
        r->at++;
        return '\b';
    }
    return read_escape(r, set, is_class);
}

static void read_class(regex *r) {
    const size_t begin = r->at++;
    char_set set = {0};
    const bool is_negated = is_at(r, '^');
    r->at += is_negated;
    while (!r->p->st && !is_at(r, ']')) {
        bool is_class, is_high_class = false;
        if (r->at >= r->n) {
            fail(r, GALEN_E_FORMAT, begin, "a class without its closing bracket");
            break;
        }
        const size_t at = r->at;
        const uint32_t lo = read_member(r, &set, &is_class);
        uint32_t hi = lo;
        if (is_class) continue;
        if (is_at(r, '-') && r->at + 1 < r->n && r->text[r->at + 1] != ']') {
            r->at++;
            hi = read_member(r, &set, &is_high_class);
        }
        if (is_high_class)
            fail(r, GALEN_E_FORMAT, at, "a range that ends with a class");
        else if (!r->p->st && hi < lo)
            fail(r, GALEN_E_FORMAT, at, "a range that ends before it begins");
        char_set_add(r->p, &set, lo, hi);
    }
    r->at++;
    put_set(r, &set, is_negated, begin);
}

/* ---------------------------------------------------------------- repetition */

static bool read_count(regex *r, uint32_t *v) {
    const size_t begin = r->at;
    uint64_t n = 0;
    for (; r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++) {
        n = n * 10 + (uint64_t)(r->text[r->at] - '0');
        if (n > GRAMMAR_MAX_REPEAT) {
            fail(r, GALEN_E_RANGE, begin, "a repetition beyond all limits");
            return false;
        }
    }
    *v = (uint32_t)n;
    return r->at > begin;
}

static void read_repeat(regex *r) {
    const size_t begin = r->at;
    const char c = r->text[r->at++];
    uint32_t min = c == '+', max = c == '?' ? 1 : GRAMMAR_NO_LIMIT;
    if (!r->has_atom) {
        fail(r, GALEN_E_FORMAT, begin, "there is nothing here to be repeated");
        return;
    }
    if (c == '{') {
        bool ok = read_count(r, &min);
        max = min;
        if (ok && is_at(r, ',')) {
            r->at++;
            if (!read_count(r, &max)) max = GRAMMAR_NO_LIMIT;
        }
        if (!ok || !is_at(r, '}')) fail(r, GALEN_E_FORMAT, begin, "a repetition is written {m}, {m,} or {m,n}");
        r->at++;
        if (!r->p->st && min > max) fail(r, GALEN_E_FORMAT, begin, "a repetition whose least number is above its greatest");
    }
    program_repeat(r->p, min, max, begin);
    if (is_at(r, '?')) r->at++; /* lazy: the same texts */
    r->has_atom = false;
}

/* ---------------------------------------------------------------- all of it */

static void read_open(regex *r) {
    const size_t begin = r->at++;
    if (is_at(r, '?')) {
        if (r->at + 1 >= r->n || r->text[r->at + 1] != ':') {
            fail(r, GALEN_E_UNSUPPORTED, begin, "look-around and named groups");
            return;
        }
        r->at += 2;
    }
    program_group(r->p, 0);
    r->has_atom = false;
}

static void put_anything(regex *r) {
    program_call_times(r->p, r->character, 0, GRAMMAR_NO_LIMIT);
}

static bool is_outer(const regex *r) {
    return r->p->n_groups == r->base;
}

/* At the beginning of an alternative of the whole pattern. */
static void begin_alternative(regex *r) {
    if (is_at(r, '^'))
        r->at++;
    else
        put_anything(r);
}

static void read_dollar(regex *r) {
    const size_t begin = r->at++;
    if (!is_outer(r) || (r->at < r->n && !is_at(r, '|')))
        fail(r, GALEN_E_UNSUPPORTED, begin, "$ that is not at the end of the pattern");
}

static void read_atom(regex *r, char c) {
    char_set set = {0};
    const size_t begin = r->at;
    if (c == '.') {
        r->at++;
        char_set_add(r->p, &set, '\n', '\n');
        char_set_add(r->p, &set, '\r', '\r');
        char_set_add(r->p, &set, 0x2028, 0x2029);
        put_set(r, &set, true, begin);
        return;
    }
    bool is_class = false;
    uint32_t cp;
    if (c == '\\') {
        r->at++;
        cp = read_escape(r, &set, &is_class);
    } else {
        cp = read_plain(r);
    }
    if (!is_class) char_set_add(r->p, &set, cp, cp);
    put_set(r, &set, false, begin);
}

static void read_all(regex *r) {
    bool is_ended = false; /* by $ */
    begin_alternative(r);
    while (r->at < r->n && !r->p->st) {
        const char c = r->text[r->at];
        if (c == '|') {
            if (is_outer(r) && !is_ended) put_anything(r);
            r->at++;
            program_or(r->p);
            is_ended = r->has_atom = false;
            if (is_outer(r)) begin_alternative(r);
        } else if (c == '(') {
            read_open(r);
        } else if (c == ')') {
            if (is_outer(r)) fail(r, GALEN_E_FORMAT, r->at, "a closing bracket that none opened");
            r->at++;
            program_group_end(r->p);
            r->has_atom = true;
        } else if (c == '*' || c == '+' || c == '?' || c == '{') {
            read_repeat(r);
        } else if (c == '[') {
            read_class(r);
            r->has_atom = true;
        } else if (c == '$') {
            read_dollar(r);
            is_ended = true;
            r->has_atom = false;
        } else if (c == '^') {
            fail(r, GALEN_E_UNSUPPORTED, r->at, "^ that is not at the beginning of the pattern");
        } else if (c == '}' || c == ']') {
            fail(r, GALEN_E_FORMAT, r->at, "a closing bracket that none opened");
        } else {
            read_atom(r, c);
            r->has_atom = true;
        }
    }
    if (!r->p->st && !is_outer(r)) fail(r, GALEN_E_FORMAT, r->n, "a bracket that is never closed");
    if (!is_ended) put_anything(r);
}

void regex_build(program *p, const char *text, size_t n, const char *pointer, uint32_t character) {
    program_group(p, 0);
    regex r = {.p = p, .text = text, .pointer = pointer, .n = n, .character = character, .base = p->n_groups};
    read_all(&r);
    program_group_end(p);
}
