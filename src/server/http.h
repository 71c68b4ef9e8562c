/* One request and its answer. An exchange is made when the headers of a request are there and lives until the daemon is done
 * with it and every job working for it has let go. Answers may come from any thread; when one is not there at once the
 * connection is suspended, and woken by whoever brings it. */
#ifndef GALEN_SERVER_HTTP_H
#define GALEN_SERVER_HTTP_H

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "server/bytes.h"
#include "server/keys.h"
#include "server/server.h"

/* Everything that may be answered instead of a result: HTTP status, OpenAI's type, code, and the words where none fit better. */
#define HTTP_ERROR_TABLE(X)                                                                                                      \
    X(BAD_REQUEST, 400, "invalid_request_error", "bad_request", "the request is malformed")                                      \
    X(BAD_JSON, 400, "invalid_request_error", "invalid_json", "the body is not one JSON object")                                 \
    X(BAD_VALUE, 400, "invalid_request_error", "invalid_value", "a field has a wrong value")                                     \
    X(UNKNOWN_FIELD, 400, "invalid_request_error", "unknown_parameter", "a field is not known here")                             \
    X(UNSUPPORTED, 400, "invalid_request_error", "unsupported_parameter", "not supported")                                       \
    X(TOO_LONG, 400, "invalid_request_error", "context_length_exceeded", "the prompt is longer than the context")                \
    X(TOO_LITTLE, 400, "invalid_request_error", "too_little_information", "the text says too little")                            \
    X(NO_KEY, 401, "authentication_error", "invalid_api_key", "a key is needed: Authorization: Bearer KEY")                      \
    X(ROLE, 403, "permission_error", "role_not_allowed", "this key's role may not do this")                                      \
    X(HOST, 403, "permission_error", "host_not_allowed", "this Host is not served here; --allow-host allows a name")             \
    X(ORIGIN, 403, "permission_error", "origin_not_allowed", "this Origin may not call; --allow-origin allows one")              \
    X(NO_ROUTE, 404, "invalid_request_error", "not_found", "nothing is served at this path")                                     \
    X(NO_MODEL, 404, "invalid_request_error", "model_not_found", "no model of this name; GET /v1/models lists them")             \
    X(NO_CASE, 404, "invalid_request_error", "case_not_found", "there is no such case")                                          \
    X(METHOD, 405, "invalid_request_error", "method_not_allowed", "this path has no such method")                                \
    X(TIMEOUT, 408, "timeout_error", "timeout", "the body did not come in time")                                                 \
    X(CONFLICT, 409, "invalid_request_error", "case_busy", "this case is being worked on, or is closed")                         \
    X(NO_BODY, 400, "invalid_request_error", "no_body", "a body is needed: one JSON object")                                     \
    X(TOO_LARGE, 413, "invalid_request_error", "body_too_large", "the body is over the limit")                                   \
    X(MEDIA, 415, "invalid_request_error", "unsupported_media_type", "Content-Type: application/json, not compressed")           \
    X(BUSY, 429, "rate_limit_error", "queue_full", "the queue is full; try again")                                               \
    X(HEADERS, 431, "invalid_request_error", "too_many_headers", "more than 100 headers")                                        \
    X(HANGUP, 499, "invalid_request_error", "client_closed_request", "the client closed its side before the answer was there")   \
    X(FAILED, 500, "server_error", "internal_error", "the server failed; its log says more")                                     \
    X(NUMERIC, 500, "server_error", "numeric_error", "the model gave a value that is not a number")                              \
    X(LOADING, 503, "unavailable_error", "model_loading", "the model is being loaded; try again")                                \
    X(DEVICE, 503, "unavailable_error", "device_failed", "the device failed; the model is being loaded again")                   \
    X(NO_MEMORY, 503, "unavailable_error", "out_of_memory", "out of memory; try again")                                          \
    X(DRAINING, 503, "unavailable_error", "draining", "the server is going down; try another")                                   \
    X(VERSION, 505, "invalid_request_error", "http_version", "HTTP/1.0 and HTTP/1.1 are served")                                 \
    X(STORE, 507, "server_error", "store_failed", "the case could not be kept; nothing was changed")

typedef enum http_error {
#define X(name, status, type, code, text) HTTP_##name,
    HTTP_ERROR_TABLE(X)
#undef X
} http_error;

typedef struct exchange exchange;
typedef struct route {
    const char *method; /* "GET" answers HEAD too                                                   */
    const char *path;   /* "/v1/cases/{id}": {id} is one segment of letters, digits, - and _ and .  */
    void (*run)(exchange *x);
    unsigned roles; /* 0: open to all                                    */
    bool is_probe;  /* answered while draining or loading, never logged  */
} route;
/* server.c; ended by a row whose path is NULL. */
extern const route server_routes[];
#define N_ROUTES_MAX 64

#define PARAM_BYTES   65
#define ID_BYTES      65
#define TRACE_BYTES   56
#define STREAM_LIMIT  (1u << 20) /* bytes a reader may lag behind before it is dropped */
#define N_HEADERS_MAX 100

/* A connection, kept from its first byte to its end. */
typedef struct conn {
    struct conn *prev, *next;
    int fd;
    bool is_in_request;
    uint64_t idle_since_ns, body_since_ns; /* body_since_ns 0: no body is awaited                          */
    uint64_t n_received;                   /* bytes TCP had received when the last request ended          */
    uint64_t first_byte_ns;                /* of a request whose headers are not whole; 0: none was seen  */
} conn;

struct exchange {
    exchange *prev, *next; /* guarded by the server's lock */
    server *s;
    conn *conn;
    const route *route;
    int route_index;
    char param[PARAM_BYTES];   /* {id} */
    char request_id[ID_BYTES]; /* the client's x-request-id when it is a plain word, else ours */
    char trace[TRACE_BYTES];   /* traceparent when well-formed */
    char origin[128];          /* to be named in the answer; "" none */
    unsigned role;
    char key_name[KEY_NAME_BYTES];
    uint64_t start_ns, number;
    bytes body;
    uint64_t budget;                    /* bytes of the server's budget of bodies that are ours */
    bool is_body_refused, is_too_large; /* over a limit: the rest is read and dropped */
    uint64_t n_refused;

    pthread_mutex_t lock; /* guards what follows */
    struct MHD_Connection *c;
    struct MHD_Response *reply;
    int status;
    bool is_early, is_dispatched, is_suspended, is_gone, is_replied;
    bool is_stream, is_ended, is_failed; /* failed: cut the stream short */
    bytes out;
    size_t out_at;
    uint64_t last_read_ns, last_event_ns, n_out;
    void (*on_gone)(void *job); /* called once, without the lock, when the client left */
    void *job;
    void (*free_job)(void *job); /* when nobody works for it any more */

    atomic_int refs;
    /* for the log and the figures; guarded by lock */
    const char *model; /* lives with the server */
    int32_t n_prompt, n_cached, n_generated, retry_s;
};

/* ------------------------------------------------------------ answers: any thread, each exchange once */
/** Takes root over; NULL (out of memory) becomes 503. */
void reply_json(exchange *x, int status, json_t *root);
/** Bytes that live as long as the program. */
void reply_static(exchange *x, int status, const char *type, const char *p, size_t n);
/** Takes b over. */
void reply_bytes(exchange *x, int status, const char *type, bytes *b);
/** param: the field at fault or NULL. fmt: NULL for the table's words; never words of a request. */
void reply_error(exchange *x, http_error e, const char *param, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/** The engine's status as an answer. */
void reply_status(exchange *x, const galen_error *err);
http_error http_error_of(galen_status st);
json_t *http_error_json(http_error e, const char *param, const char *message);
int http_error_status(http_error e);
const char *http_error_code(http_error e);

/* ------------------------------------------------------------ streams of server-sent events: any thread */
/** From a handler: the answer is a stream, 200 goes out at once. */
void stream_begin(exchange *x);
/** name NULL: a data line alone. Takes root over. False: the client is gone or does not read; nothing more need be sent. */
bool stream_event(exchange *x, const char *name, json_t *root);
bool stream_raw(exchange *x, const char *p, size_t n);
void stream_end(exchange *x);
/** The error as the last event. */
void stream_fail(exchange *x, const char *name, json_t *root);

/* ------------------------------------------------------------ jobs */
void exchange_ref(exchange *x);
void exchange_unref(exchange *x);
/** on_gone(job) when the client leaves before the answer is whole; free_job(job) with the exchange. */
void exchange_set_job(exchange *x, void *job, void (*on_gone)(void *job), void (*free_job)(void *job));
bool exchange_is_gone(exchange *x);
/** What the log says of the answer. */
void exchange_count(exchange *x, int32_t n_prompt, int32_t n_cached, int32_t n_generated);
/** Run the route's handler again on the daemon's thread: what it waited for is there. */
void exchange_retry(exchange *x);

/* ------------------------------------------------------------ inside */
void exchange_hang_up(exchange *x); /* the client left: cancel, wake */
enum MHD_Result exchange_queue(exchange *x, struct MHD_Connection *c);
/** The body as one JSON object (kept in *out, a new reference). False: answered. */
bool exchange_json(exchange *x, json_t **out);
enum MHD_Result http_on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                const char *upload, size_t *upload_n, void **con_cls);
void http_on_completed(void *cls, struct MHD_Connection *c, void **con_cls, enum MHD_RequestTerminationCode toe);
void http_on_connection(void *cls, struct MHD_Connection *c, void **socket_context, enum MHD_ConnectionNotificationCode toe);
size_t http_keep_escapes(void *cls, struct MHD_Connection *c, char *s);

#endif
