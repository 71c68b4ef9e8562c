#include "assist/form.h"

#include <stdio.h>
#include <stdlib.h>

char *form_differential(const galen_differential *d) {
    const size_t cap = GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 64);
    char *out = malloc(cap);
    size_t n = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS && out; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s- diagnosis: %s\n- confidence: %.2f\n", i ? "\n" : "", d->conditions[i].name,
                              d->conditions[i].confidence);
    return out;
}

char *form_questions(const galen_questions *q) {
    const size_t cap = GALEN_N_QUESTIONS * (GALEN_QUESTION_BYTES + 16);
    char *out = malloc(cap);
    size_t n = 0;
    for (int i = 0; i < GALEN_N_QUESTIONS && out; i++)
        n += (size_t)snprintf(out + n, cap - n, "%d. %s\n", i + 1, q->questions[i].text);
    return out;
}
