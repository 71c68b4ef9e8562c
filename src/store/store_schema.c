/* The schema, as the steps that led to it. A step that was released is never changed: a new one follows. */
#include <stdio.h>

#include "store/store_impl.h"

/* Turns and the trail only grow: triggers refuse to change them, whoever asks. */
static const char step_cases[] =
    "CREATE TABLE cases ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT," /* never given twice, also not after an erasure: the trail names it */
    "  created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,"
    "  parent INTEGER NOT NULL DEFAULT 0, parent_turns INTEGER NOT NULL DEFAULT 0,"
    "  n_turns INTEGER NOT NULL DEFAULT 0, n_bytes INTEGER NOT NULL DEFAULT 0,"
    "  params TEXT,"
    "  salt BLOB NOT NULL" /* of the trail's HMACs: gone with the case */
    ") STRICT;"
    "CREATE INDEX cases_changed ON cases(changed_ms);"
    "CREATE TABLE turns ("
    "  id INTEGER PRIMARY KEY,"
    "  case_id INTEGER NOT NULL REFERENCES cases(id) ON DELETE CASCADE,"
    "  seq INTEGER NOT NULL CHECK (seq > 0),"
    "  kind TEXT NOT NULL, time_ms INTEGER NOT NULL, content TEXT NOT NULL,"
    "  UNIQUE (case_id, seq)"
    ") STRICT;"
    "CREATE TRIGGER turns_grow BEFORE UPDATE ON turns BEGIN SELECT RAISE(ABORT, 'turns are never changed'); END;"
    "CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'unicode61 remove_diacritics 2');" /* rowid = turns.id */
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;";

static const char step_audit[] =
    "CREATE TABLE audit ("
    "  seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, action TEXT NOT NULL, case_id INTEGER NOT NULL,"
    "  model_sha256 TEXT, build TEXT NOT NULL, params TEXT, prompt_hmac BLOB, response_hmac BLOB, hash BLOB NOT NULL"
    ") STRICT;"
    "CREATE TRIGGER audit_grow BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;"
    "CREATE TRIGGER audit_stay BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;"
    "CREATE TABLE audit_head ("
    "  id INTEGER PRIMARY KEY CHECK (id = 1), n_rows INTEGER NOT NULL, hash BLOB NOT NULL, seal BLOB NOT NULL"
    ") STRICT;";

static const char step_measures[] =
    "CREATE TABLE perf ("
    "  id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, verb TEXT, model_name TEXT, model_sha256 TEXT, device TEXT,"
    "  placement TEXT, load_s REAL NOT NULL, prefill_s REAL NOT NULL, decode_s REAL NOT NULL, first_s REAL NOT NULL,"
    "  n_prompt INTEGER NOT NULL, n_generated INTEGER NOT NULL, fallback TEXT, error INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX perf_time ON perf(time_ms);"
    "CREATE TABLE models ("
    "  path TEXT PRIMARY KEY, size INTEGER NOT NULL, time_ns INTEGER NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL,"
    "  sha256 TEXT NOT NULL, seen_ms INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX models_hash ON models(sha256);"
    "CREATE TABLE bench ("
    "  id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, model_sha256 TEXT NOT NULL, device TEXT NOT NULL, build TEXT NOT NULL,"
    "  result TEXT NOT NULL"
    ") STRICT;"
    "CREATE INDEX bench_model ON bench(model_sha256, device);"
    "CREATE TABLE tune ("
    "  model_sha256 TEXT NOT NULL, device TEXT NOT NULL, driver TEXT NOT NULL, build TEXT NOT NULL,"
    "  choice TEXT NOT NULL, time_ms INTEGER NOT NULL, PRIMARY KEY (model_sha256, device, driver, build)"
    ") STRICT, WITHOUT ROWID;";

static const char step_served[] = "ALTER TABLE perf ADD COLUMN n_cached INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE perf ADD COLUMN n_dropped INTEGER NOT NULL DEFAULT 0;";

const char *const store_migrations[] = {step_cases, step_audit, step_measures, step_served, NULL};

enum { NEWEST = sizeof store_migrations / sizeof *store_migrations - 1, AUDIT_VERSION = 2 };

/* In one statement: of a database that another process makes in between, all of it is seen or nothing. */
static galen_status read_version(store *s, int64_t *version, galen_error *err) {
    db_rows r;
    bool has = false;
    galen_status st = db_query(&r, s, err,
                               "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)"
                               " FROM pragma_application_id, pragma_user_version",
                               "");
    if (!st) st = db_next(&r, &has, err);
    const int64_t id = has ? db_i64(&r, 0) : 0, n_tables = has ? db_i64(&r, 2) : 0;
    if (has) *version = db_i64(&r, 1);
    db_end(&r);
    if (st) return st;
    if (!has) return galen_fail(err, GALEN_E_FORMAT, 0, "%s: no version in the database", s->path);
    const bool is_new = id == 0 && *version == 0 && n_tables == 0;
    if (!is_new && id != STORE_APPLICATION_ID)
        return galen_fail(err, GALEN_E_FORMAT, 68, "%s: a database, but not one of Galen's (application id %#llx, expected %#x)",
                          s->path, (unsigned long long)id, STORE_APPLICATION_ID);
    if (*version < 0 || (!is_new && *version == 0))
        return galen_fail(err, GALEN_E_FORMAT, 60, "%s: schema version %lld, expected 1 to %d", s->path, (long long)*version,
                          NEWEST);
    if (*version > NEWEST)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 60,
                          "%s: schema version %lld, this Galen knows %d: it was written by a newer Galen; use that one, or name "
                          "another database with --db",
                          s->path, (long long)*version, NEWEST);
    return GALEN_OK;
}

static galen_status take_steps(store *s, int64_t from, galen_error *err) {
    char stamp[96];
    for (int64_t v = from; v < NEWEST; v++) {
        if (sqlite3_exec(s->db, store_migrations[v], NULL, NULL, NULL) != SQLITE_OK) return db_fail(s, "migrating", err);
        if (v + 1 == AUDIT_VERSION) {
            const galen_status st = audit_start(s, err);
            if (st) return st;
        }
    }
    (void)snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d", STORE_APPLICATION_ID, NEWEST);
    if (sqlite3_exec(s->db, stamp, NULL, NULL, NULL) != SQLITE_OK) return db_fail(s, "migrating", err);
    return GALEN_OK;
}

galen_status store_migrate(store *s, galen_error *err) {
    int64_t version = 0;
    galen_status st = read_version(s, &version, err);
    if (st || version == NEWEST) return st;
    if (s->is_read_only)
        return galen_fail(err, GALEN_E_IO, 0, "%s: schema version %lld must be brought to %d, but the database is open read-only",
                          s->path, (long long)version, NEWEST);
    if (version < AUDIT_VERSION) st = audit_load_key(s, true, err);
    if (!st) st = db_begin(s, err);
    if (st) return st;
    st = read_version(s, &version, err); /* another process may have been faster */
    if (!st) st = take_steps(s, version, err);
    return db_finish(s, st, err);
}
