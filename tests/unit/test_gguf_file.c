/* Files and split sets: what belongs together is brought together, anything else is an error that names both sides.
 * G19 (split sets), G21 (truncation while mapped), G22 (things that are no model file). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three that it needs */
#include <cmocka.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_bytes.h"

enum { PATH_ROOM = 256 };

static char folder[128];

static const char *path_of(char buf[PATH_ROOM], const char *name) {
    (void)snprintf(buf, PATH_ROOM, "%s/%s", folder, name);
    return buf;
}

static int make_folder(void **state) {
    const char *base = getenv("TMPDIR");
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/galen-gguf-XXXXXX", base && strlen(base) < 64 ? base : P_tmpdir);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    char command[160];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 && access(folder, F_OK) != 0 ? 0 : -1;
}

static void put_kv_int(blob *b, const char *key, uint32_t type, uint64_t v, size_t n) {
    blob_str(b, key);
    blob_le(b, type, 4);
    blob_le(b, v, n);
}

/* What one part file says. Part k holds tensors t<2k> and t<2k + 1>, F32 [4], whose data is filled with their number. */
typedef struct part {
    bool is_missing;
    int no, count, n_tensors; /* -1 = the key is absent */
    int first_tensor;
    const char *arch; /* NULL = none */
} part;

static blob part_file(const part *p) {
    blob b = {0};
    char name[16];
    const int n_kv = (p->no >= 0) + (p->count >= 0) + (p->n_tensors >= 0) + (p->arch != NULL);
    blob_add(&b, "GGUF\3\0\0\0", 8);
    blob_le(&b, 2, 8);
    blob_le(&b, (uint64_t)n_kv, 8);
    if (p->arch) {
        blob_str(&b, "general.architecture");
        blob_le(&b, 8, 4);
        blob_str(&b, p->arch);
    }
    if (p->no >= 0) put_kv_int(&b, "split.no", 2, (uint64_t)p->no, 2);
    if (p->count > 65535) put_kv_int(&b, "split.count", 4, (uint64_t)p->count, 4);
    if (p->count >= 0 && p->count <= 65535) put_kv_int(&b, "split.count", 2, (uint64_t)p->count, 2);
    if (p->n_tensors >= 0) put_kv_int(&b, "split.tensors.count", 5, (uint64_t)p->n_tensors, 4);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "t%d", p->first_tensor + i);
        blob_str(&b, name);
        blob_le(&b, 1, 4);
        blob_le(&b, 4, 8);
        blob_le(&b, 0, 4);
        blob_le(&b, 32 * (uint64_t)i, 8);
    }
    blob_pad(&b, 32);
    for (int i = 0; i < 2; i++) {
        blob_fill(&b, (uint8_t)(p->first_tensor + i), 16);
        blob_pad(&b, 32);
    }
    return b;
}

static void save(const char *name, const blob *b) {
    char path[PATH_ROOM];
    assert_int_equal(blob_save(b, path_of(path, name)), 0);
}

static void save_part(const char *stem, int number, int of, const part *p) {
    char name[PATH_ROOM];
    blob b = part_file(p);
    (void)snprintf(name, sizeof name, "%s-%05d-of-%05d.gguf", stem, number, of);
    save(name, &b);
    blob_free(&b);
}

/* A good set of three; each row changes one part and says what the error must name. */
static const struct {
    const char *what;
    int changed; /* which part */
    part part;
    int opened;
    galen_status st;
    const char *says[3];
} sets[] = {
    {"good", 0, {false, 0, 3, 6, 0, "llama"}, 0, GALEN_OK, {NULL}},
    {"later parts may name the architecture", 1, {false, 1, 3, 6, 2, "llama"}, 0, GALEN_OK, {NULL}},
    {"missing part",
     1,
     {.is_missing = true},
     0,
     GALEN_E_NOT_FOUND,
     {"s-00002-of-00003.gguf: not found", "part 2 of 3 of", "s-00001-of-00003.gguf"}},
    {"missing last part",
     2,
     {.is_missing = true},
     0,
     GALEN_E_NOT_FOUND,
     {"s-00003-of-00003.gguf: not found", "part 3 of 3 of", "s-00001-of-00003.gguf"}},
    {"duplicate: part 2 is a copy of part 3",
     1,
     {false, 2, 3, 6, 4, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: split.no is 2, expected 1", "part 2 of", "s-00001-of-00003.gguf"}},
    {"part 2 is a copy of part 1",
     1,
     {false, 0, 3, 6, 0, "llama"},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: split.no is 0, expected 1"}},
    {"foreign: of a set of 4",
     1,
     {false, 1, 4, 6, 2, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: split.count is 4, expected 3", "s-00001-of-00003.gguf"}},
    {"foreign: of a set with more tensors",
     1,
     {false, 1, 3, 8, 2, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: split.tensors.count is 8, expected 6", "s-00001-of-00003.gguf"}},
    {"foreign: another architecture",
     2,
     {false, 2, 3, 6, 4, "gemma3"},
     0,
     GALEN_E_FORMAT,
     {"s-00003-of-00003.gguf: architecture gemma3, expected llama", "s-00001-of-00003.gguf"}},
    {"foreign: a whole model",
     1,
     {false, -1, -1, -1, 2, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: split.count is 1, expected 3"}},
    {"foreign: tensors that the first part has",
     1,
     {false, 1, 3, 6, 0, NULL},
     0,
     GALEN_E_FORMAT,
     {"tensor t0", "part 1", "part 2"}},
    {"split.no past split.count",
     1,
     {false, 3, 3, 6, 2, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf", "split.no: 3", "0 to 2"}},
    {"split.no absent", 0, {false, -1, 3, 6, 0, NULL}, 0, GALEN_E_FORMAT, {"s-00001-of-00003.gguf", "split.no: missing"}},
    {"split.tensors.count absent",
     0,
     {false, 0, 3, -1, 0, NULL},
     0,
     GALEN_E_FORMAT,
     {"s-00001-of-00003.gguf", "split.tensors.count: missing"}},
    {"split.tensors.count below this part's",
     0,
     {false, 0, 3, 1, 0, NULL},
     0,
     GALEN_E_FORMAT,
     {"split.tensors.count: 1", "expected 2"}},
    {"split.tensors.count 2^31 - 1",
     0,
     {false, 0, 3, INT32_MAX, 0, NULL},
     0,
     GALEN_E_FORMAT,
     {"split.tensors.count: 2147483647", "65536"}},
    {"split.count 0", 0, {false, 0, 0, 6, 0, NULL}, 0, GALEN_E_FORMAT, {"s-00001-of-00003.gguf", "split.count: 0", "1 to 65535"}},
    {"split.count 2^16", 0, {false, 0, 65536, 6, 0, NULL}, 0, GALEN_E_FORMAT, {"split.count: 65536", "1 to 65535"}},
    {"split.count of another name", 0, {false, 0, 2, 6, 0, NULL}, 0, GALEN_E_FORMAT, {"named part 1 of 3", "part 1 of 2"}},
    {"split.no of another name", 0, {false, 1, 3, 6, 0, NULL}, 0, GALEN_E_FORMAT, {"named part 1 of 3", "part 2 of 3"}},
    {"opening the second part",
     0,
     {false, 0, 3, 6, 0, NULL},
     1,
     GALEN_E_FORMAT,
     {"s-00002-of-00003.gguf: part 2 of 3", "open the first part", "s-00001-of-00003.gguf"}},
    {"opening the last part",
     0,
     {false, 0, 3, 6, 0, NULL},
     2,
     GALEN_E_FORMAT,
     {"s-00003-of-00003.gguf: part 3 of 3", "open the first part", "s-00001-of-00003.gguf"}},
};

static void check_set(const gguf *g) {
    assert_int_equal(gguf_n_files(g), 3);
    assert_int_equal(gguf_n_tensors(g), 6);
    assert_true(gguf_str_eq(gguf_kv_str(gguf_find(g, "general.architecture")), "llama"));
    assert_int_equal(gguf_check(g, NULL), GALEN_OK);
    uint64_t bytes = 0;
    for (int i = 0; i < 6; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%d", i);
        const gguf_tensor *t = gguf_find_tensor(g, name);
        assert_non_null(t);
        assert_ptr_equal(t, gguf_tensor_at(g, (size_t)i));
        assert_int_equal(t->part, i / 2);
        assert_int_equal(((const uint8_t *)t->data)[15], i);
        if (i % 2) bytes += t->offset + 32;
    }
    assert_int_equal(gguf_file_bytes(g), bytes);
}

static void test_split_sets(void **state) {
    int n_bad = 0;
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char path[PATH_ROOM], name[64];
        galen_error err = {0};
        gguf *g = NULL;
        for (int k = 0; k < 3; k++) {
            const part good = {false, k, 3, 6, 2 * k, k == 0 ? "llama" : NULL};
            const part *p = k == sets[i].changed ? &sets[i].part : &good;
            (void)snprintf(name, sizeof name, "s-%05d-of-00003.gguf", k + 1);
            (void)unlink(path_of(path, name));
            if (!p->is_missing) save_part("s", k + 1, 3, p);
        }
        (void)snprintf(name, sizeof name, "s-%05d-of-00003.gguf", sets[i].opened + 1);
        const galen_status st = gguf_open(&g, path_of(path, name), &err);
        bool is_good = st == sets[i].st && (g != NULL) == (st == GALEN_OK) && (!st || err.code == st);
        for (int k = 0; k < 3 && sets[i].says[k]; k++) is_good = is_good && strstr(err.msg, sets[i].says[k]);
        if (!is_good) print_error("%s: status %d (expected %d), \"%s\"\n", sets[i].what, st, sets[i].st, err.msg);
        if (st == GALEN_OK) check_set(g);
        n_bad += !is_good;
        gguf_close(g);
    }
    assert_int_equal(n_bad, 0);
}

/* A part that is itself malformed is named, with the offset in it. */
static void test_split_malformed_part(void **state) {
    char path[PATH_ROOM];
    galen_error err = {0};
    gguf *g = NULL;
    (void)state;
    for (int k = 0; k < 2; k++) {
        const part p = {false, k, 2, 4, 2 * k, NULL};
        blob b = part_file(&p);
        if (k == 1) blob_poke(&b, 4, 9, 4);
        save(k ? "m-00002-of-00002.gguf" : "m-00001-of-00002.gguf", &b);
        blob_free(&b);
    }
    assert_int_equal(gguf_open(&g, path_of(path, "m-00001-of-00002.gguf"), &err), GALEN_E_UNSUPPORTED);
    assert_int_equal(err.offset, 4);
    assert_non_null(strstr(err.msg, "m-00002-of-00002.gguf: offset 4: version: 9"));
}

/* A renamed first part cannot find its siblings: the error says what name it needs. A whole model may have any name. */
static void test_split_names(void **state) {
    static const struct {
        const char *name;
        int count;
        galen_status st;
    } cases[] = {
        {"renamed.gguf", 3, GALEN_E_FORMAT},
        {"-00001-of-00003.gguf", 3, GALEN_E_NOT_FOUND}, /* an empty stem is a name: the folder stands before it */
        {"x-0001-of-00003.gguf", 3, GALEN_E_FORMAT},
        {"x-00001-of-00003.GGUF", 3, GALEN_E_FORMAT},
        {"whole.gguf", 1, GALEN_OK},
        {"whole-00001-of-00009.gguf", 1, GALEN_OK},
        {"no-extension", -1, GALEN_OK},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[PATH_ROOM];
        galen_error err = {0};
        gguf *g = NULL;
        const part p = {false, 0, cases[i].count, 2, 0, NULL};
        blob b = part_file(&p);
        save(cases[i].name, &b);
        const galen_status st = gguf_open(&g, path_of(path, cases[i].name), &err);
        if (st != cases[i].st) fail_msg("%s: %d, \"%s\"", cases[i].name, st, err.msg);
        if (st == GALEN_E_FORMAT) assert_non_null(strstr(err.msg, "-00001-of-00003.gguf"));
        if (st == GALEN_OK) assert_string_equal(gguf_label(g), path);
        gguf_close(g);
        blob_free(&b);
    }
}

/* A set opened from its own folder, with nothing before the numbers. */
static void test_split_relative(void **state) {
    gguf *g = NULL;
    galen_error err = {0};
    const int here = open(".", O_RDONLY | O_DIRECTORY);
    (void)state;
    for (int k = 0; k < 2; k++) {
        const part p = {false, k, 2, 4, 2 * k, NULL};
        save_part("", k + 1, 2, &p);
    }
    assert_int_equal(chdir(folder), 0);
    const galen_status st = gguf_open(&g, "-00001-of-00002.gguf", &err);
    assert_int_equal(fchdir(here), 0);
    (void)close(here);
    assert_int_equal(st, GALEN_OK);
    assert_int_equal(gguf_n_tensors(g), 4);
    gguf_close(g);
}

/* ---- G21, G22 ---- */

static void test_cut_while_open(void **state) {
    char path[PATH_ROOM];
    galen_error err = {0};
    gguf *g = NULL;
    (void)state;
    for (int which = 0; which < 2; which++) { /* also a part that is not the first */
        for (int k = 0; k < 2; k++) {
            const part p = {false, k, 2, 4, 2 * k, NULL};
            save_part("c", k + 1, 2, &p);
        }
        assert_int_equal(gguf_open(&g, path_of(path, "c-00001-of-00002.gguf"), &err), GALEN_OK);
        assert_int_equal(gguf_check(g, &err), GALEN_OK);
        assert_int_equal(truncate(path_of(path, which ? "c-00002-of-00002.gguf" : "c-00001-of-00002.gguf"), 100), 0);
        assert_int_equal(gguf_check(g, &err), GALEN_E_IO);
        assert_non_null(strstr(err.msg, which ? "c-00002-of-00002.gguf: cut from" : "c-00001-of-00002.gguf: cut from"));
        gguf_close(g);
    }
}

static void test_replaced_while_open(void **state) {
    char path[PATH_ROOM], other[PATH_ROOM];
    galen_error err = {0};
    gguf *g = NULL;
    const part p = {false, -1, -1, -1, 0, NULL}, q = {false, -1, -1, -1, 8, NULL};
    blob b = part_file(&p), c = part_file(&q);
    (void)state;
    save("old.gguf", &b);
    save("new.gguf", &c);
    assert_int_equal(gguf_open(&g, path_of(path, "old.gguf"), &err), GALEN_OK);
    assert_int_equal(rename(path_of(other, "new.gguf"), path), 0);
    assert_int_equal(gguf_check(g, &err), GALEN_OK); /* the map still has the old file */
    assert_int_equal(((const uint8_t *)gguf_find_tensor(g, "t1")->data)[0], 1);
    gguf_close(g);
    blob_free(&b);
    blob_free(&c);
}

static void sparse(const char *name, uint64_t n_kv, off_t n_bytes) {
    char path[PATH_ROOM];
    blob b = {0};
    blob_add(&b, "GGUF\3\0\0\0", 8);
    blob_le(&b, 0, 8);
    blob_le(&b, n_kv, 8);
    save(name, &b);
    blob_free(&b);
    if (truncate(path_of(path, name), n_bytes) != 0) print_message("%s: no sparse files here\n", name);
}

static void test_no_model_file(void **state) {
    static const struct {
        const char *path; /* absolute, or in the folder */
        galen_status st;
        const char *says;
    } cases[] = {
        {"absent.gguf", GALEN_E_NOT_FOUND, "absent.gguf"},
        {"empty.gguf", GALEN_E_FORMAT, "the file is empty"},
        {"fifo.gguf", GALEN_E_IO, "not a regular file"},
        {"folder.gguf", GALEN_E_IO, "folder.gguf"},
        {"/dev/zero", GALEN_E_IO, "not a regular file"},
        {"/dev/random", GALEN_E_IO, "not a regular file"},
        {"loop.gguf", GALEN_E_IO, "loop.gguf"},
        {"empty.gguf/below", GALEN_E_NOT_FOUND, "below"},
        {"sparse.gguf", GALEN_E_FORMAT, "trailing"},
        {"counts.gguf", GALEN_E_FORMAT, "n_kv: 2147483648, expected at most 65536"},
        {"zeros.gguf", GALEN_E_FORMAT, "key 0, name length: 0"},
    };
    char path[PATH_ROOM];
    const blob none = {0};
    (void)state;
    save("empty.gguf", &none);
    assert_int_equal(mkfifo(path_of(path, "fifo.gguf"), 0600), 0);
    assert_int_equal(mkdir(path_of(path, "folder.gguf"), 0700), 0);
    assert_int_equal(symlink("loop.gguf", path_of(path, "loop.gguf")), 0);
    sparse("sparse.gguf", 0, (off_t)1 << 40);
    sparse("counts.gguf", 1ull << 31, (off_t)1 << 40);
    sparse("zeros.gguf", 65536, (off_t)1 << 40);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        galen_error err = {0};
        gguf *g = NULL;
        const double start = cpu_ms();
        const galen_status st = gguf_open(&g, cases[i].path[0] == '/' ? cases[i].path : path_of(path, cases[i].path), &err);
        if (st != cases[i].st || !strstr(err.msg, cases[i].says)) fail_msg("%s: %d, \"%s\"", cases[i].path, st, err.msg);
        assert_null(g);
        assert_true(cpu_ms() - start <= 100);
    }
}

static void test_no_permission(void **state) {
    char path[PATH_ROOM];
    galen_error err = {0};
    gguf *g = NULL;
    const part p = {false, -1, -1, -1, 0, NULL};
    blob b = part_file(&p);
    (void)state;
    save("secret.gguf", &b);
    blob_free(&b);
    assert_int_equal(chmod(path_of(path, "secret.gguf"), 0), 0);
    const galen_status st = gguf_open(&g, path, &err);
    if (geteuid() == 0) { /* root may read anything */
        assert_int_equal(st, GALEN_OK);
    } else {
        assert_int_equal(st, GALEN_E_IO);
        assert_non_null(strstr(err.msg, "secret.gguf"));
    }
    gguf_close(g);
}

/* A path of a thousand bytes leaves room in the message for the reason. */
static void test_long_path(void **state) {
    char label[1200];
    galen_error err = {0};
    gguf *g = NULL;
    (void)state;
    memset(label, 'p', sizeof label);
    memcpy(label + sizeof label - 6, ".gguf", 6);
    assert_int_equal(gguf_parse(&g, "GGUF\1\0\0\0", 8, label, &err), GALEN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "ppp.gguf: offset 4: version: 1, expected 2 or 3"));
    assert_memory_equal(err.msg, "...ppp", 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_sets),     cmocka_unit_test(test_split_malformed_part),
        cmocka_unit_test(test_split_names),    cmocka_unit_test(test_split_relative),
        cmocka_unit_test(test_cut_while_open), cmocka_unit_test(test_replaced_while_open),
        cmocka_unit_test(test_no_model_file),  cmocka_unit_test(test_no_permission),
        cmocka_unit_test(test_long_path),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
