#include "cli/work.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

typedef struct work {
    cli_exit (*fn)(void *user);
    void *user;
    cli_exit st;
    int done[2]; /* readable, being closed, when fn has returned */
} work;

static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;

void work_publish(void) {
    (void)pthread_mutex_lock(&shared);
}

void work_published(void) {
    (void)pthread_mutex_unlock(&shared);
}

static void *run(void *user) {
    work *w = user;
    w->st = w->fn(w->user);
    (void)close(w->done[1]);
    return NULL;
}

bool work_run(cli_exit (*fn)(void *user), void *user, cli_exit *st) {
    static work w; /* outlives the call where it is abandoned */
    pthread_t thread;
    w = (work){.fn = fn, .user = user};
    if (pipe2(w.done, O_CLOEXEC)) {
        *st = fn(user);
        return true;
    }
    if (pthread_create(&thread, NULL, run, &w)) { /* then Ctrl-C waits */
        (void)close(w.done[0]);
        (void)close(w.done[1]);
        *st = fn(user);
        return true;
    }
    struct pollfd p = {.fd = w.done[0], .events = POLLIN};
    if (!signals_wait_readable(w.done[0]) && poll(&p, 1, WORK_GRACE_MS) <= 0) {
        work_publish(); /* for good */
        *st = signals_exit();
        return false;
    }
    (void)pthread_join(thread, NULL);
    (void)close(w.done[0]);
    *st = w.st;
    return true;
}

void work_leave(cli *c, cli_exit st) {
    c->term.is_progress_open = c->term.is_err_tty && !c->term.is_quiet; /* as the work may have left it */
    st = term_finish(c, st);
    _exit(st);
}
