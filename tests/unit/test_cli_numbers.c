/* What the command line accepts as a number, the nearest name to a slip, and the .npy header. The program is no library, so its
 * pure parts are included here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/cli/npy.c"
#include "../../src/cli/numbers.c"
#include "../../src/cli/suggest.c"

static void test_i64(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
        int64_t value;
        const char *why;
    } cases[] = {
        {"0", true, 0, "zero"},
        {"-1", true, -1, "until the context is full"},
        {"4k", true, 4096, "tokens by 1024"},
        {"9223372036854775807", true, INT64_MAX, "the largest"},
        {"-9223372036854775808", true, INT64_MIN, "the smallest"},
        {"9223372036854775808", false, 0, "one more"},
        {"-9223372036854775809", false, 0, "one less"},
        {"9007199254740992k", false, 0, "over by its suffix"},
        {"", false, 0, "empty"},
        {"-", false, 0, "a sign alone"},
        {"+1", false, 0, "a sign that nobody needs"},
        {" 1", false, 0, "a blank before"},
        {"1 ", false, 0, "a blank behind"},
        {"1x", false, 0, "junk behind"},
        {"1kk", false, 0, "two suffixes"},
        {"0x10", false, 0, "hexadecimal"},
        {"1.0", false, 0, "a fraction"},
        {"1e3", false, 0, "an exponent"},
        {"--1", false, 0, "two signs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t v = 77;
        print_message("  %s\n", cases[i].why);
        assert_int_equal(number_i64(cases[i].text, &v), cases[i].is_good);
        assert_true(v == (cases[i].is_good ? cases[i].value : 77));
    }
}

static void test_f64(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
        double value;
        const char *why;
    } cases[] = {
        {"0.8", true, 0.8, "plain"},
        {".5", true, 0.5, "no digit before the point"},
        {"5.", true, 5, "none behind"},
        {"-1e-3", true, -1e-3, "exponent"},
        {"+2", true, 2, "plus"},
        {"nan", false, 0, "NaN"},
        {"NaN(1)", false, 0, "NaN with a payload"},
        {"inf", false, 0, "infinity"},
        {"1e999", false, 0, "overflow"},
        {"1e-999", false, 0, "underflow"},
        {"0x1p3", false, 0, "hexadecimal"},
        {"1e", false, 0, "no exponent"},
        {".", false, 0, "a point alone"},
        {"", false, 0, "empty"},
        {"1,5", false, 0, "another country's point"},
        {"1.5.2", false, 0, "two points"},
        {" 1", false, 0, "a blank before"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double v = 77;
        print_message("  %s\n", cases[i].why);
        assert_int_equal(number_f64(cases[i].text, &v), cases[i].is_good);
        assert_true(v == (cases[i].is_good ? cases[i].value : 77));
    }
}

static void test_bias(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
        int32_t id;
        float bias;
    } cases[] = {
        {"5=1.5", true, 5, 1.5f},
        {"0=-100", true, 0, -100},
        {"2147483647=0", true, INT32_MAX, 0},
        {"7=-inf", true, 7, -INFINITY},
        {"7=inf", false, 0, 0},
        {"7=nan", false, 0, 0},
        {"2147483648=1", false, 0, 0},
        {"-1=1", false, 0, 0},
        {"=1", false, 0, 0},
        {"7=", false, 0, 0},
        {"7", false, 0, 0},
        {"7=1e31", false, 0, 0},
        {"99999999999999999=1", false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        galen_logit_bias b = {.id = -7};
        print_message("  %s\n", cases[i].text);
        assert_int_equal(number_bias(cases[i].text, &b), cases[i].is_good);
        assert_int_equal(b.id, cases[i].is_good ? cases[i].id : -7);
        if (cases[i].is_good) assert_true(b.bias == cases[i].bias);
    }
}

static void test_tokens(void **state) {
    (void)state;
    static const struct {
        const char *text;
        galen_status st;
        size_t n, at; /* at: of the failure */
        const char *why;
    } cases[] = {
        {"1,5,7", GALEN_OK, 3, 0, "as in the manual"},
        {"[1, 5, 7]\n", GALEN_OK, 3, 0, "as tokenize --ids prints"},
        {"1 5\n7", GALEN_OK, 3, 0, "parted by blanks"},
        {"  0", GALEN_OK, 1, 0, "one"},
        {"2147483647", GALEN_OK, 1, 0, "the largest"},
        {"2147483648", GALEN_E_RANGE, 0, 0, "one more"},
        {"1,99999999999999999999", GALEN_E_RANGE, 0, 2, "far too large"},
        {"", GALEN_E_FORMAT, 0, 0, "nothing"},
        {"[]", GALEN_E_FORMAT, 0, 1, "an empty list"},
        {"1,", GALEN_E_FORMAT, 0, 2, "a comma at the end"},
        {",1", GALEN_E_FORMAT, 0, 0, "a comma at the start"},
        {"1,,2", GALEN_E_FORMAT, 0, 2, "two commas"},
        {"1,-2", GALEN_E_FORMAT, 0, 2, "a sign"},
        {"[1", GALEN_E_FORMAT, 0, 2, "an open bracket"},
        {"1]", GALEN_E_FORMAT, 0, 1, "a closing one"},
        {"[1] 2", GALEN_E_FORMAT, 0, 4, "text behind"},
        {"1;2", GALEN_E_FORMAT, 0, 1, "another mark"},
        {"0x1", GALEN_E_FORMAT, 0, 1, "hexadecimal"},
    };
    static const int32_t expected[] = {1, 5, 7};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t *ids = NULL;
        size_t n = 9, at = 0;
        print_message("  %s\n", cases[i].why);
        assert_int_equal(number_tokens(cases[i].text, strlen(cases[i].text), &ids, &n, &at), cases[i].st);
        assert_int_equal(n, cases[i].n);
        if (cases[i].st) assert_null(ids);
        if (cases[i].st) assert_int_equal(at, cases[i].at);
        if (n == 3) assert_memory_equal(ids, expected, sizeof expected);
        free(ids);
    }
}

static void test_suggest(void **state) {
    (void)state;
    static const char *const names[] = {"diagnose", "complete", "chat", "show", "tokenize", "threads", "temp"};
    static const struct {
        const char *word, *near;
    } cases[] = {
        {"diagnoze", "diagnose"},
        {"daignose", "diagnose"},
        {"complet", "complete"},
        {"tokenise", "tokenize"},
        {"chta", "chat"},
        {"sho", "show"},
        {"thread", "threads"},
        {"xyzzy", NULL},
        {"", NULL},
        {"serve", NULL},
        {"completecompletecompletecomplete", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = suggest(cases[i].word, names, sizeof names / sizeof names[0]);
        print_message("  '%s'\n", cases[i].word);
        if (!cases[i].near)
            assert_null(got);
        else
            assert_string_equal(got, cases[i].near);
    }
}

static void test_npy(void **state) {
    (void)state;
    static const uint64_t sizes[][2] = {{1, 1}, {3, 128256}, {UINT64_MAX, UINT64_MAX}};
    for (size_t i = 0; i < 3; i++) {
        char h[NPY_HEADER_BYTES], shape[64];
        npy_header(h, sizes[i][0], sizes[i][1]);
        assert_memory_equal(h, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (", 61);
        (void)snprintf(shape, sizeof shape, "(%llu, %llu), }", (unsigned long long)sizes[i][0], (unsigned long long)sizes[i][1]);
        assert_memory_equal(h + 60, shape, strlen(shape));
        assert_int_equal(h[NPY_HEADER_BYTES - 1], '\n');
        for (size_t k = 60 + strlen(shape); k < NPY_HEADER_BYTES - 1; k++) assert_int_equal(h[k], ' ');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_i64),    cmocka_unit_test(test_f64),     cmocka_unit_test(test_bias),
        cmocka_unit_test(test_tokens), cmocka_unit_test(test_suggest), cmocka_unit_test(test_npy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
