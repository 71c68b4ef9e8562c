/* From a request's headers to its route's handler: what is let in, by whom, how large. All of it is decided before the body is
 * read, in the order of the rules below; each refusal is a fixed sentence. */
#include "server/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/clock.h"
#include "server/inside.h"

#define BODY_BUDGET (256u << 20) /* bytes of bodies held at once, over all requests              */
#define DROP_LIMIT  (64u << 20)  /* bytes of a body over the limit that are read before hanging up */
#define JSON_DEPTH  64
#define JSON_VALUES 200000
#define VALUE_LIMIT 4096 /* bytes of one header */

/* ------------------------------------------------------------ headers */

typedef struct header_walk {
    int n, n_lengths, n_hosts, n_encodings, n_keys;
    bool is_bad;
    const char *end; /* of the last value */
} header_walk;

/* The daemon takes a NUL for a value's end. Its strings lie in the read buffer as they came, with line ends overwritten by NULs:
 * what stands between a value and the next name shows whether there was more of it. */
static bool hides_nul(const char *from, const char *to) {
    int nuls = 0;
    if (!from || to < from || to - from > 64) return false; /* not neighbours: a folded line */
    for (; from < to; from++) {
        if (*from && *from != ' ' && *from != '\t') return true;
        nuls += *from == '\0';
    }
    return nuls > 2;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n, const char *given,
                                 size_t value_n) {
    header_walk *w = cls;
    const char *value = given ? given : "";
    (void)kind;
    if (!given) value_n = 0;
    w->n++;
    w->is_bad |= hides_nul(w->end, name);
    w->end = given ? given + value_n : NULL;
    for (size_t i = 0; i < name_n; i++) w->is_bad |= (unsigned char)name[i] <= ' ' || name[i] == 0x7f;
    for (size_t i = 0; i < value_n; i++) w->is_bad |= ((unsigned char)value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f;
    w->is_bad |= name_n == 0 || value_n > VALUE_LIMIT;
    w->n_lengths += strcasecmp(name, "Content-Length") == 0;
    w->n_hosts += strcasecmp(name, "Host") == 0;
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        w->n_encodings++;
        w->is_bad |= strcasecmp(value, "chunked") != 0;
    }
    w->n_keys += strcasecmp(name, "Authorization") == 0;
    return MHD_YES;
}

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static bool is_word(const char *s, size_t max) {
    size_t n = 0;
    for (; s[n]; n++) {
        const char c = s[n];
        if (n >= max ||
            !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
            return false;
    }
    return n > 0;
}

static void take_ids(exchange *x, struct MHD_Connection *c) {
    static const char hex[] = "0123456789abcdef";
    unsigned char r[16];
    const char *id = header(c, "X-Request-Id"), *trace = header(c, "Traceparent");
    if (id && is_word(id, ID_BYTES - 1)) {
        memcpy(x->request_id, id, strlen(id) + 1);
    } else {
        if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) memset(r, 0, sizeof r);
        for (size_t i = 0; i < sizeof r; i++) {
            x->request_id[2 * i] = hex[r[i] >> 4];
            x->request_id[2 * i + 1] = hex[r[i] & 15];
        }
    }
    if (trace && strlen(trace) == TRACE_BYTES - 1 && is_word(trace, TRACE_BYTES - 1)) memcpy(x->trace, trace, TRACE_BYTES);
}

/* ------------------------------------------------------------ routes */

/* pattern against path; {x} takes one segment. */
static bool path_matches(const char *pattern, const char *path, char param[PARAM_BYTES]) {
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++) return false;
            continue;
        }
        size_t n = 0;
        while (path[n] && path[n] != '/') n++;
        if (n == 0 || n >= PARAM_BYTES) return false;
        memcpy(param, path, n);
        param[n] = '\0';
        if (!is_word(param, PARAM_BYTES - 1)) return false;
        path += n;
        pattern = strchr(pattern, '}') + 1;
    }
    return *path == '\0';
}

static bool method_matches(const char *want, const char *method) {
    return strcmp(want, method) == 0 || (strcmp(want, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The route of a path and a method; *allow: methods that the path has, "" for a path that is none. A path that is written out in
 * a row is never taken for another row's {id}. */
static const route *find_route(const char *path, const char *method, char param[PARAM_BYTES], char *allow, size_t cap) {
    bool is_written_out = false;
    allow[0] = '\0';
    for (const route *r = server_routes; r->path; r++) is_written_out |= strcmp(r->path, path) == 0;
    for (const route *r = server_routes; r->path; r++) {
        char found[PARAM_BYTES] = "";
        if (is_written_out ? strcmp(r->path, path) != 0 : !path_matches(r->path, path, found)) continue;
        if (method_matches(r->method, method)) {
            memcpy(param, found, PARAM_BYTES);
            return r;
        }
        const size_t n = strlen(allow);
        (void)snprintf(allow + n, cap - n, "%s%s%s", n ? ", " : "", r->method, strcmp(r->method, "GET") ? "" : ", HEAD");
    }
    return NULL;
}

/* ------------------------------------------------------------ what is let in */

/* The key of "Bearer KEY"; the server has keys. */
static bool check_key(exchange *x, struct MHD_Connection *c) {
    const char *value = header(c, "Authorization");
    const char *text = value && strncasecmp(value, "Bearer ", 7) == 0 ? value + 7 : "";
    while (*text == ' ') text++;
    (void)pthread_rwlock_rdlock(&x->s->keys_lock);
    const api_key *k = keys_find(&x->s->keys, text, strlen(text));
    if (k) {
        x->role = k->role;
        memcpy(x->key_name, k->name, sizeof x->key_name);
    }
    (void)pthread_rwlock_unlock(&x->s->keys_lock);
    return k != NULL;
}

static void answer_no_route(exchange *x, struct MHD_Connection *c, const char *method, const char *allow) {
    if (!allow[0]) {
        reply_error(x, HTTP_NO_ROUTE, NULL, NULL);
        return;
    }
    const bool is_preflight = strcmp(method, "OPTIONS") == 0 && x->origin[0] && header(c, "Access-Control-Request-Method");
    if (is_preflight)
        reply_static(x, 204, "text/plain", "", 0);
    else
        reply_error(x, HTTP_METHOD, NULL, NULL);
    if (!x->reply) return;
    (void)MHD_add_response_header(x->reply, "Allow", allow);
    if (!is_preflight) return;
    (void)MHD_add_response_header(x->reply, "Access-Control-Allow-Methods", allow);
    (void)MHD_add_response_header(x->reply, "Access-Control-Allow-Headers",
                                  "authorization, content-type, x-request-id, traceparent");
    (void)MHD_add_response_header(x->reply, "Access-Control-Max-Age", "600");
}

static void answer_too_large(exchange *x) {
    reply_error(x, HTTP_TOO_LARGE, NULL, "the body is over the limit of %llu bytes", (unsigned long long)x->s->o.max_body_bytes);
}

/* Length and kind of a body; only POST has one here. */
static bool check_body(exchange *x, struct MHD_Connection *c) {
    const char *length = header(c, "Content-Length"), *type = header(c, "Content-Type"), *coding = header(c, "Content-Encoding");
    char *end;
    const unsigned long long n = length ? strtoull(length, &end, 10) : 0;
    const bool has_body = n > 0 || header(c, "Transfer-Encoding");
    if (coding && strcasecmp(coding, "identity") != 0) {
        reply_error(x, HTTP_MEDIA, NULL, NULL);
        return false;
    }
    if (n > x->s->o.max_body_bytes) {
        /* A client that sends without asking would find its connection reset before it reads an answer: its body is read and
         * dropped first, within bounds. */
        x->is_body_refused = x->is_too_large = true;
        if (n <= DROP_LIMIT && !header(c, "Expect")) return true;
        answer_too_large(x);
        return false;
    }
    if (strcmp(x->route->method, "POST") != 0) return true;
    if (!has_body) {
        reply_error(x, HTTP_NO_BODY, NULL, NULL);
        return false;
    }
    if (!type || strncasecmp(type, "application/json", 16) != 0 || (type[16] && type[16] != ';' && type[16] != ' ')) {
        reply_error(x, HTTP_MEDIA, NULL, NULL);
        return false;
    }
    return true;
}

static void take_origin(exchange *x, const char *origin, const char *host, bool *is_allowed) {
    struct server *s = x->s;
    *is_allowed = origin_is_allowed(&s->rules, origin, host, s->o.tls_cert != NULL);
    if (*is_allowed && strlen(origin) < sizeof x->origin) memcpy(x->origin, origin, strlen(origin) + 1);
}

/* As hides_nul, of a path: without arguments only a blank stands between it and the version. */
static bool path_hides_nul(struct MHD_Connection *c, const char *url, const char *version) {
    const char *end = url + strlen(url);
    return version > end + 2 && version - end < CONNECTION_BYTES &&
           MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, NULL, NULL) == 0;
}

static bool check_names(exchange *x, struct MHD_Connection *c, const char *url, const char *version) {
    const char *host = header(c, "Host"), *origin = header(c, "Origin");
    bool is_allowed = true;
    header_walk w = {0};
    (void)MHD_get_connection_values_n(c, MHD_HEADER_KIND, on_header, &w);
    w.is_bad |= w.end && w.end[1] && w.end[1] != '\r' && w.end[1] != '\n'; /* behind the last value stands an empty line */
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        reply_error(x, HTTP_VERSION, NULL, NULL);
    } else if (w.n > N_HEADERS_MAX) {
        reply_error(x, HTTP_HEADERS, NULL, NULL);
    } else if (w.is_bad || path_hides_nul(c, url, version) || w.n_lengths > 1 || w.n_hosts > 1 || w.n_encodings > 1 ||
               w.n_keys > 1 || (w.n_lengths && w.n_encodings) || (!host && strcmp(version, "HTTP/1.1") == 0)) {
        reply_error(x, HTTP_BAD_REQUEST, NULL, NULL);
    } else if (host && !host_is_allowed(&x->s->rules, host)) {
        reply_error(x, HTTP_HOST, NULL, NULL);
    } else {
        if (origin) take_origin(x, origin, host, &is_allowed);
        if (is_allowed) return true;
        reply_error(x, HTTP_ORIGIN, NULL, NULL);
    }
    return false;
}

/* False: answered. */
static bool admit(exchange *x, struct MHD_Connection *c, const char *url, const char *method, const char *version) {
    char allow[64];
    if (!check_names(x, c, url, version)) return false;
    x->route = find_route(url, method, x->param, allow, sizeof allow);
    if (!x->route) {
        answer_no_route(x, c, method, allow);
        return false;
    }
    x->route_index = (int)(x->route - server_routes);
    x->role = ROLE_ADMIN;
    if (x->route->roles && x->s->keys.n) {
        if (!check_key(x, c)) {
            reply_error(x, HTTP_NO_KEY, NULL, NULL);
            return false;
        }
        if (!(x->route->roles & x->role)) {
            reply_error(x, HTTP_ROLE, NULL, NULL);
            return false;
        }
    }
    if (!x->route->is_probe && atomic_load(&x->s->is_draining)) {
        reply_error(x, HTTP_DRAINING, NULL, NULL);
        if (x->reply) (void)MHD_add_response_header(x->reply, "Connection", "close");
        return false;
    }
    return check_body(x, c);
}

/* ------------------------------------------------------------ bodies */

/* One more piece of the body. False: hang up. */
static bool take_body(exchange *x, const char *p, size_t n) {
    struct server *s = x->s;
    if (x->is_early) return true; /* answered already */
    if (!x->is_body_refused && x->body.n + n > s->o.max_body_bytes) x->is_body_refused = x->is_too_large = true;
    if (!x->is_body_refused) {
        const uint64_t before = atomic_fetch_add(&s->body_budget, n);
        x->budget += n;
        if (before + n > BODY_BUDGET || !bytes_add(&x->body, p, n)) x->is_body_refused = true;
    }
    if (!x->is_body_refused) return true;
    bytes_free(&x->body);
    x->n_refused += n;
    return x->n_refused <= DROP_LIMIT;
}

/* Nesting and number of values, before anything is built: strings are skipped. */
static bool json_is_modest(const char *p, size_t n) {
    size_t depth = 0, values = 0;
    bool is_string = false;
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        if (is_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                is_string = false;
        } else if (c == '"') {
            is_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH || ++values > JSON_VALUES) return false;
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',') {
            if (++values > JSON_VALUES) return false;
        }
    }
    return true;
}

bool exchange_json(exchange *x, json_t **out) {
    json_error_t e;
    *out = NULL;
    if (!json_is_modest(x->body.p ? x->body.p : "", x->body.n)) {
        reply_error(x, HTTP_BAD_JSON, NULL, "the body nests deeper than %d or holds more than %d values", JSON_DEPTH,
                    JSON_VALUES);
        return false;
    }
    json_t *root = json_loadb(x->body.p ? x->body.p : "", x->body.n, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        if (json_error_code(&e) == json_error_out_of_memory)
            reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
        else
            reply_error(x, HTTP_BAD_JSON, NULL, "the body is not JSON in UTF-8: see byte %d", e.position);
        return false;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        reply_error(x, HTTP_BAD_JSON, NULL, NULL);
        return false;
    }
    *out = root;
    return true;
}

/* ------------------------------------------------------------ the daemon's calls */

static exchange *exchange_open(struct server *s, struct MHD_Connection *c) {
    exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    if (pthread_mutex_init(&x->lock, NULL)) {
        free(x);
        return NULL;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    x->conn = info ? info->socket_context : NULL;
    x->s = s;
    x->c = c;
    x->route_index = -1;
    x->start_ns = clock_monotonic_ns();
    x->number = atomic_fetch_add(&s->next_number, 1) + 1;
    atomic_init(&x->refs, 1);
    take_ids(x, c);
    (void)pthread_mutex_lock(&s->lock);
    x->next = s->exchanges;
    if (x->next) x->next->prev = x;
    s->exchanges = x;
    s->n_exchanges++;
    (void)pthread_mutex_unlock(&s->lock);
    return x;
}

static void mark_conn(struct server *s, conn *k, bool is_in_request, bool awaits_body) {
    if (!k) return;
    (void)pthread_mutex_lock(&s->conn_lock);
    k->is_in_request = is_in_request;
    k->first_byte_ns = 0;
    k->body_since_ns = awaits_body ? clock_monotonic_ns() : 0;
    (void)pthread_mutex_unlock(&s->conn_lock);
}

static enum MHD_Result begin(struct server *s, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                             void **con_cls) {
    exchange *x = exchange_open(s, c);
    if (!x) return MHD_NO;
    *con_cls = x;
    if (admit(x, c, url, method, version)) {
        mark_conn(s, x->conn, true, true);
        return MHD_YES;
    }
    mark_conn(s, x->conn, true, false);
    x->is_early = x->is_dispatched = true;
    return exchange_queue(x, c);
}

static void dispatch(exchange *x) {
    (void)pthread_mutex_lock(&x->lock);
    x->is_dispatched = true;
    (void)pthread_mutex_unlock(&x->lock);
    mark_conn(x->s, x->conn, true, false);
    if (!x->is_body_refused)
        x->route->run(x);
    else if (x->is_too_large)
        answer_too_large(x);
    else
        reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
}

/* A handler that waited for a model may be asked to run again even before this returns. */
static void run_handler(exchange *x) {
    for (;;) {
        (void)pthread_mutex_lock(&x->lock);
        const bool is_to_run = !x->is_dispatched && !x->is_gone && !x->is_failed && !x->is_replied;
        (void)pthread_mutex_unlock(&x->lock);
        if (!is_to_run) return;
        dispatch(x);
    }
}

enum MHD_Result http_on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                const char *upload, size_t *upload_n, void **con_cls) {
    struct server *s = cls;
    exchange *x = *con_cls;
    if (!x) return begin(s, c, url, method, version, con_cls);
    if (*upload_n) {
        const bool ok = take_body(x, upload, *upload_n);
        *upload_n = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    run_handler(x);
    (void)pthread_mutex_lock(&x->lock);
    const bool is_lost = x->is_gone && !x->is_replied, is_failed = x->is_failed && !x->is_replied;
    const bool waits = !is_lost && !is_failed && !x->is_replied;
    if (waits && x->is_dispatched && !atomic_load(&s->is_stopping)) {
        x->is_suspended = true;
        MHD_suspend_connection(c);
    }
    (void)pthread_mutex_unlock(&x->lock);
    if (is_failed || (waits && atomic_load(&s->is_stopping))) return MHD_NO;
    if (is_lost) reply_error(x, HTTP_HANGUP, NULL, NULL);
    if (waits) {
        watch_hangup(s, x);
        return MHD_YES;
    }
    if (x->is_stream) watch_hangup(s, x);
    return exchange_queue(x, c);
}

void http_on_completed(void *cls, struct MHD_Connection *c, void **con_cls, enum MHD_RequestTerminationCode toe) {
    struct server *s = cls;
    exchange *x = *con_cls;
    (void)c;
    if (!x) return;
    *con_cls = NULL;
    watch_no_hangup(s, x);
    (void)pthread_mutex_lock(&s->lock);
    if (x->prev)
        x->prev->next = x->next;
    else
        s->exchanges = x->next;
    if (x->next) x->next->prev = x->prev;
    s->n_exchanges--;
    (void)pthread_mutex_unlock(&s->lock);
    exchange_hang_up(x);
    if (toe != MHD_REQUEST_TERMINATED_COMPLETED_OK) metrics_add(&s->metrics, METRIC_DISCONNECTS, 1);
    metrics_request(&s->metrics, x->route_index, x->status);
    log_request(x);
    if (x->conn) {
        (void)pthread_mutex_lock(&s->conn_lock);
        x->conn->is_in_request = false;
        x->conn->idle_since_ns = clock_monotonic_ns();
        x->conn->first_byte_ns = x->conn->body_since_ns = 0;
        x->conn->n_received = UINT64_MAX; /* to be looked at */
        (void)pthread_mutex_unlock(&s->conn_lock);
    }
    exchange_unref(x);
}

void http_on_connection(void *cls, struct MHD_Connection *c, void **socket_context, enum MHD_ConnectionNotificationCode toe) {
    struct server *s = cls;
    if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
        conn *k = calloc(1, sizeof *k);
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_context = k;
        if (!k || !info) return;
        k->fd = info->connect_fd;
        k->idle_since_ns = clock_monotonic_ns();
        (void)pthread_mutex_lock(&s->conn_lock);
        k->next = s->conns;
        if (k->next) k->next->prev = k;
        s->conns = k;
        s->n_conns++;
        (void)pthread_mutex_unlock(&s->conn_lock);
        return;
    }
    conn *k = *socket_context;
    if (!k) return;
    (void)pthread_mutex_lock(&s->conn_lock);
    if (k->prev)
        k->prev->next = k->next;
    else if (s->conns == k)
        s->conns = k->next;
    if (k->next) k->next->prev = k->prev;
    s->n_conns--;
    (void)pthread_mutex_unlock(&s->conn_lock);
    *socket_context = NULL;
    free(k);
}

/* Percent signs stay: no path served here has one, and %00 must not end a path early. */
size_t http_keep_escapes(void *cls, struct MHD_Connection *c, char *s) {
    (void)cls;
    (void)c;
    return strlen(s);
}
