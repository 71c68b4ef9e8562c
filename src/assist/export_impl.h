/* What the formats share: the case as read, and a text that grows. */
#ifndef GALEN_ASSIST_EXPORT_IMPL_H
#define GALEN_ASSIST_EXPORT_IMPL_H

#include <jansson.h>

#include "assist/export.h"

/* A string of a turn; may hold any character, also NUL. text "" when it is not there. */
typedef struct words {
    const char *text;
    size_t n;
} words;

#define EXPORT_MAX_QUESTIONS 128 /* shown; the JSON has all */

typedef struct exchange {
    const json_t *question, *answer; /* or NULL */
    int64_t number, answered_ms;
} exchange;

/* The turns, parsed, and which of them count. All pointers are borrowed from turns[]. */
typedef struct case_view {
    const export_case *c;
    json_t **turns;                                       /* [c->n_turns] */
    const json_t *symptoms, *triage, *differential, *end; /* the last of each kind; NULL: none */
    int64_t differential_ms;
    exchange exchanges[EXPORT_MAX_QUESTIONS]; /* by number */
    size_t n_exchanges;
} case_view;

galen_status view_open(case_view *v, const export_case *c, galen_error *err);
void view_close(case_view *v); /* an all-zero one is fine */

words get_words(const json_t *object, const char *key);
double get_number(const json_t *object, const char *key, double otherwise);
/** The list's i-th object; NULL past its end or when it is no object. */
const json_t *get_item(const json_t *object, const char *key, size_t i);
size_t get_length(const json_t *object, const char *key);

/* A text that grows; once memory is out it stays failed, which is asked once, at the end. */
typedef struct growing {
    char *bytes;
    size_t n, cap;
    bool is_failed;
} growing;
void put(growing *g, const char *bytes, size_t n);
void put_text(growing *g, const char *text);
void put_format(growing *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** The text, or NOMEM / RANGE; frees it then. */
galen_status growing_end(growing *g, export_text *out, galen_error *err);

/** The next character of w at *i (which moves on): its bytes, and its code point. Control characters other than line breaks and
 *  tabs come as U+FFFD. False at the end. */
bool next_character(words w, size_t *i, const char **bytes, size_t *n, uint32_t *cp);

#define TIME_BYTES 32
/** "2026-11-24T06:14:00.123Z"; times outside the years 1970 to 9999 are brought to the nearest. Returns out. */
const char *time_text(int64_t ms, char out[TIME_BYTES]);

/** The answer in words: "yes", "no", "unknown", or the text. */
words answer_words(const json_t *answer);
/** "emergency_ambulance" to a sentence for the person; static. */
const char *level_words(words level);

galen_status export_markdown(const case_view *v, bool is_plain, export_text *out, galen_error *err);
galen_status export_json(const case_view *v, export_text *out, galen_error *err);
galen_status export_html(const case_view *v, export_text *out, galen_error *err);
galen_status export_fhir(const case_view *v, export_text *out, galen_error *err);

#endif
