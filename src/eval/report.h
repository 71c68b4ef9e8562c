/* From rows to the report: counts, shares with intervals, calibration, times. docs/eval.md says how to read it. */
#ifndef GALEN_EVAL_REPORT_H
#define GALEN_EVAL_REPORT_H

#include "eval/row.h"
#include "eval/stats.h"

#define EVAL_N_LEVELS       (GALEN_TRIAGE_EMERGENCY_AMBULANCE + 1)
#define EVAL_N_LABELS       (CASE_N_TIERS + EVAL_N_LEVELS + 1) /* tiers, then levels, then none */
#define EVAL_MAX_CATEGORIES 32
#define EVAL_N_STEPS        5 /* eval_steps */

extern const int32_t eval_steps[EVAL_N_STEPS]; /* 0, 1, 3, 5, 10 questions */

/* hits of n, Wilson's 95 % interval. */
typedef struct eval_share {
    int32_t hits, n;
    fit_interval i;
} eval_share;

/* Cases of one label: "critical", or a level, or none. */
typedef struct eval_label {
    int32_t n, at[EVAL_N_LEVELS]; /* how many got each level */
    eval_share escalated;         /* consultation_24 or higher             */
    eval_share reached;           /* at least the label's least level      */
    eval_share over;              /* above the label's highest             */
} eval_label;

typedef struct eval_triage {
    eval_label labels[EVAL_N_LABELS];
    eval_share sensitivity;  /* of cases whose label asks for consultation_24 or higher: escalated */
    eval_share false_alarms; /* of cases whose label asks for no more than consultation: escalated  */
    eval_share under, over;  /* of labelled cases: below the least, above the highest level that the label allows */
    eval_share far_under;    /* below by two levels or more */
} eval_triage;

typedef struct eval_category {
    char name[CASE_CATEGORY_BYTES];
    eval_share escalated; /* by the rules */
} eval_category;

typedef struct eval_spread {
    int32_t n;
    double median, low, high; /* high and low: the 5 % and 95 % quantiles */
} eval_spread;

typedef struct eval_loop {
    int32_t n, n_refused;
    eval_share by[EVAL_N_STEPS]; /* first after at most so many questions, at any time */
    eval_share in_five;          /* among the five from the start: only these can be reached */
    eval_share at_start, at_end; /* first */
    stats_pairs moved;           /* first at the end; first at the start */
    fit_interval gain;           /* at_end - at_start, paired            */
    double p;                    /* McNemar, exact                       */
    eval_spread reached;         /* questions, of the cases that were reached with at least one */
    int32_t n_never;
    int32_t n_asked, n_yes, n_no, n_unknown; /* of all cases together */
    int32_t stops[GALEN_STOP_USER + 1];
} eval_loop;

typedef struct eval_report {
    int32_t n, n_diagnosis, n_coded, n_labelled, n_unlabelled; /* n_coded: expected names with a code */
    int32_t n_listed, n_refused, n_too_long;                   /* of all; by the model                */
    eval_share category[3], name[3];                           /* first, among three, among five      */
    int32_t n_scored;                                          /* cases behind shown and raw          */
    fit_report shown, raw;                                     /* with the calibration; without       */
    bool is_calibrated;
    fit_bin bins[FIT_BINS], raw_bins[FIT_BINS];
    eval_triage rules, model; /* model: rules and model together */
    bool has_model_triage;
    eval_category categories[EVAL_MAX_CATEGORIES];
    int32_t n_categories, n_categories_left_out;
    eval_loop loop;
    eval_spread rules_s, first_s, ranked_s, questions_s;
} eval_report;

/** rows in any order.  Errors  NOMEM. */
galen_status eval_report_make(const eval_row *rows, int32_t n, const eval_head *head, eval_report *out, galen_error *err);

/** "critical", "level emergency", "no label". */
const char *eval_label_name(int32_t label);

/* ------------------------------------------------------------ two runs of the same cases */

typedef struct eval_pair {
    const char *what;
    stats_pairs pairs;
    fit_interval difference; /* first run minus second */
    double p;
} eval_pair;

enum { EVAL_N_PAIRS = 6 };

typedef struct eval_comparison {
    int32_t n_both, n_only_first, n_only_second; /* cases, by key */
    eval_pair pairs[EVAL_N_PAIRS];
} eval_comparison;

/** Pairs rows by key.  Errors  NOMEM. */
galen_status eval_compare(const eval_row *a, int32_t n_a, const eval_row *b, int32_t n_b, eval_comparison *out, galen_error *err);

/** Both as JSON (docs/schema/eval.json); NULL without memory. */
json_t *eval_report_json(const eval_report *r);
json_t *eval_comparison_json(const eval_comparison *c);

#endif
