/* SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), by nettle: model fingerprints, the audit trail's chain. */
#ifndef GALEN_BASE_SHA256_H
#define GALEN_BASE_SHA256_H

#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 }; /* the second with its NUL */

typedef struct sha256 {
    struct sha256_ctx ctx;
} sha256;

void sha256_start(sha256 *s);
void sha256_add(sha256 *s, const void *bytes, size_t n);
void sha256_end(sha256 *s, uint8_t out[SHA256_BYTES]); /* and starts anew */

/** The hash of n bytes. */
void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_BYTES]);
/** Lower-case digits and a NUL. */
void sha256_hex(const uint8_t hash[SHA256_BYTES], char out[SHA256_HEX_BYTES]);

/** The hash of a regular file's bytes, read in blocks. progress (may be NULL) is asked after each with bytes done and in all.
 *  Errors  NOT_FOUND; IO not a regular file, unreadable, or its size changed meanwhile; NOMEM; CANCELLED by progress. */
galen_status sha256_file(const char *path, galen_progress_fn progress, void *user, uint8_t out[SHA256_BYTES], galen_error *err);

typedef struct hmac256 {
    struct hmac_sha256_ctx ctx;
} hmac256;

void hmac256_start(hmac256 *h, const void *key, size_t n_key);
void hmac256_add(hmac256 *h, const void *bytes, size_t n);
void hmac256_end(hmac256 *h, uint8_t out[SHA256_BYTES]);

/** Are n bytes equal? The time taken depends on n alone. */
bool bytes_equal_constant_time(const void *a, const void *b, size_t n);

#endif
