/* Red flags by declarative rules (data/triage): from bytes to a galen_triage, without a model.
 *
 * A text is read once: words (triage_words.c), a sentence at a time through one trie of all phrases (triage_match.c), scopes of
 * negation, family, past and conjecture over its words (triage_scope.c), numbers with their units (triage_numbers.c); then every
 * rule is a short program over what was found (triage_expr.c). The rules' own format is drawn in triage_parse.c. */
#ifndef GALEN_ASSIST_TRIAGE_H
#define GALEN_ASSIST_TRIAGE_H

#include <stddef.h>

#include "galen/assist.h"

typedef struct triage_rules triage_rules; /* immutable once parsed; share freely */

typedef struct triage_file {
    const char *name, *bytes; /* the name is for messages */
    size_t n;
} triage_file;

/** Errors  FORMAT file, line and word in err; NOMEM. *out is NULL then. The files' bytes are not kept. */
galen_status triage_rules_parse(triage_rules **out, const triage_file *files, size_t n_files, galen_error *err);
void triage_rules_free(triage_rules *r); /* NULL is fine */

/** The rules inside the library, parsed once. Errors  NOMEM, and the next call tries again. Any number of threads. */
galen_status triage_rules_builtin(const triage_rules **out, galen_error *err);

size_t triage_rules_count(const triage_rules *r);
const char *triage_rules_id(const triage_rules *r, size_t i);
const char *triage_rules_source(const triage_rules *r, size_t i);
bool triage_rules_has_ask(const triage_rules *r, size_t i);

/* A yes to a rule's question. The strings are the rules'. */
typedef struct triage_yes {
    const char *says;    /* for all rules to read; NULL: nothing           */
    const char *message; /* the rule's, or, at a lower level, that level's advice */
    const char *source;
} triage_yes;
triage_yes triage_rules_yes(const triage_rules *r, const char *id); /* all NULL without such a rule */

/** The highest level that signs reach, without the flags of weighed words: those must not keep a question about a sign from being
 *  asked. consultation when there is none. */
galen_triage_level triage_level_of_signs(const galen_triage *t);

/** As galen_triage_text, by the rules given. Allocates nothing, cannot fail. */
void triage_scan(const triage_rules *r, const char *text, size_t len, galen_triage *out);

#endif
