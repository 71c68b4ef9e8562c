/* What takes an assistant: the first list of a case, and its answers. On a worker's thread. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assist/record.h"
#include "base/clock.h"
#include "server/cases.h"
#include "server/inside.h"
#include "server/perf.h"

/* ------------------------------------------------------------ what the assistant tells */

/* The assistant's callback; user is the live case. */
static bool on_event(void *user, const galen_assist_event *e) {
    live_case *lc = user;
    task *t = lc->t;
    if (e->part == GALEN_PART_QUESTIONS) {
        lc->questions = *e->questions;
        lc->has_questions = true;
    }
    if (!t || lc->is_quiet) return !t || !task_is_gone(t);
    switch (e->part) {
    case GALEN_PART_CONDITION:
        if (!e->is_end) return !task_is_gone(t);
        return task_event(t, "condition",
                          json_pack("{s:i, s:o}", "index", (int)e->index, "name", record_text(e->text, e->text_len)));
    case GALEN_PART_RANKING:
        return task_event(t, "ranking", record_differential(e->differential, NULL, lc->symptoms, lc->n_symptoms, NULL));
    default:
        return !task_is_gone(t);
    }
}

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    const live_case *lc = user;
    task *t = lc->t;
    if (!t) return true;
    if (lc->is_quiet || done >= total) return !task_is_gone(t);
    return task_event(t, "progress", json_pack("{s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total));
}

static record_run run_of(const live_case *lc, const char *hash) {
    return (record_run){.model_name = lc->b->name, .model_sha256 = hash, .device = lc->b->info.device, .seed = lc->seed};
}

/* ------------------------------------------------------------ opening an assistant */

static bool take_book(task *t, live_case *lc, galen_error *err) {
    if (shelf_wait(t->x->s->shelf, t->b, task_is_gone, t, err)) return false;
    lc->b = t->b;
    return true;
}

/* The model's fingerprint, from the store's memory; NULL when the file cannot be read. */
static const char *fingerprint(store *st, const live_case *lc, char out[SHA256_HEX_BYTES]) {
    return store_model_hash(st, lc->b->path, NULL, NULL, out, NULL) ? NULL : out;
}

/* What was fitted for this model; false: nothing, the confidences are then told to be uncalibrated. */
static bool find_calibration(task *t, store *st, const live_case *lc, galen_calibration *out) {
    char digest[SHA256_HEX_BYTES];
    galen_error err = {0};
    if (!galen_calibration_any()) return false;
    const char *hash = fingerprint(st, lc, digest);
    const galen_status bad = hash ? galen_calibration_find(hash, out, &err) : GALEN_E_NOT_FOUND;
    if (bad && bad != GALEN_E_NOT_FOUND) log_event(t->x->s, "error", "calibration_not_read", "detail", err.msg);
    return !bad;
}

static galen_status open_assistant(task *t, store *st, live_case *lc, galen_error *err) {
    galen_assistant_opts o = galen_assistant_default_opts();
    galen_calibration calibration = {.size = sizeof calibration};
    if (!take_book(t, lc, err)) return err->code;
    if (find_calibration(t, st, lc, &calibration)) o.calibration = &calibration; /* copied */
    o.n_ctx = lc->b->n_ctx < 2048 ? lc->b->n_ctx : 2048;
    o.batcher = lc->b->batcher;
    o.client = o.salt = t->x->key_name;
    o.seed = lc->seed;
    o.codes = cases_codes(t->cs);
    o.on_event = on_event;
    o.progress = on_progress;
    o.user = lc;
    const galen_status bad = galen_assistant_open(&lc->a, lc->b->model, &o, err);
    if (bad) return bad;
    (void)pthread_mutex_lock(&t->lock);
    t->running = lc->a;
    const bool is_gone = t->is_gone;
    (void)pthread_mutex_unlock(&t->lock);
    return is_gone ? galen_fail(err, GALEN_E_CANCELLED, 0, "the client left") : GALEN_OK;
}

/* The end of this task's work on a live case. */
static void let_go(task *t, live_case *lc, bool keep) {
    (void)pthread_mutex_lock(&t->lock);
    t->running = NULL;
    (void)pthread_mutex_unlock(&t->lock);
    lc->n_kept = t->n_kept;
    cases_give_live(t->cs, lc, keep);
}

static http_error error_of(galen_status st) {
    return st == GALEN_E_BUSY ? HTTP_BUSY : st == GALEN_E_CANCELLED ? HTTP_HANGUP : http_error_of(st);
}

static void audit(task *t, store *st, const char *action, const char *hash) {
    char params[96];
    (void)snprintf(params, sizeof params, "{\"seed\":%llu,\"key\":\"%s\"}", (unsigned long long)t->seed, t->x->key_name);
    const store_audit a = {.action = action, .case_id = t->id > 0 ? t->id : 0, .model_sha256 = hash, .params = params};
    galen_error err = {0};
    if (store_audit_append(st, &a, &err)) log_event(t->x->s, "error", "audit_not_kept", "detail", err.msg);
}

/* ------------------------------------------------------------ the next question */

/** A question or the end of the case, as a turn. False: answered. */
static bool ask(task *t, store *st, live_case *lc) {
    galen_error err = {0};
    galen_stop stop = GALEN_STOP_NONE;
    const galen_status bad = galen_assistant_ask(lc->a, &lc->asked, &stop, &err);
    if (bad) {
        task_fail(t, error_of(bad), &err);
        return false;
    }
    lc->is_asked = stop == GALEN_STOP_NONE;
    if (lc->is_asked) return task_turn(t, st, "question", record_question(&lc->asked));
    return task_turn(t, st, "closed", record_closed(stop));
}

/* Also of a list that failed, or is made again from its turns. */
static void log_speed(task *t, const live_case *lc, const galen_differential *d, galen_status st) {
    const perf_figures f = {.verb = "serve.cases",
                            .prefill_s = d->usage.prefill_s,
                            .decode_s = d->usage.decode_s,
                            .first_s = d->usage.first_condition_s,
                            .n_prompt = d->usage.n_prompt,
                            .n_generated = d->usage.n_generated,
                            .status = st};
    exchange_count(t->x, d->usage.n_prompt, 0, d->usage.n_generated);
    if (lc->b) perf_generation(t->x->s, lc->b, &f);
}

static bool put_differential(task *t, store *st, live_case *lc, const galen_differential *d, const char *hash) {
    const record_run run = run_of(lc, hash);
    return task_turn(t, st, "differential",
                     record_differential(d, lc->has_questions ? &lc->questions : NULL, lc->symptoms, lc->n_symptoms, &run));
}

/** The whole of a new case's work: conditions, ranking, evidence, the first question. */
void case_diagnose(task *t, store *st) {
    const json_t *text = json_object_get(t->body, "symptoms");
    galen_error err = {0};
    char digest[SHA256_HEX_BYTES];
    galen_differential *d = calloc(1, sizeof *d);
    live_case *lc = d ? cases_new_live(t, json_string_value(text), json_string_length(text), &err) : NULL;
    if (!lc) {
        task_fail(t, d ? error_of(err.code) : HTTP_NO_MEMORY, &err);
        free(d);
        task_end(t);
        return;
    }
    galen_status bad = open_assistant(t, st, lc, &err);
    if (!bad) bad = galen_assistant_diagnose(lc->a, lc->symptoms, lc->n_symptoms, d, &err);
    log_speed(t, lc, d, bad);
    const char *hash = lc->b ? fingerprint(st, lc, digest) : NULL;
    bool ok = bad == GALEN_OK && lc->b;
    if (ok) audit(t, st, "diagnose", hash);
    ok = ok && put_differential(t, st, lc, d, hash) && ask(t, st, lc);
    free(d);
    if (bad) task_fail(t, error_of(bad), &err);
    let_go(t, lc, ok && lc->is_asked);
    task_end(t);
}

/* ------------------------------------------------------------ before the assistant: what must not wait for it */

static bool is_unkept(store *st) {
    char value[8];
    return store_setting_get(st, "save", value, sizeof value, NULL) == GALEN_OK && strcmp(value, "off") == 0;
}

/** A new case with its symptoms and red flags, then on to an assistant. On the store's worker. */
void case_begin(task *t, store *st) {
    const json_t *text = json_object_get(t->body, "symptoms");
    galen_error err = {0};
    char params[64], token[CASE_TOKEN_BYTES];
    galen_triage *triage = calloc(1, sizeof *triage);
    if (!triage) {
        task_fail(t, HTTP_NO_MEMORY, NULL);
        task_end(t);
        return;
    }
    (void)snprintf(params, sizeof params, "{\"seed\":%llu}", (unsigned long long)t->seed);
    galen_status bad = galen_triage_text(json_string_value(text), json_string_length(text), triage, &err);
    if (!bad && is_unkept(st))
        t->id = cases_new_unkept(t->cs);
    else if (!bad)
        bad = store_case_begin(st, params, &t->id, &err);
    if (bad) {
        free(triage);
        task_fail(t, bad == GALEN_E_REFUSED ? HTTP_TOO_LITTLE : HTTP_STORE, &err);
        task_end(t);
        return;
    }
    cases_token(t->cs, t->id, token);
    metrics_add(&t->x->s->metrics, METRIC_CASES, 1);
    metrics_add(&t->x->s->metrics, METRIC_RED_FLAGS, triage->n_flags > 0);
    (void)task_event(t, "case", json_pack("{s:s, s:s}", "id", token, "intended_use", galen_assist_intended_use()));
    bool ok = task_turn(t, st, "symptoms", record_symptoms(json_string_value(text), json_string_length(text)));
    ok = ok && task_turn(t, st, "triage", record_triage(triage, json_string_value(text), json_string_length(text)));
    free(triage);
    t->run = case_diagnose;
    if (ok)
        cases_hand_to_assistant(t);
    else
        task_end(t);
}

/* ------------------------------------------------------------ answers */

static const char *const answer_kinds[] = {"yes", "no", "unknown", "text"};

static bool find_kind(const char *name, galen_answer_kind *out) {
    for (int i = 0; name && i < 4; i++) {
        if (strcmp(answer_kinds[i], name) != 0) continue;
        *out = (galen_answer_kind)i;
        return true;
    }
    return false;
}

static json_t *turn_json(const store_show *show, const char *kind) {
    for (size_t i = 0; i < show->n_turns; i++)
        if (strcmp(show->turns[i].kind, kind) == 0) return json_loadb(show->turns[i].json, show->turns[i].n, 0, NULL);
    return NULL;
}

/* One stored answer given again. */
static galen_status replay_answer(live_case *lc, const store_turn *turn, galen_error *err) {
    galen_answer_kind kind = GALEN_ANSWER_UNKNOWN;
    galen_stop stop;
    json_t *content = json_loadb(turn->json, turn->n, 0, NULL);
    const json_t *text = json_object_get(content, "text");
    galen_update *u = calloc(1, sizeof *u);
    galen_status st = u ? galen_assistant_ask(lc->a, &lc->asked, &stop, err) : galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    if (!st && !find_kind(json_string_value(json_object_get(content, "kind")), &kind))
        st = galen_fail(err, GALEN_E_FORMAT, 0, "a stored answer cannot be read");
    if (!st)
        st = galen_assistant_answer(lc->a, kind, json_is_string(text) ? json_string_value(text) : "",
                                    json_is_string(text) ? json_string_length(text) : 0, u, err);
    free(u);
    json_decref(content);
    return st;
}

/* The case as it was, from its turns. */
static live_case *replay(task *t, store *st, const store_show *show, galen_error *err) {
    json_t *symptoms = turn_json(show, "symptoms"), *params = show->params ? json_loads(show->params, 0, NULL) : NULL;
    const json_t *text = json_object_get(symptoms, "text");
    galen_stop stop = GALEN_STOP_NONE;
    galen_differential *d = calloc(1, sizeof *d);
    t->seed = (uint64_t)json_integer_value(json_object_get(params, "seed"));
    live_case *lc = d && text ? cases_new_live(t, json_string_value(text), json_string_length(text), err) : NULL;
    json_decref(symptoms);
    json_decref(params);
    if (!lc) {
        if (!err->code) (void)galen_fail(err, d ? GALEN_E_FORMAT : GALEN_E_NOMEM, 0, "the case cannot be read");
        free(d);
        return NULL;
    }
    lc->is_quiet = true;
    galen_status bad = open_assistant(t, st, lc, err);
    if (!bad) bad = galen_assistant_diagnose(lc->a, lc->symptoms, lc->n_symptoms, d, err);
    log_speed(t, lc, d, bad);
    for (size_t i = 0; i < show->n_turns && !bad; i++)
        if (strcmp(show->turns[i].kind, "answer") == 0) bad = replay_answer(lc, &show->turns[i], err);
    if (!bad) bad = galen_assistant_ask(lc->a, &lc->asked, &stop, err);
    lc->is_asked = !bad && stop == GALEN_STOP_NONE;
    lc->is_quiet = false;
    free(d);
    if (!bad) return lc;
    let_go(t, lc, false);
    return NULL;
}

/* What the stored case waits for: the number of its open question, 0 when it has none. */
static int32_t open_question(const store_show *show) {
    if (!show->n_turns || strcmp(show->turns[show->n_turns - 1].kind, "question") != 0) return 0;
    const store_turn *last = &show->turns[show->n_turns - 1];
    json_t *content = json_loadb(last->json, last->n, 0, NULL);
    const int32_t number = (int32_t)json_integer_value(json_object_get(content, "number"));
    json_decref(content);
    return number;
}

static json_t *change_json(const galen_update *u) {
    json_t *list = json_array();
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        if (json_array_append_new(list, json_pack("{s:o, s:f, s:f}", "name",
                                                  record_text(u->now.conditions[i].name, strlen(u->now.conditions[i].name)),
                                                  "confidence", u->now.conditions[i].confidence, "change", u->change[i])))
            break;
    return json_pack("{s:o, s:f, s:f, s:b}", "conditions", list, "other", u->change_other, "bits", u->bits, "is_raised",
                     (int)u->is_raised);
}

/* The answer's turns, with the assistant in the state before it. False: answered. */
static bool give(task *t, store *st, live_case *lc, galen_answer_kind kind, const json_t *text) {
    galen_error err = {0};
    char digest[SHA256_HEX_BYTES];
    galen_update *u = calloc(1, sizeof *u);
    const char *words = json_is_string(text) ? json_string_value(text) : "";
    const size_t n = json_is_string(text) ? json_string_length(text) : 0;
    const galen_status bad = u ? galen_assistant_answer(lc->a, kind, words, n, u, &err) : GALEN_E_NOMEM;
    if (bad) {
        free(u);
        task_fail(t, error_of(bad), &err);
        return false;
    }
    const char *hash = fingerprint(st, lc, digest);
    bool ok = task_turn(t, st, "answer", record_answer(lc->asked.number, kind, words, n));
    if (ok && u->is_raised) {
        metrics_add(&t->x->s->metrics, METRIC_RED_FLAGS, 1);
        ok = task_turn(t, st, "triage", record_triage(galen_assistant_triage(lc->a), lc->symptoms, lc->n_symptoms));
    }
    ok = ok && task_event(t, "change", change_json(u));
    ok = ok && put_differential(t, st, lc, &u->now, hash);
    if (ok) audit(t, st, "answer", hash);
    free(u);
    return ok && ask(t, st, lc);
}

/* The live case in the state of its open question; NULL: the task has failed. */
static live_case *find_case(task *t, store *st, const store_show *show, int32_t open) {
    galen_error err = {0};
    bool is_busy = false;
    live_case *lc = cases_take_live(t, &is_busy);
    if (!lc && !is_busy && t->id < 0) {
        task_fail(t, HTTP_NO_CASE, NULL);
        return NULL;
    }
    if (lc) t->n_kept = lc->n_kept;
    if (!lc && !is_busy) lc = replay(t, st, show, &err);
    if (!lc) {
        task_fail(t, is_busy || err.code == GALEN_E_BUSY ? HTTP_CONFLICT : error_of(err.code), &err);
        return NULL;
    }
    (void)pthread_mutex_lock(&t->lock);
    t->running = lc->a;
    (void)pthread_mutex_unlock(&t->lock);
    if (lc->is_asked && (lc->asked.number == open || (t->id < 0 && !open))) return lc;
    let_go(t, lc, false);
    task_fail(t, HTTP_CONFLICT, NULL);
    return NULL;
}

/** On an assistant's worker. */
void case_answer(task *t, store *st) {
    galen_error err = {0};
    store_show show = {0};
    galen_answer_kind kind = GALEN_ANSWER_UNKNOWN;
    const json_t *number = json_object_get(t->body, "number");
    (void)find_kind(json_string_value(json_object_get(t->body, "kind")), &kind);
    const bool is_kept = t->id > 0;
    const galen_status bad = is_kept ? store_case_get(st, t->id, &show, &err) : GALEN_OK;
    const int32_t open = bad ? 0 : is_kept ? open_question(&show) : (int32_t)json_integer_value(number);
    if (bad)
        task_fail(t, bad == GALEN_E_NOT_FOUND ? HTTP_NO_CASE : HTTP_STORE, NULL);
    else if (is_kept && (!open || (json_is_integer(number) && json_integer_value(number) != open)))
        task_fail(t, HTTP_CONFLICT, NULL);
    live_case *lc = t->is_failed ? NULL : find_case(t, st, &show, open);
    store_show_free(&show);
    if (lc) {
        const bool ok = give(t, st, lc, kind, json_object_get(t->body, "text"));
        /* after a failure in the middle the turns alone are the truth: the next answer replays them */
        let_go(t, lc, ok && lc->is_asked);
    }
    task_end(t);
}
