#include "server/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "server/api.h"
#include "server/cases.h"
#include "server/inside.h"
#include "server/perf.h"
#include "server/shelf.h"

#define IDLE_TIMEOUT_S 60u
#define STACK_BYTES    (512u << 10)
#define BACKLOG        4096

#define ASK   (ROLE_CLINICIAN | ROLE_ADMIN)
#define WATCH (ROLE_AUDITOR | ROLE_ADMIN | ROLE_CLINICIAN)

const route server_routes[] = {
    {"GET", "/livez", probe_live, 0, true},
    {"GET", "/readyz", probe_ready, 0, true},
    {"GET", "/health", probe_health, 0, true},
    {"GET", "/metrics", probe_metrics, WATCH, true},
    {"GET", "/openapi.json", api_openapi, 0, false},
    {"GET", "/v1/models", api_models, WATCH, false},
    {"GET", "/v1/models/{id}", api_model, WATCH, false},
    {"POST", "/v1/completions", api_completions, ASK, false},
    {"POST", "/v1/chat/completions", api_chat, ASK, false},
    {"POST", "/v1/embeddings", api_embeddings, ASK, false},
    {"POST", "/v1/decisions", api_decisions, ASK, false},
    {"POST", "/v1/tokenize", api_tokenize, ASK, false},
    {"POST", "/v1/detokenize", api_detokenize, ASK, false},
    {"GET", "/v1/status", api_status, WATCH, false},
    {"GET", "/v1/cases", cases_list, ASK, false},
    {"POST", "/v1/cases", cases_create, ASK, false},
    {"POST", "/v1/cases/search", cases_search, ASK, false},
    {"GET", "/v1/cases/{id}", cases_show, ASK, false},
    {"DELETE", "/v1/cases/{id}", cases_erase, ASK, false},
    {"POST", "/v1/cases/{id}/answers", cases_answer, ASK, false},
    {"POST", "/v1/cases/{id}/close", cases_close_case, ASK, false},
    {"GET", "/v1/cases/{id}/export", cases_export, ASK, false},
    {"GET", "/v1/audit", cases_audit, ROLE_AUDITOR | ROLE_ADMIN, false},
    {"GET", "/", page_file, 0, false},
    {"GET", "/{id}", page_file, 0, false},
    {"GET", "/assets/{id}", page_file, 0, false},
    {NULL, NULL, NULL, 0, false},
};
_Static_assert(sizeof server_routes / sizeof server_routes[0] <= METRICS_MAX_ROUTES, "a row of figures for each route");

server_opts server_default_opts(void) {
    return (server_opts){.host = "127.0.0.1",
                         .port = 8737,
                         .max_loaded = 1,
                         .model = galen_model_default_opts(),
                         .drain_s = 30,
                         .ping_s = 15,
                         .idle_s = 0,
                         .n_connections = 16000,
                         .max_body_bytes = 4u << 20};
}

/* ------------------------------------------------------------ the socket */

static bool address(const server_opts *o, struct sockaddr_storage *a, socklen_t *n) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)a;
    const char *host = strcmp(o->host, "localhost") == 0 ? "127.0.0.1" : o->host;
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(o->port);
        *n = sizeof *v4;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1) return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(o->port);
    *n = sizeof *v6;
    return true;
}

static galen_status bind_socket(server *s, galen_error *err) {
    struct sockaddr_storage a;
    socklen_t n;
    const int on = 1;
    if (!address(&s->o, &a, &n)) return galen_fail(err, GALEN_E_ARG, 0, "--host: not an IP address and not localhost");
    s->listen_fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0) return galen_fail(err, GALEN_E_IO, 0, "no socket can be had: %s", strerror(errno));
    (void)setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.ss_family == AF_INET6) (void)setsockopt(s->listen_fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(s->listen_fd, (const struct sockaddr *)&a, n) || listen(s->listen_fd, BACKLOG)) {
        const int e = errno;
        return galen_fail(err, GALEN_E_IO, 0, "%s port %u: %s%s", s->o.host, s->o.port, strerror(e),
                          e == EADDRINUSE ? " (another server runs there; --port takes another, 0 any free one)" : "");
    }
    if (getsockname(s->listen_fd, (struct sockaddr *)&a, &n) == 0)
        s->o.port = ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&a)->sin_port
                                                 : ((struct sockaddr_in6 *)(void *)&a)->sin6_port);
    (void)snprintf(s->url, sizeof s->url, "%s://%s%s%s:%u", s->o.tls_cert ? "https" : "http", a.ss_family == AF_INET6 ? "[" : "",
                   s->o.host, a.ss_family == AF_INET6 ? "]" : "", s->o.port);
    return GALEN_OK;
}

/* ------------------------------------------------------------ the daemon */

static galen_status read_pem(char **out, const char *path, galen_error *err) {
    file_map f = {0};
    galen_status st = file_map_open(&f, path, err);
    if (st) return st;
    *out = calloc(1, f.n + 1);
    if (*out && f.n) memcpy(*out, f.bytes, f.n);
    file_map_close(&f);
    return *out ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
}

static void raise_descriptors(server *s) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
    /* Some for files and pools: a connection that finds no descriptor would be turned away by accident, not by rule. */
    const rlim_t room = r.rlim_cur > 256 ? r.rlim_cur - 128 : r.rlim_cur / 2;
    if ((rlim_t)s->o.n_connections > room) s->o.n_connections = (int32_t)room;
}

static galen_status start_daemon(server *s, galen_error *err) {
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const unsigned threads = cores > 4 ? 4 : cores > 1 ? (unsigned)cores : 1;
    struct MHD_OptionItem items[20];
    size_t n = 0;
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, s->listen_fd, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)http_on_completed, s};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)http_on_connection, s};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)http_keep_escapes, s};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_MEMORY_INCREMENT, 1024, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_LIMIT, s->o.n_connections, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES, NULL};
    if (threads > 1) items[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    if (s->o.tls_cert) {
        flags |= MHD_USE_TLS;
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls_cert};
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls_key};
        items[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                    (void *)(uintptr_t) "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"};
    }
    items[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_on_request, s, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (s->daemon) return GALEN_OK;
    return galen_fail(err, s->o.tls_cert ? GALEN_E_ARG : GALEN_E_FAIL, 0,
                      s->o.tls_cert ? "the server cannot start: is --tls-cert a PEM certificate and --tls-key its key?"
                                    : "the HTTP daemon cannot start");
}

/* ------------------------------------------------------------ open and close */

static galen_status check_opts(const server_opts *o, galen_error *err) {
    if (!o->n_models || !o->host) return galen_fail(err, GALEN_E_ARG, 0, "no model, or no host");
    if (!o->tls_cert != !o->tls_key) return galen_fail(err, GALEN_E_ARG, 0, "--tls-cert and --tls-key go together");
    if (!host_is_loopback(o->host) && !o->api_keys)
        return galen_fail(err, GALEN_E_ARG, 0,
                          "--host %s can be reached from other machines: give --api-keys FILE, or leave --host at 127.0.0.1",
                          o->host);
    return GALEN_OK;
}

galen_status server_open(server **out, const server_opts *o, galen_error *err) {
    *out = NULL;
    galen_status st = check_opts(o, err);
    if (st) return st;
    server *s = calloc(1, sizeof *s);
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    s->o = *o;
    s->listen_fd = s->hangups = s->notify_fd = -1;
    s->started = time(NULL);
    s->rules = (host_rules){o->hosts, o->n_hosts, o->origins, o->n_origins};
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_mutex_init(&s->conn_lock, NULL);
    (void)pthread_rwlock_init(&s->keys_lock, NULL);
    raise_descriptors(s);
    notify_open(s);
    if (o->api_keys && (st = keys_read(&s->keys, o->api_keys, err))) goto fail;
    if (o->tls_cert && ((st = read_pem(&s->tls_cert, o->tls_cert, err)) || (st = read_pem(&s->tls_key, o->tls_key, err))))
        goto fail;
    if ((st = bind_socket(s, err)) || (st = perf_open(s, err)) || (st = shelf_open(&s->shelf, s, err)) ||
        (st = cases_open(&s->cases, s, err)) || (st = look_open(s, err)) || (st = watch_start(s, err)) ||
        (st = start_daemon(s, err)))
        goto fail;
    *out = s;
    return GALEN_OK;
fail:
    server_close(s);
    return st;
}

const char *server_url(const server *s) {
    return s->url;
}

const char *server_device(server *s) {
    book *b = shelf_at(s->shelf, 0);
    s->device[0] = '\0';
    if (shelf_peek(s->shelf, b)) {
        const char *placement = galen_model_get_info(b->model).placement;
        (void)snprintf(s->device, sizeof s->device, "%s on %s%s%s", b->name, b->info.device ? b->info.device : "no device",
                       placement ? "; " : "", placement ? placement : "");
        shelf_give(s->shelf, b);
    }
    return s->device;
}

galen_status server_wait_ready(server *s, bool (*is_stopped)(void), galen_error *err) {
    const struct timespec pause = {.tv_nsec = 5000000};
    for (;;) {
        const int state = shelf_state(s->shelf, err);
        if (state > 0) {
            notify_send(s, "READY=1\nSTATUS=serving");
            return GALEN_OK;
        }
        if (state < 0) return err->code;
        if (is_stopped()) return galen_fail(err, GALEN_E_CANCELLED, 0, "stopped while the model was being loaded");
        (void)nanosleep(&pause, NULL);
    }
}

void server_reload_keys(server *s) {
    keys fresh;
    galen_error err = {0};
    if (!s->o.api_keys) return;
    if (keys_read(&fresh, s->o.api_keys, &err)) {
        log_event(s, "error", "keys_not_reloaded", "detail", err.msg); /* the old ones stay */
        return;
    }
    (void)pthread_rwlock_wrlock(&s->keys_lock);
    keys old = s->keys;
    s->keys = fresh;
    (void)pthread_rwlock_unlock(&s->keys_lock);
    keys_free(&old);
    log_event(s, "info", "keys_reloaded", NULL, "");
}

void server_drain(server *s) {
    if (atomic_exchange(&s->is_draining, true)) return;
    notify_send(s, "STOPPING=1");
    log_event(s, "info", "draining", NULL, "");
    if (s->daemon) (void)MHD_quiesce_daemon(s->daemon);
    if (s->listen_fd >= 0) (void)close(s->listen_fd);
    s->listen_fd = -1;
}

size_t server_n_running(server *s) {
    (void)pthread_mutex_lock(&s->lock);
    const size_t n = s->n_exchanges;
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

/* The client of every answer under way is told that it left; the daemon may only be stopped when no connection is suspended. */
static void cut_all(server *s) {
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int tries = 0; tries < 5000 && server_n_running(s); tries++) {
        exchange *some[64];
        size_t n = 0;
        (void)pthread_mutex_lock(&s->lock);
        for (exchange *x = s->exchanges; x && n < 64; x = x->next) {
            exchange_ref(x);
            some[n++] = x;
            if (x->conn) (void)shutdown(x->conn->fd, SHUT_RDWR);
        }
        (void)pthread_mutex_unlock(&s->lock);
        for (size_t i = 0; i < n; i++) {
            exchange_hang_up(some[i]);
            exchange_unref(some[i]);
        }
        (void)nanosleep(&pause, NULL);
    }
}

void server_close(server *s) {
    if (!s) return;
    atomic_store(&s->is_draining, true);
    atomic_store(&s->is_stopping, true);
    cut_all(s);
    watch_stop(s);
    entry_close(s);
    if (s->daemon) MHD_stop_daemon(s->daemon);
    cases_close(s->cases);
    look_close(s);
    shelf_close(s->shelf);
    perf_close(s);
    if (s->listen_fd >= 0) (void)close(s->listen_fd);
    notify_close(s);
    keys_free(&s->keys);
    if (s->tls_key) explicit_bzero(s->tls_key, strlen(s->tls_key));
    free(s->tls_cert);
    free(s->tls_key);
    (void)pthread_rwlock_destroy(&s->keys_lock);
    (void)pthread_mutex_destroy(&s->conn_lock);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}
