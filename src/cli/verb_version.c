/* galen version */
#include "cli/json.h"

cli_exit verb_version(cli *c) {
    if (c->args.json) return json_end(c, json_begin(c), false);
    (void)printf("galen %s\n", galen_version());
    return CLI_DONE;
}
