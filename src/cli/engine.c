/* Opening models and sessions as the command line asks, and saying what became of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/numbers.h"
#include "cli/options.h"
#include "cli/resolve.h"
#include "cli/tune.h"
#include "system/running.h"

/* What a status means for the exit code: while a model is opened, while it is used, while a file is written. In use an I/O error
 * can only be the model's file. */
static const struct {
    galen_status status;
    cli_exit of[PHASE_WRITE + 1];
} exits[] = {
    {GALEN_E_FAIL, {CLI_MODEL, CLI_FAILED, CLI_FAILED}},      {GALEN_E_ARG, {CLI_USAGE, CLI_USAGE, CLI_USAGE}},
    {GALEN_E_FORMAT, {CLI_MODEL, CLI_MODEL, CLI_FAILED}},     {GALEN_E_RANGE, {CLI_MODEL, CLI_USAGE, CLI_USAGE}},
    {GALEN_E_NOMEM, {CLI_MEMORY, CLI_MEMORY, CLI_MEMORY}},    {GALEN_E_IO, {CLI_MODEL, CLI_MODEL, CLI_FAILED}},
    {GALEN_E_FULL, {CLI_CONTEXT, CLI_CONTEXT, CLI_CONTEXT}},  {GALEN_E_DEVICE, {CLI_DEVICE, CLI_DEVICE, CLI_DEVICE}},
    {GALEN_E_UNSUPPORTED, {CLI_MODEL, CLI_MODEL, CLI_USAGE}}, {GALEN_E_NOT_FOUND, {CLI_MODEL, CLI_MODEL, CLI_FAILED}},
    {GALEN_E_NUMERIC, {CLI_FAILED, CLI_FAILED, CLI_FAILED}},  {GALEN_E_REFUSED, {CLI_REFUSED, CLI_REFUSED, CLI_REFUSED}},
};

cli_exit engine_fail(cli *c, cli_phase phase, const galen_error *err) {
    char safe[GALEN_ERROR_MSG_BYTES];
    if (signals_stop() && err->code == GALEN_E_CANCELLED) {
        term_progress_end(c);
        return signals_exit();
    }
    term_error(c, "%s", term_safe(err->msg[0] ? err->msg : galen_status_text(err->code), safe, sizeof safe));
    for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++) {
        if (exits[i].status == err->code) return exits[i].of[phase];
    }
    return CLI_FAILED;
}

cli_exit engine_model_name(cli *c, const char *positional, const char **name) {
    *name = positional ? positional : c->args.model;
    if (positional && c->args.model) {
        char a[128], b[128];
        term_error(c, "two models: '%s' and --model '%s'; give one", term_safe(positional, a, sizeof a),
                   term_safe(c->args.model, b, sizeof b));
        return CLI_USAGE;
    }
    if (*name && !**name) {
        term_error(c, "the model's name is empty");
        return CLI_USAGE;
    }
    return CLI_DONE;
}

static void explain_missing(cli *c, const resolved *r, bool is_named) {
    char safe[512];
    term_safe(r->wanted, safe, sizeof safe);
    if (is_named)
        term_error(c, "no model '%s'; looked for:", safe);
    else if (r->is_from_env)
        term_error(c, "no model '%s' (from GALEN_MODEL); looked for:", safe);
    else
        term_error(c, "no model was named, GALEN_MODEL is not set, and the demo model is not there; looked for:");
    for (int i = 0; i < r->n_tried; i++) (void)fprintf(stderr, "  %s\n", term_safe(r->tried[i], safe, sizeof safe));
    if (!r->n_tried) (void)fputs("  nowhere: neither HOME nor XDG_DATA_HOME is set\n", stderr);
    (void)fputs("To get one: `make demo` in Galen's source folder fetches a small model (SmolLM2, 98 MB);\n", stderr);
    if (*r->folder) (void)fprintf(stderr, "or put any GGUF file in %s\n", term_safe(r->folder, safe, sizeof safe));
    (void)fprintf(stderr, "or name one: galen %s --model path/to/model.gguf\n", c->verb->name);
}

cli_exit engine_check_chat_format(cli *c) {
    char safe[64], choices[256] = "";
    const char *want = c->args.chat_format, *name;
    for (size_t i = 0; (name = galen_chat_format_name(i)); i++) {
        const size_t n = strlen(choices);
        if (want && strcmp(want, name) == 0) return CLI_DONE;
        (void)snprintf(choices + n, sizeof choices - n, "%s%s", n ? ", " : "", name);
    }
    if (!want) return CLI_DONE;
    term_error(c, "--chat-format: '%s' is not one of %s", term_safe(want, safe, sizeof safe), choices);
    return CLI_USAGE;
}

static bool on_load(void *user, uint64_t done, uint64_t total) {
    term_progress(user, "loading", done, total);
    return !signals_stop();
}

bool engine_prefill_progress(void *user, uint64_t done, uint64_t total) {
    cli *c = user;
    if (done == 0) return !signals_stop(); /* asked within the first batch: what stands there stays */
    if (done < total)
        term_progress(c, "reading the prompt", done, total);
    else
        term_progress_end(c);
    return !signals_stop();
}

/* Warnings are never kept back; --quiet hides notes only. */
static void on_notice(void *user, galen_notice kind, const char *text) {
    char safe[1024];
    if (kind == GALEN_NOTICE_DETAIL) return; /* the placement's line says CPU */
    term_progress_end(user);
    term_safe(text, safe, sizeof safe);
    if (kind == GALEN_NOTICE_WARNING)
        term_error(user, "warning: %s", safe);
    else
        term_note(user, "now on %s", safe);
}

static cli_exit read_gpu_layers(cli *c, int32_t *out) {
    const char *word = c->args.gpu_layers;
    int64_t n = 0;
    char safe[64];
    if (!word || strcmp(word, "auto") == 0) return CLI_DONE;
    if (strcmp(word, "all") == 0) {
        *out = GALEN_GPU_LAYERS_ALL;
        return CLI_DONE;
    }
    if (number_i64(word, &n) && n >= 0 && n < GALEN_GPU_LAYERS_ALL) {
        *out = (int32_t)n;
        return CLI_DONE;
    }
    term_error(c, "--gpu-layers: '%s' is not auto, all or a whole number", term_safe(word, safe, sizeof safe));
    return CLI_USAGE;
}

/* Where measured speeds are kept; NULL without a home. */
static const char *cache_dir(void) {
    static char dir[1024];
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool has_xdg = xdg && xdg[0] == '/';
    if (!has_xdg && (!home || home[0] != '/')) return NULL;
    const int n = snprintf(dir, sizeof dir, "%s%s/galen", has_xdg ? xdg : home, has_xdg ? "" : "/.cache");
    return n > 0 && (size_t)n < sizeof dir ? dir : NULL;
}

/* --ubatch within --batch; 0 = the engine's own. */
static int32_t rows_of_pass(const cli_args *a) {
    return (int32_t)(a->ubatch && (!a->batch || a->ubatch < a->batch) ? a->ubatch : a->batch);
}

cli_exit engine_model_opts(cli *c, galen_model_opts *o) {
    const cli_args *a = &c->args;
    char safe[64];
    *o = galen_model_default_opts();
    o->device = a->device;
    o->isa = a->isa;
    o->n_threads = (int32_t)a->threads;
    o->chat_format = a->chat_format;
    o->n_ctx = (int32_t)a->ctx;
    o->n_batch = rows_of_pass(a);
    o->n_seqs = (int32_t)a->parallel;
    o->kv_type = a->kv_type;
    o->main_gpu = (int32_t)a->main_gpu;
    o->is_kv_on_host = a->no_kv_offload;
    if (option_given(a, "stream-layers")) o->stream_layers = a->stream_layers ? (int32_t)a->stream_layers : GALEN_STREAM_NONE;
    o->is_gpu_required = a->require_gpu;
    o->is_strict = a->strict;
    o->cache_dir = cache_dir();
    o->notice = on_notice;
    o->notice_user = c;
    if (a->vram_limit && !number_size(a->vram_limit, &o->vram_limit)) {
        term_error(c, "--vram-limit: '%s' is not a size such as 4GiB", term_safe(a->vram_limit, safe, sizeof safe));
        return CLI_USAGE;
    }
    return read_gpu_layers(c, &o->gpu_layers);
}

static void note_model(cli *c, const galen_model *m) {
    const galen_model_info i = galen_model_get_info(m);
    char name[128];
    const char *slash = i.path ? strrchr(i.path, '/') : NULL;
    const char *base = i.path ? (slash ? slash + 1 : i.path) : "model";
    term_safe(i.name && *i.name ? i.name : base, name, sizeof name);
    term_note(c, "%s (%s, %.0f MB) on %s, loaded in %.2f s", name, i.type_name ? i.type_name : "?", (double)i.weight_bytes / 1e6,
              i.device ? i.device : "no device", c->load_s);
    if (i.placement) term_note(c, "%s", i.placement);
}

/* ---------------------------------------------------------------- the entry in `galen ps` */

/* Being listed is a courtesy: a folder that cannot be written costs nothing but that. */
static void put_up(cli *c, const galen_model *m) {
    const galen_model_info i = galen_model_get_info(m);
    engine_done(c);
    c->info = calloc(1, sizeof *c->info);
    if (!c->info) return;
    const char *slash = strrchr(i.path, '/');
    (void)snprintf(c->info->verb, sizeof c->info->verb, "%s", c->verb->name);
    (void)snprintf(c->info->model, sizeof c->info->model, "%.127s", i.name && *i.name ? i.name : slash ? slash + 1 : i.path);
    (void)snprintf(c->info->placement, sizeof c->info->placement, "%.255s", i.placement ? i.placement : "");
    c->info->weight_bytes = i.weight_bytes;
    c->info->n_layers = i.n_layer;
    c->info->gpu_layers = i.n_gpu_layers;
    c->info->gpu_percent = i.gpu_percent;
    (void)running_open(&c->run, NULL, c->info, NULL);
}

void engine_tick(cli *c, int64_t ctx_used, int64_t ctx_size, double tokens_per_s) {
    if (!c->run) return;
    if (ctx_used >= 0) c->info->ctx_used = ctx_used;
    if (ctx_size >= 0) c->info->ctx_size = ctx_size;
    if (tokens_per_s >= 0) c->info->tokens_per_s = tokens_per_s;
    running_update(c->run, c->info, false);
}

void engine_done(cli *c) {
    running_close(c->run);
    free(c->info);
    c->run = NULL;
    c->info = NULL;
}

/* The message may or may not name the file already. */
static cli_exit fail_open(cli *c, const char *path, galen_error *err) {
    galen_error full = *err;
    if (!strstr(err->msg, path)) (void)snprintf(full.msg, sizeof full.msg, "%.200s: %.300s", path, err->msg);
    return engine_fail(c, PHASE_LOAD, &full);
}

cli_exit engine_find(cli *c, const char *name, char *path) {
    cli_exit st = CLI_DONE;
    resolved *r = calloc(1, sizeof *r); /* some 24 KiB of paths */
    if (!r) {
        term_error(c, "out of memory");
        return CLI_MEMORY;
    }
    if (resolve_model(r, name)) {
        (void)snprintf(path, RESOLVE_PATH_BYTES, "%s", r->path);
    } else {
        explain_missing(c, r, name != NULL);
        st = CLI_MODEL;
    }
    free(r);
    return st;
}

bool engine_has_room(const char *path, const galen_model_opts *tuned) {
    galen_model *m = NULL;
    galen_plan *p = NULL;
    galen_model_opts o = *tuned;
    galen_error err = {0};
    if (o.gpu_layers <= 0) return true;
    o.is_vocab_only = true;
    galen_status st = galen_model_open(&m, path, &o, &err);
    o.is_vocab_only = false;
    if (!st) st = galen_plan_make(&p, m, &o, NULL, &err);
    const galen_plan_info i = st ? (galen_plan_info){0} : galen_plan_get_info(p);
    const bool ok = !st && i.n_whole >= (o.gpu_layers < i.n_layer ? o.gpu_layers : i.n_layer);
    galen_plan_close(p);
    galen_model_close(m);
    return ok;
}

void engine_use_tuned(cli *c, const char *path, galen_model_opts *o) {
    tune_choice choice;
    int64_t time_ms = 0;
    char layers[48] = "";
    galen_model_opts tuned = *o;
    if (c->args.no_tune) return;
    if (!tune_find(c, path, &choice, &time_ms)) {
        if (tune_is_outdated(c, path))
            term_note(c, "this model was tuned for another card, driver, build or limit; galen tune measures it here");
        return;
    }
    tune_apply(c, &choice, &tuned);
    const bool is_usual = !o->n_ctx && !o->n_seqs && !o->kv_type;
    if (tuned.gpu_layers != o->gpu_layers && !(is_usual && choice.is_default_fit) && !engine_has_room(path, &tuned)) {
        term_note(c, "the %d layers that were tuned do not fit beside this context's memory: placed anew", choice.gpu_layers);
        tuned.gpu_layers = o->gpu_layers;
        choice.gpu_layers = GALEN_GPU_LAYERS_AUTO;
    }
    *o = tuned;
    if (choice.gpu_layers >= 0) (void)snprintf(layers, sizeof layers, "%d layers on the GPU, ", choice.gpu_layers);
    term_note(c, "tuned: %s%d thread%s, %d rows a pass (--no-tune ignores it)", layers, choice.n_threads,
              choice.n_threads == 1 ? "" : "s", choice.n_batch);
}

cli_exit engine_open(cli *c, const char *name, bool is_vocab_only, galen_model **out) {
    galen_error err = {0};
    galen_model_opts o;
    *out = NULL;
    static char path[RESOLVE_PATH_BYTES];
    cli_exit st = engine_check_chat_format(c);
    if (!st) st = engine_model_opts(c, &o);
    if (!st) st = engine_find(c, name, path);
    if (st) return st;
    if (!is_vocab_only) engine_use_tuned(c, path, &o);
    o.is_vocab_only = is_vocab_only;
    c->n_batch = o.n_batch;
    o.progress = on_load;
    o.progress_user = c;
    const double start = clock_s();
    signals_guard_file(path);
    if (galen_model_open(out, path, &o, &err)) {
        signals_guard_file(NULL);
        return fail_open(c, path, &err);
    }
    c->load_s = clock_s() - start;
    term_progress_end(c);
    if (!is_vocab_only) {
        note_model(c, *out);
        put_up(c, *out);
    }
    return CLI_DONE;
}

cli_exit engine_session(cli *c, const galen_model *m, int32_t n_ctx_default, galen_session **out) {
    galen_error err = {0};
    galen_session_opts o = galen_session_default_opts();
    o.n_ctx = option_given(&c->args, "ctx") ? (int32_t)c->args.ctx : n_ctx_default;
    o.n_batch = c->n_batch;
    o.kv_type = c->args.kv_type;
    if (galen_session_open(out, m, &o, &err)) return engine_fail(c, PHASE_USE, &err);
    galen_session_set_progress(*out, engine_prefill_progress, c);
    engine_tick(c, 0, galen_session_n_ctx(*out), -1);
    return CLI_DONE;
}

static cli_exit read_biases(cli *c, int32_t n_vocab, galen_logit_bias *bias) {
    for (size_t i = 0; i < c->args.bias.n; i++) {
        char safe[64];
        const char *text = c->args.bias.items[i];
        if (!number_bias(text, &bias[i])) {
            term_error(c, "--logit-bias: '%s' is not ID=VALUE with a finite value or -inf", term_safe(text, safe, sizeof safe));
            return CLI_USAGE;
        }
        if (bias[i].id >= n_vocab) {
            term_error(c, "--logit-bias: token %d is not in this model's 0..%d", bias[i].id, n_vocab - 1);
            return CLI_USAGE;
        }
    }
    return CLI_DONE;
}

cli_exit engine_sampling(cli *c, int32_t n_vocab, galen_sampling *out, galen_logit_bias **bias) {
    const cli_args *a = &c->args;
    *out = galen_sampling_default();
    *bias = NULL;
    if (option_given(a, "temp")) out->temperature = (float)a->temperature;
    if (option_given(a, "top-k")) out->top_k = (int32_t)a->top_k;
    if (option_given(a, "top-p")) out->top_p = (float)a->top_p;
    if (option_given(a, "min-p")) out->min_p = (float)a->min_p;
    if (option_given(a, "repeat-penalty")) out->repeat_penalty = (float)a->repeat_penalty;
    if (option_given(a, "presence-penalty")) out->presence_penalty = (float)a->presence_penalty;
    if (option_given(a, "frequency-penalty")) out->frequency_penalty = (float)a->frequency_penalty;
    if (option_given(a, "penalty-last-n")) out->penalty_last_n = (int32_t)a->last_n;
    out->seed = (uint64_t)a->seed;
    for (size_t i = 0; i < a->stop.n; i++) {
        if (!*a->stop.items[i]) {
            term_error(c, "--stop: the text is empty");
            return CLI_USAGE;
        }
    }
    if (!a->bias.n) return CLI_DONE;
    galen_logit_bias *b = calloc(a->bias.n, sizeof *b);
    if (!b) {
        term_error(c, "out of memory");
        return CLI_MEMORY;
    }
    const cli_exit st = read_biases(c, n_vocab, b);
    if (st) {
        free(b);
        return st;
    }
    *bias = b;
    out->bias = b;
    out->n_bias = a->bias.n;
    return CLI_DONE;
}

void engine_note_speed(cli *c, const galen_result *r) {
    const double in = r->prefill_s > 0 ? r->n_prompt / r->prefill_s : 0, gen = r->decode_s > 0 ? r->n_generated / r->decode_s : 0;
    engine_tick(c, -1, -1, gen);
    term_note(c, "prompt %d token%s in %.2f s (%.1f tokens/s), answer %d token%s in %.2f s (%.1f tokens/s)", r->n_prompt,
              r->n_prompt == 1 ? "" : "s", r->prefill_s, in, r->n_generated, r->n_generated == 1 ? "" : "s", r->decode_s, gen);
}
