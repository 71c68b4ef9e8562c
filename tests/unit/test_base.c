/* base: known answers of the random numbers, the arena, checked arithmetic, the cursor, and files as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/cursor.h"
#include "base/file.h"
#include "base/rng.h"

/* ---------------------------------------------------------------- rng */

/* Philox 4x32-10. Source: Random123 1.14, tests/kat_vectors: counter, key, result. */
static const struct {
    uint32_t counter[4], key[2], want[4];
    const char *why;
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, "all zero"},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
     "all ones"},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
     "digits of pi"},
};

static void rng_known_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint64_t index = known[i].counter[0] | (uint64_t)known[i].counter[1] << 32;
        const uint64_t stream = known[i].counter[2] | (uint64_t)known[i].counter[3] << 32;
        const uint64_t seed = known[i].key[0] | (uint64_t)known[i].key[1] << 32;
        const rng_block b = rng_at(seed, stream, index);
        if (memcmp(b.v, known[i].want, sizeof b.v) != 0) fail_msg("%s: %08x...", known[i].why, b.v[0]);
    }
}

static void rng_is_uniform(void **state) {
    enum { N = 100000, BINS = 100 };
    static int bins[BINS];
    double sum = 0;
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        const double u = rng_uniform(42, 7, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        bins[(int)(u * BINS)]++;
    }
    double chi = 0;
    for (int i = 0; i < BINS; i++) chi += (bins[i] - N / BINS) * (bins[i] - N / BINS) / (double)(N / BINS);
    assert_true(chi > 50 && chi < 160); /* 99 degrees of freedom: 5 sigma is 70 */
    assert_true(sum / N > 0.495 && sum / N < 0.505);
    assert_true(rng_uniform(42, 7, 0) != rng_uniform(43, 7, 0) && rng_uniform(42, 7, 0) != rng_uniform(42, 8, 0));
}

/* ---------------------------------------------------------------- arena */

static void arena_gives_zeroed_aligned_memory(void **state) {
    static const struct {
        size_t count, size;
        const char *why;
    } cases[] = {
        {1, 1, "one byte"},
        {0, 8, "no bytes: still a place of its own"},
        {64, 1, "a line"},
        {65, 1, "a line and one"},
        {1000, 64, "nearly a block"},
        {1 << 16, 1, "a block"},
        {(1 << 16) + 1, 1, "larger"},
        {1 << 20, 3, "its own block"},
        {3, 7, "small after large"},
    };
    arena a = {0};
    unsigned char *last = NULL;
    (void)state;
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const size_t n = cases[i].count * cases[i].size;
            unsigned char *p = arena_alloc(&a, cases[i].count, cases[i].size);
            assert_non_null(p);
            assert_true(p != last);
            assert_int_equal((uintptr_t)p % 64, 0);
            for (size_t k = 0; k < n; k++) assert_int_equal(p[k], 0);
            memset(p, 0xAB, n); /* a later piece that overlaps would not be zero */
            last = p;
        }
    assert_true(a.n_bytes >= 20 * (3u << 20));
    arena_free(&a);
    assert_null(a.head);
    assert_int_equal(a.n_bytes, 0);
    arena_free(&a);
}

static void arena_refuses_overflow(void **state) {
    arena a = {0};
    (void)state;
    assert_null(arena_alloc(&a, SIZE_MAX, 2));
    assert_null(arena_alloc(&a, SIZE_MAX, 1));
    assert_null(arena_alloc(&a, SIZE_MAX - 63, 1));
    assert_null(arena_alloc(&a, SIZE_MAX / 2, 1));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    assert_int_equal(a.n_bytes, 0);
    char *s = arena_strndup(&a, "abc\0def", 7);
    assert_memory_equal(s, "abc\0def", 8);
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    arena_free(&a);
}

/* ---------------------------------------------------------------- checked arithmetic */

static void checked(void **state) {
    uint64_t u = 5;
    size_t s = 5;
    (void)state;
    assert_true(u64_add(UINT64_MAX - 1, 1, &u) && u == UINT64_MAX);
    u = 5;
    assert_false(u64_add(UINT64_MAX, 1, &u));
    assert_false(u64_mul((uint64_t)1 << 32, (uint64_t)1 << 32, &u));
    assert_false(u64_pad(UINT64_MAX, 2, &u));
    assert_false(u64_pad(UINT64_MAX - 30, 32, &u));
    assert_int_equal(u, 5); /* left alone */
    assert_true(u64_mul(((uint64_t)1 << 32) - 1, ((uint64_t)1 << 32) + 1, &u) && u == UINT64_MAX);
    assert_true(u64_pad(UINT64_MAX - 31, 32, &u) && u == UINT64_MAX - 31);
    assert_true(u64_pad(0, 32, &u) && u == 0);
    assert_true(u64_pad(1, 1, &u) && u == 1);
    assert_true(u64_pad(33, 32, &u) && u == 64);
    assert_true(size_add(1, 2, &s) && s == 3);
    assert_true(size_mul(SIZE_MAX, 1, &s) && s == SIZE_MAX);
    s = 5;
    assert_false(size_add(SIZE_MAX, 1, &s));
    assert_false(size_mul(SIZE_MAX, 2, &s));
    assert_int_equal(s, 5);
    assert_false(is_pow2(0));
    assert_true(is_pow2(1) && is_pow2((uint64_t)1 << 63));
    assert_false(is_pow2(3) || is_pow2(UINT64_MAX));
}

/* ---------------------------------------------------------------- cursor */

static void cursor_reads_little_endian(void **state) {
    static const uint8_t bytes[] = {0xff, 1, 2, 1, 2,    3, 0x80, 1, 2, 3, 4, 5,    6,    7,
                                    0x88, 0, 0, 0, 0x3f, 0, 0,    0, 0, 0, 0, 0xf0, 0xbf, 'x'};
    cursor c = cursor_of(bytes, sizeof bytes);
    (void)state;
    assert_int_equal(cursor_u8(&c), 0xff);
    assert_int_equal(cursor_u16(&c), 0x0201);
    assert_int_equal(cursor_u32(&c), 0x80030201u);
    assert_true(cursor_u64(&c) == 0x8807060504030201u);
    assert_true(cursor_f32(&c) == 0.5f);
    assert_true(cursor_f64(&c) == -1.0);
    assert_int_equal(cursor_left(&c), 1);
    assert_int_equal(*cursor_bytes(&c, 1), 'x');
    assert_false(c.bad);
    assert_non_null(cursor_bytes(&c, 0));
    assert_false(c.bad);
}

/* A read past the end: bad, zero, and never good again. */
static void cursor_stops_at_the_end(void **state) {
    static const uint64_t wanted[] = {1, 2, 3, 7, 8, 9, (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX};
    (void)state;
    for (size_t left = 0; left < 8; left++)
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
            uint8_t *bytes = calloc(1, left + 2); /* its very size, so that ASan sees a read too far */
            cursor c = cursor_of(bytes, left + 2);
            (void)cursor_u16(&c);
            const uint8_t *p = cursor_bytes(&c, wanted[i]);
            assert_int_equal(p != NULL, wanted[i] <= left);
            assert_int_equal(c.bad, wanted[i] > left);
            if (c.bad) {
                assert_int_equal(c.pos, 2);
                assert_int_equal(cursor_left(&c), 0);
                assert_int_equal(cursor_u8(&c), 0);
                assert_null(cursor_bytes(&c, 0));
                assert_true(c.bad);
            }
            free(bytes);
        }
    uint8_t three[3] = {1, 2, 3};
    cursor c = cursor_of(three, 3);
    assert_int_equal(cursor_u32(&c), 0);
    assert_true(c.bad);
    c = cursor_of(NULL, 0);
    assert_int_equal(cursor_u8(&c), 0);
    assert_true(c.bad);
}

/* ---------------------------------------------------------------- files */

static char dir[] = "/tmp/galen-test-base-XXXXXX";
static char path[128];

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    return rmdir(dir);
}

static const char *in_dir(const char *name) {
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, size_t n) {
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) (void)fputc((int)(i % 251), f);
    assert_int_equal(fclose(f), 0);
}

static int open_files(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) {
        struct stat st;
        if (fstat(fd, &st) == 0) n++;
    }
    return n;
}

static void file_maps(void **state) {
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    const int before = open_files();
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        file_map f;
        galen_error err = {0};
        write_file("some", sizes[i]);
        assert_int_equal(file_map_open(&f, path, &err), GALEN_OK);
        assert_int_equal(f.n, sizes[i]);
        for (size_t k = 0; k < f.n; k++) assert_int_equal(((const uint8_t *)f.bytes)[k], k % 251);
        if (sizes[i] == 0) assert_null(f.bytes);
        assert_int_equal(file_map_check(&f, path, &err), GALEN_OK);
        file_map_close(&f);
        file_map_close(&f);
        assert_int_equal(unlink(path), 0);
    }
    file_map zero = {0};
    file_map_close(&zero); /* must not close standard input */
    assert_int_equal(open_files(), before);
}

/* What is no regular file is refused at once, without being read. */
static void file_refusals(void **state) {
    const int before = open_files();
    galen_error err;
    file_map f;
    (void)state;
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(symlink("loop", in_dir("loop")), 0);
    assert_int_equal(symlink("/dev/zero", in_dir("to-zero")), 0);
    const struct {
        const char *path, *said;
        galen_status want;
        const char *why;
    } cases[] = {
        {"/dev/zero", "not a regular file", GALEN_E_IO, "endless"},
        {"/dev/random", "not a regular file", GALEN_E_IO, "endless"},
        {"/dev/null", "not a regular file", GALEN_E_IO, "a device"},
        {dir, "not a regular file", GALEN_E_IO, "a folder"},
        {"fifo", "not a regular file", GALEN_E_IO, "would wait for a writer"},
        {"to-zero", "not a regular file", GALEN_E_IO, "through a link"},
        {"loop", "", GALEN_E_IO, "a link to itself"},
        {"none", "No such file", GALEN_E_NOT_FOUND, "not there"},
        {"/dev/null/x", "Not a directory", GALEN_E_NOT_FOUND, "under a file"},
        {"", "", GALEN_E_NOT_FOUND, "no name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool is_ours = cases[i].path[0] && cases[i].path[0] != '/';
        memset(&f, 0xAA, sizeof f);
        err = (galen_error){0};
        const galen_status st = file_map_open(&f, is_ours ? in_dir(cases[i].path) : cases[i].path, &err);
        if (st != cases[i].want) fail_msg("%s: status %d, expected %d", cases[i].why, st, cases[i].want);
        assert_int_equal(err.code, st);
        assert_non_null(strstr(err.msg, cases[i].said));
        assert_null(f.bytes);
        assert_int_equal(f.n, 0);
        file_map_close(&f);
    }
    assert_int_equal(unlink(in_dir("fifo")), 0);
    assert_int_equal(unlink(in_dir("loop")), 0);
    assert_int_equal(unlink(in_dir("to-zero")), 0);
    assert_int_equal(open_files(), before);
}

static void file_without_permission(void **state) {
    file_map f;
    (void)state;
    write_file("closed", 10);
    assert_int_equal(chmod(path, 0), 0);
    const galen_status st = file_map_open(&f, path, NULL);
    assert_int_equal(st, access(path, R_OK) == 0 ? GALEN_OK : GALEN_E_IO); /* root may read it all the same */
    file_map_close(&f);
    assert_int_equal(unlink(path), 0);
}

/* Another process cuts the file: the check says so before anyone touches the lost pages. Growing it is no harm. */
static void file_cut_while_mapped(void **state) {
    file_map f;
    galen_error err = {0};
    (void)state;
    write_file("shrinks", 10000);
    assert_int_equal(file_map_open(&f, path, &err), GALEN_OK);
    assert_int_equal(truncate(path, 20000), 0);
    assert_int_equal(file_map_check(&f, path, &err), GALEN_OK);
    assert_int_equal(truncate(path, 9999), 0);
    assert_int_equal(file_map_check(&f, path, &err), GALEN_E_IO);
    assert_int_equal(err.offset, 9999);
    assert_non_null(strstr(err.msg, "10000"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(file_map_check(&f, path, &err), GALEN_E_IO); /* the open file, not the name */
    file_map_close(&f);
}

/* A file replaced under its name (write, rename) leaves the old one whole. */
static void file_replaced_while_mapped(void **state) {
    file_map f;
    char other[160];
    (void)state;
    write_file("new", 5);
    (void)snprintf(other, sizeof other, "%s", path);
    write_file("old", 10000);
    assert_int_equal(file_map_open(&f, path, NULL), GALEN_OK);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(file_map_check(&f, path, NULL), GALEN_OK);
    assert_int_equal(((const uint8_t *)f.bytes)[9999], 9999 % 251);
    file_map_close(&f);
    assert_int_equal(unlink(path), 0);
}

/* 1 TiB of holes costs address space only. */
static void file_sparse(void **state) {
    file_map f;
    galen_error err = {0};
    (void)state;
    write_file("sparse", 1);
    if (truncate(path, (off_t)1 << 40) == 0) {
        const galen_status st = file_map_open(&f, path, &err);
        assert_true(st == GALEN_OK || st == GALEN_E_NOMEM || st == GALEN_E_IO);
        if (st == GALEN_OK) assert_int_equal(f.n, (size_t)1 << 40);
        file_map_close(&f);
    }
    assert_int_equal(unlink(path), 0);
}

/* ---------------------------------------------------------------- errors, clock */

static void errors(void **state) {
    galen_error err;
    char much[1000];
    (void)state;
    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = 0;
    memset(&err, 0xAA, sizeof err);
    assert_int_equal(galen_fail(&err, GALEN_E_FORMAT, 77, "%s: %d", "blk.3", 5), GALEN_E_FORMAT);
    assert_int_equal(err.code, GALEN_E_FORMAT);
    assert_int_equal(err.offset, 77);
    assert_string_equal(err.msg, "blk.3: 5");
    assert_int_equal(galen_fail(&err, GALEN_E_IO, 0, "%s", much), GALEN_E_IO);
    assert_int_equal(strlen(err.msg), GALEN_ERROR_MSG_BYTES - 1);
    assert_int_equal(galen_fail(NULL, GALEN_E_IO, 0, "%s", much), GALEN_E_IO);
#define X(name, value, text) assert_string_equal(galen_status_text(name), text);
    GALEN_STATUS_TABLE(X)
#undef X
    assert_string_equal(galen_status_text((galen_status)-999), "unknown status");
}

static void clock_goes_forward(void **state) {
    uint64_t last = clock_monotonic_ns();
    (void)state;
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_known_answers),
        cmocka_unit_test(rng_is_uniform),
        cmocka_unit_test(arena_gives_zeroed_aligned_memory),
        cmocka_unit_test(arena_refuses_overflow),
        cmocka_unit_test(checked),
        cmocka_unit_test(cursor_reads_little_endian),
        cmocka_unit_test(cursor_stops_at_the_end),
        cmocka_unit_test(file_maps),
        cmocka_unit_test(file_refusals),
        cmocka_unit_test(file_without_permission),
        cmocka_unit_test(file_cut_while_mapped),
        cmocka_unit_test(file_replaced_while_mapped),
        cmocka_unit_test(file_sparse),
        cmocka_unit_test(errors),
        cmocka_unit_test(clock_goes_forward),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
