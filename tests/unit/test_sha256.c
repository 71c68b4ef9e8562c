/* SHA-256 and HMAC against published answers; files hashed by blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"

/* Source: FIPS 180-2, appendix B; the empty text: NIST's CAVP, SHA256ShortMsg. */
static const struct {
    const char *text;
    size_t n_times;
    const char *want, *why;
} hashes[] = {
    {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "empty"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "B.1"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", "B.2, two blocks"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "B.3, a million bytes in pieces of one"},
};

static void known_hashes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        uint8_t out[SHA256_BYTES];
        char hex[SHA256_HEX_BYTES];
        sha256 s;
        sha256_start(&s);
        for (size_t k = 0; k < hashes[i].n_times; k++) sha256_add(&s, hashes[i].text, strlen(hashes[i].text));
        sha256_end(&s, out);
        sha256_hex(out, hex);
        if (strcmp(hex, hashes[i].want) != 0) fail_msg("%s: %s", hashes[i].why, hex);
        if (hashes[i].n_times > 1) continue;
        sha256_of(hashes[i].text, strlen(hashes[i].text), out);
        sha256_hex(out, hex);
        assert_string_equal(hex, hashes[i].want);
    }
}

/* Source: RFC 4231, test cases 1, 2 and 6. */
static const struct {
    uint8_t key_byte;
    size_t n_key;
    const char *key, *text, *want;
} macs[] = {
    {0x0b, 20, NULL, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {0, 4, "Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {0xaa, 131, NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
};

static void known_macs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof macs / sizeof *macs; i++) {
        uint8_t key[256], out[SHA256_BYTES];
        char hex[SHA256_HEX_BYTES];
        hmac256 h;
        memset(key, macs[i].key_byte, sizeof key);
        hmac256_start(&h, macs[i].key ? (const void *)macs[i].key : key, macs[i].n_key);
        hmac256_add(&h, macs[i].text, 3);
        hmac256_add(&h, macs[i].text + 3, strlen(macs[i].text) - 3);
        hmac256_end(&h, out);
        sha256_hex(out, hex);
        assert_string_equal(hex, macs[i].want);
    }
}

static bool never(void *user, uint64_t done, uint64_t total) {
    uint64_t *seen = user;
    *seen = done;
    return total == 0;
}

static void files(void **state) {
    char path[] = "/tmp/galen-sha256-XXXXXX", folder[] = "/tmp/galen-sha256-XXXXXX";
    uint8_t out[SHA256_BYTES], want[SHA256_BYTES];
    galen_error err = {0};
    enum { N = (3 << 20) + 17 };
    uint8_t *bytes = calloc(1, N);
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && bytes);
    assert_int_equal(sha256_file(path, NULL, NULL, out, &err), GALEN_OK);
    sha256_of("", 0, want);
    assert_memory_equal(out, want, SHA256_BYTES);
    for (size_t i = 0; i < N; i++) bytes[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(write(fd, bytes, N), N);
    assert_int_equal(sha256_file(path, NULL, NULL, out, &err), GALEN_OK);
    sha256_of(bytes, N, want);
    assert_memory_equal(out, want, SHA256_BYTES);
    uint64_t seen = 0;
    assert_int_equal(sha256_file(path, never, &seen, out, &err), GALEN_E_CANCELLED);
    assert_int_equal(seen, 1 << 20);
    close(fd);
    unlink(path);
    free(bytes);
    assert_int_equal(sha256_file(path, NULL, NULL, out, &err), GALEN_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(sha256_file(folder, NULL, NULL, out, &err), GALEN_E_IO);
    char fifo[64];
    (void)snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(sha256_file(fifo, NULL, NULL, out, &err), GALEN_E_IO);
    assert_non_null(strstr(err.msg, "not a regular file"));
    unlink(fifo);
    rmdir(folder);
}

static void comparison(void **state) {
    (void)state;
    assert_true(bytes_equal_constant_time("abc", "abc", 3));
    assert_false(bytes_equal_constant_time("abc", "abd", 3));
    assert_true(bytes_equal_constant_time("abc", "abd", 2));
    assert_true(bytes_equal_constant_time("", "", 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_hashes), cmocka_unit_test(known_macs), cmocka_unit_test(files),
                                       cmocka_unit_test(comparison)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
