/* galen explain ID: what a check of doctor looks at, and what to do about it. */
#include <string.h>

#include "cli/json.h"
#include "cli/options.h"
#include "system/doctor.h"

static cli_exit list(cli *c) {
    json_t *all = c->args.json ? json_array() : NULL;
    for (size_t i = 0; i < doctor_n_checks; i++) {
        const doctor_check *k = &doctor_checks[i];
        if (c->args.json)
            (void)json_array_append_new(all, json_pack("{s:s, s:s, s:s}", "id", k->id, "title", k->title, "about", k->about));
        else
            (void)printf("%-15s %s\n", k->id, k->title);
    }
    if (!c->args.json) return CLI_DONE;
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "checks", all)) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_explain(cli *c) {
    if (!c->args.n_positional) return list(c);
    const char *id = c->args.positional[0];
    const doctor_check *k = doctor_find(id);
    if (!k) {
        const char *names[64];
        char safe[64];
        size_t n = 0;
        for (; n < doctor_n_checks && n < 64; n++) names[n] = doctor_checks[n].id;
        const char *near = suggest(id, names, n);
        term_safe(id, safe, sizeof safe);
        if (near)
            term_error(c, "there is no check '%s'; did you mean '%s'? (galen explain lists them)", safe, near);
        else
            term_error(c, "there is no check '%s'; galen explain lists them", safe);
        return CLI_USAGE;
    }
    if (c->args.json) {
        json_t *root = json_begin(c);
        int bad = json_object_set_new(root, "id", json_string(k->id));
        bad |= json_object_set_new(root, "title", json_string(k->title));
        bad |= json_object_set_new(root, "about", json_string(k->about));
        if (bad) {
            json_decref(root);
            root = NULL;
        }
        return json_end(c, root, false);
    }
    (void)printf("%s: %s\n\n", k->id, k->title);
    term_wrap(stdout, k->about, c->term.is_out_tty ? c->term.n_columns : 80);
    return CLI_DONE;
}
