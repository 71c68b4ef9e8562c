/* The watcher: a thread that looks after what no request does by itself. Clients that hang up while their answer is being made
 * (a suspended connection is not watched by the daemon), headers and bodies that do not come, readers that do not read, streams
 * that are silent, models that are idle, systemd's watchdog. */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/cases.h"
#include "server/inside.h"
#include "server/shelf.h"

#define SECOND         1000000000ull
#define HEADER_TIMEOUT (10 * SECOND) /* from the first byte of a request to the end of its headers */
#define BODY_TIMEOUT   (30 * SECOND)
#define READ_TIMEOUT   (30 * SECOND) /* a stream with something to read and nobody who does */
#define TICK_MS        250

static const char ping[] = ": keep-alive\n\n";

/* 0 for what was noted after now was read: the watcher may be held up in between, by another's lock or the driver's library. */
static uint64_t since(uint64_t now, uint64_t then) {
    return now > then ? now - then : 0;
}

/* ------------------------------------------------------------ hang-ups */

void watch_hangup(server *s, exchange *x) {
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = x->number};
    if (x->conn && epoll_ctl(s->hangups, EPOLL_CTL_ADD, x->conn->fd, &e) && errno == EEXIST)
        (void)epoll_ctl(s->hangups, EPOLL_CTL_MOD, x->conn->fd, &e);
}

void watch_no_hangup(server *s, exchange *x) {
    struct epoll_event e = {0};
    if (x->conn) (void)epoll_ctl(s->hangups, EPOLL_CTL_DEL, x->conn->fd, &e); /* perhaps never added */
}

static exchange *find(server *s, uint64_t number) {
    (void)pthread_mutex_lock(&s->lock);
    exchange *x = s->exchanges;
    while (x && x->number != number) x = x->next;
    if (x) exchange_ref(x);
    (void)pthread_mutex_unlock(&s->lock);
    return x;
}

/* The end of what the client sends. A stream's client may have closed one side only: a comment is sent, which a closed socket
 * answers with a reset. Other clients are taken to be gone. */
static void on_hangup(server *s, const struct epoll_event *e) {
    exchange *x = find(s, e->data.u64);
    if (!x) return;
    (void)pthread_mutex_lock(&x->lock);
    const bool is_stream = x->is_stream;
    (void)pthread_mutex_unlock(&x->lock);
    if (is_stream && !(e->events & (EPOLLHUP | EPOLLERR))) {
        (void)stream_raw(x, ping, sizeof ping - 1);
        (void)pthread_mutex_lock(&s->lock); /* the connection is open as long as x is in the list */
        exchange *still = s->exchanges;
        while (still && still != x) still = still->next;
        struct epoll_event again = {.events = EPOLLONESHOT, .data.u64 = x->number};
        if (still && x->conn) (void)epoll_ctl(s->hangups, EPOLL_CTL_MOD, x->conn->fd, &again);
        (void)pthread_mutex_unlock(&s->lock);
    } else {
        exchange_hang_up(x);
    }
    exchange_unref(x);
}

/* ------------------------------------------------------------ streams */

/* With the server's lock, so the connection is there. */
static void look_at_stream(server *s, exchange *x, uint64_t now) {
    (void)pthread_mutex_lock(&x->lock);
    const bool is_pending = x->out.n > x->out_at || x->is_failed;
    const bool is_stuck = x->is_stream && !x->is_suspended && is_pending &&
                          (since(now, x->last_read_ns) > READ_TIMEOUT || (x->is_failed && since(now, x->last_read_ns) > SECOND));
    const bool is_silent = x->is_stream && !x->is_ended && !x->is_gone && !is_pending && s->o.ping_s > 0 &&
                           since(now, x->last_event_ns) > (uint64_t)s->o.ping_s * SECOND;
    (void)pthread_mutex_unlock(&x->lock);
    if (is_silent) (void)stream_raw(x, ping, sizeof ping - 1);
    if (!is_stuck || !x->conn) return;
    metrics_add(&s->metrics, METRIC_SLOW_READERS, 1);
    (void)shutdown(x->conn->fd, SHUT_RDWR);
}

static void look_at_streams(server *s, uint64_t now) {
    (void)pthread_mutex_lock(&s->lock);
    for (exchange *x = s->exchanges; x; x = x->next) look_at_stream(s, x, now);
    (void)pthread_mutex_unlock(&s->lock);
}

/* ------------------------------------------------------------ connections */

static bool is_late(conn *k, uint64_t now) {
    struct tcp_info info;
    socklen_t n = sizeof info;
    if (k->is_in_request) return k->body_since_ns && since(now, k->body_since_ns) > BODY_TIMEOUT;
    if (getsockopt(k->fd, IPPROTO_TCP, TCP_INFO, &info, &n)) return false;
    if (k->n_received == UINT64_MAX) k->n_received = info.tcpi_bytes_received;
    if (info.tcpi_bytes_received <= k->n_received) return false; /* idle: the daemon's own timeout ends it */
    if (!k->first_byte_ns) k->first_byte_ns = now;
    return since(now, k->first_byte_ns) > HEADER_TIMEOUT;
}

static void look_at_connections(server *s, uint64_t now) {
    (void)pthread_mutex_lock(&s->conn_lock);
    for (conn *k = s->conns; k; k = k->next) {
        if (!is_late(k, now)) continue;
        (void)shutdown(k->fd, SHUT_RDWR);
        metrics_add(&s->metrics, METRIC_TIMEOUTS, 1);
    }
    (void)pthread_mutex_unlock(&s->conn_lock);
}

/* ------------------------------------------------------------ the thread */

static void *watch(void *arg) {
    server *s = arg;
    struct epoll_event events[64];
    uint64_t last = 0, last_conns = 0, last_fed = 0;
    while (!atomic_load(&s->is_stopping)) {
        const int n = epoll_wait(s->hangups, events, 64, TICK_MS);
        for (int i = 0; i < n; i++) on_hangup(s, &events[i]);
        const uint64_t now = clock_monotonic_ns();
        if (now - last >= TICK_MS * 1000000ull) {
            last = now;
            look_at_streams(s, now);
            shelf_tick(s->shelf, now);
            cases_tick(s->cases, now);
            look_tick(s, now);
        }
        if (now - last_conns >= 2 * SECOND) {
            last_conns = now;
            look_at_connections(s, now);
            entry_tick(s);
        }
        if (s->watchdog_ns && now - last_fed >= s->watchdog_ns / 4 && shelf_is_alive(s->shelf)) {
            last_fed = now;
            notify_send(s, "WATCHDOG=1");
        }
    }
    return NULL;
}

galen_status watch_start(server *s, galen_error *err) {
    s->hangups = epoll_create1(EPOLL_CLOEXEC);
    if (s->hangups < 0) return galen_fail(err, GALEN_E_IO, 0, "epoll: no descriptor is free");
    if (pthread_create(&s->watcher, NULL, watch, s)) return galen_fail(err, GALEN_E_NOMEM, 0, "a thread cannot be started");
    s->has_watcher = true;
    return GALEN_OK;
}

void watch_stop(server *s) {
    if (s->has_watcher) (void)pthread_join(s->watcher, NULL);
    s->has_watcher = false;
    if (s->hangups >= 0) (void)close(s->hangups);
    s->hangups = -1;
}
