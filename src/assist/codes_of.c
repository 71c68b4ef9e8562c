/* The code of a condition in this patient: the chapters of the newborn (P) and of pregnancy (O) come before all others there. */
#include <stdio.h>
#include <string.h>

#include "assist/codes.h"
#include "assist/names.h"

enum { MAX_NAME = 512 };

static const double newborn_years = 28.0 / 365.25; /* the perinatal period of ICD-10-CM: through the 28th day */

typedef struct chapter {
    char letter;
    const char *words;
} chapter;

static chapter chapter_of(const galen_triage_facts *who) {
    if (who->age_years >= 0.0 && who->age_years <= newborn_years) return (chapter){'P', " of newborn"};
    if (who->pregnancy == GALEN_PREGNANCY_YES) return (chapter){'O', " in pregnancy"};
    if (who->pregnancy == GALEN_PREGNANCY_POSTPARTUM) return (chapter){'O', " postpartum"};
    return (chapter){0, ""};
}

galen_status codes_find_of(const galen_codes *c, const char *name, size_t len, const galen_triage_facts *who, galen_code *out,
                           galen_error *err) {
    char longer[MAX_NAME];
    galen_code k;
    const chapter of = chapter_of(who);
    const galen_status st = galen_codes_find(c, name, len, out, err);
    if (st || !of.letter || len + strlen(of.words) + 1 > sizeof longer) return st;
    (void)snprintf(longer, sizeof longer, "%.*s%s", (int)len, name, of.words);
    if (galen_codes_find(c, longer, strlen(longer), &k, err) == GALEN_OK && k.code[0] == of.letter && k.score >= NAME_SAME_SCORE)
        *out = k;
    return GALEN_OK;
}
