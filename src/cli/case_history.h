/* A clinic's cases in the history: turns, a row of the trail, a row of the performance log. */
#ifndef GALEN_CLI_CASE_HISTORY_H
#define GALEN_CLI_CASE_HISTORY_H

#include "cli/clinic.h"
#include "cli/history.h"

typedef struct case_history {
    hist h;
} case_history;

/** Begin to keep k's turns (its model is open); finds the model's fingerprint, which a first time costs reading its file. */
void case_history_start(case_history *h, clinic *k);
void case_history_audit(case_history *h, const clinic *k); /* once the five are there */
/** The end of the case; st: how the verb ended. */
void case_history_end(case_history *h, clinic *k, cli_exit st);

#endif
