/* The inside of an assistant, shared by its parts. From the bottom: the session's edge, reading of log-probabilities, the writer
 * of items, the signals, the case. */
#ifndef GALEN_ASSIST_CASE_H
#define GALEN_ASSIST_CASE_H

#include <stdatomic.h>

#include "assist/prompts.h"
#include "galen/assist.h"

#define DIAGNOSIS_TOKENS 50 /* new tokens for five names, and for five questions: the guide's budgets */
#define QUESTION_TOKENS  100
#define ITEM_TOKENS      32 /* of one item */
#define ITEM_BYTES       GALEN_QUESTION_BYTES
#define ITEMS_MAX        5
#define N_OPTIONS        (GALEN_N_CONDITIONS + 1) /* the five and "other", which is the last */
#define OTHER            GALEN_N_CONDITIONS
#define EVIDENCE_TOKENS  256 /* of the symptoms that are read for evidence */
#define MAX_CLAUSES      64
#define MAX_ASKED        64
#define MAX_OWN_FLAGS    16
#define CASE_BYTES       (1 << 22) /* of symptoms and answers */
#define EVIDENCE_BITS    1.0       /* twice as likely: below that a clause is no evidence */

/* Tokens to be evaluated before the next one is sampled, and where that one will stand. */
typedef struct edge {
    int32_t *ids; /* [n_ctx] */
    int32_t n;    /* >= 1 when an item is begun */
    int32_t past; /* tokens in the session; the item begins at past + n */
} edge;

/* A text whose probabilities are read: those of its tokens from `from` on, each after all before it, then those of ids behind the
 * whole. */
typedef struct look {
    galen_tokens t;     /* freed by edge_look */
    int32_t from;       /* >= 1; t.n: none of its own */
    const int32_t *ids; /* [n_ids] */
    int32_t n_ids;
    double *out; /* [t.n - from + n_ids] natural logs, over the whole vocabulary, unmasked */
} look;

typedef enum start_kind { START_NONE, START_ANY, START_QUESTION } start_kind;

/* Tokens whose probabilities together are those of a word: "yes", " Yes", ... */
#define FAMILY_MAX 8
#define ODDS_IDS   (2 * FAMILY_MAX)
typedef struct family {
    int32_t ids[FAMILY_MAX];
    int32_t n;
} family;

/* A question as the case knows it. */
typedef struct asked {
    galen_question q;
    char normal[GALEN_QUESTION_BYTES], key[GALEN_QUESTION_BYTES];
    double p_yes[N_OPTIONS]; /* in the order of writing of the conditions: condition.order */
    bool is_read;            /* p_yes is there */
    bool is_asked, is_answered;
    galen_triage_ask flag; /* of a red-flag question; all zero of the model's */
} asked;

/* What is known of the person. */
typedef struct case_file {
    char *text; /* the symptoms as they came, then each free-text answer and affirmed question, one a line; NUL-terminated */
    size_t n_symptoms, n_text;
    char *field;        /* the symptoms as put in prompts */
    uint32_t *field_at; /* [strlen(field) + 1] where each of its bytes was in text */
    char *said;         /* " persistent cough fever": the symptoms as text_normal has them, a blank in front */
    char *answers;      /* "\nDo you have a fever? yes", for prompts; "" without */
    galen_triage triage;
    galen_triage_flag own[MAX_OWN_FLAGS]; /* raised by the model and by answers */
    int32_t n_own;
    double likelihood[N_OPTIONS]; /* natural log, of all answers; by condition.order */
    asked list[MAX_ASKED];
    int32_t n_list, n_asked, n_answered, open; /* open: index of the question that waits for its answer; -1 */
    int32_t first_of_last, n_rounds;           /* where the last five begin */
    bool has_conditions;
} case_file;

struct galen_assistant {
    const galen_model *m;
    galen_session *s;
    galen_assistant_opts opts;
    galen_calibration calibration;
    prompt_set prompts;
    int32_t n_vocab, n_ctx;
    uint8_t *starts;        /* [n_vocab] of start_kind: what the token may begin */
    int32_t n_openers;      /* tokens of START_QUESTION */
    galen_logit_bias *bias; /* [n_vocab] room for what is forbidden       */
    galen_bias_list second; /* what does not go on with an opener: [n_vocab] room; all of the vocabulary: it has no such words */
    family yes, no;
    int32_t odds_ids[ODDS_IDS]; /* theirs, one family after the other */
    double calm;                /* log-odds of an emergency without a complaint: the model's bias */
    bool has_calm;
    galen_tokens held; /* what the session holds: its first n_held tokens are these */
    int32_t n_held;
    edge edge;
    galen_assist_usage usage;
    double began_s;
    case_file c;
    galen_differential found; /* of the case, in the order shown */
    galen_questions written;  /* the last five; condition.missing counts in it */
    atomic_bool is_cancelled;
};

/* An item of a list, as the model writes it. */
typedef struct item {
    int32_t ids[ITEM_TOKENS];
    size_t from[ITEM_TOKENS]; /* where in raw each id's bytes begin */
    int32_t n_ids;
    char raw[ITEM_BYTES];
    size_t n_raw;
    char text[ITEM_BYTES];   /* fit to be shown */
    char normal[ITEM_BYTES]; /* fit to be compared */
    char key[ITEM_BYTES];    /* its words: item_rules.key */
    galen_code code;         /* of names, with a table */
    size_t n_text;
    bool is_cut, is_kept; /* is_kept: whole, and told from those kept before it */
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
    size_t (*key)(const char *s, size_t n, char *out, size_t cap); /* what items are compared by: names.h */
} item_rules;

/* ---- edge.c: what is in the session */

/** Make the session hold the tokens and leave the last one (at least) to be evaluated. Takes *t over, also on failure. */
galen_status edge_start(galen_assistant *a, galen_tokens *t, galen_error *err);
/** Make the session hold what the looks begin with: *n_held tokens of each, fewer than its `from`. */
galen_status edge_hold(galen_assistant *a, const look *looks, int32_t n, int32_t *n_held, galen_error *err);
/** Read the looks, n of them together: what they have in common is evaluated once, and held. Frees their tokens, also on failure.
 */
galen_status edge_look(galen_assistant *a, look *looks, int32_t n, galen_error *err);
/** A look at what follows a prompt. Errors  as edge_prompt; FULL with `what`. */
galen_status edge_look_at(galen_assistant *a, prompt_id id, const prompt_values *v, const char *what, look *out,
                          galen_error *err);
void looks_free(look *looks, int32_t n);
/** Forget what follows position past, which is then evaluated up to there; the edge is empty. */
galen_status edge_rewind(galen_assistant *a, int32_t past, galen_error *err);
void edge_push(galen_assistant *a, const int32_t *ids, int32_t n);
/** text as tokens in the middle of a line of text; a marker in front keeps a tokenizer from adding its leading blank. */
galen_status edge_literal(galen_assistant *a, const char *text, galen_tokens *out, galen_error *err);
/** The prompt and its answer must fit. what: "the symptoms make". */
galen_status edge_fits(const galen_assistant *a, size_t n_prompt, size_t n_answer, const char *what, galen_error *err);
/** A prompt as tokens in the model's chat format, open behind its lead. */
galen_status edge_prompt(galen_assistant *a, prompt_id id, const prompt_values *v, galen_tokens *out, galen_error *err);

/* ---- items.c */

/** Where a name ends in text: at a mark of the form. False when it does not end in it. */
bool items_name_end(const char *text, size_t n, size_t *end);
/** Is it more than a word of the prompt's own form ("<name>", "confidence")? */
bool items_is_name(const char *text, size_t n);
/** The tokens that no item begins with, in a->bias. */
galen_bias_list items_forbid(galen_assistant *a);
/** Which tokens may begin an item; into a->starts. False when there are too few to tell five items apart. */
bool items_find_starts(galen_assistant *a);
/** Write five items, each distinct from those before and from the case's questions; literals[i] is what the software writes
 *  before item i > 0. Errors  REFUSED no further item can be told from those there are. */
galen_status items_write(galen_assistant *a, const item_rules *rules, const galen_tokens literals[ITEMS_MAX],
                         item items[ITEMS_MAX], galen_error *err);

/** Write five items at once, each behind its own text: rounds of drafts, in which those that cannot be told from one that is kept
 *  are written anew. looks: the texts, freed, also on failure. Errors  as items_write. */
galen_status items_write_apart(galen_assistant *a, const item_rules *rules, look looks[ITEMS_MAX], item items[ITEMS_MAX],
                               galen_error *err);

/* ---- score.c: reading log-probabilities */

/** Log of the sum of exp(l). */
double log_add(const double *l, int32_t n);
/** Mean log-probability of each item's tokens when it stands first after the prompt; which is kept. */
galen_status score_items(galen_assistant *a, const galen_tokens *prompt, const item items[ITEMS_MAX], double out[ITEMS_MAX],
                         galen_error *err);
/** The tokens that say yes and no after a lead. */
galen_status score_find_words(galen_assistant *a, galen_error *err);
/** How many ids a look at yes and no reads: a->odds_ids. 0: the vocabulary cannot say them, nothing need be read. */
int32_t score_n_odds(const galen_assistant *a);
/** Log-odds of yes against no, from what such a look read. */
double score_odds(const galen_assistant *a, const double *logprobs);

/* ---- choose.c, samples.c, evidence.c, urgency.c: the signals */

/** The model chooses among the five and "other", in all six cyclic orders: into d->conditions[].choice_logprob, choice_other,
 *  has_choice, label_mass. */
galen_status choose(galen_assistant *a, galen_differential *d, galen_error *err);
/** Ask anew for the first name, n_samples times: into n_votes, and into n_samples how many named anything. Takes the names'
 * prompt over, also on failure. */
galen_status samples_vote(galen_assistant *a, galen_tokens *prompt, const item items[ITEMS_MAX], galen_differential *d,
                          galen_error *err);
/** The quotes for and against, and evidence_bits. */
galen_status evidence_find(galen_assistant *a, galen_differential *d, galen_error *err);
/** May the model raise the level? Into d->urgency and the case's triage; *is_raised. */
galen_status urgency_read(galen_assistant *a, galen_differential *d, bool *is_raised, galen_error *err);

/* ---- rank.c: arithmetic alone */

/** Confidences from name_logprob, choice_logprob and the answers; sorted; entropy, agreement, disagreement. */
void rank_conditions(galen_differential *d, const galen_calibration *k, const double likelihood[N_OPTIONS]);
void rank_signals(galen_differential *d); /* agreement and disagreement, once votes and evidence are there */
double rank_entropy(const double *p, int32_t n);
/** Mutual information, in bits, of a yes/no answer and the condition. p [n] sums to 1. */
double rank_gain(const double *p, const double *p_yes, int32_t n);

/* ---- questions.c, gain.c, loop.c */

#define GAIN_ANOTHER "another condition" /* stands for "other" in a prompt */

/** P(yes) of each of the case's conditions and other, and the expected gain. */
galen_status gain_read(galen_assistant *a, asked *q, galen_error *err);
/** The gain again, after the ranking changed. */
void gain_update(galen_assistant *a, asked *q);
void gain_missing(galen_assistant *a); /* condition.missing from the last five */
/** Write five, append them to the case, read them and show them. */
galen_status questions_more(galen_assistant *a, galen_error *err);

/* ---- input.c, flags.c */

void case_close(case_file *c);
galen_status case_open(case_file *c, const char *symptoms, size_t len, galen_error *err);
/** Append a line to the text that the red-flag rules read, and read it. *is_raised: the level rose. NOMEM: unchanged. */
galen_status case_add_line(case_file *c, const char *line, size_t n, bool *is_raised, galen_error *err);
/** Raise the level by a flag of our own; the strings live as long as the case. Never lowers. */
bool case_raise(case_file *c, const char *id, const char *category, const char *message, const char *source,
                galen_triage_level level);

/* ---- assistant.c */

double assist_now_s(void);
/** CANCELLED when the flag is up (and take it down), else OK. */
galen_status assist_check_cancel(galen_assistant *a, galen_error *err);
/** Of a call that ends with st: a cancellation is used up by it. Returns st. */
galen_status assist_end(galen_assistant *a, galen_status st);
/** Tell the caller. CANCELLED when it wants no more. */
galen_status assist_send(galen_assistant *a, const galen_assist_event *e, galen_error *err);

#endif
