#include "grammar/utf8_class.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void char_set_close(char_set *s) {
    free(s->ranges);
    *s = (char_set){0};
}

void char_set_add(program *p, char_set *s, uint32_t lo, uint32_t hi) {
    if (p->st) return;
    if (s->n == s->cap) {
        const uint32_t cap = s->cap ? s->cap * 2 : 16;
        if (cap > CHAR_MAX_RANGES) {
            program_fail(p, GALEN_E_RANGE, 0, "a class of more than %d ranges", CHAR_MAX_RANGES);
            return;
        }
        char_range *grown = realloc(s->ranges, cap * sizeof *grown);
        if (!grown) {
            program_fail(p, GALEN_E_NOMEM, 0, "grammar: a class of characters");
            return;
        }
        s->ranges = grown;
        s->cap = cap;
    }
    s->ranges[s->n++] = (char_range){lo, hi};
}

static int by_lo(const void *a, const void *b) {
    const char_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void merge(char_set *s) {
    uint32_t n = 0;
    if (s->n) qsort(s->ranges, s->n, sizeof *s->ranges, by_lo);
    for (uint32_t i = 0; i < s->n; i++) {
        const char_range r = s->ranges[i];
        if (n && r.lo <= s->ranges[n - 1].hi + 1) {
            if (r.hi > s->ranges[n - 1].hi) s->ranges[n - 1].hi = r.hi;
        } else {
            s->ranges[n++] = r;
        }
    }
    s->n = n;
}

static void invert(program *p, char_set *s) {
    char_set out = {0};
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->ranges[i].lo > at) char_set_add(p, &out, at, s->ranges[i].lo - 1);
        at = s->ranges[i].hi + 1;
    }
    if (at <= CHAR_MAX_CP) char_set_add(p, &out, at, CHAR_MAX_CP);
    char_set_close(s);
    *s = out;
}

/* Surrogates join the complement, and so are in neither the set nor its inverse. */
void char_set_tidy(program *p, char_set *s, bool is_negated) {
    merge(s);
    if (!is_negated) invert(p, s);
    char_set_add(p, s, 0xD800, 0xDFFF);
    merge(s);
    invert(p, s);
}

/* ---------------------------------------------------------------- to bytes */

/* Characters lo..hi whose encodings have the same length and differ by ranges of each byte alone. */
typedef struct tails {
    uint32_t states[4]; /* states[k]: k continuation bytes of any value lead from here to the end */
} tails;

static void put_range(program *p, tails *t, uint32_t from, uint32_t lo, uint32_t hi) {
    char a[4], b[4];
    const size_t n = utf8_encode(lo, a);
    (void)utf8_encode(hi, b);
    size_t n_any = 0; /* bytes at the end that may be anything */
    while (n_any + 1 < n && (uint8_t)a[n - 1 - n_any] == 0x80 && (uint8_t)b[n - 1 - n_any] == 0xBF) n_any++;
    for (size_t k = 1; k <= n_any && !p->st; k++) {
        if (t->states[k]) continue;
        t->states[k] = program_state(p);
        program_bytes(p, t->states[k], 0x80, 0xBF, t->states[k - 1]);
    }
    uint32_t at = from;
    for (size_t i = 0; i + n_any < n && !p->st; i++) {
        const uint32_t next = i + n_any + 1 == n ? t->states[n_any] : program_state(p);
        program_bytes(p, at, (uint8_t)a[i], (uint8_t)b[i], next);
        at = next;
    }
}

/* Split lo..hi until put_range's condition holds. Source of the method: RE2, re2/compile.cc, AddRangeUTF8; also Thompson 1968. */
static void put_ranges(program *p, tails *t, uint32_t from, uint32_t lo, uint32_t hi) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, CHAR_MAX_CP};
    char_range todo[16] = {{lo, hi}};
    for (int n = 1; n && !p->st;) {
        const char_range r = todo[--n];
        uint32_t split = r.hi; /* r becomes lo..split and split+1..hi */
        for (size_t i = 0; i < 4 && split == r.hi; i++)
            if (r.lo <= ends[i] && r.hi > ends[i]) split = ends[i];
        for (int i = 1; i < 4 && split == r.hi && r.hi > 0x7F; i++) {
            const uint32_t m = (1u << (6 * i)) - 1;
            if ((r.lo & ~m) == (r.hi & ~m)) continue;
            if (r.lo & m)
                split = r.lo | m;
            else if ((r.hi & m) != m)
                split = (r.hi & ~m) - 1;
        }
        if (split == r.hi) {
            put_range(p, t, from, r.lo, r.hi);
            continue;
        }
        todo[n++] = (char_range){split + 1, r.hi};
        todo[n++] = (char_range){r.lo, split};
    }
}

void program_class(program *p, const char_set *s, uint32_t from, uint32_t to) {
    tails t = {{to}};
    for (uint32_t i = 0; i < s->n && !p->st; i++) put_ranges(p, &t, from, s->ranges[i].lo, s->ranges[i].hi);
}

/* ---------------------------------------------------------------- inside a JSON string */

static void put_escape(program *p, uint32_t *backslash, uint32_t from, uint32_t cp, uint32_t to) {
    static const char hex[] = "0123456789abcdef", plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    if (!*backslash) {
        *backslash = program_state(p);
        program_bytes(p, from, '\\', '\\', *backslash);
    }
    const char *short_form = memchr(plain, (int)cp, sizeof plain - 1);
    if (short_form) {
        const uint8_t letter = (uint8_t)letters[short_form - plain];
        program_bytes(p, *backslash, letter, letter, to);
        return;
    }
    const char text[] = {'u', '0', '0', hex[cp >> 4], hex[cp & 15]};
    uint32_t at = *backslash;
    for (size_t i = 0; i < sizeof text && !p->st; i++) {
        const uint32_t next = i + 1 == sizeof text ? to : program_state(p);
        program_bytes(p, at, (uint8_t)text[i], (uint8_t)text[i], next);
        at = next;
    }
}

void program_json_class(program *p, const char_set *s, uint32_t from, uint32_t to) {
    tails t = {{to}};
    uint32_t backslash = 0;
    for (uint32_t i = 0; i < s->n && !p->st; i++) {
        uint32_t lo = s->ranges[i].lo;
        const uint32_t hi = s->ranges[i].hi;
        while (lo <= hi && !p->st) {
            if (lo < 0x20 || lo == '"' || lo == '\\') {
                put_escape(p, &backslash, from, lo, to);
                lo++;
                continue;
            }
            const uint32_t stop = lo < '"' ? '"' - 1 : lo < '\\' ? '\\' - 1 : CHAR_MAX_CP, end = hi < stop ? hi : stop;
            put_ranges(p, &t, from, lo, end);
            lo = end + 1;
        }
    }
}
