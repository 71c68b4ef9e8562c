/* From text to a program: GBNF, JSON Schema, any JSON object. Each builds rules and names the root; errors go to p. */
#ifndef GALEN_GRAMMAR_COMPILE_H
#define GALEN_GRAMMAR_COMPILE_H

#include "grammar/program.h"

/** Rules written in GBNF, into a program that has none of these names; *found[i] the rule names[i]. */
void gbnf_rules(program *p, const char *text, const char *const *names, size_t n, uint32_t *found);

uint32_t gbnf_compile(program *p, const char *text, size_t len);
uint32_t schema_compile(program *p, const char *text, size_t len);
uint32_t json_object_compile(program *p);

#endif
