/* GBNF, llama.cpp's notation for grammars.
 *
 *   file     rule*            name ::= alternatives, ends with its line unless that line ends within brackets or after | or ::=
 *   item     "text"  [a-z]  [^a-z]  .  name  ( alternatives )       followed by  *  +  ?  {m}  {m,}  {m,n}
 *   escapes  \n \r \t \\ \" \[ \] \- \^ \' \/ \xNN \uNNNN \UNNNNNNNN: characters, not bytes
 *   comment  # to the end of the line
 * Source: llama.cpp grammars/README.md and src/llama-grammar.cpp @d99724f. Differences: a rule may not be defined twice; the
 * rule name may hold '_'; what can never be matched is an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "grammar/compile.h"
#include "grammar/utf8_class.h"

typedef struct gbnf {
    program *p;
    const char *text;
    size_t n, at;
    uint32_t *slots; /* hash of rules by name, + 1 */
    struct name {
        const char *p;
        size_t n;
    } * names; /* [n_names] by rule */
    uint32_t n_slots, cap_names;
    char *literal; /* of the text that is being read */
    size_t cap_literal;
} gbnf;

static void fail(gbnf *g, size_t at, const char *what) {
    const program *p = g->p;
    if (p->n_groups)
        program_fail(g->p, GALEN_E_FORMAT, at, "byte %zu, in rule \"%s\": %s", at, program_rule_name(p, p->rule), what);
    else
        program_fail(g->p, GALEN_E_FORMAT, at, "byte %zu: %s", at, what);
}

static bool is_at(const gbnf *g, char c) {
    return g->at < g->n && g->text[g->at] == c;
}

/* White space and comments. */
static void skip(gbnf *g, bool has_lines) {
    for (; g->at < g->n; g->at++) {
        const char c = g->text[g->at];
        if (c == '#') {
            while (g->at < g->n && g->text[g->at] != '\n' && g->text[g->at] != '\r') g->at++;
            g->at--;
        } else if (c != ' ' && c != '\t' && !(has_lines && (c == '\n' || c == '\r'))) {
            return;
        }
    }
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* ---------------------------------------------------------------- names */

static uint32_t hash_name(const char *p, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 16777619u;
    return h;
}

static bool grow_names(gbnf *g) {
    const uint32_t n_rules = g->p->n_rules;
    if (n_rules < g->cap_names) return true;
    const uint32_t cap = g->cap_names ? g->cap_names * 2 : 64, n_slots = cap * 4;
    struct name *names = realloc(g->names, cap * sizeof *names);
    if (names) g->names = names;
    uint32_t *slots = names ? calloc(n_slots, sizeof *slots) : NULL;
    if (!slots) {
        program_fail(g->p, GALEN_E_NOMEM, 0, "grammar: %u names", cap);
        return false;
    }
    for (uint32_t i = 0; i < g->n_slots; i++) {
        if (!g->slots[i]) continue;
        const struct name *old = &g->names[g->slots[i] - 1];
        uint32_t k = hash_name(old->p, old->n) & (n_slots - 1);
        while (slots[k]) k = (k + 1) & (n_slots - 1);
        slots[k] = g->slots[i];
    }
    free(g->slots);
    g->slots = slots;
    g->n_slots = n_slots;
    g->cap_names = cap;
    return true;
}

/* The rule of this name, made when it is new. Repetitions make rules too, which have no name here. */
static uint32_t find_rule(gbnf *g, const char *name, size_t n, size_t offset) {
    if (g->p->st || !grow_names(g)) return 0;
    uint32_t i = hash_name(name, n) & (g->n_slots - 1);
    for (; g->slots[i]; i = (i + 1) & (g->n_slots - 1)) {
        const struct name *known = &g->names[g->slots[i] - 1];
        if (known->n == n && memcmp(known->p, name, n) == 0) return g->slots[i] - 1;
    }
    const uint32_t rule = program_rule(g->p, name, n, offset);
    if (g->p->st || !grow_names(g)) return 0;
    g->names[rule] = (struct name){name, n};
    i = hash_name(name, n) & (g->n_slots - 1);
    while (g->slots[i]) i = (i + 1) & (g->n_slots - 1);
    g->slots[i] = rule + 1;
    return rule;
}

/* ---------------------------------------------------------------- characters */

static uint32_t read_hex(gbnf *g, int n_digits, size_t begin) {
    uint32_t cp = 0;
    for (int i = 0; i < n_digits; i++) {
        const char c = g->at < g->n ? g->text[g->at] : '\0';
        const int v = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (v < 0) {
            fail(g, begin,
                 n_digits == 2   ? "\\x needs 2 hexadecimal digits"
                 : n_digits == 4 ? "\\u needs 4 hexadecimal digits"
                                 : "\\U needs 8 hexadecimal digits");
            return 0;
        }
        cp = cp << 4 | (uint32_t)v;
        g->at++;
    }
    if (cp > CHAR_MAX_CP || (cp >= 0xD800 && cp <= 0xDFFF))
        fail(g, begin, "the escape is no character (a surrogate, or beyond U+10FFFF)");
    return cp;
}

/* One character, escaped or not. The text is valid UTF-8. */
static uint32_t read_char(gbnf *g) {
    static const char letters[] = "nrt\\\"[]-^'/", values[] = "\n\r\t\\\"[]-^'/";
    const size_t begin = g->at;
    uint32_t cp = 0;
    if (!is_at(g, '\\')) {
        g->at += utf8_decode(g->text + g->at, g->n - g->at, &cp);
        return cp;
    }
    if (++g->at == g->n) {
        fail(g, begin, "the grammar ends within an escape");
        return 0;
    }
    const char c = g->text[g->at++];
    if (c == 'x') return read_hex(g, 2, begin);
    if (c == 'u') return read_hex(g, 4, begin);
    if (c == 'U') return read_hex(g, 8, begin);
    const char *found = c ? strchr(letters, c) : NULL;
    if (!found) fail(g, begin, "no such escape; known: \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ \\xNN \\uNNNN \\UNNNNNNNN");
    return found ? (uint32_t)values[found - letters] : 0;
}

/* ---------------------------------------------------------------- items */

static bool is_repeated(gbnf *g) {
    const size_t at = g->at;
    skip(g, g->p->n_groups > 2);
    const bool is = is_at(g, '*') || is_at(g, '+') || is_at(g, '?') || is_at(g, '{');
    g->at = at;
    return is;
}

static void read_literal(gbnf *g) {
    const size_t begin = g->at++;
    size_t n = 0;
    while (!g->p->st && !is_at(g, '"')) {
        if (g->at >= g->n || is_at(g, '\n')) {
            fail(g, begin, "the text that begins here has no closing quote on its line");
            return;
        }
        if (n + 4 > g->cap_literal) {
            const size_t cap = g->cap_literal * 2 + 64;
            char *grown = realloc(g->literal, cap);
            if (!grown) {
                program_fail(g->p, GALEN_E_NOMEM, begin, "grammar: a text");
                return;
            }
            g->literal = grown;
            g->cap_literal = cap;
        }
        n += utf8_encode(read_char(g), g->literal + n);
    }
    if (g->p->st) return;
    g->at++;
    program_literal(g->p, g->literal, n, n > 0 && !is_repeated(g));
}

static void read_class(gbnf *g) {
    const size_t begin = g->at++;
    uint32_t from, to;
    char_set set = {0};
    const bool is_negated = is_at(g, '^');
    g->at += is_negated;
    while (!g->p->st && !is_at(g, ']')) {
        if (g->at >= g->n || is_at(g, '\n')) {
            fail(g, begin, "the class that begins here has no closing bracket on its line");
            break;
        }
        const size_t at = g->at;
        const uint32_t lo = read_char(g);
        uint32_t hi = lo;
        if (is_at(g, '-') && g->at + 1 < g->n && g->text[g->at + 1] != ']') {
            g->at++;
            hi = read_char(g);
        }
        if (!g->p->st && hi < lo) fail(g, at, "a range that ends before it begins");
        char_set_add(g->p, &set, lo, hi);
    }
    g->at++;
    char_set_tidy(g->p, &set, is_negated);
    if (!g->p->st && set.n == 0) fail(g, begin, "a class that no character is in");
    program_item(g->p, &from, &to);
    program_class(g->p, &set, from, to);
    char_set_close(&set);
}

static void read_any(gbnf *g) {
    uint32_t from, to;
    char_set all = {0};
    g->at++;
    char_set_tidy(g->p, &all, true);
    program_item(g->p, &from, &to);
    program_class(g->p, &all, from, to);
    char_set_close(&all);
}

/* A number of {m,n}; is_there false when there is none. */
static uint32_t read_count(gbnf *g, bool *is_there) {
    uint64_t v = 0;
    const size_t begin = g->at;
    for (; g->at < g->n && g->text[g->at] >= '0' && g->text[g->at] <= '9'; g->at++) {
        v = v * 10 + (uint64_t)(g->text[g->at] - '0');
        if (v > GRAMMAR_MAX_REPEAT) {
            char what[64];
            (void)snprintf(what, sizeof what, "repeated more than %d times", GRAMMAR_MAX_REPEAT);
            fail(g, begin, what);
            return 0;
        }
    }
    *is_there = g->at > begin;
    return (uint32_t)v;
}

static void read_repeat(gbnf *g) {
    const size_t begin = g->at;
    const char c = g->text[g->at++];
    uint32_t min = c == '+', max = c == '?' ? 1 : GRAMMAR_NO_LIMIT;
    if (!program_has_item(g->p)) {
        fail(g, begin, "there is nothing here to be repeated");
        return;
    }
    if (c == '{') {
        bool has_min = false, has_max = false;
        skip(g, false);
        max = min = read_count(g, &has_min);
        skip(g, false);
        if (is_at(g, ',')) {
            g->at++;
            skip(g, false);
            max = read_count(g, &has_max);
            if (!has_max) max = GRAMMAR_NO_LIMIT;
            skip(g, false);
        }
        if (!g->p->st && (!has_min || !is_at(g, '}'))) fail(g, begin, "a repetition is written {m}, {m,} or {m,n}");
        g->at++;
        if (!g->p->st && min > max) fail(g, begin, "a repetition whose least number is above its greatest");
    }
    program_repeat(g->p, min, max, begin);
}

static void read_name(gbnf *g) {
    const size_t begin = g->at;
    while (g->at < g->n && is_word(g->text[g->at])) g->at++;
    const uint32_t rule = find_rule(g, g->text + begin, g->at - begin, begin);
    program_call(g->p, rule);
}

/* ---------------------------------------------------------------- rules */

/* Alternatives up to the end of the rule; groups are on the program's own stack. Depth 2: the rule itself. */
static void read_alternatives(gbnf *g) {
    for (;;) {
        const bool is_nested = g->p->n_groups > 2;
        skip(g, is_nested);
        if (g->p->st) return;
        if (g->at >= g->n || is_at(g, '\n') || is_at(g, '\r')) break;
        const char c = g->text[g->at];
        if (c == '"') {
            read_literal(g);
        } else if (c == '[') {
            read_class(g);
        } else if (c == '.') {
            read_any(g);
        } else if (c == '(') {
            program_group(g->p, g->at++);
            skip(g, true);
        } else if (c == ')') {
            if (!is_nested) fail(g, g->at, "a closing bracket that none opened");
            g->at++;
            program_group_end(g->p);
        } else if (c == '|') {
            g->at++;
            program_or(g->p);
            skip(g, true);
        } else if (c == '*' || c == '+' || c == '?' || c == '{') {
            read_repeat(g);
        } else if (is_word(c)) {
            read_name(g);
        } else if (c == '<' || c == '!') {
            program_fail(g->p, GALEN_E_UNSUPPORTED, g->at, "byte %zu, in rule \"%s\": single tokens (<...>) are not supported",
                         g->at, program_rule_name(g->p, g->p->rule));
        } else {
            fail(g, g->at, "expected a text, a class, a rule's name or a bracket");
        }
    }
    if (!g->p->st && g->p->n_groups > 2) {
        const size_t at = (size_t)g->p->groups[g->p->n_groups - 1].offset;
        fail(g, at, "the bracket that opens here is never closed");
    }
}

static void read_rule(gbnf *g) {
    const size_t begin = g->at;
    while (g->at < g->n && is_word(g->text[g->at])) g->at++;
    const size_t n = g->at - begin;
    if (n == 0) {
        fail(g, begin, "expected the name of a rule");
        return;
    }
    skip(g, false);
    if (g->n - g->at < 3 || memcmp(g->text + g->at, "::=", 3) != 0) {
        fail(g, g->at, "expected ::= after the name of a rule");
        return;
    }
    g->at += 3;
    const uint32_t rule = find_rule(g, g->text + begin, n, begin);
    if (g->p->st) return;
    if (g->p->rules[rule].is_defined) {
        fail(g, begin, "the rule is defined a second time");
        return;
    }
    g->p->rules[rule].offset = begin;
    program_begin(g->p, rule);
    skip(g, true);
    read_alternatives(g);
    program_end(g->p, rule);
}

static void read_all(gbnf *g) {
    uint32_t cp;
    for (size_t at = 0, used; at < g->n && !g->p->st; at += used) {
        used = utf8_decode(g->text + at, g->n - at, &cp);
        if (used == 0) fail(g, at, "not UTF-8");
        if (used && cp == 0) fail(g, at, "a NUL byte");
        used += used == 0;
    }
    skip(g, true);
    while (!g->p->st && g->at < g->n) {
        read_rule(g);
        skip(g, true);
    }
}

static void gbnf_close(gbnf *g) {
    free(g->slots);
    free(g->names);
    free(g->literal);
}

uint32_t gbnf_compile(program *p, const char *text, size_t len) {
    gbnf g = {.p = p, .text = text, .n = len};
    read_all(&g);
    const uint32_t root = find_rule(&g, "root", 4, 0);
    if (!p->st && !p->rules[root].is_defined) program_fail(p, GALEN_E_FORMAT, 0, "the grammar has no rule \"root\"");
    gbnf_close(&g);
    return root;
}

void gbnf_rules(program *p, const char *text, const char *const *names, size_t n, uint32_t *found) {
    gbnf g = {.p = p, .text = text, .n = strlen(text)};
    read_all(&g);
    for (size_t i = 0; i < n; i++) found[i] = find_rule(&g, names[i], strlen(names[i]), 0);
    gbnf_close(&g);
}
