/* What grammars and schemas admit, what they refuse to be, and the mask against trying every token. */
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
#include "grammar/program.h"
#include "grammars.h"

static words w;

static int setup(void **state) {
    (void)state;
    words_open(&w);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    words_close(&w);
    return 0;
}

static grammar *must_open(grammar_kind kind, const char *text) {
    grammar *g;
    galen_error err = {0};
    if (open_any(&g, w.v, kind, text, &err)) fail_msg("%.200s\n  %s", text, err.msg);
    return g;
}

static bool mask_bit(const uint32_t *bits, int32_t id) {
    return bits[id / 32] >> (id % 32) & 1;
}

/* ---------------------------------------------------------------- what is admitted */

typedef struct language {
    const char *text;
    const char *in[8], *out[8]; /* up to the first NULL */
    const char *why;
} language;

static void check_language(grammar_kind kind, const language *l) {
    grammar *g = must_open(kind, l->text);
    for (int i = 0; i < 8 && l->in[i]; i++)
        if (!is_in(g, l->in[i], strlen(l->in[i]))) fail_msg("%s: \"%s\" is refused", l->why, l->in[i]);
    for (int i = 0; i < 8 && l->out[i]; i++)
        if (is_in(g, l->out[i], strlen(l->out[i]))) fail_msg("%s: \"%s\" is admitted", l->why, l->out[i]);
    grammar_close(g);
}

static void gbnf_admits_what_it_says(void **state) {
    (void)state;
    static const language rows[] = {
        {"root ::= \"ab\"", {"ab"}, {"", "a", "abc", "b"}, "a text"},
        {"root ::= \"\"", {""}, {"a"}, "an empty text"},
        {"root ::= \"a\" | \"ab\" | \"abc\" \"d\"", {"a", "ab", "abcd"}, {"abc", "d"}, "alternatives that share their beginning"},
        {"root ::= (\"a\" | \"b\" (\"c\" | )) \"d\"", {"ad", "bcd", "bd"}, {"acd", "d"}, "groups, an empty alternative"},
        {"root ::= [a-c] [^a-c\\n] [-x]",
         {"ad-", "cZx", "b\xC3\xA9-"},
         {"aa-", "a\n-", "adx-", "da-"},
         "classes, negated, a last -"},
        {"root ::= [\\]\\-\\\\a]+", {"]", "-\\a"}, {"b", ""}, "escapes in a class"},
        {"root ::= . .", {"ab", "\xF0\x9F\xA4\x92\n"}, {"a", "abc", "\xF0\x9F\xA4"}, "any character, not byte"},
        {"root ::= \"a\"* \"b\"+ \"c\"?", {"b", "aabbc", "bc"}, {"a", "c", "abcc"}, "star, plus, question mark"},
        {"root ::= \"ab\"{2} \"c\"{1,} \"d\"{0,2}",
         {"ababc", "ababccdd"},
         {"abc", "abababc", "abab", "ababcddd"},
         "counts of texts"},
        {"root ::= ( \"a\" [0-9] ){ 2 , 3 }", {"a1a2", "a1a2a3"}, {"a1", "a1a2a3a4"}, "counts of groups, with spaces"},
        {"root ::= \"a\"{0} \"b\"", {"b"}, {"ab"}, "none at all"},
        {"root ::= x{2,3} x \r\nx ::= \"a\" | \"aa\"", {"aaa", "aaaaaaaa"}, {"aa", "aaaaaaaaa"}, "an ambiguous element"},
        {"root ::= (\"a\"? \"b\"?){2,3}",
         {"", "ab", "ababab", "aaa", "bbb"},
         {"aaaa", "abababa"},
         "an element that may be empty"},
        {"root ::= \"\\x41\\u00e9\\U0001F912\\t\\\"\"", {"A\xC3\xA9\xF0\x9F\xA4\x92\t\""}, {"A"}, "escapes are characters"},
        {"root ::= [\\u00e0-\\u20ff]",
         {"\xC3\xA0", "\xE2\x83\xBF", "\xDF\xBF"},
         {"\xC3\x9F", "\xE2\x84\x80", "a"},
         "a range over lengths of UTF-8"},
        {"# first\nroot ::= a # more\n  \"x\"\n", {NULL}, {NULL}, NULL},
        {"root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"((x)", "()", "x)"}, "recursion in the middle"},
        {"root ::= item (\",\" root)?\nitem ::= [0-9]", {"1", "1,2,3,4"}, {"1,", ",1"}, "recursion at the right"},
        {"root ::= (\n \"a\" |\n \"b\"\n) # c\n", {"a", "b"}, {"ab"}, "lines within brackets"},
        {"root ::= a_1-B\na_1-B ::= \"z\"", {"z"}, {"a"}, "names with - and _"},
        {"root ::= \"a\" \"b\"* | \"a\" \"c\"", {"a", "abb", "ac"}, {"abc"}, "shared beginnings, then a repetition"},
        {"root ::= (\"ab\")+ | \"a\"", {"a", "ab", "abab"}, {"aba", ""}, "a repeated text is not shared"},
        {"root ::= s s\ns ::= \"\\\"\" c* \"\\\"\"\nc ::= [^\"]",
         {"\"a\"\"\""},
         {"\"a\"", "\"a\"b\"\""},
         "a class repeated through a rule"},
        {"root ::= \"\xC3\xA9\" [\xC3\xA9\xC3\xAA]", {"\xC3\xA9\xC3\xAA"}, {"\xC3\xA9"}, "UTF-8 as it is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].why) check_language(GBNF, &rows[i]);
}

static void scalars_admit_what_they_say(void **state) {
    (void)state;
    static const language rows[] = {
        {"{\"type\":\"integer\"}", {"0", "-7", "120"}, {"01", "-0", "1.0", "\"1\"", ""}, "integers"},
        {"{\"type\":\"number\"}", {"0", "-1.5e3", "2E-07"}, {".5", "1.", "1e999", "00"}, "numbers"},
        {"{\"type\":[\"null\",\"boolean\"]}", {"null", "true", "false"}, {"nul", "1"}, "two types"},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xC3\xA9\xF0\x9F\xA4\x92x\"", "\"\\n\\u00e9\""},
         {"\"a\"", "\"abcd\"", "\"a\nb\"", "\"\\ud83e\\udd12\"", "\"\\u0000ab\""},
         "length in characters; no NUL, no half pairs, no raw line ends"},
        {"{\"enum\":[\"a\",1,null,{\"b\":[]}],\"type\":[\"string\",\"object\"]}",
         {"\"a\"", "{\"b\":[]}"},
         {"1", "null"},
         "values of a type"},
        {"{\"const\":\"a\\\"\xC3\xA9\"}", {"\"a\\\"\xC3\xA9\""}, {"\"a\""}, "a constant with what must be escaped"},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":123}",
         {"-5", "0", "99", "123"},
         {"-6", "124", "1230", "-0", "007"},
         "bounds"},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":8.5,\"exclusiveMaximum\":11}", {"9", "10"}, {"8", "11"}, "exclusive bounds"},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
         {"0", "0.25", "1", "1.0", "1.000"},
         {"1.01", "-0.1", "2", "0.", "-0"},
         "a probability"},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":0.5}",
         {"0.5", "0.01", "0.50"},
         {"0", "0.0", "0.51", "1"},
         "above 0"},
        {"{\"type\":\"number\",\"minimum\":-1.25,\"exclusiveMaximum\":10}",
         {"-1.25", "-1.2", "0", "9.99"},
         {"-1.26", "10", "10.0"},
         "around 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_language(SCHEMA, &rows[i]);
}

static void objects_and_arrays_admit_what_they_say(void **state) {
    (void)state;
    static const language rows[] = {
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null, null]"},
         {"[]", "[null, null, null]", "[null,null]"},
         "arrays"},
        {"{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
         {"[]", "[1]", "[1, 2]"},
         {"[2]", "[1, 2, 3]"},
         "a tuple"},
        {"{\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":9},\"minItems\":2,\"maxItems\":3}",
         {"[1, 9]", "[1, 9, 9]"},
         {"[1]", "[1, 9, 9, 9]"},
         "a tuple and more"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}},\"required\":[\"b\"]"
         "}",
         {"{\"b\": 2}", "{\"a\": 1, \"b\": 2, \"c\": 3}", "{\"b\": 2, \"c\": 3}"},
         {"{}", "{\"a\": 1}", "{\"b\": 2, \"a\": 1}", "{\"b\": 2, }", "{\"b\": 2, \"d\": 1}"},
         "optional and required properties, in order"},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{\"const\":0}}",
         {"{}", "{\"ab\": 1, \"a\": 0, \"abc\": 0}", "{\"\": 0}", "{\"\xC3\xA9\": 0}"},
         {"{\"ab\": 0}", "{\"ab\": 1, \"ab\": 0}", "{\"\\u0061b\": 0}"},
         "other members never take a property's name"},
        {"{\"additionalProperties\":{\"type\":\"integer\"}}", {"{}", "{\"x\": 1, \"y\": 2}"}, {"{\"x\": \"1\"}"}, "a map"},
        {"{\"type\":\"object\",\"required\":[\"z\"]}",
         {"{\"z\": [1]}", "{\"z\": 0, \"y\": 1}"},
         {"{}"},
         "required and not described"},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"integer\",\"maximum\":3}],\"minimum\":2}",
         {"2", "3", "null"},
         {"4", "1"},
         "anyOf beside others"},
        {"{\"oneOf\":[{\"const\":1},{\"type\":\"string\"}]}", {"1", "\"x\""}, {"2"}, "oneOf of different types"},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":1}},\"required\":[\"a\"]},{\"properties\":{\"a\":{\"type\":\"integer\","
         "\"maximum\":3}},\"additionalProperties\":false}]}",
         {"{\"a\": 1}", "{\"a\": 3}"},
         {"{\"a\": 0}", "{\"a\": 4}", "{}"},
         "allOf merged property by property"},
        {"{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
         "t\"}}},\"required\":[\"k\"]}},\"$ref\":\"#/$defs/t\"}",
         {"{\"k\": []}", "{\"k\": [{\"k\": []}, {\"k\": [{\"k\": []}]}]}"},
         {"{\"k\": [1]}", "{\"k\": [{}]}"},
         "a tree by reference"},
        {"{\"definitions\":{\"a~b/c\":{\"const\":5}},\"properties\":{\"x\":{\"$ref\":\"#/definitions/"
         "a~0b~1c\"}},\"required\":[\"x\"]}",
         {"{\"x\": 5}"},
         {"{\"x\": 6}"},
         "an escaped pointer"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_language(SCHEMA, &rows[i]);
}

static void texts_admit_what_they_say(void **state) {
    (void)state;
    static const language rows[] = {
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"1999-12-31\"", "\"2000-02-29\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"2024-13-01\"", "\"0000-01-01\"", "\"2024-1-1\""},
         "dates that exist"},
        {"{\"type\":\"string\",\"format\":\"time\"}",
         {"\"23:59:59Z\"", "\"00:00:00.25+02:00\""},
         {"\"24:00:00Z\"", "\"12:00Z\"", "\"12:00:00\""},
         "times"},
        {"{\"type\":\"string\",\"format\":\"date-time\"}", {"\"2024-02-29T01:02:03Z\""}, {"\"2024-02-29 01:02:03Z\""}, "both"},
        {"{\"type\":\"string\",\"format\":\"uuid\"}",
         {"\"01234567-89ab-cdef-0123-456789abcdef\""},
         {"\"0123\"", "\"0123456789abcdef0123456789abcdef\""},
         "a UUID"},
        {"{\"type\":\"string\",\"pattern\":\"^[A-Z]\\\\d{2}(\\\\.\\\\w{1,4})?$\"}",
         {"\"J18\"", "\"J18.9\""},
         {"\"J1\"", "\"xJ18\"", "\"J18.\"", "\"J18.99999\""},
         "a pattern with both ends"},
        {"{\"type\":\"string\",\"pattern\":\"ab\"}",
         {"\"ab\"", "\"xxabyy\""},
         {"\"a\"", "\"ba\""},
         "a pattern is looked for anywhere"},
        {"{\"type\":\"string\",\"pattern\":\"^a|b$\"}",
         {"\"axx\"", "\"xxb\"", "\"a\""},
         {"\"xax\"", "\"bx\""},
         "anchors of alternatives"},
        {"{\"type\":\"string\",\"pattern\":\"^[\\\"\\\\\\\\\\\\n]+$\"}",
         {"\"\\\"\\\\\\n\""},
         {"\"\"\"", "\"a\""},
         "what JSON escapes"},
        {"{\"type\":\"string\",\"pattern\":\"^(?:a|bc)+?x*$\"}",
         {"\"abc\"", "\"axx\""},
         {"\"b\"", "\"x\""},
         "groups and lazy repetition"},
        {"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/c\"},\"b\":{\"$ref\":\"#/$defs/"
         "c\"},\"c\":{\"anyOf\":[{\"const\":1},{\"const\":2}]}},\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}]}",
         {"1", "2"},
         {"3", "null"},
         "the same branches by two ways"},
        {"true", {"1", "[1, {\"a\":\"b\"}]", "\"x\"", "null"}, {"", "[", "{\"a\"}"}, "anything"},
        {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[], [[]]]"}, {"[1]"}, "the root within itself"},
        {"{\"minimum\":3}", {"3", "3.5"}, {"2", "\"x\""}, "a keyword implies its type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_language(SCHEMA, &rows[i]);
}

static void any_object_is_json(void **state) {
    (void)state;
    static const language row = {
        NULL,
        {"{}", "{\"a\": 1}", "{\n  \"a\": [1, -2.5e1, null, true],\"b\":{\"c\":\"\\u00e9\\n\"}\n}", "{ \"a\":\"\"}"},
        {"[]", "{\"a\"}", "{\"a\":1,}", "{\"a\":01}", "{'a':1}", "{\"a\":\"\t\"}", "{}}"},
        "any object"};
    check_language(ANY_OBJECT, &row);
}

/* ---------------------------------------------------------------- what cannot be */

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

/* ---------------------------------------------------------------- the mask against trying every token */

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

typedef struct text_buf {
    char p[8192];
    size_t n;
} text_buf;

static uint64_t draws;
static uint32_t draw(uint32_t n) {
    return (uint32_t)(rng_uniform(7, 1, draws++) * n);
}
static void put(text_buf *t, const char *s) {
    const size_t n = strlen(s);
    if (t->n + n + 1 > sizeof t->p) return;
    memcpy(t->p + t->n, s, n + 1);
    t->n += n;
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
        cmocka_unit_test(gbnf_admits_what_it_says),
        cmocka_unit_test(scalars_admit_what_they_say),
        cmocka_unit_test(objects_and_arrays_admit_what_they_say),
        cmocka_unit_test(texts_admit_what_they_say),
        cmocka_unit_test(any_object_is_json),
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
        cmocka_unit_test(masks_equal_trying_on_random_grammars),
        cmocka_unit_test(masks_equal_trying_on_schemas),
        cmocka_unit_test(control_tokens_are_never_admitted),
        cmocka_unit_test(copies_go_their_own_way),
        cmocka_unit_test(long_texts_keep_their_place),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(ambiguity_is_bounded),
        cmocka_unit_test(forced_tokens_are_the_natural_ones),
        cmocka_unit_test(forced_tokens_without_a_space),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
