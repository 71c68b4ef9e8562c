/* The assistant run as it was run for a kept case. */
#include <stdlib.h>
#include <string.h>

#include "cli/history.h"
#include "cli/options.h"
#include "cli/replay.h"
#include "cli/turns.h"

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

static cli_exit run(cli *c, const galen_model *m, const past_run *p, const turns *t) {
    galen_error err = {0};
    galen_assistant *a = NULL;
    galen_assistant_opts o = galen_assistant_default_opts();
    galen_differential d;
    galen_questions q;
    const json_t *text = json_object_get(p->symptoms, "text");
    o.n_ctx = (int32_t)c->args.ctx;
    o.n_batch = (int32_t)c->args.batch;
    o.kv_type = c->args.kv_type;
    o.seed = (uint64_t)c->args.seed;
    o.progress = engine_prefill_progress;
    o.user = c;
    galen_status st = galen_assistant_open(&a, m, &o, &err);
    if (!st) st = galen_assistant_diagnose(a, json_string_value(text), json_string_length(text), &d, &err);
    if (!st) {
        turns_symptoms(t, json_string_value(text), json_string_length(text));
        turns_differential(t, &d);
        st = galen_assistant_questions(a, &q, &err);
    }
    if (!st) turns_questions(t, &q);
    galen_assistant_close(a);
    return st ? engine_fail(c, PHASE_USE, &err) : CLI_DONE;
}

cli_exit replay_assistant(cli *c, void *user, const store_show *past, turn_fn put, void *put_user) {
    galen_model *m = NULL;
    past_run p;
    char hash[SHA256_HEX_BYTES];
    cli_exit st = past_open(c, past, &p);
    if (!st) {
        set_args(c, &p);
        st = open_model(c, user, &p, &m, hash);
    }
    if (!st) {
        const galen_model_info i = galen_model_get_info(m);
        const turns t = {put, put_user, i.name, hash, i.device, (uint64_t)c->args.seed};
        st = run(c, m, &p, &t);
    }
    galen_model_close(m);
    c->args.device = c->args.kv_type = c->args.chat_format = NULL; /* they point into p */
    past_close(&p);
    return st;
}
