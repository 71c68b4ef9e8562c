/* Sets of characters, and the byte ranges of their UTF-8. */
#ifndef GALEN_GRAMMAR_UTF8_CLASS_H
#define GALEN_GRAMMAR_UTF8_CLASS_H

#include "grammar/program.h"

typedef struct char_range {
    uint32_t lo, hi; /* code points, both included */
} char_range;

/** Ranges in any order until char_set_tidy. Surrogates are never in it once it is tidy. */
typedef struct char_set {
    char_range *ranges;
    uint32_t n, cap;
} char_set; /* all zero is empty */

enum { CHAR_MAX_CP = 0x10FFFF, CHAR_MAX_RANGES = 1 << 16 };

void char_set_add(program *p, char_set *s, uint32_t lo, uint32_t hi); /* errors go to p */
void char_set_tidy(program *p, char_set *s, bool is_negated);         /* sorted, joined, without surrogates, inverted if asked */
void char_set_close(char_set *s);

/** Steps from one state to another for each character of a tidy set. */
void program_class(program *p, const char_set *s, uint32_t from, uint32_t to);
/** The same inside a JSON string: '"', '\' and control characters are written as escapes. */
void program_json_class(program *p, const char_set *s, uint32_t from, uint32_t to);

#endif
