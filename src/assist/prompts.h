/* The prompts, word for word those of the guide that this project grew out of ("streamlined"), and the field that holds what the
 * person wrote. */
#ifndef GALEN_ASSIST_PROMPTS_H
#define GALEN_ASSIST_PROMPTS_H

#include "galen/assist.h"

#define PROMPT_NAME_LEAD "- diagnosis:" /* the software writes this before each name; the model's blank follows */

/** The person's bytes as one line: control bytes and line breaks become blanks, so that nothing in them can look like a line of
 *  ours; all else stays, invalid UTF-8 too. malloc'ed, NUL-terminated; NULL without memory. */
char *prompt_field(const char *text, size_t n);

/** The first user message. malloc'ed; NULL without memory. */
char *prompt_symptoms(const char *field);

/** The five conditions in the guide's form, as the assistant's message. malloc'ed; NULL without memory. */
char *prompt_answer(const galen_differential *d);

/** The second user message. malloc'ed; NULL without memory. */
char *prompt_questions(const galen_differential *d);

/** Append b's ids to a. Errors  NOMEM; a unchanged. */
galen_status prompt_append(galen_tokens *a, const galen_tokens *b, galen_error *err);

#endif
