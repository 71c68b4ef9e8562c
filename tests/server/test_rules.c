/* The server's rules that need no socket: keys, hosts and origins, growing bytes, figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/bytes.h"
#include "server/hosts.h"
#include "server/keys.h"
#include "server/metrics.h"

#define KEY_A "abcdefghijklmnop"
#define KEY_B "ABCDEFGHIJKLMNOP"
#define K32   "0123456789abcdef0123456789abcdef"
#define K128  K32 K32 K32 K32

static const struct {
    const char *text;
    int n_keys; /* -1: refused */
    const char *why;
} files[] = {
    {"", 0, "an empty file"},
    {"# nothing\n\n  \t\n", 0, "comments and blanks"},
    {"alice clinician " KEY_A "\n", 1, "one key"},
    {"alice clinician " KEY_A, 1, "no line end"},
    {"alice clinician " KEY_A " # hers\r\n", 1, "a comment behind, CR LF"},
    {"\t alice\tclinician\t" KEY_A "\t\n", 1, "tabs"},
    {"a clinician " KEY_A "\nb auditor " KEY_B "\n", 2, "two keys, case counts"},
    {"a admin " K128 "\n", 1, "the longest key"},
    {"a admin " K128 "x\n", -1, "one byte over"},
    {"a admin abcdefghijklmno\n", -1, "one byte under"},
    {"a king " KEY_A "\n", -1, "no such role"},
    {"a clinician\n", -1, "two words"},
    {"a clinician " KEY_A " more\n", -1, "four words"},
    {"a clinician " KEY_A "\nb admin " KEY_A "\n", -1, "the same key twice: whose role?"},
    {"a clin\"ician " KEY_A "\n", -1, "a quote"},
    {"\xff clinician " KEY_A "\n", -1, "not a letter"},
    {"abcdefghijabcdefghijabcdefghijabc clinician " KEY_A "\n", -1, "a name of 33"},
};

static void test_key_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        keys k;
        galen_error err = {0};
        const galen_status st = keys_parse(&k, files[i].text, strlen(files[i].text), &err);
        if ((st ? -1 : (int)k.n) != files[i].n_keys) fail_msg("%s: %d, %zu keys: %s", files[i].why, (int)st, k.n, err.msg);
        if (st && (k.rows || k.n || strstr(err.msg, "abcdefgh")))
            fail_msg("%s: keys stay, or are told: %s", files[i].why, err.msg);
        keys_free(&k);
    }
}

static void test_key_with_nul(void **state) {
    static const char text[] = "a clinician abcdefgh\0jklmnop\n";
    keys k;
    (void)state;
    assert_int_equal(keys_parse(&k, text, sizeof text - 1, NULL), GALEN_E_FORMAT);
}

static void test_find(void **state) {
    static const char text[] = "a clinician " KEY_A "\nb auditor " KEY_B "\nc admin " K128 "\n";
    keys k;
    (void)state;
    assert_int_equal(keys_parse(&k, text, sizeof text - 1, NULL), GALEN_OK);
    assert_int_equal(keys_find(&k, KEY_A, 16)->role, ROLE_CLINICIAN);
    assert_int_equal(keys_find(&k, KEY_B, 16)->role, ROLE_AUDITOR);
    assert_int_equal(keys_find(&k, K128, 128)->role, ROLE_ADMIN);
    assert_string_equal(keys_find(&k, KEY_B, 16)->name, "b");
    assert_null(keys_find(&k, KEY_A, 15));      /* a beginning       */
    assert_null(keys_find(&k, KEY_A "\0", 17)); /* a NUL behind: the padding is no part of a key */
    assert_null(keys_find(&k, KEY_A "q", 17));  /* one more          */
    assert_null(keys_find(&k, "", 0));          /* nothing           */
    assert_null(keys_find(&k, K128 "x", 129));  /* over the longest  */
    assert_null(keys_find(&k, "abcdefghijklmnoq", 16));
    keys_free(&k);
    assert_null(keys_find(&k, KEY_A, 16));
}

static void test_hosts(void **state) {
    static const char *const names[] = {"clinic.example"}, *const origins[] = {"https://page.example"};
    const host_rules r = {names, 1, origins, 1};
    static const struct {
        const char *host;
        bool is_allowed;
    } hosts[] = {
        {"127.0.0.1", true},
        {"127.0.0.1:8737", true},
        {"10.1.2.3:1", true},
        {"localhost", true},
        {"LocalHost:80", true},
        {"[::1]", true},
        {"[::1]:80", true},
        {"[fe80::1]", true},
        {"::1", false},
        {"clinic.example", true},
        {"CLINIC.example:9", true},
        {"evil.example", false},
        {"clinic.example.evil.example", false},
        {"localhost.evil.example", false},
        {"127.0.0.1.evil.example", false},
        {"127.1", false},
        {"0x7f000001", false},
        {"2130706433", false},
        {"", false},
        {":80", false},
        {"localhost:", false},
        {"localhost:x", false},
        {"localhost:123456", false},
        {"[::1", false},
        {"[::1]x", false},
        {"[localhost]", false},
        {"local host", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        if (host_is_allowed(&r, hosts[i].host) != hosts[i].is_allowed) fail_msg("Host '%s'", hosts[i].host);
    assert_true(origin_is_allowed(&r, "http://127.0.0.1:8737", "127.0.0.1:8737", false));
    assert_true(origin_is_allowed(&r, "https://127.0.0.1:8737", "127.0.0.1:8737", true));
    assert_true(origin_is_allowed(&r, "https://page.example", "127.0.0.1:8737", false));
    assert_false(origin_is_allowed(&r, "https://127.0.0.1:8737", "127.0.0.1:8737", false));
    assert_false(origin_is_allowed(&r, "http://127.0.0.1:1", "127.0.0.1:8737", false));
    assert_false(origin_is_allowed(&r, "null", "127.0.0.1:8737", false));
    assert_false(origin_is_allowed(&r, "", "127.0.0.1:8737", false));
    assert_false(origin_is_allowed(&r, "http://127.0.0.1", NULL, false));
    assert_true(host_is_loopback("127.9.9.9") && host_is_loopback("::1") && host_is_loopback("localhost"));
    assert_false(host_is_loopback("0.0.0.0") || host_is_loopback("::") || host_is_loopback("10.0.0.1") ||
                 host_is_loopback("evil.example"));
}

static void test_bytes(void **state) {
    bytes b = {0};
    char want[4001];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_true(i % 2 ? bytes_add(&b, "abcd", 4) : bytes_addf(&b, "%s%c%c", "ab", 'c', 'd'));
        memcpy(want + 4 * (size_t)i, "abcd", 4);
    }
    want[4000] = '\0';
    assert_int_equal(b.n, 4000);
    assert_string_equal(b.p, want);
    assert_false(bytes_add(&b, "x", SIZE_MAX)); /* nothing changed */
    assert_string_equal(b.p, want);
    bytes_free(&b);
    assert_null(b.p);
}

static void test_histogram(void **state) {
    static const uint64_t ns[] = {0, 1000000, 1000001, 49999999, 50000000, 60000000000ull, 400000000000ull};
    histogram *h = calloc(1, sizeof *h);
    bytes out = {0};
    (void)state;
    for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++) metrics_observe(h, ns[i]);
    assert_true(metrics_write_histogram(&out, "x", "m", h));
    assert_non_null(strstr(out.p, "x_bucket{model_name=\"m\",le=\"0.001\"} 2\n")); /* bounds are closed above */
    assert_non_null(strstr(out.p, "x_bucket{model_name=\"m\",le=\"0.05\"} 5\n"));
    assert_non_null(strstr(out.p, "x_bucket{model_name=\"m\",le=\"300\"} 6\n"));
    assert_non_null(strstr(out.p, "x_bucket{model_name=\"m\",le=\"+Inf\"} 7\n"));
    assert_non_null(strstr(out.p, "x_sum{model_name=\"m\"} 460.1"));
    assert_non_null(strstr(out.p, "x_count{model_name=\"m\"} 7\n"));
    bytes_free(&out);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_files), cmocka_unit_test(test_key_with_nul), cmocka_unit_test(test_find),
        cmocka_unit_test(test_hosts),     cmocka_unit_test(test_bytes),        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
