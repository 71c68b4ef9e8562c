/* From log-probabilities to confidences. Arithmetic alone: the same numbers give the same ranking, and anybody can do it again
 * from the numbers in the JSON.
 *
 *   c_i   softmax of the letters' mean log-probabilities, over the five and "other": the mean over all six cyclic orders, in
 * which each option has each letter and each place once, so that a liking for a letter or a place is the same summand in all six
 * and the softmax drops it r_i   softmax over the five of (name_logprob - name_prior): how much likelier the complaint makes the
 * name t_i   log of P(the user's words | a patient with i) against the average of the five, over the square root of the words'
 * tokens: the tokens of a text are far from independent. 0 for "other" p_i ~ (c_i^(1-w) * ((1 - c_other) r_i)^w * e^(v
 * t_i))^(1/T),  p_other ~ c_other^(1/T):   prior, before any answer p_i * exp(sum of the answers' log-likelihoods), normalised:
 * confidence */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"

#define LOG_LEAST (-60.0) /* a condition is never put at zero */

/* In place: log weights to probabilities that sum to 1. */
static void softmax(double *l, int32_t n) {
    double most = l[0], sum = 0;
    for (int32_t i = 1; i < n; i++) most = l[i] > most ? l[i] : most;
    for (int32_t i = 0; i < n; i++) {
        l[i] = exp(l[i] - most > LOG_LEAST ? l[i] - most : LOG_LEAST);
        sum += l[i];
    }
    for (int32_t i = 0; i < n; i++) l[i] /= sum;
}

/* log of the mean of exp(l). */
static double log_mean(const double *l, int32_t n) {
    double most = l[0], sum = 0;
    for (int32_t i = 1; i < n; i++) most = l[i] > most ? l[i] : most;
    for (int32_t i = 0; i < n; i++) sum += exp(l[i] - most);
    return most + log(sum / n);
}

static int by_confidence(const void *pa, const void *pb) {
    const galen_condition *a = pa, *b = pb;
    if (a->confidence != b->confidence) return a->confidence > b->confidence ? -1 : 1;
    return a->order - b->order;
}

double rank_entropy(const double *p, int32_t n) {
    double h = 0;
    for (int32_t i = 0; i < n; i++) h -= p[i] > 0 ? p[i] * log2(p[i]) : 0;
    return h > 0 ? h : 0;
}

double rank_gain(const double *p, const double *p_yes, int32_t n) {
    double yes[N_OPTIONS], no[N_OPTIONS], sum_yes = 0, sum_no = 0;
    for (int32_t i = 0; i < n; i++) {
        yes[i] = p[i] * p_yes[i];
        no[i] = p[i] - yes[i];
        sum_yes += yes[i];
        sum_no += no[i];
    }
    for (int32_t i = 0; i < n; i++) {
        yes[i] = sum_yes > 0 ? yes[i] / sum_yes : 0;
        no[i] = sum_no > 0 ? no[i] / sum_no : 0;
    }
    const double gain = rank_entropy(p, n) - sum_yes * rank_entropy(yes, n) - sum_no * rank_entropy(no, n);
    return gain > 0 ? gain : 0; /* below zero only by rounding */
}

/* Logs of the names' and the texts' part, by place in d->conditions. */
static void log_parts(const galen_differential *d, double names[GALEN_N_CONDITIONS], double texts[GALEN_N_CONDITIONS]) {
    double mean[GALEN_N_CONDITIONS];
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        names[i] = d->conditions[i].name_logprob - d->conditions[i].name_prior;
        texts[i] = mean[i] = d->conditions[i].text_logprob;
    }
    const double average = log_mean(mean, GALEN_N_CONDITIONS), scale = d->n_text > 0 ? 1 / sqrt(d->n_text) : 0;
    softmax(names, GALEN_N_CONDITIONS);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        names[i] = log(names[i]);
        texts[i] = (texts[i] - average) * scale;
    }
}

/* log p of the six, not normalised. By place in d->conditions; other last. */
static void log_priors(const galen_differential *d, const galen_calibration *k, double out[N_OPTIONS]) {
    double names[GALEN_N_CONDITIONS], texts[GALEN_N_CONDITIONS], choice[N_OPTIONS], five = 0;
    const double w = d->has_choice ? k->name_weight : 1.0;
    log_parts(d, names, texts);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) choice[i] = d->conditions[i].choice_logprob;
    choice[OTHER] = d->choice_other;
    softmax(choice, N_OPTIONS);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) five += choice[i]; /* 1 - choice[OTHER], without its rounding to 0 */
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        out[i] = ((1 - w) * log(choice[i]) + w * (log(five) + names[i]) + k->text_weight * texts[i]) / k->temperature;
    out[OTHER] = log(choice[OTHER]) / k->temperature + k->other_bias;
}

void rank_conditions(galen_differential *d, const galen_calibration *k, const double likelihood[N_OPTIONS]) {
    double prior[N_OPTIONS], now[N_OPTIONS];
    log_priors(d, k, prior);
    for (int i = 0; i < N_OPTIONS; i++) now[i] = prior[i] + likelihood[i < OTHER ? d->conditions[i].order : OTHER];
    softmax(prior, N_OPTIONS);
    softmax(now, N_OPTIONS);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        d->conditions[i].prior = prior[i];
        d->conditions[i].confidence = now[i];
    }
    d->other = now[OTHER];
    d->entropy_bits = rank_entropy(now, N_OPTIONS);
    qsort(d->conditions, GALEN_N_CONDITIONS, sizeof d->conditions[0], by_confidence);
}

void rank_signals(galen_differential *d) {
    const galen_condition *first = &d->conditions[0];
    d->disagreement = 0;
    d->agreement = d->n_samples ? (double)first->n_votes / d->n_samples : -1;
    int32_t n_first = first->n_votes, n_voted = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *c = &d->conditions[i];
        if (c->name_logprob - c->name_prior > first->name_logprob - first->name_prior) d->disagreement |= GALEN_DISAGREE_NAMES;
        if (c->n_votes > n_first) d->disagreement |= GALEN_DISAGREE_SAMPLES;
        if (c->evidence_bits > first->evidence_bits && c->evidence_bits >= EVIDENCE_BITS)
            d->disagreement |= GALEN_DISAGREE_EVIDENCE;
        n_voted += c->n_votes;
    }
    if (2 * n_voted < d->n_samples) d->disagreement |= GALEN_DISAGREE_SAMPLES;
}
