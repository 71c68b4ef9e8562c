/* Cases, trail and performance log, as the verbs keep them. */
#include "cli/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static store_opts opts_of(const cli *c) {
    return (store_opts){.path = c->args.db};
}

cli_exit hist_fail(cli *c, const galen_error *err) {
    char safe[GALEN_ERROR_MSG_BYTES];
    term_error(c, "%s", term_safe(err->msg[0] ? err->msg : galen_status_text(err->code), safe, sizeof safe));
    return err->code == GALEN_E_NOMEM                                   ? CLI_MEMORY
           : err->code == GALEN_E_ARG || err->code == GALEN_E_NOT_FOUND ? CLI_USAGE
                                                                        : CLI_FAILED;
}

cli_exit hist_open(cli *c, bool may_write, store **out) {
    galen_error err = {0}, second = {0};
    store_opts o = opts_of(c);
    if (!may_write && c->args.db && access(c->args.db, F_OK) != 0) { /* a slip of the hand is not to become an empty database */
        char safe[256];
        term_error(c, "%s: %s", term_safe(c->args.db, safe, sizeof safe), strerror(errno));
        return CLI_USAGE;
    }
    if (!store_open(out, &o, &err)) return CLI_DONE;
    o.is_read_only = true;
    if (!may_write && err.code == GALEN_E_IO && !store_open(out, &o, &second)) {
        char safe[GALEN_ERROR_MSG_BYTES];
        term_note(c, "opened read-only: %s", term_safe(err.msg, safe, sizeof safe));
        return CLI_DONE;
    }
    const cli_exit st = hist_fail(c, &err);
    return st == CLI_MEMORY ? st : CLI_FAILED;
}

const char *hist_time(int64_t ms, char out[HIST_TIME_BYTES]) {
    struct tm t = {0};
    const time_t seconds = (time_t)(ms / 1000);
    if (!localtime_r(&seconds, &t) || !strftime(out, HIST_TIME_BYTES, "%Y-%m-%d %H:%M", &t))
        (void)snprintf(out, HIST_TIME_BYTES, "?");
    return out;
}

/* Once: what follows from a broken database would only repeat it. */
static void said(hist *h, const galen_error *err) {
    char safe[GALEN_ERROR_MSG_BYTES];
    if (!h->has_failed)
        term_error(h->c, "NOT SAVED: %s", term_safe(err->msg[0] ? err->msg : galen_status_text(err->code), safe, sizeof safe));
    h->has_failed = true;
}

void hist_start(hist *h, cli *c) {
    *h = (hist){.c = c, .is_off = c->args.no_history};
}

store *hist_store(hist *h) {
    galen_error err = {0};
    char save[8] = "on";
    if (h->db || h->is_off || h->has_failed) return h->has_failed ? NULL : h->db;
    const store_opts o = opts_of(h->c);
    if (store_open(&h->db, &o, &err) || store_setting_get(h->db, "save", save, sizeof save, &err)) {
        said(h, &err);
        return NULL;
    }
    h->keeps_no_case = strcmp(save, "off") == 0;
    return h->db;
}

void hist_params(hist *h, json_t *params) {
    free(h->params);
    h->params = params ? json_dumps(params, JSON_COMPACT) : NULL;
    json_decref(params);
}

void hist_turn(hist *h, const char *kind, json_t *content) {
    galen_error err = {0};
    store *s = hist_store(h);
    char *text = NULL;
    if (!s || h->keeps_no_case) {
        json_decref(content);
        return;
    }
    galen_status st = h->id ? GALEN_OK : store_case_begin(s, h->params, &h->id, &err);
    /* All digits of a number: a replay compares bytes. */
    if (!st) text = json_dumps(content, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!st && !text) {
        err = (galen_error){.code = GALEN_E_NOMEM};
        st = err.code;
    }
    if (!st) st = store_append(s, h->id, kind, text, strlen(text), NULL, &err);
    if (st) said(h, &err);
    if (text) explicit_bzero(text, strlen(text));
    free(text);
    json_decref(content);
}

bool hist_on_hash(void *user, uint64_t done, uint64_t total) {
    term_progress(user, "reading the model's fingerprint (once)", done, total);
    return !signals_stop();
}

galen_status hist_fingerprint(cli *c, const galen_model *m, char out[SHA256_HEX_BYTES], galen_error *err) {
    store *s = NULL;
    const store_opts o = {.path = c->args.db};
    if (!c->args.no_history) (void)store_open(&s, &o, NULL);
    const galen_status st = store_model_hash(s, galen_model_get_info(m).path, hist_on_hash, c, out, err);
    store_close(s);
    term_progress_end(c);
    return st;
}

void hist_model_hash(hist *h, const galen_model *m, char out[SHA256_HEX_BYTES]) {
    galen_error err = {0};
    char safe[GALEN_ERROR_MSG_BYTES];
    const galen_status st = store_model_hash(hist_store(h), galen_model_get_info(m).path, hist_on_hash, h->c, out, &err);
    term_progress_end(h->c);
    if (!st) return;
    out[0] = '\0';
    if (st != GALEN_E_CANCELLED) term_error(h->c, "no fingerprint: %s", term_safe(err.msg, safe, sizeof safe));
}

void hist_audit(hist *h, const char *action, const char *model_sha256, const char *prompt, size_t n_prompt, const char *response,
                size_t n_response) {
    galen_error err = {0};
    store *s = hist_store(h);
    if (!s) return;
    const store_audit a = {.action = action,
                           .case_id = h->id,
                           .model_sha256 = model_sha256 && *model_sha256 ? model_sha256 : NULL,
                           .params = h->params,
                           .prompt = h->id ? prompt : NULL, /* without a case there is no salt */
                           .response = h->id ? response : NULL,
                           .n_prompt = n_prompt,
                           .n_response = n_response};
    if (store_audit_append(s, &a, &err)) said(h, &err);
}

void hist_perf(hist *h, const store_perf *p) {
    galen_error err = {0};
    store *s = hist_store(h);
    if (!s) return;
    store_perf full = *p;
    full.verb = h->c->verb->name;
    full.load_s = h->c->load_s;
    if (store_perf_append(s, &full, &err)) said(h, &err);
}

void hist_generation(cli *c, const galen_model *m, const galen_result *r, galen_status st) {
    const galen_model_info i = galen_model_get_info(m);
    char hex[SHA256_HEX_BYTES], safe[GALEN_ERROR_MSG_BYTES];
    galen_error err = {0};
    store *s = NULL;
    const store_opts so = {.path = c->args.db, .busy_ms = 1000};
    if (c->args.no_history) return;
    galen_status kept = store_open(&s, &so, &err);
    if (!kept) {
        const store_perf p = {.verb = c->verb->name,
                              .model_name = i.name,
                              .model_sha256 = store_model_hash_known(s, i.path, hex) ? hex : NULL,
                              .device = i.device,
                              .placement = i.placement,
                              .fallback = i.fell_back,
                              .load_s = c->load_s,
                              .prefill_s = r->prefill_s,
                              .decode_s = r->decode_s,
                              .first_s = r->n_generated > 0 ? r->prefill_s : 0,
                              .n_prompt = r->n_prompt,
                              .n_generated = r->n_generated,
                              .error = st};
        kept = store_perf_append(s, &p, &err);
    }
    store_close(s);
    if (kept) term_note(c, "not in the performance log: %s", term_safe(err.msg, safe, sizeof safe));
}

void hist_end(hist *h) {
    if (!h->c) return;
    if (h->id && !h->has_failed) term_note(h->c, "case %lld saved (galen history show %lld)", (long long)h->id, (long long)h->id);
    store_close(h->db);
    free(h->params);
    *h = (hist){0};
}
