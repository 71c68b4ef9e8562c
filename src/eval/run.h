/* A case measured: by the rules, and by a model when there is one. */
#ifndef GALEN_EVAL_RUN_H
#define GALEN_EVAL_RUN_H

#include "eval/row.h"

typedef struct eval_run {
    const galen_codes *codes;                   /* NULL: no table, nothing is measured by category */
    galen_assistant *a;                         /* NULL: no model                                  */
    int32_t max_questions;                      /* 0: the loop is not run; else as the assistant was opened with */
    void (*tell)(void *user, const char *what); /* "question 3": for a progress line; may be NULL */
    void *user;
} eval_run;

/** Everything that run can measure of the case into *out. Levels come from the rules alone first, then from rules and model.
 *  The five conditions are of the whole text; the questions begin anew from the opening and are answered by a patient who has the
 *  case's facts (patient.h).
 *  Errors  those of galen_assistant_diagnose but REFUSED and FULL, which are a result; NOMEM. *out is then not to be used. */
galen_status eval_case_run(const eval_run *run, const eval_case *c, eval_row *out, galen_error *err);

#endif
