/* What every verb's JSON has in common. jansson copies strings and refuses invalid UTF-8, so text passes json_text. */
#ifndef GALEN_CLI_JSON_H
#define GALEN_CLI_JSON_H

#include <jansson.h>

#include "cli/cli.h"

/** {"schema_version": 1, "verb": ...}; NULL without memory. */
json_t *json_begin(const cli *c);
/** A string of n bytes; ill-formed UTF-8 becomes U+FFFD. NULL without memory. */
json_t *json_text(const char *s, size_t n);
json_t *json_text0(const char *s); /* null for NULL */
json_t *json_number(double v);     /* null for what JSON cannot say */
json_t *json_bytes(const char *s, size_t n);
/** name, path, arch, type, device ... of a model. */
json_t *json_model(const galen_model *m);
/** load, prefill and decode: seconds, tokens and tokens per second. */
json_t *json_timings(const cli *c, const galen_result *r);
/** Print root on one line or indented, and free it. Root NULL: out of memory. */
cli_exit json_end(cli *c, json_t *root, bool is_line);

#endif
