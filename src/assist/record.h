/* The turns of a case as JSON: what is kept in the history, exported and sent to a browser. docs/schema/turns.json is the
 * published form; each function gives the content of one kind. Text that is no UTF-8 gets U+FFFD; offsets count the original
 * bytes. NULL = no memory. */
#ifndef GALEN_ASSIST_RECORD_H
#define GALEN_ASSIST_RECORD_H

#include <jansson.h>

#include "galen/assist.h"

#define RECORD_SCHEMA_VERSION 1

/* Of the run, beside what a differential knows itself. */
typedef struct record_run {
    const char *model_name, *model_sha256, *device; /* NULL = null */
    uint64_t seed;
} record_run;

/** "symptoms": {"text"}. */
json_t *record_symptoms(const char *text, size_t len);

/** "triage": {"level", "flags", "asks", "warnings"}. Flags' offsets are bytes of text, which is the text that was read. */
json_t *record_triage(const galen_triage *t, const char *text, size_t len);

/** "differential": {"conditions" x5, "other", "confidence_meaning", "is_calibrated", "agreement", "disagreement", ...}.
 *  q: the questions whose findings condition.missing names; NULL without. */
json_t *record_differential(const galen_differential *d, const galen_questions *q, const char *symptoms, size_t len,
                            const record_run *run);

/** "question": {"number", "text", "reason", "flag", "bits"}. */
json_t *record_question(const galen_question *q);

/** The list of five, in order. */
json_t *record_questions(const galen_questions *q);

/** "answer": {"number", "kind", "text"}. text is null but with GALEN_ANSWER_TEXT. */
json_t *record_answer(int32_t number, galen_answer_kind kind, const char *text, size_t len);

/** "closed": {"reason"}. */
json_t *record_closed(galen_stop stop);

/** Bytes as a JSON string. */
json_t *record_text(const char *text, size_t len);

#endif
