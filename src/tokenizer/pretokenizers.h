/* Pre-tokenizers as rows of data: what tokenizer.ggml.pre names, and the regular expressions each name means. */
#ifndef GALEN_TOKENIZER_PRETOKENIZERS_H
#define GALEN_TOKENIZER_PRETOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>

enum { PRETOKENIZER_MAX_REGEX = 6 };

typedef struct pretokenizer {
    const char *name;
    const char *const *regex; /* NULL-terminated; each splits the pieces that the former left */
    bool ignore_merges;       /* a piece that is a token as a whole is that token             */
    bool add_bos;             /* when the file does not say                                   */
} pretokenizer;

/** NULL when the name is not known. */
const pretokenizer *pretokenizer_find(const char *name, size_t n);

const pretokenizer *pretokenizer_at(size_t i); /* NULL past the end */

/** The names, one of each kind, comma-separated, cut to cap bytes at a name; for messages. Returns buf. */
const char *pretokenizer_choices(char *buf, size_t cap);

#endif
