/* UTF-8: every code point, every kind of ill-formed sequence, and streams cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"

static void every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp < 0x120000; cp++) {
        char s[4];
        uint32_t back = 0xdeadbeef;
        const size_t n = utf8_encode(cp, s);
        const bool is_scalar = cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
        const size_t want = !is_scalar ? 0 : cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        if (n != want) fail_msg("U+%04X: %zu bytes", cp, n);
        if (n == 0) continue;
        if (utf8_decode(s, n, &back) != n || back != cp || !utf8_is_valid(s, n)) fail_msg("U+%04X does not come back", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (utf8_decode(s, cut, &back) != 0) fail_msg("U+%04X cut to %zu bytes is taken", cp, cut);
    }
    char s[4];
    assert_int_equal(utf8_encode(UINT32_MAX, s), 0);
}

/* All sequences of up to three bytes, and all of four with a sample of last bytes, against the definition: a sequence is a
 * character exactly when it is what some code point encodes to. */
static size_t defined_length(const uint8_t *s, size_t n) {
    static const struct {
        uint8_t mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t len = 1; len <= 4; len++) {
        if ((s[0] & forms[len - 1].mask) != forms[len - 1].lead) continue;
        uint32_t cp = s[0] & (uint8_t)~forms[len - 1].mask;
        if (len > n) return 0;
        for (size_t i = 1; i < len; i++) {
            if ((s[i] & 0xC0) != 0x80) return 0;
            cp = cp << 6 | (s[i] & 0x3F);
        }
        return cp >= forms[len - 1].least && cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF) ? len : 0;
    }
    return 0;
}

static void every_sequence(void **state) {
    static const uint8_t last[] = {0x00, 0x7F, 0x80, 0xA5, 0xBF, 0xC0, 0xFF};
    (void)state;
    for (uint32_t u = 0; u < 1u << 24; u++) {
        uint8_t s[4] = {(uint8_t)(u >> 16), (uint8_t)(u >> 8), (uint8_t)u, 0};
        const size_t n_last = s[0] >= 0xF0 ? sizeof last : 1; /* the fourth byte matters for four-byte leads only */
        for (size_t k = 0; k < n_last; k++) {
            uint32_t cp;
            s[3] = last[k];
            const size_t n = s[0] >= 0xF0 ? 4 : 3;
            if (utf8_decode((const char *)s, n, &cp) != defined_length(s, n))
                fail_msg("%02X %02X %02X %02X", s[0], s[1], s[2], s[3]);
        }
    }
}

static const struct {
    const char *in, *out, *why;
} streams[] = {
    {"", "", "nothing"},
    {"plain", "plain", "ASCII"},
    {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "two, three and four bytes"},
    {"\x80", "\xEF\xBF\xBD", "a lone continuation"},
    {"a\xBFz", "a\xEF\xBF\xBDz", "a continuation in text"},
    {"\xC3", "\xEF\xBF\xBD", "cut at the end"},
    {"\xF0\x9F\x98", "\xEF\xBF\xBD", "three of four: one subpart"},
    {"\xC3z", "\xEF\xBF\xBDz", "cut by a letter"},
    {"\xE2\x82z", "\xEF\xBF\xBDz", "two of three, then a letter: one subpart"},
    {"\xF0\x9F\xF0\x9F\x98\x80", "\xEF\xBF\xBD\xF0\x9F\x98\x80", "cut by a lead"},
    {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD", "overlong: each byte by itself"},
    {"\xE0\x80\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "overlong of three"},
    {"\xF0\x80\x80\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "overlong of four"},
    {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "a surrogate"},
    {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "beyond U+10FFFF"},
    {"\xFE\xFF", "\xEF\xBF\xBD\xEF\xBF\xBD", "never UTF-8"},
    /* Unicode 15, table 3-8: U+FFFD for maximal subparts */
    {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
     "\x61\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x62\xEF\xBF\xBD\x63\xEF\xBF\xBD\xEF\xBF\xBD\x64", "the standard's example"},
};

/* Push s in pieces that the bits of cuts end; returns the bytes written. */
static size_t push_cut(const char *s, size_t n, uint64_t cuts, char *out) {
    utf8_stream u = {0};
    size_t n_out = 0, begin = 0;
    for (size_t i = 0; i < n; i++)
        if ((cuts >> (i % 64) & 1) || i + 1 == n) {
            char *piece = malloc(i + 1 - begin), *room = malloc(3 * (i + 1 - begin + 3)); /* exact, for ASan */
            memcpy(piece, s + begin, i + 1 - begin);
            const size_t k = utf8_push(&u, piece, i + 1 - begin, room);
            assert_true(k <= 3 * (i + 1 - begin + 3));
            assert_true(utf8_is_valid(room, k));
            memcpy(out + n_out, room, k);
            n_out += k;
            begin = i + 1;
            free(piece);
            free(room);
        }
    return n_out + utf8_flush(&u, out + n_out);
}

static void streams_cut_anywhere(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        const size_t n = strlen(streams[i].in), n_want = strlen(streams[i].out);
        for (uint64_t cuts = 0; cuts < (uint64_t)1 << (n < 12 ? n : 12); cuts++) {
            char out[256];
            const size_t n_out = push_cut(streams[i].in, n, cuts, out);
            if (n_out != n_want || memcmp(out, streams[i].out, n_out) != 0)
                fail_msg("%s, cuts %llx", streams[i].why, (unsigned long long)cuts);
        }
    }
}

/* Random bytes, drawn mostly from those that matter: however they are cut, the output is the same, and valid. */
static void random_streams(void **state) {
    static const uint8_t alphabet[16] = {'a',  0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2,
                                         0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xFF};
    (void)state;
    for (uint64_t trial = 0; trial < 20000; trial++) {
        char in[40], whole[200], cut[200];
        const rng_block b = rng_at(1, 2, trial);
        const size_t n = b.v[0] % sizeof in;
        for (size_t i = 0; i < n; i++) in[i] = (char)alphabet[rng_at(1, 3 + trial, i).v[0] % 16];
        const size_t n_whole = push_cut(in, n, 0, whole);
        const size_t n_cut = push_cut(in, n, (uint64_t)b.v[1] << 32 | b.v[2], cut);
        assert_int_equal(n_cut, n_whole);
        assert_memory_equal(cut, whole, n_whole);
        assert_true(utf8_is_valid(whole, n_whole));
        if (utf8_is_valid(in, n)) assert_true(n_whole == n && memcmp(in, whole, n) == 0);
    }
}

static void a_stream_can_go_on(void **state) {
    utf8_stream u = {0};
    char out[64];
    (void)state;
    assert_int_equal(utf8_push(&u, "\xE2", 1, out), 0);
    assert_int_equal(utf8_push(&u, "", 0, out), 0);
    assert_int_equal(utf8_push(&u, "\x82", 1, out), 0);
    assert_int_equal(utf8_push(&u, "\xAC", 1, out), 3);
    assert_memory_equal(out, "\xE2\x82\xAC", 3);
    assert_int_equal(utf8_flush(&u, out), 0);
    assert_int_equal(utf8_push(&u, "\xE2\x82", 2, out), 0);
    assert_int_equal(utf8_flush(&u, out), 3);
    assert_int_equal(utf8_flush(&u, out), 0); /* and starts afresh */
    assert_int_equal(utf8_push(&u, "b", 1, out), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_code_point), cmocka_unit_test(every_sequence),
                                       cmocka_unit_test(streams_cut_anywhere), cmocka_unit_test(random_streams),
                                       cmocka_unit_test(a_stream_can_go_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
