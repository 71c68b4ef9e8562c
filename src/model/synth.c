/* galen_synth: a model file of random weights. It is written beside its final name as PATH.part and renamed when whole, so a
 * file of that name is either what stood there before or complete. Nothing is synced: a benchmark file can be made again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "model/synth.h"

enum { GROUP_BYTES = 1 << 20, ALIGNMENT = 32, PATH_BYTES = 4096 };

typedef struct job {
    const char *path;
    char part[PATH_BYTES]; /* "" until it is ours to remove */
    int fd;
    const synth_shape *shape;
    const synth_mix *mix;
    galen_synth_opts opts;
    synth_tensor *tensors;
    size_t n_tensors;
    uint64_t done, total; /* bytes of tensor data */
    arena arena;
    gguf_writer *writer;
} job;

galen_synth_opts galen_synth_default_opts(void) {
    return (galen_synth_opts){.size = sizeof(galen_synth_opts), .shape = "tiny", .type = "q8_0"};
}

static galen_status sink(void *user, const void *bytes, size_t n, galen_error *err) {
    const job *j = user;
    for (const char *p = bytes; n > 0;) {
        const ssize_t got = write(j->fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return galen_fail(err, GALEN_E_IO, 0, "%s: %s", j->part, strerror(errno));
        p += got;
        n -= (size_t)got;
    }
    return GALEN_OK;
}

static galen_status check_opts(job *j, const galen_synth_opts *opts, galen_error *err) {
    galen_status st;
    j->opts = galen_synth_default_opts();
    if (opts) {
        if (opts->size < sizeof opts->size || opts->size > sizeof *opts) {
            return galen_fail(err, GALEN_E_ARG, 0, "galen_synth_opts.size %zu, expected %zu", opts->size, sizeof *opts);
        }
        memcpy(&j->opts, opts, opts->size);
    }
    if (!j->opts.shape || !j->opts.type) return galen_fail(err, GALEN_E_ARG, 0, "synth: no shape or no type given");
    st = synth_shape_find(j->opts.shape, &j->shape, err);
    return st ? st : synth_mix_find(j->opts.type, &j->mix, err);
}

/* Make PATH.part; a file of that name is somebody's and stays. */
static galen_status open_part(job *j, galen_error *err) {
    struct stat info;
    char part[PATH_BYTES];
    if (stat(j->path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return galen_fail(err, GALEN_E_IO, 0, "%s: not a regular file", j->path);
    }
    const int n = snprintf(part, sizeof part, "%s.part", j->path);
    if (n < 0 || (size_t)n >= sizeof part)
        return galen_fail(err, GALEN_E_ARG, 0, "path of %d bytes, at most %d", n, PATH_BYTES - 1);
    j->fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
    if (j->fd < 0 && errno == EEXIST) {
        return galen_fail(err, GALEN_E_IO, 0, "%s: exists; another run writes it or one was killed: remove it first", part);
    }
    if (j->fd < 0) return galen_fail(err, GALEN_E_IO, 0, "%s: %s", part, strerror(errno));
    memcpy(j->part, part, (size_t)n + 1);
    return GALEN_OK;
}

static galen_status put_header(job *j, galen_error *err) {
    galen_status st = synth_tensors(&j->arena, j->shape, j->mix, &j->tensors, &j->n_tensors, err);
    if (!st) st = gguf_writer_open(&j->writer, 3, ALIGNMENT, sink, j, err);
    if (!st) st = synth_put_metadata(j->writer, j->shape, j->mix, err);
    if (!st) st = synth_put_vocab(j->writer, &j->arena, j->shape->n_vocab, err);
    for (size_t i = 0; i < j->n_tensors && !st; i++) {
        const synth_tensor *t = &j->tensors[i];
        const uint64_t ne[2] = {(uint64_t)t->n_in, (uint64_t)t->n_out};
        st = gguf_put_tensor(j->writer, t->name, t->type, t->kind == SYNTH_MATRIX ? 2 : 1, ne, err);
        j->total += (uint64_t)tensor_row_bytes(t->type, t->n_in) * (uint64_t)t->n_out;
    }
    return st ? st : gguf_write_header(j->writer, err);
}

/* Ask for the space now: a full disk is better known before the minutes than after. */
static galen_status reserve(const job *j, galen_error *err) {
    const uint64_t padding = (uint64_t)j->n_tensors * ALIGNMENT;
    const off_t at = lseek(j->fd, 0, SEEK_CUR);
    if (at < 0 || fallocate(j->fd, FALLOC_FL_KEEP_SIZE, at, (off_t)(j->total + padding)) == 0) return GALEN_OK;
    if (errno != ENOSPC && errno != EFBIG && errno != EDQUOT) return GALEN_OK; /* not every file system can */
    return galen_fail(err, GALEN_E_IO, 0, "%s: %llu bytes: %s", j->part, (unsigned long long)j->total, strerror(errno));
}

static galen_status write_tensor(job *j, size_t index, void *group, galen_error *err) {
    const synth_tensor *t = &j->tensors[index];
    const size_t row_bytes = tensor_row_bytes(t->type, t->n_in);
    const int64_t n_rows = row_bytes < GROUP_BYTES ? (int64_t)(GROUP_BYTES / row_bytes) : 1;
    for (int64_t row = 0; row < t->n_out;) {
        const int64_t n = t->n_out - row < n_rows ? t->n_out - row : n_rows;
        synth_rows(j->shape, t, j->opts.seed, index, row, n, group);
        const galen_status st = gguf_write_data(j->writer, group, (size_t)n * row_bytes, err);
        if (st) return st;
        row += n;
        j->done += (uint64_t)n * row_bytes;
        if (j->opts.progress && !j->opts.progress(j->opts.progress_user, j->done, j->total)) {
            return galen_fail(err, GALEN_E_CANCELLED, 0, "%s: cancelled", j->path);
        }
    }
    return GALEN_OK;
}

static galen_status write_all(job *j, galen_error *err) {
    void *group = arena_alloc(&j->arena, GROUP_BYTES, 1); /* the longest row, 57,344 bytes, fits */
    if (!group) return galen_fail(err, GALEN_E_NOMEM, 0, "synth: %d bytes", GROUP_BYTES);
    galen_status st = put_header(j, err);
    if (!st) st = reserve(j, err);
    for (size_t i = 0; i < j->n_tensors && !st; i++) st = write_tensor(j, i, group, err);
    return st ? st : gguf_write_end(j->writer, err);
}

galen_status galen_synth(const char *path, const galen_synth_opts *opts, galen_error *err) {
    job j = {.path = path, .fd = -1};
    galen_status st;
    if (!path || !*path) return galen_fail(err, GALEN_E_ARG, 0, "synth: no path given");
    st = check_opts(&j, opts, err);
    if (!st) st = open_part(&j, err);
    if (!st) st = write_all(&j, err);
    if (j.fd >= 0 && close(j.fd) != 0 && !st) st = galen_fail(err, GALEN_E_IO, 0, "%s: %s", j.part, strerror(errno));
    if (!st && rename(j.part, path) != 0) st = galen_fail(err, GALEN_E_IO, 0, "%s: %s", path, strerror(errno));
    if (st && j.part[0]) (void)unlink(j.part);
    gguf_writer_close(j.writer);
    arena_free(&j.arena);
    return st;
}
