/* galen codes: a condition's name to its ICD-10-CM code. */
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "galen/assist.h"

static cli_exit print_json(cli *c, const galen_codes *table, const galen_code *k) {
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "code", json_text0(k->title ? k->code : NULL)) ||
        json_object_set_new(root, "title", json_text0(k->title)) ||
        json_object_set_new(root, "is_billable", json_boolean(k->is_billable)) ||
        json_object_set_new(root, "score", json_number(k->score)) ||
        json_object_set_new(root, "release", json_text0(galen_codes_release(table))) ||
        json_object_set_new(root, "year", json_integer(galen_codes_year(table)))) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_codes(cli *c) {
    galen_codes *table = NULL;
    galen_code k = {0};
    galen_error err = {0};
    cli_exit st = CLI_DONE;
    if (!c->args.n_positional) {
        term_error(c, "which condition? usage: galen codes NAME (in quotes)");
        return CLI_USAGE;
    }
    const char *name = c->args.positional[0];
    if (galen_codes_open(&table, NULL, &err) || galen_codes_find(table, name, strlen(name), &k, &err)) {
        st = engine_fail(c, PHASE_USE, &err);
        if (err.code == GALEN_E_NOT_FOUND || err.code == GALEN_E_FORMAT) st = CLI_FAILED; /* a table is no model */
    } else if (c->args.json) {
        st = print_json(c, table, &k);
    } else {
        if (k.title)
            (void)printf("%s  %s%s\n", k.code, k.title, k.is_billable ? "" : " (a category: not billable as it is)");
        else
            (void)puts("no match");
        term_note(c, "%s; fit %.2f", galen_codes_release(table), k.score);
    }
    galen_codes_close(table);
    return st;
}
