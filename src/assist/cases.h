/* Labelled cases, one JSON object a line, for galen calibrate and galen eval. Three forms are known:
 * each may also have "code": the diagnosis' ICD-10-CM code, for where looking the name up would give another.
 *   plain: {"text": "what the patient says"} and, each may be left out, "id", "diagnosis": "Pneumonia" or ["Pneumonia", "CAP"],
 *     "tier" (as below) or "level" (a level of galen triage), "opening": what the patient says first when questions are to find
 *     the rest, "facts": a text or a list of texts that the patient knows beside it
 *   AgentClinic: {"OSCE_Examination": {"Patient_Actor": {...}, "Correct_Diagnosis": "..."}}
 *   triage vignettes: {"id", "input": {"chief_complaint", "history", "demographics", "vitals"}, "labels": {"gold_risk_tier":
 *     "routine", "urgent" or "critical", "gold_red_flag_categories": [...]}}: no diagnosis */
#ifndef GALEN_ASSIST_CASES_H
#define GALEN_ASSIST_CASES_H

#include "assist/fit.h"
#include "galen/assist.h"

#define CASE_MAX_NAMES      8
#define CASE_MAX_CATEGORIES 8
#define CASE_ID_BYTES       64
#define CASE_CATEGORY_BYTES 32

typedef struct labelled_case {
    char *text; /* what the patient says; n bytes and a NUL */
    size_t n;
    char *opening;               /* who it is and the first symptom: where the loop of questions begins; NULL: the text */
    char *facts;                 /* one a line: all that the patient knows, the text too, never the diagnosis */
    char *names[CASE_MAX_NAMES]; /* what it is, in one or more wordings; none: not labelled with a diagnosis */
    int32_t n_names;
    char code[12];                                             /* its ICD-10-CM code, when the label says it; "" without */
    int32_t tier;                                              /* of case_tiers; -1 without */
    int32_t least, most;                                       /* galen_triage_levels that the label allows; -1 without a label */
    char categories[CASE_MAX_CATEGORIES][CASE_CATEGORY_BYTES]; /* of red flags, as the label names them */
    int32_t n_categories;
    char id[CASE_ID_BYTES]; /* "" without */
} labelled_case;

/* What a tier asks of the five levels. Below least is under-triage, above most is over-triage. */
typedef struct case_tier {
    const char *name;
    galen_triage_level least, most;
} case_tier;
#define CASE_N_TIERS 3
extern const case_tier case_tiers[CASE_N_TIERS]; /* routine, urgent, critical */

/** One line. Errors  FORMAT no JSON, none of the forms, or a field that cannot be (err->offset in the line; err->msg names the
 *  field and quotes nothing); NOMEM. *out is empty then. */
galen_status cases_parse(const char *line, size_t n, labelled_case *out, galen_error *err);
void cases_free(labelled_case *c);

/** Which of the five is what it is: by name or code (galen_condition_is_same). The condition's order; 5 for none. */
int32_t cases_right(const labelled_case *c, const galen_differential *d, const galen_codes *codes);
/** What fit.h fits and measures of a list, by condition.order, and which of it is right. */
void cases_scores(const labelled_case *c, const galen_differential *d, const galen_codes *codes, fit_case *out);

#endif
