/* Files of the source tree inside the program: data/ (prompts, rules) and web/ (the page), so that one file is all there is to
 * install. tools/embed writes the tables at build time. */
#ifndef GALEN_BASE_EMBED_H
#define GALEN_BASE_EMBED_H

#include <stddef.h>

typedef struct embedded {
    const char *name;  /* path in the source tree: "data/prompts/diagnose.txt" */
    const char *bytes; /* n bytes and a NUL that is not counted */
    size_t n;
} embedded;

/* Static, ordered by name (bytes), ended by a row whose name is NULL. */
extern const embedded embedded_data[]; /* data/, in libgalen   */
extern const embedded embedded_web[];  /* web/, in the program */

/** The file of that name in a table; NULL when there is none. */
const embedded *embed_find(const embedded *table, const char *name);

#endif
