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

/* The prompts of one question, by condition.order. */
static galen_status begin_looks(galen_assistant *a, const asked *q, look looks[N_OPTIONS], galen_error *err) {
    galen_status st = GALEN_OK;
    for (int i = 0; i < N_OPTIONS && !st; i++) {
        const galen_condition *c = i < OTHER ? &a->found.conditions[i] : NULL;
        const prompt_values v = {
            .of = {[FIELD_SYMPTOMS] = a->c.field, [FIELD_QUESTION] = q->q.text, [FIELD_CONDITION] = c ? c->name : GAIN_ANOTHER}};
        st = edge_look_at(a, PROMPT_YES, &v, "symptoms and question make", &looks[c ? c->order : OTHER], err);
    }
    return st;
}

static galen_status read_yes(galen_assistant *a, asked *q, galen_error *err) {
    double logprobs[N_OPTIONS][ODDS_IDS];
    look looks[N_OPTIONS] = {{.from = 0}};
    galen_status st = begin_looks(a, q, looks, err);
    for (int i = 0; i < N_OPTIONS; i++) {
        looks[i].ids = a->odds_ids;
        looks[i].n_ids = score_n_odds(a);
        looks[i].out = logprobs[i];
    }
    if (!st && score_n_odds(a))
        st = edge_look(a, looks, N_OPTIONS, err);
    else
        looks_free(looks, N_OPTIONS);
    for (int i = 0; i < N_OPTIONS && !st; i++) q->p_yes[i] = bounded(1 / (1 + exp(-score_odds(a, logprobs[i]))));
    return st;
}

galen_status gain_read(galen_assistant *a, asked *q, galen_error *err) {
    const galen_status st = read_yes(a, q, err);
    q->is_read = !st;
    gain_update(a, q);
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
