/* The report as JSON: docs/schema/eval.json. A failed allocation anywhere leaves NULL, which the setters and json_pack refuse. */
#include <string.h>

#include "assist/record.h"
#include "eval/report.h"

static json_t *interval(const fit_interval *i) {
    return json_pack("{s:f, s:f, s:f}", "value", i->value, "low", i->low, "high", i->high);
}

static json_t *share(const eval_share *s) {
    return json_pack("{s:i, s:i, s:f, s:f, s:f}", "hits", (int)s->hits, "n", (int)s->n, "value", s->i.value, "low", s->i.low,
                     "high", s->i.high);
}

/* null where nothing was measured. */
static json_t *measured(const eval_share *s) {
    return s->n ? share(s) : json_null();
}

static json_t *top(const eval_share s[3]) {
    return json_pack("{s:o, s:o, s:o}", "top1", measured(&s[0]), "top3", measured(&s[1]), "top5", measured(&s[2]));
}

static json_t *bins(const fit_bin *b) {
    json_t *list = json_array();
    for (int i = 0; i < FIT_BINS && list; i++) {
        const fit_interval right = stats_wilson(b[i].n_right, b[i].n);
        json_t *one =
            json_pack("{s:f, s:f, s:i, s:i, s:o, s:o}", "from", (double)i / FIT_BINS, "to", (double)(i + 1) / FIT_BINS, "n",
                      (int)b[i].n, "n_right", (int)b[i].n_right, "mean_confidence",
                      b[i].n ? json_real(b[i].sum / b[i].n) : json_null(), "right", b[i].n ? interval(&right) : json_null());
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *calibration(const fit_report *r, const fit_bin *b) {
    return json_pack("{s:o, s:o, s:o, s:o}", "ece", interval(&r->ece), "brier", interval(&r->brier), "auroc", interval(&r->auroc),
                     "bins", bins(b));
}

static json_t *label(const eval_label *l, int32_t number) {
    json_t *levels = json_object();
    for (int i = 0; i < EVAL_N_LEVELS && levels; i++) {
        if (json_object_set_new(levels, galen_triage_level_name((galen_triage_level)i), json_integer(l->at[i]))) {
            json_decref(levels);
            levels = NULL;
        }
    }
    return json_pack("{s:s, s:i, s:o, s:o, s:o, s:o}", "label", eval_label_name(number), "n", (int)l->n, "levels", levels,
                     "escalated", measured(&l->escalated), "reached", measured(&l->reached), "over", measured(&l->over));
}

static json_t *triage(const eval_triage *t) {
    json_t *labels = json_array();
    for (int32_t i = 0; i < EVAL_N_LABELS && labels; i++) {
        if (t->labels[i].n && json_array_append_new(labels, label(&t->labels[i], i))) {
            json_decref(labels);
            labels = NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "labels", labels, "sensitivity", measured(&t->sensitivity), "false_alarms",
                     measured(&t->false_alarms), "under_triage", measured(&t->under), "over_triage", measured(&t->over),
                     "under_by_two_or_more", measured(&t->far_under));
}

static json_t *categories(const eval_report *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_categories && list; i++) {
        const eval_category *c = &r->categories[i];
        json_t *one =
            json_pack("{s:o, s:o}", "category", record_text(c->name, strlen(c->name)), "escalated", share(&c->escalated));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *spread(const eval_spread *s) {
    if (!s->n) return json_null();
    return json_pack("{s:i, s:f, s:f, s:f}", "n", (int)s->n, "median", s->median, "p5", s->low, "p95", s->high);
}

static json_t *steps(const eval_loop *l) {
    json_t *list = json_array();
    for (int i = 0; i < EVAL_N_STEPS && list; i++) {
        json_t *one = json_pack("{s:i, s:o}", "questions", (int)eval_steps[i], "first", share(&l->by[i]));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *loop(const eval_loop *l) {
    if (!l->n) return json_null();
    json_t *stops = json_object(), *answers, *change;
    for (int i = GALEN_STOP_CONFIDENT; i <= GALEN_STOP_COUNT && stops; i++) {
        if (json_object_set_new(stops, galen_stop_name((galen_stop)i), json_integer(l->stops[i]))) {
            json_decref(stops);
            stops = NULL;
        }
    }
    answers = json_pack("{s:i, s:i, s:i, s:i}", "asked", (int)l->n_asked, "yes", (int)l->n_yes, "no", (int)l->n_no, "unknown",
                        (int)l->n_unknown);
    change = json_pack("{s:o, s:o, s:o, s:f}", "at_start", share(&l->at_start), "at_end", share(&l->at_end), "difference",
                       interval(&l->gain), "mcnemar_p", l->p);
    return json_pack("{s:i, s:i, s:o, s:i, s:o, s:o, s:o, s:o, s:o}", "n", (int)l->n, "n_refused", (int)l->n_refused, "in_five",
                     share(&l->in_five), "n_never", (int)l->n_never, "first_after", steps(l), "questions_to_first",
                     spread(&l->reached), "change", change, "answers", answers, "stops", stops);
}

static json_t *accuracy(const eval_report *r) {
    return json_pack("{s:o, s:o}", "category", top(r->category), "name", top(r->name));
}

json_t *eval_report_json(const eval_report *r) {
    json_t *counts =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "cases", (int)r->n, "with_diagnosis", (int)r->n_diagnosis,
                  "with_code", (int)r->n_coded, "with_level", (int)r->n_labelled, "unlabelled", (int)r->n_unlabelled, "listed",
                  (int)r->n_listed, "refused", (int)r->n_refused, "too_long", (int)r->n_too_long);
    json_t *k = r->n_scored ? json_pack("{s:i, s:b, s:o, s:o}", "n", (int)r->n_scored, "is_calibrated", r->is_calibrated, "shown",
                                        calibration(&r->shown, r->bins), "uncalibrated", calibration(&r->raw, r->raw_bins))
                            : json_null();
    json_t *seconds = json_pack("{s:o, s:o, s:o, s:o}", "rules", spread(&r->rules_s), "first_condition", spread(&r->first_s),
                                "five_ranked", spread(&r->ranked_s), "questions", spread(&r->questions_s));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "counts", counts, "accuracy",
                     r->name[0].n ? accuracy(r) : json_null(), "calibration", k, "triage_rules", triage(&r->rules),
                     "triage_with_model", r->has_model_triage ? triage(&r->model) : json_null(), "red_flag_categories",
                     categories(r), "questions", loop(&r->loop), "seconds", seconds);
}

json_t *eval_comparison_json(const eval_comparison *c) {
    json_t *list = json_array();
    for (int i = 0; i < EVAL_N_PAIRS && list; i++) {
        const eval_pair *p = &c->pairs[i];
        json_t *one = json_pack("{s:s, s:i, s:i, s:i, s:i, s:o, s:f}", "what", p->what, "both", (int)p->pairs.both, "only_this",
                                (int)p->pairs.only_first, "only_other", (int)p->pairs.only_second, "neither",
                                (int)p->pairs.neither, "difference", interval(&p->difference), "mcnemar_p", p->p);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:i, s:i, s:i, s:o}", "cases", (int)c->n_both, "only_this", (int)c->n_only_first, "only_other",
                     (int)c->n_only_second, "pairs", list);
}
