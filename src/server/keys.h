/* Who may do what. A key file has one key a line: NAME ROLE KEY; '#' begins a comment.
 *   alice clinician 3c1f...   NAME and KEY are letters, digits and -_.; a KEY has 16 to 128 of them
 * Roles: clinician asks the models and keeps cases; auditor reads figures and the audit trail; admin does both. */
#ifndef GALEN_SERVER_KEYS_H
#define GALEN_SERVER_KEYS_H

#include "base/error.h"

enum { ROLE_CLINICIAN = 1, ROLE_AUDITOR = 2, ROLE_ADMIN = 4, ROLE_ANY = 7 };

#define KEY_NAME_BYTES 33 /* with the final NUL */
#define KEY_BYTES      128
#define KEYS_MAX       1024

typedef struct api_key {
    char name[KEY_NAME_BYTES];
    unsigned role;         /* one of ROLE_ */
    char bytes[KEY_BYTES]; /* padded with zeros */
} api_key;

typedef struct keys {
    api_key *rows;
    size_t n;
} keys; /* all zero: none */

/** The text of a key file. Errors  FORMAT (the line's number, never its text); NOMEM. *out is all zero then. */
galen_status keys_parse(keys *out, const char *text, size_t n, galen_error *err);
/** Errors  those of keys_parse; IO; FORMAT also for a file without a key. */
galen_status keys_read(keys *out, const char *path, galen_error *err);
void keys_free(keys *k); /* wipes them */

/** The key that equals these n bytes, or NULL. Takes the same time whatever they are: every byte of every key is compared. */
const api_key *keys_find(const keys *k, const char *bytes, size_t n);
const char *role_name(unsigned role);

#endif
