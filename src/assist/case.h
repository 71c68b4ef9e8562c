/* The inside of an assistant, shared by its parts: the session's edge, the writer of items, the scorer. */
#ifndef GALEN_ASSIST_CASE_H
#define GALEN_ASSIST_CASE_H

#include <stdatomic.h>

#include "galen/assist.h"

#define DIAGNOSIS_TOKENS 50 /* new tokens for five names, and for five questions: the guide's budgets */
#define QUESTION_TOKENS  100
#define ITEM_TOKENS      32 /* of one item */
#define ITEM_BYTES       GALEN_QUESTION_BYTES
#define ITEMS_MAX        5

/* Tokens to be evaluated before the next one is sampled, and where that one will stand. */
typedef struct edge {
    int32_t *ids; /* [n_ctx] */
    int32_t n;    /* >= 1 when an item is begun */
    int32_t past; /* tokens in the session; the item begins at past + n */
} edge;

typedef enum start_kind { START_NONE, START_ANY, START_QUESTION } start_kind;

struct galen_assistant {
    const galen_model *m;
    galen_session *s;
    galen_assistant_opts opts;
    int32_t n_vocab, n_ctx;
    uint8_t *starts;        /* [n_vocab] of start_kind: what the token may begin */
    int32_t n_openers;      /* tokens of START_QUESTION */
    galen_logit_bias *bias; /* [n_vocab] room for what is forbidden   */
    galen_tokens held;      /* what the session holds: its first n_held tokens are these */
    int32_t n_held;
    edge edge;
    galen_assist_usage usage;
    char *symptoms; /* of the case, as put in the prompt; NULL without a case */
    galen_differential found;
    atomic_bool is_cancelled;
};

/* An item of a list, as the model writes it. */
typedef struct item {
    int32_t ids[ITEM_TOKENS];
    size_t from[ITEM_TOKENS]; /* where in raw each id's bytes begin */
    int32_t n_ids;
    char raw[ITEM_BYTES];
    size_t n_raw;
    char text[ITEM_BYTES];   /* fit to be shown; what was streamed is its beginning */
    char normal[ITEM_BYTES]; /* fit to be compared */
    size_t n_text, n_sent;
    bool is_cut;
} item;

/* What an item is and how it ends. */
typedef struct item_rules {
    galen_assist_part part;
    const char *const *ends;      /* NULL-terminated; the first of these ends the item and is no part of it */
    const char *const *not_first; /* NULL-terminated; words of the prompt's form that no item begins with, in lower case */
    char last;                    /* this character ends the item and is its last one; 0: none */
    int32_t budget;               /* tokens for all the items */
    int32_t most, least;          /* tokens of one, and what is kept back for each later one */
    size_t cap;                   /* bytes of the text with its NUL */
} item_rules;

/* ---- edge.c: what is in the session */

/** Make the session hold the tokens and leave the last one (at least) to be evaluated. Takes *t over, also on failure. */
galen_status edge_start(galen_assistant *a, galen_tokens *t, galen_error *err);
/** Forget what follows position past, which is then evaluated up to there; the edge is empty. */
galen_status edge_rewind(galen_assistant *a, int32_t past, galen_error *err);
void edge_push(galen_assistant *a, const int32_t *ids, int32_t n);
/** text as tokens in the middle of a line of text; a marker in front keeps a tokenizer from adding its leading blank. */
galen_status edge_literal(galen_assistant *a, const char *text, galen_tokens *out, galen_error *err);
/** The prompt and its answer must fit. what: "the symptoms make". */
galen_status edge_fits(const galen_assistant *a, size_t n_prompt, size_t n_answer, const char *what, galen_error *err);

/* ---- items.c */

/** Which tokens may begin an item; into a->starts. False when there are too few to tell five items apart. */
bool items_find_starts(galen_assistant *a);
/** Write five items, each distinct from those before; literals[i] is what the software writes before item i > 0. */
galen_status items_write(galen_assistant *a, const item_rules *rules, const galen_tokens literals[ITEMS_MAX],
                         item items[ITEMS_MAX], galen_error *err);

/* ---- score.c */

/** Mean log-probability of each item's tokens when it stands first after the prompt, that is after the token `last` at
 *  position past. */
galen_status score_items(galen_assistant *a, int32_t past, int32_t last, const item items[ITEMS_MAX], double out[ITEMS_MAX],
                         galen_error *err);

/* ---- assistant.c */

galen_status assist_fail(galen_error *err, galen_status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
double assist_now_s(void);
/** CANCELLED when the flag is up (and take it down), else OK. */
galen_status assist_check_cancel(galen_assistant *a, galen_error *err);
/** Of a call that ends with st: a cancellation is used up by it. Returns st. */
galen_status assist_end(galen_assistant *a, galen_status st);

#endif
