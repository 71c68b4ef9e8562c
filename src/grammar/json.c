/* Sources: RFC 8259 (JSON), RFC 3339 5.6 (date, time), RFC 9562 4 (UUID), RFC 2673 3.2 (IPv4), JSON Schema 2020-12
 * validation 7.3.
 *
 * Free JSON is bounded where a model could write for ever without saying anything: white space is none, one space, or a line
 * end and up to 40 spaces; numbers have at most 15 digits on each side of the point and 2 in the exponent, so any reader gets
 * what was written; \u escapes are neither NUL nor half of a surrogate pair. */
#include "grammar/json.h"

#include <string.h>

#include "grammar/compile.h"

static const char json_text[] =
    "value ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n"
    "object ::= \"{\" ws (member (\",\" ws member)* ws)? \"}\"\n"
    "member ::= string \":\" \" \"? value\n"
    "array ::= \"[\" ws (value (\",\" ws value)* ws)? \"]\"\n"
    "ws ::= (\"\\n\" [ ]{0,40} | \" \")?\n"
    "string ::= \"\\\"\" character* \"\\\"\"\n"
    "character ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" code)\n"
    "plain ::= [^\"\\\\\\x00-\\x1F]\n"
    "code ::= [1-9a-cefA-CEF] hex hex hex | [dD] [0-7] hex hex | \"0\" ([1-9a-fA-F] hex hex | \"0\" ([1-9a-fA-F] hex | \"0\" "
    "[1-9a-fA-F]))\n"
    "hex ::= [0-9a-fA-F]\n"
    "number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?\n"
    "integer ::= \"0\" | \"-\"? [1-9] [0-9]{0,17}\n";

void json_rules_build(program *p, json_rules *r) {
    static const char *const names[] = {"value", "object", "array", "string", "number", "integer", "character", "plain"};
    uint32_t found[8] = {0};
    gbnf_rules(p, json_text, names, 8, found);
    *r = (json_rules){.value = found[0],
                      .object = found[1],
                      .array = found[2],
                      .string = found[3],
                      .number = found[4],
                      .integer = found[5],
                      .character = found[6],
                      .plain = found[7]};
}

uint32_t json_object_compile(program *p) {
    json_rules r;
    json_rules_build(p, &r);
    return r.object;
}

/* ---------------------------------------------------------------- formats */

/* Dates that exist, of the years 1 to 9999; seconds up to 59, as readers without leap seconds want them. */
static const char format_text[] =
    "date ::= year \"-\" day | leap \"-02-29\"\n"
    "year ::= \"000\" [1-9] | \"00\" [1-9] [0-9] | \"0\" [1-9] [0-9]{2} | [1-9] [0-9]{3}\n"
    "day ::= (\"0\" [13578] | \"10\" | \"12\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01]) | "
    "(\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\") | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8])\n"
    "leap ::= [0-9]{2} four | four \"00\"\n"
    "four ::= \"0\" [48] | [2468] [048] | [13579] [26]\n"
    "time ::= hour \":\" sixty \":\" sixty (\".\" [0-9]{1,6})? (\"Z\" | [-+] hour \":\" sixty)\n"
    "hour ::= [01] [0-9] | \"2\" [0-3]\n"
    "sixty ::= [0-5] [0-9]\n"
    "date-time ::= date \"T\" time\n"
    "uuid ::= hx{8} (\"-\" hx{4}){3} \"-\" hx{12}\n"
    "hx ::= [0-9a-f]\n"
    "ipv4 ::= octet (\".\" octet){3}\n"
    "octet ::= \"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9]{2} | [1-9] [0-9] | [0-9]\n"
    "email ::= word (\".\" word)* \"@\" label (\".\" label)+\n"
    "word ::= [a-zA-Z0-9_+-]{1,30}\n"
    "label ::= [a-zA-Z0-9] ([a-zA-Z0-9-]{0,60} [a-zA-Z0-9])?\n";

static const char *const format_names[JSON_N_FORMATS] = {"date", "time", "date-time", "uuid", "ipv4", "email"};

const char *json_format_names(void) {
    return "date, time, date-time, uuid, ipv4, email";
}

void json_formats_build(program *p, json_formats *f) {
    gbnf_rules(p, format_text, format_names, JSON_N_FORMATS, f->rules);
}

uint32_t json_format_rule(const json_formats *f, const char *name) {
    for (size_t i = 0; i < JSON_N_FORMATS; i++)
        if (strcmp(format_names[i], name) == 0) return f->rules[i];
    return UINT32_MAX;
}
