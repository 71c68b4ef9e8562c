/* ICD-10-CM codes by name: galen_codes_* over the table of tools/make-icd10.
 *
 * The file, little-endian:
 *   offset size  field
 *        0    8  "GALICD10"
 *        8    4  version, 1
 *       12    4  year
 *       16   20  n_codes, n_names, n_words, n_postings, n_strings (bytes)
 *       36   28  release, NUL-padded: "ICD-10-CM 2026 (April 1)"
 *       64       codes     n_codes    x 20  code[8] (NUL-padded), title (in strings), bare (a code), flags (1: billable)
 *                names     n_names    x  8  code, n_words u16, kind u8 (0 title, 1 inclusion term, 2 synonym, 3 shortened), 0
 *                words     n_words    x 12  text (in strings), first posting, n postings; ordered by text's bytes
 *                postings  n_postings x  4  a name that has the word
 *                strings   n_strings        NUL-terminated, UTF-8
 * `bare` is the code for a name that says no more than this code's title: the "unspecified" or "without complications" child.
 * Every offset and index is checked when the file is opened. */
#ifndef GALEN_ASSIST_CODES_H
#define GALEN_ASSIST_CODES_H

#include <stddef.h>
#include <stdint.h>

#include "galen/assist.h"

enum { CODES_MAX_WORDS = 24, CODES_WORD_BYTES = 32 };

typedef struct codes_words {
    char text[CODES_MAX_WORDS][CODES_WORD_BYTES];
    int n;
} codes_words;

/** The words of a name that matter for the table, each once: lower case, no accents, American spelling, singular, without "of",
 *  "unspecified", "disease" ... As name_words in tools/make-icd10. */
void codes_normal(const char *s, size_t n, codes_words *out);

/** The table in bytes that live as long as *out. Errors as galen_codes_open. */
galen_status codes_from_bytes(galen_codes **out, const void *bytes, size_t n, const char *name, galen_error *err);

#endif
