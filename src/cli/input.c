/* Reading text whole: from a file, from standard input, byte for byte. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define INPUT_MAX ((size_t)1 << 30) /* a text of 1 GiB is a mistake */

double clock_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Room for one more read and the final NUL. */
static bool grow(text_buf *b, size_t *cap) {
    if (b->n + 1 < *cap) return true;
    const size_t bigger = *cap ? *cap * 2 : 1 << 16;
    char *p = realloc(b->bytes, bigger);
    if (!p) return false;
    b->bytes = p;
    *cap = bigger;
    return true;
}

static cli_exit read_all(cli *c, int fd, const char *name, text_buf *out) {
    size_t cap = 0;
    for (;;) {
        if (!grow(out, &cap)) {
            term_error(c, "%s: out of memory at %zu bytes", name, out->n);
            return CLI_MEMORY;
        }
        if (!signals_wait_readable(fd)) return signals_exit();
        const ssize_t k = read(fd, out->bytes + out->n, cap - out->n - 1);
        if (k < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (k < 0) {
            term_error(c, "%s: %s", name, strerror(errno));
            return CLI_FAILED;
        }
        if (k == 0) break;
        out->n += (size_t)k;
        if (out->n > INPUT_MAX) {
            term_error(c, "%s: longer than %zu bytes", name, INPUT_MAX);
            return CLI_USAGE;
        }
    }
    out->bytes[out->n] = '\0';
    return CLI_DONE;
}

cli_exit input_read(cli *c, const char *path, text_buf *out) {
    const bool is_stdin = !path || strcmp(path, "-") == 0;
    char name[256];
    int fd = STDIN_FILENO;
    *out = (text_buf){0};
    term_safe(is_stdin ? "standard input" : path, name, sizeof name);
    if (!is_stdin) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        const int why = errno;
        if (fd < 0) {
            term_error(c, "%s: %s", name, strerror(why));
            return why == ENOENT || why == ENOTDIR ? CLI_USAGE : CLI_FAILED;
        }
    }
    const cli_exit st = read_all(c, fd, name, out);
    if (!is_stdin) (void)close(fd);
    if (st) {
        free(out->bytes);
        *out = (text_buf){0};
    }
    return st;
}

cli_exit input_query(cli *c, const char *argument, const char *what, text_buf *out) {
    *out = (text_buf){0};
    if (argument && c->args.file) {
        term_error(c, "%s: %s both as an argument and by --file; give one", c->verb->name, what);
        return CLI_USAGE;
    }
    if (argument) {
        out->bytes = strdup(argument);
        if (out->bytes)
            out->n = strlen(argument);
        else
            term_error(c, "out of memory");
        return out->bytes ? CLI_DONE : CLI_MEMORY;
    }
    if (!c->args.file && isatty(STDIN_FILENO)) {
        term_error(c, "%s: no %s; give it as an argument, by --file, or through a pipe (galen help %s)", c->verb->name, what,
                   c->verb->name);
        return CLI_USAGE;
    }
    return input_read(c, c->args.file, out);
}
