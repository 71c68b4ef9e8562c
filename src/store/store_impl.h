/* The inside of a store: the connection, its prepared statements, and a way to run them in one line. */
#ifndef GALEN_STORE_STORE_IMPL_H
#define GALEN_STORE_STORE_IMPL_H

#include <sqlite3.h>

#include "store/store.h"

#define STORE_APPLICATION_ID 0x47414C4E /* "GALN", bytes 68..71 of the file */
#define STORE_DAY_MS         ((int64_t)86400000)
#define STORE_MAX_STATEMENTS 64

struct store {
    sqlite3 *db;
    char *path;
    bool is_read_only;
    int busy_ms;
    int64_t (*now_ms)(void *);
    void *now_user;
    struct {
        const char *sql; /* a literal: compared by address */
        sqlite3_stmt *st;
    } statements[STORE_MAX_STATEMENTS];
    size_t n_statements;
    uint8_t key[SHA256_BYTES]; /* of the audit trail */
    bool has_key;
};

/* A statement that is running; st is NULL before and after. */
typedef struct db_rows {
    store *s;
    sqlite3_stmt *st;
} db_rows;

/** Fill err from the connection's last error. what: the thing that failed, a literal. */
galen_status db_fail(store *s, const char *what, galen_error *err);

/** Prepare (once a store) and bind. sql is a literal. types, a letter each of the arguments that follow:
 *  i int64_t - d double - t const char * (NULL is NULL) - T const char *, size_t - b const void *, size_t (NULL is NULL).
 *  Bound memory must live until db_end. */
galen_status db_query(db_rows *r, store *s, galen_error *err, const char *sql, const char *types, ...);
/** The next row: true in *has. */
galen_status db_next(db_rows *r, bool *has, galen_error *err);
void db_end(db_rows *r); /* one that is not running is fine */
/** Query, run to its end, rows ignored. */
galen_status db_run(store *s, galen_error *err, const char *sql, const char *types, ...);
/** Query of exactly one integer; NOT_FOUND without a row (the message is the caller's business: err is left alone). */
galen_status db_int(store *s, int64_t *out, galen_error *err, const char *sql, const char *types, ...);

/** Text of a column, never NULL; "" for NULL. *n (may be NULL) its bytes. Lives until the next db_next. */
const char *db_text(const db_rows *r, int column, size_t *n);
const char *db_text_or_null(const db_rows *r, int column);
int64_t db_i64(const db_rows *r, int column);

/** A transaction that may write, at once. db_finish commits when st is OK, else rolls back; returns what became of it. */
galen_status db_begin(store *s, galen_error *err);
galen_status db_finish(store *s, galen_status st, galen_error *err);

int64_t store_now(const store *s);

/* ---- store_schema.c */
extern const char *const store_migrations[]; /* [i] makes version i+1 of version i; NULL-terminated */
/** Bring the database to the newest version. Errors  FORMAT not Galen's; UNSUPPORTED newer. */
galen_status store_migrate(store *s, galen_error *err);

/* ---- store_audit.c */
/** The key beside the database; made when may_create. */
galen_status audit_load_key(store *s, bool may_create, galen_error *err);
/** The sealed head of an empty trail, inside the migration's transaction. */
galen_status audit_start(store *s, galen_error *err);
/** As store_audit_append, inside the caller's transaction. */
galen_status audit_append(store *s, const store_audit *a, galen_error *err);

/* ---- store_erase.c */
/** What is due when a database is opened: retention, and a scrub that an earlier erasure could not finish. */
galen_status store_tidy(store *s, galen_error *err);

/* ---- store_case.c */
galen_status store_case_exists(store *s, int64_t id, galen_error *err);
/** Errors  FORMAT not UTF-8, holds a NUL, no JSON; err->offset where. what: "turn". */
galen_status store_check_json(store *s, const char *what, const char *json, size_t n, galen_error *err);

#endif
