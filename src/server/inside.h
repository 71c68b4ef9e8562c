/* What the files of the server share of it. */
#ifndef GALEN_SERVER_INSIDE_H
#define GALEN_SERVER_INSIDE_H

#include "server/hosts.h"
#include "server/http.h"
#include "server/metrics.h"

typedef struct shelf shelf;
typedef struct cases cases;
typedef struct look look;

/* Of a connection: headers of a request and the daemon's notes; 431 beyond. Pages that are not touched cost nothing. */
#define CONNECTION_BYTES (12 << 10)

struct server {
    server_opts o;
    struct MHD_Daemon *daemon;
    int listen_fd;
    char url[96], device[256];
    host_rules rules;
    pthread_rwlock_t keys_lock;
    keys keys;
    char *tls_cert, *tls_key;

    pthread_mutex_t lock; /* guards the list of exchanges */
    exchange *exchanges;
    size_t n_exchanges;
    pthread_mutex_t conn_lock; /* guards the list of connections */
    conn *conns;
    size_t n_conns;

    atomic_bool is_draining, is_stopping;
    atomic_uint_fast64_t body_budget; /* bytes of bodies held by all requests */
    atomic_uint_fast64_t next_number;
    pthread_t watcher;
    bool has_watcher;
    int hangups; /* epoll: who hung up */
    int notify_fd;
    uint64_t watchdog_ns;
    time_t started;
    metrics metrics;
    shelf *shelf;
    cases *cases;
    struct entry *entry; /* the watcher's */
    look *look;
    struct perf_log *perf;
};

/* watch.c */
galen_status watch_start(server *s, galen_error *err);
void watch_stop(server *s);
void watch_hangup(server *s, exchange *x); /* tell when x's client hangs up */
void watch_no_hangup(server *s, exchange *x);
/* entry.c */
void entry_tick(server *s);
void entry_close(server *s);
/* look.c: once a second, from the watcher */
galen_status look_open(server *s, galen_error *err);
void look_tick(server *s, uint64_t now);
json_t *look_gpu(server *s); /* {"memory_used", "memory_total", "busy_percent", "temp_c"}, or null; any thread */
void look_close(server *s);
/* log.c */
void log_request(exchange *x);
void log_event(server *s, const char *level, const char *event, const char *key, const char *value);
/* notify.c: systemd's sd_notify protocol: one datagram of text to the socket named in NOTIFY_SOCKET. */
void notify_open(server *s);
void notify_send(server *s, const char *state);
void notify_close(server *s);

#endif
