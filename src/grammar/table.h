/* What the vocabulary says of one state of a program, whatever called it: computed once, kept in the grammar.
 *
 * Most tokens either fail or stay within the rule that a state belongs to, and so are the same whatever is below it on the
 * stack. Where the rule may end inside a token, the table lists the next steps in the trie; only these few are
 * tried against the stack at hand. In a repetition of m to n elements, "inside" spans its elements, and each token is kept with
 * the number of elements it needs, so one table serves every count. */
#ifndef GALEN_GRAMMAR_TABLE_H
#define GALEN_GRAMMAR_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "grammar/grammar.h"
#include "grammar/machine.h"

typedef struct table_exit {
    uint32_t node;       /* of the trie, one byte past where the rule ended */
    uint32_t n_elements; /* whole elements of the repetition before that     */
} table_exit;

/* Exits that begin with the same byte. */
typedef struct table_group {
    uint32_t n;
    table_exit exits[];
} table_group;

/* Neighbours in the trie that are all exits: one, or everything below a node where any byte there stays where it is. */
typedef struct exit_run {
    uint32_t first, end; /* nodes */
    uint32_t n_elements; /* before the first; below it, one more a byte with is_each */
    bool is_each;
} exit_run;

typedef struct table table;
struct table {
    table *next;                    /* of the same state */
    uint32_t element;               /* the repeated rule + 1; 0 = the state alone */
    uint32_t *bits;                 /* [words] tokens that stay inside or end with the rule; NULL when `ids` is shorter */
    int32_t *ids;                   /* [n_ids] the same as a list: by elements needed in a repetition                    */
    uint32_t *need_ends;            /* [max_need + 1] repetition: ids[0, need_ends[k]) need at most k elements           */
    exit_run *runs;                 /* [n_runs] in the trie's order                                                      */
    _Atomic(table_group *) *groups; /* [256] the exits of a byte, made when it is asked for; NULL without exits */
    uint32_t n_ids, n_runs, max_need, n_exit_bytes;
    uint8_t exit_bytes[256]; /* what exits may begin with */
    grammar *owner;          /* whose lock guards the making of groups */
    bool is_kept;            /* by the grammar; else the caller's       */
};

struct galen_grammar {
    program p;
    const grammar_vocab *v;
    const grammar *json;  /* the rules of JSON alone: they come first in every schema's program, and their tables are shared */
    pthread_mutex_t lock; /* of all below but the pointers in `tables` */
    machine scratch;      /* for making tables                          */
    _Atomic(table *) *tables; /* [n_states] a list each                      */
    uint8_t *kinds;           /* [n_rules] whether it is counted when repeated */
    size_t cached_bytes;
};

/** The table of a state alone (element 0), or inside a repeated rule (element - 1) that is counted. Give it back with
 *  table_release. Errors  NOMEM, RANGE. Threads  any. */
galen_status table_get(const grammar *cg, uint32_t pc, uint32_t element, const table **out, galen_error *err);
void table_release(const table *t);
/** The exits that begin with a byte; they live with the table. Errors  NOMEM. Threads  any. */
galen_status table_group_get(const table *t, uint8_t byte, const table_group **out, galen_error *err);
void table_close(table *t);

/** Whether a rule, repeated, can be told apart byte by byte (no text of it begins another): only then is it counted. */
galen_status table_is_counted(const grammar *cg, uint32_t rule, bool *is_counted, galen_error *err);

#endif
