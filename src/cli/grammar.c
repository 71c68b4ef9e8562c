/* --grammar, --json-schema, --json-object: what the text must look like. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

cli_exit grammar_check(cli *c) {
    const cli_args *a = &c->args;
    const bool reads_text = !a->prompt && (!a->file || strcmp(a->file, "-") == 0);
    const char *file = a->grammar ? a->grammar : a->json_schema;
    if ((a->grammar != NULL) + (a->json_schema != NULL) + a->json_object > 1) {
        term_error(c, "--grammar, --json-schema and --json-object exclude each other; give one");
        return CLI_USAGE;
    }
    if (file && strcmp(file, "-") == 0 && reads_text) {
        term_error(c, "standard input cannot be both the prompt and the %s", a->grammar ? "grammar" : "schema");
        return CLI_USAGE;
    }
    return CLI_DONE;
}

cli_exit grammar_open(cli *c, const galen_model *m, galen_grammar **out) {
    const cli_args *a = &c->args;
    const char *file = a->grammar ? a->grammar : a->json_schema;
    text_buf text = {0};
    galen_error err = {0};
    char name[256], why[GALEN_ERROR_MSG_BYTES];
    galen_grammar_kind kind = GALEN_GRAMMAR_JSON_OBJECT;
    *out = NULL;
    if (!file && !a->json_object) return CLI_DONE;
    if (file) {
        const cli_exit st = input_read(c, file, &text);
        if (st) return st;
        kind = a->grammar ? GALEN_GRAMMAR_GBNF : GALEN_GRAMMAR_JSON_SCHEMA;
    }
    const galen_status st = galen_grammar_open(out, m, kind, text.bytes, text.n, &err);
    free(text.bytes);
    if (st == GALEN_OK) return CLI_DONE;
    term_error(c, "%s: %s", file ? term_safe(file, name, sizeof name) : "--json-object", term_safe(err.msg, why, sizeof why));
    return st == GALEN_E_NOMEM ? CLI_MEMORY : CLI_USAGE;
}
