/* Numbers from the command line, read strictly: no blanks, no junk behind, no overflow, never NaN. Pure functions. */
#ifndef GALEN_CLI_NUMBERS_H
#define GALEN_CLI_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "galen/galen.h"

/** Decimal, optional '-'. A k or K behind multiplies by 1024 ("4k" tokens). false leaves *out alone. */
bool number_i64(const char *s, int64_t *out);

/** Decimal fraction or exponent form, finite; no hexadecimal, no "inf". false leaves *out alone. */
bool number_f64(const char *s, double *out);

/** Bytes: "4GiB", "4g", "512M", "1.5 GiB" without the blank, "1000000"; k, m, g, t are powers of 1024. false leaves *out alone.
 */
bool number_size(const char *s, uint64_t *out);

/** "ID=VALUE": a token and what is added to its logit; "-inf" forbids it. */
bool number_bias(const char *s, galen_logit_bias *out);

/** Token ids in text, n bytes: "1,5,7", "[1, 5, 7]" or ids parted by white space, each in 0..2^31-1, at least one.
 *  On success *ids is malloc'ed. On failure *ids is NULL and *at the offset of the byte that was not understood
 *  (n: something is missing at the end). Returns OK, FORMAT, RANGE (an id over 2^31-1) or NOMEM. */
galen_status number_tokens(const char *s, size_t n, int32_t **ids, size_t *n_ids, size_t *at);

#endif
