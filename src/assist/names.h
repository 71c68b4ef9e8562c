/* When two names say the same condition, two questions ask the same. Pure functions of bytes. */
#ifndef GALEN_ASSIST_NAMES_H
#define GALEN_ASSIST_NAMES_H

#include <stddef.h>

#include "galen/assist.h"

#define NAME_SAME_SCORE 0.9 /* of a code: from here on the table knows the name, and does not only find something near it */

/** What a name is compared by: its words in lower case, each once, sorted, without endings of the plural and words that tell
 *  nothing ("disease", "of", "the"); all its words when none tells anything. At most cap-1 bytes. Returns the length. */
size_t name_key(const char *s, size_t n, char *out, size_t cap);

/** Do two names say the same condition? By their keys, or by their codes where the table knows both names. */
bool name_is_same(const char *key_a, const galen_code *code_a, const char *key_b, const galen_code *code_b);

/** The same for a question, without the words that questions are made of ("do you have a ... ?"). */
size_t question_key(const char *s, size_t n, char *out, size_t cap);

#endif
