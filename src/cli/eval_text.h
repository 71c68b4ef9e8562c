/* The report of galen eval for a person, in 40 columns or more. */
#ifndef GALEN_CLI_EVAL_TEXT_H
#define GALEN_CLI_EVAL_TEXT_H

#include "cli/cli.h"
#include "eval/report.h"

void eval_text_report(const cli *c, const eval_report *r, const eval_head *h);
/** other: what the second run is of. */
void eval_text_comparison(const cli *c, const eval_comparison *k, const eval_head *other);

#endif
