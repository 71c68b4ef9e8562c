/* A copy of the text for the regular expressions to look at: same length, so that positions carry over. */
#ifndef GALEN_TOKENIZER_NEUTRAL_H
#define GALEN_TOKENIZER_NEUTRAL_H

#include <stddef.h>
#include <stdint.h>

/** Copy n bytes. Invalid bytes become one-byte control characters each, so out is valid UTF-8 whatever in is; characters
 *  newer than PCRE2's Unicode tables become older ones of the same category and length. out holds n bytes. */
void neutral_copy(char *out, const char *in, size_t n);

/* newer_characters.c: characters [first, last] look like the character `like`. Ascending. */
typedef struct newer_characters {
    uint32_t first, last, like;
} newer_characters;
extern const newer_characters newer_table[];
extern const size_t newer_table_n;

#endif
