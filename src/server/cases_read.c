/* Lists, one case, search, export, erasure, the audit trail. On the store's worker. */
#include <stdlib.h>
#include <string.h>

#include "assist/export.h"
#include "assist/record.h"
#include "server/api.h"
#include "server/cases.h"
#include "server/inside.h"

#define LIST_DEFAULT 50
#define LIST_MAX     500
#define QUERY_MAX    1024

static void fail_store(task *t, galen_status st, const galen_error *err) {
    http_error e = HTTP_STORE;
    if (st == GALEN_E_NOT_FOUND) e = HTTP_NO_CASE;
    if (st == GALEN_E_NOMEM) e = HTTP_NO_MEMORY;
    if (st == GALEN_E_ARG || st == GALEN_E_RANGE) e = HTTP_BAD_VALUE;
    if (e == HTTP_STORE) log_event(t->x->s, "error", "store_failed", "detail", err->msg);
    task_fail(t, e, e == HTTP_BAD_VALUE ? err : NULL);
}

/* ------------------------------------------------------------ lists */

typedef struct listing {
    task *t;
    json_t *data;
    int64_t last;
    bool is_bad;
} listing;

static bool on_case(void *user, const store_case *c) {
    listing *l = user;
    char token[CASE_TOKEN_BYTES];
    cases_token(l->t->cs, c->id, token);
    l->last = c->id;
    l->is_bad |= json_array_append_new(l->data, json_pack("{s:s, s:o, s:I, s:I, s:I}", "id", token, "title",
                                                          record_text(c->title, strlen(c->title)), "created_ms",
                                                          (json_int_t)c->created_ms, "changed_ms", (json_int_t)c->changed_ms,
                                                          "n_turns", (json_int_t)c->n_turns)) != 0;
    return !l->is_bad;
}

static int64_t int_of(const json_t *o, const char *name, int64_t otherwise) {
    const json_t *v = json_object_get(o, name);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static void run_list(task *t, store *st) {
    galen_error err = {0};
    listing l = {.t = t, .data = json_array()};
    const json_t *query = json_object_get(t->body, "query");
    const int64_t most = int_of(t->body, "limit", LIST_DEFAULT);
    int64_t before = 0;
    (void)cases_id(
        t->cs, json_is_string(json_object_get(t->body, "before")) ? json_string_value(json_object_get(t->body, "before")) : "",
        &before);
    const galen_status bad =
        query ? store_search(st, json_string_value(query), json_string_length(query), before, most, on_case, &l, &err)
              : store_list(st, before, most, on_case, &l, &err);
    if (bad) fail_store(t, bad, &err);
    if (l.is_bad) task_fail(t, HTTP_NO_MEMORY, NULL);
    char next[CASE_TOKEN_BYTES] = "";
    if (l.last && (int64_t)json_array_size(l.data) == most) cases_token(t->cs, l.last, next);
    task_reply(t, json_pack("{s:s, s:o, s:s?}", "object", "list", "data", l.data, "next", next[0] ? next : NULL));
}

/* ------------------------------------------------------------ one case */

static const char *state_of(const store_show *show) {
    const char *last = show->n_turns ? show->turns[show->n_turns - 1].kind : "";
    return strcmp(last, "question") == 0 ? "asking" : strcmp(last, "closed") == 0 ? "closed" : "open";
}

static json_t *turns_of(const store_show *show) {
    json_t *list = json_array();
    for (size_t i = 0; i < show->n_turns; i++) {
        const store_turn *k = &show->turns[i];
        json_t *content = json_loadb(k->json, k->n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (json_array_append_new(list,
                                  json_pack("{s:I, s:I, s:s, s:o}", "seq", (json_int_t)k->seq, "time_ms", (json_int_t)k->time_ms,
                                            "kind", k->kind, "content", content ? content : json_null()))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static void run_show(task *t, store *st) {
    galen_error err = {0};
    store_show show = {0};
    char token[CASE_TOKEN_BYTES];
    json_t *root = NULL;
    const galen_status bad = store_case_get(st, t->id, &show, &err);
    cases_token(t->cs, t->id, token);
    if (bad)
        fail_store(t, bad, &err);
    else
        root = json_pack("{s:s, s:s, s:I, s:I, s:s, s:o}", "id", token, "state", state_of(&show), "created_ms",
                         (json_int_t)show.info.created_ms, "changed_ms", (json_int_t)show.info.changed_ms, "intended_use",
                         galen_assist_intended_use(), "turns", turns_of(&show));
    store_show_free(&show);
    task_reply(t, root);
}

static const struct {
    const char *name, *type, *ending;
} formats[] = {{"json", "application/json", "json"},
               {"markdown", "text/markdown; charset=utf-8", "md"},
               {"text", "text/plain; charset=utf-8", "txt"},
               {"html", "text/html; charset=utf-8", "html"},
               {"fhir", "application/fhir+json", "fhir.json"}};

static galen_status write_export(const store_show *show, export_format format, export_text *out, galen_error *err) {
    export_turn *turns = calloc(show->n_turns + 1, sizeof *turns);
    if (!turns) return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    for (size_t i = 0; i < show->n_turns; i++)
        turns[i] = (export_turn){show->turns[i].kind, show->turns[i].time_ms, show->turns[i].json, show->turns[i].n};
    const export_case c = {.id = show->info.id,
                           .created_ms = show->info.created_ms,
                           .changed_ms = show->info.changed_ms,
                           .parent = show->info.parent,
                           .parent_turns = show->info.parent_turns,
                           .params = show->params,
                           .turns = turns,
                           .n_turns = show->n_turns};
    const galen_status st = export_write(format, &c, out, err);
    free(turns);
    return st;
}

static void run_export(task *t, store *st) {
    galen_error err = {0};
    store_show show = {0};
    export_text text = {0};
    export_format format = EXPORT_JSON;
    exchange *x = t->x;
    size_t row = 0;
    const char *name = json_string_value(json_object_get(t->body, "format"));
    while (row + 1 < sizeof formats / sizeof formats[0] && strcmp(formats[row].name, name) != 0) row++;
    (void)export_format_find(name, &format);
    galen_status bad = store_case_get(st, t->id, &show, &err);
    if (!bad) bad = write_export(&show, format, &text, &err);
    store_show_free(&show);
    if (!bad) {
        const store_audit a = {.action = "export", .case_id = t->id};
        (void)store_audit_append(st, &a, NULL);
        bytes b = {.p = text.bytes, .n = text.n};
        reply_bytes(x, 200, formats[row].type, &b);
        exchange_unref(x);
        return;
    }
    fail_store(t, bad, &err);
    task_end(t);
}

static void run_erase(task *t, store *st) {
    galen_error err = {0};
    store_erasure e = {0};
    cases_forget(t->cs, t->id);
    const galen_status bad = t->id > 0 ? store_erase(st, t->id, &e, &err) : GALEN_OK;
    if (bad) {
        fail_store(t, bad, &err);
    } else {
        const store_audit a = {.action = "erase", .case_id = t->id};
        (void)store_audit_append(st, &a, NULL);
    }
    task_reply(t, json_pack("{s:b, s:I, s:I, s:b}", "is_erased", 1, "n_turns", (json_int_t)e.n_turns, "n_branches",
                            (json_int_t)e.n_branches, "is_scrubbed", (int)e.is_scrubbed));
}

/* Enough: the person ends the case. */
static void run_close(task *t, store *st) {
    galen_error err = {0};
    store_show show = {0};
    const galen_status bad = t->id > 0 ? store_case_get(st, t->id, &show, &err) : GALEN_OK;
    const bool is_open = t->id < 0 || (!bad && strcmp(state_of(&show), "closed") != 0);
    store_show_free(&show);
    if (bad)
        fail_store(t, bad, &err);
    else if (!is_open)
        task_fail(t, HTTP_CONFLICT, NULL);
    else if (task_turn(t, st, "closed", record_closed(GALEN_STOP_USER)))
        cases_forget(t->cs, t->id);
    task_end(t);
}

/* ------------------------------------------------------------ the audit trail */

static bool on_audit(void *user, const store_audit_row *r) {
    listing *l = user;
    char token[CASE_TOKEN_BYTES];
    cases_token(l->t->cs, r->case_id, token);
    json_t *params = r->params ? json_loads(r->params, 0, NULL) : NULL;
    l->is_bad |= json_array_append_new(l->data, json_pack("{s:I, s:I, s:s, s:s?, s:s?, s:s?, s:o}", "seq", (json_int_t)r->seq,
                                                          "time_ms", (json_int_t)r->time_ms, "action", r->action, "case",
                                                          r->case_id ? token : NULL, "model_sha256", r->model_sha256, "build",
                                                          r->build, "params", params ? params : json_null())) != 0;
    return !l->is_bad;
}

static void run_audit(task *t, store *st) {
    galen_error err = {0}, broken = {0};
    listing l = {.t = t, .data = json_array()};
    int64_t n = 0;
    const galen_status bad =
        store_audit_list(st, int_of(t->body, "from", 1), int_of(t->body, "limit", LIST_DEFAULT), on_audit, &l, &err);
    const galen_status verdict = bad ? GALEN_OK : store_audit_verify(st, &n, &broken);
    if (bad) fail_store(t, bad, &err);
    if (verdict && verdict != GALEN_E_FORMAT) fail_store(t, verdict, &broken);
    if (l.is_bad) task_fail(t, HTTP_NO_MEMORY, NULL);
    task_reply(t, json_pack("{s:s, s:o, s:b, s:I, s:s?}", "object", "list", "data", l.data, "is_intact", verdict == GALEN_OK,
                            "n_rows", (json_int_t)n, "damage", verdict ? broken.msg : NULL));
}

/* ------------------------------------------------------------ handlers */

/* A query parameter as an integer. False: answered. */
static bool query_int(exchange *x, const char *name, int64_t min, int64_t max, json_t *o) {
    const char *text = MHD_lookup_connection_value(x->c, MHD_GET_ARGUMENT_KIND, name);
    char *end;
    if (!text) return true;
    const long long v = strtoll(text, &end, 10);
    const bool ok = *text >= '0' && *text <= '9' && !*end && strlen(text) < 18 && v >= min && v <= max;
    if (ok) return json_object_set_new(o, name, json_integer(v)) == 0;
    reply_error(x, HTTP_BAD_VALUE, name, "'%s' must be an integer between %lld and %lld", name, (long long)min, (long long)max);
    return false;
}

static bool query_before(exchange *x, json_t *o) {
    const char *text = MHD_lookup_connection_value(x->c, MHD_GET_ARGUMENT_KIND, "before");
    int64_t id;
    if (!text) return true;
    if (cases_id(x->s->cases, text, &id)) return json_object_set_new(o, "before", json_string(text)) == 0;
    reply_error(x, HTTP_BAD_VALUE, "before", "'before' must be the id of a case, as `next` gives it");
    return false;
}

/* A task without a body, on the case of the path when there is one. Takes args over. */
static void hand(exchange *x, json_t *args, void (*run)(task *t, store *st), bool has_case) {
    int64_t id = 0;
    if (has_case && !cases_id(x->s->cases, x->param, &id)) {
        json_decref(args);
        reply_error(x, HTTP_NO_CASE, NULL, NULL);
        return;
    }
    task *t = task_open(x, args, run);
    if (!t) return;
    t->id = id;
    cases_hand_to_store(t);
}

void cases_list(exchange *x) {
    json_t *args = json_object();
    if (args && query_int(x, "limit", 1, LIST_MAX, args) && query_before(x, args)) {
        hand(x, args, run_list, false);
        return;
    }
    json_decref(args);
}

void cases_show(exchange *x) {
    hand(x, NULL, run_show, true);
}

void cases_erase(exchange *x) {
    hand(x, NULL, run_erase, true);
}

void cases_export(exchange *x) {
    const char *text = MHD_lookup_connection_value(x->c, MHD_GET_ARGUMENT_KIND, "format");
    if (!text) text = "json";
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i].name, text) != 0) continue;
        hand(x, json_pack("{s:s}", "format", text), run_export, true);
        return;
    }
    reply_error(x, HTTP_BAD_VALUE, "format", "'format' must be json, markdown, text, html or fhir");
}

void cases_audit(exchange *x) {
    json_t *args = json_object();
    if (args && query_int(x, "from", 1, INT64_MAX, args) && query_int(x, "limit", 1, LIST_MAX, args)) {
        hand(x, args, run_audit, false);
        return;
    }
    json_decref(args);
}

static const field_row known_search[] = {
    {"query", FIELD_USED, 0}, {"limit", FIELD_USED, 0}, {"before", FIELD_USED, 0}, {NULL, FIELD_USED, 0}};

/** The words are in the body: a URL is what proxies write to their logs. */
void cases_search(exchange *x) {
    const char *query = NULL, *before = NULL;
    int64_t limit = LIST_DEFAULT, id;
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known_search, NULL);
    field_str(&f, "query", QUERY_MAX, &query, NULL);
    field_str(&f, "before", CASE_TOKEN_BYTES, &before, NULL);
    field_int(&f, "limit", 1, LIST_MAX, &limit);
    if (!query || !*query) field_fail(&f, "query", "a string with a word");
    if (before && !cases_id(x->s->cases, before, &id)) field_fail(&f, "before", "the id of a case, as `next` gives it");
    if (f.is_bad || json_object_set_new(body, "limit", json_integer(limit)))
        json_decref(body);
    else
        hand(x, body, run_list, false);
}

/* ------------------------------------------------------------ handlers of what takes an assistant */

static const field_row known_create[] = {{"symptoms", FIELD_USED, 0},
                                         {"model", FIELD_USED, 0},
                                         {"seed", FIELD_USED, 0},
                                         {"stream", FIELD_USED, 0},
                                         {NULL, FIELD_USED, 0}};

void cases_create(exchange *x) {
    const char *symptoms = NULL, *model = NULL;
    int64_t seed = 0;
    bool is_stream = true;
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known_create, NULL);
    field_str(&f, "symptoms", CASE_TEXT_MAX, &symptoms, NULL);
    field_str(&f, "model", 256, &model, NULL);
    field_int(&f, "seed", 0, INT64_MAX, &seed);
    field_bool(&f, "stream", &is_stream);
    if (!symptoms) field_fail(&f, "symptoms", "a string");
    book *b = f.is_bad ? NULL : shelf_find(x->s->shelf, model);
    if (!f.is_bad && !b) reply_error(x, HTTP_NO_MODEL, "model", NULL);
    task *t = b ? task_open(x, body, case_begin) : NULL;
    if (!b) json_decref(body);
    if (!t) return;
    x->model = b->name;
    t->b = b;
    t->seed = (uint64_t)seed;
    t->is_stream = is_stream;
    cases_hand_to_store(t);
}

static void to_assistant(task *t, store *st) {
    (void)st;
    t->run = case_answer;
    cases_hand_to_assistant(t);
}

static const field_row known_answer[] = {{"kind", FIELD_USED, 0},  {"text", FIELD_USED, 0},   {"number", FIELD_USED, 0},
                                         {"model", FIELD_USED, 0}, {"stream", FIELD_USED, 0}, {NULL, FIELD_USED, 0}};

void cases_answer(exchange *x) {
    const char *kind = NULL, *text = NULL, *model = NULL;
    int64_t number = 0, id;
    bool is_stream = true;
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known_answer, NULL);
    field_str(&f, "kind", 16, &kind, NULL);
    field_str(&f, "text", CASE_TEXT_MAX, &text, NULL);
    field_str(&f, "model", 256, &model, NULL);
    field_int(&f, "number", 1, 1000000, &number);
    field_bool(&f, "stream", &is_stream);
    const bool is_text = kind && strcmp(kind, "text") == 0;
    if (!kind || (!is_text && strcmp(kind, "yes") != 0 && strcmp(kind, "no") != 0 && strcmp(kind, "unknown") != 0))
        field_fail(&f, "kind", "yes, no, unknown or text");
    if (is_text != (text && *text)) field_fail(&f, "text", "given with kind text, and only then");
    book *b = f.is_bad ? NULL : shelf_find(x->s->shelf, model);
    if (!f.is_bad && !b) reply_error(x, HTTP_NO_MODEL, "model", NULL);
    const bool ok = b && cases_id(x->s->cases, x->param, &id);
    if (b && !ok) reply_error(x, HTTP_NO_CASE, NULL, NULL);
    task *t = ok ? task_open(x, body, to_assistant) : NULL;
    if (!ok) json_decref(body);
    if (!t) return;
    x->model = b->name;
    t->b = b;
    t->id = id;
    t->is_stream = is_stream;
    cases_hand_to_store(t);
}

void cases_close_case(exchange *x) {
    static const field_row known[] = {{NULL, FIELD_USED, 0}};
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known, NULL);
    json_decref(body);
    if (!f.is_bad) hand(x, NULL, run_close, true);
}
