/* The build's tools: where they are and which version they tell. Each is run once with --version, for half a second at most. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/doctor.h"

enum { PATIENCE_MS = 500 };
extern char **environ;

static bool is_program(const char *root, const char *dir, size_t n_dir, const char *name, char *out, size_t cap) {
    const int n = snprintf(out, cap, "%s%.*s/%s", root, (int)n_dir, dir, name);
    return n > 0 && (size_t)n < cap && access(out, X_OK) == 0;
}

/* On PATH, else in one of the folders where installers put it (a ':' list, below root). */
static bool find_tool(const char *name, const char *root, const char *elsewhere, doctor_tool *out) {
    const char *const lists[] = {getenv("PATH"), elsewhere};
    for (int k = 0; k < 2; k++) {
        for (const char *p = lists[k]; p && *p; p += strcspn(p, ":"), p += *p == ':') {
            if (!is_program(k ? root : "", p, strcspn(p, ":"), name, out->path, sizeof out->path)) continue;
            out->is_on_path = k == 0;
            return true;
        }
    }
    out->path[0] = '\0';
    return false;
}

/* What `path --version` writes, its beginning. */
static void run_version(const char *path, char *out, size_t cap) {
    int ends[2];
    pid_t pid;
    char word[256];
    size_t got = 0;
    out[0] = '\0';
    if (pipe2(ends, O_CLOEXEC)) return;
    (void)snprintf(word, sizeof word, "%s", path);
    char *const argv[] = {word, (char[]){"--version"}, NULL};
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    const int failed = posix_spawn(&pid, path, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    while (!failed && got < cap - 1 && poll(&p, 1, PATIENCE_MS) > 0) {
        const ssize_t n = read(ends[0], out + got, cap - 1 - got);
        if (n <= 0) break;
        got += (size_t)n;
    }
    out[got] = '\0';
    (void)close(ends[0]);
    if (failed) return;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* The first word with a digit and a dot in it: "12.2.0", "V13.0.48", "4.3". */
static void find_version(const char *text, char *out, size_t cap) {
    out[0] = '\0';
    while (*text) {
        const size_t n = strcspn(text, " \t\n,()");
        const size_t digits = strcspn(text, "0123456789");
        if (n && digits <= 1 && memchr(text, '.', n)) {
            (void)snprintf(out, cap, "%.*s", (int)(n - digits), text + digits);
            return;
        }
        text += n + (text[n] != '\0');
    }
}

void doctor_find_tool(const char *name, const char *root, const char *elsewhere, doctor_tool *out) {
    char text[1024];
    *out = (doctor_tool){0};
    if (!find_tool(name, root, elsewhere, out)) return;
    run_version(out->path, text, sizeof text);
    find_version(text, out->version, sizeof out->version);
}
