/* What was measured of one case. A row is a line of a results file, from which a report can be made again without the model.
 * It holds labels, names, codes and numbers: no word of the case. */
#ifndef GALEN_EVAL_ROW_H
#define GALEN_EVAL_ROW_H

#include <jansson.h>

#include "assist/fit.h"
#include "eval/list.h"

typedef enum eval_status {
    EVAL_NOT_RUN, /* "not_run": no model, or no diagnosis to compare with */
    EVAL_DONE,    /* "done"                                               */
    EVAL_REFUSED, /* "refused": the text says too little for a list       */
    EVAL_TOO_LONG /* "too_long": it does not fit the model's context      */
} eval_status;

typedef struct eval_condition {
    char name[GALEN_NAME_BYTES], code[12];
    double confidence;
    int32_t order;
    bool is_name, is_category; /* what is expected, by name and by ICD-10-CM category */
} eval_condition;

typedef struct eval_questions {
    eval_status status;
    int32_t n_asked, n_yes, n_no, n_unknown;
    int32_t start_rank, end_rank; /* of what is expected, 1..5; 0: not among the five */
    int32_t reached;              /* answers until it was first, for the first time; -1 never */
    galen_stop stop;
    double seconds;
} eval_questions;

typedef struct eval_row {
    /* the case and its labels */
    char key[EVAL_KEY_BYTES], id[CASE_ID_BYTES];
    char expected[GALEN_NAME_BYTES]; /* "" without a diagnosis */
    char expected_code[12];          /* "" without a match     */
    int32_t tier, least, most;       /* as labelled_case       */
    char categories[CASE_MAX_CATEGORIES][CASE_CATEGORY_BYTES];
    int32_t n_categories;
    /* the rules */
    int32_t level; /* galen_triage_level */
    int32_t n_flags;
    double rules_s;
    /* the model, on the whole text */
    eval_status status;
    eval_condition conditions[GALEN_N_CONDITIONS]; /* as ranked */
    double other;
    fit_case scores;                  /* by order */
    int32_t name_rank, category_rank; /* 1..5; 0: not among them */
    int32_t model_level;              /* after the model; >= level */
    double first_s, ranked_s;
    eval_questions questions;
} eval_row;

/** What ranks a result by: category when the expected name has a code, else name. */
int32_t eval_rank(const eval_row *r);

/** As one JSON object; NULL without memory. */
json_t *row_json(const eval_row *r);
/** Errors  FORMAT, naming the member; *out is then not to be used. */
galen_status row_from_json(const json_t *j, eval_row *out, galen_error *err);

/* What a results file is of: its first line. Rows of different heads are not mixed. */
typedef struct eval_head {
    char model_sha256[65], model_name[96], device[96], prompt_version[40], code_release[64]; /* "" without */
    uint64_t seed;
    int32_t max_questions;         /* 0: the loop was not run */
    galen_calibration calibration; /* n_cases 0: none */
} eval_head;

json_t *head_json(const eval_head *h);
galen_status head_from_json(const json_t *j, eval_head *out, galen_error *err);
/** What differs so that their rows cannot stand in one file ("model_sha256"); NULL: nothing. The device may differ. */
const char *head_differs(const eval_head *a, const eval_head *b);

/** One line of a results file: a head or a row.  Errors  FORMAT; NOMEM. */
galen_status result_parse(const char *line, size_t n, bool *is_head, eval_head *head, eval_row *row, galen_error *err);

const char *eval_status_name(eval_status s);

#endif
