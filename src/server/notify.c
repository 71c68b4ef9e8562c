/* systemd's readiness and watchdog, without its library: a datagram of "READY=1" to the socket that NOTIFY_SOCKET names; the
 * watchdog wants one of "WATCHDOG=1" within WATCHDOG_USEC. Source: sd_notify(3), sd_watchdog_enabled(3). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/inside.h"

void notify_open(server *s) {
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    s->notify_fd = -1;
    if (!path || !path[0] || strlen(path) >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@')) return;
    memcpy(a.sun_path, path, strlen(path));
    const socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] == '/'));
    if (path[0] == '@') a.sun_path[0] = '\0';
    s->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s->notify_fd >= 0 && connect(s->notify_fd, (const struct sockaddr *)&a, n)) notify_close(s);
    if (usec && (!pid || strtol(pid, NULL, 10) == (long)getpid())) s->watchdog_ns = strtoull(usec, NULL, 10) * 1000;
}

void notify_send(server *s, const char *state) {
    if (s->notify_fd < 0) return;
    while (send(s->notify_fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR) {
    }
}

void notify_close(server *s) {
    if (s->notify_fd >= 0) (void)close(s->notify_fd);
    s->notify_fd = -1;
}
