/* The audit trail: whatever is done to it, verifying notices. */
#include "store_help.h"

#include <sqlite3.h>

enum { N_ROWS = 8 };

static const char model[] = "3f1578ea369ff8bf328ba38eb79ecebbac7cf9ae37c3bfd765559697c1c2a3a3";

static void fill(store *s) {
    const int64_t id = a_case(s, "cough");
    for (int i = 0; i < N_ROWS; i++) {
        const store_audit a = {.action = i % 2 ? "diagnose" : "show",
                               .case_id = i % 3 ? id : 0,
                               .model_sha256 = i % 2 ? model : NULL,
                               .params = i % 2 ? "{\"seed\":7}" : NULL,
                               .prompt = i % 2 ? "cough" : NULL,
                               .response = i % 4 == 1 ? "flu" : NULL,
                               .n_prompt = 5,
                               .n_response = 3};
        test_clock += 1000;
        OK(store_audit_append(s, &a, err));
    }
}

static galen_status verify(galen_error *why) {
    store *s;
    galen_status st = try_open(&s, false, why);
    if (!st) st = store_audit_verify(s, NULL, why);
    store_close(s);
    return st;
}

static sqlite3 *raw_open(void) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    return db;
}

static void raw(const char *sql) {
    sqlite3 *db = raw_open();
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The triggers go first, as whoever wants to forge would do. */
#define FORGE "DROP TRIGGER audit_grow; DROP TRIGGER audit_stay;"

static void a_whole_trail(void **state) {
    int64_t n = -1;
    (void)state;
    store *s = open_store();
    OK(store_audit_verify(s, &n, err));
    assert_int_equal(n, 0);
    fill(s);
    OK(store_audit_verify(s, &n, err));
    assert_int_equal(n, N_ROWS);
    store_close(s);
    s = open_store();
    OK(store_audit_verify(s, &n, err));
    assert_int_equal(n, N_ROWS);
    store_close(s);
}

static bool look(void *user, const store_audit_row *r) {
    int *n = user;
    if (r->seq == 2) {
        assert_string_equal(r->action, "diagnose");
        assert_string_equal(r->model_sha256, model);
        assert_string_equal(r->params, "{\"seed\":7}");
        assert_int_equal(strlen(r->prompt_hmac), 64);
        assert_string_equal(r->build, galen_version());
    }
    if (r->seq == 1) assert_null(r->prompt_hmac);
    ++*n;
    return true;
}

/* No text, and no plain hash of a text. */
static void it_holds_no_text(void **state) {
    uint8_t hash[SHA256_BYTES];
    int n = 0;
    size_t size;
    (void)state;
    store *s = open_store();
    int64_t id;
    OK(store_case_begin(s, NULL, &id, err));
    const store_audit a = {.action = "diagnose", .case_id = id, .prompt = "QZXSECRET", .n_prompt = 9};
    OK(store_audit_append(s, &a, err));
    store_close(s);
    assert_int_equal(count_in_files("QZXSECRET"), 0);
    sha256_of("QZXSECRET", 9, hash);
    char *bytes = read_file(db_path, &size);
    assert_null(memmem(bytes, size, hash, sizeof hash));
    free(bytes);
    (void)remove(db_path);
    s = open_store(); /* with the old key: any 32 bytes will do */
    fill(s);
    OK(store_audit_list(s, 0, 100, look, &n, err));
    assert_int_equal(n, N_ROWS);
    n = 0;
    OK(store_audit_list(s, 5, 2, look, &n, err));
    assert_int_equal(n, 2);
    store_close(s);
}

/* Equal texts have equal HMACs within a case, and others in another: the salt is the case's. */
typedef struct hmacs {
    int n;
    char of[4][SHA256_HEX_BYTES];
} hmacs;
static bool keep_hmac(void *user, const store_audit_row *r) {
    hmacs *h = user;
    if (r->prompt_hmac) (void)snprintf(h->of[h->n++], SHA256_HEX_BYTES, "%s", r->prompt_hmac);
    return h->n < 4;
}

static void hmacs_are_salted(void **state) {
    hmacs h = {0};
    int64_t one, two;
    (void)state;
    store *s = open_store();
    OK(store_case_begin(s, NULL, &one, err));
    OK(store_case_begin(s, NULL, &two, err));
    const int64_t ids[] = {one, one, two};
    for (int i = 0; i < 3; i++) {
        const store_audit a = {.action = "x", .case_id = ids[i], .prompt = "fever", .n_prompt = 5};
        OK(store_audit_append(s, &a, err));
    }
    OK(store_audit_list(s, 0, 9, keep_hmac, &h, err));
    assert_string_equal(h.of[0], h.of[1]);
    assert_string_not_equal(h.of[0], h.of[2]);
    store_close(s);
}

/* ---------------------------------------------------------------- any byte */

static const char *const columns[] = {"time_ms", "action",      "case_id",       "model_sha256", "build",
                                      "params",  "prompt_hmac", "response_hmac", "hash"};

static int64_t one_number(sqlite3 *db, const char *sql) {
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    const int64_t v = sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    return v;
}

/* One bit of byte `at` of a field, in place; the type stays. Doing it twice undoes it. */
static void flip(sqlite3 *db, int64_t row, const char *column, int64_t at) {
    char sql[512];
    sqlite3_stmt *st;
    (void)snprintf(sql, sizeof sql, "SELECT %s, typeof(%s) FROM audit WHERE seq = %lld", column, column, (long long)row);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    const int type = sqlite3_column_type(st, 0);
    unsigned char bytes[512] = {0};
    int n = 8;
    int64_t number = sqlite3_column_int64(st, 0);
    if (type == SQLITE_INTEGER) {
        number ^= (int64_t)1 << (8 * at + 3);
    } else {
        n = sqlite3_column_bytes(st, 0);
        memcpy(bytes, sqlite3_column_blob(st, 0), (size_t)n);
        bytes[at] ^= 8;
    }
    (void)sqlite3_finalize(st);
    (void)snprintf(sql, sizeof sql, "UPDATE audit SET %s = ? WHERE seq = %lld", column, (long long)row);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    if (type == SQLITE_INTEGER)
        assert_int_equal(sqlite3_bind_int64(st, 1, number), SQLITE_OK);
    else if (type == SQLITE_TEXT)
        assert_int_equal(sqlite3_bind_text(st, 1, (char *)bytes, n, SQLITE_TRANSIENT), SQLITE_OK);
    else
        assert_int_equal(sqlite3_bind_blob(st, 1, bytes, n, SQLITE_TRANSIENT), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_DONE);
    (void)sqlite3_finalize(st);
}

/* Every byte of every field of every row, of the head too. */
static void any_byte_of_a_row(void **state) {
    int n_flips = 0;
    galen_error why = {0};
    (void)state;
    store *s = open_store();
    fill(s);
    store_close(s);
    raw(FORGE "PRAGMA synchronous = OFF");
    sqlite3 *db = raw_open();
    assert_int_equal(sqlite3_exec(db, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
    s = open_store();
    for (int64_t row = 1; row <= N_ROWS; row++) {
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            char sql[256];
            (void)snprintf(sql, sizeof sql,
                           "SELECT CASE typeof(%s) WHEN 'null' THEN 0 WHEN 'integer' THEN 8 ELSE length(CAST(%s AS BLOB)) END"
                           " FROM audit WHERE seq = %lld",
                           columns[c], columns[c], (long long)row);
            const int64_t n = one_number(db, sql);
            for (int64_t at = 0; at < n; at++, n_flips++) {
                flip(db, row, columns[c], at);
                const galen_status st = store_audit_verify(s, NULL, &why);
                if (st != GALEN_E_FORMAT) fail_msg("row %d, %s, byte %d: not noticed", (int)row, columns[c], (int)at);
                flip(db, row, columns[c], at);
            }
        }
    }
    OK(store_audit_verify(s, NULL, err));
    store_close(s);
    (void)sqlite3_close(db);
    assert_true(n_flips > 1000);
    print_message("%d bytes flipped, %d noticed\n", n_flips, n_flips);
}

/* Bytes of the file itself, in the pages of the trail: what changes a row, its type or the head is noticed. What is left may only
 * be space between cells, which no row reads. */
static char *dump(void) {
    sqlite3 *db;
    sqlite3_stmt *st;
    size_t used = 0;
    const size_t room = 1 << 18;
    char *text = calloc(1, room);
    static const char *const queries[] = {
        "SELECT quote(seq), quote(time_ms), quote(action), quote(case_id), quote(model_sha256), quote(build), quote(params),"
        " quote(prompt_hmac), quote(response_hmac), quote(hash) FROM audit ORDER BY seq",
        "SELECT quote(id), quote(n_rows), quote(hash), quote(seal) FROM audit_head"};
    assert_int_equal(sqlite3_open_v2(db_path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    for (int q = 0; q < 2; q++) {
        if (sqlite3_prepare_v2(db, queries[q], -1, &st, NULL) != SQLITE_OK) break;
        while (sqlite3_step(st) == SQLITE_ROW) {
            for (int c = 0; c < sqlite3_column_count(st); c++)
                used += (size_t)snprintf(text + used, room - used, "%s|", (const char *)sqlite3_column_text(st, c));
        }
        (void)sqlite3_finalize(st);
    }
    (void)sqlite3_close(db);
    return text;
}

static void any_byte_of_the_file(void **state) {
    size_t n;
    int n_changed = 0, n_flips = 0;
    const size_t stride = getenv("GALEN_SOAK") ? 1 : 7; /* prime: every part of a cell is met */
    (void)state;
    store *s = open_store();
    fill(s);
    store_close(s);
    char *want = dump(), *bytes = read_file(db_path, &n);
    sqlite3 *db = raw_open();
    const int64_t pages[] = {one_number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'audit'"),
                             one_number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'audit_head'")};
    (void)sqlite3_close(db);
    for (int p = 0; p < 2; p++) {
        for (size_t at = (size_t)(pages[p] - 1) * 4096; at < (size_t)pages[p] * 4096; at += stride, n_flips++) {
            galen_error why = {0};
            bytes[at] ^= 1;
            write_file(db_path, bytes, n);
            char *now = dump();
            const bool is_changed = strcmp(now, want) != 0;
            n_changed += is_changed;
            const galen_status st = verify(&why);
            if (is_changed && st != GALEN_E_FORMAT && st != GALEN_E_FAIL) fail_msg("byte %zu of page %d: status %d", at, p, st);
            free(now);
            bytes[at] ^= 1;
        }
    }
    write_file(db_path, bytes, n);
    galen_error why = {0};
    assert_int_equal(verify(&why), GALEN_OK);
    assert_true(n_changed > 1000 / (int)stride);
    print_message("%d bytes of the file flipped, %d changed the trail, all noticed\n", n_flips, n_changed);
    free(want);
    free(bytes);
}

/* ---------------------------------------------------------------- rows */

static const struct {
    const char *sql, *says, *why;
} forgeries[] = {
    {"DELETE FROM audit WHERE seq = 4", "row 4 is missing", "a row in the middle"},
    {"DELETE FROM audit WHERE seq = 1", "row 1 is missing", "the first"},
    {"DELETE FROM audit WHERE seq = 8", "row 8 is missing", "the last"},
    {"DELETE FROM audit WHERE seq > 3", "row 4 is missing", "a tail"},
    {"DELETE FROM audit", "row 1 is missing", "all"},
    {"DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = seq - 1 WHERE seq > 4", "row 4 is not as it was written",
     "renumbered"},
    {"DELETE FROM audit WHERE seq = 8; UPDATE audit_head SET n_rows = 7, hash = (SELECT hash FROM audit WHERE seq = 7)",
     "the seal of its head", "a head for fewer rows"},
    {"DELETE FROM audit; UPDATE audit_head SET n_rows = 0", "the seal of its head", "a head for none"},
    {"DELETE FROM audit_head", "its head is missing", "no head"},
    {"DELETE FROM audit; DELETE FROM audit_head", "its head is missing", "all of it"},
    {"UPDATE audit_head SET seal = x''", "the seal", "an empty seal"},
    {"UPDATE audit_head SET seal = NULL WHERE 0; UPDATE audit_head SET hash = x'00'", "the seal", "a short hash"},
    {"INSERT INTO audit SELECT 9, time_ms, action, case_id, model_sha256, build, params, prompt_hmac, response_hmac, hash FROM "
     "audit"
     " WHERE seq = 8",
     "row 9 is one too many", "a row more"},
    {"INSERT INTO audit SELECT -1, time_ms, action, case_id, model_sha256, build, params, prompt_hmac, response_hmac, hash FROM "
     "audit"
     " WHERE seq = 8",
     "row 1 is missing", "a row before"},
    {"UPDATE audit SET params = CAST(CAST(params AS BLOB) || x'00' AS TEXT) WHERE seq = 2", "row 2", "a NUL behind a text"},
    {"UPDATE audit SET params = '' WHERE seq = 1", "row 1", "nothing becomes empty"},
    {"UPDATE audit SET action = 'sho', case_id = 10 WHERE seq = 1", "row 1", "bytes moved to the next field"},
    {"UPDATE audit SET seq = 100 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 100",
     "row 3", "rows changed places"},
};

static void rows_removed_or_added(void **state) {
    size_t n;
    (void)state;
    store *s = open_store();
    fill(s);
    store_close(s);
    char *good = read_file(db_path, &n);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        char sql[600];
        galen_error why = {0};
        write_file(db_path, good, n);
        (void)snprintf(sql, sizeof sql, FORGE "%s", forgeries[i].sql);
        raw(sql);
        const galen_status st = verify(&why);
        if (st != GALEN_E_FORMAT || !strstr(why.msg, forgeries[i].says)) fail_msg("%s: %d %s", forgeries[i].why, st, why.msg);
    }
    free(good);
}

static void a_broken_end_is_not_continued(void **state) {
    const store_audit a = {.action = "x"};
    (void)state;
    store *s = open_store();
    fill(s);
    store_close(s);
    raw("DELETE FROM audit_head");
    s = open_store();
    FAILS(store_audit_append(s, &a, err), GALEN_E_FORMAT, "head is missing");
    /* Erasing is not held up by a trail that cannot say so. */
    store_erasure e;
    OK(store_erase(s, 1, &e, err));
    assert_false(e.is_audited);
    assert_true(e.is_scrubbed);
    store_close(s);
}

static void the_key(void **state) {
    char path[256];
    size_t n;
    const store_audit a = {.action = "x"};
    (void)state;
    store *s = open_store();
    fill(s);
    store_close(s);
    (void)snprintf(path, sizeof path, "%s.key", db_path);
    char *key = read_file(path, &n);
    assert_int_equal(n, 32);
    assert_int_equal(unlink(path), 0);
    s = open_store(); /* the cases are there without it */
    FAILS(store_audit_verify(s, NULL, err), GALEN_E_FORMAT, "audit trail's key");
    FAILS(store_audit_append(s, &a, err), GALEN_E_FORMAT, "restore it from the backup");
    assert_int_not_equal(access(path, F_OK), 0); /* and no new one is made */
    write_file(path, key, 31);
    FAILS(store_audit_verify(s, NULL, err), GALEN_E_FORMAT, "not a file of 32 bytes");
    key[0] ^= 1;
    write_file(path, key, 32);
    FAILS(store_audit_verify(s, NULL, err), GALEN_E_FORMAT, "the seal of its head");
    store_close(s);
    key[0] ^= 1;
    write_file(path, key, 32);
    s = open_store();
    OK(store_audit_verify(s, NULL, err));
    store_close(s);
    free(key);
}

enum { PATIENT_MS = 120000 }; /* on a slow disk the last of several waits for all the others */

/* Two processes append at once: one chain. */
static void appended_by_several(void **state) {
    enum { N_PROCESSES = 4, N_EACH = 25 };
    int64_t n = 0;
    (void)state;
    store_close(open_store());
    for (int i = 0; i < N_PROCESSES; i++) {
        if (fork()) continue;
        const store_opts o = {.path = db_path, .busy_ms = PATIENT_MS};
        store *s;
        int bad = store_open(&s, &o, NULL);
        for (int k = 0; k < N_EACH && !bad; k++) {
            const store_audit a = {.action = "x", .case_id = k};
            bad = store_audit_append(s, &a, NULL);
        }
        store_close(s);
        _exit(bad ? 1 : 0);
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    store *s = open_store();
    OK(store_audit_verify(s, &n, err));
    assert_int_equal(n, N_PROCESSES * N_EACH);
    store_close(s);
}

/* Several processes make the database at once: one wins, all can use it. */
static void make_and_append(void) {
    const store_opts o = {.path = db_path, .busy_ms = PATIENT_MS};
    store *s;
    galen_error why = {0};
    const store_audit a = {.action = "x"};
    if (store_open(&s, &o, &why) || store_audit_append(s, &a, &why)) {
        (void)fprintf(stderr, "%s\n", why.msg);
        _exit(1);
    }
    store_close(s);
    _exit(0);
}

/* Whoever comes while another makes the database sees nothing of it or all: in rounds, since the moment is short. */
static void made_by_several(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", ".key"};
    char path[600];
    for (int round = 0; round < 10; round++) {
        int n_failed = 0, status;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            (void)snprintf(path, sizeof path, "%s%s", db_path, ends[i]);
            (void)unlink(path);
        }
        for (int i = 0; i < 6; i++)
            if (!fork()) make_and_append();
        for (int i = 0; i < 6; i++) n_failed += wait(&status) < 0 || status != 0;
        assert_int_equal(n_failed, 0);
        int64_t n;
        store *s = open_store();
        OK(store_audit_verify(s, &n, err));
        assert_int_equal(n, 6);
        store_close(s);
    }
    (void)state;
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_whole_trail),
        T(it_holds_no_text),
        T(hmacs_are_salted),
        T(any_byte_of_a_row),
        T(any_byte_of_the_file),
        T(rows_removed_or_added),
        T(a_broken_end_is_not_continued),
        T(the_key),
        T(appended_by_several),
        T(made_by_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
