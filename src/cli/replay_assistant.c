/* The assistant run as it was run for a kept case. */
#include <stdlib.h>
#include <string.h>

#include "cli/clinic.h"
#include "cli/options.h"
#include "cli/replay.h"

/* What the past turns say of the run: borrowed strings. */
typedef struct past_run {
    json_t *symptoms, *differential, *params;
    const char *sha256;
} past_run;

static void past_close(past_run *p) {
    json_decref(p->symptoms);
    json_decref(p->differential);
    json_decref(p->params);
}

static json_t *load(const char *text, size_t n) {
    return json_loadb(text, n, JSON_ALLOW_NUL, NULL);
}

static cli_exit past_open(cli *c, const store_show *past, past_run *p) {
    *p = (past_run){.params = past->params ? load(past->params, strlen(past->params)) : NULL};
    for (size_t i = 0; i < past->n_turns; i++) {
        const store_turn *t = &past->turns[i];
        json_t **slot = strcmp(t->kind, "symptoms") == 0       ? &p->symptoms
                        : strcmp(t->kind, "differential") == 0 ? &p->differential
                                                               : NULL;
        if (slot && !*slot) *slot = load(t->json, t->n);
    }
    p->sha256 = json_string_value(json_object_get(json_object_get(p->differential, "model"), "sha256"));
    if (json_is_string(json_object_get(p->symptoms, "text")) && p->sha256) return CLI_DONE;
    term_error(c, "case %lld cannot be replayed: it has no symptoms, or no list with its model's SHA-256",
               (long long)past->info.id);
    return CLI_FAILED;
}

static const char *param_text(const past_run *p, const char *key) {
    return json_string_value(json_object_get(p->params, key));
}

static int64_t param_number(const past_run *p, const char *key) {
    return json_integer_value(json_object_get(p->params, key));
}

/* As the command line was then. */
static void set_args(cli *c, const past_run *p) {
    c->args.device = param_text(p, "device");
    c->args.kv_type = param_text(p, "kv_type");
    c->args.chat_format = param_text(p, "chat_format");
    c->args.ctx = param_number(p, "ctx");
    c->args.batch = param_number(p, "batch");
    c->args.seed = param_number(p, "seed");
    c->args.prompts = param_text(p, "prompts");
    c->args.max_questions = param_number(p, "max_questions");
}

/* The model with the same bytes, or none. */
static cli_exit open_model(cli *c, store *s, const past_run *p, galen_model **m, char hash[SHA256_HEX_BYTES]) {
    char path[4096];
    galen_error err = {0};
    const char *name = c->args.model;
    if (!name && store_model_path(s, p->sha256, path, sizeof path, &err)) {
        term_error(c, "the model of this case (SHA-256 %.16s...) is not where it was; name it with --model", p->sha256);
        return CLI_MODEL;
    }
    const cli_exit st = engine_open(c, name ? name : path, false, m);
    if (st) return st;
    if (store_model_hash(s, galen_model_get_info(*m).path, NULL, NULL, hash, &err)) return engine_fail(c, PHASE_LOAD, &err);
    if (strcmp(hash, p->sha256) == 0) return CLI_DONE;
    term_error(c, "another model: its SHA-256 is %.16s..., the case was made with %.16s...", hash, p->sha256);
    return CLI_MODEL;
}

static galen_answer_kind kind_of(const json_t *answer) {
    const char *name = json_string_value(json_object_get(answer, "kind"));
    galen_answer_kind kind = GALEN_ANSWER_YES;
    while (kind < GALEN_ANSWER_TEXT && (!name || strcmp(galen_answer_kind_name(kind), name) != 0)) kind++;
    return kind;
}

/* The loop, answered as it was answered then; after the last answer the person stopped, unless it stopped by itself. */
static galen_status answer_all(clinic *k, const store_show *past, galen_error *err) {
    galen_question q;
    galen_stop stop;
    galen_update *u = calloc(1, sizeof *u);
    if (!u) return GALEN_E_NOMEM;
    galen_status st = clinic_next(k, &q, &stop, err);
    for (size_t i = 0; i < past->n_turns && !st && !stop; i++) {
        if (strcmp(past->turns[i].kind, "answer") != 0) continue;
        json_t *answer = load(past->turns[i].json, past->turns[i].n);
        const json_t *text = json_object_get(answer, "text");
        st = clinic_answer(k, &q, kind_of(answer), json_string_value(text), json_string_length(text), u, err);
        if (!st) st = clinic_next(k, &q, &stop, err);
        json_decref(answer);
    }
    free(u);
    return st;
}

static cli_exit run(clinic *k, const past_run *p, const store_show *past) {
    galen_error err = {0};
    const json_t *text = json_object_get(p->symptoms, "text");
    cli_exit st = clinic_open(k);
    if (!st) st = clinic_diagnose(k, json_string_value(text), json_string_length(text));
    if (st) return st;
    if (!json_is_true(json_object_get(p->params, "interactive"))) return clinic_questions(k, &err);
    return answer_all(k, past, &err) ? engine_fail(k->c, PHASE_USE, &err) : CLI_DONE;
}

cli_exit replay_assistant(cli *c, void *user, const store_show *past, turn_fn put, void *put_user) {
    clinic k = {.c = c, .put = put, .put_user = put_user, .is_silent = true};
    past_run p;
    cli_exit st = past_open(c, past, &p);
    if (!st) {
        set_args(c, &p);
        k.n_samples = (int32_t)param_number(&p, "samples");
        st = open_model(c, user, &p, &k.m, k.sha256);
    }
    if (!st) st = run(&k, &p, past);
    clinic_close(&k);
    c->args.device = c->args.kv_type = c->args.chat_format = c->args.prompts = NULL; /* they point into p */
    past_close(&p);
    return st;
}
