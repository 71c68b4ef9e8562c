/* Stands in for <cmocka.h> where the target has none: the ARM build of the kernel tests, which runs under qemu-user on a
 * machine with cmocka for x86-64 only. The part of cmocka's interface that the kernel tests use, with the same output, so
 * that tests/run counts it the same way. One failed assertion ends its test by longjmp. */
#ifndef GALEN_TESTS_SUPPORT_CMOCKA_H
#define GALEN_TESTS_SUPPORT_CMOCKA_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*CMFixtureFunction)(void **state);
struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    CMFixtureFunction setup_func, teardown_func;
    void *initial_state;
};

static jmp_buf cmocka_jump;
static int cmocka_is_skipped;

#define cmocka_unit_test(f)                                 ((struct CMUnitTest){#f, f, NULL, NULL, NULL})
#define cmocka_unit_test_prestate(f, state)                 ((struct CMUnitTest){#f, f, NULL, NULL, state})
#define cmocka_unit_test_setup_teardown(f, setup, teardown) ((struct CMUnitTest){#f, f, setup, teardown, NULL})

static inline void cmocka_fail_at(const char *file, int line, const char *what) {
    fflush(stdout);
    fprintf(stderr, "[  ERROR   ] --- %s\n[   LINE   ] --- %s:%d: error: Failure!\n", what, file, line);
    longjmp(cmocka_jump, 1);
}
#define CMOCKA_CHECK(ok, what)                                                                                                   \
    do {                                                                                                                         \
        if (!(ok)) cmocka_fail_at(__FILE__, __LINE__, what);                                                                     \
    } while (0)

#define fail() cmocka_fail_at(__FILE__, __LINE__, "fail()")
#define fail_msg(...)                                                                                                            \
    do {                                                                                                                         \
        fprintf(stderr, "ERROR: " __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                                     \
        cmocka_fail_at(__FILE__, __LINE__, "fail_msg()");                                                                        \
    } while (0)
#define skip()                                                                                                                   \
    do {                                                                                                                         \
        cmocka_is_skipped = 1;                                                                                                   \
        longjmp(cmocka_jump, 1);                                                                                                 \
    } while (0)
#define print_message(...)         printf(__VA_ARGS__)
#define print_error(...)           fprintf(stderr, __VA_ARGS__)
#define assert_true(c)             CMOCKA_CHECK(c, #c)
#define assert_false(c)            CMOCKA_CHECK(!(c), "not " #c)
#define assert_non_null(p)         CMOCKA_CHECK((p) != NULL, #p " is NULL")
#define assert_null(p)             CMOCKA_CHECK((p) == NULL, #p " is not NULL")
#define assert_ptr_equal(a, b)     CMOCKA_CHECK((const void *)(a) == (const void *)(b), #a " == " #b)
#define assert_ptr_not_equal(a, b) CMOCKA_CHECK((const void *)(a) != (const void *)(b), #a " != " #b)
#define assert_int_equal(a, b)     CMOCKA_CHECK((intmax_t)(a) == (intmax_t)(b), #a " == " #b)
#define assert_int_not_equal(a, b) CMOCKA_CHECK((intmax_t)(a) != (intmax_t)(b), #a " != " #b)
#define assert_in_range(v, lo, hi)                                                                                               \
    CMOCKA_CHECK((uintmax_t)(v) >= (uintmax_t)(lo) && (uintmax_t)(v) <= (uintmax_t)(hi), #v " in range")
#define assert_float_equal(a, b, eps)    CMOCKA_CHECK(fabs((double)(a) - (double)(b)) <= (double)(eps), #a " near " #b)
#define assert_string_equal(a, b)        CMOCKA_CHECK(strcmp(a, b) == 0, #a " == " #b)
#define assert_string_not_equal(a, b)    CMOCKA_CHECK(strcmp(a, b) != 0, #a " != " #b)
#define assert_memory_equal(a, b, n)     CMOCKA_CHECK(memcmp(a, b, n) == 0, #a " == " #b)
#define assert_memory_not_equal(a, b, n) CMOCKA_CHECK(memcmp(a, b, n) != 0, #a " != " #b)

static inline int cmocka_run(const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup, CMFixtureFunction teardown) {
    volatile int n_failed = 0;
    void *group_state = NULL;
    printf("[==========] Running %d test(s).\n", (int)n);
    if (setup && setup(&group_state) != 0) return (int)n;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = tests[i].initial_state ? tests[i].initial_state : group_state;
        void *volatile kept = state;
        printf("[ RUN      ] %s\n", tests[i].name);
        cmocka_is_skipped = 0;
        if (setjmp(cmocka_jump) == 0) {
            if (tests[i].setup_func) assert_int_equal(tests[i].setup_func(&state), 0);
            kept = state;
            tests[i].test_func(&state);
            printf("[       OK ] %s\n", tests[i].name);
        } else {
            n_failed = n_failed + !cmocka_is_skipped;
            printf("[  %s ] %s\n", cmocka_is_skipped ? "SKIPPED" : "FAILED ", tests[i].name);
        }
        state = kept;
        if (tests[i].teardown_func) (void)tests[i].teardown_func(&state);
        fflush(stdout);
    }
    if (teardown) (void)teardown(&group_state);
    printf("[==========] %d test(s) run.\n", (int)n);
    return n_failed;
}
#define cmocka_run_group_tests(tests, setup, teardown)            cmocka_run(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) cmocka_run_group_tests(tests, setup, teardown)

#endif
