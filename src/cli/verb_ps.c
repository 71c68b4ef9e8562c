/* galen ps: which models are loaded, where, and how fast. */
#include <string.h>
#include <time.h>

#include "cli/machine.h"
#include "cli/options.h"

#define GIB ((double)(1u << 30))

/* "100 % GPU", "48 % / 52 % CPU / GPU", "100 % CPU" */
static void processor(const running_info *e, char *out, size_t cap) {
    if (e->gpu_percent >= 100)
        (void)snprintf(out, cap, "100 %% GPU");
    else if (e->gpu_percent <= 0)
        (void)snprintf(out, cap, "100 %% CPU");
    else
        (void)snprintf(out, cap, "%d %% / %d %% CPU / GPU", 100 - e->gpu_percent, e->gpu_percent);
}

static void speed(double tokens_per_s, char *out, size_t cap) {
    if (tokens_per_s > 0)
        (void)snprintf(out, cap, "%.1f", tokens_per_s);
    else
        (void)snprintf(out, cap, "-");
}

static json_t *json_engine(const running_info *e, uint64_t rss) {
    char where[64];
    processor(e, where, sizeof where);
    return json_pack("{s:i, s:o, s:o, s:I, s:I, s:s, s:o, s:i, s:i, s:I, s:I, s:i, s:i, s:o, s:I, s:I}", "pid", e->pid, "name",
                     json_text0(e->model), "verb", json_text0(e->verb), "weight_bytes", (json_int_t)e->weight_bytes,
                     "resident_bytes", (json_int_t)rss, "processor", where, "placement", json_text0(e->placement), "gpu_layers",
                     e->gpu_layers, "n_layers", e->n_layers, "ctx_used", (json_int_t)e->ctx_used, "ctx_size",
                     (json_int_t)e->ctx_size, "running", e->n_running, "waiting", e->n_waiting, "tokens_per_s",
                     e->tokens_per_s > 0 ? json_number(e->tokens_per_s) : json_null(), "started", (json_int_t)e->started_s,
                     "updated", (json_int_t)e->updated_s);
}

json_t *json_engines(const sample *s) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < s->n_engines; i++) {
        if (json_array_append_new(list, json_engine(&s->engines[i], s->engine_rss[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

void print_engines(const cli *c, const sample *s) {
    if (c->term.n_columns >= 100)
        (void)printf("%-28s %9s  %-22s %13s %9s  %-9s %s\n", "NAME", "SIZE", "PROCESSOR", "CONTEXT", "TOKENS/S", "VERB", "PID");
    for (size_t i = 0; i < s->n_engines; i++) {
        const running_info *e = &s->engines[i];
        char where[64], rate[32], name[128], context[48];
        processor(e, where, sizeof where);
        speed(e->tokens_per_s, rate, sizeof rate);
        term_safe(e->model, name, sizeof name);
        (void)snprintf(context, sizeof context, "%lld/%lld", (long long)e->ctx_used, (long long)e->ctx_size);
        if (c->term.n_columns >= 100)
            (void)printf("%-28.28s %5.1f GiB  %-22s %13s %9s  %-9s %d\n", name, (double)e->weight_bytes / GIB, where, context,
                         rate, e->verb, e->pid);
        else /* a narrow terminal: a paragraph for each */
            (void)printf("%s\n  %.1f GiB, %s\n  context %s, %s tokens/s\n  %s, process %d\n", name, (double)e->weight_bytes / GIB,
                         where, context, rate, e->verb, e->pid);
    }
}

cli_exit verb_ps(cli *c) {
    static sample s; /* large */
    galen_error err = {0};
    sampler_state *state;
    if (sampler_state_open(&state, "", NULL, NULL, &err)) {
        term_error(c, "%s", err.msg);
        return CLI_MEMORY;
    }
    sample_take(state, &s);
    sampler_state_close(state);
    if (c->args.json) {
        json_t *root = json_begin(c);
        if (json_object_set_new(root, "engines", json_engines(&s))) {
            json_decref(root);
            root = NULL;
        }
        return json_end(c, root, false);
    }
    if (s.n_engines)
        print_engines(c, &s);
    else
        term_note(c, "no engine of this user is running");
    return CLI_DONE;
}
