/* The text of a case and its red flags, which only ever rise. */
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/text.h"
#include "base/error.h"

void case_close(case_file *c) {
    free(c->text);
    free(c->field);
    free(c->field_at);
    free(c->said);
    free(c->answers);
    *c = (case_file){.open = -1};
}

/* Read the red flags of text, then put those of our own among them. */
static galen_status read_flags(case_file *c, const char *text, size_t n, galen_error *err) {
    galen_triage *t = malloc(sizeof *t);
    if (!t) return galen_fail(err, GALEN_E_NOMEM, 0, "red flags");
    const galen_triage_level before = c->triage.level;
    const galen_status st = galen_triage_text(text, n, t, err);
    if (st && st != GALEN_E_REFUSED) {
        free(t);
        return st;
    }
    c->triage = *t;
    free(t);
    if (c->triage.level < before) c->triage.level = before; /* an answer may explain a flag away; a level is never lowered */
    const int32_t n_own = c->n_own;
    c->n_own = 0;
    for (int32_t i = 0; i < n_own; i++) {
        const galen_triage_flag f = c->own[i];
        (void)case_raise(c, f.id, f.category, f.message, f.source, f.level);
    }
    return GALEN_OK;
}

galen_status case_open(case_file *c, const char *symptoms, size_t len, galen_error *err) {
    galen_status st;
    *c = (case_file){.open = -1};
    if (len > CASE_BYTES)
        return galen_fail(err, GALEN_E_FULL, 0, "a description of %zu bytes; at most %d are read", len, CASE_BYTES);
    c->text = malloc(len + 1);
    c->answers = calloc(1, 1);
    c->field = c->text ? prompt_line(symptoms, len, &c->field_at) : NULL;
    c->said = calloc(1, len + 3);
    if (!c->text || !c->answers || !c->field || !c->said) {
        case_close(c);
        return galen_fail(err, GALEN_E_NOMEM, 0, "a description of %zu bytes", len);
    }
    memcpy(c->text, symptoms, len);
    c->text[len] = '\0';
    c->n_text = c->n_symptoms = len;
    c->said[0] = ' ';
    (void)text_normal(c->field, strlen(c->field), c->said + 1, len + 2);
    st = read_flags(c, c->text, len, err);
    if (st) case_close(c);
    return st;
}

galen_status case_add_line(case_file *c, const char *line, size_t n, bool *is_raised, galen_error *err) {
    const galen_triage_level before = c->triage.level;
    *is_raised = false;
    if (n > CASE_BYTES - c->n_text) return galen_fail(err, GALEN_E_FULL, 0, "answers of more than %d bytes in all", CASE_BYTES);
    char *text = malloc(c->n_text + n + 2);
    if (!text) return galen_fail(err, GALEN_E_NOMEM, 0, "an answer of %zu bytes", n);
    memcpy(text, c->text, c->n_text);
    text[c->n_text] = '\n';
    memcpy(text + c->n_text + 1, line, n);
    text[c->n_text + 1 + n] = '\0';
    const galen_status st = read_flags(c, text, c->n_text + 1 + n, err);
    if (st) {
        free(text);
        return st;
    }
    free(c->text);
    c->text = text;
    c->n_text += n + 1;
    *is_raised = c->triage.level > before;
    return GALEN_OK;
}

bool case_raise(case_file *c, const char *id, const char *category, const char *message, const char *source,
                galen_triage_level level) {
    const galen_triage_flag f = {.id = id, .category = category, .message = message, .source = source, .level = level};
    galen_triage *t = &c->triage;
    const galen_triage_level before = t->level;
    if (c->n_own < MAX_OWN_FLAGS) c->own[c->n_own++] = f;
    int32_t at = 0,
            n = t->n_flags < GALEN_MAX_FLAGS ? t->n_flags : GALEN_MAX_FLAGS - 1; /* a full list loses its last, the least */
    while (at < n && t->flags[at].level >= level) at++;
    memmove(t->flags + at + 1, t->flags + at, (size_t)(n - at) * sizeof t->flags[0]);
    t->flags[at] = f;
    t->n_flags = n + 1;
    if (t->level < level) t->level = level;
    return t->level > before;
}
