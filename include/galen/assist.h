/* assist.h: the medical assistant over the engine of galen.h.
 *
 * A galen_assistant holds one case at a time: a description of symptoms; its red flags, read by rules before the model sees a
 * word; five distinct possible conditions with the model's own probability for each and the user's words that speak for and
 * against them; follow-up questions chosen for what their answer is expected to tell; a new ranking after each answer.
 * The form of every answer is written by this software; the model fills in names and questions and is otherwise only read: a
 * confidence is always measured from its logits, never taken from its words.
 *
 * Intended use: for licensed professionals, education and research. It lists possible conditions; it does not diagnose, and it
 * is not for emergencies. Show galen_assist_intended_use() beside every result.
 *
 * Order of the sections: red flags - codes - the case: options, results, calls - calibration - the asynchronous adapter. */
#ifndef GALEN_ASSIST_H
#define GALEN_ASSIST_H

#include "galen/galen.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The sentence that stands beside every result, and what the confidences are; static. */
GALEN_API const char *galen_assist_intended_use(void);
GALEN_API const char *galen_assist_confidence_meaning(bool is_calibrated);

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

/* ---------------------------------------------------------------- the case: options */

#define GALEN_N_CONDITIONS   5
#define GALEN_N_QUESTIONS    5   /* written at a time */
#define GALEN_NAME_BYTES     96  /* with the final NUL */
#define GALEN_QUESTION_BYTES 320 /* with the final NUL */
#define GALEN_MAX_EVIDENCE   4   /* quotes for, and quotes against, a condition */
#define GALEN_MAX_SAMPLES    16

typedef struct galen_assistant galen_assistant; /* one case at a time; one thread at a time, but for galen_assistant_cancel */
typedef struct galen_differential galen_differential;
typedef struct galen_questions galen_questions;

typedef enum galen_assist_part {
    GALEN_PART_TRIAGE,    /* .triage: before any token; again whenever the model or an answer raised it              */
    GALEN_PART_CONDITION, /* .text: the name number .index, whole, in the order of writing                           */
    GALEN_PART_RANKING,   /* .differential: the five ranked, with confidences and quotes; again after each answer     */
    GALEN_PART_QUESTION,  /* .text: the question number .index, whole, in the order of writing                       */
    GALEN_PART_QUESTIONS  /* .questions: all, the best first                                                         */
} galen_assist_part;

/** What is ready, as it becomes ready. What was given stands: no text is ever taken back. Pointers live during the callback. */
typedef struct galen_assist_event {
    galen_assist_part part;
    int32_t index;    /* 0.. of CONDITION and QUESTION, in the order of writing; the ranking may differ */
    const char *text; /* valid UTF-8, no line break, not NUL-terminated */
    size_t text_len;
    bool is_end; /* the item is whole: always, so far */
    const galen_triage *triage;
    const galen_differential *differential;
    const galen_questions *questions;
} galen_assist_event;

/** false = stop; the call then returns GALEN_E_CANCELLED. */
typedef bool (*galen_assist_fn)(void *user, const galen_assist_event *event);

/** How a model's raw probabilities become confidences:
 *  p ~ (choice^(1-name_weight) * name^name_weight * e^(text_weight * text))^(1/temperature); src/assist/rank.c says what they
 * are. */
typedef struct galen_calibration {
    size_t size;
    double temperature, name_weight, text_weight, other_bias; /* fitted; 1, 0.5, 2 and 0 without a file */
    int32_t n_cases;                                          /* of the half that was held out      */
    double ece, brier, auroc;                                 /* on that half                       */
    char model_sha256[65];                                    /* the model that it belongs to       */
    char prompt_version[40]; /* the prompts that it was fitted with: with others it does not count; "" = any */
} galen_calibration;

typedef struct galen_assistant_opts {
    size_t size;            /* sizeof(galen_assistant_opts)                                                    */
    int32_t n_ctx;          /* tokens; 0 = the model's own maximum, at most 2048                               */
    int32_t n_batch;        /* as in galen_session_opts                                                        */
    const char *kv_type;    /* as in galen_session_opts                                                        */
    galen_batcher *batcher; /* as in galen_session_opts: a server's, shared; NULL = a session of its own       */
    const char *client;     /* with a batcher */
    const char *salt;       /* with a batcher */
    uint64_t seed;          /* the same seed, model and device give the same words                             */
    float temperature;      /* of the names' and questions' sampling; 0 = the guide's 0.1                      */
    int32_t n_samples;      /* times the model is asked anew for its first name; 0 = 3, -1 = none; at most 16  */
    bool has_no_urgency;    /* do not ask the model whether to raise the level                                 */
    int32_t max_questions;  /* the loop stops after so many answers; 0 = 10                                    */
    double confident;       /* ... or when one condition has so much; 0 = 0.85                                 */
    double least_bits;      /* ... or when no question is expected to tell more; 0 = 0.02                      */
    const char
        *prompts_dir; /* a folder of prompts that takes the place of those inside; NULL: $GALEN_PROMPTS, else those inside */
    const galen_codes *codes;             /* for codes and for telling synonyms; outlives the assistant; NULL = no codes */
    const galen_calibration *calibration; /* of this model; copied; NULL = uncalibrated                           */
    galen_assist_fn on_event;             /* NULL: no streaming                  */
    galen_progress_fn progress;           /* while a prompt is evaluated; or NULL */
    void *user;                           /* of both                             */
} galen_assistant_opts;

GALEN_API galen_assistant_opts galen_assistant_default_opts(void);

/** Load: open an assistant over a model, which must outlive it.
 *  Errors  those of galen_session_open; ARG a prompt in prompts_dir lacks a field or the calibration is another model's shape;
 *          IO, NOT_FOUND prompts_dir; UNSUPPORTED the vocabulary cannot write five names; NOMEM. *out is NULL then. */
GALEN_API galen_status galen_assistant_open(galen_assistant **out, const galen_model *m, const galen_assistant_opts *opts,
                                            galen_error *err);
/** Free. NULL is fine. */
GALEN_API void galen_assistant_close(galen_assistant *a);

/** The running call, or else the next one, ends with GALEN_E_CANCELLED. Any thread, also a signal handler. */
GALEN_API void galen_assistant_cancel(galen_assistant *a);

/* ---------------------------------------------------------------- the case: results */

/** What a call cost. Tokens of tries that were thrown away are counted in n_generated. */
typedef struct galen_assist_usage {
    int32_t n_prompt, n_generated, n_scored; /* tokens evaluated in prompts and branches; sampled; probabilities read */
    int32_t n_calls;                         /* of the engine, each token sampled one by one counted                   */
    double prefill_s, decode_s, score_s;     /* seconds */
    double first_condition_s, ranked_s;      /* since the call began: the first name is whole; the five are ranked */
    double total_s;                          /* of the call */
} galen_assist_usage;

/** Words of the user that speak for or against a condition: bytes [from, to) of the symptoms, a clause cut by this software. */
typedef struct galen_evidence {
    size_t from, to;
    double bits; /* log2 of how much likelier the model finds these words from a patient with this condition than from one with an
                  * average one of the five; > 0 for, < 0 against */
} galen_evidence;

typedef struct galen_condition {
    char name[GALEN_NAME_BYTES]; /* one line of valid UTF-8, with a letter. No two of a result have the same words, whatever their
                                  * case, marks and order, nor the same code */
    double confidence;           /* what the model's probabilities and the answers say; the five and other make 1 */
    double prior;                /* the same before any answer */
    double name_logprob;         /* mean over the name's tokens, right after the prompt; natural log, unmasked logits */
    double name_prior;           /* the same without a complaint: what the model's liking for the name alone makes it  */
    double text_logprob;         /* of the words that were read, from a patient with this condition; natural log      */
    double choice_logprob;  /* of its letter when the model chooses among the five and "other", mean over all cyclic orders */
    int32_t n_tokens;       /* of the name */
    int32_t order;          /* 0..4: when the model wrote it */
    int32_t n_votes;        /* samples that named it first */
    char code[12];          /* ICD-10-CM; "" = no match */
    const char *code_title; /* lives as long as the galen_codes; NULL = no match */
    galen_evidence support[GALEN_MAX_EVIDENCE], against[GALEN_MAX_EVIDENCE]; /* the strongest first */
    int32_t n_support, n_against;
    double evidence_bits; /* of all clauses together */
    uint32_t missing; /* bit i: question i of the last galen_questions asks for a finding typical of it, and is not answered */
} galen_condition;

/** Signals that contradict the confidences' first: shown to the person, never hidden. */
typedef enum galen_disagreement {
    GALEN_DISAGREE_NAMES = 1,   /* by the names' likelihood alone another is first */
    GALEN_DISAGREE_SAMPLES = 2, /* most samples name another, or none of the five  */
    GALEN_DISAGREE_EVIDENCE = 4 /* the user's words speak more for another         */
} galen_disagreement;

struct galen_differential {
    galen_condition conditions[GALEN_N_CONDITIONS]; /* by confidence, the largest first */
    double other;                                   /* none of the five */
    double choice_other;                            /* as choice_logprob, of "none of these" */
    double entropy_bits;                            /* of the five and other */
    bool is_calibrated, has_choice; /* has_choice false: the vocabulary has no six letters to choose by; names alone count */
    double label_mass;       /* probability of the six letters together where one is read: how well the model plays along */
    int32_t n_text;          /* tokens of the symptoms that text_logprob is of */
    int32_t n_samples;       /* that named a condition at all */
    double agreement;        /* share of the samples that name the first; -1 without samples */
    uint32_t disagreement;   /* of galen_disagreement */
    double urgency;          /* the model's own probability of an emergency, against an empty complaint; -1 = not asked */
    int32_t code_year;       /* of the table; 0 = no table */
    int32_t n_answers;       /* that are in it */
    char prompt_version[40]; /* "builtin-0123456789ab": which prompts, and the hash of their contents */
    galen_assist_usage usage;
};

typedef enum galen_ask_reason { GALEN_ASK_RED_FLAG, GALEN_ASK_ENTROPY } galen_ask_reason;

typedef struct galen_question {
    char text[GALEN_QUESTION_BYTES]; /* one line of valid UTF-8 */
    bool is_cut;                     /* the token budget ended it */
    int32_t number;                  /* 1.. in the order asked; 0 = not asked yet */
    galen_ask_reason reason;
    const char *flag_id; /* of the red flag's rule; NULL with ENTROPY; static */
    double bits;         /* entropy that the answer is expected to remove; 0 of a red-flag question that no condition turns on */
    double p_yes[GALEN_N_CONDITIONS], p_yes_other; /* by the model; conditions in the order they had then */
} galen_question;

struct galen_questions {
    galen_question questions[GALEN_N_QUESTIONS]; /* by bits, the most first */
    galen_assist_usage usage;
};

typedef enum galen_answer_kind { GALEN_ANSWER_YES, GALEN_ANSWER_NO, GALEN_ANSWER_UNKNOWN, GALEN_ANSWER_TEXT } galen_answer_kind;

/** Why no more is asked. */
typedef enum galen_stop {
    GALEN_STOP_NONE,
    GALEN_STOP_CONFIDENT, /* "confident" */
    GALEN_STOP_NO_GAIN,   /* "no_gain"   */
    GALEN_STOP_COUNT,     /* "count"     */
    GALEN_STOP_USER       /* "user"      */
} galen_stop;

GALEN_API const char *galen_stop_name(galen_stop stop);               /* static; "" for NONE */
GALEN_API const char *galen_answer_kind_name(galen_answer_kind kind); /* "yes", "no", "unknown", "text"; static */

/** What an answer did. */
typedef struct galen_update {
    galen_differential now;
    double change[GALEN_N_CONDITIONS], change_other; /* of confidence, in the order of now */
    double bits;                                     /* of entropy removed; negative when the answer opened the case again */
    bool is_raised;                                  /* the triage level rose: see galen_assistant_triage */
} galen_update;

/* ---------------------------------------------------------------- the case: calls */

/** Does the text say enough to be worth a list? Any bytes are accepted; line breaks and control characters count as blanks.
 *  Errors  REFUSED the text is empty, has hardly a letter, or says nothing of a complaint (greetings, instructions, "I feel
 *          bad"); err says what is missing. Needs no model. */
GALEN_API galen_status galen_symptoms_check(const char *symptoms, size_t len, galen_error *err);

/** Generate: five possible conditions. At most 50 tokens of names are kept, sampled at temperature 0.1, top-p 0.7, top-k 15,
 *  repeat penalty 1.02. Events: TRIAGE (before any token), five CONDITION, TRIAGE (if the model raised it), RANKING.
 *  symptoms  any bytes; read, and copied into the case; special tokens in them stay plain text, line breaks become blanks.
 *  Errors    REFUSED as galen_symptoms_check (galen_assistant_triage has the red flags nevertheless); FULL over the context (both
 *            counts in err); UNSUPPORTED the model has no chat format; CANCELLED; NUMERIC; DEVICE; NOMEM. *out is all zero then,
 *            and an earlier case is forgotten. */
GALEN_API galen_status galen_assistant_diagnose(galen_assistant *a, const char *symptoms, size_t len, galen_differential *out,
                                                galen_error *err);

/** Which prompts: as in galen_differential. Lives with a. */
GALEN_API const char *galen_assistant_prompt_version(const galen_assistant *a);

/** The text that the offsets of the case's red flags count in: the symptoms, then, each on a line of its own, free-text answers
 * and the questions that were answered with yes. NULL without a case; lives until the next answer or case. */
GALEN_API const char *galen_assistant_text(const galen_assistant *a, size_t *len);

/** The case's red flags, with what answers and the model added; NULL before the first galen_assistant_diagnose. */
GALEN_API const galen_triage *galen_assistant_triage(const galen_assistant *a);

/** Five new follow-up questions on the case's conditions, none asked or written before, by the entropy that the answer is
 *  expected to remove. At most 100 tokens are kept. Events: QUESTION, QUESTIONS.
 *  Errors  ARG there is no case; else as galen_assistant_diagnose. *out is all zero then; the case is kept. */
GALEN_API galen_status galen_assistant_questions(galen_assistant *a, galen_questions *out, galen_error *err);

/** The same on any conditions, without a case: the guide's generate_followup_questions. bits are 0 then.
 *  context  names, or an answer in the form "- diagnosis: NAME"; confidence  their average. */
GALEN_API galen_status galen_assistant_questions_on(galen_assistant *a, const char *context, size_t len, double confidence,
                                                    galen_questions *out, galen_error *err);

/** Ask: the next question of the case, red-flag questions first, then by bits; five new ones are written when none is left.
 *  *stop tells why there is none (then *out is all zero). Asking again without an answer gives the same question.
 *  Errors  as galen_assistant_questions. */
GALEN_API galen_status galen_assistant_ask(galen_assistant *a, galen_question *out, galen_stop *stop, galen_error *err);

/** Answer the question that galen_assistant_ask gave last. text is read with GALEN_ANSWER_TEXT only, by the red-flag rules too;
 *  "yes", "no", "not sure" and the like are understood as such in English.
 *  Bayes: each condition's probability is multiplied by how likely the model finds this answer from such a patient, at most 19
 *  times and at least a 19th of its neighbours', so that no single answer decides.
 *  Errors  ARG no question is open; REFUSED an empty text; else as galen_assistant_diagnose. The case is unchanged then. */
GALEN_API galen_status galen_assistant_answer(galen_assistant *a, galen_answer_kind kind, const char *text, size_t len,
                                              galen_update *out, galen_error *err);

/** Do two names say the same condition? Same words in any order, or the same code when codes is given. Any bytes. */
GALEN_API bool galen_condition_is_same(const galen_codes *codes, const char *a, const char *b);

/* ---------------------------------------------------------------- calibration */

/** SHA-256 of a model's file (of a split set, its first) as 64 hex digits and a NUL. Reads the whole file: seconds for 8 GB.
 *  Errors  IO; NOMEM. */
GALEN_API galen_status galen_model_sha256(const galen_model *m, char out[65], galen_error *err);

/** Of a model that has none: n_cases 0, temperature 1, the weights that are used uncalibrated. Any thread. */
GALEN_API galen_calibration galen_calibration_none(void);

/** The calibration of the model with this hash: $XDG_DATA_HOME (or ~/.local/share)/galen/calibration/SHA.json.
 *  Errors  NOT_FOUND there is none; ARG no hash; FORMAT the file is damaged or another model's; IO; NOMEM. *out is then the
 *          uncalibrated default. */
GALEN_API galen_status galen_calibration_find(const char *model_sha256, galen_calibration *out, galen_error *err);

/** Are there calibrations at all? Without one, no model needs to be hashed for it. */
GALEN_API bool galen_calibration_any(void);

/* ---------------------------------------------------------------- the asynchronous adapter
 * load_model, generate_diagnosis, generate_followup_questions: each submits a job and returns; a thread of the adapter's own does
 * one job after another in the order submitted, and calls the job's function when it is done. The callback runs on that thread:
 * it may submit and cancel, must not close, and what it is given lives until it returns. Submitting, cancelling and closing are
 * legal from any thread, but nothing is after galen_adapter_close began. */

typedef struct galen_adapter galen_adapter;

typedef struct galen_adapter_result {
    uint64_t job;
    galen_status status;
    const galen_error *error;   /* never NULL */
    const char *text;           /* in the guide's form ("- diagnosis: ...", "1. ..."); "" after load_model or a failure */
    const galen_triage *triage; /* generate_diagnosis: also when it failed or was refused; else NULL */
    const galen_differential *differential; /* generate_diagnosis, else NULL */
    const galen_questions *questions;       /* generate_followup_questions, else NULL */
} galen_adapter_result;

typedef void (*galen_adapter_fn)(void *user, const galen_adapter_result *result);

/** Errors  NOMEM; FAIL no thread. *out is NULL then. */
GALEN_API galen_status galen_adapter_open(galen_adapter **out, galen_error *err);
/** Jobs that wait end as CANCELLED, the running one is cancelled; returns when the thread is gone. NULL is fine. */
GALEN_API void galen_adapter_close(galen_adapter *ad);

/** Open a model and an assistant over it in place of what was there. The strings of the options are copied, the rest is the
 *  caller's until the adapter is closed or another model is loaded. NULL options: the defaults. job may be NULL.
 *  Errors  of submitting: NOMEM, ARG; of the job: galen_model_open's and galen_assistant_open's. */
GALEN_API galen_status galen_adapter_load_model(galen_adapter *ad, const char *path, const galen_model_opts *model,
                                                const galen_assistant_opts *assistant, galen_adapter_fn fn, void *user,
                                                uint64_t *job, galen_error *err);
GALEN_API galen_status galen_adapter_generate_diagnosis(galen_adapter *ad, const char *symptoms, size_t len, galen_adapter_fn fn,
                                                        void *user, uint64_t *job, galen_error *err);
/** context NULL: of the last diagnosis; then confidence is not read. */
GALEN_API galen_status galen_adapter_generate_followup_questions(galen_adapter *ad, const char *context, size_t len,
                                                                 double confidence, galen_adapter_fn fn, void *user,
                                                                 uint64_t *job, galen_error *err);
/** The job ends as CANCELLED, also before it began; a model that is being opened is opened to its end first. One that has ended
 * is left alone. */
GALEN_API void galen_adapter_cancel(galen_adapter *ad, uint64_t job);

#ifdef __cplusplus
}
#endif
#endif
