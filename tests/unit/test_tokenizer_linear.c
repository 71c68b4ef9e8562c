/* T6: a megabyte of one thing takes time in proportion and little stack. Times are of the processor, the best of several
 * tries, since the machine has other work. Four times the text is 4 times the work, 4.4 where a heap is used, and more where
 * the larger row of symbols leaves the cache: about 5 measured. A quadratic step would show as 16. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "vocab_maker.h"

enum { SMALL = 1 << 18, LARGE = 1 << 20, STACK_BYTES = 256 * 1024, N_TRIES = 4 };
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static const double limit_s = 30;
#else
static const double limit_s = 3;
#endif
static const double limit_ratio = 7;

static maker m;

static const struct {
    const char *unit;
    const char *why;
} cases[] = {
    {"a", "one letter"},
    {"\n", "line ends"},
    {" ", "spaces"},
    {" a", "words of one letter"},
    {"\xE4\xB8\xAD", "CJK"},
    {"\xCC\x81", "combining marks"},
    {"7", "digits"},
    {"\xF0\x9F\x91\xA9\xE2\x80\x8D", "emoji joined by ZWJ"},
    {"\xFF", "invalid bytes"},
    {"<tool>", "user-defined tokens"},
    {"<|im_end|>", "the text of a control token"},
    {"hello world", "words"},
    {"\t \n", "mixed white space"},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds for the first n bytes of text; < 0 when it failed. */
static double time_encode(const char *text, size_t n) {
    const text_piece piece = {text, n, false};
    galen_tokens out;
    const double begin = now_s();
    if (tokenizer_encode(m.t, &piece, 1, false, &out, NULL) != GALEN_OK) return -1;
    const double s = now_s() - begin;
    free(out.ids);
    return s;
}

typedef struct result {
    double small_s[N_CASES], large_s[N_CASES];
    bool is_done;
} result;

static bool is_fine(const result *r, size_t i) {
    return r->large_s[i] >= 0 && r->large_s[i] < limit_s && r->large_s[i] <= limit_ratio * r->small_s[i];
}

static void *run(void *arg) {
    result *r = arg;
    char *text = malloc(LARGE);
    if (!text) return NULL;
    for (size_t i = 0; i < N_CASES; i++) {
        const size_t n = strlen(cases[i].unit);
        for (size_t k = 0; k < LARGE; k++) text[k] = cases[i].unit[k % n];
        for (int t = 0; t < N_TRIES && (t == 0 || !is_fine(r, i)); t++) {
            const double small = time_encode(text, SMALL), large = time_encode(text, LARGE);
            if (t == 0 || small < r->small_s[i]) r->small_s[i] = small;
            if (t == 0 || large < r->large_s[i]) r->large_s[i] = large;
        }
    }
    free(text);
    r->is_done = true;
    return NULL;
}

static void check(void (*make)(maker *), const char *pre) {
    pthread_attr_t attr;
    pthread_t thread;
    result r = {.is_done = false};
    make(&m);
    m.pre = pre;
    m.add_bos = 0;
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK_BYTES), 0); /* going over it is a crash */
    assert_int_equal(pthread_create(&thread, &attr, run, &r), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)pthread_attr_destroy(&attr);
    assert_true(r.is_done);
    for (size_t i = 0; i < N_CASES; i++) {
        if (is_fine(&r, i)) continue;
        fail_msg("%s, %s: %.3f s for 256 KiB, %.3f s for 1 MiB", m.model, cases[i].why, r.small_s[i], r.large_s[i]);
    }
    maker_close(&m);
}

static void test_spm(void **state) {
    (void)state;
    check(maker_spm, NULL);
}
static void test_gpt2(void **state) {
    (void)state;
    check(maker_bpe, "gpt-2");
}
static void test_llama3(void **state) {
    (void)state;
    check(maker_bpe, "llama-bpe");
}
static void test_deepseek_llm(void **state) {
    (void)state;
    check(maker_bpe, "deepseek-llm");
}
static void test_deepseek_v3(void **state) {
    (void)state;
    check(maker_bpe, "deepseek-v3");
}
static void test_tekken(void **state) {
    (void)state;
    check(maker_bpe, "tekken");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm),          cmocka_unit_test(test_gpt2),        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_deepseek_llm), cmocka_unit_test(test_deepseek_v3), cmocka_unit_test(test_tekken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
