/* The assistant over HTTP. A case is a list of turns in the store; a turn is on the disk before a client hears of it.
 *
 * Handlers run on the daemon's threads and never wait: they check a request and hand it to a worker. One worker reads and writes
 * the store (lists, exports, the first turns of a case: red flags are answered while every assistant is busy); some more run
 * assistants, which take seconds. A case that is being worked on keeps its assistant for the answers to come; one whose assistant
 * is gone (time, a restart) is replayed from its turns with the same seed, which gives the same words. */
#ifndef GALEN_SERVER_CASES_H
#define GALEN_SERVER_CASES_H

#include "galen/assist.h"
#include "server/fields.h"
#include "server/shelf.h"
#include "store/store.h"

#define CASE_TOKEN_BYTES 49 /* 16 hex digits of the number, 32 of its HMAC, a NUL */
#define CASE_TEXT_MAX    (1u << 20)

typedef struct cases cases;

/* One request for the workers. Owned by its exchange. */
typedef struct task {
    struct task *next;
    exchange *x;
    cases *cs;
    void (*run)(struct task *t, store *st); /* answers, or hands t on with cases_hand_on */
    json_t *body;
    int64_t id;     /* of the case; 0: none yet; < 0: the store's setting `save` is off, it lives in memory alone */
    int64_t n_kept; /* of such a case: its turns so far */
    book *b;        /* whose model; not taken */
    uint64_t seed;
    bool is_stream;
    bool is_failed; /* what follows says why; the first failure counts */
    http_error failure;
    char words[GALEN_ERROR_MSG_BYTES]; /* or "" */
    json_t *turns;                     /* gathered, when it is not a stream */
    pthread_mutex_t lock;
    galen_assistant *running; /* guarded by lock: cancelled when the client leaves */
    bool is_gone;             /* guarded by lock */
} task;

/** A live case: its assistant, between two requests. */
typedef struct live_case {
    struct live_case *next;
    int64_t id;
    book *b; /* taken */
    galen_assistant *a;
    task *t; /* whose events go where; NULL: idle */
    char *symptoms;
    size_t n_symptoms;
    galen_questions questions;              /* the last ones, for what is missing */
    bool has_questions, is_asked, is_quiet; /* quiet: a replay, of which no client hears */
    galen_question asked;
    uint64_t seed, used_ns;
    int64_t n_kept; /* as a task's */
} live_case;

galen_status cases_open(cases **out, server *s, galen_error *err);
void cases_close(cases *cs); /* NULL is fine */
void cases_tick(cases *cs, uint64_t now_ns);

/** A task for x. NULL: answered. Takes body over (NULL: none). */
task *task_open(exchange *x, json_t *body, void (*run)(task *t, store *st));
/** To the store's worker (from a handler), to the assistants' (from that worker). Both take the task over. */
void cases_hand_to_store(task *t);
void cases_hand_to_assistant(task *t);
bool task_is_gone(void *t);

/** A number for a case that is not kept. */
int64_t cases_new_unkept(cases *cs);
void cases_token(const cases *cs, int64_t id, char out[CASE_TOKEN_BYTES]);
/** False: not one of ours, or forged. */
bool cases_id(const cases *cs, const char *token, int64_t *id);

/** Append; false: the task has failed. Takes content over. A stream hears of it as `kind`. */
bool task_turn(task *t, store *st, const char *kind, json_t *content);
/** An event that is no turn. Takes content over. */
bool task_event(task *t, const char *name, json_t *content);
/** Note why; err's words go out with a status below 500. */
void task_fail(task *t, http_error e, const galen_error *err);
/** The last thing a worker does with t: what failed, or the id and the turns. */
void task_end(task *t);
/** The same with an answer of its own, taken over; streams have none. */
void task_reply(task *t, json_t *root);

/* The table of live cases: one request at a time works on a case. */
live_case *cases_take_live(task *t, bool *is_busy);
/** keep false: closed. */
void cases_give_live(cases *cs, live_case *lc, bool keep);
live_case *cases_new_live(task *t, const char *symptoms, size_t n, galen_error *err);
void cases_forget(cases *cs, int64_t id); /* erased */
const galen_codes *cases_codes(const cases *cs);

/* cases_run.c: on a worker */
void case_begin(task *t, store *st);
void case_diagnose(task *t, store *st);
void case_answer(task *t, store *st);

#endif
