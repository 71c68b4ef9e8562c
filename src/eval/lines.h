/* A file's lines one after the other, in bounded memory whatever the file: a line that is too long is passed over, not held. */
#ifndef GALEN_EVAL_LINES_H
#define GALEN_EVAL_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINES_MAX_BYTES = 4 << 20 }; /* of one line; a case is a few thousand */

/** Up to cap bytes; 0 at the end; -1 when reading failed. */
typedef long (*lines_read_fn)(void *user, char *buf, size_t cap);

typedef enum lines_result {
    LINES_TEXT,
    LINES_LONG,   /* longer than LINES_MAX_BYTES: it was passed over */
    LINES_END,    /* and again, if asked again                       */
    LINES_FAILED, /* the read function said so                       */
    LINES_NO_MEMORY
} lines_result;

typedef struct lines { /* zero but for read and user at the start */
    lines_read_fn read;
    void *user;
    int64_t number; /* of the line given last, from 1 */
    char *buf;
    size_t n, cap, at, looked; /* buf[at..n) waits; no line break in buf[at..looked) */
    bool is_end, is_cut;       /* is_cut: the line given last has no break behind it */
} lines;

/** The next line without its break, alive until the next call. A byte order mark before the first one is left out. */
lines_result lines_next(lines *l, const char **line, size_t *n);
void lines_free(lines *l);

#endif
