/* A patient who answers from a case's recorded facts, and from nothing else. No model: words and the red-flag rules' concepts.
 *
 * A question is cut at commas, "or" and "and" into parts. A part is found in a fact when one sentence of the facts has all that
 * the part asks for: each concept of the rules (so that "shortness of breath" is found in "dyspnoea") and each other word that
 * tells something, by its stem. There it is affirmed, or denied when the sentence says so ("denies", "no"). One part affirmed is
 * a yes; else one part denied is a no; else the answer is unknown: what is not recorded is never guessed.
 * What it cannot do: synonyms that the rules do not have, numbers ("above 38"), "when", "how" and "what" questions (unknown), and
 * parts that lean on each other ("pain in the neck or arm" takes any mention of an arm for a yes). */
#ifndef GALEN_EVAL_PATIENT_H
#define GALEN_EVAL_PATIENT_H

#include "galen/assist.h"

typedef struct patient patient; /* immutable once open */

/** facts  one a line; any bytes; not kept.  Errors  NOMEM. *out is NULL then. */
galen_status patient_open(patient **out, const char *facts, size_t n, galen_error *err);
void patient_close(patient *p); /* NULL is fine */

/** YES, NO or UNKNOWN. The same bytes, the same answer. Allocates nothing. */
galen_answer_kind patient_answer(const patient *p, const char *question, size_t n);

#endif
