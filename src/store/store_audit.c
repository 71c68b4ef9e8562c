/* The audit trail: rows that say who did what when, without any text, chained by HMACs.
 *
 *   hash[0]  = HMAC(key, "galen audit 1")
 *   hash[i]  = HMAC(key, hash[i-1], fields of row i)       a field: its SQLite type, 8 bytes of length, bytes
 *   seal     = HMAC(key, "galen audit head", n, hash[n])   so that rows cannot be cut off at the end
 * Without the key none of these can be made; with it any row can be forged: it guards against accidents and against
 * whoever has the database but not its folder. A whole older database with its own head is valid too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_impl.h"

enum { KEY_PATH_BYTES = 4096 + 16, ACTION_MAX = 32, N_FIELDS = 9 };

/* ---------------------------------------------------------------- the key */

/* Every byte is on the disk before the name is: a crash leaves no short key. */
static galen_status make_key(const char *path, galen_error *err) {
    char part[KEY_PATH_BYTES + 32];
    uint8_t key[SHA256_BYTES];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return galen_fail(err, GALEN_E_FAIL, 0, "no random bytes: %s", strerror(errno));
    (void)snprintf(part, sizeof part, "%s.%ld", path, (long)getpid());
    (void)unlink(part);
    const int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return galen_fail(err, GALEN_E_IO, 0, "%s: cannot be made: %s", part, strerror(errno));
    bool ok = write(fd, key, sizeof key) == (ssize_t)sizeof key && fsync(fd) == 0;
    ok &= close(fd) == 0;
    /* link, not rename: another process's key is never replaced. */
    if (ok && link(part, path) != 0) ok = errno == EEXIST;
    const int why = errno;
    (void)unlink(part);
    explicit_bzero(key, sizeof key);
    return ok ? GALEN_OK : galen_fail(err, GALEN_E_IO, 0, "%s: cannot be written: %s", path, strerror(why));
}

galen_status audit_load_key(store *s, bool may_create, galen_error *err) {
    char path[KEY_PATH_BYTES];
    struct stat f;
    if (s->has_key) return GALEN_OK;
    (void)snprintf(path, sizeof path, "%s.key", s->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && may_create) {
        const galen_status st = make_key(path, err);
        if (st) return st;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    }
    if (fd < 0)
        return galen_fail(err, GALEN_E_FORMAT, 0,
                          "%s: the audit trail's key: %s; restore it from the backup that holds the database", path,
                          strerror(errno));
    const bool is_whole = fstat(fd, &f) == 0 && S_ISREG(f.st_mode) && f.st_size == SHA256_BYTES &&
                          read(fd, s->key, sizeof s->key) == (ssize_t)sizeof s->key;
    (void)close(fd);
    if (!is_whole)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: the audit trail's key is not a file of %d bytes", path, SHA256_BYTES);
    s->has_key = true;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- the chain */

typedef struct chain {
    int64_t n;
    uint8_t hash[SHA256_BYTES];
} chain;

static void add_number(hmac256 *h, uint64_t v) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(v >> (8 * i));
    hmac256_add(h, bytes, sizeof bytes);
}

static void chain_start(const store *s, chain *c) {
    hmac256 h;
    hmac256_start(&h, s->key, sizeof s->key);
    hmac256_add(&h, "galen audit 1", 13);
    c->n = 0;
    hmac256_end(&h, c->hash);
}

static void chain_seal(const store *s, const chain *c, uint8_t seal[SHA256_BYTES]) {
    hmac256 h;
    hmac256_start(&h, s->key, sizeof s->key);
    hmac256_add(&h, "galen audit head", 16);
    add_number(&h, (uint64_t)c->n);
    hmac256_add(&h, c->hash, sizeof c->hash);
    hmac256_end(&h, seal);
}

/* A value as SQLite holds it. */
typedef struct field {
    int type; /* SQLITE_INTEGER, SQLITE_TEXT ... */
    int64_t number;
    const void *bytes;
    size_t n;
} field;

static field number_field(int64_t v) {
    return (field){.type = SQLITE_INTEGER, .number = v};
}

static field text_field(const char *text) {
    return text ? (field){.type = SQLITE_TEXT, .bytes = text, .n = strlen(text)} : (field){.type = SQLITE_NULL};
}

static field hash_field(const void *hash) {
    return hash ? (field){.type = SQLITE_BLOB, .bytes = hash, .n = SHA256_BYTES} : (field){.type = SQLITE_NULL};
}

static void read_fields(const db_rows *r, field fields[N_FIELDS]) {
    for (int i = 0; i < N_FIELDS; i++) {
        fields[i] = (field){.type = sqlite3_column_type(r->st, i)};
        if (fields[i].type == SQLITE_INTEGER) {
            fields[i].number = db_i64(r, i);
            continue;
        }
        fields[i].bytes = sqlite3_column_blob(r->st, i); /* of a text: its bytes */
        if (fields[i].bytes) fields[i].n = (size_t)sqlite3_column_bytes(r->st, i);
    }
}

static void chain_add(const store *s, chain *c, const field fields[N_FIELDS]) {
    hmac256 h;
    hmac256_start(&h, s->key, sizeof s->key);
    hmac256_add(&h, c->hash, sizeof c->hash);
    for (int i = 0; i < N_FIELDS; i++) {
        const uint8_t type = (uint8_t)fields[i].type;
        hmac256_add(&h, &type, 1);
        add_number(&h, type == SQLITE_INTEGER ? (uint64_t)fields[i].number : fields[i].n);
        hmac256_add(&h, fields[i].bytes, fields[i].n);
    }
    c->n++;
    hmac256_end(&h, c->hash);
}

static bool is_bytes(const db_rows *r, int column, const uint8_t want[SHA256_BYTES]) {
    const void *bytes = sqlite3_column_blob(r->st, column);
    return bytes && sqlite3_column_type(r->st, column) == SQLITE_BLOB && sqlite3_column_bytes(r->st, column) == SHA256_BYTES &&
           bytes_equal_constant_time(bytes, want, SHA256_BYTES);
}

static galen_status broken(const store *s, int64_t row, const char *what, galen_error *err) {
    return galen_fail(err, GALEN_E_FORMAT, (uint64_t)row, "%s: audit trail: row %lld %s", s->path, (long long)row, what);
}

/* The head, believed only with its seal. */
static galen_status read_head(store *s, chain *c, galen_error *err) {
    db_rows r;
    bool has = false;
    uint8_t seal[SHA256_BYTES];
    galen_status st = db_query(&r, s, err, "SELECT n_rows, hash, seal FROM audit_head WHERE id = 1", "");
    if (!st) st = db_next(&r, &has, err);
    if (!st && !has) st = galen_fail(err, GALEN_E_FORMAT, 0, "%s: audit trail: its head is missing", s->path);
    if (!st) {
        const bool is_formed = sqlite3_column_type(r.st, 0) == SQLITE_INTEGER && sqlite3_column_type(r.st, 1) == SQLITE_BLOB &&
                               sqlite3_column_bytes(r.st, 1) == SHA256_BYTES;
        c->n = db_i64(&r, 0);
        if (is_formed) memcpy(c->hash, sqlite3_column_blob(r.st, 1), SHA256_BYTES);
        chain_seal(s, c, seal);
        if (!is_formed || !is_bytes(&r, 2, seal))
            st = galen_fail(err, GALEN_E_FORMAT, 0, "%s: audit trail: the seal of its head (%lld rows) is wrong", s->path,
                            (long long)c->n);
    }
    db_end(&r);
    return st;
}

static galen_status write_head(store *s, const chain *c, galen_error *err) {
    uint8_t seal[SHA256_BYTES];
    chain_seal(s, c, seal);
    return db_run(s, err, "INSERT OR REPLACE INTO audit_head (id, n_rows, hash, seal) VALUES (1, ?, ?, ?)", "ibb", c->n, c->hash,
                  sizeof c->hash, seal, sizeof seal);
}

galen_status audit_start(store *s, galen_error *err) {
    chain c;
    const galen_status st = audit_load_key(s, true, err);
    if (st) return st;
    chain_start(s, &c);
    return write_head(s, &c, err);
}

/* ---------------------------------------------------------------- appending */

static galen_status check_fields(const store_audit *a, galen_error *err) {
    const size_t n = strlen(a->action), n_model = a->model_sha256 ? strlen(a->model_sha256) : 0;
    if (n == 0 || n > ACTION_MAX || strspn(a->action, "abcdefghijklmnopqrstuvwxyz0123456789_.") != n)
        return galen_fail(err, GALEN_E_ARG, 0, "an action has %zu bytes, expected 1 to %d of a to z, 0 to 9, _ and .", n,
                          ACTION_MAX);
    if (a->model_sha256 && (n_model != SHA256_HEX_BYTES - 1 || strspn(a->model_sha256, "0123456789abcdef") != n_model))
        return galen_fail(err, GALEN_E_ARG, 0, "a model's SHA-256 has %zu bytes, expected %d hexadecimal digits", n_model,
                          SHA256_HEX_BYTES - 1);
    return GALEN_OK;
}

/* Salted by the case: a guess at the text cannot be tested any more once the case and its salt are erased. */
static galen_status salted_hmac(store *s, int64_t case_id, const char *text, size_t n, uint8_t out[SHA256_BYTES],
                                galen_error *err) {
    db_rows r;
    bool has = false;
    hmac256 h;
    hmac256_start(&h, s->key, sizeof s->key);
    galen_status st = db_query(&r, s, err, "SELECT salt FROM cases WHERE id = ?", "i", case_id);
    if (!st) st = db_next(&r, &has, err);
    if (!st && has) {
        const void *salt = sqlite3_column_blob(r.st, 0);
        if (salt) hmac256_add(&h, salt, (size_t)sqlite3_column_bytes(r.st, 0));
    }
    db_end(&r);
    hmac256_add(&h, text, n);
    hmac256_end(&h, out);
    return st;
}

galen_status audit_append(store *s, const store_audit *a, galen_error *err) {
    chain c;
    uint8_t prompt[SHA256_BYTES], response[SHA256_BYTES];
    galen_status st = check_fields(a, err);
    if (!st && a->params) st = store_check_json(s, "set of parameters", a->params, strlen(a->params), err);
    if (!st) st = audit_load_key(s, false, err);
    if (!st) st = read_head(s, &c, err);
    if (!st && a->prompt) st = salted_hmac(s, a->case_id, a->prompt, a->n_prompt, prompt, err);
    if (!st && a->response) st = salted_hmac(s, a->case_id, a->response, a->n_response, response, err);
    if (st) return st;
    const int64_t seq = c.n + 1, now = store_now(s);
    const void *const prompt_hmac = a->prompt ? prompt : NULL, *const response_hmac = a->response ? response : NULL;
    const field fields[N_FIELDS] = {number_field(seq),        number_field(now),           text_field(a->action),
                                    number_field(a->case_id), text_field(a->model_sha256), text_field(galen_version()),
                                    text_field(a->params),    hash_field(prompt_hmac),     hash_field(response_hmac)};
    chain_add(s, &c, fields);
    st = db_run(s, err,
                "INSERT INTO audit (seq, time_ms, action, case_id, model_sha256, build, params, prompt_hmac, response_hmac, hash)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "iititttbbb", seq, now, a->action, a->case_id, a->model_sha256, galen_version(), a->params, prompt_hmac,
                sizeof prompt, response_hmac, sizeof response, c.hash, sizeof c.hash);
    return st ? st : write_head(s, &c, err);
}

galen_status store_audit_append(store *s, const store_audit *a, galen_error *err) {
    const galen_status st = db_begin(s, err);
    return st ? st : db_finish(s, audit_append(s, a, err), err);
}

/* ---------------------------------------------------------------- reading */

#define AUDIT_SQL                                                                                                                \
    "SELECT seq, time_ms, action, case_id, model_sha256, build, params, prompt_hmac, response_hmac, hash FROM audit"             \
    " WHERE seq >= ? ORDER BY seq LIMIT ?"

static const char *hex_or_null(const db_rows *r, int column, char out[SHA256_HEX_BYTES]) {
    const void *bytes = sqlite3_column_blob(r->st, column);
    if (!bytes || sqlite3_column_bytes(r->st, column) != SHA256_BYTES) return NULL;
    sha256_hex(bytes, out);
    return out;
}

galen_status store_audit_list(store *s, int64_t from, int64_t most, store_audit_fn fn, void *user, galen_error *err) {
    db_rows r;
    bool has = true;
    galen_status st = db_query(&r, s, err, AUDIT_SQL, "ii", from, most);
    while (!st) {
        char prompt[SHA256_HEX_BYTES], response[SHA256_HEX_BYTES];
        st = db_next(&r, &has, err);
        if (st || !has) break;
        const store_audit_row row = {.seq = db_i64(&r, 0),
                                     .time_ms = db_i64(&r, 1),
                                     .action = db_text(&r, 2, NULL),
                                     .case_id = db_i64(&r, 3),
                                     .model_sha256 = db_text_or_null(&r, 4),
                                     .build = db_text(&r, 5, NULL),
                                     .params = db_text_or_null(&r, 6),
                                     .prompt_hmac = hex_or_null(&r, 7, prompt),
                                     .response_hmac = hex_or_null(&r, 8, response)};
        if (!fn(user, &row)) break;
    }
    db_end(&r);
    return st;
}

static galen_status walk(store *s, const chain *head, galen_error *err) {
    db_rows r;
    bool has = true;
    chain c;
    chain_start(s, &c);
    galen_status st = db_query(&r, s, err, AUDIT_SQL, "ii", INT64_MIN, INT64_MAX);
    while (!st) {
        field fields[N_FIELDS];
        st = db_next(&r, &has, err);
        if (st || !has) break;
        const int64_t want = c.n + 1, seq = db_i64(&r, 0);
        if (want > head->n)
            st = broken(s, seq, "is one too many", err);
        else if (seq != want)
            st = broken(s, want, "is missing", err);
        else {
            read_fields(&r, fields);
            chain_add(s, &c, fields);
            if (!is_bytes(&r, N_FIELDS, c.hash)) st = broken(s, seq, "is not as it was written", err);
        }
    }
    db_end(&r);
    if (!st && c.n < head->n) st = broken(s, c.n + 1, "is missing", err);
    if (!st && !bytes_equal_constant_time(c.hash, head->hash, sizeof c.hash))
        st = broken(s, c.n, "is not the one that the head was made for", err);
    return st;
}

galen_status store_audit_verify(store *s, int64_t *n_rows, galen_error *err) {
    chain head = {0};
    galen_status st = audit_load_key(s, false, err);
    if (!st) st = db_run(s, err, "BEGIN", ""); /* head and rows of one moment */
    if (st) return st;
    st = read_head(s, &head, err);
    if (!st) st = walk(s, &head, err);
    st = db_finish(s, st, err);
    if (!st && n_rows) *n_rows = head.n;
    return st;
}
