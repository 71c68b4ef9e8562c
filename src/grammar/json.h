/* The rules of JSON itself, and of the formats of strings that a schema may ask for. */
#ifndef GALEN_GRAMMAR_JSON_H
#define GALEN_GRAMMAR_JSON_H

#include "grammar/program.h"

typedef struct json_rules {
    uint32_t value, object, array, string, number, integer;
    uint32_t character; /* of a string, escaped where it must be           */
    uint32_t plain;     /* of a string, one that needs no escape           */
} json_rules;

void json_rules_build(program *p, json_rules *r);

/** Formats of strings, without their quotes. */
enum { JSON_N_FORMATS = 6 };
typedef struct json_formats {
    uint32_t rules[JSON_N_FORMATS];
} json_formats;
void json_formats_build(program *p, json_formats *f);
uint32_t json_format_rule(const json_formats *f, const char *name); /* UINT32_MAX when it is not known */
const char *json_format_names(void);                                /* "date, time, ..." for messages */

#endif
