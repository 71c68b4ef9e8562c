/* Reading a model: log-probabilities over its whole vocabulary, unmasked, whatever it would have said. */
#include <math.h>
#include <string.h>

#include "assist/case.h"

double log_add(const double *l, int32_t n) {
    double most = l[0], sum = 0;
    for (int32_t i = 1; i < n; i++) most = l[i] > most ? l[i] : most;
    for (int32_t i = 0; i < n; i++) sum += exp(l[i] - most);
    return most + log(sum);
}

galen_status score_items(galen_assistant *a, const galen_tokens *prompt, const item items[ITEMS_MAX], double out[ITEMS_MAX],
                         galen_error *err) {
    double each[ITEMS_MAX][ITEM_TOKENS];
    look looks[ITEMS_MAX] = {{.from = 0}};
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
        galen_tokens name = {.n = (size_t)items[i].n_ids};
        name.ids = (int32_t *)(uintptr_t)items[i].ids; /* read only */
        looks[i] = (look){.from = (int32_t)prompt->n, .out = each[i]};
        st = prompt_append(&looks[i].t, prompt, err);
        if (!st) st = prompt_append(&looks[i].t, &name, err);
    }
    if (!st)
        st = edge_look(a, looks, ITEMS_MAX, err);
    else
        looks_free(looks, ITEMS_MAX);
    for (int32_t i = 0; i < ITEMS_MAX && !st; i++) {
        out[i] = 0;
        for (int32_t k = 0; k < items[i].n_ids; k++) out[i] += each[i][k] / items[i].n_ids;
    }
    return st;
}

/* ------------------------------------------------------------ yes and no */

static void add_once(family *f, int32_t id) {
    for (int32_t i = 0; i < f->n; i++) {
        if (f->ids[i] == id) return;
    }
    if (f->n < FAMILY_MAX) f->ids[f->n++] = id;
}

static bool is_in(const family *f, int32_t id) {
    for (int32_t i = 0; i < f->n; i++) {
        if (f->ids[i] == id) return true;
    }
    return false;
}

/* The first token of a spelling, behind a word and at a line's beginning. */
static galen_status add_spelling(galen_assistant *a, const char *text, family *f, galen_error *err) {
    galen_tokens t = {0};
    const galen_status st = edge_literal(a, text, &t, err);
    if (!st && t.n) add_once(f, t.ids[0]);
    galen_tokens_free(&t);
    return st;
}

static void drop_common(family *f, const family *other) {
    int32_t n = 0;
    for (int32_t i = 0; i < f->n; i++) {
        if (!is_in(other, f->ids[i])) f->ids[n++] = f->ids[i];
    }
    f->n = n;
}

galen_status score_find_words(galen_assistant *a, galen_error *err) {
    static const char *const yes[] = {" yes", " Yes", "yes", "Yes"}, *const no[] = {" no", " No", "no", "No"};
    galen_status st = GALEN_OK;
    a->yes.n = a->no.n = 0;
    for (int i = 0; i < 4 && !st; i++) {
        st = add_spelling(a, yes[i], &a->yes, err);
        if (!st) st = add_spelling(a, no[i], &a->no, err);
    }
    /* A vocabulary of letters begins " yes" and " no" with the same blank: that token tells nothing. */
    const family before = a->yes;
    drop_common(&a->yes, &a->no);
    drop_common(&a->no, &before);
    memcpy(a->odds_ids, a->yes.ids, (size_t)a->yes.n * sizeof *a->odds_ids);
    memcpy(a->odds_ids + a->yes.n, a->no.ids, (size_t)a->no.n * sizeof *a->odds_ids);
    return st;
}

int32_t score_n_odds(const galen_assistant *a) {
    return a->yes.n && a->no.n ? a->yes.n + a->no.n : 0;
}

double score_odds(const galen_assistant *a, const double *logprobs) {
    if (!score_n_odds(a)) return 0;
    return log_add(logprobs, a->yes.n) - log_add(logprobs + a->yes.n, a->no.n);
}
