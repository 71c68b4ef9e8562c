/* Gathering what doctor judges: the machine, the build's tools, the plugin, a model, a real token. */
#ifndef GALEN_CLI_DOCTOR_H
#define GALEN_CLI_DOCTOR_H

#include "cli/cli.h"
#include "system/doctor.h"

/** A program on PATH, else in one of the folders of `elsewhere` (a ':' list, below root), and the version it tells. */
void doctor_find_tool(const char *name, const char *root, const char *elsewhere, doctor_tool *out);

/** Everything but the token test. Reads only; root is the prefix of host.h. */
void doctor_gather(cli *c, const char *root, doctor_facts *out);

/** A greedy token on the CPU, and on the GPU where the plugin sees one. */
void doctor_try_tokens(cli *c, doctor_facts *f);

#endif
