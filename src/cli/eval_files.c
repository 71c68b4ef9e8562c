#include "cli/eval_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "assist/json_line.h"

typedef struct source {
    int fd;
    int why; /* errno of a read that failed */
} source;

static long read_some(void *user, char *buf, size_t cap) {
    source *s = user;
    for (;;) {
        if (!signals_wait_readable(s->fd)) return -1;
        const ssize_t k = read(s->fd, buf, cap);
        if (k >= 0) return (long)k;
        if (errno == EINTR || errno == EAGAIN) continue;
        s->why = errno;
        return -1;
    }
}

static cli_exit open_source(cli *c, const char *path, source *s) {
    char safe[256];
    *s = (source){.fd = STDIN_FILENO};
    if (strcmp(path, "-") == 0) return CLI_DONE;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (s->fd >= 0) return CLI_DONE;
    const int why = errno;
    term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), strerror(why));
    return why == ENOENT || why == ENOTDIR ? CLI_USAGE : CLI_FAILED;
}

/* After a reader's failure: the signal, the system's word, or the reader's. */
static cli_exit source_fail(cli *c, const char *path, const source *s, const galen_error *err) {
    char safe[256];
    if (signals_stop()) return signals_exit();
    term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), s->why ? strerror(s->why) : err->msg);
    return err->code == GALEN_E_NOMEM ? CLI_MEMORY : err->code == GALEN_E_IO ? CLI_FAILED : CLI_USAGE;
}

static void close_source(source *s) {
    if (s->fd != STDIN_FILENO) (void)close(s->fd);
}

/* Those of one file, the rest counted: the list keeps the first of all files. */
static void tell_problems(cli *c, const eval_list *l, const char *path, int64_t before) {
    char safe[256];
    const int64_t n = l->n_broken + l->n_twice;
    term_safe(path, safe, sizeof safe);
    for (int64_t i = before; i < n && i < EVAL_MAX_PROBLEMS; i++)
        term_error(c, "%s:%lld: %s; the line is left out", safe, (long long)l->problems[i].line, l->problems[i].why);
    if (n > EVAL_MAX_PROBLEMS && n > before)
        term_error(c, "%s: %lld lines are left out; the first %d are named", safe, (long long)(n - before), EVAL_MAX_PROBLEMS);
}

cli_exit eval_read_cases(cli *c, eval_list *l, int32_t number, const char *path) {
    source s;
    galen_error err = {0};
    char safe[256];
    const int64_t before = l->n_broken + l->n_twice, had = l->n + l->n_skipped;
    cli_exit st = open_source(c, path, &s);
    if (st) return st;
    const galen_status got = eval_list_add(l, number, read_some, &s, &err);
    close_source(&s);
    tell_problems(c, l, path, before);
    if (got) return source_fail(c, path, &s, &err);
    if (!l->is_limited && l->n + l->n_skipped == had) term_error(c, "%s: no case in it", term_safe(path, safe, sizeof safe));
    return CLI_DONE;
}

cli_exit eval_read_results(cli *c, const char *path, eval_results *out) {
    source s;
    galen_error err = {0};
    char safe[256];
    *out = (eval_results){.n = 0};
    const cli_exit st = open_source(c, path, &s);
    if (st) return st;
    const galen_status got = results_read(out, read_some, &s, &err);
    close_source(&s);
    if (got) return source_fail(c, path, &s, &err);
    term_safe(path, safe, sizeof safe);
    if (out->is_cut) term_error(c, "%s: the last line is not whole; it is left out", safe);
    if (out->has_head && out->n) return CLI_DONE;
    term_error(c, "%s: no result in it", safe);
    results_free(out);
    return CLI_USAGE;
}

/* ------------------------------------------------------------ --out */

/* Where the last whole line ends; -1: reading failed. */
static off_t end_of_lines(int fd, off_t size) {
    char block[4096];
    for (off_t end = size; end > 0;) {
        const off_t from = end > (off_t)sizeof block ? end - (off_t)sizeof block : 0;
        const ssize_t k = pread(fd, block, (size_t)(end - from), from);
        if (k <= 0) return -1;
        const char *nl = memrchr(block, '\n', (size_t)k);
        if (nl) return from + (nl - block) + 1;
        end = from;
    }
    return 0;
}

/* A results file whose writer was killed: what was not written whole goes, a line that lacks its break alone gets it. */
static bool mend_tail(int fd, bool is_cut) {
    struct stat s;
    if (fstat(fd, &s)) return false;
    const off_t end = end_of_lines(fd, s.st_size);
    if (end < 0 || end == s.st_size) return end >= 0;
    return is_cut ? ftruncate(fd, end) == 0 : write(fd, "\n", 1) == 1;
}

cli_exit eval_append(cli *c, int fd, const char *path, json_t *j) {
    char safe[256];
    size_t n = 0;
    char *line = json_line_write(j, &n);
    json_decref(j);
    if (!line) {
        term_error(c, "out of memory");
        return CLI_MEMORY;
    }
    line[n] = '\n'; /* in place of the NUL: one write, so that a kill leaves whole lines */
    const ssize_t k = write(fd, line, n + 1);
    const int why = k < 0 ? errno : ENOSPC; /* in part: the next run cuts it off */
    free(line);
    if (k == (ssize_t)n + 1) return CLI_DONE;
    term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), strerror(why));
    return CLI_FAILED;
}

static cli_exit take_earlier(cli *c, const char *path, const eval_head *head, source *s, eval_results *earlier) {
    galen_error err = {0};
    char safe[256];
    const galen_status got = results_read(earlier, read_some, s, &err);
    if (got) return source_fail(c, path, s, &err);
    const char *differs = earlier->has_head ? head_differs(&earlier->head, head) : NULL;
    if (!differs) return CLI_DONE;
    term_error(c, "%s: it has results of another run: its %s differs; name another file with --out",
               term_safe(path, safe, sizeof safe), differs);
    return CLI_USAGE;
}

/* NULL, or why the open file cannot be written on. */
static const char *why_unfit(int fd) {
    struct stat s;
    if (fstat(fd, &s)) return strerror(errno);
    if (!S_ISREG(s.st_mode)) return "it is no regular file";
    return flock(fd, LOCK_EX | LOCK_NB) ? "another run is writing it" : NULL;
}

cli_exit eval_open_out(cli *c, const char *path, const eval_head *head, int *fd, eval_results *earlier) {
    char safe[256];
    source s = {.fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600)};
    const char *why = s.fd < 0 ? strerror(errno) : why_unfit(s.fd);
    *fd = s.fd;
    if (why) {
        term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), why);
        return CLI_FAILED;
    }
    const cli_exit st = take_earlier(c, path, head, &s, earlier);
    if (st) return st;
    if (!mend_tail(s.fd, earlier->is_cut)) {
        term_error(c, "%s: %s", term_safe(path, safe, sizeof safe), strerror(errno));
        return CLI_FAILED;
    }
    return earlier->has_head ? CLI_DONE : eval_append(c, s.fd, path, head_json(head));
}
