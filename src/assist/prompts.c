/* Text for the model. */
#include "assist/prompts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"

char *prompt_field(const char *text, size_t n) {
    char *out = malloc(n + 1);
    size_t k = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool is_blank = c <= 0x20 || c == 0x7F;
        if (is_blank && (k == 0 || out[k - 1] == ' ')) continue;
        out[k++] = is_blank ? ' ' : (char)c;
    }
    while (k && out[k - 1] == ' ') k--;
    out[k] = '\0';
    return out;
}

char *prompt_symptoms(const char *field) {
    char *out = NULL;
    const int n = asprintf(&out,
                           "Symptoms: %s\n"
                           "List 5 diagnoses in this exact format:\n"
                           "- diagnosis: <name>\n"
                           "- confidence: <0.0-1.0>\n"
                           "\n"
                           "Repeat for each diagnosis.",
                           field);
    return n < 0 ? NULL : out;
}

/* "- diagnosis: A\n- confidence: 0.31\n\n..." without the last line break. */
char *prompt_answer(const galen_differential *d) {
    const size_t cap = GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 64);
    char *out = malloc(cap);
    size_t n = 0;
    if (!out) return NULL;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *c = &d->conditions[i];
        n += (size_t)snprintf(out + n, cap - n, "%s%s %s\n- confidence: %.2f", i ? "\n\n" : "", PROMPT_NAME_LEAD, c->name,
                              c->confidence);
    }
    return out;
}

char *prompt_questions(const galen_differential *d) {
    char names[GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 2)] = "", *out = NULL;
    size_t n = 0;
    double sum = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", d->conditions[i].name);
        sum += d->conditions[i].confidence;
    }
    const int got = asprintf(&out,
                             "Based on: %s (confidence: %.2f)\n"
                             "Generate 5 follow-up questions numbered 1-5:\n"
                             "1. \n2. \n3. \n4. \n5. ",
                             names, sum / GALEN_N_CONDITIONS);
    return got < 0 ? NULL : out;
}

galen_status prompt_append(galen_tokens *a, const galen_tokens *b, galen_error *err) {
    int32_t *ids = realloc(a->ids, (a->n + b->n + 1) * sizeof *ids);
    if (!ids) return assist_fail(err, GALEN_E_NOMEM, "%zu tokens", a->n + b->n);
    memcpy(ids + a->n, b->ids, b->n * sizeof *ids);
    a->ids = ids;
    a->n += b->n;
    return GALEN_OK;
}
