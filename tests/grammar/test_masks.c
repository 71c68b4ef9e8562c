/* The mask against trying every token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "grammars.h"

/* limited: tokens whose trial met a limit (more alternatives open than are allowed); taking one is an error, whatever the mask.
 */
static void brute_force(const grammar_state *s, uint32_t *bits, uint32_t *limited) {
    char text[256];
    const size_t n_bytes = grammar_mask_words(tokenizer_n_vocab(w.m.t)) * sizeof *bits;
    memset(bits, 0, n_bytes);
    memset(limited, 0, n_bytes);
    for (int32_t id = 0; id < tokenizer_n_vocab(w.m.t); id++) {
        grammar_state *c;
        const int32_t n = tokenizer_bytes(w.m.t, id, false, text, sizeof text);
        const bool is_end = tokenizer_is_end(w.m.t, id);
        if (n <= 0 && !is_end) continue;
        assert_int_equal(grammar_state_clone(&c, s, NULL), GALEN_OK);
        galen_status st = is_end && !grammar_state_may_end(c) ? GALEN_E_REFUSED : GALEN_OK;
        for (int32_t i = 0; i < n && !is_end && !st; i++) st = grammar_state_accept(c, (uint8_t)text[i], NULL);
        assert_true(st == GALEN_OK || st == GALEN_E_REFUSED || st == GALEN_E_RANGE);
        if (st == GALEN_OK) bits[id / 32] |= 1u << (id % 32);
        if (st == GALEN_E_RANGE) limited[id / 32] |= 1u << (id % 32);
        grammar_state_close(c);
    }
}

static uint64_t draws;
static uint32_t draw(uint32_t n) {
    return (uint32_t)(rng_uniform(7, 1, draws++) * n);
}

/* An item, with items in it down to depth 0; rules above `rule` may be called. */
static void put_item(text_buf *t, int depth, int rule, int n_rules) {
    static const char *const atoms[] = {"\"a\"", "\"ab\"", "\"\\\"\"",     "[a-c]",   "[^a\"]", "\"12\"",
                                        ".",     "[0-9]",  "\"\xC3\xA9\"", "\"aaa\"", "\", \"", "[^\\n]"};
    static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,3}", "{0,40}", "{3,}", "{2,20}", "{0,5}"};
    char name[16];
    const uint32_t kind = draw(depth > 0 ? 10 : 6);
    if (kind < 5 || (kind == 5 && rule + 1 >= n_rules)) {
        put(t, atoms[draw(sizeof atoms / sizeof *atoms)]);
    } else if (kind == 5 || (kind == 6 && rule + 1 < n_rules)) {
        (void)snprintf(name, sizeof name, "r%d", rule + 1 + (int)draw((uint32_t)(n_rules - rule - 1)));
        put(t, name);
    } else {
        put(t, "(");
        for (uint32_t i = 0, n = 1 + draw(3); i < n; i++) {
            if (i) put(t, draw(2) ? " | " : " ");
            put_item(t, depth - 1, rule, n_rules);
        }
        put(t, ")");
    }
    if (draw(3) == 0) put(t, repeats[draw(sizeof repeats / sizeof *repeats)]);
    put(t, " ");
}

static void random_gbnf(text_buf *t) {
    const int n_rules = 1 + (int)draw(4);
    char head[64];
    t->n = 0;
    put(t, "root ::= r0\n");
    for (int r = 0; r < n_rules; r++) {
        (void)snprintf(head, sizeof head, "r%d ::= ", r);
        put(t, head);
        for (uint32_t i = 0, n = 1 + draw(4); i < n; i++) {
            if (i && draw(4) == 0) put(t, "| ");
            put_item(t, 2, r, n_rules);
        }
        if (draw(3) == 0) { /* recursion behind something */
            (void)snprintf(head, sizeof head, "| \"(\" r%u \")\"", draw((uint32_t)n_rules));
            put(t, head);
        }
        put(t, "\n");
    }
}

static int n_limited; /* tokens that met a limit */

/* Follow a random text of the grammar; at each step the mask is what trying says, and the text stays UTF-8. */
static void check_masks(const grammar *g, int n_steps, const char *what) {
    enum { WORDS = 16 };
    uint32_t fast[WORDS], slow[WORDS], limited[WORDS];
    utf8_stream stream = {{0}, 0};
    grammar_state *s;
    galen_error err = {0};
    const int32_t n_vocab = tokenizer_n_vocab(w.m.t);
    assert_true(grammar_mask_words(n_vocab) <= WORDS);
    assert_int_equal(grammar_state_open(&s, g, &err), GALEN_OK);
    for (int step = 0; step < n_steps && !grammar_state_is_done(s); step++) {
        if (grammar_state_mask(s, fast, &err)) fail_msg("%s\n%s", what, err.msg);
        brute_force(s, slow, limited);
        for (int32_t id = 0; id < n_vocab; id++) {
            n_limited += mask_bit(limited, id);
            if (mask_bit(fast, id) != mask_bit(slow, id) && !mask_bit(limited, id))
                fail_msg("%s\nstep %d: token %d: mask %d, tried %d", what, step, id, mask_bit(fast, id), mask_bit(slow, id));
        }
        int32_t ids[512], n = 0;
        for (int32_t id = 0; id < n_vocab; id++)
            if (mask_bit(fast, id) && !mask_bit(limited, id)) ids[n++] = id;
        if (n == 0) break;
        const int32_t id = ids[draw((uint32_t)n)];
        char text[256], out[1024];
        assert_int_equal(grammar_state_accept(s, id, &err), GALEN_OK);
        if (tokenizer_is_end(w.m.t, id)) break;
        const int32_t len = tokenizer_bytes(w.m.t, id, false, text, sizeof text);
        assert_true(len > 0);
        const size_t n_out = utf8_push(&stream, text, (size_t)len, out);
        assert_null(memmem(out, n_out, "\xEF\xBF\xBD", 3));
    }
    if (grammar_state_may_end(s)) assert_int_equal(stream.n_held, 0);
    grammar_state_close(s);
}

static void masks_equal_trying_on_random_grammars(void **state) {
    (void)state;
    const char *count = getenv("GALEN_GRAMMARS");
    const int n = count ? atoi(count) : 300;
    int n_open = 0;
    text_buf *t = malloc(sizeof *t);
    assert_non_null(t);
    for (int i = 0; i < n; i++) {
        grammar *g;
        galen_error err = {0};
        random_gbnf(t);
        const galen_status st = grammar_open_gbnf(&g, w.v, t->p, t->n, &err);
        if (st == GALEN_E_RANGE) continue; /* left-recursive through what may be empty */
        if (st) fail_msg("%s\n%s", t->p, err.msg);
        n_open++;
        check_masks(g, 12, t->p);
        check_masks(g, 12, t->p);
        grammar_close(g);
    }
    free(t);
    assert_true(n_open > n / 2);
    print_message("%d grammars followed; %d trials met a limit\n", n_open, n_limited);
    assert_true(n_limited <= n * 2);
}

static void masks_equal_trying_on_schemas(void **state) {
    (void)state;
    static const char *const rows[] = {
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":9},\"n\":{\"type\":"
        "\"integer\",\"minimum\":-12,\"maximum\":1234},"
        "\"t\":{\"type\":\"array\",\"items\":{\"enum\":[\"abc\",\"ab\",12,true]},\"maxItems\":3}},\"required\":[\"name\",\"t\"],"
        "\"additionalProperties\":{\"type\":\"boolean\"}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":3}}",
        "{\"type\":\"string\",\"minLength\":4}",
        "{\"type\":\"string\",\"pattern\":\"hello|[a-c]{2,5}\\\\.\"}",
        "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":12}",
        "{\"type\":\"string\",\"format\":\"date-time\"}",
        "true",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        grammar *g = must_open(SCHEMA, rows[i]);
        for (int k = 0; k < 4; k++) check_masks(g, 30, rows[i]);
        grammar_close(g);
    }
    grammar *g = must_open(ANY_OBJECT, NULL);
    for (int k = 0; k < 10; k++) check_masks(g, 40, "any object");
    grammar_close(g);
}

static void control_tokens_are_never_admitted(void **state) {
    (void)state;
    uint32_t bits[16];
    grammar_state *s;
    grammar *g = must_open(GBNF, "root ::= .*");
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    assert_int_equal(grammar_state_mask(s, bits, NULL), GALEN_OK);
    const int32_t start = maker_find(&w.m, "<|im_start|>"), tool = maker_find(&w.m, "<tool>"),
                  end = maker_find(&w.m, "<|endoftext|>");
    assert_false(mask_bit(bits, start));
    assert_true(mask_bit(bits, tool)); /* user-defined: it is text */
    assert_true(mask_bit(bits, end));
    assert_int_equal(grammar_state_accept(s, start, NULL), GALEN_E_REFUSED);
    assert_int_equal(grammar_state_accept(s, -1, NULL), GALEN_E_RANGE);
    assert_int_equal(grammar_state_accept(s, tokenizer_n_vocab(w.m.t), NULL), GALEN_E_RANGE);
    assert_int_equal(grammar_state_accept(s, end, NULL), GALEN_OK);
    assert_true(grammar_state_is_done(s));
    assert_int_equal(grammar_state_accept(s, 'a', NULL), GALEN_E_REFUSED);
    grammar_state_close(s);
    grammar_close(g);
}

/* What a sequence remembers is thrown away now and then; nothing may change by it. */
static void long_texts_keep_their_place(void **state) {
    (void)state;
    uint32_t bits[16], slow[16], limited[16];
    grammar_state *s;
    grammar *g = must_open(GBNF, "root ::= ([a-c]{1,9} \",\"){30000} \"x\"");
    assert_int_equal(grammar_state_open(&s, g, NULL), GALEN_OK);
    for (int i = 0; i < 30000; i++) {
        assert_int_equal(grammar_state_accept(s, 'a' + i % 3, NULL), GALEN_OK);
        if (i % 7919 == 0) {
            assert_int_equal(grammar_state_mask(s, bits, NULL), GALEN_OK);
            brute_force(s, slow, limited);
            assert_memory_equal(bits, slow, grammar_mask_words(tokenizer_n_vocab(w.m.t)) * 4);
        }
        assert_int_equal(grammar_state_accept(s, ',', NULL), GALEN_OK);
    }
    assert_int_equal(grammar_state_accept(s, 'a', NULL), GALEN_E_REFUSED);
    assert_int_equal(grammar_state_accept(s, 'x', NULL), GALEN_OK);
    assert_true(grammar_state_is_done(s));
    grammar_state_close(s);
    grammar_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_equal_trying_on_random_grammars),
        cmocka_unit_test(masks_equal_trying_on_schemas),
        cmocka_unit_test(control_tokens_are_never_admitted),
        cmocka_unit_test(long_texts_keep_their_place),
    };
    return cmocka_run_group_tests(tests, grammar_setup, grammar_teardown);
}
