/* ICD-10-CM codes by name: galen_codes_* over the table of tools/make-icd10.
 *
 * The file, little-endian:
 *   offset size  field
 *        0    8  "GALICD10"
 *        8    4  version, 2
 *       12    4  year
 *       16   24  n_codes, n_names, n_words, n_postings, n_rules, n_strings (bytes)
 *       40   32  release, NUL-padded: "ICD-10-CM 2026 (April 1)"
 *       72       codes     n_codes    x 32  code[8] (NUL-padded), title (in strings), bare, left, right, both
 *                                           (codes), flags (1: billable)
 *                names     n_names    x  8  code, n_words u16, kind u8 (0 title, 1 inclusion term, 2 synonym,
 *                                           3 shortened, 4 "NOS", 5 note), 1: says a side
 *                words     n_words    x 20  text (in strings), first posting, n postings, class (0 plain,
 *                                           1 qualifier, 2 generic, 3 context, 4 course, 5 soft, 6 site,
 *                                           7 marked), opposite (a word, itself: none); ordered by text's bytes
 *                postings  n_postings x  4  a name that has the word
 *                rules     n_rules    x  8  a phrase, what it is read as (in strings); ordered by the phrase
 *                strings   n_strings        NUL-terminated, UTF-8
 *
 * `bare` is the code for a name that says no more than this code's title: the "unspecified" or "without
 * complications" child. `left`, `right`, `both`: the same condition of that side, or the code itself. Rules and
 * classes are those of data/codes/words.txt. Every offset and index is checked when the file is opened. */
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

/** The words of a name in their order: lower case, no accents, American spelling, singular, prefixes joined, without "of",
 *  "unspecified", "possible" ... As folded_words in tools/make-icd10. */
void codes_fold(const char *s, size_t n, codes_words *out);

/** Each word once. */
void codes_once(codes_words *w);

/** As galen_codes_find, but the code of the chapter of newborns, of pregnancy or of the weeks after it where the patient is of
 * these and the name has one there: "sepsis" of a newborn is P36.9. Errors, threads as galen_codes_find. */
galen_status codes_find_of(const galen_codes *c, const char *name, size_t len, const galen_triage_facts *who, galen_code *out,
                           galen_error *err);

/** The table in bytes that live as long as *out. Errors as galen_codes_open. */
galen_status codes_from_bytes(galen_codes **out, const void *bytes, size_t n, const char *name, galen_error *err);

#endif
