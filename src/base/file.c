/* Mapping a file. O_NONBLOCK keeps open() from hanging on a FIFO before it is seen to be one. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

galen_status file_map_open(file_map *out, const char *path, galen_error *err) {
    struct stat st;
    galen_status result;
    *out = (file_map){.fd = -1};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        result = errno == ENOENT || errno == ENOTDIR ? GALEN_E_NOT_FOUND : GALEN_E_IO;
        result = galen_fail(err, result, 0, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (fstat(fd, &st) != 0) {
        result = galen_fail(err, GALEN_E_IO, 0, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        result = galen_fail(err, GALEN_E_IO, 0, "%s: not a regular file", path);
        goto fail;
    }
    out->n = (size_t)st.st_size;
    if (out->n) {
        void *p = mmap(NULL, out->n, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            result = errno == ENOMEM ? GALEN_E_NOMEM : GALEN_E_IO;
            result = galen_fail(err, result, 0, "%s: cannot map %zu bytes: %s", path, out->n, strerror(errno));
            goto fail;
        }
        out->bytes = p;
    }
    out->fd = fd;
    return GALEN_OK;
fail:
    if (fd >= 0) (void)close(fd);
    *out = (file_map){.fd = -1};
    return result;
}

void file_map_close(file_map *f) {
    if (f->bytes) {
        (void)munmap((void *)(uintptr_t)f->bytes, f->n);
        (void)close(f->fd);
    } else if (f->fd > 0) {
        (void)close(f->fd);
    }
    *f = (file_map){.fd = -1};
}

bool file_map_read(const file_map *f, size_t at, void *to, size_t n) {
    for (char *p = to; n > 0;) {
        const ssize_t k = pread(f->fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        at += (size_t)k;
        n -= (size_t)k;
    }
    return true;
}

galen_status file_map_check(const file_map *f, const char *path, galen_error *err) {
    struct stat st;
    if (!f->bytes) return GALEN_OK;
    if (fstat(f->fd, &st) != 0) return galen_fail(err, GALEN_E_IO, 0, "%s: %s", path, strerror(errno));
    if ((uint64_t)st.st_size < f->n)
        return galen_fail(err, GALEN_E_IO, (uint64_t)st.st_size, "%s: cut from %zu to %lld bytes while in use", path, f->n,
                          (long long)st.st_size);
    return GALEN_OK;
}
