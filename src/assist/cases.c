#include "assist/cases.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/json_line.h"
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

/* Every text in a string, a flat list or a flat object. */
static void put_texts(text_out *o, const char *of, json_t *j) {
    size_t i;
    json_t *one;
    if (json_is_string(j)) put_sentence(o, of, json_string_value(j));
    json_array_foreach(j, i, one) put_sentence(o, i ? NULL : of, json_string_value(one));
    for (void *at = json_object_iter(j); at; at = json_object_iter_next(j, at))
        put_sentence(o, NULL, json_string_value(json_object_iter_value(at)));
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

/* What a case is made of while it is read. bad: a field that cannot be, for the message. */
typedef struct reading {
    labelled_case *c;
    text_out text, opening, facts;
    bool is_starved;
    const char *bad;
} reading;

static void put_fact(reading *r, const char *of, const char *s) {
    if (!s || !*s) return;
    put_sentence(&r->facts, of, s);
    put(&r->facts, "\n", 1);
}

/* A string or a flat list of strings as facts. */
static void put_facts(reading *r, const char *of, const json_t *j) {
    size_t i;
    const json_t *one;
    put_fact(r, of, json_string_value(j));
    json_array_foreach(j, i, one) put_fact(r, of, json_string_value(one));
}

/* "Bowel_Sounds" as words. */
static void key_words(const char *key, char *out, size_t cap) {
    size_t n = 0;
    for (; key[n] && n + 1 < cap; n++) out[n] = key[n] == '_' ? ' ' : key[n];
    out[n] = '\0';
}

/* Every text in nested objects, behind its key: "Palpation: tender." Deeper than EXAM_DEPTH is left out. */
static void put_exam(reading *r, json_t *exam) {
    enum { EXAM_DEPTH = 8 };
    json_t *at[EXAM_DEPTH];
    void *next[EXAM_DEPTH];
    int depth = 0;
    char key[64];
    if (!json_is_object(exam)) return;
    at[0] = exam;
    next[0] = json_object_iter(exam);
    while (depth >= 0) {
        if (!next[depth]) {
            depth--;
            continue;
        }
        json_t *v = json_object_iter_value(next[depth]);
        key_words(json_object_iter_key(next[depth]), key, sizeof key);
        next[depth] = json_object_iter_next(at[depth], next[depth]);
        if (!json_is_object(v)) {
            put_facts(r, key, v);
        } else if (depth + 1 < EXAM_DEPTH) {
            depth++;
            at[depth] = v;
            next[depth] = json_object_iter(v);
        }
    }
}

/* ------------------------------------------------------------ labels */

const case_tier case_tiers[CASE_N_TIERS] = {
    {"routine", GALEN_TRIAGE_SELF_CARE, GALEN_TRIAGE_CONSULTATION},
    {"urgent", GALEN_TRIAGE_CONSULTATION_24, GALEN_TRIAGE_EMERGENCY},
    {"critical", GALEN_TRIAGE_EMERGENCY, GALEN_TRIAGE_EMERGENCY_AMBULANCE},
};

static void take_tier(reading *r, const json_t *j, const char *bad) {
    const char *name = json_string_value(j);
    if (!j) return;
    for (int32_t i = 0; i < CASE_N_TIERS && name; i++) {
        if (strcmp(name, case_tiers[i].name) != 0) continue;
        r->c->tier = i;
        r->c->least = (int32_t)case_tiers[i].least;
        r->c->most = (int32_t)case_tiers[i].most;
        return;
    }
    r->bad = bad;
}

static void take_level(reading *r, const json_t *j) {
    const char *name = json_string_value(j);
    if (!j) return;
    for (int32_t i = 0; i <= (int32_t)GALEN_TRIAGE_EMERGENCY_AMBULANCE && name; i++) {
        if (strcmp(name, galen_triage_level_name((galen_triage_level)i)) != 0) continue;
        r->c->least = r->c->most = i;
        return;
    }
    r->bad = "\"level\" is not self_care, consultation, consultation_24, emergency or emergency_ambulance";
}

/* "M32.9": a letter, a digit, a letter or digit, and up to four more behind a point. */
static void take_code(reading *r, const json_t *j) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", digits[] = "0123456789";
    const char *s = json_string_value(j);
    if (!j || json_is_null(j)) return;
    bool ok = s && strlen(s) >= 3 && strlen(s) != 4 && strlen(s) <= 8 && strchr(letters, s[0]) && strchr(digits, s[1]);
    for (size_t i = 2; ok && s[i]; i++) ok = i == 3 ? s[i] == '.' : strchr(letters, s[i]) || strchr(digits, s[i]);
    if (ok)
        (void)snprintf(r->c->code, sizeof r->c->code, "%s", s);
    else
        r->bad = "\"code\" is not of the form of an ICD-10-CM code";
}

static void take_categories(reading *r, const json_t *list) {
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one) {
        const char *name = json_string_value(one);
        if (!name || !*name || strlen(name) >= CASE_CATEGORY_BYTES || r->c->n_categories == CASE_MAX_CATEGORIES) {
            r->bad = "\"gold_red_flag_categories\" is no list of at most 8 short names";
            return;
        }
        (void)snprintf(r->c->categories[r->c->n_categories++], CASE_CATEGORY_BYTES, "%s", name);
    }
}

/* ------------------------------------------------------------ the forms */

static bool from_plain(const json_t *root, reading *r) {
    const json_t *text = json_object_get(root, "text"), *names = json_object_get(root, "diagnosis"), *one;
    const json_t *facts = json_object_get(root, "facts"), *opening = json_object_get(root, "opening");
    size_t i;
    if (!json_is_string(text)) return false;
    put(&r->text, json_string_value(text), json_string_length(text));
    put_fact(r, NULL, json_string_value(text));
    if (json_is_string(names)) add_wordings(r->c, json_string_value(names), &r->is_starved);
    json_array_foreach(names, i, one) {
        if (!json_is_string(one)) r->bad = "\"diagnosis\" holds something that is no text";
        add_wordings(r->c, json_string_value(one), &r->is_starved);
    }
    if (names && !json_is_string(names) && !json_is_array(names) && !json_is_null(names))
        r->bad = "\"diagnosis\" is neither a text nor a list of texts";
    if (facts && !json_is_string(facts) && !json_is_array(facts)) r->bad = "\"facts\" is neither a text nor a list of texts";
    if (opening && !json_is_string(opening)) r->bad = "\"opening\" is no text";
    put_facts(r, NULL, facts);
    if (json_string_length(opening)) put(&r->opening, json_string_value(opening), json_string_length(opening));
    take_tier(r, json_object_get(root, "tier"), "\"tier\" is not routine, urgent or critical");
    take_level(r, json_object_get(root, "level"));
    return true;
}

/* What an actor knows. "Past history" is no fact's name: "has it or had it" is one question to a patient. */
static const struct {
    const char *key, *of;
    bool is_symptom, is_said; /* is_said: of the text; else only when asked */
} actor_parts[] = {{"Demographics", NULL, false, true},
                   {"History", NULL, false, true},
                   {"Primary_Symptom", NULL, true, true},
                   {"Secondary_Symptoms", NULL, true, true},
                   {"Past_Medical_History", "Past history", false, true},
                   {"Social_History", NULL, false, false},
                   {"Review_of_Systems", NULL, false, true}};
enum { N_ACTOR_PARTS = sizeof actor_parts / sizeof actor_parts[0] };

/* Keys beyond those: "Current_Medications", "Family_History". */
static void put_other_parts(reading *r, json_t *actor) {
    char words[64];
    for (void *at = json_object_iter(actor); at; at = json_object_iter_next(actor, at)) {
        const char *key = json_object_iter_key(at);
        json_t *v = json_object_iter_value(at);
        bool is_known = strcmp(key, "Symptoms") == 0;
        for (int i = 0; i < N_ACTOR_PARTS; i++) is_known |= strcmp(key, actor_parts[i].key) == 0;
        if (is_known) continue;
        key_words(key, words, sizeof words);
        put_facts(r, words, v);
        put_exam(r, v);
    }
}

static bool from_osce(const json_t *root, reading *r) {
    const json_t *osce = json_object_get(root, "OSCE_Examination"), *name = json_object_get(osce, "Correct_Diagnosis");
    json_t *actor = json_object_get(osce, "Patient_Actor");
    const json_t *symptoms = json_object_get(actor, "Symptoms");
    if (!json_is_object(actor)) return false;
    for (int i = 0; i < N_ACTOR_PARTS; i++) {
        json_t *j = json_object_get(actor_parts[i].is_symptom ? symptoms : actor, actor_parts[i].key);
        if (actor_parts[i].is_said) put_texts(&r->text, actor_parts[i].of, j);
        put_facts(r, NULL, j);
        put_exam(r, j);
    }
    put_other_parts(r, actor);
    put_texts(&r->opening, NULL, json_object_get(actor, "Demographics"));
    put_texts(&r->opening, NULL, json_object_get(symptoms, "Primary_Symptom"));
    put_exam(r, json_object_get(osce, "Physical_Examination_Findings"));
    if (name && !json_is_string(name)) r->bad = "\"Correct_Diagnosis\" is no text";
    add_wordings(r->c, json_string_value(name), &r->is_starved);
    return true;
}

static void put_vital(text_out *o, const json_t *vitals, const char *key, const char *word, const char *unit) {
    char line[96];
    const json_t *v = json_object_get(vitals, key);
    if (!json_is_number(v)) return;
    (void)snprintf(line, sizeof line, "%s %g%s", word, json_number_value(v), unit);
    put_sentence(o, NULL, line);
}

static void put_pressure(text_out *o, const json_t *vitals) {
    char line[96];
    const double systolic = json_number_value(json_object_get(vitals, "systolic_bp"));
    const double diastolic = json_number_value(json_object_get(vitals, "diastolic_bp"));
    if (systolic > 0 && diastolic > 0)
        (void)snprintf(line, sizeof line, "Blood pressure %g/%g mmHg", systolic, diastolic);
    else
        (void)snprintf(line, sizeof line, "Systolic blood pressure %g mmHg", systolic);
    if (systolic > 0) put_sentence(o, NULL, line);
}

static bool from_vignette(const json_t *root, reading *r) {
    const json_t *in = json_object_get(root, "input"), *who = json_object_get(in, "demographics");
    const json_t *vitals = json_object_get(in, "vitals"), *labels = json_object_get(root, "labels");
    char line[96];
    if (!json_is_object(in) || !json_is_string(json_object_get(in, "chief_complaint"))) return false;
    if (json_is_number(json_object_get(who, "age"))) {
        const char *sex = json_string_value(json_object_get(who, "sex"));
        (void)snprintf(line, sizeof line, "%g-year-old %.20s", json_number_value(json_object_get(who, "age")),
                       sex ? sex : "patient");
        put_sentence(&r->text, NULL, line);
    }
    put_texts(&r->text, NULL, json_object_get(in, "chief_complaint"));
    put_texts(&r->text, NULL, json_object_get(in, "history"));
    put_vital(&r->text, vitals, "heart_rate", "Heart rate", "");
    put_pressure(&r->text, vitals);
    put_vital(&r->text, vitals, "temperature_c", "Temperature", " C");
    put_vital(&r->text, vitals, "spo2", "SpO2", " %");
    put_vital(&r->text, vitals, "respiratory_rate", "Respiratory rate", "");
    put_fact(r, NULL, r->text.s);
    take_tier(r, json_object_get(labels, "gold_risk_tier"), "\"gold_risk_tier\" is not routine, urgent or critical");
    take_categories(r, json_object_get(labels, "gold_red_flag_categories"));
    return true;
}

/* ------------------------------------------------------------ a line */

static void take_id(reading *r, const json_t *j) {
    const char *id = json_string_value(j);
    if (j && !json_is_null(j) && (!id || strlen(id) >= CASE_ID_BYTES)) r->bad = "\"id\" is no text of at most 63 bytes";
    if (!r->bad) (void)snprintf(r->c->id, sizeof r->c->id, "%s", id ? id : "");
}

static const char no_form[] = "no case: neither \"text\" nor \"OSCE_Examination\" nor \"input\" with their texts";

galen_status cases_parse(const char *line, size_t n, labelled_case *out, galen_error *err) {
    json_t *root;
    *out = (labelled_case){.tier = -1, .least = -1, .most = -1};
    reading r = {.c = out};
    const galen_status st = json_line_read(line, n, &root, err);
    if (st) return st;
    const bool is_known = from_plain(root, &r) || from_osce(root, &r) || from_vignette(root, &r);
    take_code(&r, json_object_get(root, "code"));
    take_id(&r, json_object_get(root, "id"));
    json_decref(root);
    out->text = r.text.s;
    out->n = r.text.n;
    out->opening = r.opening.s;
    out->facts = r.facts.s;
    const bool is_starved = r.is_starved || r.text.is_bad || r.opening.is_bad || r.facts.is_bad;
    if (is_known && out->text && !is_starved && !r.bad) return GALEN_OK;
    cases_free(out);
    if (is_starved) return galen_fail(err, GALEN_E_NOMEM, 0, "a case of %zu bytes", n);
    return galen_fail(err, GALEN_E_FORMAT, 0, "%s", is_known && r.bad ? r.bad : no_form);
}

void cases_free(labelled_case *c) {
    free(c->text);
    free(c->opening);
    free(c->facts);
    for (int32_t i = 0; i < c->n_names; i++) free(c->names[i]);
    *c = (labelled_case){.tier = -1, .least = -1, .most = -1};
}

int32_t cases_right(const labelled_case *c, const galen_differential *d, const galen_codes *codes) {
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        for (int32_t k = 0; k < c->n_names; k++) {
            if (galen_condition_is_same(codes, d->conditions[i].name, c->names[k])) return d->conditions[i].order;
        }
    }
    return GALEN_N_CONDITIONS;
}

void cases_scores(const labelled_case *c, const galen_differential *d, const galen_codes *codes, fit_case *out) {
    *out = (fit_case){.has_choice = d->has_choice, .n_text = d->n_text, .right = cases_right(c, d, codes)};
    out->choice[GALEN_N_CONDITIONS] = d->choice_other;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *k = &d->conditions[i];
        out->name[k->order] = k->name_logprob - k->name_prior;
        out->text[k->order] = k->text_logprob;
        out->choice[k->order] = k->choice_logprob;
    }
}
