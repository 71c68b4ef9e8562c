/* Fingerprints of model files: a file of gigabytes is hashed once and known again by path, size, time and inode. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store_impl.h"

typedef struct identity {
    char *path; /* absolute, without links; malloc'ed */
    int64_t size, time_ns, inode, device;
} identity;

static bool identify(const char *path, identity *out) {
    struct stat f;
    *out = (identity){.path = realpath(path, NULL)};
    if (!out->path || stat(out->path, &f) != 0) return false;
    out->size = f.st_size;
    out->time_ns = (int64_t)f.st_mtim.tv_sec * 1000000000 + f.st_mtim.tv_nsec;
    out->inode = (int64_t)f.st_ino;
    out->device = (int64_t)f.st_dev;
    return true;
}

static bool is_same(const identity *a, const identity *b) {
    return a->size == b->size && a->time_ns == b->time_ns && a->inode == b->inode && a->device == b->device;
}

static bool recall(store *s, const identity *id, char out[SHA256_HEX_BYTES]) {
    db_rows r;
    bool has = false;
    galen_status st =
        db_query(&r, s, NULL, "SELECT size, time_ns, inode, device, sha256 FROM models WHERE path = ?", "t", id->path);
    if (!st) st = db_next(&r, &has, NULL);
    if (!st && has) {
        const identity seen = {.size = db_i64(&r, 0), .time_ns = db_i64(&r, 1), .inode = db_i64(&r, 2), .device = db_i64(&r, 3)};
        const char *hex = db_text(&r, 4, NULL);
        has = is_same(&seen, id) && strlen(hex) == SHA256_HEX_BYTES - 1;
        if (has) memcpy(out, hex, SHA256_HEX_BYTES);
    }
    db_end(&r);
    return !st && has;
}

galen_status store_model_hash(store *s, const char *path, galen_progress_fn progress, void *user, char out[SHA256_HEX_BYTES],
                              galen_error *err) {
    identity before, after = {0};
    uint8_t hash[SHA256_BYTES];
    const bool is_known = identify(path, &before);
    if (is_known && s && recall(s, &before, out)) {
        free(before.path);
        return GALEN_OK;
    }
    const galen_status st = sha256_file(path, progress, user, hash, err);
    if (!st) {
        sha256_hex(hash, out);
        /* A file that changed meanwhile is not remembered. What the database says to this is its own affair: the hash is right.
         */
        if (is_known && s && !s->is_read_only && identify(path, &after) && is_same(&before, &after))
            (void)db_run(s, NULL,
                         "INSERT OR REPLACE INTO models (path, size, time_ns, inode, device, sha256, seen_ms)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)",
                         "tiiiiti", before.path, before.size, before.time_ns, before.inode, before.device, out, store_now(s));
    }
    free(before.path);
    free(after.path);
    return st;
}

bool store_model_hash_known(store *s, const char *path, char out[SHA256_HEX_BYTES]) {
    identity now;
    const bool is_known = identify(path, &now) && recall(s, &now, out);
    free(now.path);
    return is_known;
}

galen_status store_model_path(store *s, const char *hex, char *out, size_t cap, galen_error *err) {
    db_rows r;
    bool has = true, is_found = false;
    galen_status st = db_query(
        &r, s, err, "SELECT path, size, time_ns, inode, device FROM models WHERE sha256 = ? ORDER BY seen_ms DESC", "t", hex);
    while (!st && !is_found) {
        identity now;
        st = db_next(&r, &has, err);
        if (st || !has) break;
        const char *path = db_text(&r, 0, NULL);
        const identity seen = {.size = db_i64(&r, 1), .time_ns = db_i64(&r, 2), .inode = db_i64(&r, 3), .device = db_i64(&r, 4)};
        is_found = identify(path, &now) && is_same(&seen, &now);
        free(now.path);
        if (!is_found) continue;
        const int n = snprintf(out, cap, "%s", path);
        if (n < 0 || (size_t)n >= cap) st = galen_fail(err, GALEN_E_RANGE, 0, "the model's path has %d bytes", n);
    }
    db_end(&r);
    if (!st && !is_found) st = galen_fail(err, GALEN_E_NOT_FOUND, 0, "no model file with SHA-256 %.16s... is known", hex);
    return st;
}
