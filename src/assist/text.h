/* Text of people and models, made fit to be shown and compared. Pure functions of bytes. */
#ifndef GALEN_ASSIST_TEXT_H
#define GALEN_ASSIST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** One line for a person: valid UTF-8, control characters, line breaks and blanks of any width as single blanks, no
 *  ill-formed byte (a model's budget may end inside a character) and nothing that cannot be seen, blanks and stray list marks
 * trimmed at the ends, at most cap-1 bytes without cutting a character. cap >= 1. Returns the length. */
size_t text_line(const char *s, size_t n, char *out, size_t cap);

/** For comparing: letters and digits, the letters in lower case and without accents; whatever is between them as one blank, none
 *  at the ends. At most cap-1 bytes, never more than n. Returns the length. */
size_t text_normal(const char *s, size_t n, char *out, size_t cap);

/** True when the text has a letter of any script. */
bool text_has_letter(const char *s, size_t n);

/** Letters in s, counting an ideograph or syllable sign as two, since one says as much as a short word. */
size_t text_count_letters(const char *s, size_t n);

#endif
