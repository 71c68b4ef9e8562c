/* What diagnose, chat --assistant and a replay share: a model with the assistant over it, one case after another, the loop of
 * questions. */
#ifndef GALEN_CLI_CLINIC_H
#define GALEN_CLI_CLINIC_H

#include "assist/record.h"
#include "cli/cli.h"
#include "cli/line.h"
#include "cli/replay.h"

typedef struct clinic {
    cli *c;
    galen_model *m;
    galen_codes *codes; /* NULL: no table */
    galen_assistant *a;
    galen_calibration calibration;
    char sha256[65];                                                   /* "" = not known */
    char considered[GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 2) + 16]; /* the progress line */
    size_t n_considered;
    turn_fn put; /* takes every turn: the history, or a replay; NULL: none */
    void *put_user;
    int32_t n_samples; /* as in galen_assistant_opts */
    bool prints_turns; /* one a line, on stdout */
    bool has_said_use; /* clinic_use    */
    bool is_silent;    /* nothing is shown: a replay */
    int32_t n_triage;  /* of the case, told by the assistant; the first one was shown before the model was opened */
    /* the case */
    const char *text; /* the symptoms; the caller's */
    size_t n;
    galen_differential d;
    galen_questions q;
    bool has_questions;
} clinic;

/** --samples as galen_assistant_opts has it. */
int32_t clinic_samples(const cli *c);
/** Open the model by name; messages are printed. */
cli_exit clinic_open_model(clinic *k, const char *name);
/** Over k->m: the table of codes, the calibration (k->sha256, found when it is needed), the assistant. */
cli_exit clinic_open(clinic *k);
void clinic_close(clinic *k); /* also a half-open one */

/** The sentence that stands beside every result, once. */
void clinic_use(clinic *k);
/** Red flags on stdout, before anything is opened; nothing when there are none. */
cli_exit clinic_banner(clinic *k, const char *text, size_t n);

/** Conditions of a text into k->d; the text must live as long as the case. Turns: symptoms, triage, differential. Each is put
 * before it is shown: what was shown is there after any end. */
cli_exit clinic_diagnose(clinic *k, const char *text, size_t n);

/** Five questions into k->q, a turn each. *why: the assistant's own error. */
cli_exit clinic_questions(clinic *k, galen_error *why);

/** What JSON and turns say of the run. */
record_run clinic_run(const clinic *k);

/** A turn: printed as a line if k->prints_turns, then put. content is taken over. */
void clinic_turn(clinic *k, const char *kind, json_t *content);

/** The ranking, on a terminal or in a pipe. has_details: quotes and what is missing. change NULL or [5]. */
void clinic_show(const clinic *k, const double *change, bool has_details);

/** An answer to the open question, its turns and the new ranking in k->d; u may be NULL. The assistant's status. */
galen_status clinic_answer(clinic *k, const galen_question *q, galen_answer_kind kind, const char *text, size_t n,
                           galen_update *u, galen_error *err);
/** The next question, or why there is none; both as turns. */
galen_status clinic_next(clinic *k, galen_question *q, galen_stop *stop, galen_error *err);

/** Ask until it stops: by itself, at the end of the lines, or by /quit (*is_quit, may be NULL). */
cli_exit clinic_ask(clinic *k, line_reader *lines, bool *is_quit);

/** Called at the begin and at the end of each case of clinic_chat. */
typedef void (*clinic_case_fn)(clinic *k, bool is_begin);
/** chat --assistant: every line that is no command and no answer is a new description. */
cli_exit clinic_chat(clinic *k, line_reader *lines, clinic_case_fn on_case);

#endif
