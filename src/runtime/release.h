/* Text released to the caller: valid UTF-8, stop strings and what may become one held back. */
#ifndef GALEN_RUNTIME_RELEASE_H
#define GALEN_RUNTIME_RELEASE_H

#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

typedef struct release {
    const char *const *stop;
    size_t n_stop;
    char *held; /* raw bytes not yet released */
    size_t n_held, cap;
    char *out; /* valid UTF-8, 3 * (cap + 4) bytes */
    utf8_stream utf8;
} release; /* all zero is empty */

/** Errors  ARG an empty stop string; NOMEM. stop is kept. */
galen_status release_open(release *r, const char *const *stop, size_t n_stop, galen_error *err);
void release_close(release *r);

/** Add a token; *text (n bytes, until the next call) may now be shown. *is_stopped: a stop string was completed, and text
 *  ends before it. Errors  NOMEM. */
galen_status release_push(release *r, const tokenizer *t, int32_t id, const char **text, size_t *n, bool *is_stopped,
                          galen_error *err);

/** The end: what was held for a stop string that never came, unless one did. */
void release_flush(release *r, const char **text, size_t *n);

#endif
