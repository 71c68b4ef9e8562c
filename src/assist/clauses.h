/* The user's text cut into clauses, for quoting. Pure functions of bytes. */
#ifndef GALEN_ASSIST_CLAUSES_H
#define GALEN_ASSIST_CLAUSES_H

#include <stddef.h>
#include <stdint.h>

typedef struct clause {
    size_t from, to; /* bytes of the text: no blank at either end, a letter inside */
} clause;

/** Cut text at sentence ends, commas, semicolons, line breaks and the words "and", "but", "with", "then", "also", never inside a
 * number
 *  ("38,5", "3.5") nor a character. In order, not overlapping. Returns how many, at most cap: the rest of a longer text is left
 * out. */
int32_t clauses_find(const char *text, size_t n, clause *out, int32_t cap);

#endif
