/* The prompts: files of data/prompts, or of a folder in their place. What stands above the line "---" is the user's message, what
 * stands below begins the assistant's answer. {{field}} is replaced by a value, in one pass: nothing in a value is a field. */
#ifndef GALEN_ASSIST_PROMPTS_H
#define GALEN_ASSIST_PROMPTS_H

#include "galen/assist.h"

typedef enum prompt_id {
    PROMPT_DIAGNOSE,  /* the five names                                      */
    PROMPT_CHOOSE,    /* the letter of the likeliest of six                  */
    PROMPT_PATIENT,   /* what a patient with a condition says                */
    PROMPT_YES,       /* would a patient with a condition say yes?           */
    PROMPT_REPLY,     /* what would a patient with a condition answer?       */
    PROMPT_URGENT,    /* is it an emergency?                                 */
    PROMPT_QUESTIONS, /* a question on a case, for one of its conditions */
    PROMPT_FOLLOWUP,  /* five questions on conditions alone                  */
    N_PROMPTS
} prompt_id;

typedef enum prompt_field {
    FIELD_SYMPTOMS,
    FIELD_ANSWERS,
    FIELD_CONDITIONS,
    FIELD_CONFIDENCE,
    FIELD_OPTIONS,
    FIELD_QUESTION,
    FIELD_CONDITION,
    N_FIELDS
} prompt_field;

/* Values by field; NULL is "". */
typedef struct prompt_values {
    const char *of[N_FIELDS];
} prompt_values;

typedef struct prompt_set {
    char *message[N_PROMPTS], *lead[N_PROMPTS]; /* malloc'ed; the lead has no line break at its end */
    char version[40];                           /* "builtin-" or "custom-" and 12 digits of the SHA-256 of all of them */
} prompt_set;

/** The prompts inside the program; with dir, each file that is there takes the place of its namesake.
 *  Errors  NOT_FOUND dir holds none of them; IO; ARG a prompt lacks a field that it must have, names one that it has not, or has
 *          no lead; NOMEM. *out is empty then. */
galen_status prompts_load(prompt_set *out, const char *dir, galen_error *err);
void prompts_free(prompt_set *p);

/** One prompt's text checked and taken apart. n bytes; name is for the message. message and lead are malloc'ed.
 *  Errors  ARG; NOMEM. */
galen_status prompt_parse(prompt_id id, const char *name, const char *text, size_t n, char **message, char **lead,
                          galen_error *err);

/** text with its fields replaced; a '"' in a value becomes "'". malloc'ed; NULL without memory. */
char *prompt_render(const char *text, const prompt_values *v);

const char *prompt_file_name(prompt_id id); /* "diagnose.txt" */

/** The person's bytes as one line: control bytes and line breaks become blanks, '"' becomes "'", so that nothing in them can look
 *  like a line or an end of ours; all else stays, invalid UTF-8 too. NUL-terminated, malloc'ed.
 *  at  out, malloc'ed: [strlen + 1] where each byte was in text, and n last; NULL to skip.
 *  NULL without memory. n < 2^32. */
char *prompt_line(const char *text, size_t n, uint32_t **at);

/** Append b's ids to a. Errors  NOMEM; a unchanged. */
galen_status prompt_append(galen_tokens *a, const galen_tokens *b, galen_error *err);

#endif
