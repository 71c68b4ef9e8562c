/* What grammars and schemas refuse to be: each error names the rule or the pointer; the checklist R1 to R8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grammars.h"

typedef struct refusal {
    const char *text;
    galen_status st;
    const char *says;
    uint64_t offset;
    const char *why;
} refusal;

static void check_refusal(grammar_kind kind, const refusal *r) {
    grammar *g = (grammar *)1;
    galen_error err = {0};
    const galen_status st = open_any(&g, w.v, kind, r->text, &err);
    if (st != r->st || !strstr(err.msg, r->says) || g || err.code != st)
        fail_msg("%s: status %d, \"%s\"; expected %d, \"%s\"", r->why, st, err.msg, r->st, r->says);
    if (kind == GBNF && err.offset != r->offset)
        fail_msg("%s: offset %llu, expected %llu (%s)", r->why, (unsigned long long)err.offset, (unsigned long long)r->offset,
                 err.msg);
}

static void bad_gbnf_is_named(void **state) {
    (void)state;
    static const refusal rows[] = {
        {"", GALEN_E_FORMAT, "no rule \"root\"", 0, "nothing"},
        {"a ::= \"x\"", GALEN_E_FORMAT, "no rule \"root\"", 0, "no root"},
        {"root ::= x", GALEN_E_FORMAT, "rule \"x\" is used and never defined", 9, "undefined"},
        {"root := \"x\"", GALEN_E_FORMAT, "expected ::=", 5, "not a definition"},
        {"root ::= \"x", GALEN_E_FORMAT, "no closing quote", 9, "open text"},
        {"root ::= \"x\n\"", GALEN_E_FORMAT, "no closing quote", 9, "text over lines"},
        {"root ::= [a", GALEN_E_FORMAT, "no closing bracket", 9, "open class"},
        {"root ::= [z-a]", GALEN_E_FORMAT, "ends before it begins", 10, "backward range"},
        {"root ::= []", GALEN_E_FORMAT, "no character is in", 9, "empty class"},
        {"root ::= (\"a\"", GALEN_E_FORMAT, "never closed", 9, "open group"},
        {"root ::= \"a\")", GALEN_E_FORMAT, "none opened", 12, "closed too often"},
        {"root ::= *", GALEN_E_FORMAT, "nothing here to be repeated", 9, "star of nothing"},
        {"root ::= \"a\"{5,2}", GALEN_E_FORMAT, "above its greatest", 12, "5 to 2"},
        {"root ::= \"a\"{x}", GALEN_E_FORMAT, "written {m}", 12, "no number"},
        {"root ::= \"a\"{1", GALEN_E_FORMAT, "written {m}", 12, "open count"},
        {"root ::= \"\\q\"", GALEN_E_FORMAT, "no such escape", 10, "unknown escape"},
        {"root ::= \"\\x4\"", GALEN_E_FORMAT, "2 hexadecimal", 10, "short escape"},
        {"root ::= \"\\ud800\"", GALEN_E_FORMAT, "surrogate", 10, "half a pair"},
        {"root ::= \"\\", GALEN_E_FORMAT, "within an escape", 10, "cut escape"},
        {"root ::= \"a\"\nroot ::= \"b\"", GALEN_E_FORMAT, "second time", 13, "defined twice"},
        {"root ::= \"\xFF\"", GALEN_E_FORMAT, "not UTF-8", 10, "not UTF-8"},
        {"root ::= <think>", GALEN_E_UNSUPPORTED, "single tokens", 9, "a token"},
        {"root ::= $", GALEN_E_FORMAT, "expected a text", 9, "unknown sign"},
        {"root ::= a\na ::= b\nb ::= \"x\" a", GALEN_E_RANGE, "can never end", 0, "endless"},
        {"root ::= root \"x\" | \"y\"", GALEN_E_RANGE, "\"root\" is left-recursive", 0, "direct"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_refusal(GBNF, &rows[i]);
}

static void bad_schemas_are_named(void **state) {
    (void)state;
    static const refusal rows[] = {
        {"{", GALEN_E_FORMAT, "not JSON: line 1", 0, "cut"},
        {"{\"a\":1,\"a\":2}", GALEN_E_FORMAT, "not JSON", 0, "a key twice"},
        {"[]", GALEN_E_FORMAT, "#: a schema is", 0, "not a schema"},
        {"false", GALEN_E_RANGE, "#: admits nothing", 0, "false"},
        {"{\"properties\":{\"a\":{\"type\":\"foo\"}}}", GALEN_E_FORMAT, "#/properties/a/type", 0, "unknown type"},
        {"{\"maxlength\":3}", GALEN_E_UNSUPPORTED, "#/maxlength", 0, "misspelt"},
        {"{\"items\":{\"not\":{}}}", GALEN_E_UNSUPPORTED, "#/items/not", 0, "not"},
        {"{\"uniqueItems\":true}", GALEN_E_UNSUPPORTED, "#/uniqueItems", 0, "unique"},
        {"{\"multipleOf\":2}", GALEN_E_UNSUPPORTED, "#/multipleOf", 0, "multiples"},
        {"{\"patternProperties\":{}}", GALEN_E_UNSUPPORTED, "#/patternProperties", 0, "patterns of names"},
        {"{\"type\":\"string\",\"format\":\"hostname\"}", GALEN_E_UNSUPPORTED, "#/format", 0, "unknown format"},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"minLength\":3}", GALEN_E_UNSUPPORTED, "#/pattern", 0, "pattern and length"},
        {"{\"enum\":[1],\"minimum\":3}", GALEN_E_UNSUPPORTED, "#/enum", 0, "values and bounds"},
        {"{\"enum\":[1],\"type\":\"string\"}", GALEN_E_RANGE, "#/enum", 0, "no value of the type"},
        {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", GALEN_E_RANGE, "#: admits nothing", 0, "no type left"},
        {"{\"allOf\":[{\"const\":1},{\"const\":2}]}", GALEN_E_RANGE, "#/allOf/1/const", 0, "two constants"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", GALEN_E_UNSUPPORTED, "#/oneOf: branches 0 and 1", 0,
         "3 fits both"},
        {"{\"minimum\":3,\"maximum\":2}", GALEN_E_RANGE, "#: admits nothing", 0, "bounds crossed"},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":1,\"exclusiveMaximum\":2}", GALEN_E_RANGE, "admits nothing", 0,
         "no integer between"},
        {"{\"minItems\":3,\"maxItems\":2}", GALEN_E_RANGE, "#: admits nothing", 0, "items crossed"},
        {"{\"items\":false,\"minItems\":1}", GALEN_E_RANGE, "#: admits nothing", 0, "items forbidden and wanted"},
        {"{\"required\":[\"a\"],\"properties\":{\"a\":false}}", GALEN_E_RANGE, "#/properties/a", 0,
         "a required property forbidden"},
        {"{\"required\":\"a\"}", GALEN_E_FORMAT, "#/required", 0, "not a list"},
        {"{\"minLength\":-1}", GALEN_E_FORMAT, "#/minLength", 0, "negative"},
        {"{\"minLength\":1.5}", GALEN_E_FORMAT, "#/minLength", 0, "not whole"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#/properties/a\"}}}", GALEN_E_RANGE, "refers to itself", 0, "a reference to itself"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", GALEN_E_RANGE, "can never end", 0, "endless"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", GALEN_E_RANGE, "refers to itself", 0, "a branch of itself"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_refusal(SCHEMA, &rows[i]);
}

/* ---------------------------------------------------------------- the checklist of malformed inputs, R1 to R8 */

static char *repeated(const char *head, const char *part, size_t n, const char *middle, const char *part2, const char *tail) {
    const size_t len = strlen(head) + strlen(middle) + strlen(tail) + n * (strlen(part) + strlen(part2)) + 1;
    char *text = malloc(len), *at = text;
    assert_non_null(text);
    at += sprintf(at, "%s", head);
    for (size_t i = 0; i < n; i++) at += sprintf(at, "%s", part);
    at += sprintf(at, "%s", middle);
    for (size_t i = 0; i < n; i++) at += sprintf(at, "%s", part2);
    (void)sprintf(at, "%s", tail);
    return text;
}

static void refuse(grammar_kind kind, char *text, galen_status st, const char *says, const char *why) {
    grammar *g = NULL;
    galen_error err = {0};
    const galen_status got = open_any(&g, w.v, kind, text, &err);
    if (got != st || !strstr(err.msg, says)) fail_msg("%s: %d \"%s\", expected %d \"%s\"", why, got, err.msg, st, says);
    free(text);
}

static void r1_many_brackets(void **state) {
    (void)state;
    refuse(GBNF, repeated("root ::= ", "(", 60000, "", "", ""), GALEN_E_RANGE, "open groups", "60,000 open brackets");
    refuse(GBNF, repeated("root ::= ", "(", 60000, "\"a\"", ")", ""), GALEN_E_RANGE, "open groups", "60,000 pairs");
    char *text = repeated("root ::= ", "(", 9000, "\"a\"", ")", "");
    grammar *g = must_open(GBNF, text);
    assert_true(is_in(g, "a", 1));
    grammar_close(g);
    free(text);
}

static void r2_chains_and_left_recursion(void **state) {
    (void)state;
    enum { CHAIN = 5000 };
    char *text = malloc(CHAIN * 40), *at = text;
    assert_non_null(text);
    at += sprintf(at, "root ::= r0\n");
    for (int i = 0; i < CHAIN; i++) at += sprintf(at, "r%d ::= r%d\n", i, i + 1);
    (void)sprintf(at, "r%d ::= \"a\"", CHAIN);
    grammar *g = must_open(GBNF, text);
    assert_true(is_in(g, "a", 1));
    grammar_close(g);
    (void)sprintf(at, "r%d ::= r0 \"a\" | \"b\"", CHAIN);
    refuse(GBNF, text, GALEN_E_RANGE, "left-recursive", "a chain of 5,000 rules that bites its tail");
    static const char *const rows[] = {
        "root ::= root \"a\" | \"b\"",
        "root ::= x \"a\" | \"b\"\nx ::= root",
        "root ::= n root \"a\" | \"b\"\nn ::= \"c\"?",
        "root ::= \"c\"* root | \"b\"",
        "root ::= (\"c\" | \"\"){2,3} root | \"b\"",
        "root ::= (root \"a\"){0,2} \"b\"",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse(GBNF, strdup(rows[i]), GALEN_E_RANGE, "left-recursive", rows[i]);
}

static void r3_repetitions(void **state) {
    (void)state;
    static const language rows[] = {
        {"root ::= (\"a\"*)*", {"", "aaaa"}, {"b"}, "a star of stars"},
        {"root ::= ((\"a\"?)+)+", {"", "aaa"}, {"b"}, "plus of plus of perhaps"},
        {"root ::= (\"a\"*){0,1000000}", {"", "aaa"}, {"b"}, "a million of what may be empty"},
        {"root ::= [a-z]{0,1073741824}", {"", "abc"}, {"A"}, "a thousand million at most"},
        {"root ::= ([a-z]{1,1000}){1,1000}", {"abc"}, {""}, "counts of counts"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_language(GBNF, &rows[i]);
    refuse(GBNF, strdup("root ::= \"a\"{0,2147483648}"), GALEN_E_FORMAT, "more than 1073741824", "{0,2^31}");
    refuse(GBNF, strdup("root ::= \"a\"{0,99999999999999999999}"), GALEN_E_FORMAT, "more than 1073741824", "beyond 2^64");
    refuse(GBNF, strdup("root ::= \"a\"{5,2}"), GALEN_E_FORMAT, "above its greatest", "{5,2}");
}

static void r4_references(void **state) {
    (void)state;
    static const refusal rows[] = {
        {"{\"$ref\":\"#\"}", GALEN_E_RANGE, "refers to itself", 0, "to itself"},
        {"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"$ref\":\"#/$defs/a\"}", GALEN_E_RANGE,
         "refers to itself", 0, "a ring"},
        {"{\"allOf\":[{\"$ref\":\"#\"}]}", GALEN_E_RANGE, "refers to itself", 0, "through allOf"},
        {"{\"$defs\":{\"a\":{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"$ref\":\"#/$defs/"
         "a\"}},\"items\":{\"$ref\":\"#/$defs/b\"}}",
         GALEN_E_RANGE, "refers to itself", 0, "a ring through a branch, entered elsewhere"},
        {"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"allOf\":[{\"$ref\":\"#/$defs/"
         "a\"},{\"$ref\":\"#/$defs/b\"}]}",
         GALEN_E_RANGE, "refers to itself", 0, "a ring entered twice"},
        {"{\"$ref\":\"#/nowhere/0\"}", GALEN_E_FORMAT, "#/$ref: the reference leads nowhere", 0, "nowhere"},
        {"{\"$ref\":\"#nowhere\"}", GALEN_E_UNSUPPORTED, "anchor", 0, "an anchor"},
        {"{\"$ref\":\"file:///etc/passwd\"}", GALEN_E_UNSUPPORTED, "nothing is fetched", 0, "a file"},
        {"{\"$ref\":\"http://example.org/a.json\"}", GALEN_E_UNSUPPORTED, "nothing is fetched", 0, "the network"},
        {"{\"$ref\":\"other.json#/a\"}", GALEN_E_UNSUPPORTED, "nothing is fetched", 0, "another document"},
        {"{\"$ref\":5}", GALEN_E_FORMAT, "#/$ref", 0, "not a string"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_refusal(SCHEMA, &rows[i]);
}

static void r5_patterns(void **state) {
    (void)state;
    static const refusal rows[] = {
        {"{\"pattern\":\"^+a$\"}", GALEN_E_FORMAT, "#/pattern: byte 1", 0, "^+"},
        {"{\"pattern\":\"*a\"}", GALEN_E_FORMAT, "byte 0 of the pattern: there is nothing", 0, "* of nothing"},
        {"{\"pattern\":\"a**\"}", GALEN_E_FORMAT, "byte 2 of the pattern: there is nothing", 0, "* of *"},
        {"{\"pattern\":\"(?<=x)\"}", GALEN_E_UNSUPPORTED, "look-around", 0, "look-behind"},
        {"{\"pattern\":\"(?=x)\"}", GALEN_E_UNSUPPORTED, "look-around", 0, "look-ahead"},
        {"{\"pattern\":\"(a)\\\\1\"}", GALEN_E_UNSUPPORTED, "back reference", 0, "\\1"},
        {"{\"pattern\":\"\\\\bx\"}", GALEN_E_UNSUPPORTED, "word boundary", 0, "\\b"},
        {"{\"pattern\":\"\\\\p{L}\"}", GALEN_E_UNSUPPORTED, "escape of this kind", 0, "\\p"},
        {"{\"pattern\":\"[z-a]\"}", GALEN_E_FORMAT, "ends before it begins", 0, "[z-a]"},
        {"{\"pattern\":\"[\"}", GALEN_E_FORMAT, "closing bracket", 0, "["},
        {"{\"pattern\":\"a\\\\\"}", GALEN_E_FORMAT, "backslash at the end", 0, "\\ at the end"},
        {"{\"pattern\":\"(a\"}", GALEN_E_FORMAT, "never closed", 0, "("},
        {"{\"pattern\":\"a)\"}", GALEN_E_FORMAT, "none opened", 0, ")"},
        {"{\"pattern\":\"a{2,1}\"}", GALEN_E_FORMAT, "above its greatest", 0, "{2,1}"},
        {"{\"pattern\":\"a^b\"}", GALEN_E_UNSUPPORTED, "^ that is not", 0, "^ inside"},
        {"{\"pattern\":\"(a$)\"}", GALEN_E_UNSUPPORTED, "$ that is not", 0, "$ inside"},
        {"{\"pattern\":\"\\\\ud800\"}", GALEN_E_UNSUPPORTED, "surrogate", 0, "half a pair"},
        {"{\"pattern\":7}", GALEN_E_FORMAT, "#/pattern", 0, "a number"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_refusal(SCHEMA, &rows[i]);
    refuse(SCHEMA, repeated("{\"pattern\":\"", "(", 10000, "", "", "\"}"), GALEN_E_RANGE, "open groups", "10,000 open brackets");
    char *text = repeated("{\"pattern\":\"^", "(", 9000, "a", ")", "$\"}");
    grammar *g = must_open(SCHEMA, text);
    assert_true(is_in(g, "\"a\"", 3));
    grammar_close(g);
    free(text);
}

static void r6_big_and_wrong_values(void **state) {
    (void)state;
    enum { MANY = 100000 };
    static const refusal rows[] = {
        {"{\"type\":\"foo\"}", GALEN_E_FORMAT, "#/type", 0, "type foo"},
        {"{\"type\":7}", GALEN_E_FORMAT, "#/type", 0, "type as a number"},
        {"{\"type\":[]}", GALEN_E_FORMAT, "#/type", 0, "no types"},
        {"{\"enum\":[]}", GALEN_E_FORMAT, "#/enum", 0, "no values"},
        {"{\"enum\":7}", GALEN_E_FORMAT, "#/enum", 0, "values as a number"},
        {"{\"minLength\":5,\"maxLength\":2}", GALEN_E_RANGE, "minLength is above maxLength", 0, "lengths crossed"},
        {"{\"maxLength\":1e300}", GALEN_E_RANGE, "#/maxLength", 0, "a length beyond all"},
        {"{\"anyOf\":[]}", GALEN_E_FORMAT, "#/anyOf", 0, "no branches"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_refusal(SCHEMA, &rows[i]);
    char *text = malloc(MANY * 24 + 64), *at = text;
    assert_non_null(text);
    at += sprintf(at, "{\"enum\":[0");
    for (int i = 1; i < MANY; i++) at += sprintf(at, ",\"v%d\"", i);
    (void)sprintf(at, "]}");
    grammar *g = must_open(SCHEMA, text);
    assert_true(is_in(g, "\"v99999\"", 8) && !is_in(g, "\"v100000\"", 9));
    grammar_close(g);
    at = text + sprintf(text, "{\"anyOf\":[{\"type\":\"null\"}");
    for (int i = 1; i < 10000; i++) at += sprintf(at, ",{\"const\":%d}", i);
    (void)sprintf(at, "]}");
    refuse(SCHEMA, text, GALEN_E_RANGE, "alternatives are open at once", "anyOf of 10,000");
    refuse(SCHEMA, repeated("{\"const\":\"", "0123456789abcdef", 1 << 17, "", "", "\"}"), GALEN_E_RANGE, "states",
           "a constant of 2 MiB");
    text = repeated("{\"const\":\"", "0123456789abcdef", 1 << 16, "", "", "\"}");
    grammar_close(must_open(SCHEMA, text)); /* 1 MiB is within the limits */
    free(text);
    refuse(SCHEMA, repeated("", "[", 100000, "", "", ""), GALEN_E_FORMAT, "not JSON", "100,000 open brackets");
    refuse(SCHEMA, repeated("", "{\"items\":", 100000, "", "}", ""), GALEN_E_FORMAT, "not JSON", "100,000 schemas in each other");
    text = repeated("", "{\"items\":", 2000, "{}", "}", "");
    grammar_close(must_open(SCHEMA, text));
    free(text);
}

static void r7_nothing_is_admitted(void **state) {
    (void)state;
    refuse(GBNF, strdup("root ::= root2\nroot2 ::= \"a\" root2"), GALEN_E_RANGE, "can never end", "a rule that never ends");
    refuse(GBNF, strdup("root ::= \"a\" (\"b\" root){1,3}"), GALEN_E_RANGE, "can never end", "the same in a count");
    refuse(GBNF, strdup("root ::= [^\\x00-\\U0010FFFF]"), GALEN_E_FORMAT, "no character is in", "a class of nothing");
    refuse(SCHEMA,
           strdup("{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/"
                  "n\"}},\"required\":[\"n\"]}},\"$ref\":\"#/$defs/n\"}"),
           GALEN_E_RANGE, "can never end", "a tree without leaves");
}

static void r8_bytes_that_no_token_has(void **state) {
    (void)state;
    static maker m;
    grammar_vocab *v;
    grammar *g;
    galen_error err = {0};
    maker_spm(&m);
    m.n = m.n_kinds = m.n_scores = 3; /* no byte tokens: a, b and a pair that begins nothing else */
    maker_token(&m, "a", TOKEN_NORMAL, 0);
    maker_token(&m, "bc", TOKEN_NORMAL, -1);
    assert_int_equal(maker_open(&m, &err), GALEN_OK);
    assert_int_equal(grammar_vocab_open(&v, m.t, &err), GALEN_OK);
    assert_int_equal(open_any(&g, v, GBNF, "root ::= \"a\" second\nsecond ::= \"x\"", &err), GALEN_E_RANGE);
    assert_non_null(strstr(err.msg, "rule \"second\": byte 0x78 is in no token"));
    assert_int_equal(err.offset, 20);
    assert_int_equal(open_any(&g, v, GBNF, "root ::= \"ca\"", &err), GALEN_E_RANGE); /* c only within bc */
    assert_non_null(strstr(err.msg, "rule \"root\": no token of the vocabulary fits"));
    assert_int_equal(open_any(&g, v, ANY_OBJECT, NULL, &err), GALEN_E_RANGE);
    /* It is found only when it is reached: an error then, not an endless loop. */
    uint32_t bits[1];
    grammar_state *s;
    assert_int_equal(open_any(&g, v, GBNF, "root ::= \"a\" \"b\" \"a\" | \"a\" \"bc\" \"b\"", &err), GALEN_OK);
    assert_int_equal(grammar_state_open(&s, g, &err), GALEN_OK);
    assert_int_equal(grammar_state_mask(s, bits, &err), GALEN_OK);
    assert_int_equal(bits[0], 1u << 3);
    assert_int_equal(grammar_state_accept(s, 3, &err), GALEN_OK);
    assert_int_equal(grammar_state_accept(s, 4, &err), GALEN_OK);
    assert_int_equal(grammar_state_mask(s, bits, &err), GALEN_E_REFUSED);
    assert_non_null(strstr(err.msg, "rule \"root\": no token"));
    grammar_state_close(s);
    grammar_close(g);
    grammar_vocab_close(v);
    maker_close(&m);
}

static void ambiguity_is_bounded(void **state) {
    (void)state;
    text_buf *t = calloc(1, sizeof *t);
    assert_non_null(t);
    char line[64];
    put(t, "root ::= r0\n");
    for (int i = 0; i < 20; i++) { /* 2^20 ways to read the first a */
        (void)snprintf(line, sizeof line, "r%d ::= r%d \"x\" | r%d \"y\"\n", i, i + 1, i + 1);
        put(t, line);
    }
    put(t, "r20 ::= \"a\"");
    refuse(GBNF, strdup(t->p), GALEN_E_RANGE, "alternatives are open at once", "exponential");
    free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_gbnf_is_named),
        cmocka_unit_test(bad_schemas_are_named),
        cmocka_unit_test(r1_many_brackets),
        cmocka_unit_test(r2_chains_and_left_recursion),
        cmocka_unit_test(r3_repetitions),
        cmocka_unit_test(r4_references),
        cmocka_unit_test(r5_patterns),
        cmocka_unit_test(r6_big_and_wrong_values),
        cmocka_unit_test(r7_nothing_is_admitted),
        cmocka_unit_test(r8_bytes_that_no_token_has),
        cmocka_unit_test(ambiguity_is_bounded),
    };
    return cmocka_run_group_tests(tests, grammar_setup, grammar_teardown);
}
