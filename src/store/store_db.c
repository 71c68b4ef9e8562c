/* Statements and errors of SQLite, in Galen's terms. sqlite3_errmsg may quote what a person typed, so messages are made here. */
#include <stdarg.h>
#include <string.h>

#include "store/store_impl.h"

static const struct {
    int code; /* primary */
    galen_status st;
    const char *text;
} errors[] = {
    {SQLITE_BUSY, GALEN_E_IO, "locked by another process"},
    {SQLITE_LOCKED, GALEN_E_IO, "locked by another connection"},
    {SQLITE_READONLY, GALEN_E_IO, "read-only"},
    {SQLITE_FULL, GALEN_E_IO, "the disk is full"},
    {SQLITE_CANTOPEN, GALEN_E_IO, "cannot be opened (a folder that cannot be written, or a missing one)"},
    {SQLITE_PERM, GALEN_E_IO, "no permission"},
    {SQLITE_IOERR, GALEN_E_IO, "the disk failed or refused"},
    {SQLITE_CORRUPT, GALEN_E_FORMAT, "the database is damaged"},
    {SQLITE_NOTADB, GALEN_E_FORMAT, "not a database"},
    {SQLITE_NOMEM, GALEN_E_NOMEM, "out of memory"},
    {SQLITE_TOOBIG, GALEN_E_RANGE, "too large"},
    {SQLITE_CONSTRAINT, GALEN_E_FORMAT, "refused by a rule of the schema"},
    {SQLITE_INTERRUPT, GALEN_E_CANCELLED, "interrupted"},
};

galen_status db_fail(store *s, const char *what, galen_error *err) {
    const int extended = sqlite3_extended_errcode(s->db), primary = extended & 0xFF;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (errors[i].code != primary) continue;
        if (extended == SQLITE_IOERR_NOMEM) break;
        if (primary == SQLITE_BUSY)
            return galen_fail(err, errors[i].st, 0, "%s: %s: %s, waited %d ms", s->path, what, errors[i].text, s->busy_ms);
        return galen_fail(err, errors[i].st, 0, "%s: %s: %s (SQLite %d)", s->path, what, errors[i].text, extended);
    }
    if (extended == SQLITE_IOERR_NOMEM) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %s: out of memory", s->path, what);
    return galen_fail(err, GALEN_E_FAIL, 0, "%s: %s: %s (SQLite %d)", s->path, what, sqlite3_errstr(primary), extended);
}

static galen_status prepare(store *s, const char *sql, sqlite3_stmt **out, galen_error *err) {
    for (size_t i = 0; i < s->n_statements; i++) {
        if (s->statements[i].sql != sql) continue;
        *out = s->statements[i].st;
        return GALEN_OK;
    }
    if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) != SQLITE_OK)
        return db_fail(s, "preparing", err);
    if (s->n_statements == STORE_MAX_STATEMENTS) {
        (void)sqlite3_finalize(*out);
        return galen_fail(err, GALEN_E_FAIL, 0, "%s: more than %d statements", s->path, STORE_MAX_STATEMENTS);
    }
    s->statements[s->n_statements].sql = sql;
    s->statements[s->n_statements++].st = *out;
    return GALEN_OK;
}

static int bind_one(sqlite3_stmt *st, int i, char type, va_list *ap) {
    const char *text;
    switch (type) {
    case 'i':
        return sqlite3_bind_int64(st, i, va_arg(*ap, int64_t));
    case 'd':
        return sqlite3_bind_double(st, i, va_arg(*ap, double));
    case 't':
        return sqlite3_bind_text(st, i, va_arg(*ap, const char *), -1, SQLITE_STATIC);
    case 'T':
        text = va_arg(*ap, const char *);
        return sqlite3_bind_text64(st, i, text, va_arg(*ap, size_t), SQLITE_STATIC, SQLITE_UTF8);
    case 'b':
        text = va_arg(*ap, const void *);
        return sqlite3_bind_blob64(st, i, text, va_arg(*ap, size_t), SQLITE_STATIC);
    default:
        return SQLITE_MISUSE;
    }
}

static galen_status query(db_rows *r, store *s, galen_error *err, const char *sql, const char *types, va_list *ap) {
    *r = (db_rows){.s = s};
    sqlite3_stmt *stmt;
    const galen_status st = prepare(s, sql, &stmt, err);
    if (st) return st;
    r->st = stmt;
    for (int i = 0; types[i]; i++) {
        if (bind_one(stmt, i + 1, types[i], ap) == SQLITE_OK) continue;
        const galen_status bad = db_fail(s, "binding", err);
        db_end(r);
        return bad;
    }
    return GALEN_OK;
}

galen_status db_query(db_rows *r, store *s, galen_error *err, const char *sql, const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    const galen_status st = query(r, s, err, sql, types, &ap);
    va_end(ap);
    return st;
}

galen_status db_next(db_rows *r, bool *has, galen_error *err) {
    const int rc = sqlite3_step(r->st);
    *has = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) return GALEN_OK;
    return db_fail(r->s, sqlite3_stmt_readonly(r->st) ? "reading" : "writing", err);
}

void db_end(db_rows *r) {
    if (r->st) {
        (void)sqlite3_reset(r->st); /* repeats the error of the last step */
        (void)sqlite3_clear_bindings(r->st);
    }
    r->st = NULL;
}

galen_status db_run(store *s, galen_error *err, const char *sql, const char *types, ...) {
    va_list ap;
    db_rows r;
    bool has = true;
    va_start(ap, types);
    galen_status st = query(&r, s, err, sql, types, &ap);
    va_end(ap);
    while (!st && has) st = db_next(&r, &has, err);
    db_end(&r);
    return st;
}

galen_status db_int(store *s, int64_t *out, galen_error *err, const char *sql, const char *types, ...) {
    va_list ap;
    db_rows r;
    bool has = false;
    va_start(ap, types);
    galen_status st = query(&r, s, err, sql, types, &ap);
    va_end(ap);
    if (!st) st = db_next(&r, &has, err);
    if (!st && has) *out = db_i64(&r, 0);
    db_end(&r);
    return st ? st : has ? GALEN_OK : GALEN_E_NOT_FOUND;
}

const char *db_text_or_null(const db_rows *r, int column) {
    return (const char *)sqlite3_column_text(r->st, column);
}

const char *db_text(const db_rows *r, int column, size_t *n) {
    const char *text = db_text_or_null(r, column);
    if (n) *n = text ? (size_t)sqlite3_column_bytes(r->st, column) : 0;
    return text ? text : "";
}

int64_t db_i64(const db_rows *r, int column) {
    return sqlite3_column_int64(r->st, column);
}

galen_status db_begin(store *s, galen_error *err) {
    return db_run(s, err, "BEGIN IMMEDIATE", "");
}

galen_status db_finish(store *s, galen_status st, galen_error *err) {
    if (!st) st = db_run(s, err, "COMMIT", "");
    /* SQLite has rolled back by itself after some errors. */
    if (st && !sqlite3_get_autocommit(s->db)) (void)db_run(s, NULL, "ROLLBACK", "");
    return st;
}
