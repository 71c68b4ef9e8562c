#include "cli/case_history.h"

#include <string.h>

/* What a replay needs to run the same again. */
static json_t *params(const clinic *k) {
    const cli *c = k->c;
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:b}", "seed", (json_int_t)c->args.seed, "ctx",
                     (json_int_t)c->args.ctx, "batch", (json_int_t)c->args.batch, "kv_type", json_text0(c->args.kv_type),
                     "chat_format", json_text0(c->args.chat_format), "device", json_text0(c->args.device), "prompts",
                     json_text0(c->args.prompts), "samples", (json_int_t)k->n_samples, "max_questions",
                     (json_int_t)c->args.max_questions, "interactive", c->args.interactive || c->args.assistant);
}

static void keep_turn(void *user, const char *kind, json_t *content) {
    hist_turn(user, kind, content);
}

void case_history_start(case_history *h, clinic *k) {
    hist_start(&h->h, k->c);
    hist_params(&h->h, params(k));
    if (hist_store(&h->h) && !k->sha256[0]) hist_model_hash(&h->h, k->m, k->sha256);
    k->put = keep_turn;
    k->put_user = &h->h;
}

/* The names, one a line: the trail's fingerprint of the answer. */
void case_history_audit(case_history *h, const clinic *k) {
    char names[GALEN_N_CONDITIONS * GALEN_NAME_BYTES + 1] = "";
    size_t n = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s\n", k->d.conditions[i].name);
    hist_audit(&h->h, "diagnose", k->sha256, k->text, k->n, names, n);
}

/* What an exit code says of the call that failed. */
static galen_status status_of(cli_exit st) {
    return st == CLI_DONE                          ? GALEN_OK
           : st == CLI_REFUSED                     ? GALEN_E_REFUSED
           : st == CLI_CONTEXT                     ? GALEN_E_FULL
           : st == CLI_MEMORY                      ? GALEN_E_NOMEM
           : st == CLI_DEVICE                      ? GALEN_E_DEVICE
           : st == CLI_SIGINT || st == CLI_SIGTERM ? GALEN_E_CANCELLED
                                                   : GALEN_E_FAIL;
}

void case_history_end(case_history *h, clinic *k, cli_exit st) {
    const galen_model_info i = galen_model_get_info(k->m);
    store_perf p = {.model_name = i.name,
                    .model_sha256 = k->sha256[0] ? k->sha256 : NULL,
                    .device = i.device,
                    .placement = i.placement,
                    .fallback = i.fell_back,
                    .first_s = k->d.usage.first_condition_s,
                    .error = status_of(st)};
    const galen_assist_usage *parts[] = {&k->d.usage, k->has_questions ? &k->q.usage : NULL};
    for (int part = 0; part < 2; part++) {
        if (!parts[part]) continue;
        p.n_prompt += parts[part]->n_prompt;
        p.n_generated += parts[part]->n_generated;
        p.prefill_s += parts[part]->prefill_s;
        p.decode_s += parts[part]->decode_s;
    }
    hist_perf(&h->h, &p);
    hist_end(&h->h);
    k->put = NULL;
}
