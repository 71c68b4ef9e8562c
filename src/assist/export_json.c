/* Everything that is stored, as docs/schema/case.json says. */
#include <stdlib.h>

#include "assist/export_impl.h"
#include "base/error.h"
#include "galen/assist.h"

#define CASE_SCHEMA_VERSION 1

/* The schema's times are text; NULL without memory, as all of jansson's. */
static json_t *time_json(int64_t ms) {
    char text[TIME_BYTES];
    return json_string(time_text(ms, text));
}

static json_t *case_json(const export_case *c) {
    json_error_t e = {0};
    json_t *params = c->params ? json_loads(c->params, 0, &e) : json_null();
    const bool is_memory = json_error_code(&e) == json_error_out_of_memory || json_error_code(&e) == json_error_unknown;
    if (!params && !is_memory) params = json_null();
    return json_pack("{s:I, s:o, s:o, s:I, s:I, s:o}", "id", (json_int_t)c->id, "created", time_json(c->created_ms), "changed",
                     time_json(c->changed_ms), "parent", (json_int_t)c->parent, "parent_turns", (json_int_t)c->parent_turns,
                     "params", params);
}

static json_t *turns_json(const case_view *v) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < v->c->n_turns; i++) {
        const export_turn *t = &v->c->turns[i];
        json_t *one = json_pack("{s:I, s:s, s:o, s:O}", "seq", (json_int_t)i + 1, "kind", t->kind, "time", time_json(t->time_ms),
                                "content", v->turns[i]);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

galen_status export_json(const case_view *v, export_text *out, galen_error *err) {
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:s, s:o, s:o}", "format", "galen.case", "schema_version", CASE_SCHEMA_VERSION, "build",
                  galen_version(), "intended_use", galen_assist_intended_use(), "case", case_json(v->c), "turns", turns_json(v));
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    growing g = {0};
    if (!text) return galen_fail(err, GALEN_E_NOMEM, 0, "case %lld as JSON", (long long)v->c->id);
    put_text(&g, text); /* jansson escapes NULs: the text has none */
    put_text(&g, "\n");
    free(text);
    return growing_end(&g, out, err);
}
