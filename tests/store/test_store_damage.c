/* Databases that are not as they should be: each item of the checklist of malformed storage is one test, each with a clear error.
 * (D: read-only, locked, damaged page, wrong and newer schema, log missing, disk full, too large, SQL in every field, invalid
 * UTF-8, clock going backwards.) */
#include "store_help.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>

/* Statements on the file, past the store. */
static void raw(const char *sql) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void expect_open_fails(galen_status status, const char *words) {
    store *s;
    galen_error why;
    const galen_status st = try_open(&s, false, &why);
    assert_null(s);
    if (st != status || why.code != status || !strstr(why.msg, words) || !strstr(why.msg, db_path))
        fail_msg("status %d, expected %d: '%s' without '%s'", st, status, why.msg, words);
}

/* ---------------------------------------------------------------- read-only */

/* Root writes everywhere: a child that is nobody looks at files that are not its own. Returns its status. */
static int as_nobody(int (*look)(void)) {
    const pid_t child = fork();
    int status = 0;
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) _exit(99);
        _exit(look());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int writes_are_refused(void) {
    store *s;
    galen_error why;
    const galen_status st = try_open(&s, false, &why);
    if (st) return st == GALEN_E_IO && strstr(why.msg, db_path) ? 0 : 1;
    store_close(s);
    return 2;
}

static int reading_works(void) {
    store *s;
    store_show c;
    galen_error why;
    if (try_open(&s, true, &why)) {
        (void)fprintf(stderr, "%s\n", why.msg);
        return 1;
    }
    if (store_case_get(s, 1, &c, &why)) return 2;
    store_show_free(&c);
    /* and writing through it is an error that says why */
    if (store_append(s, 1, "answer", "{}", 2, NULL, &why) != GALEN_E_IO || !strstr(why.msg, "read-only")) return 3;
    int64_t id;
    if (store_case_begin(s, NULL, &id, &why) != GALEN_E_IO) return 4;
    store_close(s);
    return 0;
}

static void read_only(void **state) {
    (void)state;
    store *s = open_store();
    (void)a_case(s, "a");
    assert_int_equal(chmod(folder, 0755), 0);
    /* While a connection is open its shared memory is there: others may read. */
    char path[256];
    const char *const ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s%s", db_path, ends[i]);
        assert_int_equal(chmod(path, 0444), 0);
    }
    assert_int_equal(as_nobody(reading_works), 0);
    assert_int_equal(as_nobody(writes_are_refused), 0);
    store_close(s);
    assert_int_equal(chmod(db_path, 0444), 0);
    assert_int_equal(as_nobody(writes_are_refused), 0);
    assert_int_equal(chmod(folder, 0700), 0);
}

static void read_only_creates_nothing(void **state) {
    store *s;
    galen_error why;
    (void)state;
    assert_int_equal(try_open(&s, true, &why), GALEN_E_NOT_FOUND);
    assert_non_null(strstr(why.msg, db_path));
    assert_int_not_equal(access(db_path, F_OK), 0);
}

static void files_are_private(void **state) {
    struct stat f;
    char deep[256];
    (void)state;
    (void)snprintf(deep, sizeof deep, "%s/a/b/galen.db", folder);
    const store_opts o = {.path = deep};
    store *s;
    const mode_t before = umask(0);
    OK(store_open(&s, &o, err));
    (void)a_case(s, "x");
    const char *const ends[] = {"", "-wal", "-shm", ".key"};
    for (int i = 0; i < 4; i++) {
        char path[300];
        (void)snprintf(path, sizeof path, "%s%s", deep, ends[i]);
        assert_int_equal(stat(path, &f), 0);
        if ((f.st_mode & 07777) != 0600) fail_msg("%s has mode %o", path, f.st_mode & 07777);
    }
    store_close(s);
    (void)umask(before);
    (void)snprintf(deep, sizeof deep, "%s/a", folder);
    assert_int_equal(stat(deep, &f), 0);
    assert_int_equal(f.st_mode & 07777, 0700);
    (void)snprintf(deep, sizeof deep, "%s/a/b/galen.db", folder);
    assert_int_equal(chmod(deep, 0644), 0); /* a copy made carelessly */
    OK(store_open(&s, &o, err));
    store_close(s);
    assert_int_equal(stat(deep, &f), 0);
    assert_int_equal(f.st_mode & 07777, 0600);
}

/* ---------------------------------------------------------------- locked */

static void locked(void **state) {
    sqlite3 *db;
    store_show c;
    store_erasure e;
    int64_t id;
    (void)state;
    store *s = open_store();
    id = a_case(s, "a");
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    FAILS(store_append(s, id, "answer", "{}", 2, NULL, err), GALEN_E_IO, "locked by another process, waited 100 ms");
    FAILS(store_case_begin(s, NULL, &id, err), GALEN_E_IO, "locked");
    FAILS(store_erase(s, id, &e, err), GALEN_E_IO, "locked");
    OK(store_case_get(s, id, &c, err)); /* readers are not held up */
    assert_int_equal(c.n_turns, 1);
    store_show_free(&c);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    OK(store_append(s, id, "answer", "{}", 2, NULL, err));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    store_close(s);
}

/* ---------------------------------------------------------------- damage */

/* Each page overwritten in turn with rubbish: every call ends with a status; never a crash, a hang, or another case's text. */
static void damaged_page(void **state) {
    size_t n;
    int n_told = 0, n_pages = 0;
    (void)state;
    store *s = open_store();
    for (int i = 0; i < 30; i++) append(s, a_case(s, "first symptom and second"), "answer", "{\"text\":\"an answer\"}");
    const store_audit a = {.action = "diagnose", .case_id = 1};
    OK(store_audit_append(s, &a, err));
    store_close(s);
    char *good = read_file(db_path, &n), *bad = malloc(n);
    assert_non_null(good);
    for (size_t page = 0; page * 4096 < n; page++, n_pages++) {
        memcpy(bad, good, n);
        memset(bad + page * 4096 + (page ? 0 : 100), 0xA5, page ? 4096 : 3996);
        write_file(db_path, bad, n);
        galen_error why;
        store_show c;
        galen_status st = try_open(&s, false, &why);
        for (int64_t id = 1; !st && id <= 30; id++) {
            st = store_case_get(s, id, &c, &why);
            if (!st) {
                assert_string_equal(c.turns[0].json, "{\"text\":\"first symptom and second\"}");
                assert_string_equal(c.turns[1].json, "{\"text\":\"an answer\"}");
                store_show_free(&c);
            }
        }
        if (!st) st = store_check(s, &why);
        if (!st) st = store_audit_verify(s, NULL, &why);
        if (st) {
            n_told++;
            assert_true(st == GALEN_E_FORMAT || st == GALEN_E_IO || st == GALEN_E_FAIL);
            assert_true(why.msg[0] && !strstr(why.msg, "symptom"));
        }
        store_close(s);
    }
    write_file(db_path, good, n);
    s = open_store();
    OK(store_check(s, err));
    store_close(s);
    /* Unused pages may hold anything. */
    if (n_told < n_pages - 2) fail_msg("%d of %d damaged pages were noticed", n_told, n_pages);
    free(good);
    free(bad);
}

static void not_a_database(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
    } files[] = {{"This is a text file, nothing else.", 34}, {"SQLite format 3\0", 16}, {"\x89PNG\r\n\x1a\n", 8}};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *long_file = calloc(1, 8192);
        memcpy(long_file, files[i].bytes, files[i].n);
        write_file(db_path, long_file, 8192);
        free(long_file);
        expect_open_fails(GALEN_E_FORMAT, "not a database");
    }
    assert_int_equal(unlink(db_path), 0);
    assert_int_equal(mkdir(db_path, 0700), 0);
    expect_open_fails(GALEN_E_IO, "not a regular file");
    assert_int_equal(rmdir(db_path), 0);
    assert_int_equal(mkfifo(db_path, 0600), 0);
    expect_open_fails(GALEN_E_IO, "not a regular file");
}

/* Cut anywhere: it is noticed, or nothing but empty space was lost. */
static void cut_file(void **state) {
    size_t n;
    int n_told = 0;
    (void)state;
    store *s = open_store();
    for (int i = 0; i < 20; i++) (void)a_case(s, "text");
    store_close(s);
    char *good = read_file(db_path, &n);
    for (size_t k = 1; k < n; k += 4096 + 512) {
        galen_error why;
        store_show c;
        write_file(db_path, good, k);
        galen_status st = try_open(&s, false, &why);
        if (!st) st = store_check(s, &why);
        for (int64_t id = 1; id <= 20 && !st; id++) {
            OK(store_case_get(s, id, &c, err));
            assert_string_equal(c.turns[0].json, "{\"text\":\"text\"}");
            store_show_free(&c);
        }
        n_told += st != GALEN_OK;
        assert_true(!st || why.msg[0]);
        store_close(s);
    }
    assert_true(n_told >= (int)(n / 4608) - 1);
    free(good);
}

/* ---------------------------------------------------------------- versions */

static void another_programs_database(void **state) {
    (void)state;
    raw("CREATE TABLE bookmarks (url TEXT)");
    expect_open_fails(GALEN_E_FORMAT, "not one of Galen's");
    (void)unlink(db_path);
    raw("PRAGMA application_id = 1; PRAGMA user_version = 1");
    expect_open_fails(GALEN_E_FORMAT, "application id 0x1");
}

static void newer_schema(void **state) {
    (void)state;
    store_close(open_store());
    raw("PRAGMA user_version = 5");
    expect_open_fails(GALEN_E_UNSUPPORTED, "schema version 5, this Galen knows 4");
    raw("PRAGMA user_version = 2147483647");
    expect_open_fails(GALEN_E_UNSUPPORTED, "newer Galen");
}

static void wrong_version(void **state) {
    (void)state;
    store_close(open_store());
    raw("PRAGMA user_version = 0");
    expect_open_fails(GALEN_E_FORMAT, "schema version 0");
    raw("PRAGMA user_version = -7");
    expect_open_fails(GALEN_E_FORMAT, "schema version -7");
}

/* What an older Galen left: its version's steps alone. Every case is there after the migration. */
static void older_schema(void **state) {
    store_show c;
    (void)state;
    for (int version = 1; version < 4; version++) {
        char sql[128];
        store *s = open_store();
        const int64_t id = a_case(s, "from long ago");
        store_close(s);
        if (version < 3) raw("DROP TABLE perf; DROP TABLE models; DROP TABLE bench; DROP TABLE tune");
        if (version == 3)
            raw("ALTER TABLE perf DROP COLUMN n_cached; ALTER TABLE perf DROP COLUMN n_dropped;"
                "INSERT INTO perf (time_ms, load_s, prefill_s, decode_s, first_s, n_prompt, n_generated, error)"
                " VALUES (unixepoch() * 1000, 1, 1, 1, 1, 1, 1, 0)");
        if (version < 2) raw("DROP TABLE audit; DROP TABLE audit_head");
        (void)snprintf(sql, sizeof sql, "PRAGMA user_version = %d", version);
        raw(sql);
        galen_error why;
        assert_int_equal(try_open(&s, true, &why), GALEN_E_IO);
        assert_non_null(strstr(why.msg, "open read-only"));
        s = open_store();
        OK(store_case_get(s, id, &c, err));
        assert_string_equal(c.turns[0].json, "{\"text\":\"from long ago\"}");
        store_show_free(&c);
        const store_perf p = {.verb = "x"};
        const store_audit a = {.action = "show", .case_id = id};
        OK(store_perf_append(s, &p, err));
        OK(store_audit_append(s, &a, err));
        OK(store_audit_verify(s, NULL, err));
        OK(store_check(s, err));
        store_close(s);
    }
}

/* A migration that fails half-way has changed nothing. */
static void failed_migration(void **state) {
    (void)state;
    store *s = open_store();
    (void)a_case(s, "a");
    store_close(s);
    raw("DROP TABLE perf; DROP TABLE models; DROP TABLE bench; PRAGMA user_version = 2"); /* tune is still there */
    galen_error why;
    assert_int_not_equal(try_open(&s, false, &why), GALEN_OK);
    raw("SELECT 1 / (SELECT count(*) = 0 FROM sqlite_schema WHERE name = 'perf')");
    raw("DROP TABLE tune");
    s = open_store();
    OK(store_check(s, err));
    store_close(s);
}

/* ---------------------------------------------------------------- the log */

/* Killed with turns in the log alone, and the log is lost: an older state, whole; the tail is gone and nothing else. */
static void log_missing(void **state) {
    char path[256];
    int status;
    (void)state;
    store *s = open_store();
    (void)a_case(s, "in the database");
    store_close(s);
    const pid_t child = fork();
    if (child == 0) {
        s = open_store();
        (void)a_case(s, "in the log");
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)snprintf(path, sizeof path, "%s-wal", db_path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
    store_show c;
    s = open_store();
    OK(store_check(s, err));
    OK(store_case_get(s, 1, &c, err));
    store_show_free(&c);
    FAILS(store_case_get(s, 2, &c, err), GALEN_E_NOT_FOUND, "no case 2");
    store_close(s);
}

/* ---------------------------------------------------------------- disk full */

static void disk_full(void **state) {
    struct rlimit before, tight;
    int64_t id, n_kept = 0;
    store_show c;
    (void)state;
    store *s = open_store();
    id = a_case(s, "a");
    char *big = malloc(100003);
    memset(big, 'x', 100002);
    big[0] = big[100001] = '"';
    big[100002] = 0;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    galen_error why = {0};
    galen_status st = GALEN_OK;
    while (!st && n_kept < 100) {
        st = store_append(s, id, "answer", big, 100002, NULL, &why);
        n_kept += !st;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, GALEN_E_IO);
    assert_non_null(strstr(why.msg, "disk"));
    assert_null(strstr(why.msg, "xxx"));
    assert_true(n_kept >= 1);
    OK(store_case_get(s, id, &c, err)); /* what was acknowledged is there */
    assert_int_equal(c.n_turns, 1 + n_kept);
    store_show_free(&c);
    OK(store_append(s, id, "answer", big, 100002, NULL, err)); /* and it goes on when there is room */
    OK(store_check(s, err));
    store_close(s);
    free(big);
}

/* ---------------------------------------------------------------- limits */

static void gigabyte_conversation(void **state) {
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "a");
    char *huge = malloc((size_t)1 << 30);
    assert_non_null(huge);
    memset(huge, 'x', (size_t)1 << 30);
    huge[0] = huge[((size_t)1 << 30) - 1] = '"';
    FAILS(store_append(s, id, "answer", huge, (size_t)1 << 30, NULL, err), GALEN_E_RANGE, "1073741824 bytes: at most 4194304");
    FAILS(store_append(s, id, "answer", huge, STORE_TURN_MAX + 1, NULL, err), GALEN_E_RANGE, "at most 4194304");
    /* the largest turn, until the case is full */
    huge[STORE_TURN_MAX - 1] = '"';
    galen_status st = GALEN_OK;
    galen_error why = {0};
    int n = 0;
    for (; !st && n < 20; n++) st = store_append(s, id, "note", huge, STORE_TURN_MAX, NULL, &why);
    assert_int_equal(st, GALEN_E_RANGE);
    assert_non_null(strstr(why.msg, "at most 67108864"));
    assert_int_equal(n, 16);
    store_show c;
    OK(store_case_get(s, id, &c, err));
    assert_int_equal(c.n_turns, 16);
    store_show_free(&c);
    store_close(s);
    free(huge);
}

/* ---------------------------------------------------------------- hostile text */

static bool count_case(void *user, const store_case *c) {
    (void)c;
    ++*(int *)user;
    return true;
}

static void sql_in_every_field(void **state) {
    static const char hostile[] = "'); DROP TABLE cases; -- \" ; DELETE FROM turns; %s%n ?1 $1 \\";
    static const char json[] = "{\"text\":\"'); DROP TABLE cases; -- \\\" ; DELETE FROM turns; %s%n ?1 $1 \\\\\"}";
    int n = 0;
    int64_t id = 0;
    (void)state;
    store *s = open_store();
    OK(store_case_begin(s, json, &id, err));
    append(s, id, "symptoms", json);
    FAILS(store_append(s, id, hostile, "{}", 2, NULL, err), GALEN_E_ARG, "kind");
    const store_audit a = {.action = "a", .case_id = id, .params = json, .prompt = hostile, .n_prompt = 9};
    OK(store_audit_append(s, &a, err));
    const store_audit b = {.action = hostile}, m = {.action = "a", .model_sha256 = hostile};
    FAILS(store_audit_append(s, &b, err), GALEN_E_ARG, "action");
    FAILS(store_audit_append(s, &m, err), GALEN_E_ARG, "SHA-256");
    const store_perf p = {.verb = hostile, .model_name = hostile, .device = hostile, .placement = hostile, .fallback = hostile};
    OK(store_perf_append(s, &p, err));
    const store_bench r = {.model_sha256 = hostile, .device = hostile, .build = hostile, .json = json, .n = strlen(json)};
    OK(store_bench_put(s, &r, NULL, err));
    const store_tune t = {
        .model_sha256 = hostile, .device = hostile, .driver = hostile, .build = hostile, .json = json, .n = strlen(json)};
    OK(store_tune_put(s, &t, err));
    char *back = NULL;
    OK(store_tune_get(s, &t, &back, err));
    assert_string_equal(back, json);
    free(back);
    FAILS(store_setting_set(s, hostile, hostile, err), GALEN_E_NOT_FOUND, "no setting");
    FAILS(store_setting_set(s, "save", hostile, err), GALEN_E_ARG, "on or off");
    OK(store_search(s, hostile, strlen(hostile), 0, 9, count_case, &n, err));
    assert_int_equal(n, 1);
    store_show c;
    OK(store_case_get(s, id, &c, err));
    assert_string_equal(c.turns[0].json, json);
    assert_string_equal(c.params, json);
    store_show_free(&c);
    OK(store_check(s, err));
    OK(store_audit_verify(s, NULL, err));
    store_close(s);
}

static void invalid_utf8(void **state) {
    static const char *const bad[] = {
        "\"\x80\"", "\"\xC3\"", "\"\xC0\x80\"", "\"\xE0\x80\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xFF\""};
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "a");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        galen_error why = {0};
        assert_int_equal(store_append(s, id, "answer", bad[i], strlen(bad[i]), NULL, &why), GALEN_E_FORMAT);
        assert_int_equal(why.offset, 1);
        assert_non_null(strstr(why.msg, "byte 1"));
    }
    /* Bytes that got in by another way come out as they are, and do no harm. */
    store_close(s);
    raw("INSERT INTO turns (case_id, seq, kind, time_ms, content) VALUES (1, 2, CAST(x'ff' AS TEXT), 1, CAST(x'22ff22' AS TEXT));"
        "UPDATE cases SET n_turns = 2");
    store_show c;
    int n = 0;
    s = open_store();
    OK(store_case_get(s, id, &c, err));
    assert_string_equal(c.turns[1].json, "\"\xFF\"");
    store_show_free(&c);
    OK(store_list(s, 0, 9, count_case, &n, err));
    assert_int_equal(n, 1);
    store_close(s);
}

static void clock_going_backwards(void **state) {
    store_show c;
    store_erasure e;
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "a");
    const int64_t first = test_clock;
    test_clock -= 3600000;
    append(s, id, "answer", "{}");
    test_clock = -5;
    append(s, id, "answer", "{}");
    test_clock = first + 1;
    append(s, id, "answer", "{}");
    OK(store_case_get(s, id, &c, err));
    for (size_t i = 1; i < c.n_turns; i++) {
        assert_true(c.turns[i].time_ms >= c.turns[i - 1].time_ms);
        assert_int_equal(c.turns[i].seq, i + 1);
    }
    assert_int_equal(c.turns[2].time_ms, first);
    assert_int_equal(c.turns[3].time_ms, first + 1);
    store_show_free(&c);
    test_clock = 0; /* the battery is empty: nothing is old */
    OK(store_setting_set(s, "retention_days", "1", err));
    OK(store_expire(s, 0, &e, err));
    assert_int_equal(e.n_cases, 0);
    store_close(s);
    s = open_store();
    OK(store_case_get(s, id, &c, err));
    store_show_free(&c);
    const store_audit a = {.action = "x"};
    OK(store_audit_append(s, &a, err));
    OK(store_audit_verify(s, NULL, err));
    store_close(s);
}

static void turns_cannot_be_changed(void **state) {
    sqlite3 *db;
    (void)state;
    store *s = open_store();
    (void)a_case(s, "a");
    const store_audit a = {.action = "x"};
    OK(store_audit_append(s, &a, err));
    store_close(s);
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    static const char *const forbidden[] = {"UPDATE turns SET content = '{}'", "UPDATE audit SET action = 'y'",
                                            "DELETE FROM audit"};
    for (int i = 0; i < 3; i++) assert_int_equal(sqlite3_exec(db, forbidden[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---------------------------------------------------------------- where it lies */

static void places(void **state) {
    char path[256];
    store *s;
    (void)state;
    assert_int_equal(setenv("GALEN_DB", "/x/y.db", 1), 0);
    OK(store_default_path(path, sizeof path, err));
    assert_string_equal(path, "/x/y.db");
    FAILS(store_default_path(path, 5, err), GALEN_E_RANGE, "longer than 4");
    (void)unsetenv("GALEN_DB");
    (void)setenv("XDG_DATA_HOME", folder, 1);
    OK(store_default_path(path, sizeof path, err));
    assert_non_null(strstr(path, "/galen/galen.db"));
    OK(store_open(&s, NULL, err));
    assert_string_equal(store_path(s), path);
    store_close(s);
    (void)setenv("XDG_DATA_HOME", "relative", 1);
    (void)setenv("HOME", "/h", 1);
    OK(store_default_path(path, sizeof path, err));
    assert_string_equal(path, "/h/.local/share/galen/galen.db");
    (void)unsetenv("HOME");
    FAILS(store_default_path(path, sizeof path, err), GALEN_E_NOT_FOUND, "HOME");
    const store_opts empty = {.path = ""};
    FAILS(store_open(&s, &empty, err), GALEN_E_RANGE, "0 bytes");
    char *endless = malloc(5000);
    memset(endless, 'a', 4999);
    endless[4999] = 0;
    const store_opts longer = {.path = endless};
    FAILS(store_open(&s, &longer, err), GALEN_E_RANGE, "4999 bytes");
    free(endless);
    assert_int_equal(chdir(folder), 0);
    const store_opts uri = {.path = "file:x?mode=memory"}; /* a name, not a URI */
    OK(store_open(&s, &uri, err));
    store_close(s);
    assert_int_equal(access("file:x?mode=memory", F_OK), 0);
    assert_int_equal(chdir("/"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(read_only),
        T(read_only_creates_nothing),
        T(files_are_private),
        T(locked),
        T(damaged_page),
        T(not_a_database),
        T(cut_file),
        T(another_programs_database),
        T(newer_schema),
        T(wrong_version),
        T(older_schema),
        T(failed_migration),
        T(log_missing),
        T(disk_full),
        T(gigabyte_conversation),
        T(sql_in_every_field),
        T(invalid_utf8),
        T(clock_going_backwards),
        T(turns_cannot_be_changed),
        T(places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
