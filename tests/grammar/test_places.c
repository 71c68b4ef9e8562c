/* Places of a text: copies, long texts, deep ones, and tokens that are forced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grammar/program.h"
#include "grammars.h"

/* ---------------------------------------------------------------- places: copies, long texts, deep ones */

static void copies_go_their_own_way(void **state) {
    (void)state;
    grammar_state *s, *c;
    grammar *g = must_open(GBNF, "root ::= \"a\" (\"b\" | \"c\"){3} \"d\"");
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    assert_int_equal(grammar_state_accept(s, 'a', NULL), GALEN_OK);
    assert_int_equal(grammar_state_accept(s, 'b', NULL), GALEN_OK);
    assert_int_equal(grammar_state_clone(&c, s, NULL), GALEN_OK);
    for (const char *p = "ccd"; *p; p++) assert_int_equal(grammar_state_accept(c, *p, NULL), GALEN_OK);
    assert_true(grammar_state_is_done(c));
    assert_false(grammar_state_may_end(s));
    grammar_state_close(c);
    assert_int_equal(grammar_state_accept(s, 'd', NULL), GALEN_E_REFUSED); /* and stays where it is */
    for (const char *p = "bcd"; *p; p++) assert_int_equal(grammar_state_accept(s, *p, NULL), GALEN_OK);
    assert_true(grammar_state_is_done(s));
    assert_int_equal(grammar_state_reset(s, NULL), GALEN_OK);
    assert_int_equal(grammar_state_accept(s, 'a', NULL), GALEN_OK);
    grammar_state_close(s);
    grammar_close(g);
}

static void depth_is_bounded(void **state) {
    (void)state;
    galen_error err = {0};
    uint32_t bits[16];
    grammar_state *s;
    grammar *g = must_open(GBNF, "root ::= \"(\" root \")\" | \"x\"");
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    int depth = 0;
    galen_status st = GALEN_OK;
    for (; !st && depth < 2 * GRAMMAR_MAX_DEPTH; depth++) st = grammar_state_accept(s, '(', &err);
    assert_int_equal(st, GALEN_E_RANGE);
    assert_non_null(strstr(err.msg, "rule \"root\": more than 65536 rules within rules"));
    assert_true(depth > GRAMMAR_MAX_DEPTH - 4);
    assert_int_equal(grammar_state_accept(s, 'x', &err), GALEN_OK); /* it stayed, and goes on */
    assert_int_equal(grammar_state_mask(s, bits, &err), GALEN_OK);
    for (int i = 1; i < depth; i++) assert_int_equal(grammar_state_accept(s, ')', NULL), GALEN_OK);
    assert_true(grammar_state_is_done(s));
    grammar_state_close(s);
    grammar_close(g);
    /* At the right it costs no depth. */
    g = must_open(GBNF, "root ::= \"a\" root | \"b\"");
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    for (int i = 0; i < 2 * GRAMMAR_MAX_DEPTH; i++) assert_int_equal(grammar_state_accept(s, 'a', NULL), GALEN_OK);
    grammar_state_close(s);
    grammar_close(g);
}

/* ---------------------------------------------------------------- forced tokens */

static void forced_tokens_are_the_natural_ones(void **state) {
    (void)state;
    static const struct {
        grammar_kind kind;
        const char *text, *before, *forced, *why;
    } rows[] = {
        {GBNF, "root ::= \"hello\"", "", "hello", "all of it"},
        {GBNF, "root ::= \"hello\" [a-z]", "", "hello", "no longer token goes on with a letter"},
        {GBNF, "root ::= \"hello\" .*", "", "", "it may be whole, or hello\" may come"},
        {GBNF, "root ::= \"hel\" [a-z]", "", "", "hello is longer than hel, and may come"},
        {GBNF, "root ::= \"a\" | \"b\"", "", "", "a choice"},
        {GBNF, "root ::= \"xyzna\" (\"me\" | \"x\")", "", "xyz", "na is left: name may come"},
        {GBNF, "root ::= \"a\"?", "", "", "the end is a choice too"},
        {GBNF, "root ::= \"\xE4\xB8\xAD\"", "", "\xE4\xB8\xAD", "a character over several bytes"},
        {GBNF, "root ::= [\\u4e00-\\u4e3f]", "", "", "its first bytes are known, the character is not"},
        {SCHEMA, "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"integer\"}},\"required\":[\"name\"]}", "",
         "{\"name\": ", "a frame"},
        {SCHEMA, "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":12}},\"required\":[\"name\"]}", "{", "\"name\": 12}",
         "the rest"},
        {ANY_OBJECT, NULL, "", "", "{ is left: {\" may come"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        grammar_state *s;
        int32_t ids[32], n = -1;
        char text[256];
        size_t len = 0;
        galen_tokens natural = {0};
        grammar *g = must_open(rows[i].kind, rows[i].text);
        assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
        for (const char *p = rows[i].before; *p; p++) assert_int_equal(grammar_state_accept(s, (uint8_t)*p, NULL), GALEN_OK);
        assert_int_equal(grammar_state_forced(s, ids, 32, &n, NULL), GALEN_OK);
        for (int32_t k = 0; k < n; k++) {
            len += (size_t)tokenizer_bytes(w.m.t, ids[k], false, text + len, sizeof text - len);
            assert_int_equal(grammar_state_accept(s, ids[k], NULL), GALEN_OK);
        }
        if (len != strlen(rows[i].forced) || memcmp(text, rows[i].forced, len) != 0)
            fail_msg("%s: \"%.*s\", expected \"%s\"", rows[i].why, (int)len, text, rows[i].forced);
        const text_piece piece = {.text = text, .len = len};
        assert_int_equal(tokenizer_encode(w.m.t, &piece, 1, false, &natural, NULL), GALEN_OK);
        assert_int_equal(natural.n, n);
        if (n) assert_memory_equal(natural.ids, ids, (size_t)n * sizeof *ids);
        galen_tokens_free(&natural);
        grammar_state_close(s);
        grammar_close(g);
    }
}

/* SentencePiece: no space is put before what is forced in the middle of a text. */
static void forced_tokens_without_a_space(void **state) {
    (void)state;
    static maker m;
    grammar_vocab *v;
    grammar *g;
    grammar_state *s;
    int32_t ids[8], n;
    maker_spm(&m);
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    assert_int_equal(grammar_vocab_open(&v, m.t, NULL), GALEN_OK);
    assert_int_equal(open_any(&g, v, GBNF, "root ::= \"hello world\"", NULL), GALEN_OK);
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    assert_int_equal(grammar_state_forced(s, ids, 8, &n, NULL), GALEN_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], maker_find(&m, "hello"));
    assert_int_equal(ids[1], maker_find(&m, "\xE2\x96\x81world"));
    grammar_state_close(s);
    grammar_close(g);
    grammar_vocab_close(v);
    maker_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_go_their_own_way),

        cmocka_unit_test(depth_is_bounded),

        cmocka_unit_test(forced_tokens_are_the_natural_ones),
        cmocka_unit_test(forced_tokens_without_a_space),
    };
    return cmocka_run_group_tests(tests, grammar_setup, grammar_teardown);
}
