/* galen audit: the trail, and whether it is whole. */
#include <string.h>

#include "cli/history.h"
#include "cli/options.h"

typedef struct audit_view {
    cli *c;
    json_t *json;
    int64_t n;
    bool is_out_of_memory;
} audit_view;

static bool on_row(void *user, const store_audit_row *r) {
    audit_view *v = user;
    char when[HIST_TIME_BYTES], safe[64];
    if (v->c->args.json) {
        json_t *one =
            json_pack("{s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "seq", (json_int_t)r->seq, "time_ms",
                      (json_int_t)r->time_ms, "action", json_text0(r->action), "case", (json_int_t)r->case_id, "model_sha256",
                      json_text0(r->model_sha256), "build", json_text0(r->build), "params", json_text0(r->params), "prompt_hmac",
                      json_text0(r->prompt_hmac), "response_hmac", json_text0(r->response_hmac));
        v->is_out_of_memory = json_array_append_new(v->json, one) != 0;
        return !v->is_out_of_memory;
    }
    if (v->n++ == 0) (void)printf("%6s  %-16s  %-12s  %6s  %s\n", "ROW", "TIME", "ACTION", "CASE", "MODEL");
    (void)printf("%6lld  %-16s  %-12s  ", (long long)r->seq, hist_time(r->time_ms, when),
                 term_safe(r->action, safe, sizeof safe));
    if (r->case_id)
        (void)printf("%6lld", (long long)r->case_id);
    else
        (void)printf("%6s", "-");
    (void)printf("  %.16s\n", r->model_sha256 ? term_safe(r->model_sha256, safe, sizeof safe) : "-");
    return !ferror(stdout) && !signals_stop();
}

static cli_exit list(cli *c, store *s) {
    galen_error err = {0};
    audit_view v = {.c = c, .json = c->args.json ? json_array() : NULL};
    const int64_t limit = option_given(&c->args, "limit") && c->args.limit ? c->args.limit : INT64_MAX;
    cli_exit st = CLI_DONE;
    if (store_audit_list(s, 0, limit, on_row, &v, &err)) {
        st = hist_fail(c, &err);
    } else if (c->args.json) {
        json_t *root = v.is_out_of_memory ? NULL : json_begin(c);
        if (root && json_object_set(root, "rows", v.json)) {
            json_decref(root);
            root = NULL;
        }
        st = json_end(c, root, false);
    } else if (v.n == 0) {
        term_note(c, "the audit trail is empty");
    }
    json_decref(v.json);
    return st;
}

static cli_exit verify(cli *c, store *s) {
    galen_error err = {0};
    int64_t n = 0;
    const galen_status st = store_audit_verify(s, &n, &err);
    if (st && st != GALEN_E_FORMAT) return hist_fail(c, &err);
    if (c->args.json) {
        json_t *root = json_begin(c);
        int bad = json_object_set_new(root, "is_whole", json_boolean(!st));
        bad |= json_object_set_new(root, "n_rows", st ? json_null() : json_integer((json_int_t)n));
        bad |= json_object_set_new(root, "damage", st ? json_text0(err.msg) : json_null());
        if (bad) {
            json_decref(root);
            root = NULL;
        }
        const cli_exit written = json_end(c, root, false);
        if (written) return written;
        return st ? CLI_FAILED : CLI_DONE;
    }
    if (st) return hist_fail(c, &err);
    (void)printf("audit trail: %lld row%s, whole\n", (long long)n, n == 1 ? "" : "s");
    return CLI_DONE;
}

cli_exit verb_audit(cli *c) {
    store *s;
    cli_exit st = hist_open(c, false, &s);
    if (st) return st;
    st = c->args.verify ? verify(c, s) : list(c, s);
    store_close(s);
    return st;
}
