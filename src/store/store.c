/* Opening and closing: where the database lies, who may read it, how SQLite is told to keep it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/store_impl.h"

enum { DEFAULT_BUSY_MS = 5000, PATH_BYTES = 4096, RETRY_MS = 10, HEADER_BYTES = 512 };

static int64_t system_now_ms(void *user) {
    struct timespec t;
    (void)user;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t store_now(const store *s) {
    return s->now_ms(s->now_user);
}

const char *store_path(const store *s) {
    return s->path;
}

galen_status store_default_path(char *out, size_t cap, galen_error *err) {
    const char *named = getenv("GALEN_DB"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n;
    if (named && *named)
        n = snprintf(out, cap, "%s", named);
    else if (xdg && xdg[0] == '/') /* by the standard a relative one is ignored */
        n = snprintf(out, cap, "%s/galen/galen.db", xdg);
    else if (home && *home)
        n = snprintf(out, cap, "%s/.local/share/galen/galen.db", home);
    else
        return galen_fail(err, GALEN_E_NOT_FOUND, 0, "no place for the database: set HOME, XDG_DATA_HOME or GALEN_DB");
    if (n < 0 || (size_t)n >= cap)
        return galen_fail(err, GALEN_E_RANGE, 0, "the database's path is longer than %zu bytes", cap - 1);
    return GALEN_OK;
}

bool store_is_read_only(const store *s) {
    return s->is_read_only;
}

/* Folders on the way that are missing, for this user alone. Those that are there are left as they are. path is as before in the
 * end. */
static galen_status make_folders(char *path, galen_error *err) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const bool is_there = mkdir(path, 0700) == 0 || errno == EEXIST;
        const galen_status st =
            is_there ? GALEN_OK : galen_fail(err, GALEN_E_IO, 0, "%s: the folder cannot be made: %s", path, strerror(errno));
        *slash = '/';
        if (st) return st;
    }
    return GALEN_OK;
}

/* The file, 0600. It is never opened and closed here when it exists: closing drops the locks of a connection in this process. */
static galen_status make_file(char *path, bool is_read_only, galen_error *err) {
    struct stat f;
    if (stat(path, &f) != 0 && errno == ENOENT) {
        if (is_read_only) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "%s: no database there", path);
        galen_status st = make_folders(path, err);
        if (st) return st;
        const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) return galen_fail(err, GALEN_E_IO, 0, "%s: cannot be made: %s", path, strerror(errno));
        if (fd >= 0) (void)close(fd);
    }
    if (stat(path, &f) != 0) return galen_fail(err, GALEN_E_IO, 0, "%s: %s", path, strerror(errno));
    if (!S_ISREG(f.st_mode)) return galen_fail(err, GALEN_E_IO, 0, "%s: not a regular file", path);
    /* SQLite takes a few bytes for an empty database, and would write a new one over what may have been a whole one. */
    if (f.st_size > 0 && f.st_size < HEADER_BYTES)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: not a database: %lld bytes, expected at least %d", path,
                          (long long)f.st_size, HEADER_BYTES);
    /* A copy or an older umask may have opened it to others; the files SQLite puts beside it take its permissions. */
    if (!is_read_only && (f.st_mode & 077) && f.st_uid == geteuid() && chmod(path, 0600) != 0)
        return galen_fail(err, GALEN_E_IO, 0, "%s: others may read it, and that cannot be changed: %s", path, strerror(errno));
    return GALEN_OK;
}

/* Several processes that first turn on the log at once are told "busy" without a wait. */
static galen_status use_log(store *s, galen_error *err) {
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
    for (int waited = 0;; waited += RETRY_MS) {
        const int rc = sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (rc == SQLITE_OK) return GALEN_OK;
        if ((rc & 0xFF) != SQLITE_BUSY || waited >= s->busy_ms) return db_fail(s, "opening", err);
        (void)nanosleep(&pause, NULL);
    }
}

/* secure_delete: freed pages are zeroed. temp_store: no text in temporary files. trusted_schema, DEFENSIVE, cell_size_check: the
 * file may be hostile. */
static const char pragmas[] = "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;"
                              "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                              "PRAGMA recursive_triggers = ON";

static galen_status configure(store *s, galen_error *err) {
    if (sqlite3_busy_timeout(s->db, s->busy_ms) != SQLITE_OK ||
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, pragmas, NULL, NULL, NULL) != SQLITE_OK)
        return db_fail(s, "opening", err);
    (void)sqlite3_extended_result_codes(s->db, 1);
    (void)sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, (int)STORE_CASE_MAX);
    galen_status st = s->is_read_only ? GALEN_OK : use_log(s, err);
    if (!st) st = store_migrate(s, err);
    if (!st && !s->is_read_only) st = store_tidy(s, err);
    return st;
}

static galen_status connect_db(store *s, galen_error *err) {
    char name[PATH_BYTES + 2];
    /* "file:..." is a file's name here, not a URI with options. */
    (void)snprintf(name, sizeof name, "%s%s", s->path[0] == '/' ? "" : "./", s->path);
    const int flags = (s->is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX;
    const int rc = sqlite3_open_v2(name, &s->db, flags, NULL);
    if (!s->db) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", s->path);
    if (rc != SQLITE_OK) return db_fail(s, "opening", err);
    if (!s->is_read_only && sqlite3_db_readonly(s->db, "main") == 1) /* SQLite's own fall-back */
        return galen_fail(err, GALEN_E_IO, 0, "%s: read-only: this user may not write to it", s->path);
    return configure(s, err);
}

galen_status store_open(store **out, const store_opts *opts, galen_error *err) {
    char path[PATH_BYTES];
    galen_status st = GALEN_OK;
    *out = NULL;
    if (!opts || !opts->path)
        st = store_default_path(path, sizeof path, err);
    else if (!opts->path[0] || strlen(opts->path) >= sizeof path)
        st = galen_fail(err, GALEN_E_RANGE, 0, "the database's path has %zu bytes, expected 1 to %zu", strlen(opts->path),
                        sizeof path - 1);
    else
        (void)snprintf(path, sizeof path, "%s", opts->path);
    if (st) return st;
    store *s = calloc(1, sizeof *s);
    if (s) s->path = strdup(path);
    if (!s || !s->path) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", path);
        goto fail;
    }
    s->is_read_only = opts && opts->is_read_only;
    s->busy_ms = opts && opts->busy_ms ? opts->busy_ms : DEFAULT_BUSY_MS;
    s->now_ms = opts && opts->now_ms ? opts->now_ms : system_now_ms;
    s->now_user = opts ? opts->now_user : NULL;
    st = make_file(path, s->is_read_only, err);
    if (!st) st = connect_db(s, err);
    if (st) goto fail;
    *out = s;
    return GALEN_OK;
fail:
    store_close(s);
    return st;
}

void store_close(store *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_statements; i++) (void)sqlite3_finalize(s->statements[i].st);
    (void)sqlite3_close(s->db); /* NULL is fine */
    explicit_bzero(s->key, sizeof s->key);
    free(s->path);
    free(s);
}

/* "ok" is the only good answer of both; other answers name pages and rows, no content. */
static galen_status expect_clean(store *s, const char *sql, const char *what, galen_error *err) {
    db_rows r;
    bool has = false;
    galen_status st = db_query(&r, s, err, sql, "");
    if (!st) st = db_next(&r, &has, err);
    if (!st && has && strcmp(db_text(&r, 0, NULL), "ok") != 0)
        st = galen_fail(err, GALEN_E_FORMAT, 0, "%s: %s: %.200s", s->path, what, db_text(&r, 0, NULL));
    db_end(&r);
    return st;
}

galen_status store_check(store *s, galen_error *err) {
    galen_status st = expect_clean(s, "PRAGMA integrity_check(1)", "the database is damaged", err);
    if (!st) st = expect_clean(s, "PRAGMA foreign_key_check", "a turn without its case", err);
    if (!st && !s->is_read_only) st = db_run(s, err, "INSERT INTO words(words) VALUES ('integrity-check')", "");
    return st;
}
