/* What the verbs about the machine share: ps, monitor. */
#ifndef GALEN_CLI_MACHINE_H
#define GALEN_CLI_MACHINE_H

#include "cli/json.h"
#include "system/sample.h"

json_t *json_engines(const sample *s); /* NULL without memory */
void print_engines(const cli *c, const sample *s);

#endif
