/* Red flags, shown before anything else. */
#ifndef GALEN_CLI_BANNER_H
#define GALEN_CLI_BANNER_H

#include "cli/cli.h"
#include "galen/assist.h"

/** The level with its advice and the flags, each with the words it rests on. Nothing when there are no flags and no hurry.
 *  text  what t's offsets count in. */
void banner_print(const cli *c, const galen_triage *t, const char *text, size_t n);

#endif
