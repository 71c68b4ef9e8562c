/* An entry is a text file PID of "key value" lines, replaced whole by rename, so that a reader sees old or new, never half. */
#include "system/running.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { DIR_BYTES = 256, PATH_BYTES = 320, TEXT_BYTES = 2048 };
#define QUIET_NS 250000000u

struct running {
    pthread_mutex_t lock;
    char path[PATH_BYTES], fresh[PATH_BYTES + 8];
    running_info info;
    uint64_t written_ns;
};

/* ---------------------------------------------------------------- the text */

/* Every field once: writing and reading walk the same rows. */
#define TEXT_ROWS(X) X(verb) X(model) X(placement)
#define INT_ROWS(X)                                                                                                              \
    X(weight_bytes)                                                                                                              \
    X(gpu_percent) X(gpu_layers) X(n_layers) X(ctx_used) X(ctx_size) X(n_running) X(n_waiting) X(started_s) X(updated_s)

static size_t to_text(const running_info *i, char *out, size_t cap) {
    size_t n = 0;
#define X(f) n += n < cap ? (size_t)snprintf(out + n, cap - n, #f " %s\n", i->f) : 0;
    TEXT_ROWS(X)
#undef X
#define X(f) n += n < cap ? (size_t)snprintf(out + n, cap - n, #f " %" PRId64 "\n", (int64_t)i->f) : 0;
    INT_ROWS(X)
#undef X
    n += n < cap ? (size_t)snprintf(out + n, cap - n, "tokens_per_s %.3f\n", i->tokens_per_s) : 0;
    return n < cap ? n : 0;
}

static void set_text(char *to, size_t cap, const char *value, size_t n) {
    if (n >= cap) n = cap - 1;
    for (size_t k = 0; k < n; k++) to[k] = (unsigned char)value[k] < 0x20 ? '?' : value[k];
    to[n] = '\0';
}

static bool is_key(const char *line, size_t n_key, const char *key) {
    return strlen(key) == n_key && memcmp(line, key, n_key) == 0;
}

static void read_line(const char *line, size_t n, running_info *out) {
    const char *space = memchr(line, ' ', n);
    if (!space) return;
    const size_t n_key = (size_t)(space - line);
    const char *value = space + 1;
    const size_t n_value = n - n_key - 1;
    char number[64];
    set_text(number, sizeof number, value, n_value);
#define X(f)                                                                                                                     \
    if (is_key(line, n_key, #f)) set_text(out->f, sizeof out->f, value, n_value);
    TEXT_ROWS(X)
#undef X
#define X(f)                                                                                                                     \
    if (is_key(line, n_key, #f)) out->f = (__typeof__(out->f))strtoll(number, NULL, 10);
    INT_ROWS(X)
#undef X
    if (is_key(line, n_key, "tokens_per_s")) out->tokens_per_s = strtod(number, NULL);
}

static void from_text(const char *text, running_info *out) {
    while (*text) {
        const size_t n = strcspn(text, "\n");
        read_line(text, n, out);
        text += n + (text[n] == '\n');
    }
}

/* ---------------------------------------------------------------- the folder */

static galen_status find_dir(const char *dir, char out[DIR_BYTES], galen_error *err) {
    const char *base = getenv("XDG_RUNTIME_DIR");
    int n;
    if (dir)
        n = snprintf(out, DIR_BYTES, "%s", dir);
    else if (base && *base == '/')
        n = snprintf(out, DIR_BYTES, "%s/galen", base);
    else
        n = snprintf(out, DIR_BYTES, "/tmp/galen-%u", (unsigned)getuid());
    if (n < 0 || n >= DIR_BYTES) return galen_fail(err, GALEN_E_IO, 0, "the run-time folder's name is too long");
    return GALEN_OK;
}

/* Ours alone: a folder that another user put there is refused. */
static galen_status make_dir(const char *dir, galen_error *err) {
    struct stat st;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return galen_fail(err, GALEN_E_IO, 0, "%.200s: %s", dir, strerror(errno));
    if (lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid())
        return galen_fail(err, GALEN_E_IO, 0, "%.200s: not a folder of this user", dir);
    return GALEN_OK;
}

static galen_status write_entry(running *r, galen_error *err) {
    char text[TEXT_BYTES];
    const size_t n = to_text(&r->info, text, sizeof text);
    const int fd = open(r->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return galen_fail(err, GALEN_E_IO, 0, "%.200s: %s", r->fresh, strerror(errno));
    const bool is_whole = write(fd, text, n) == (ssize_t)n;
    if (close(fd) != 0 || !is_whole || rename(r->fresh, r->path) != 0) {
        (void)unlink(r->fresh);
        return galen_fail(err, GALEN_E_IO, 0, "%.200s: %s", r->path, strerror(errno));
    }
    r->written_ns = clock_monotonic_ns();
    return GALEN_OK;
}

/* Take the figures over; a name holds no line break, which would begin a field of its own. */
static void take(running *r, const running_info *info) {
    r->info = *info;
#define X(f) set_text(r->info.f, sizeof r->info.f, info->f, strlen(info->f));
    TEXT_ROWS(X)
#undef X
    r->info.pid = (int32_t)getpid();
    r->info.updated_s = (int64_t)time(NULL);
}

galen_status running_open(running **out, const char *dir, const running_info *info, galen_error *err) {
    char folder[DIR_BYTES];
    *out = NULL;
    galen_status st = find_dir(dir, folder, err);
    if (!st) st = make_dir(folder, err);
    if (st) return st;
    running *r = calloc(1, sizeof *r);
    if (!r) return galen_fail(err, GALEN_E_NOMEM, 0, "entry of running engines");
    (void)pthread_mutex_init(&r->lock, NULL);
    take(r, info);
    r->info.started_s = r->info.updated_s;
    (void)snprintf(r->path, sizeof r->path, "%s/%d", folder, r->info.pid);
    (void)snprintf(r->fresh, sizeof r->fresh, "%s/.%d", folder, r->info.pid);
    if ((st = write_entry(r, err))) {
        running_close(r);
        return st;
    }
    *out = r;
    return GALEN_OK;
}

void running_update(running *r, const running_info *info, bool is_now) {
    if (!r || pthread_mutex_trylock(&r->lock) != 0) return; /* another thread is writing */
    const int64_t started = r->info.started_s;
    take(r, info);
    r->info.started_s = started;
    if (is_now || clock_monotonic_ns() - r->written_ns > QUIET_NS) (void)write_entry(r, NULL);
    (void)pthread_mutex_unlock(&r->lock);
}

void running_close(running *r) {
    if (!r) return;
    (void)unlink(r->path);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---------------------------------------------------------------- listing */

static bool read_entry(const char *dir, const char *name, running_info *out) {
    char path[PATH_BYTES], text[TEXT_BYTES];
    char *end;
    const long pid = strtol(name, &end, 10);
    if (*end || pid <= 0 || pid > INT32_MAX) return false;
    (void)snprintf(path, sizeof path, "%s/%ld", dir, pid);
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
        (void)unlink(path);
        return false;
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    const ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    *out = (running_info){0};
    from_text(text, out);
    out->pid = (int32_t)pid;
    return true;
}

static int by_start(const void *pa, const void *pb) {
    const running_info *a = pa, *b = pb;
    if (a->started_s != b->started_s) return a->started_s < b->started_s ? -1 : 1;
    return (a->pid > b->pid) - (a->pid < b->pid);
}

size_t running_list(const char *dir, running_info *out, size_t cap) {
    char folder[DIR_BYTES];
    size_t n = 0;
    if (find_dir(dir, folder, NULL)) return 0;
    DIR *d = opendir(folder);
    if (!d) return 0;
    for (const struct dirent *e; n < cap && (e = readdir(d));) n += read_entry(folder, e->d_name, &out[n]);
    (void)closedir(d);
    if (n) qsort(out, n, sizeof *out, by_start);
    return n;
}
