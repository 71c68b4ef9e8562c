/* Reading the rules' files. */
#ifndef GALEN_ASSIST_TRIAGE_PARSE_H
#define GALEN_ASSIST_TRIAGE_PARSE_H

#include "assist/triage_impl.h"

/* A directive with its indented lines. */
typedef struct entry {
    const char *file;
    size_t line;             /* of the directive, from 1 */
    const char *head, *body; /* behind the keyword; the indented lines */
    size_t n_head, n_body;
    char keyword[16];
} entry;

/** One phrase of a concept into the trie. Errors  FORMAT; NOMEM. */
galen_status phrase_compile(triage_rules *r, const entry *e, const char *text, size_t n, uint32_t concept_id, galen_error *err);
/** The symbol of a class, or UINT32_MAX. */
uint32_t parse_class(const triage_rules *r, const char *name, size_t n);
/** FORMAT with file and line. */
galen_status parse_fail(const entry *e, galen_error *err, const char *what, const char *word, size_t n);
/** The next line of a body without blanks at its ends; comments are left out. False at the end. */
bool parse_line(entry *e, const char **text, size_t *n);
/** Weighed words (triage_weigh.c). Errors  FORMAT; NOMEM. */
galen_status weigh_compile(triage_rules *r, const entry *e, galen_error *err);
/** The next blank-separated word of *text; 0 at the end. */
size_t parse_word(const char **text, size_t *n, const char **word);

#endif
