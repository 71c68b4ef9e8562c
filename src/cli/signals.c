/* Signals: the first Ctrl-C or SIGTERM asks for an orderly end, the second one takes it. SIGPIPE ends quietly, as for any
 * filter. SIGBUS means that the model's file lost pages that are mapped: nothing can be saved, only said. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t stop_signal;
/* A pipe that becomes readable with the signal: it may be a thread of the engine's that the handler runs in, and then no call of
 * the main thread is interrupted. -1 when there is none. */
static int wake[2] = {-1, -1};
static void (*volatile stop_fn)(void *user); /* set while no signal can find it half-set: user first, then fn */
static void *volatile stop_user;
static char guarded[512]; /* the file's name, for a handler that may not allocate */

static void on_stop(int signo) {
    const int before = errno;
    if (stop_signal) _exit(128 + signo);
    stop_signal = signo;
    if (wake[1] >= 0) (void)!write(wake[1], "", 1);
    if (stop_fn) stop_fn(stop_user);
    errno = before;
}

void signals_on_stop(void (*fn)(void *user), void *user) {
    stop_fn = NULL;
    stop_user = user;
    stop_fn = fn;
}

static void put(const char *s) {
    size_t n = strlen(s);
    while (n) {
        const ssize_t k = write(STDERR_FILENO, s, n);
        if (k <= 0) return;
        s += k;
        n -= (size_t)k;
    }
}

static void on_bus(int signo) {
    if (!guarded[0]) { /* not ours to explain */
        (void)signal(signo, SIG_DFL);
        (void)raise(signo);
        return;
    }
    put("\ngalen: ");
    put(guarded);
    put(": the model file was cut or its disk failed while it was in use\n");
    _exit(CLI_MODEL);
}

void signals_init(void) {
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK)) wake[0] = wake[1] = -1; /* then a Ctrl-C may have to be typed twice */
    struct sigaction stop = {0}, bus = {0}, pipe_end = {0};
    stop.sa_handler = on_stop; /* no SA_RESTART: a read of the keyboard returns */
    bus.sa_handler = on_bus;
    pipe_end.sa_handler = SIG_DFL; /* a parent may have left it ignored */
    (void)sigemptyset(&stop.sa_mask);
    (void)sigemptyset(&bus.sa_mask);
    (void)sigemptyset(&pipe_end.sa_mask);
    (void)sigaction(SIGINT, &stop, NULL);
    (void)sigaction(SIGTERM, &stop, NULL);
    (void)sigaction(SIGBUS, &bus, NULL);
    (void)sigaction(SIGPIPE, &pipe_end, NULL);
}

bool signals_wait_readable(int fd) {
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = wake[0], .events = POLLIN}};
    while (!stop_signal && poll(p, 2, -1) < 0 && errno == EINTR) {
    }
    return !stop_signal;
}

int signals_stop(void) {
    return stop_signal;
}

void signals_clear(void) {
    char b;
    if (stop_signal != SIGINT) return;
    while (read(wake[0], &b, 1) > 0) {
    }
    stop_signal = 0;
}

cli_exit signals_exit(void) {
    return stop_signal == SIGTERM ? CLI_SIGTERM : CLI_SIGINT;
}

void signals_guard_file(const char *path) {
    guarded[0] = '\0';
    if (path) (void)term_safe(path, guarded, sizeof guarded);
}
