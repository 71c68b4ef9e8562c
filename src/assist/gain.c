/* What the answer to a question would tell. For each of the five, and for another condition, the model is read: in a patient who
 * has it, is the answer yes? From the six probabilities and the confidences follows the mutual information of answer and
 * condition, which is the entropy that the answer is expected to remove. */
#include <math.h>
#include <string.h>

#include "assist/case.h"

#define P_LEAST      0.05 /* no answer is impossible, and none certain: so no question decides alone */
#define MISSING_LEAD 0.1  /* a finding is typical when yes is so much likelier than with the average of the six */
#define MISSING_P    0.5

static double bounded(double p) {
    return p < P_LEAST ? P_LEAST : p > 1 - P_LEAST ? 1 - P_LEAST : p;
}

static galen_status read_yes(galen_assistant *a, const char *question, const char *condition, double *p, galen_error *err) {
    galen_tokens t = {0};
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = a->c.field, [FIELD_QUESTION] = question, [FIELD_CONDITION] = condition}};
    galen_status st = edge_prompt(a, PROMPT_YES, &v, &t, err);
    if (!st) st = edge_fits(a, t.n, 0, "symptoms and question make", err);
    if (!st)
        st = edge_read(a, &t, a->rows, err);
    else
        galen_tokens_free(&t);
    if (st) return st;
    *p = bounded(1 / (1 + exp(-score_odds(a, a->rows))));
    a->usage.n_scored++;
    return GALEN_OK;
}

/* Confidences by order of writing, other last. */
static void confidences(const galen_differential *d, double p[N_OPTIONS]) {
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) p[d->conditions[i].order] = d->conditions[i].confidence;
    p[OTHER] = d->other;
}

void gain_update(galen_assistant *a, asked *q) {
    double p[N_OPTIONS];
    if (!q->is_read) return;
    confidences(&a->found, p);
    q->q.bits = rank_gain(p, q->p_yes, N_OPTIONS);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) q->q.p_yes[i] = q->p_yes[a->found.conditions[i].order];
    q->q.p_yes_other = q->p_yes[OTHER];
}

galen_status gain_read(galen_assistant *a, asked *q, galen_error *err) {
    const double start = assist_now_s();
    galen_status st = GALEN_OK;
    for (int i = 0; i < GALEN_N_CONDITIONS && !st; i++) {
        const galen_condition *c = &a->found.conditions[i];
        st = read_yes(a, q->q.text, c->name, &q->p_yes[c->order], err);
    }
    if (!st) st = read_yes(a, q->q.text, GAIN_ANOTHER, &q->p_yes[OTHER], err);
    q->is_read = !st;
    gain_update(a, q);
    a->usage.score_s += assist_now_s() - start;
    return st;
}

static const asked *find(const case_file *c, const char *text) {
    for (int32_t i = 0; i < c->n_list; i++) {
        if (strcmp(c->list[i].q.text, text) == 0) return &c->list[i];
    }
    return NULL;
}

static bool is_typical(const asked *q, int32_t order) {
    double sum = 0;
    for (int k = 0; k < N_OPTIONS; k++) sum += q->p_yes[k];
    return q->p_yes[order] >= MISSING_P && q->p_yes[order] >= sum / N_OPTIONS + MISSING_LEAD;
}

void gain_missing(galen_assistant *a) {
    for (int k = 0; k < GALEN_N_CONDITIONS; k++) a->found.conditions[k].missing = 0;
    for (int i = 0; i < GALEN_N_QUESTIONS; i++) {
        const asked *q = find(&a->c, a->written.questions[i].text);
        if (!q || q->is_answered) continue;
        for (int k = 0; k < GALEN_N_CONDITIONS; k++) {
            if (is_typical(q, a->found.conditions[k].order)) a->found.conditions[k].missing |= 1u << i;
        }
    }
}
