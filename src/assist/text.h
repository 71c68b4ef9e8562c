/* Text of people and models, made fit to be shown and compared. Pure functions of bytes. */
#ifndef GALEN_ASSIST_TEXT_H
#define GALEN_ASSIST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** One line for a person: valid UTF-8, control characters and line breaks as single blanks, blanks and stray list marks
 *  trimmed at the ends, at most cap-1 bytes without cutting a character. cap >= 1. Returns the length. */
size_t text_line(const char *s, size_t n, char *out, size_t cap);

/** For comparing: ASCII letters in lower case, everything else that is ASCII and no digit as one blank, none at the ends; other
 *  characters as they are. At most cap-1 bytes. Returns the length. */
size_t text_normal(const char *s, size_t n, char *out, size_t cap);

/** True when the text has a letter of any script. */
bool text_has_letter(const char *s, size_t n);

/** Letters in s, counting an ideograph or syllable sign as two, since one says as much as a short word. */
size_t text_count_letters(const char *s, size_t n);

#endif
