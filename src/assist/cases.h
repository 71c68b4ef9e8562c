/* Labelled cases, one JSON object a line, for galen calibrate and for evaluation. Three forms are known:
 *   {"text": "...", "diagnosis": "Pneumonia" or ["Pneumonia", "CAP"], "id": "..." (may be left out)}
 *   AgentClinic: {"OSCE_Examination": {"Patient_Actor": {...}, "Correct_Diagnosis": "..."}}
 *   triage vignettes: {"id", "input": {"chief_complaint", "history", "demographics", "vitals"}, "labels": {"gold_risk_tier"}}: no
 * diagnosis */
#ifndef GALEN_ASSIST_CASES_H
#define GALEN_ASSIST_CASES_H

#include "galen/assist.h"

#define CASE_MAX_NAMES 8

typedef struct labelled_case {
    char *text; /* what the patient says; n bytes and a NUL */
    size_t n;
    char *names[CASE_MAX_NAMES]; /* what it is, in one or more wordings; none: not labelled with a diagnosis */
    int32_t n_names;
    char tier[16]; /* "routine", "urgent", "critical"; "" without */
    char id[64];   /* "" without */
} labelled_case;

/** One line. Errors  FORMAT no JSON, or none of the forms (err->offset in the line); NOMEM. *out is empty then. */
galen_status cases_parse(const char *line, size_t n, labelled_case *out, galen_error *err);
void cases_free(labelled_case *c);

/** Which of the five is what it is: by name or code (galen_condition_is_same). The condition's order; 5 for none. */
int32_t cases_right(const labelled_case *c, const galen_differential *d, const galen_codes *codes);

#endif
