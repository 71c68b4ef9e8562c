#include "cli/eval_text.h"

#include <string.h>

#define NARROW 72 /* columns: below, a row's name has a line of its own */

static int columns(const cli *c) {
    return c->term.is_out_tty ? c->term.n_columns : 80;
}

static bool is_narrow(const cli *c) {
    return columns(c) < NARROW;
}

static void title(const cli *c, const char *text) {
    (void)printf("\n%s", term_sgr(c, "\033[1m"));
    term_wrap(stdout, text, columns(c));
    (void)fputs(term_sgr(c, "\033[0m"), stdout);
}

static void row_name(const cli *c, const char *name) {
    if (is_narrow(c))
        (void)printf("  %s\n    ", name);
    else
        (void)printf("  %-32s ", name);
}

static void share(const cli *c, const char *name, const eval_share *s) {
    char of[32];
    if (!s->n) return;
    row_name(c, name);
    (void)snprintf(of, sizeof of, "%d/%d", (int)s->hits, (int)s->n);
    (void)printf("%9s %6.1f %%  [%.1f, %.1f]\n", of, 100 * s->i.value, 100 * s->i.low, 100 * s->i.high);
}

/* ------------------------------------------------------------ parts */

static void put_accuracy(const cli *c, const eval_report *r) {
    static const char *const places[3] = {"first", "among three", "among five"};
    char name[64];
    if (!r->name[0].n) return;
    title(c, "The expected condition");
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "same category, %s", places[i]);
        share(c, name, &r->category[i]);
    }
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "same name, %s", places[i]);
        share(c, name, &r->name[i]);
    }
}

static void measure(const cli *c, const char *name, const fit_interval *i) {
    row_name(c, name);
    (void)printf("%.3f [%.3f, %.3f]\n", i->value, i->low, i->high);
}

static void put_measures(const cli *c, const fit_report *r) {
    measure(c, "ECE (15 bins)", &r->ece);
    measure(c, "Brier", &r->brier);
    if (fit_has_auroc(r)) {
        measure(c, "AUROC of the first", &r->auroc);
    } else {
        row_name(c, "AUROC of the first");
        (void)printf("not to be said: %s right\n", r->top1.value > 0 ? "all are" : "none is");
    }
}

static void put_bins(const cli *c, const fit_bin *bins) {
    (void)puts(is_narrow(c) ? "  said     n   right [95 %]" : "  said          confidences   right   [95 %]");
    for (int b = 0; b < FIT_BINS; b++) {
        if (!bins[b].n) continue;
        const fit_interval i = stats_wilson(bins[b].n_right, bins[b].n);
        if (is_narrow(c))
            (void)printf("  %.2f %6d   %.2f [%.2f, %.2f]\n", bins[b].sum / bins[b].n, (int)bins[b].n, i.value, i.low, i.high);
        else
            (void)printf("  %.2f %20d   %.3f   [%.3f, %.3f]\n", bins[b].sum / bins[b].n, (int)bins[b].n, i.value, i.low, i.high);
    }
}

static void put_calibration(const cli *c, const eval_report *r) {
    if (!r->n_scored) return;
    title(c, r->is_calibrated ? "Confidences, calibrated" : "Confidences, uncalibrated: this model has no calibration file");
    put_measures(c, &r->shown);
    put_bins(c, r->bins);
    if (!r->is_calibrated) return;
    title(c, "The same without the calibration");
    put_measures(c, &r->raw);
}

static void put_levels(const cli *c, const eval_triage *t) {
    char line[256];
    for (int32_t k = 0; k < EVAL_N_LABELS; k++) {
        const eval_label *l = &t->labels[k];
        if (!l->n) continue;
        size_t n = (size_t)snprintf(line, sizeof line, "- %s, %d:", eval_label_name(k), (int)l->n);
        for (int i = 0; i < EVAL_N_LEVELS && n < sizeof line; i++) {
            if (l->at[i])
                n += (size_t)snprintf(line + n, sizeof line - n, " %d %s,", (int)l->at[i],
                                      galen_triage_level_name((galen_triage_level)i));
        }
        if (n < sizeof line) line[n - 1] = '\0'; /* the last comma */
        term_wrap(stdout, line, columns(c));
    }
}

static void put_triage(const cli *c, const eval_triage *t, const char *name, bool has_levels) {
    char of[64];
    if (!t->under.n && !has_levels) return;
    title(c, name);
    share(c, "escalated, of those who need it", &t->sensitivity);
    share(c, "false alarms", &t->false_alarms);
    for (int32_t k = EVAL_N_LABELS - 2; k > 0; k--) {
        if (k == CASE_N_TIERS) continue; /* self_care: every level reaches it, as it does for routine */
        (void)snprintf(of, sizeof of, "%s: reached", eval_label_name(k));
        share(c, of, &t->labels[k].reached);
    }
    share(c, "under-triage", &t->under);
    share(c, "  by two levels or more", &t->far_under);
    share(c, "over-triage", &t->over);
    if (has_levels) put_levels(c, t);
}

static void put_categories(const cli *c, const eval_report *r) {
    char safe[CASE_CATEGORY_BYTES];
    if (!r->n_categories) return;
    title(c, "Escalated by the rules, by labelled red flag");
    for (int32_t i = 0; i < r->n_categories; i++)
        share(c, term_safe(r->categories[i].name, safe, sizeof safe), &r->categories[i].escalated);
    if (r->n_categories_left_out) (void)printf("  (and %d labels beyond these)\n", (int)r->n_categories_left_out);
}

static void put_loop(const cli *c, const eval_loop *l) {
    char line[256];
    if (!l->n) return;
    title(c, "Questions to a simulated patient");
    share(c, "expected one among the five", &l->in_five);
    for (int i = 0; i < EVAL_N_STEPS; i++) {
        (void)snprintf(line, sizeof line, eval_steps[i] == 1 ? "first by %d question" : "first by %d questions",
                       (int)eval_steps[i]);
        share(c, line, &l->by[i]);
    }
    share(c, "first at the end", &l->at_end);
    row_name(c, "end minus start");
    (void)printf("%+.1f points [%.1f, %.1f], p %.2g\n", 100 * l->gain.value, 100 * l->gain.low, 100 * l->gain.high, l->p);
    if (l->reached.n) {
        row_name(c, "questions, where they helped");
        (void)printf("median %.0f (n %d)\n", l->reached.median, (int)l->reached.n);
    }
    (void)snprintf(line, sizeof line,
                   "- never first: %d of %d. Answers: %d yes, %d no, %d unknown. Ended: %d confident, %d no gain, %d count.",
                   (int)l->n_never, (int)l->n, (int)l->n_yes, (int)l->n_no, (int)l->n_unknown,
                   (int)l->stops[GALEN_STOP_CONFIDENT], (int)l->stops[GALEN_STOP_NO_GAIN], (int)l->stops[GALEN_STOP_COUNT]);
    term_wrap(stdout, line, columns(c));
}

static void put_seconds(const cli *c, const char *name, const eval_spread *s, double scale, const char *unit) {
    if (!s->n) return;
    row_name(c, name);
    (void)printf("%.2f %s [%.2f, %.2f]\n", s->median * scale, unit, s->low * scale, s->high * scale);
}

static void put_times(const cli *c, const eval_report *r) {
    title(c, "Time for a case: median [5 %, 95 %]");
    put_seconds(c, "red flags by rules", &r->rules_s, 1000, "ms");
    put_seconds(c, "first condition", &r->first_s, 1, "s");
    put_seconds(c, "five ranked", &r->ranked_s, 1, "s");
    put_seconds(c, "opening and all questions", &r->questions_s, 1, "s");
}

static void put_head(const cli *c, const eval_report *r, const eval_head *h) {
    char line[512], model[96], device[96];
    term_wrap(stdout, galen_assist_intended_use(), columns(c));
    (void)putchar('\n');
    (void)snprintf(line, sizeof line, "%d %s: %d with a diagnosis (%d of these with an ICD-10-CM code), %d with a triage label.",
                   (int)r->n, r->n == 1 ? "case" : "cases", (int)r->n_diagnosis, (int)r->n_coded, (int)r->n_labelled);
    term_wrap(stdout, line, columns(c));
    if (h->model_name[0])
        (void)snprintf(line, sizeof line, "Model %s on %s, seed %llu. %d lists, %d refused for too little text, %d too long.",
                       term_safe(h->model_name, model, sizeof model), term_safe(h->device, device, sizeof device),
                       (unsigned long long)h->seed, (int)r->n_listed, (int)r->n_refused, (int)r->n_too_long);
    else
        (void)snprintf(line, sizeof line, "No model: red flags and codes alone were measured.");
    term_wrap(stdout, line, columns(c));
    if (!h->code_release[0])
        term_wrap(stdout, "No table of codes: nothing is counted by category, and synonyms are not told.", columns(c));
    (void)snprintf(line, sizeof line, "95 %% intervals: Wilson's for shares%s.",
                   r->n_scored ? "; 1000 resamples of cases for ECE, Brier and AUROC" : "");
    term_wrap(stdout, line, columns(c));
}

void eval_text_report(const cli *c, const eval_report *r, const eval_head *h) {
    put_head(c, r, h);
    put_accuracy(c, r);
    put_calibration(c, r);
    put_triage(c, &r->rules, "Red flags and levels, by the rules alone", true);
    if (r->has_model_triage) put_triage(c, &r->model, "The same, rules and model", false);
    put_categories(c, r);
    put_loop(c, &r->loop);
    put_times(c, r);
}

void eval_text_comparison(const cli *c, const eval_comparison *k, const eval_head *other) {
    char line[320], model[96], device[96];
    title(c, "Compared with the other run: this minus other, on the same cases");
    if (other->model_name[0])
        (void)snprintf(line, sizeof line, "The other: %s on %s, seed %llu.", term_safe(other->model_name, model, sizeof model),
                       term_safe(other->device, device, sizeof device), (unsigned long long)other->seed);
    else
        (void)snprintf(line, sizeof line, "The other had no model.");
    term_wrap(stdout, line, columns(c));
    (void)snprintf(line, sizeof line, "%d cases in both, %d in this one alone, %d in the other alone.", (int)k->n_both,
                   (int)k->n_only_first, (int)k->n_only_second);
    term_wrap(stdout, line, columns(c));
    for (int i = 0; i < EVAL_N_PAIRS; i++) {
        const eval_pair *p = &k->pairs[i];
        const int n = p->pairs.both + p->pairs.only_first + p->pairs.only_second + p->pairs.neither;
        if (!n) continue;
        row_name(c, p->what);
        (void)printf("%+.1f points [%.1f, %.1f]%s(n %d, p %.2g)\n", 100 * p->difference.value, 100 * p->difference.low,
                     100 * p->difference.high, is_narrow(c) ? "\n    " : "  ", n, p->p);
    }
}
