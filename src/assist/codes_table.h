/* The ICD-10-CM table as it lies in memory: what codes.c opens and checks and codes_find.c searches. */
#ifndef GALEN_ASSIST_CODES_TABLE_H
#define GALEN_ASSIST_CODES_TABLE_H

#include "assist/codes.h"
#include "base/cursor.h"
#include "base/file.h"

enum { CODE_ROW = 32, NAME_ROW = 8, WORD_ROW = 20, RULE_ROW = 8 };
enum { KIND_TITLE, KIND_INCLUSION, KIND_SYNONYM, KIND_SHORTENED, KIND_PLAIN, KIND_NOTE, N_KINDS };
enum { CLASS_WORD, CLASS_QUALIFIER, CLASS_GENERIC, CLASS_CONTEXT, CLASS_COURSE, CLASS_SOFT, CLASS_SITE, CLASS_MARKED, N_CLASSES };
enum { WORD_TEXT = 0, WORD_FIRST = 4, WORD_COUNT = 8, WORD_CLASS = 12, WORD_OPPOSITE = 16 };
enum { NAME_KIND = 6, NAME_SIDE = 7 };
enum { CODE_TITLE = 8, CODE_BARE = 12, CODE_LEFT = 16, CODE_RIGHT = 20, CODE_BOTH = 24, CODE_FLAGS = 28 };

struct galen_codes {
    file_map file;
    char *path;
    const uint8_t *codes, *names, *words, *postings, *rules;
    const char *strings;
    char release[33];
    uint32_t year, n_codes, n_names, n_words, n_postings, n_rules, n_strings;
    float *idf;      /* [n_words]: log(1 + n_names / names with the word)              */
    float *weight;   /* [n_names]: what its words cost when a name that is asked has none of them */
    uint64_t *grams; /* [n_words]: a bit for each trigram, hashed                      */
    float rarest;
};

static inline uint32_t codes_u32(const uint8_t *p, size_t row, size_t row_bytes, size_t field) {
    cursor c = cursor_of(p + row * row_bytes + field, 4);
    return cursor_u32(&c);
}
static inline const char *codes_word(const galen_codes *c, uint32_t w) {
    return c->strings + codes_u32(c->words, w, WORD_ROW, WORD_TEXT);
}
static inline uint32_t codes_class(const galen_codes *c, uint32_t w) {
    return codes_u32(c->words, w, WORD_ROW, WORD_CLASS);
}
static inline uint32_t codes_of_name(const galen_codes *c, uint32_t name) {
    return codes_u32(c->names, name, NAME_ROW, 0);
}

/** One bit of 64 for each group of three letters, the word framed by blanks. */
uint64_t codes_grams(const char *w, size_t n);

/** What a word of this class costs when only the table's name has it, as a part of its idf. */
float codes_extra_cost(uint32_t class);

#endif
