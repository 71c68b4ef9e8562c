/* galen serve: the server until a signal ends it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "cli/options.h"
#include "cli/resolve.h"
#include "server/server.h"

#define MODELS_MAX 64
#define NAME_BYTES 64

typedef struct serving {
    server_opts o;
    server_model models[MODELS_MAX];
    char names[MODELS_MAX][NAME_BYTES];
    char paths[MODELS_MAX][RESOLVE_PATH_BYTES];
    galen_model_opts opts[MODELS_MAX];
} serving;

static volatile sig_atomic_t hang_up;

static void on_hang_up(int signo) {
    (void)signo;
    hang_up = 1;
}

/* No core with a patient's words in it, and nobody who may look into this process. Sanitizers must. */
static void close_curtains(void) {
    const struct rlimit none = {0, 0};
    struct sigaction hup = {0}, ignore = {0};
    (void)setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    hup.sa_handler = on_hang_up;
    ignore.sa_handler = SIG_IGN;
    (void)sigemptyset(&hup.sa_mask);
    (void)sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGHUP, &hup, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a client that left is no reason to end */
}

static void on_log(void *user, const char *line) {
    (void)user;
    (void)fprintf(stderr, "%s\n", line);
}

/* "dir/smollm2.gguf" is served as "smollm2": what a URL and a log can hold. */
static void name_of(const char *path, char out[NAME_BYTES]) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0) n -= 5;
    if (n >= NAME_BYTES) n = NAME_BYTES - 1;
    for (size_t i = 0; i < n; i++) {
        const char b = base[i];
        const bool is_plain =
            (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-' || b == '_' || b == '.';
        out[i] = b;
        if (!is_plain) out[i] = '-';
    }
    out[n] = '\0';
}

static cli_exit add_model(cli *c, serving *v, const char *name) {
    const size_t i = v->o.n_models;
    if (i == MODELS_MAX) {
        term_error(c, "serve: at most %d models", MODELS_MAX);
        return CLI_USAGE;
    }
    const cli_exit st = engine_find(c, name, v->paths[i]);
    if (st) return st;
    name_of(v->paths[i], v->names[i]);
    for (size_t k = 0; k < i; k++) {
        if (strcmp(v->names[k], v->names[i]) != 0) continue;
        term_error(c, "serve: two models would be called '%s'; rename one file", v->names[i]);
        return CLI_USAGE;
    }
    v->models[i] = (server_model){v->names[i], v->paths[i], NULL};
    v->o.n_models++;
    return CLI_DONE;
}

static void read_options(cli *c, serving *v) {
    const cli_args *a = &c->args;
    server_opts *o = &v->o;
    const bool is_quiet = c->args.log ? strcmp(c->args.log, "none") == 0 : c->term.is_err_tty;
    if (a->host) o->host = a->host;
    if (option_given(a, "port")) o->port = (uint16_t)a->port;
    o->api_keys = a->api_keys;
    o->tls_cert = a->tls_cert;
    o->tls_key = a->tls_key;
    o->hosts = a->allow_host.items;
    o->n_hosts = a->allow_host.n;
    o->origins = a->allow_origin.items;
    o->n_origins = a->allow_origin.n;
    o->models = v->models;
    if (option_given(a, "max-models")) o->max_loaded = (int32_t)a->max_models;
    o->n_parallel = (int32_t)a->parallel;
    o->n_queue = (int32_t)a->queue;
    o->n_ctx = (int32_t)a->ctx;
    o->n_batch = (int32_t)a->batch;
    o->kv_type = a->kv_type;
    o->idle_s = (int32_t)a->keep_alive;
    if (option_given(a, "drain")) o->drain_s = (int32_t)a->drain;
    if (option_given(a, "max-connections")) o->n_connections = (int32_t)a->max_connections;
    if (option_given(a, "max-body")) o->max_body_bytes = (uint64_t)a->max_body;
    o->has_vllm_metrics = a->metrics_compat != NULL;
    o->store_path = a->db;
    o->log = is_quiet || a->quiet ? NULL : on_log;
}

/* Layers and threads; the rows of a pass are the batcher's own. */
static void use_tuned(cli *c, serving *v) {
    for (size_t i = 0; i < v->o.n_models; i++) {
        v->opts[i] = v->o.model;
        engine_use_tuned(c, v->paths[i], &v->opts[i]);
        v->opts[i].n_batch = v->o.model.n_batch;
        v->models[i].opts = &v->opts[i];
    }
}

static bool is_stopped(void) {
    return signals_stop() != 0;
}

/* The first signal: no new work, answers under way end; the second, or the time, cuts them. */
static void drain(cli *c, server *s, int32_t seconds) {
    const struct timespec pause = {.tv_nsec = 20000000};
    const double end = clock_s() + seconds;
    server_drain(s);
    const size_t n = server_n_running(s);
    if (n) term_note(c, "ending: %zu answers are under way (again to cut them)", n);
    while (server_n_running(s) && clock_s() < end) (void)nanosleep(&pause, NULL);
}

static cli_exit run(cli *c, serving *v) {
    const struct timespec pause = {.tv_nsec = 100000000};
    galen_error err = {0};
    server *s = NULL;
    galen_status st = server_open(&s, &v->o, &err);
    if (st) {
        term_error(c, "%s", err.msg);
        return st == GALEN_E_IO && !v->o.api_keys && !v->o.tls_cert ? CLI_NETWORK
               : st == GALEN_E_IO && strstr(err.msg, "port")        ? CLI_NETWORK
               : st == GALEN_E_NOMEM                                ? CLI_MEMORY
                                                                    : CLI_USAGE;
    }
    st = server_wait_ready(s, is_stopped, &err);
    if (st) {
        server_close(s);
        return engine_fail(c, PHASE_LOAD, &err);
    }
    term_note(c, "%s", server_device(s));
    term_note(c, "serving at %s (the page, and OpenAI's API under %s/v1); Ctrl-C ends", server_url(s), server_url(s));
    while (!signals_stop()) {
        (void)nanosleep(&pause, NULL);
        if (!hang_up) continue;
        hang_up = 0;
        server_reload_keys(s);
    }
    drain(c, s, v->o.drain_s);
    server_close(s);
    return CLI_DONE;
}

cli_exit verb_serve(cli *c) {
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    serving *v = st ? NULL : calloc(1, sizeof *v); /* some 260 KiB of paths */
    if (st) return st;
    if (!v) {
        term_error(c, "out of memory");
        return CLI_MEMORY;
    }
    v->o = server_default_opts();
    st = add_model(c, v, name);
    for (size_t i = 0; !st && i < c->args.also.n; i++) st = add_model(c, v, c->args.also.items[i]);
    if (!st) {
        read_options(c, v);
        st = engine_model_opts(c, &v->o.model);
    }
    if (!st) {
        v->o.model.n_seqs = 8; /* the batcher's KV memory: eight full contexts */
        use_tuned(c, v);
        signals_guard_file(v->paths[0]);
        close_curtains();
        st = run(c, v);
    }
    free(v);
    return st;
}
