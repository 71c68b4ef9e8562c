#include "eval/row.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "assist/json_line.h"
#include "assist/record.h"
#include "base/error.h"

#define SCHEMA_VERSION 1

static const char *const status_names[] = {"not_run", "done", "refused", "too_long"};
enum { N_STATUS = sizeof status_names / sizeof status_names[0] };

const char *eval_status_name(eval_status s) {
    return (unsigned)s < N_STATUS ? status_names[s] : "?";
}

int32_t eval_rank(const eval_row *r) {
    return r->expected_code[0] ? r->category_rank : r->name_rank;
}

/* ------------------------------------------------------------ out */

static json_t *text(const char *s) { /* null for "" */
    return s[0] ? record_text(s, strlen(s)) : json_null();
}

static json_t *numbers(const double *v, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n && list; i++) {
        if (json_array_append_new(list, json_real(v[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *categories(const eval_row *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_categories && list; i++) {
        if (json_array_append_new(list, text(r->categories[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *conditions(const eval_row *r) {
    json_t *list = json_array();
    for (int i = 0; i < GALEN_N_CONDITIONS && list; i++) {
        const eval_condition *c = &r->conditions[i];
        json_t *one = json_pack("{s:o, s:o, s:f, s:i, s:b, s:b}", "name", text(c->name), "code", text(c->code), "confidence",
                                c->confidence, "order", (int)c->order, "is_name", c->is_name, "is_category", c->is_category);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *model(const eval_row *r) {
    const fit_case *f = &r->scores;
    if (r->status != EVAL_DONE) return json_pack("{s:s}", "status", eval_status_name(r->status));
    return json_pack("{s:s, s:o, s:f, s:i, s:i, s:s, s:f, s:f, s:{s:o, s:o, s:o, s:i, s:b, s:i}}", "status",
                     eval_status_name(r->status), "conditions", conditions(r), "other", r->other, "name_rank", (int)r->name_rank,
                     "category_rank", (int)r->category_rank, "level", galen_triage_level_name((galen_triage_level)r->model_level),
                     "first_s", r->first_s, "ranked_s", r->ranked_s, "scores", "name", numbers(f->name, GALEN_N_CONDITIONS),
                     "choice", numbers(f->choice, FIT_OPTIONS), "text", numbers(f->text, GALEN_N_CONDITIONS), "n_text",
                     (int)f->n_text, "has_choice", f->has_choice, "right", (int)f->right);
}

static json_t *questions(const eval_questions *q) {
    if (q->status != EVAL_DONE) return json_pack("{s:s}", "status", eval_status_name(q->status));
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:s, s:f}", "status", eval_status_name(q->status), "n_asked",
                     (int)q->n_asked, "n_yes", (int)q->n_yes, "n_no", (int)q->n_no, "n_unknown", (int)q->n_unknown, "start_rank",
                     (int)q->start_rank, "end_rank", (int)q->end_rank, "reached",
                     q->reached < 0 ? json_null() : json_integer(q->reached), "stop", galen_stop_name(q->stop), "seconds",
                     q->seconds);
}

json_t *row_json(const eval_row *r) {
    return json_pack("{s:s, s:s, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:o}, s:{s:s, s:i, s:f}, s:o, s:o}", "kind", "case", "key",
                     r->key, "id", text(r->id), "labels", "diagnosis", text(r->expected), "code", text(r->expected_code), "tier",
                     r->tier < 0 ? json_null() : json_string(case_tiers[r->tier].name), "least",
                     r->least < 0 ? json_null() : json_integer(r->least), "most",
                     r->most < 0 ? json_null() : json_integer(r->most), "categories", categories(r), "rules", "level",
                     galen_triage_level_name((galen_triage_level)r->level), "n_flags", (int)r->n_flags, "seconds", r->rules_s,
                     "model", model(r), "questions", questions(&r->questions));
}

static json_t *calibration_of(const galen_calibration *k) {
    if (!k->n_cases) return json_null();
    return json_pack("{s:f, s:f, s:f, s:f, s:i}", "temperature", k->temperature, "name_weight", k->name_weight, "text_weight",
                     k->text_weight, "other_bias", k->other_bias, "n_cases", (int)k->n_cases);
}

json_t *head_json(const eval_head *h) {
    return json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:I, s:i, s:o}", "kind", "head", "schema_version", SCHEMA_VERSION,
                     "model_sha256", text(h->model_sha256), "model_name", text(h->model_name), "device", text(h->device),
                     "prompt_version", text(h->prompt_version), "code_release", text(h->code_release), "seed",
                     (json_int_t)h->seed, "max_questions", (int)h->max_questions, "calibration", calibration_of(&h->calibration));
}

/* ------------------------------------------------------------ in */

/* A member that is not what it must be sets bad to its name, once. */
typedef struct in {
    const char *bad;
} in;

static void fail(in *x, const char *key) {
    if (!x->bad) x->bad = key;
}

static void take_text(in *x, const json_t *j, const char *key, char *out, size_t cap) {
    const json_t *v = json_object_get(j, key);
    const char *s = json_string_value(v);
    out[0] = '\0';
    if (!v || (!json_is_null(v) && (!s || strlen(s) >= cap))) fail(x, key);
    if (!x->bad && s) (void)snprintf(out, cap, "%s", s);
}

static double take_number(in *x, const json_t *j, const char *key, double least, double most) {
    const json_t *v = json_object_get(j, key);
    const double d = json_number_value(v);
    if (!json_is_number(v) || !isfinite(d) || d < least || d > most) {
        fail(x, key);
        return least;
    }
    return d;
}

static int32_t take_int(in *x, const json_t *j, const char *key, int32_t least, int32_t most) {
    const json_t *v = json_object_get(j, key);
    const json_int_t d = json_integer_value(v);
    if (!json_is_integer(v) || d < least || d > most) {
        fail(x, key);
        return least;
    }
    return (int32_t)d;
}

static int32_t take_int_or_null(in *x, const json_t *j, const char *key, int32_t most) {
    return json_is_null(json_object_get(j, key)) ? -1 : take_int(x, j, key, 0, most);
}

static bool take_bool(in *x, const json_t *j, const char *key) {
    if (!json_is_boolean(json_object_get(j, key))) fail(x, key);
    return json_is_true(json_object_get(j, key));
}

/* The index of a word in names; the first when it is none of them. */
static int32_t take_word(in *x, const json_t *j, const char *key, int32_t n, const char *(*name)(int32_t i)) {
    const char *s = json_string_value(json_object_get(j, key));
    for (int32_t i = 0; i < n && s; i++) {
        if (strcmp(s, name(i)) == 0) return i;
    }
    fail(x, key);
    return 0;
}
static const char *level_name(int32_t i) {
    return galen_triage_level_name((galen_triage_level)i);
}
static const char *status_name(int32_t i) {
    return status_names[i];
}
static const char *stop_name(int32_t i) {
    return galen_stop_name((galen_stop)i);
}
static const char *tier_name(int32_t i) {
    return case_tiers[i].name;
}

static void take_numbers(in *x, const json_t *j, const char *key, double *out, size_t n) {
    const json_t *list = json_object_get(j, key);
    if (json_array_size(list) != n) fail(x, key);
    for (size_t i = 0; i < n; i++) {
        out[i] = json_number_value(json_array_get(list, i));
        if (!json_is_number(json_array_get(list, i)) || !(fabs(out[i]) <= 1e6)) fail(x, key); /* log-probabilities */
    }
}

static void take_labels(in *x, const json_t *j, eval_row *r) {
    const json_t *list = json_object_get(j, "categories"), *one;
    size_t i;
    take_text(x, j, "diagnosis", r->expected, sizeof r->expected);
    take_text(x, j, "code", r->expected_code, sizeof r->expected_code);
    r->tier = json_is_null(json_object_get(j, "tier")) ? -1 : take_word(x, j, "tier", CASE_N_TIERS, tier_name);
    r->least = take_int_or_null(x, j, "least", GALEN_TRIAGE_EMERGENCY_AMBULANCE);
    r->most = take_int_or_null(x, j, "most", GALEN_TRIAGE_EMERGENCY_AMBULANCE);
    if ((r->least < 0) != (r->most < 0) || r->least > r->most) fail(x, "least");
    if (!json_is_array(list) || json_array_size(list) > CASE_MAX_CATEGORIES) fail(x, "categories");
    json_array_foreach(list, i, one) {
        const char *s = json_string_value(one);
        if (!s || strlen(s) >= CASE_CATEGORY_BYTES || r->n_categories >= CASE_MAX_CATEGORIES) {
            fail(x, "categories");
            return;
        }
        (void)snprintf(r->categories[r->n_categories++], CASE_CATEGORY_BYTES, "%s", s);
    }
}

static void take_conditions(in *x, const json_t *list, eval_row *r) {
    unsigned seen = 0;
    if (json_array_size(list) != GALEN_N_CONDITIONS) fail(x, "conditions");
    for (size_t i = 0; i < GALEN_N_CONDITIONS; i++) {
        const json_t *j = json_array_get(list, i);
        eval_condition *c = &r->conditions[i];
        take_text(x, j, "name", c->name, sizeof c->name);
        take_text(x, j, "code", c->code, sizeof c->code);
        c->confidence = take_number(x, j, "confidence", 0, 1);
        c->order = take_int(x, j, "order", 0, GALEN_N_CONDITIONS - 1);
        c->is_name = take_bool(x, j, "is_name");
        c->is_category = take_bool(x, j, "is_category");
        seen |= 1u << c->order;
    }
    if (seen != (1u << GALEN_N_CONDITIONS) - 1) fail(x, "order");
}

static void take_model(in *x, const json_t *j, eval_row *r) {
    const json_t *s = json_object_get(j, "scores");
    fit_case *f = &r->scores;
    r->status = (eval_status)take_word(x, j, "status", N_STATUS, status_name);
    if (r->status != EVAL_DONE) return;
    take_conditions(x, json_object_get(j, "conditions"), r);
    r->other = take_number(x, j, "other", 0, 1);
    r->name_rank = take_int(x, j, "name_rank", 0, GALEN_N_CONDITIONS);
    r->category_rank = take_int(x, j, "category_rank", 0, GALEN_N_CONDITIONS);
    r->model_level = take_word(x, j, "level", GALEN_TRIAGE_EMERGENCY_AMBULANCE + 1, level_name);
    r->first_s = take_number(x, j, "first_s", 0, 1e9);
    r->ranked_s = take_number(x, j, "ranked_s", 0, 1e9);
    take_numbers(x, s, "name", f->name, GALEN_N_CONDITIONS);
    take_numbers(x, s, "choice", f->choice, FIT_OPTIONS);
    take_numbers(x, s, "text", f->text, GALEN_N_CONDITIONS);
    f->n_text = take_int(x, s, "n_text", 0, INT32_MAX);
    f->has_choice = take_bool(x, s, "has_choice");
    f->right = take_int(x, s, "right", 0, GALEN_N_CONDITIONS);
}

static void take_questions(in *x, const json_t *j, eval_questions *q) {
    enum { MOST = 64 };
    q->status = (eval_status)take_word(x, j, "status", N_STATUS, status_name);
    if (q->status != EVAL_DONE) return;
    q->n_asked = take_int(x, j, "n_asked", 0, MOST);
    q->n_yes = take_int(x, j, "n_yes", 0, MOST);
    q->n_no = take_int(x, j, "n_no", 0, MOST);
    q->n_unknown = take_int(x, j, "n_unknown", 0, MOST);
    q->start_rank = take_int(x, j, "start_rank", 0, GALEN_N_CONDITIONS);
    q->end_rank = take_int(x, j, "end_rank", 0, GALEN_N_CONDITIONS);
    q->reached = take_int_or_null(x, j, "reached", MOST);
    q->stop = (galen_stop)take_word(x, j, "stop", GALEN_STOP_USER + 1, stop_name);
    q->seconds = take_number(x, j, "seconds", 0, 1e9);
}

galen_status row_from_json(const json_t *j, eval_row *out, galen_error *err) {
    in x = {NULL};
    const json_t *rules = json_object_get(j, "rules");
    *out = (eval_row){0};
    take_text(&x, j, "key", out->key, sizeof out->key);
    if (!out->key[0]) fail(&x, "key");
    take_text(&x, j, "id", out->id, sizeof out->id);
    take_labels(&x, json_object_get(j, "labels"), out);
    out->level = take_word(&x, rules, "level", GALEN_TRIAGE_EMERGENCY_AMBULANCE + 1, level_name);
    out->n_flags = take_int(&x, rules, "n_flags", 0, GALEN_MAX_FLAGS);
    out->rules_s = take_number(&x, rules, "seconds", 0, 1e9);
    take_model(&x, json_object_get(j, "model"), out);
    take_questions(&x, json_object_get(j, "questions"), &out->questions);
    return x.bad ? galen_fail(err, GALEN_E_FORMAT, 0, "a case's \"%s\" is missing or not what it must be", x.bad) : GALEN_OK;
}

galen_status head_from_json(const json_t *j, eval_head *out, galen_error *err) {
    in x = {NULL};
    const json_t *k = json_object_get(j, "calibration"), *seed = json_object_get(j, "seed");
    *out = (eval_head){.calibration = galen_calibration_none()};
    (void)take_int(&x, j, "schema_version", SCHEMA_VERSION, SCHEMA_VERSION);
    take_text(&x, j, "model_sha256", out->model_sha256, sizeof out->model_sha256);
    take_text(&x, j, "model_name", out->model_name, sizeof out->model_name);
    take_text(&x, j, "device", out->device, sizeof out->device);
    take_text(&x, j, "prompt_version", out->prompt_version, sizeof out->prompt_version);
    take_text(&x, j, "code_release", out->code_release, sizeof out->code_release);
    if (!json_is_integer(seed) || json_integer_value(seed) < 0) fail(&x, "seed");
    out->seed = (uint64_t)json_integer_value(seed);
    out->max_questions = take_int(&x, j, "max_questions", 0, 64);
    if (!json_is_null(k)) {
        out->calibration.temperature = take_number(&x, k, "temperature", 0.01, 100);
        out->calibration.name_weight = take_number(&x, k, "name_weight", 0, 1);
        out->calibration.text_weight = take_number(&x, k, "text_weight", 0, 100);
        out->calibration.other_bias = take_number(&x, k, "other_bias", -100, 100);
        out->calibration.n_cases = take_int(&x, k, "n_cases", 1, INT32_MAX);
    }
    return x.bad ? galen_fail(err, GALEN_E_FORMAT, 0, "the first line's \"%s\" is missing or not what it must be", x.bad)
                 : GALEN_OK;
}

const char *head_differs(const eval_head *a, const eval_head *b) {
    const galen_calibration *k = &a->calibration, *l = &b->calibration;
    const bool has_one = k->n_cases && l->n_cases;
    if (strcmp(a->model_sha256, b->model_sha256) != 0) return "model_sha256";
    if (strcmp(a->prompt_version, b->prompt_version) != 0) return "prompt_version";
    if (strcmp(a->code_release, b->code_release) != 0) return "code_release";
    if (a->seed != b->seed) return "seed";
    if (a->max_questions != b->max_questions) return "max_questions";
    if (!k->n_cases != !l->n_cases) return "calibration";
    if (has_one && (fabs(k->temperature - l->temperature) > 1e-9 || fabs(k->name_weight - l->name_weight) > 1e-9 ||
                    fabs(k->text_weight - l->text_weight) > 1e-9 || fabs(k->other_bias - l->other_bias) > 1e-9))
        return "calibration";
    return NULL;
}

galen_status result_parse(const char *line, size_t n, bool *is_head, eval_head *head, eval_row *row, galen_error *err) {
    json_t *j;
    galen_status st = json_line_read(line, n, &j, err);
    *is_head = false;
    if (st) return st;
    const char *kind = json_string_value(json_object_get(j, "kind"));
    *is_head = kind && strcmp(kind, "head") == 0;
    if (*is_head)
        st = head_from_json(j, head, err);
    else if (kind && strcmp(kind, "case") == 0)
        st = row_from_json(j, row, err);
    else
        st = galen_fail(err, GALEN_E_FORMAT, 0, "no line of a results file of galen eval");
    json_decref(j);
    return st;
}
