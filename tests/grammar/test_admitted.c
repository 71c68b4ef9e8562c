/* What grammars and schemas admit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grammars.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gbnf_admits_what_it_says),
        cmocka_unit_test(scalars_admit_what_they_say),
        cmocka_unit_test(objects_and_arrays_admit_what_they_say),
        cmocka_unit_test(texts_admit_what_they_say),
        cmocka_unit_test(any_object_is_json),
    };
    return cmocka_run_group_tests(tests, grammar_setup, grammar_teardown);
}
