/* UTF-8: decoding that accepts anything, and a stream that emits only what is valid. */
#ifndef GALEN_BASE_UTF8_H
#define GALEN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Length in bytes of the character at s (1..4), its code point in *cp. 0 when the bytes at s start no valid character
 *  (overlong, surrogate, beyond U+10FFFF, lone continuation, cut short by n). n >= 1. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
size_t utf8_encode(uint32_t cp, char out[4]); /* length; 0 for what is not a scalar value */
bool utf8_is_valid(const char *s, size_t n);

/** Bytes in, valid UTF-8 out: an incomplete character is held, an ill-formed sequence becomes U+FFFD
 *  (one per maximal subpart, Unicode 15 section 3.9). */
typedef struct utf8_stream {
    char held[4];
    size_t n_held;
} utf8_stream; /* all zero to start */

/** Push n bytes; out must hold 3 * (n + 3) bytes. Returns the bytes written. */
size_t utf8_push(utf8_stream *u, const char *s, size_t n, char *out);
/** End of input: what is held becomes U+FFFD. out must hold 12 bytes. */
size_t utf8_flush(utf8_stream *u, char *out);

#endif
