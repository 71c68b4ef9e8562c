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

#ifdef __cplusplus
}
#endif
#endif
