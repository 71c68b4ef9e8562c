/* Erasing, so that no trace is left: rows, search index, free pages, write-ahead log.
 *
 * Rows go in one transaction, which also rebuilds the search index (FTS5 keeps deleted words in its segments until they are
 * merged) and leaves the mark "scrub_due". Then: the log is written back and cut to nothing, so that zeroed pages (secure_delete)
 * reach the file; VACUUM writes the file anew without free pages; the log is cut again; the mark goes. Whoever is killed in
 * between leaves the mark, and the next opening goes on. */
#include <stdlib.h>
#include <string.h>

#include "store/store_impl.h"

enum { TIDY_BUSY_MS = 200, DAYS_MAX = 36500 };

/* True: all of the log is in the file and the log is empty. Another process that reads or writes makes it false. */
static galen_status empty_log(store *s, bool *is_done, galen_error *err) {
    int64_t is_busy = 1;
    const galen_status st = db_int(s, &is_busy, err, "PRAGMA wal_checkpoint(TRUNCATE)", "");
    *is_done = !st && is_busy == 0;
    return st;
}

/* A lock that does not come free is no error: the mark stays. */
static galen_status try_exec(store *s, const char *sql, bool *is_done, galen_error *err) {
    const int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    *is_done = rc == SQLITE_OK;
    return rc == SQLITE_OK || (rc & 0xFF) == SQLITE_BUSY || (rc & 0xFF) == SQLITE_LOCKED ? GALEN_OK : db_fail(s, "erasing", err);
}

static galen_status scrub(store *s, bool *is_done, galen_error *err) {
    galen_status st = empty_log(s, is_done, err);
    if (!st && *is_done) st = try_exec(s, "VACUUM", is_done, err);
    if (!st && *is_done) st = empty_log(s, is_done, err);
    if (!st && *is_done) st = try_exec(s, "DELETE FROM settings WHERE name = 'scrub_due'", is_done, err);
    if (st) *is_done = false;
    return st;
}

/* ---------------------------------------------------------------- which cases */

/* The ids to erase are collected first: a table that lives in memory (temp_store). */
static galen_status choose(store *s, galen_error *err) {
    galen_status st = db_run(s, err, "CREATE TABLE IF NOT EXISTS temp.doomed (id INTEGER PRIMARY KEY)", "");
    return st ? st : db_run(s, err, "DELETE FROM temp.doomed", "");
}

static galen_status count_doomed(store *s, store_erasure *e, galen_error *err) {
    galen_status st = db_int(s, &e->n_cases, err, "SELECT count(*) FROM temp.doomed", "");
    if (!st) st = db_int(s, &e->n_turns, err, "SELECT count(*) FROM turns WHERE case_id IN (SELECT id FROM temp.doomed)", "");
    if (!st)
        st = db_int(s, &e->n_branches, err,
                    "SELECT count(*) FROM cases WHERE parent IN (SELECT id FROM temp.doomed) AND id NOT IN"
                    " (SELECT id FROM temp.doomed)",
                    "");
    return st;
}

/* A trail that cannot be continued does not keep a text from being erased: is_audited says so. */
static galen_status audit_doomed(store *s, const char *action, store_erasure *e, galen_error *err) {
    db_rows r;
    int64_t id = 0;
    e->is_audited = true;
    for (bool has = true; has;) {
        galen_status st = db_query(&r, s, err, "SELECT id FROM temp.doomed WHERE id > ? ORDER BY id LIMIT 1", "i", id);
        if (!st) st = db_next(&r, &has, err);
        if (!st && has) id = db_i64(&r, 0);
        db_end(&r);
        if (st) return st;
        if (!has) break;
        const store_audit a = {.action = action, .case_id = id};
        st = audit_append(s, &a, err);
        if (st == GALEN_E_FORMAT) {
            e->is_audited = false;
            return GALEN_OK;
        }
        if (st) return st;
    }
    return GALEN_OK;
}

static galen_status delete_doomed(store *s, const char *action, store_erasure *e, galen_error *err) {
    galen_status st = count_doomed(s, e, err);
    if (st || e->n_cases == 0) return st;
    st = db_run(s, err, "DELETE FROM words WHERE rowid IN (SELECT id FROM turns WHERE case_id IN (SELECT id FROM temp.doomed))",
                "");
    if (!st) st = db_run(s, err, "DELETE FROM cases WHERE id IN (SELECT id FROM temp.doomed)", ""); /* and their turns */
    if (!st) st = db_run(s, err, "INSERT INTO words (words) VALUES ('rebuild')", "");
    if (!st) st = db_run(s, err, "INSERT OR REPLACE INTO settings (name, value) VALUES ('scrub_due', '1')", "");
    if (!st) st = audit_doomed(s, action, e, err);
    return st;
}

/* The caller has begun a transaction and chosen. */
static galen_status erase_chosen(store *s, galen_status st, const char *action, store_erasure *out, galen_error *err) {
    store_erasure e = {.is_scrubbed = true, .is_audited = true};
    if (!st) st = delete_doomed(s, action, &e, err);
    st = db_finish(s, st, err);
    if (st) return st;
    if (e.n_cases) st = scrub(s, &e.is_scrubbed, err);
    *out = e;
    return st;
}

galen_status store_erase(store *s, int64_t id, store_erasure *out, galen_error *err) {
    *out = (store_erasure){0};
    galen_status st = db_begin(s, err);
    if (st) return st;
    st = choose(s, err);
    if (!st) st = store_case_exists(s, id, err);
    if (!st) st = db_run(s, err, "INSERT INTO temp.doomed (id) VALUES (?)", "i", id);
    return erase_chosen(s, st, "erase", out, err);
}

galen_status store_erase_all(store *s, store_erasure *out, galen_error *err) {
    *out = (store_erasure){0};
    galen_status st = db_begin(s, err);
    if (st) return st;
    st = choose(s, err);
    if (!st) st = db_run(s, err, "INSERT INTO temp.doomed (id) SELECT id FROM cases", "");
    return erase_chosen(s, st, "erase", out, err);
}

galen_status store_expire(store *s, int64_t days, store_erasure *out, galen_error *err) {
    *out = (store_erasure){0};
    if (days < 0 || days > DAYS_MAX)
        return galen_fail(err, GALEN_E_ARG, 0, "%lld days, expected 0 to %d", (long long)days, DAYS_MAX);
    galen_status st = db_begin(s, err);
    if (st) return st;
    st = choose(s, err);
    if (!st)
        st = db_run(s, err, "INSERT INTO temp.doomed (id) SELECT id FROM cases WHERE changed_ms < ?", "i",
                    store_now(s) - days * STORE_DAY_MS);
    return erase_chosen(s, st, "expire", out, err);
}

/* ---------------------------------------------------------------- at every opening */

static galen_status days_of(store *s, const char *name, int64_t *days, galen_error *err) {
    char value[16];
    const galen_status st = store_setting_get(s, name, value, sizeof value, err);
    *days = st ? 0 : strtoll(value, NULL, 10);
    return st;
}

static galen_status expire_if_due(store *s, galen_error *err) {
    int64_t days = 0, n = 0;
    store_erasure e;
    galen_status st = days_of(s, "retention_days", &days, err);
    if (st || days <= 0) return st;
    st = db_int(s, &n, err, "SELECT count(*) FROM cases WHERE changed_ms < ?", "i", store_now(s) - days * STORE_DAY_MS);
    return st || n == 0 ? st : store_expire(s, days, &e, err);
}

static galen_status scrub_if_due(store *s, galen_error *err) {
    int64_t n = 0;
    bool is_done;
    galen_status st = db_int(s, &n, err, "SELECT count(*) FROM settings WHERE name = 'scrub_due'", "");
    if (st || n == 0) return st;
    (void)sqlite3_busy_timeout(s->db, TIDY_BUSY_MS);
    st = scrub(s, &is_done, err);
    (void)sqlite3_busy_timeout(s->db, s->busy_ms);
    return st;
}

galen_status store_tidy(store *s, galen_error *err) {
    galen_status st = scrub_if_due(s, err);
    if (!st) st = expire_if_due(s, err);
    return st ? st : store_perf_expire(s, err);
}

galen_status store_perf_expire(store *s, galen_error *err) {
    int64_t days = 0, n = 0;
    galen_status st = days_of(s, "perf_days", &days, err);
    if (st || days <= 0) return st;
    const int64_t oldest = store_now(s) - days * STORE_DAY_MS;
    st = db_int(s, &n, err, "SELECT count(*) FROM perf WHERE time_ms < ?", "i", oldest);
    return st || n == 0 ? st : db_run(s, err, "DELETE FROM perf WHERE time_ms < ?", "i", oldest);
}
