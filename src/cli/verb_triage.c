/* galen triage: red flags of a text by rules alone; no model is opened. */
#include <stdlib.h>

#include "cli/json.h"
#include "galen/assist.h"

static json_t *json_flags(const galen_triage *t, const char *text) {
    json_t *list = json_array();
    for (int32_t i = 0; i < t->n_flags && list; i++) {
        const galen_triage_flag *f = &t->flags[i];
        json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:I}", "id", f->id, "category", f->category, "level",
                                galen_triage_level_name(f->level), "message", f->message, "source", f->source, "quote",
                                json_text(text + f->from, f->to - f->from), "from", (json_int_t)f->from, "to", (json_int_t)f->to);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_asks(const galen_triage *t) {
    json_t *list = json_array();
    for (int32_t i = 0; i < t->n_asks && list; i++) {
        const galen_triage_ask *a = &t->asks[i];
        json_t *one =
            json_pack("{s:s, s:s, s:s}", "id", a->id, "question", a->question, "level", galen_triage_level_name(a->level));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_warnings(const galen_triage *t) {
    static const char *const kinds[] = {"impossible", "too_little", "limit"};
    json_t *list = json_array();
    for (int32_t i = 0; i < t->n_warnings && list; i++) {
        const galen_triage_warning *w = &t->warnings[i];
        json_t *one = json_pack("{s:s, s:s, s:I, s:I}", "kind", kinds[w->kind], "message", w->message, "from",
                                (json_int_t)w->from, "to", (json_int_t)w->to);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_vitals(const galen_triage_facts *f) {
    json_t *list = json_array();
    for (int32_t i = 0; i < f->n_vitals && list; i++) {
        const galen_triage_vital *v = &f->vitals[i];
        json_t *one = json_pack("{s:s, s:o, s:b, s:I, s:I}", "kind", galen_vital_name(v->kind), "value", json_number(v->value),
                                "is_possible", v->is_possible, "from", (json_int_t)v->from, "to", (json_int_t)v->to);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_facts(const galen_triage_facts *f) {
    static const char *const sexes[] = {"unknown", "female", "male"};
    static const char *const pregnancies[] = {"unknown", "no", "yes", "postpartum"};
    return json_pack("{s:o, s:s, s:s, s:o, s:o}", "age_years", f->age_years < 0 ? json_null() : json_number(f->age_years), "sex",
                     sexes[f->sex], "pregnancy", pregnancies[f->pregnancy], "pregnancy_weeks",
                     f->pregnancy_weeks < 0 ? json_null() : json_number(f->pregnancy_weeks), "vitals", json_vitals(f));
}

static cli_exit print_json(cli *c, const galen_triage *t, const char *text) {
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "level", json_string(galen_triage_level_name(t->level))) ||
        json_object_set_new(root, "flags", json_flags(t, text)) || json_object_set_new(root, "asks", json_asks(t)) ||
        json_object_set_new(root, "warnings", json_warnings(t)) || json_object_set_new(root, "facts", json_facts(&t->facts))) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

/* ------------------------------------------------------------ for a person */

static void line(const cli *c, const char *text) {
    if (c->term.is_out_tty)
        term_wrap(stdout, text, c->term.n_columns);
    else
        (void)printf("%s\n", text);
}

static void print_flags(const cli *c, const galen_triage *t, const char *text) {
    if (t->n_flags) (void)printf("\n%sRed flags%s\n", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"));
    for (int32_t i = 0; i < t->n_flags; i++) {
        const galen_triage_flag *f = &t->flags[i];
        (void)printf("\n- %s%s%s [%s]\n", term_sgr(c, "\033[1m"), f->id, term_sgr(c, "\033[0m"),
                     galen_triage_level_name(f->level));
        line(c, f->message);
        if (f->to > f->from) {
            (void)fputs("words: \"", stdout);
            term_write(c, text + f->from, f->to - f->from);
            (void)fputs("\"\n", stdout);
        }
        (void)printf("source: %s\n", f->source);
    }
}

static void print_rest(cli *c, const galen_triage *t) {
    if (t->n_asks) (void)printf("\n%sTo rule out%s\n", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"));
    for (int32_t i = 0; i < t->n_asks; i++) (void)printf("%d. %s\n", i + 1, t->asks[i].question);
    for (int32_t i = 0; i < t->n_warnings; i++) term_note(c, "%s", t->warnings[i].message);
}

static void print_text(cli *c, const galen_triage *t, const char *text) {
    const bool is_alarm = t->level >= GALEN_TRIAGE_EMERGENCY;
    line(c, galen_assist_intended_use());
    (void)printf("\n%sTriage: %s%s\n", term_sgr(c, is_alarm ? "\033[1;31m" : "\033[1m"), galen_triage_level_name(t->level),
                 term_sgr(c, "\033[0m"));
    line(c, galen_triage_level_advice(t->level));
    print_flags(c, t, text);
    print_rest(c, t);
}

cli_exit verb_triage(cli *c) {
    text_buf text = {0};
    galen_error err = {0};
    cli_exit st = input_query(c, c->args.n_positional ? c->args.positional[0] : NULL, "symptoms", &text);
    galen_triage *t = st ? NULL : malloc(sizeof *t);
    if (!st && !t) {
        term_error(c, "out of memory");
        st = CLI_MEMORY;
    }
    if (st) goto done;
    if (galen_triage_text(text.bytes, text.n, t, &err)) {
        st = engine_fail(c, PHASE_USE, &err);
        goto done;
    }
    if (c->args.json)
        st = print_json(c, t, text.bytes);
    else
        print_text(c, t, text.bytes);
done:
    free(t);
    free(text.bytes);
    return st;
}
