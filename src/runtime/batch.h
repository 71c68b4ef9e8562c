/* Inside the batcher. What is under `lock` is said so; everything else belongs to the batcher's thread. */
#ifndef GALEN_RUNTIME_BATCH_H
#define GALEN_RUNTIME_BATCH_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/pool.h"
#include "runtime/generation.h"
#include "runtime/pages.h"
#include "runtime/runtime.h"

/* Clients take turns: the one that was served least comes next (virtual token counter, arXiv 2401.00588). */
typedef struct client {
    struct client *next;
    uint64_t n_served; /* rows, and what it is given in the step being built */
    int32_t n_live;    /* sequences that wait or run */
    char key[];
} client;

/* A part of a queued request that is copied at submit and freed with it. */
typedef struct request {
    uint64_t id;
    galen_request_opts o;
    generation gen;
    galen_usage usage;
    uint64_t submitted_ns, deadline_ns; /* 0 = none */
    atomic_bool is_cancelled;
    bool has_begun, is_evaluated; /* it ran; its prompt is done */
    float *label_logprobs;        /* [n_labels] */
    double *pooled;               /* [n_embd] */
    float *embedding;             /* [n_embd] */
    int32_t n_pooled;             /* positions in pooled */
    int32_t n_forced;             /* the last tokens: left no choice by the grammar, not told yet */
    const galen_branch *branch;   /* what is read of a session's branch; NULL                     */
    int32_t n_before, n_read;     /* of the branch: positions of the session; wanted and given    */
    bool is_chosen;               /* what follows its last token is known before it is taken: choice, or why not */
    int32_t choice;
    galen_status choice_status;
    galen_error choice_error;
    struct request *prev, *next; /* lock: all that have not ended */
    arena mem;
} request;

/* A session's place in the batcher. Between evaluations the sequence is idle; its pages may be taken, then they are computed
 * again. */
typedef struct seat {
    pthread_cond_t changed;
    /* of the evaluation under way: set by the caller, who waits */
    const int32_t *new_tokens;
    int32_t n_keep, n_new;
    bool is_all;
    float *logits; /* NULL = none wanted */
    /* lock: */
    bool is_busy, is_cancelled, is_parking;
    int32_t n_evaluated; /* of the new tokens */
    galen_status status;
    galen_error error;
    struct seq *next_leaving;
} seat;

typedef enum seq_state { SEQ_NEW, SEQ_WAITING, SEQ_RUNNING, SEQ_IDLE } seq_state;

/* One timeline. Exactly one of req and seat is set. */
typedef struct seq {
    struct seq *prev, *next; /* in the list of its state      */
    struct seq *next_queued; /* in the batcher's incoming list */
    uint64_t order;          /* who came first; a session keeps its own */
    seq_state state;
    request *req;
    seat *seat;
    client *client;
    int32_t *tokens; /* [cap_tokens] */
    int32_t n_tokens, cap_tokens;
    int32_t n_done;           /* positions whose KV is in the pages                                  */
    int32_t n_sound;          /* positions that a finite result has depended on: fit to be known     */
    int32_t n_out;            /* positions whose results have been used: never twice, also when computed again */
    int32_t *pages;           /* [most pages] */
    int32_t n_pages, n_known; /* the first n_known are known pages, shared */
    int32_t root;             /* PAGE_NONE = not taken yet */
    char *client_key, *salt;
    int32_t n_rows;               /* in the step being built */
    int32_t first_row, first_out; /* of these, when it is built */
    int32_t n_finite;             /* rows of logits before the first that is not finite */
    arena mem;
} seq;

typedef struct seq_list {
    seq *first, *last;
    int32_t n;
} seq_list;

struct galen_batcher {
    const galen_model *m;
    galen_batcher_opts o;
    int32_t max_out; /* rows with logits in a step */
    arena mem;
    pthread_t thread;
    bool has_thread;
    /* the device */
    placed where;
    page_pool *pool;
    pool *crew;           /* threads that choose, each in its own of choices */
    sampler *choices;     /* [threads of crew] */
    int64_t worth_waking; /* logits of a step from which on they do */
    /* the step */
    int32_t *token, *pos, *row_seq, *out_row; /* [n_batch], [max_out] */
    kv_pages *tables;                         /* [max_seqs] */
    seq **members;                            /* [max_seqs] the sequences of the step, as their rows stand */
    float *logits;                            /* [max_out][n_vocab] */
    sample_row *how;                          /* [max_out] how the token after each of these rows is chosen                 */
    sample_choice *picks;                     /* [max_out] what the device chose, with is_picked: then there are no logits  */
    bool can_pick, is_picked;
    float *hidden; /* [n_batch][n_embd] */
    batch step;
    int32_t n_members;
    bool has_pooling;                /* hidden states of the step are wanted */
    seq_list waiting, running, idle; /* by order; idle: the longest unused first */
    client *clients;
    bool is_broken;
    galen_error failure;                   /* with is_broken */
    galen_batcher_stats tally;             /* what the thread counts; copied to stats at each step */
    double busy_s, busy_tokens, busy_ends; /* fading sums, for the rates */

    pthread_mutex_t lock;
    pthread_cond_t wake, ended;
    seq *incoming, *incoming_last;               /* lock: requests and evaluations to take in          */
    seq *leaving;                                /* lock: of closed sessions, linked by next_leaving   */
    request *live;                               /* lock */
    int32_t n_live, n_queued;                    /* lock: requests not ended; of them, not begun */
    uint64_t n_submitted, n_refused, next_order; /* lock */
    int32_t n_sessions;                          /* lock */
    bool is_closing, is_draining;                /* lock */
    uint64_t progress_ns;                        /* lock: when a step ended, or work began; 0 = idle */
    galen_batcher_stats stats;                   /* lock */
};

/* ---------------------------------------------------------------- sequences: batch_seq.c */

/** Reserve a sequence of up to n_ctx tokens (+ 1 sampled, not evaluated). Any thread. Errors  NOMEM. */
galen_status seq_open(seq **out, int32_t n_ctx, const char *client, const char *salt, galen_error *err);
void seq_close(seq *s); /* it holds no page; NULL is fine */
void seq_list_add(seq_list *l, seq *s, bool is_by_order);
void seq_list_remove(seq_list *l, seq *s);
/** Move s to the list of its new state. */
void seq_move(galen_batcher *b, seq *s, seq_state to);

static inline int32_t seq_pending(const seq *s) {
    return s->n_tokens - s->n_done;
}
/** The first position that must be computed for this sequence's sake, whatever is known. */
int32_t seq_first_needed(const seq *s);
/** Whether the result at a position is wanted. */
bool seq_wants(const seq *s, int32_t pos);

/** Pages that known ones can spare s, and how many of them nobody holds. Changes nothing. */
int32_t seq_count_known(const galen_batcher *b, const seq *s, int32_t *n_unheld);
/** Take up what is known of the tokens of s. Errors  as of copying a page. */
galen_status seq_match(galen_batcher *b, seq *s, galen_error *err);
/** Pages for n more positions, the first one made private; false when none is left, what was taken stays. */
galen_status seq_reserve(galen_batcher *b, seq *s, int32_t n, bool *is_enough, galen_error *err);
/** Make the full pages of sound positions known. */
void seq_publish(galen_batcher *b, seq *s);
/** Let all pages go. is_kept: its last, partly filled page becomes known too. */
void seq_let_pages(galen_batcher *b, seq *s, bool is_kept);
/** Forget all positions from n on. */
void seq_rewind(galen_batcher *b, seq *s, int32_t n);

/* ---------------------------------------------------------------- who comes next: batch_plan.c */

/** Client of a key, with one sequence more; NULL when memory is out. */
client *client_enter(galen_batcher *b, const char *key);
void client_leave(galen_batcher *b, client *c);
/** Start what may start, and fill b->step with rows. b->n_members is 0 when nothing can be done. */
galen_status plan_step(galen_batcher *b, galen_error *err);
/** What all pages hold is lost: nothing is known any more, every sequence begins anew. */
void plan_anew(galen_batcher *b);

/* ---------------------------------------------------------------- a step's results: batch_step.c */

/** Evaluate b->step and hand out what it yields. Errors  the device's: then nothing can go on. */
galen_status step_run(galen_batcher *b, galen_error *err);
/** End a request or an evaluation that waits or runs, for the reason why. Errors  as step_run. */
galen_status step_end(galen_batcher *b, seq *s, galen_status status, const galen_error *why, galen_error *err);

/* ---------------------------------------------------------------- the device: batch_device.c */

galen_status device_open(galen_batcher *b, kv_type kv, int32_t n_pages, galen_error *err);
void device_close(galen_batcher *b);
/** Evaluate b->step. *is_moved: the device failed and the model lives elsewhere now, all KV is lost and nothing was evaluated. */
galen_status device_run(galen_batcher *b, bool *is_moved, galen_error *err);
/** Copy page from to page to; from PAGE_NONE clears it. */
galen_status device_copy_page(galen_batcher *b, int32_t to, int32_t from, galen_error *err);
bool device_can_copy(const galen_batcher *b);

/* ---------------------------------------------------------------- requests: batch_request.c */

/** Check and copy. Any thread. Errors  ARG, RANGE, FULL, NOMEM. */
galen_status request_open(seq **out, const galen_batcher *b, const galen_request_opts *o, galen_error *err);
void request_close(request *r); /* NULL is fine */
/** What position pos of the prompt or the generation yields: its final hidden state, and logits when they were wanted (NULL).
 *  *is_over: the request has ended well, as its generation's finish says. Errors  NUMERIC, NOMEM, CANCELLED by a callback. */
galen_status request_take_hidden(galen_batcher *b, seq *s, int32_t pos, const float *hidden, galen_error *err);
galen_status request_take_logits(galen_batcher *b, seq *s, int32_t pos, const float *logits, bool *is_over, galen_error *err);
/** Choose ahead what follows the last token, where that depends on nothing that is still to be taken. Tells nobody: any thread,
 *  one for each request. */
void request_choose(seq *s, const float *logits, sampler *choice);
/** The last callbacks. */
void request_tell_end(request *r, galen_status status, const galen_error *why);

/* ---------------------------------------------------------------- sessions: batch_session.c */

/** Take in the evaluation that a seat asks for. */
void seat_begin(galen_batcher *b, seq *s);
void seat_take_logits(galen_batcher *b, seq *s, int32_t pos, const float *logits);
/** Tell the caller how far it is; or that it is over. */
void seat_tell_progress(galen_batcher *b, seq *s);
void seat_tell_end(galen_batcher *b, seq *s, galen_status status, const galen_error *why);

/** A sequence with a seat. Errors  ARG, FULL, NOMEM. *n_ctx: 0 = the batcher's; becomes what it is. */
galen_status seat_open(seq **out, galen_batcher *b, const galen_session_opts *o, int32_t *n_ctx, galen_error *err);
void seat_close(galen_batcher *b, seq *s); /* no evaluation is under way; NULL is fine */
void seat_free(galen_batcher *b, seq *s);  /* what the thread does of it */
/** Evaluate n tokens after the first n_keep of the sequence: logits of the last, or of all; or NULL. Blocks. */
galen_status seat_eval(galen_batcher *b, seq *s, int32_t n_keep, const int32_t *tokens, int32_t n, bool is_all, float *logits,
                       galen_progress_fn progress, void *user, galen_error *err);

/** Give up the pages, known by their tokens, so that others may begin with them; the first n_keep tokens stay. Blocks. */
galen_status seat_park(galen_batcher *b, seq *s, int32_t n_keep, galen_error *err);

/* ---------------------------------------------------------------- branches of sessions: batch_branch.c
 * Each is a request that begins with the session's tokens, whose pages it finds. They run whatever the queue holds, as the
 * session's own evaluations do. */

galen_status seat_read(galen_session *s, const galen_branch *in, int32_t n, galen_error *err);
galen_status seat_draft(galen_session *s, galen_draft *in, int32_t n, galen_error *err);

/** Wanted log-probabilities of a request's branch after pos: how many, and give them out. */
int32_t branch_count(const request *r, int32_t pos);
void branch_take(request *r, int32_t pos, const float *logits);

/** Queue a request that request_open made; *id before its first callback. is_inside: however full it is. Takes s over.
 *  Errors  BUSY, DEVICE. */
galen_status batcher_submit(galen_batcher *b, seq *s, bool is_inside, uint64_t *id, galen_error *err);

/** Queue a sequence; called with the lock. */
void batcher_enqueue(galen_batcher *b, seq *s);

#endif
