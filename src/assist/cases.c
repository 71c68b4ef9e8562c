#include "assist/cases.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Text that grows; is_bad once memory was out. */
typedef struct text_out {
    char *s;
    size_t n, cap;
    bool is_bad;
} text_out;

static void put(text_out *o, const char *s, size_t n) {
    if (o->is_bad) return;
    if (!o->s || o->cap - o->n < n + 1) {
        const size_t cap = (o->n + n + 64) * 2;
        char *p = realloc(o->s, cap);
        if (!p) {
            o->is_bad = true;
            return;
        }
        o->s = p;
        o->cap = cap;
    }
    memcpy(o->s + o->n, s, n);
    o->n += n;
    o->s[o->n] = '\0';
}

/* A sentence: what it is of, unless NULL, and its text. */
static void put_sentence(text_out *o, const char *of, const char *s) {
    if (!s || !*s) return;
    if (o->n) put(o, " ", 1);
    if (of) {
        put(o, of, strlen(of));
        put(o, ": ", 2);
    }
    put(o, s, strlen(s));
    if (!strchr(".!?", s[strlen(s) - 1])) put(o, ".", 1);
}

/* Every text in a string or a flat list. */
static void put_texts(text_out *o, const char *of, const json_t *j) {
    size_t i;
    const json_t *one;
    if (json_is_string(j)) put_sentence(o, of, json_string_value(j));
    json_array_foreach(j, i, one) put_sentence(o, i ? NULL : of, json_string_value(one));
}

static void add_name(labelled_case *c, const char *name, bool *is_bad) {
    if (!name || !*name || c->n_names == CASE_MAX_NAMES) return;
    c->names[c->n_names] = strdup(name);
    *is_bad |= !c->names[c->n_names];
    c->n_names += c->names[c->n_names] != NULL;
}

/* "Hirschsprung disease (HD)": the name without the bracket, and what is in it, are names too. */
static void add_wordings(labelled_case *c, const char *name, bool *is_bad) {
    add_name(c, name, is_bad);
    const char *open = name ? strstr(name, " (") : NULL, *close = open ? strchr(open, ')') : NULL;
    if (!close) return;
    char *s = strndup(name, (size_t)(open - name)), *inner = strndup(open + 2, (size_t)(close - open) - 2);
    add_name(c, s, is_bad);
    add_name(c, inner, is_bad);
    *is_bad |= !s || !inner;
    free(s);
    free(inner);
}

static bool from_plain(const json_t *root, labelled_case *c, text_out *o, bool *is_bad) {
    const json_t *text = json_object_get(root, "text"), *names = json_object_get(root, "diagnosis"), *one;
    size_t i;
    if (!json_is_string(text)) return false;
    put(o, json_string_value(text), json_string_length(text));
    if (json_is_string(names)) add_wordings(c, json_string_value(names), is_bad);
    json_array_foreach(names, i, one) add_wordings(c, json_string_value(one), is_bad);
    return true;
}

static bool from_osce(const json_t *root, labelled_case *c, text_out *o, bool *is_bad) {
    const json_t *osce = json_object_get(root, "OSCE_Examination"), *actor = json_object_get(osce, "Patient_Actor");
    const json_t *symptoms = json_object_get(actor, "Symptoms");
    if (!json_is_object(actor)) return false;
    put_texts(o, NULL, json_object_get(actor, "Demographics"));
    put_texts(o, NULL, json_object_get(actor, "History"));
    put_texts(o, NULL, json_object_get(symptoms, "Primary_Symptom"));
    put_texts(o, NULL, json_object_get(symptoms, "Secondary_Symptoms"));
    put_texts(o, "Past history", json_object_get(actor, "Past_Medical_History"));
    put_texts(o, NULL, json_object_get(actor, "Review_of_Systems"));
    add_wordings(c, json_string_value(json_object_get(osce, "Correct_Diagnosis")), is_bad);
    return true;
}

static void put_vital(text_out *o, const json_t *vitals, const char *key, const char *word, const char *unit) {
    char line[96];
    const json_t *v = json_object_get(vitals, key);
    if (!json_is_number(v)) return;
    (void)snprintf(line, sizeof line, "%s %g%s", word, json_number_value(v), unit);
    put_sentence(o, NULL, line);
}

static bool from_vignette(const json_t *root, labelled_case *c, text_out *o) {
    const json_t *in = json_object_get(root, "input"), *who = json_object_get(in, "demographics");
    const json_t *vitals = json_object_get(in, "vitals");
    const char *tier = json_string_value(json_object_get(json_object_get(root, "labels"), "gold_risk_tier"));
    char line[96];
    if (!json_is_object(in) || !json_is_string(json_object_get(in, "chief_complaint"))) return false;
    if (json_is_number(json_object_get(who, "age"))) {
        const char *sex = json_string_value(json_object_get(who, "sex"));
        (void)snprintf(line, sizeof line, "%g-year-old %.20s", json_number_value(json_object_get(who, "age")),
                       sex ? sex : "patient");
        put_sentence(o, NULL, line);
    }
    put_texts(o, NULL, json_object_get(in, "chief_complaint"));
    put_texts(o, NULL, json_object_get(in, "history"));
    put_vital(o, vitals, "heart_rate", "Heart rate", "");
    const double systolic = json_number_value(json_object_get(vitals, "systolic_bp"));
    const double diastolic = json_number_value(json_object_get(vitals, "diastolic_bp"));
    (void)snprintf(line, sizeof line, "Blood pressure %g/%g mmHg", systolic, diastolic);
    if (systolic > 0 && diastolic > 0) put_sentence(o, NULL, line);
    put_vital(o, vitals, "temperature_c", "Temperature", " C");
    put_vital(o, vitals, "spo2", "SpO2", " %");
    put_vital(o, vitals, "respiratory_rate", "Respiratory rate", "");
    (void)snprintf(c->tier, sizeof c->tier, "%s", tier ? tier : "");
    return true;
}

galen_status cases_parse(const char *line, size_t n, labelled_case *out, galen_error *err) {
    json_error_t why;
    text_out o = {0};
    bool is_bad = false;
    *out = (labelled_case){0};
    json_t *root = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!root) return galen_fail(err, GALEN_E_FORMAT, (uint64_t)(why.position > 0 ? why.position : 0), "not one JSON object");
    const bool is_known = from_plain(root, out, &o, &is_bad) || from_osce(root, out, &o, &is_bad) || from_vignette(root, out, &o);
    const char *id = json_string_value(json_object_get(root, "id"));
    (void)snprintf(out->id, sizeof out->id, "%s", id ? id : "");
    json_decref(root);
    out->text = o.s;
    out->n = o.n;
    if (is_known && o.s && !is_bad && !o.is_bad) return GALEN_OK;
    cases_free(out);
    if (is_bad || o.is_bad) return galen_fail(err, GALEN_E_NOMEM, 0, "a case of %zu bytes", n);
    return galen_fail(err, GALEN_E_FORMAT, 0,
                      "no case: neither \"text\" nor \"OSCE_Examination\" nor \"input\" with their texts");
}

void cases_free(labelled_case *c) {
    free(c->text);
    for (int32_t i = 0; i < c->n_names; i++) free(c->names[i]);
    *c = (labelled_case){0};
}

int32_t cases_right(const labelled_case *c, const galen_differential *d, const galen_codes *codes) {
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        for (int32_t k = 0; k < c->n_names; k++) {
            if (galen_condition_is_same(codes, d->conditions[i].name, c->names[k])) return d->conditions[i].order;
        }
    }
    return GALEN_N_CONDITIONS;
}
