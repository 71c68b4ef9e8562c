/* The model as a chooser: the five and "none of these" are listed under letters, and the letters' log-probabilities are read
 * where the answer would stand. Six cyclic orders: see rank.c. Only the list and what follows it is evaluated six times; the
 * symptoms before it are in the session already. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"

#define NONE_OF_THESE "None of these"
#define LETTERS       "ABCDEF"

/* The letters as tokens behind the lead: common tokens that come before every letter (a blank, in a vocabulary of bytes), then
 * one that tells them apart. is_usable false when there is none. */
typedef struct letter_tokens {
    galen_tokens common;
    int32_t ids[N_OPTIONS];
    bool is_usable;
} letter_tokens;

static galen_status find_letters(galen_assistant *a, letter_tokens *out, galen_error *err) {
    galen_tokens t[N_OPTIONS] = {{0}};
    galen_status st = GALEN_OK;
    *out = (letter_tokens){0};
    size_t n = 0, least = SIZE_MAX;
    for (int i = 0; i < N_OPTIONS && !st; i++) {
        const char text[] = {' ', LETTERS[i], '\0'};
        st = edge_literal(a, text, &t[i], err);
        if (!st && t[i].n < least) least = t[i].n;
    }
    if (st) goto done;
    bool is_common = true;
    while (n < least && is_common) {
        for (int i = 1; i < N_OPTIONS; i++) is_common &= t[i].ids[n] == t[0].ids[n];
        n += is_common;
    }
    out->is_usable = n < least;
    for (int i = 0; i < N_OPTIONS && out->is_usable; i++) {
        out->ids[i] = t[i].ids[n];
        for (int k = 0; k < i; k++) out->is_usable &= out->ids[k] != out->ids[i];
    }
    t[0].n = n;
    out->common = t[0];
    t[0] = (galen_tokens){0};
done:
    for (int i = 0; i < N_OPTIONS; i++) galen_tokens_free(&t[i]);
    return st;
}

/* "A. Influenza\nB. ..." with option (i + shift) mod 6 at place i. */
static void list_options(const galen_differential *d, int shift, char *out, size_t cap) {
    size_t n = 0;
    for (int i = 0; i < N_OPTIONS && n < cap; i++) {
        const int o = (i + shift) % N_OPTIONS;
        n += (size_t)snprintf(out + n, cap - n, "%s%c. %s", i ? "\n" : "", LETTERS[i],
                              o == OTHER ? NONE_OF_THESE : d->conditions[o].name);
    }
}

/* The prompt with the options in one order, and what the letters' tokens have in common. */
static galen_status begin_order(galen_assistant *a, const galen_differential *d, const letter_tokens *l, int shift, look *out,
                                galen_error *err) {
    char options[N_OPTIONS * (GALEN_NAME_BYTES + 8)];
    list_options(d, shift, options, sizeof options);
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = a->c.field, [FIELD_OPTIONS] = options}};
    galen_status st = edge_prompt(a, PROMPT_CHOOSE, &v, &out->t, err);
    if (!st) st = prompt_append(&out->t, &l->common, err);
    if (!st) st = edge_fits(a, out->t.n, 0, "symptoms and conditions make", err);
    out->from = (int32_t)out->t.n;
    out->ids = l->ids;
    out->n_ids = N_OPTIONS;
    return st;
}

static galen_status read_orders(galen_assistant *a, const galen_differential *d, const letter_tokens *l,
                                double six[N_OPTIONS][N_OPTIONS], galen_error *err) {
    look looks[N_OPTIONS] = {{.from = 0}};
    galen_status st = GALEN_OK;
    for (int shift = 0; shift < N_OPTIONS && !st; shift++) {
        looks[shift].out = six[shift];
        st = begin_order(a, d, l, shift, &looks[shift], err);
    }
    if (!st) return edge_look(a, looks, N_OPTIONS, err);
    looks_free(looks, N_OPTIONS);
    return st;
}

galen_status choose(galen_assistant *a, galen_differential *d, galen_error *err) {
    letter_tokens l;
    double six[N_OPTIONS][N_OPTIONS], sums[N_OPTIONS] = {0}, mass = 0;
    galen_status st = find_letters(a, &l, err);
    if (!st && l.is_usable) st = read_orders(a, d, &l, six, err);
    for (int shift = 0; shift < N_OPTIONS && !st && l.is_usable; shift++) {
        const double together = log_add(six[shift], N_OPTIONS);
        mass += exp(together) / N_OPTIONS;
        for (int i = 0; i < N_OPTIONS; i++) sums[(i + shift) % N_OPTIONS] += (six[shift][i] - together) / N_OPTIONS;
    }
    if (!st) {
        d->has_choice = l.is_usable;
        d->label_mass = mass;
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) d->conditions[i].choice_logprob = l.is_usable ? sums[i] : -log(N_OPTIONS);
        d->choice_other = l.is_usable ? sums[OTHER] : -log(N_OPTIONS);
    }
    galen_tokens_free(&l.common);
    return st;
}
