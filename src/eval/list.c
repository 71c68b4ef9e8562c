#include "eval/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/sha256.h"

/* ------------------------------------------------------------ what was seen */

static void put_hash(uint64_t *table, size_t cap, uint64_t h) {
    size_t i = h & (cap - 1);
    while (table[i]) i = (i + 1) & (cap - 1);
    table[i] = h;
}

static bool grow_seen(eval_list *l) {
    if (l->n_seen * 2 < l->cap_seen) return true;
    const size_t cap = l->cap_seen ? l->cap_seen * 2 : 1024;
    uint64_t *table = calloc(cap, sizeof *table);
    if (!table) return false;
    for (size_t i = 0; i < l->cap_seen; i++) {
        if (l->seen[i]) put_hash(table, cap, l->seen[i]);
    }
    free(l->seen);
    l->seen = table;
    l->cap_seen = cap;
    return true;
}

/* Is the hash there? It is from now on. False in *ok: no memory. */
static bool was_seen(eval_list *l, const uint8_t hash[SHA256_BYTES], bool *ok) {
    uint64_t h;
    memcpy(&h, hash, sizeof h);
    h |= 1; /* 0 is an empty place */
    *ok = grow_seen(l);
    if (!*ok) return false;
    for (size_t i = h & (l->cap_seen - 1); l->seen[i]; i = (i + 1) & (l->cap_seen - 1)) {
        if (l->seen[i] == h) return true;
    }
    put_hash(l->seen, l->cap_seen, h);
    l->n_seen++;
    return false;
}

static void hash_id(int32_t file, const char *id, uint8_t out[SHA256_BYTES]) {
    sha256 s;
    sha256_start(&s);
    sha256_add(&s, "id", 3);
    sha256_add(&s, &file, sizeof file);
    sha256_add(&s, id, strlen(id));
    sha256_end(&s, out);
}

/* ------------------------------------------------------------ a line */

static void tell(eval_list *l, int32_t file, int64_t line, const char *why) {
    const int64_t n = l->n_broken + l->n_twice;
    if (n >= EVAL_MAX_PROBLEMS) return;
    eval_problem *p = &l->problems[n];
    *p = (eval_problem){.file = file, .line = line};
    (void)snprintf(p->why, sizeof p->why, "%.127s", why);
}

static void tell_broken(eval_list *l, int32_t file, int64_t line, const char *why) {
    tell(l, file, line, why);
    l->n_broken++;
}

static galen_status append(eval_list *l, const eval_case *e, galen_error *err) {
    if (l->n_skipped < l->skip) {
        l->n_skipped++;
        labelled_case gone = e->c;
        cases_free(&gone);
        return GALEN_OK;
    }
    if (l->n == l->cap) {
        const int32_t cap = l->cap * 2 + 64;
        eval_case *more = realloc(l->cases, (size_t)cap * sizeof *more); /* cap is at most twice EVAL_MAX_CASES */
        if (!more) return galen_fail(err, GALEN_E_NOMEM, 0, "%d cases", cap);
        l->cases = more;
        l->cap = cap;
    }
    l->cases[l->n++] = *e;
    l->is_limited = l->limit && l->n >= l->limit;
    return GALEN_OK;
}

static galen_status take(eval_list *l, eval_case *e, const uint8_t hash[SHA256_BYTES], galen_error *err) {
    char hex[SHA256_HEX_BYTES];
    uint8_t of_id[SHA256_BYTES];
    bool ok = true, is_old = was_seen(l, hash, &ok);
    const char *why = "the same line as an earlier one";
    if (ok && !is_old && e->c.id[0]) {
        hash_id(e->file, e->c.id, of_id);
        is_old = was_seen(l, of_id, &ok);
        why = "its id is that of an earlier line";
    }
    galen_status st = ok ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "%zu lines", l->n_seen);
    if (ok && is_old) {
        tell(l, e->file, e->line, why);
        l->n_twice++;
    }
    if (ok && !is_old) {
        sha256_hex(hash, hex);
        memcpy(e->key, hex, EVAL_KEY_BYTES - 1);
        e->key[EVAL_KEY_BYTES - 1] = '\0';
        st = append(l, e, err);
        if (!st) return st;
    }
    cases_free(&e->c);
    return st;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    }
    return true;
}

static galen_status read_line(eval_list *l, int32_t file, int64_t number, const char *s, size_t n, galen_error *err) {
    uint8_t hash[SHA256_BYTES];
    galen_error why = {0};
    eval_case e = {.file = file, .line = number};
    while (n && is_blank(s + n - 1, 1)) n--;
    if (!n) return GALEN_OK;
    if (memchr(s, '\0', n)) {
        tell_broken(l, file, number, "it has a NUL byte");
        return GALEN_OK;
    }
    const galen_status st = cases_parse(s, n, &e.c, &why);
    if (st == GALEN_E_NOMEM) return galen_fail(err, st, 0, "line %lld: %s", (long long)number, why.msg);
    if (st) {
        tell_broken(l, file, number, why.msg);
        return GALEN_OK;
    }
    sha256_of(s, n, hash);
    return take(l, &e, hash, err);
}

galen_status eval_list_add(eval_list *l, int32_t file, lines_read_fn read, void *user, galen_error *err) {
    lines from = {.read = read, .user = user};
    galen_status st = GALEN_OK;
    while (!st && !l->is_limited) {
        const char *s;
        size_t n;
        const lines_result r = lines_next(&from, &s, &n);
        if (r == LINES_END) break;
        if (r == LINES_FAILED) st = galen_fail(err, GALEN_E_IO, 0, "reading failed behind line %lld", (long long)from.number);
        if (r == LINES_NO_MEMORY) st = galen_fail(err, GALEN_E_NOMEM, 0, "a line of %zu bytes", from.cap);
        if (r == LINES_LONG) tell_broken(l, file, from.number, "it is longer than 4 MiB");
        if (r != LINES_TEXT) continue;
        if (l->n >= EVAL_MAX_CASES) st = galen_fail(err, GALEN_E_FULL, 0, "more than %d cases", EVAL_MAX_CASES);
        if (!st) st = read_line(l, file, from.number, s, n, err);
    }
    lines_free(&from);
    return st;
}

void eval_list_free(eval_list *l) {
    for (int32_t i = 0; i < l->n; i++) cases_free(&l->cases[i].c);
    free(l->cases);
    free(l->seen);
    *l = (eval_list){0};
}
