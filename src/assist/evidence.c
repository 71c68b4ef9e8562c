/* Which of the user's words speak for which condition. For each condition the model is asked to describe a patient who has it,
 * and the user's own text is put into its mouth: the log-probability of every token is read, and summed over clauses. A clause
 * that is likelier from a patient with this condition than from one with the average of the five is evidence for it: log2 of that
 * ratio is a Bayes factor in bits. The quotes are the clauses themselves, so that an offset is a substring of what was written,
 * always. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/clauses.h"
#include "base/error.h"

/* The text as the model reads it, its tokens, and which clause each belongs to. */
typedef struct reading {
    clause clauses[MAX_CLAUSES];
    int32_t n_clauses;
    galen_tokens t;
    int32_t of[EVIDENCE_TOKENS];                      /* clause of each token; -1: none */
    int32_t n;                                        /* tokens read: at most EVIDENCE_TOKENS */
    double each[GALEN_N_CONDITIONS][EVIDENCE_TOKENS]; /* log-probabilities of the tokens */
    double bits[GALEN_N_CONDITIONS][MAX_CLAUSES];
} reading;

/* A token belongs to the clause that holds its first byte that is no blank. */
static void assign(const galen_assistant *a, reading *r) {
    const char *field = a->c.field;
    const size_t n_field = strlen(field);
    size_t at = 0;
    r->n = r->t.n < EVIDENCE_TOKENS ? (int32_t)r->t.n : EVIDENCE_TOKENS;
    for (int32_t i = 0; i < r->n; i++) {
        char b[128];
        int32_t n = galen_token_bytes(a->m, r->t.ids[i], true, b, sizeof b);
        n = n < 0 ? 0 : n;
        if (i == 0 && n > 1 && n <= (int32_t)sizeof b && b[0] == ' ' && field[0] != ' ') n--; /* a blank put in front */
        size_t first = at;
        while (first < n_field && first + 1 < at + (size_t)n && field[first] == ' ') first++;
        const size_t where = a->c.field_at[first < n_field ? first : n_field];
        r->of[i] = -1;
        for (int32_t c = 0; c < r->n_clauses; c++) {
            if (where >= r->clauses[c].from && where < r->clauses[c].to) r->of[i] = c;
        }
        at += (size_t)n;
        if (at > n_field) at = n_field;
    }
    /* A clause that is read in part only is no evidence. */
    if (r->n < (int32_t)r->t.n) {
        const size_t end = a->c.field_at[at];
        while (r->n_clauses && r->clauses[r->n_clauses - 1].to > end) r->n_clauses--;
    }
}

static galen_status begin_look(galen_assistant *a, const reading *r, const char *name, look *out, galen_error *err) {
    const prompt_values v = {.of = {[FIELD_CONDITION] = name}};
    const galen_tokens words = {.ids = r->t.ids, .n = (size_t)r->n};
    galen_status st = edge_prompt(a, PROMPT_PATIENT, &v, &out->t, err);
    if (!st) st = edge_fits(a, out->t.n, words.n, "a condition's patient makes", err);
    out->from = (int32_t)out->t.n;
    return st ? st : prompt_append(&out->t, &words, err);
}

/* The person's words from a patient with each of the five. */
static galen_status read_words(galen_assistant *a, galen_differential *d, reading *r, galen_error *err) {
    look looks[GALEN_N_CONDITIONS] = {{.from = 0}};
    galen_status st = GALEN_OK;
    for (int i = 0; i < GALEN_N_CONDITIONS && !st; i++) {
        looks[i].out = r->each[i];
        st = begin_look(a, r, d->conditions[i].name, &looks[i], err);
    }
    if (st) {
        looks_free(looks, GALEN_N_CONDITIONS);
        return st;
    }
    st = edge_look(a, looks, GALEN_N_CONDITIONS, err);
    for (int i = 0; i < GALEN_N_CONDITIONS && !st; i++) {
        d->conditions[i].text_logprob = 0;
        for (int32_t k = 0; k < r->n; k++) {
            d->conditions[i].text_logprob += r->each[i][k];
            if (r->of[k] >= 0 && r->of[k] < r->n_clauses) r->bits[i][r->of[k]] += r->each[i][k] / M_LN2;
        }
    }
    return st;
}

/* Log-probabilities of a clause by condition to Bayes factors against their average. */
static void against_average(reading *r) {
    for (int32_t c = 0; c < r->n_clauses; c++) {
        double most = r->bits[0][c], sum = 0;
        for (int i = 1; i < GALEN_N_CONDITIONS; i++) most = r->bits[i][c] > most ? r->bits[i][c] : most;
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) sum += exp2(r->bits[i][c] - most);
        const double average = most + log2(sum / GALEN_N_CONDITIONS);
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) r->bits[i][c] -= average;
    }
}

static int by_strength(const void *pa, const void *pb) {
    const galen_evidence *a = pa, *b = pb;
    const double x = fabs(a->bits), y = fabs(b->bits);
    if (x != y) return x > y ? -1 : 1;
    return (a->from > b->from) - (a->from < b->from);
}

static void quote(const reading *r, const double bits[MAX_CLAUSES], galen_condition *d) {
    galen_evidence all[MAX_CLAUSES];
    d->evidence_bits = 0;
    for (int32_t c = 0; c < r->n_clauses; c++) {
        all[c] = (galen_evidence){.from = r->clauses[c].from, .to = r->clauses[c].to, .bits = bits[c]};
        d->evidence_bits += bits[c];
    }
    qsort(all, (size_t)r->n_clauses, sizeof all[0], by_strength);
    for (int32_t c = 0; c < r->n_clauses; c++) {
        if (all[c].bits >= EVIDENCE_BITS && d->n_support < GALEN_MAX_EVIDENCE) d->support[d->n_support++] = all[c];
        if (all[c].bits <= -EVIDENCE_BITS && d->n_against < GALEN_MAX_EVIDENCE) d->against[d->n_against++] = all[c];
    }
}

galen_status evidence_find(galen_assistant *a, galen_differential *d, galen_error *err) {
    reading *r = calloc(1, sizeof *r);
    if (!r) return galen_fail(err, GALEN_E_NOMEM, 0, "evidence");
    r->n_clauses = clauses_find(a->c.text, a->c.n_symptoms, r->clauses, MAX_CLAUSES);
    galen_status st = galen_tokenize(a->m, a->c.field, strlen(a->c.field), false, false, &r->t, err);
    if (!st) assign(a, r);
    if (!st && r->n) st = read_words(a, d, r, err);
    if (!st) {
        d->n_text = r->n;
        against_average(r);
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) quote(r, r->bits[i], &d->conditions[i]);
    }
    galen_tokens_free(&r->t);
    free(r);
    return st;
}
