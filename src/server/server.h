/* galen serve: HTTP over the engine and the assistant. One daemon (libmicrohttpd), some models by name, one store of cases.
 *
 * Three kinds of threads: the daemon's, which read requests and write answers and never wait for anything; each loaded model's
 * batcher, which calls back with tokens; one watcher for timeouts, hang-ups, keep-alives and idle models. */
#ifndef GALEN_SERVER_SERVER_H
#define GALEN_SERVER_SERVER_H

#include "galen/galen.h"

typedef struct server server; /* its calls: one thread, but for server_drain */

typedef struct server_model {
    const char *name, *path;      /* name: what a request's "model" says */
    const galen_model_opts *opts; /* how it is opened; NULL: as the others */
} server_model;

typedef struct server_opts {
    const char *host; /* an IP address or "localhost"                                                    */
    uint16_t port;    /* 0: any free one                                                                  */
    const char *api_keys, *tls_cert, *tls_key; /* paths, or NULL                                         */
    const char *const *hosts;                  /* names a Host header may have beside addresses and localhost */
    size_t n_hosts;
    const char *const *origins; /* pages of other origins that may call, "https://clinic.example"          */
    size_t n_origins;
    const server_model *models; /* the first is the default; at least one                                  */
    size_t n_models;
    int32_t max_loaded;          /* models in memory at once                                               */
    galen_model_opts model;      /* how each is opened                                                     */
    int32_t n_parallel, n_queue; /* sequences running, requests waiting                                    */
    int32_t n_ctx, n_batch;      /* tokens of one sequence; 0: the engine's default                        */
    const char *kv_type;
    int32_t idle_s;  /* unload a model unused for so long; 0: never */
    int32_t drain_s; /* how long a drain waits for answers under way */
    int32_t ping_s;  /* a comment on a silent stream                */
    int32_t n_connections;
    uint64_t max_body_bytes;
    const char *store_path; /* the cases' database; NULL: its usual place */
    bool has_vllm_metrics;
    /** One line of JSON without a line break; any thread. Never holds text of a request or of a model. */
    void (*log)(void *user, const char *line);
    void *log_user;
} server_opts;

server_opts server_default_opts(void);

/** Bind, start answering, load the default model beside. *out is NULL after a failure.
 *  Errors  ARG options that do not go together (an address beyond this machine without keys), a key file that is not one;
 *          IO the address cannot be had; NOMEM; FAIL the daemon cannot start. */
galen_status server_open(server **out, const server_opts *o, galen_error *err);

/** "http://127.0.0.1:8737"; lives with the server. */
const char *server_url(const server *s);

/** Wait until the default model is loaded or known not to load. Errors  those of galen_model_open; CANCELLED is_stopped said so.
 */
galen_status server_wait_ready(server *s, bool (*is_stopped)(void), galen_error *err);
/** What runs where: "smollm2 on CPU (avx2, 2 threads)"; lives until the next call. */
const char *server_device(server *s);

void server_reload_keys(server *s);
/** No new work: readiness is gone, connections are no longer taken, answers under way may end. */
void server_drain(server *s);
/** How many answers are under way. */
size_t server_n_running(server *s);
/** Ends what still runs, closes everything. NULL is fine. */
void server_close(server *s);

#endif
