/* Every allocation and every file operation of a store's life failing in turn, once and from then on.
 *
 * The linker sends malloc and its kin here (Makefile, WRAP_STORE); SQLite and jansson are given the same allocator; a file system
 * of our own stands between SQLite and the real one. A run must end with a status and a message, or as the run without failures
 * did; leave no block behind; and afterwards, with nothing failing, the database opens, verifies and has every turn that was
 * acknowledged. GALEN_SOAK: each call; else a sample. */
#include "store_help.h"

#include <jansson.h>
#include <sqlite3.h>

#include "assist/export.h"

typedef struct faults {
    long n_calls, fail_at; /* the call that fails, from 1; 0 = none */
    bool is_sticky, is_on;
    long n_failed, n_live;
} faults;

static faults memory, jansson, files;

static bool must_fail(faults *f) {
    if (!f->is_on) return false;
    const long n = ++f->n_calls;
    const bool fails = f->fail_at > 0 && (n == f->fail_at || (f->is_sticky && n > f->fail_at));
    f->n_failed += fails;
    return fails;
}

/* ---------------------------------------------------------------- memory */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);

/* Blocks carry their size in front, so that freed ones are counted whoever made them. */
typedef union head {
    size_t n;
    max_align_t align;
} head;

static void *take(size_t n) {
    head *h = __real_malloc(sizeof *h + n);
    if (!h) return NULL;
    h->n = n;
    memory.n_live++;
    return h + 1;
}

static void *give(size_t n) {
    return must_fail(&memory) ? NULL : take(n);
}

void *__wrap_malloc(size_t n) {
    return give(n);
}
void *__wrap_calloc(size_t n, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) return NULL;
    void *p = give(total);
    return p ? memset(p, 0, total) : NULL;
}
void *__wrap_realloc(void *p, size_t n) {
    if (!p) return give(n);
    if (must_fail(&memory)) return NULL;
    head *h = __real_realloc((head *)p - 1, sizeof *h + n);
    if (!h) return NULL;
    h->n = n;
    return h + 1;
}
char *__wrap_strdup(const char *s) {
    char *p = give(strlen(s) + 1);
    return p ? strcpy(p, s) : NULL;
}
void __wrap_free(void *p) {
    if (!p) return;
    memory.n_live--;
    __real_free((head *)p - 1);
}

/* jansson's calls are counted and failed by themselves. */
static void *jansson_malloc(size_t n) {
    return must_fail(&jansson) ? NULL : take(n);
}

static void *sqlite_malloc_(int n) {
    return give((size_t)n);
}
static void sqlite_free_(void *p) {
    __wrap_free(p);
}
static void *sqlite_realloc_(void *p, int n) {
    return __wrap_realloc(p, (size_t)n);
}
static int sqlite_size(void *p) {
    return p ? (int)((head *)p - 1)->n : 0;
}
static int sqlite_round(int n) {
    return (n + 7) & ~7;
}
static int sqlite_init(void *user) {
    (void)user;
    return SQLITE_OK;
}
static void sqlite_end(void *user) {
    (void)user;
}

/* ---------------------------------------------------------------- files */

typedef struct test_file {
    sqlite3_file base;
    sqlite3_file *real;
} test_file;

#define REAL(f) (((test_file *)(void *)(f))->real)

static int f_close(sqlite3_file *f) {
    sqlite3_file *r = REAL(f);
    const int rc = r->pMethods ? r->pMethods->xClose(r) : SQLITE_OK;
    __real_free(r);
    REAL(f) = NULL;
    return rc;
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    return must_fail(&files) ? SQLITE_IOERR_READ : REAL(f)->pMethods->xRead(REAL(f), p, n, at);
}
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    if (!must_fail(&files)) return REAL(f)->pMethods->xWrite(REAL(f), p, n, at);
    if (n > 1) (void)REAL(f)->pMethods->xWrite(REAL(f), p, n / 2, at); /* a torn write, as a full disk leaves it */
    return files.n_calls % 2 ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 n) {
    return must_fail(&files) ? SQLITE_IOERR_TRUNCATE : REAL(f)->pMethods->xTruncate(REAL(f), n);
}
/* Nothing here loses power: a sync that works need not wait for the disk. */
static int f_sync(sqlite3_file *f, int flags) {
    (void)f, (void)flags;
    return must_fail(&files) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}
static int f_size(sqlite3_file *f, sqlite3_int64 *n) {
    return REAL(f)->pMethods->xFileSize(REAL(f), n);
}
static int f_lock(sqlite3_file *f, int level) {
    return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int f_unlock(sqlite3_file *f, int level) {
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int f_reserved(sqlite3_file *f, int *out) {
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg) {
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
static int f_sector(sqlite3_file *f) {
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int f_device(sqlite3_file *f) {
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int f_shm_map(sqlite3_file *f, int page, int n, int may_extend, void volatile **p) {
    return must_fail(&files) ? SQLITE_IOERR_SHMMAP : REAL(f)->pMethods->xShmMap(REAL(f), page, n, may_extend, p);
}
static int f_shm_lock(sqlite3_file *f, int at, int n, int flags) {
    return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags);
}
static void f_shm_barrier(sqlite3_file *f) {
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int f_shm_unmap(sqlite3_file *f, int is_deleted) {
    return REAL(f)->pMethods->xShmUnmap(REAL(f), is_deleted);
}

static const sqlite3_io_methods methods = {2,        f_close,   f_read,     f_write,       f_truncate, f_sync,
                                           f_size,   f_lock,    f_unlock,   f_reserved,    f_control,  f_sector,
                                           f_device, f_shm_map, f_shm_lock, f_shm_barrier, f_shm_unmap};

static sqlite3_vfs *real_fs, test_fs;

static int fs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    (void)v;
    f->pMethods = NULL;
    if (must_fail(&files)) return SQLITE_CANTOPEN;
    REAL(f) = __real_calloc(1, (size_t)real_fs->szOsFile);
    const int rc = real_fs->xOpen(real_fs, name, REAL(f), flags, out);
    if (rc != SQLITE_OK) {
        __real_free(REAL(f));
        return rc;
    }
    f->pMethods = &methods;
    return SQLITE_OK;
}

static void install(void) {
    static const sqlite3_mem_methods m = {sqlite_malloc_, sqlite_free_, sqlite_realloc_, sqlite_size,
                                          sqlite_round,   sqlite_init,  sqlite_end,      NULL};
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &m), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
    json_set_alloc_funcs(jansson_malloc, __wrap_free);
    real_fs = sqlite3_vfs_find(NULL);
    test_fs = *real_fs;
    test_fs.zName = "faults";
    test_fs.szOsFile = sizeof(test_file);
    test_fs.xOpen = fs_open;
    assert_int_equal(sqlite3_vfs_register(&test_fs, 1), SQLITE_OK);
}

/* ---------------------------------------------------------------- a store's life */

typedef struct life {
    galen_status st;
    galen_error err;
    int64_t ids[3];
    int n_acknowledged; /* turns of the first case */
    bool is_erased;     /* the second case */
} life;

static bool count_row(void *user, const store_case *c) {
    (void)c;
    ++*(int *)user;
    return true;
}

static const char turn[] = "{\"kind\":\"text\",\"text\":\"QZXKEPT a turn of some length, so that pages fill\"}";
static const char doomed[] = "{\"text\":\"QZXDOOMED\"}";

#define STEP(call)                                                                                                               \
    if ((l->st = (call)) != GALEN_OK) goto done

static void live(life *l) {
    store *s = NULL;
    store_show c = {0};
    store_erasure e;
    int n = 0;
    const store_opts o = {.path = db_path, .busy_ms = 20, .now_ms = test_now};
    const store_audit a = {.action = "diagnose", .params = "{\"seed\":1}", .prompt = "x", .n_prompt = 1};
    const store_perf p = {.verb = "x"};
    *l = (life){0};
    STEP(store_open(&s, &o, &l->err));
    STEP(store_case_begin(s, "{\"seed\":1}", &l->ids[0], &l->err));
    for (int i = 0; i < 3; i++) {
        STEP(store_append(s, l->ids[0], i ? "answer" : "symptoms", turn, sizeof turn - 1, NULL, &l->err));
        l->n_acknowledged++;
    }
    STEP(store_case_begin(s, NULL, &l->ids[1], &l->err));
    STEP(store_append(s, l->ids[1], "symptoms", doomed, sizeof doomed - 1, NULL, &l->err));
    STEP(store_search(s, "qzxkept", 7, 0, 9, count_row, &n, &l->err));
    STEP(store_list(s, 0, 9, count_row, &n, &l->err));
    STEP(store_case_get(s, l->ids[0], &c, &l->err));
    STEP(store_audit_append(s, &a, &l->err));
    STEP(store_perf_append(s, &p, &l->err));
    STEP(store_branch(s, l->ids[0], 2, &l->ids[2], &l->err));
    STEP(store_erase(s, l->ids[1], &e, &l->err));
    l->is_erased = e.is_scrubbed;
    STEP(store_audit_verify(s, NULL, &l->err));
done:
    store_show_free(&c);
    store_close(s);
}

static void clean(void) {
    static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".key"};
    for (int i = 0; i < 5; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "%s%s", db_path, ends[i]);
        (void)unlink(path);
    }
}

/* After whatever failed. */
static void check_after(const life *l, long at, const char *what) {
    store_show c;
    galen_error why = {0};
    store *s;
    const store_opts o = {.path = db_path, .busy_ms = 20, .now_ms = test_now};
    if (l->st && (l->st == GALEN_E_ARG || l->err.code != l->st || !l->err.msg[0] || strstr(l->err.msg, "QZX")))
        fail_msg("%s %ld: status %d, '%s'", what, at, l->st, l->err.msg);
    if (store_open(&s, &o, &why)) fail_msg("%s %ld failed (%s), and then: %s", what, at, l->err.msg, why.msg);
    OK(store_check(s, err));
    OK(store_audit_verify(s, NULL, err));
    if (l->n_acknowledged) {
        OK(store_case_get(s, l->ids[0], &c, err));
        if ((int)c.n_turns < l->n_acknowledged) fail_msg("%s %ld: %d of %d turns", what, at, (int)c.n_turns, l->n_acknowledged);
        for (size_t t = 0; t < c.n_turns; t++) assert_string_equal(c.turns[t].json, turn);
        store_show_free(&c);
    }
    if (l->is_erased) FAILS(store_case_get(s, l->ids[1], &c, err), GALEN_E_NOT_FOUND, "no case");
    store_close(s);
    if (l->is_erased && count_in_files("QZXDOOMED")) fail_msg("%s %ld: a trace of what was erased", what, at);
}

typedef struct harness {
    const char *what;
    faults *faults;
} harness;

static void torture(const harness *h) {
    life l, first;
    faults *f = h->faults;
    live(&first); /* whatever is made once for the process */
    clean();
    const long n_live = memory.n_live;
    f->n_calls = 0;
    f->is_on = true;
    live(&first);
    f->is_on = false;
    clean();
    assert_int_equal(first.st, GALEN_OK);
    assert_int_equal(memory.n_live, n_live);
    const long n = f->n_calls, step = getenv("GALEN_SOAK") ? 1 : n / 80 + 1;
    long n_runs = 0;
    for (int sticky = 0; sticky < 2; sticky++) {
        for (long at = 1 + sticky; at <= n; at += step, n_runs++) {
            f->n_calls = f->n_failed = 0;
            f->is_sticky = sticky;
            f->fail_at = at;
            f->is_on = true;
            live(&l);
            f->is_on = false;
            f->fail_at = 0;
            if (memory.n_live != n_live)
                fail_msg("%s %ld%s: %ld blocks left", h->what, at, sticky ? " and on" : "", memory.n_live - n_live);
            check_after(&l, at, h->what);
            clean();
        }
    }
    print_message("%s: %ld calls, %ld runs\n", h->what, n, n_runs);
}

static void every_allocation(void **state) {
    (void)state;
    torture(&(harness){"allocation", &memory});
}

static void every_file_operation(void **state) {
    (void)state;
    torture(&(harness){"file operation", &files});
}

/* ---------------------------------------------------------------- exports */

static const export_turn turns[] = {
#define TURN(kind, json)                                                                                                         \
    { kind, 1700000000000, json, sizeof json - 1 }
    TURN("symptoms", "{\"text\":\"cough <b> & \\u0000 \\u001b\"}"),
    TURN("triage", "{\"level\":\"emergency\",\"flags\":[{\"message\":\"go\",\"quote\":\"cough\",\"source\":\"s\"}]}"),
    TURN("differential",
         "{\"conditions\":[{\"name\":\"flu\",\"confidence\":0.5,\"code\":\"J11.1\",\"code_title\":\"Influenza\",\"support\":"
         "[{\"quote\":\"cough\"}],\"missing\":[\"fever\"]},{\"name\":\"cold\",\"confidence\":0.25,\"code\":null}],\"other\":0.25,"
         "\"confidence_meaning\":\"m\",\"code_year\":2026,\"model\":{\"name\":\"n\",\"sha256\":\"ab\"},\"device\":\"CPU\"}"),
    TURN("question", "{\"number\":1,\"text\":\"Fever?\"}"),
    TURN("answer", "{\"number\":1,\"kind\":\"yes\"}"),
#undef TURN
};

static const export_case a_document = {
    .id = 1, .created_ms = 1700000000000, .changed_ms = 1700000000000, .params = "{\"seed\":1}", .turns = turns, .n_turns = 5};

static galen_status export_once(faults *f, export_format format, export_text *out, galen_error *why) {
    *why = (galen_error){0};
    f->n_calls = 0;
    f->is_on = true;
    const galen_status st = export_write(format, &a_document, out, why);
    f->is_on = false;
    return st;
}

/* may_lose: jansson 2.14 does not look whether its reader found room for a character, so that a document which came to be while
 * memory was out may lack a word. Whatever else fails must show. */
static long fail_export(faults *f, export_format format, bool may_lose) {
    export_text want, out;
    galen_error why;
    long n_runs = 0;
    assert_int_equal(export_once(f, format, &want, &why), GALEN_OK);
    const long n = f->n_calls, n_live = memory.n_live;
    for (int sticky = 0; sticky < 2; sticky++) {
        for (long at = 1; at <= n; at++, n_runs++) {
            f->is_sticky = sticky;
            f->fail_at = at;
            const galen_status st = export_once(f, format, &out, &why);
            f->fail_at = 0;
            const bool is_same = !st && out.n == want.n && memcmp(out.bytes, want.bytes, want.n) == 0;
            const bool is_told = (st == GALEN_E_NOMEM || (may_lose && st == GALEN_E_FORMAT)) && why.code == st && !out.bytes;
            if (!is_same && !is_told && !(may_lose && !st))
                fail_msg("format %d, call %ld: status %d, '%s'", format, at, st, why.msg);
            free(out.bytes);
            if (memory.n_live != n_live) fail_msg("format %d, call %ld: %ld blocks left", format, at, memory.n_live - n_live);
        }
    }
    free(want.bytes);
    return n_runs;
}

static void every_allocation_of_an_export(void **state) {
    long n_own = 0, n_jansson = 0;
    (void)state;
    for (int format = EXPORT_TEXT; format <= EXPORT_FHIR; format++) {
        n_own += fail_export(&memory, (export_format)format, false);
        n_jansson += fail_export(&jansson, (export_format)format, true);
    }
    print_message("exports: %ld runs for our own allocations, %ld for jansson's\n", n_own, n_jansson);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {T(every_allocation), T(every_file_operation), T(every_allocation_of_an_export)};
    install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
