/* assist.h: the medical assistant over the engine of galen.h.
 *
 * A galen_assistant takes a description of symptoms and gives five distinct possible conditions with the model's own
 * probability for each, then five follow-up questions. The form of the answer is written by this software; the model fills in
 * names and questions only, so that five distinct names come from any model, and a confidence is always measured, never written.
 *
 * Intended use: for licensed professionals, education and research. It lists possible conditions; it does not diagnose, and it
 * is not for emergencies. Show galen_assist_intended_use() beside every result. */
#ifndef GALEN_ASSIST_H
#define GALEN_ASSIST_H

#include "galen/galen.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GALEN_N_CONDITIONS   5
#define GALEN_N_QUESTIONS    5
#define GALEN_NAME_BYTES     96  /* with the final NUL */
#define GALEN_QUESTION_BYTES 320 /* with the final NUL */

typedef struct galen_assistant galen_assistant; /* one case at a time; one thread at a time, but for galen_assistant_cancel */

typedef enum galen_assist_part { GALEN_PART_CONDITION, GALEN_PART_QUESTION } galen_assist_part;

/** Words as they come. What is given here stands: it is never taken back, and the pieces of an item joined are its text. */
typedef struct galen_assist_event {
    galen_assist_part part;
    int32_t index;    /* 0..4 in the order of writing; conditions are ranked only when all five are there */
    const char *text; /* valid UTF-8, no line break, not NUL-terminated */
    size_t text_len;  /* may be 0 at the end */
    bool is_end;      /* the item is whole */
} galen_assist_event;

/** false = stop; the call then returns GALEN_E_CANCELLED. */
typedef bool (*galen_assist_fn)(void *user, const galen_assist_event *event);

typedef struct galen_assistant_opts {
    size_t size;                /* sizeof(galen_assistant_opts)                                  */
    int32_t n_ctx;              /* tokens; 0 = the model's own maximum, at most 2048             */
    int32_t n_batch;            /* as in galen_session_opts                                      */
    const char *kv_type;        /* as in galen_session_opts                                      */
    uint64_t seed;              /* the same seed, model and device give the same words           */
    galen_assist_fn on_text;    /* NULL: no streaming                  */
    galen_progress_fn progress; /* while a prompt is evaluated; or NULL */
    void *user;                 /* of both                             */
} galen_assistant_opts;

GALEN_API galen_assistant_opts galen_assistant_default_opts(void);

/** Open an assistant over a model, which must outlive it.
 *  Errors  those of galen_session_open; UNSUPPORTED the vocabulary cannot write five names; NOMEM. *out is NULL then. */
GALEN_API galen_status galen_assistant_open(galen_assistant **out, const galen_model *m, const galen_assistant_opts *opts,
                                            galen_error *err);
GALEN_API void galen_assistant_close(galen_assistant *a); /* NULL is fine */

/** The running call, or else the next one, ends with GALEN_E_CANCELLED. Any thread, also a signal handler. */
GALEN_API void galen_assistant_cancel(galen_assistant *a);

/** What a call cost. Tokens of tries that were thrown away are counted in n_generated. */
typedef struct galen_assist_usage {
    int32_t n_prompt, n_generated, n_scored;
    double prefill_s, decode_s, score_s; /* seconds */
} galen_assist_usage;

typedef struct galen_condition {
    char name[GALEN_NAME_BYTES]; /* one line of valid UTF-8, with a letter; no two of a result are equal but for case and marks */
    double confidence;           /* softmax of mean_logprob over the five: model probability, uncalibrated */
    double mean_logprob;         /* of the name's tokens right after the prompt, natural log, unmasked logits */
    int32_t n_tokens;            /* of the name */
    int32_t order;               /* 0..4: when the model wrote it */
} galen_condition;

typedef struct galen_differential {
    galen_condition conditions[GALEN_N_CONDITIONS]; /* by confidence, the largest first */
    galen_assist_usage usage;
} galen_differential;

typedef struct galen_question {
    char text[GALEN_QUESTION_BYTES]; /* one line of valid UTF-8 */
    bool is_cut;                     /* the token budget ended it */
} galen_question;

typedef struct galen_questions {
    galen_question questions[GALEN_N_QUESTIONS];
    galen_assist_usage usage;
} galen_questions;

/** Does the text say enough to be worth a list? Any bytes are accepted; line breaks and control characters count as blanks.
 *  Errors  REFUSED the text is empty or has hardly a letter; err says what is missing. Needs no model. */
GALEN_API galen_status galen_symptoms_check(const char *symptoms, size_t len, galen_error *err);

/** Five possible conditions. At most 50 tokens are kept, sampled at temperature 0.1, top-p 0.7, top-k 15, repeat penalty 1.02.
 *  symptoms  any bytes, read, not kept; special tokens in them stay plain text, line breaks become blanks.
 *  Errors    REFUSED as galen_symptoms_check; FULL over the context (both counts in err); UNSUPPORTED the model has no chat
 *            format; CANCELLED; NUMERIC; DEVICE; NOMEM. *out is all zero then, and an earlier case is forgotten. */
GALEN_API galen_status galen_assistant_diagnose(galen_assistant *a, const char *symptoms, size_t len, galen_differential *out,
                                                galen_error *err);

/** Five follow-up questions on the conditions that galen_assistant_diagnose gave last. At most 100 tokens are kept.
 *  Errors  ARG there is no such case; else as galen_assistant_diagnose. *out is all zero then; the case is kept. */
GALEN_API galen_status galen_assistant_questions(galen_assistant *a, galen_questions *out, galen_error *err);

/** The sentence that stands beside every result, and what the confidences are; static. */
GALEN_API const char *galen_assist_intended_use(void);
GALEN_API const char *galen_assist_confidence_meaning(void);

/* ---------------------------------------------------------------- red flags: before any model, and without one
 * Declarative rules (data/triage, inside the library) over the user's words: what is said, what is denied, whose it is, when it
 * was, and the numbers. The same bytes always give the same result. Text that tries to instruct changes nothing.
 * A model may raise the level that comes from here; nothing may lower it. */

#define GALEN_MAX_FLAGS    48
#define GALEN_MAX_ASKS     24
#define GALEN_MAX_VITALS   24
#define GALEN_MAX_WARNINGS 16

/** How soon, in rising order. The names are galen_triage_level_name's. */
typedef enum galen_triage_level {
    GALEN_TRIAGE_SELF_CARE,          /* "self_care": minor; advice is enough        */
    GALEN_TRIAGE_CONSULTATION,       /* "consultation": a clinician, no hurry       */
    GALEN_TRIAGE_CONSULTATION_24,    /* "consultation_24": a clinician within a day */
    GALEN_TRIAGE_EMERGENCY,          /* "emergency": an emergency department now    */
    GALEN_TRIAGE_EMERGENCY_AMBULANCE /* "emergency_ambulance": call an ambulance    */
} galen_triage_level;

/** A rule that fired. The strings are static: they belong to the rule. */
typedef struct galen_triage_flag {
    const char *id;       /* "cardiac.chest-pain-with-features" */
    const char *category; /* "cardiac"                          */
    const char *message;  /* one or two sentences for the person */
    const char *source;   /* the guideline behind the rule       */
    galen_triage_level level;
    size_t from, to; /* bytes of the text that the rule rests on first: [from, to) */
} galen_triage_flag;

/** A question that would rule a red flag in or out. */
typedef struct galen_triage_ask {
    const char *id;           /* of its rule; static                 */
    const char *question;     /* static                              */
    galen_triage_level level; /* what a yes would mean           */
} galen_triage_ask;

typedef enum galen_vital {
    GALEN_VITAL_SYSTOLIC_MMHG,
    GALEN_VITAL_DIASTOLIC_MMHG,
    GALEN_VITAL_HEART_RATE,
    GALEN_VITAL_RESPIRATORY_RATE,
    GALEN_VITAL_SPO2_PERCENT,
    GALEN_VITAL_TEMP_C,
    GALEN_VITAL_GLUCOSE_MMOL_L,
    GALEN_VITAL_GCS
} galen_vital;

typedef struct galen_triage_vital {
    galen_vital kind;
    double value;     /* in the unit of its kind, whatever the text's unit was */
    bool is_possible; /* false: no living person has it; no rule saw it        */
    size_t from, to;
} galen_triage_vital;

typedef enum galen_sex { GALEN_SEX_UNKNOWN, GALEN_SEX_FEMALE, GALEN_SEX_MALE } galen_sex;
typedef enum galen_pregnancy {
    GALEN_PREGNANCY_UNKNOWN,
    GALEN_PREGNANCY_NO,
    GALEN_PREGNANCY_YES,
    GALEN_PREGNANCY_POSTPARTUM
} galen_pregnancy;

/** What the text says of the patient. */
typedef struct galen_triage_facts {
    double age_years; /* fractions for infants; -1 = not said */
    galen_sex sex;
    galen_pregnancy pregnancy;
    double pregnancy_weeks; /* -1 = not said */
    int32_t n_vitals;
    galen_triage_vital vitals[GALEN_MAX_VITALS]; /* in the text's order */
} galen_triage_facts;

typedef enum galen_warning_kind {
    GALEN_WARN_IMPOSSIBLE, /* a number that no living person has; from, to say where */
    GALEN_WARN_TOO_LITTLE, /* no symptom, sign or measurement was recognised          */
    GALEN_WARN_LIMIT       /* more flags, vitals or text than are kept; the level counts them all */
} galen_warning_kind;

typedef struct galen_triage_warning {
    galen_warning_kind kind;
    const char *message; /* static */
    size_t from, to;     /* 0, 0 when of the whole text */
} galen_triage_warning;

typedef struct galen_triage {
    galen_triage_level level; /* the highest of the flags'; without flags consultation, or self_care for minor complaints alone */
    int32_t n_flags, n_asks, n_warnings;
    galen_triage_flag flags[GALEN_MAX_FLAGS]; /* the highest level first, then in the text's order */
    galen_triage_ask asks[GALEN_MAX_ASKS];    /* the highest level first */
    galen_triage_warning warnings[GALEN_MAX_WARNINGS];
    galen_triage_facts facts;
} galen_triage;

/** Red flags of a text: any bytes, any length; time is linear, 50 ms for a megabyte. All of it is read as data.
 *  Errors  REFUSED the text is empty or blank; NOMEM. *out is then all zero but for level = consultation.
 *  Memory  the rules once, in the first call, kept until the program ends; else none.  Threads  any number at a time. */
GALEN_API galen_status galen_triage_text(const char *text, size_t len, galen_triage *out, galen_error *err);

GALEN_API const char *galen_triage_level_name(galen_triage_level level);   /* static; "?" out of range */
GALEN_API const char *galen_triage_level_advice(galen_triage_level level); /* a sentence for the person; static */
GALEN_API const char *galen_vital_name(galen_vital kind);                  /* "systolic_mmhg"; static */

/* ---------------------------------------------------------------- codes: a condition's name to ICD-10-CM */

typedef struct galen_codes galen_codes; /* immutable after open; share freely */

typedef struct galen_code {
    char code[12];     /* "E11.9"; "" = no match */
    const char *title; /* as in the table; lives as long as the galen_codes; NULL = no match */
    bool is_billable;  /* a coder may use it as it is */
    double score;      /* 0..1: how well the name fits; below GALEN_CODE_MIN_SCORE there is no match */
} galen_code;

#define GALEN_CODE_MIN_SCORE 0.62

/** Open the table that tools/make-icd10 writes. path NULL: $GALEN_SHARE/icd10cm.bin, then share/ beside the program, then the
 *  install prefix's share/galen, then $XDG_DATA_HOME/galen (or ~/.local/share/galen).
 *  Errors  NOT_FOUND with the command that makes it; FORMAT; IO; NOMEM. *out is NULL then. */
GALEN_API galen_status galen_codes_open(galen_codes **out, const char *path, galen_error *err);
GALEN_API void galen_codes_close(galen_codes *c); /* NULL is fine */

/** The code a coder would take for a bare name ("type 2 diabetes": E11.9). out->code is "" when nothing fits well enough: a code
 *  that is not in the table is never given. name is any bytes, at most its first 512 are read.
 *  Errors  REFUSED the name has no letter; NOMEM.  Threads  any number at a time. */
GALEN_API galen_status galen_codes_find(const galen_codes *c, const char *name, size_t len, galen_code *out, galen_error *err);

GALEN_API const char *galen_codes_release(const galen_codes *c); /* "ICD-10-CM April 2026": lives as long as c */
GALEN_API int32_t galen_codes_year(const galen_codes *c);        /* 2026 */

#ifdef __cplusplus
}
#endif
#endif
