#include "eval/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

const int32_t eval_steps[EVAL_N_STEPS] = {0, 1, 3, 5, 10};

static void count(eval_share *s, bool is_hit) {
    s->hits += is_hit;
    s->n++;
}

static void finish(eval_share *s) {
    s->i = stats_wilson(s->hits, s->n);
}

/* ------------------------------------------------------------ triage */

static int32_t label_of(const eval_row *r) {
    return r->tier >= 0 ? r->tier : r->least >= 0 ? CASE_N_TIERS + r->least : EVAL_N_LABELS - 1;
}

const char *eval_label_name(int32_t label) {
    static const char *const levels[EVAL_N_LEVELS] = {"level self_care", "level consultation", "level consultation_24",
                                                      "level emergency", "level emergency_ambulance"};
    if (label < CASE_N_TIERS) return case_tiers[label].name;
    return label < EVAL_N_LABELS - 1 ? levels[label - CASE_N_TIERS] : "no label";
}

static void count_level(eval_triage *t, const eval_row *r, int32_t level) {
    eval_label *l = &t->labels[label_of(r)];
    const bool is_escalated = level >= (int32_t)GALEN_TRIAGE_CONSULTATION_24;
    l->n++;
    l->at[level]++;
    count(&l->escalated, is_escalated);
    if (r->least < 0) return;
    count(&l->reached, level >= r->least);
    count(&l->over, level > r->most);
    count(&t->under, level < r->least);
    count(&t->over, level > r->most);
    count(&t->far_under, level + 1 < r->least);
    if (r->least >= (int32_t)GALEN_TRIAGE_CONSULTATION_24) count(&t->sensitivity, is_escalated);
    if (r->most < (int32_t)GALEN_TRIAGE_CONSULTATION_24) count(&t->false_alarms, is_escalated);
}

static void finish_triage(eval_triage *t) {
    for (int i = 0; i < EVAL_N_LABELS; i++) {
        finish(&t->labels[i].escalated);
        finish(&t->labels[i].reached);
        finish(&t->labels[i].over);
    }
    finish(&t->sensitivity);
    finish(&t->false_alarms);
    finish(&t->under);
    finish(&t->over);
    finish(&t->far_under);
}

static void count_categories(eval_report *out, const eval_row *r) {
    for (int32_t i = 0; i < r->n_categories; i++) {
        int32_t k = 0;
        while (k < out->n_categories && strcmp(out->categories[k].name, r->categories[i]) != 0) k++;
        if (k == EVAL_MAX_CATEGORIES) {
            out->n_categories_left_out++;
            continue;
        }
        if (k == out->n_categories) memcpy(out->categories[out->n_categories++].name, r->categories[i], CASE_CATEGORY_BYTES);
        count(&out->categories[k].escalated, r->level >= (int32_t)GALEN_TRIAGE_CONSULTATION_24);
    }
}

/* ------------------------------------------------------------ the list and the questions */

static void count_ranks(eval_report *out, const eval_row *r) {
    static const int32_t within[3] = {1, 3, 5};
    for (int i = 0; i < 3; i++) {
        count(&out->name[i], r->name_rank && r->name_rank <= within[i]);
        if (r->expected_code[0]) count(&out->category[i], r->category_rank && r->category_rank <= within[i]);
    }
}

static void count_loop(eval_loop *l, const eval_questions *q) {
    const bool was_first = q->start_rank == 1, is_first = q->end_rank == 1;
    if (q->status == EVAL_REFUSED || q->status == EVAL_TOO_LONG) l->n_refused++;
    if (q->status != EVAL_DONE) return;
    l->n++;
    for (int i = 0; i < EVAL_N_STEPS; i++) count(&l->by[i], q->reached >= 0 && q->reached <= eval_steps[i]);
    count(&l->in_five, q->start_rank > 0);
    count(&l->at_start, was_first);
    count(&l->at_end, is_first);
    l->moved.both += was_first && is_first;
    l->moved.only_first += is_first && !was_first;
    l->moved.only_second += was_first && !is_first;
    l->moved.neither += !was_first && !is_first;
    l->n_never += q->reached < 0;
    l->n_asked += q->n_asked;
    l->n_yes += q->n_yes;
    l->n_no += q->n_no;
    l->n_unknown += q->n_unknown;
    l->stops[q->stop]++;
}

static void finish_loop(eval_loop *l) {
    for (int i = 0; i < EVAL_N_STEPS; i++) finish(&l->by[i]);
    finish(&l->in_five);
    finish(&l->at_start);
    finish(&l->at_end);
    l->gain = stats_paired_difference(&l->moved);
    l->p = stats_mcnemar(&l->moved);
}

/* ------------------------------------------------------------ spreads and calibration */

static eval_spread spread(double *v, int32_t n) {
    return (eval_spread){
        .n = n, .median = stats_quantile(v, n, 0.5), .low = stats_quantile(v, n, 0.05), .high = stats_quantile(v, n, 0.95)};
}

static void make_spreads(const eval_row *rows, int32_t n, double *v, eval_report *out) {
    int32_t n_done = 0, n_asked = 0, n_reached = 0;
    for (int32_t i = 0; i < n; i++) v[i] = rows[i].rules_s;
    out->rules_s = spread(v, n);
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].status == EVAL_DONE) v[n_done++] = rows[i].first_s;
    }
    out->first_s = spread(v, n_done);
    n_done = 0;
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].status == EVAL_DONE) v[n_done++] = rows[i].ranked_s;
    }
    out->ranked_s = spread(v, n_done);
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].questions.status == EVAL_DONE) v[n_asked++] = rows[i].questions.seconds;
    }
    out->questions_s = spread(v, n_asked);
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].questions.status == EVAL_DONE && rows[i].questions.reached > 0) v[n_reached++] = rows[i].questions.reached;
    }
    out->loop.reached = spread(v, n_reached);
}

static galen_status calibrate(const eval_row *rows, int32_t n, const eval_head *head, fit_case *seen, eval_report *out,
                              galen_error *err) {
    const galen_calibration none = galen_calibration_none();
    const galen_calibration *k = head->calibration.n_cases ? &head->calibration : &none;
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++) {
        if (rows[i].status == EVAL_DONE && rows[i].expected[0]) seen[m++] = rows[i].scores;
    }
    out->n_scored = m;
    out->is_calibrated = k != &none;
    if (!m) return GALEN_OK;
    fit_bins(seen, m, k, out->bins);
    fit_bins(seen, m, &none, out->raw_bins);
    const galen_status st = fit_measure(seen, m, k, head->seed, &out->shown, err);
    return st ? st : fit_measure(seen, m, &none, head->seed, &out->raw, err);
}

static void count_row(eval_report *out, const eval_row *r) {
    out->n_diagnosis += r->expected[0] != '\0';
    out->n_coded += r->expected_code[0] != '\0';
    out->n_labelled += r->least >= 0;
    out->n_unlabelled += r->least < 0 && !r->expected[0];
    out->n_listed += r->status == EVAL_DONE;
    out->n_refused += r->status == EVAL_REFUSED;
    out->n_too_long += r->status == EVAL_TOO_LONG;
    count_level(&out->rules, r, r->level);
    if (r->status == EVAL_DONE) count_level(&out->model, r, r->model_level);
    if (r->status == EVAL_DONE && r->expected[0]) count_ranks(out, r);
    count_categories(out, r);
    count_loop(&out->loop, &r->questions);
}

galen_status eval_report_make(const eval_row *rows, int32_t n, const eval_head *head, eval_report *out, galen_error *err) {
    *out = (eval_report){.n = n};
    double *v = calloc((size_t)n + 1, sizeof *v);
    fit_case *seen = calloc((size_t)n + 1, sizeof *seen);
    if (!v || !seen) {
        free(v);
        free(seen);
        return galen_fail(err, GALEN_E_NOMEM, 0, "a report of %d cases", n);
    }
    for (int32_t i = 0; i < n; i++) count_row(out, &rows[i]);
    for (int i = 0; i < 3; i++) {
        finish(&out->name[i]);
        finish(&out->category[i]);
    }
    for (int32_t i = 0; i < out->n_categories; i++) finish(&out->categories[i].escalated);
    out->has_model_triage = out->n_listed > 0;
    finish_triage(&out->rules);
    finish_triage(&out->model);
    finish_loop(&out->loop);
    make_spreads(rows, n, v, out);
    const galen_status st = calibrate(rows, n, head, seen, out, err);
    free(v);
    free(seen);
    return st;
}

/* ------------------------------------------------------------ two runs */

typedef struct keyed {
    const eval_row *row;
} keyed;

static int by_key(const void *pa, const void *pb) {
    const keyed *a = pa, *b = pb;
    return strcmp(a->row->key, b->row->key);
}

static keyed *sorted(const eval_row *rows, int32_t n) {
    keyed *v = calloc((size_t)n + 1, sizeof *v);
    for (int32_t i = 0; i < n && v; i++) v[i].row = &rows[i];
    if (v) qsort(v, (size_t)n, sizeof *v, by_key);
    return v;
}

/* What a run has of a case: 1 or 0, or -1 when it was not measured. */
static int outcome(const eval_row *r, int which) {
    static const int32_t within[4] = {1, 5, 1, 5};
    if (which < 4) {
        const int32_t rank = which < 2 ? r->category_rank : r->name_rank;
        const bool is_measured = r->status == EVAL_DONE && (which < 2 ? r->expected_code[0] : r->expected[0]);
        return is_measured ? rank > 0 && rank <= within[which] : -1;
    }
    if (which == 4) return r->least < 0 ? -1 : r->model_level >= r->least;
    return r->questions.status == EVAL_DONE ? r->questions.end_rank == 1 : -1;
}

static void count_pair(eval_comparison *out, const eval_row *a, const eval_row *b) {
    out->n_both++;
    for (int i = 0; i < EVAL_N_PAIRS; i++) {
        stats_pairs *p = &out->pairs[i].pairs;
        const int x = outcome(a, i), y = outcome(b, i);
        if (x < 0 || y < 0) continue;
        p->both += x && y;
        p->only_first += x && !y;
        p->only_second += !x && y;
        p->neither += !x && !y;
    }
}

galen_status eval_compare(const eval_row *a, int32_t n_a, const eval_row *b, int32_t n_b, eval_comparison *out,
                          galen_error *err) {
    static const char *const names[EVAL_N_PAIRS] = {"category, first",  "category, among five", "name, first",
                                                    "name, among five", "triage level reached", "first after the questions"};
    *out = (eval_comparison){.n_both = 0};
    keyed *x = sorted(a, n_a), *y = sorted(b, n_b);
    if (!x || !y) {
        free(x);
        free(y);
        return galen_fail(err, GALEN_E_NOMEM, 0, "%d cases to compare", n_a);
    }
    for (int32_t i = 0, k = 0; i < n_a || k < n_b;) {
        const int c = i == n_a ? 1 : k == n_b ? -1 : strcmp(x[i].row->key, y[k].row->key);
        out->n_only_first += c < 0;
        out->n_only_second += c > 0;
        if (c == 0) count_pair(out, x[i].row, y[k].row);
        i += c <= 0;
        k += c >= 0;
    }
    for (int i = 0; i < EVAL_N_PAIRS; i++) {
        out->pairs[i].what = names[i];
        out->pairs[i].difference = stats_paired_difference(&out->pairs[i].pairs);
        out->pairs[i].p = stats_mcnemar(&out->pairs[i].pairs);
    }
    free(x);
    free(y);
    return GALEN_OK;
}
