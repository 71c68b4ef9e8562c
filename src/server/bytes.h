/* A growing run of bytes. */
#ifndef GALEN_SERVER_BYTES_H
#define GALEN_SERVER_BYTES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct bytes {
    char *p; /* NUL-terminated once anything was added */
    size_t n, cap;
} bytes; /* all zero to start */

/** False without memory; then nothing changed. */
bool bytes_add(bytes *b, const void *p, size_t n);
bool bytes_addf(bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bytes_free(bytes *b); /* zeroes *b */

#endif
