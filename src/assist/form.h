/* Results in the guide's form, for programs that read text. malloc'ed; NULL without memory. */
#ifndef GALEN_ASSIST_FORM_H
#define GALEN_ASSIST_FORM_H

#include "galen/assist.h"

/** "- diagnosis: NAME\n- confidence: 0.62", five times, a blank line between. */
char *form_differential(const galen_differential *d);

/** "1. ...\n2. ..." */
char *form_questions(const galen_questions *q);

#endif
