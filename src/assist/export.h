/* A case as a document: from its turns (docs/schema/turns.json) to text, Markdown, JSON, HTML and FHIR R4.
 * Everything a person or a model wrote is escaped for the format; nothing in a turn can change a document's form. A turn that
 * lacks fields or has others is shown as far as it goes. */
#ifndef GALEN_ASSIST_EXPORT_H
#define GALEN_ASSIST_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "galen/galen.h"

typedef struct export_turn {
    const char *kind;
    int64_t time_ms; /* since 1970, UTC */
    const char *json;
    size_t n;
} export_turn;

typedef struct export_case {
    int64_t id, created_ms, changed_ms;
    int64_t parent, parent_turns; /* 0: none */
    const char *params;           /* a JSON object, or NULL */
    const export_turn *turns;
    size_t n_turns;
} export_case;

typedef enum export_format {
    EXPORT_TEXT,     /* for a terminal: the words as they are, which the terminal must be guarded from */
    EXPORT_MARKDOWN, /* CommonMark, no HTML in it */
    EXPORT_JSON,     /* docs/schema/case.json: everything that is stored */
    EXPORT_HTML,     /* one page to print: no script, nothing from elsewhere, and a policy that says so */
    EXPORT_FHIR      /* a Bundle (collection) of R4: see export_fhir.c */
} export_format;

typedef struct export_text {
    char *bytes; /* malloc'ed, n bytes of UTF-8 and a NUL */
    size_t n;
} export_text;

/** Write a document. Same case, same build: same bytes.
 *  Errors  FORMAT a turn is not JSON (err->offset: where in it), or memory was out while it was read; RANGE a document over 1
 * GiB; NOMEM. *out is all zero then. */
galen_status export_write(export_format format, const export_case *c, export_text *out, galen_error *err);

/** The format of a name ("text", "markdown", "json", "html", "fhir"). False: none. */
bool export_format_find(const char *name, export_format *out);

#endif
