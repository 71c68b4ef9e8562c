/* A schema's `pattern` as an item of the rule that is being built. */
#ifndef GALEN_GRAMMAR_REGEX_H
#define GALEN_GRAMMAR_REGEX_H

#include "grammar/program.h"

/** text[0, n), valid UTF-8, as the content of a JSON string, without its quotes. Errors, which name pointer and the byte, go to
 * p: FORMAT, UNSUPPORTED, RANGE. character: the rule of any character of a string. */
void regex_build(program *p, const char *text, size_t n, const char *pointer, uint32_t character);

#endif
