/* A differential on stdout: the guide's form in a pipe, a table on a terminal. */
#ifndef GALEN_CLI_RANKING_H
#define GALEN_CLI_RANKING_H

#include "cli/cli.h"
#include "galen/assist.h"

/** "- diagnosis: NAME" / "- confidence: 0.62", five times. */
void ranking_print_form(const cli *c, const galen_differential *d);

/** The table: place, name, confidence and its bar, code. has_details: with the quotes for and against and what is missing.
 *  text  the symptoms; q may be NULL; change [5] may be NULL: confidences' changes, shown with a sign. */
void ranking_print_table(const cli *c, const galen_differential *d, const galen_questions *q, const char *text, size_t n,
                         const double *change, bool has_details);

/** What contradicts the first place, in words, in a pipe as a note; nothing when nothing does. */
void ranking_print_doubts(cli *c, const galen_differential *d);

/** A line of the form "Possible conditions (confidence: ...)". */
void ranking_print_title(const cli *c, const galen_differential *d);

#endif
