/* Red flags, shown before anything else. */
#ifndef GALEN_CLI_BANNER_H
#define GALEN_CLI_BANNER_H

#include "cli/cli.h"
#include "galen/assist.h"

/** Is there anything to show: a flag, hurry, an impossible number? */
bool banner_is_needed(const galen_triage *t);

/** The level with its advice and the flags, each with the words it rests on. Nothing when nothing is needed.
 *  text  what t's offsets count in. */
void banner_print(const cli *c, const galen_triage *t, const char *text, size_t n);

#endif
