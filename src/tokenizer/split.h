/* Splitting text into words by a pre-tokenizer's expressions (PCRE2). */
#ifndef GALEN_TOKENIZER_SPLIT_H
#define GALEN_TOKENIZER_SPLIT_H

#include "base/error.h"
#include "tokenizer/pretokenizers.h"

typedef struct splitter splitter; /* compiled expressions; immutable, shared by threads */

galen_status splitter_open(splitter **out, const pretokenizer *pre, galen_error *err);
void splitter_close(splitter *s);

/** Working memory of one call chain; all zero to start, reused from text to text. */
typedef struct split_work {
    uint32_t *ends, *spare; /* of the words, ascending; n of them */
    size_t n, cap, spare_cap;
    void *match; /* pcre2_match_data */
} split_work;

/** Words of text[0, n): word i is [ends[i - 1], ends[i]), the first begins at 0. No byte is lost. n <= INT32_MAX.
 *  text  valid UTF-8, as neutral_copy makes it.
 *  Errors  NOMEM; RANGE an expression hit its limit of work. */
galen_status splitter_run(const splitter *s, split_work *w, const char *text, size_t n, galen_error *err);
void split_work_free(split_work *w);

#endif
