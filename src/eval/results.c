#include "eval/results.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static size_t place_of(const eval_results *r, const char *key) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *key; key++) h = (h ^ (unsigned char)*key) * 1099511628211u;
    return (size_t)(h ^ h >> 32) & (r->cap_places - 1);
}

const eval_row *results_find(const eval_results *r, const char *key) {
    if (!r->cap_places) return NULL;
    for (size_t i = place_of(r, key); r->places[i]; i = (i + 1) & (r->cap_places - 1)) {
        if (strcmp(r->rows[r->places[i] - 1].key, key) == 0) return &r->rows[r->places[i] - 1];
    }
    return NULL;
}

static void put_place(eval_results *r, int32_t row) {
    size_t i = place_of(r, r->rows[row].key);
    while (r->places[i]) i = (i + 1) & (r->cap_places - 1);
    r->places[i] = (uint32_t)row + 1;
}

static bool grow(eval_results *r) {
    if (r->n < r->cap) return true;
    const int32_t cap = r->cap ? r->cap * 2 : 64; /* at most EVAL_MAX_CASES: both are powers of two */
    const size_t cap_places = (size_t)cap * 2;
    uint32_t *places = calloc(cap_places, sizeof *places);
    eval_row *rows = places ? realloc(r->rows, (size_t)cap * sizeof *rows) : NULL;
    if (!rows) {
        free(places);
        return false;
    }
    r->rows = rows;
    free(r->places);
    r->places = places;
    r->cap_places = cap_places;
    r->cap = cap;
    for (int32_t i = 0; i < r->n; i++) put_place(r, i);
    return true;
}

galen_status results_add(eval_results *r, const eval_row *row, galen_error *err) {
    if (results_find(r, row->key)) return GALEN_OK;
    if (r->n >= EVAL_MAX_CASES) return galen_fail(err, GALEN_E_FULL, 0, "more than %d cases", EVAL_MAX_CASES);
    if (!grow(r)) return galen_fail(err, GALEN_E_NOMEM, 0, "results of %d cases", r->n + 1);
    r->rows[r->n] = *row;
    put_place(r, r->n++);
    return GALEN_OK;
}

static galen_status take(eval_results *r, const lines *from, const char *s, size_t n, galen_error *err) {
    eval_row row;
    eval_head head;
    galen_error why = {0};
    bool is_head = false;
    const galen_status st = result_parse(s, n, &is_head, &head, &row, &why);
    if (st == GALEN_E_NOMEM) return galen_fail(err, st, 0, "%s", why.msg);
    if (st && from->is_cut && r->has_head) {
        r->is_cut = true;
        return GALEN_OK;
    }
    if (st) return galen_fail(err, st, 0, "line %lld: %s", (long long)from->number, why.msg);
    if (is_head != !r->has_head)
        return galen_fail(err, GALEN_E_FORMAT, 0, "line %lld: %s", (long long)from->number,
                          is_head ? "a second head" : "a results file begins with a line of kind \"head\"");
    if (!is_head) return results_add(r, &row, err);
    r->head = head;
    r->has_head = true;
    return GALEN_OK;
}

galen_status results_read(eval_results *out, lines_read_fn read, void *user, galen_error *err) {
    lines from = {.read = read, .user = user};
    eval_results found = {.n = 0};
    galen_status st = GALEN_OK;
    while (!st) {
        const char *s;
        size_t n;
        const lines_result r = lines_next(&from, &s, &n);
        if (r == LINES_END) break;
        if (r == LINES_FAILED) st = galen_fail(err, GALEN_E_IO, 0, "reading failed behind line %lld", (long long)from.number);
        if (r == LINES_NO_MEMORY) st = galen_fail(err, GALEN_E_NOMEM, 0, "a line of %zu bytes", from.cap);
        if (r == LINES_LONG) st = galen_fail(err, GALEN_E_FORMAT, 0, "line %lld: it is too long", (long long)from.number);
        if (r == LINES_TEXT && n) st = take(&found, &from, s, n, err);
    }
    lines_free(&from);
    if (st) results_free(&found);
    *out = found;
    return st;
}

void results_free(eval_results *r) {
    free(r->rows);
    free(r->places);
    *r = (eval_results){.n = 0};
}
