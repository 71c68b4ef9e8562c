/* Only items near the best are gathered, as many as top-k, top-p and min-p can reach; they are kept in a heap ordered by
 * (logit, then lower id) and popped in order, so a large vocabulary is never sorted, nor even copied whole. */
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

galen_sampling galen_sampling_default(void) {
    return (galen_sampling){.size = sizeof(galen_sampling),
                            .temperature = 0.8f,
                            .top_k = 40,
                            .top_p = 0.95f,
                            .min_p = 0.05f,
                            .repeat_penalty = 1.0f,
                            .penalty_last_n = 64};
}

/* ---------------------------------------------------------------- options */

static galen_status check_range(const char *name, float v, float min, float max, galen_error *err) {
    if (v >= min && v <= max) return GALEN_OK; /* NaN fails */
    return galen_fail(err, GALEN_E_ARG, 0, "%s: %g, expected %g to %g", name, (double)v, (double)min, (double)max);
}

galen_status sampling_check(const galen_sampling *o, int32_t n_vocab, galen_error *err) {
    galen_status st;
    if ((st = check_range("temperature", o->temperature, 0.0f, 1e6f, err))) return st;
    if ((st = check_range("top_p", o->top_p, 0.0f, 1.0f, err))) return st;
    if ((st = check_range("min_p", o->min_p, 0.0f, 1.0f, err))) return st;
    if ((st = check_range("repeat_penalty", o->repeat_penalty, 1e-6f, 1e6f, err))) return st;
    if ((st = check_range("presence_penalty", o->presence_penalty, -1e6f, 1e6f, err))) return st;
    if ((st = check_range("frequency_penalty", o->frequency_penalty, -1e6f, 1e6f, err))) return st;
    if (o->top_k < 0) return galen_fail(err, GALEN_E_ARG, 0, "top_k: %d, expected 0 or more", o->top_k);
    if (o->penalty_last_n < -1)
        return galen_fail(err, GALEN_E_ARG, 0, "penalty_last_n: %d, expected -1 or more", o->penalty_last_n);
    for (size_t i = 0; i < o->n_bias; i++) {
        const galen_logit_bias *b = &o->bias[i];
        if (b->id < 0 || b->id >= n_vocab)
            return galen_fail(err, GALEN_E_ARG, 0, "logit_bias: token %d, expected 0 to %d", b->id, n_vocab - 1);
        if (isnan(b->bias) || b->bias == INFINITY)
            return galen_fail(err, GALEN_E_ARG, 0, "logit_bias of token %d: %g, expected a number or -inf", b->id,
                              (double)b->bias);
    }
    return GALEN_OK;
}

galen_status sampler_open(sampler *s, int32_t n_vocab, galen_error *err) {
    *s = (sampler){.n_vocab = n_vocab};
    s->logits = calloc((size_t)n_vocab, sizeof *s->logits);
    s->items = calloc((size_t)n_vocab, sizeof *s->items);
    s->counts = calloc((size_t)n_vocab, sizeof *s->counts);
    if (s->logits && s->items && s->counts) return GALEN_OK;
    sampler_close(s);
    return galen_fail(err, GALEN_E_NOMEM, 0, "sampler of %d tokens", n_vocab);
}

void sampler_close(sampler *s) {
    free(s->logits);
    free(s->items);
    free(s->counts);
    *s = (sampler){0};
}

/* ---------------------------------------------------------------- heap */

static bool is_before(sampler_item a, sampler_item b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(sampler_item *h, int32_t n, int32_t i) {
    const sampler_item x = h[i];
    for (;;) {
        int32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && is_before(h[child + 1], h[child])) child++;
        if (!is_before(h[child], x)) break;
        h[i] = h[child];
        i = child;
    }
    h[i] = x;
}

static void heapify(sampler_item *h, int32_t n) {
    for (int32_t i = n / 2 - 1; i >= 0; i--) sift_down(h, n, i);
}

/* Move the best of h[0..n) to h[n-1]: popped items collect at the end, best last. */
static void pop(sampler_item *h, int32_t n) {
    const sampler_item best = h[0];
    h[0] = h[n - 1];
    sift_down(h, n - 1, 0);
    h[n - 1] = best;
}

/* ---------------------------------------------------------------- the chain */

static bool is_penalised(const galen_sampling *o) {
    return o->repeat_penalty != 1.0f || o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f;
}

static void penalise(sampler *s, const galen_sampling *o, const int32_t *history, int32_t n_history) {
    const int32_t n = o->penalty_last_n < 0 || o->penalty_last_n > n_history ? n_history : o->penalty_last_n;
    const int32_t *window = history + n_history - n;
    for (int32_t i = 0; i < n; i++) s->counts[window[i]]++;
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = window[i], count = s->counts[id];
        if (!count) continue; /* done with its first occurrence */
        s->counts[id] = 0;
        float *l = &s->logits[id];
        *l = *l <= 0 ? *l * o->repeat_penalty : *l / o->repeat_penalty;
        *l -= (float)count * o->frequency_penalty + o->presence_penalty;
    }
}

/* The logits to choose by: those given, or a copy with bias and penalties, -inf outside the mask. */
static const float *adjust(sampler *s, const galen_sampling *o, const float *logits, const int32_t *history, int32_t n_history,
                           const uint32_t *mask) {
    if (o->n_bias == 0 && !is_penalised(o) && !mask) return logits;
    memcpy(s->logits, logits, (size_t)s->n_vocab * sizeof *logits);
    for (size_t i = 0; i < o->n_bias; i++) s->logits[o->bias[i].id] += o->bias[i].bias;
    if (is_penalised(o)) penalise(s, o, history, n_history);
    for (int32_t i = 0; mask && i < s->n_vocab; i++) {
        const uint32_t word = mask[i / 32];
        if (word == UINT32_MAX && i % 32 == 0)
            i += 31; /* all of them */
        else if (!(word >> (i % 32) & 1))
            s->logits[i] = -INFINITY;
    }
    return s->logits;
}

/* The lowest id of the largest; eight chains, so that the loop is not one long wait. */
static int32_t largest(const float *x, int32_t n) {
    enum { WAYS = 8 };
    float max[WAYS];
    for (int j = 0; j < WAYS; j++) max[j] = -INFINITY;
    int32_t i = 0;
    for (; i + WAYS <= n; i += WAYS)
        for (int j = 0; j < WAYS; j++) max[j] = x[i + j] > max[j] ? x[i + j] : max[j];
    for (; i < n; i++) max[0] = x[i] > max[0] ? x[i] : max[0];
    float best = max[0];
    for (int j = 1; j < WAYS; j++) best = max[j] > best ? max[j] : best;
    for (i = 0; i < n - 1 && x[i] != best; i++) continue;
    return i;
}

/* All items of at least the logit low, in order of ids; never one that is forbidden. */
static int32_t gather(sampler *s, const float *logits, float low) {
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (logits[i] >= low && logits[i] > -INFINITY) s->items[n++] = (sampler_item){.logit = logits[i], .id = i};
    return n;
}

static double mass_of(const float *logits, int32_t n, double max) {
    double mass = 0;
    for (int32_t i = 0; i < n; i++) mass += exp((double)logits[i] - max);
    return mass;
}

static double mass_of_items(const sampler_item *items, int32_t n, double max) {
    double mass = 0;
    for (int32_t i = 0; i < n; i++) mass += exp((double)items[i].logit - max);
    return mass;
}

/* Keep what top-k, top-p and min-p keep: *kept items at the pointer returned, best last. Without a filter, all, any order. */
static const sampler_item *filter(sampler *s, const galen_sampling *o, const float *logits, float best, int32_t *kept) {
    static const float reach[] = {8.0f, 20.0f, INFINITY}; /* how far below the best to look: a second look is rare */
    const int32_t k = o->top_k && o->top_k < s->n_vocab ? o->top_k : s->n_vocab;
    const bool is_top_k = k < s->n_vocab, is_filtered = is_top_k || o->top_p < 1.0f || o->min_p > 0.0f;
    const double max = (double)best;
    double mass = is_filtered && !is_top_k && o->top_p < 1.0f ? mass_of(logits, s->n_vocab, max) : 0, taken = 0;
    int32_t n = 0, n_popped = 0, n_kept = 0;
    for (size_t i = is_filtered ? 0 : 2; i < sizeof reach / sizeof *reach; i++) {
        n = gather(s, logits, best - reach[i]);
        if (is_top_k ? n >= k : exp(1.0 - (double)reach[i]) < (double)o->min_p) break; /* by a margin */
        if (!is_top_k && o->top_p < 1.0f && mass_of_items(s->items, n, max) >= (double)o->top_p * mass) break;
    }
    *kept = n;
    if (!is_filtered) return s->items;
    heapify(s->items, n);
    const sampler_item *end = s->items + n;
    if (is_top_k) {
        while (n_popped < k && n_popped < n) pop(s->items, n - n_popped++);
        for (int32_t i = 1; i <= n_popped; i++) mass += exp((double)end[-i].logit - max);
    }
    while (n_kept < k && n_kept < n) {
        if (n_kept == n_popped) pop(s->items, n - n_popped++);
        const double p = exp((double)end[-1 - n_kept].logit - max);
        if (n_kept > 0 && p < (double)o->min_p) break; /* relative to the best, whose p is 1 */
        if (n_kept > 0 && o->top_p < 1.0f && taken >= (double)o->top_p * mass) break;
        taken += p;
        n_kept++;
    }
    *kept = n_kept;
    return end - n_kept;
}

static int32_t best_item(const sampler_item *items, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (is_before(items[i], items[best])) best = i;
    return best;
}

/* Draw from n items at the temperature: the first whose cumulative weight exceeds u times the whole. */
static int32_t draw(const sampler_item *items, int32_t n, float temperature, double u) {
    const double max = (double)items[best_item(items, n)].logit, t = (double)temperature;
    double sum = 0, cumulative = 0;
    for (int32_t i = 0; i < n; i++) sum += exp(((double)items[i].logit - max) / t);
    for (int32_t i = n - 1; i > 0; i--) { /* best first */
        cumulative += exp(((double)items[i].logit - max) / t);
        if (cumulative > u * sum) return items[i].id;
    }
    return items[0].id;
}

galen_status sampler_choose(sampler *s, const galen_sampling *o, const float *logits, const int32_t *history, int32_t n_history,
                            const uint32_t *mask, int32_t *id, galen_error *err) {
    logits = adjust(s, o, logits, history, n_history, mask);
    *id = largest(logits, s->n_vocab);
    const float best = logits[*id];
    if (!isfinite(best))
        return galen_fail(err, GALEN_E_NUMERIC, 0, "every token is forbidden%s", mask ? " by the grammar or a bias" : "");
    if (o->temperature <= 0.0f) return GALEN_OK;
    int32_t kept;
    const sampler_item *items = filter(s, o, logits, best, &kept);
    *id = draw(items, kept, o->temperature, rng_uniform(o->seed, 0, (uint64_t)n_history));
    return GALEN_OK;
}

/* ---------------------------------------------------------------- log-probabilities */

double log_sum_exp(const float *logits, int32_t n) {
    const double max = (double)logits[largest(logits, n)];
    return max + log(mass_of(logits, n, max));
}

float logprobs_of(const float *logits, int32_t n_vocab, int32_t id, int32_t n, int32_t *top_ids, float *top) {
    const double log_sum = log_sum_exp(logits, n_vocab);
    int32_t n_top = 0;
    for (int32_t i = 0; i < n_vocab && n > 0; i++) { /* insertion into a short sorted list */
        if (n_top == n && logits[i] <= top[n - 1]) continue;
        int32_t at = n_top < n ? n_top++ : n - 1;
        for (; at > 0 && logits[i] > top[at - 1]; at--) {
            top[at] = top[at - 1];
            top_ids[at] = top_ids[at - 1];
        }
        top[at] = logits[i];
        top_ids[at] = i;
    }
    for (int32_t i = 0; i < n_top; i++) top[i] = (float)((double)top[i] - log_sum);
    return (float)((double)logits[id] - log_sum);
}
