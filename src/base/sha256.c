/* Nettle has the arithmetic; here are files and text forms. */
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/memops.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20 };

void sha256_start(sha256 *s) {
    sha256_init(&s->ctx);
}

void sha256_add(sha256 *s, const void *bytes, size_t n) {
    if (n) sha256_update(&s->ctx, n, bytes);
}

void sha256_end(sha256 *s, uint8_t out[SHA256_BYTES]) {
    sha256_digest(&s->ctx, SHA256_BYTES, out);
}

void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_BYTES]) {
    sha256 s;
    sha256_start(&s);
    sha256_add(&s, bytes, n);
    sha256_end(&s, out);
}

void sha256_hex(const uint8_t hash[SHA256_BYTES], char out[SHA256_HEX_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[SHA256_HEX_BYTES - 1] = '\0';
}

static galen_status hash_descriptor(int fd, const char *path, uint64_t size, galen_progress_fn progress, void *user,
                                    uint8_t out[SHA256_BYTES], galen_error *err) {
    galen_status st = GALEN_OK;
    uint64_t done = 0;
    sha256 s;
    uint8_t *block = malloc(BLOCK_BYTES);
    if (!block) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %d bytes to read it", path, BLOCK_BYTES);
    sha256_start(&s);
    for (;;) {
        const ssize_t k = read(fd, block, BLOCK_BYTES);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            st = galen_fail(err, GALEN_E_IO, done, "%s: %s", path, strerror(errno));
            break;
        }
        if (k == 0) break;
        sha256_add(&s, block, (size_t)k);
        done += (uint64_t)k;
        if (progress && !progress(user, done, size)) {
            st = galen_fail(err, GALEN_E_CANCELLED, done, "%s: cancelled", path);
            break;
        }
    }
    free(block);
    if (!st && done != size)
        st = galen_fail(err, GALEN_E_IO, done, "%s: %llu bytes were read, %llu expected: the file is changing", path,
                        (unsigned long long)done, (unsigned long long)size);
    if (!st) sha256_end(&s, out);
    return st;
}

galen_status sha256_file(const char *path, galen_progress_fn progress, void *user, uint8_t out[SHA256_BYTES], galen_error *err) {
    struct stat s;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a FIFO must not make us wait */
    if (fd < 0) {
        const int why = errno;
        return galen_fail(err, why == ENOENT || why == ENOTDIR ? GALEN_E_NOT_FOUND : GALEN_E_IO, 0, "%s: %s", path,
                          strerror(why));
    }
    galen_status st = GALEN_OK;
    if (fstat(fd, &s) != 0)
        st = galen_fail(err, GALEN_E_IO, 0, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode))
        st = galen_fail(err, GALEN_E_IO, 0, "%s: not a regular file", path);
    else
        st = hash_descriptor(fd, path, (uint64_t)s.st_size, progress, user, out, err);
    (void)close(fd);
    return st;
}

void hmac256_start(hmac256 *h, const void *key, size_t n_key) {
    hmac_sha256_set_key(&h->ctx, n_key, key);
}

void hmac256_add(hmac256 *h, const void *bytes, size_t n) {
    if (n) hmac_sha256_update(&h->ctx, n, bytes);
}

void hmac256_end(hmac256 *h, uint8_t out[SHA256_BYTES]) {
    hmac_sha256_digest(&h->ctx, SHA256_BYTES, out);
}

bool bytes_equal_constant_time(const void *a, const void *b, size_t n) {
    return memeql_sec(a, b, n) == 1;
}
