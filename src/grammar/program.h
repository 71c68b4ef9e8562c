/* The automaton that GBNF and JSON Schema are compiled to: states joined by byte ranges, empty steps and calls of rules; a rule
 * is a piece of it with one start and one accepting state. A repetition of m to n is a state that counts: its element is a rule
 * of its own, called again and again, so {0,1000000} costs one state.
 *
 * The builder's functions keep the first error in the program and do nothing after it: build a whole rule, then test once. */
#ifndef GALEN_GRAMMAR_PROGRAM_H
#define GALEN_GRAMMAR_PROGRAM_H

#include "base/arena.h"
#include "base/error.h"

/* Limits, each an error that names it. States are 16 bytes and edges 20 while a grammar is compiled. */
enum {
    GRAMMAR_MAX_TEXT = 16 << 20,   /* bytes of GBNF or JSON Schema                                                   */
    GRAMMAR_MAX_STATES = 2 << 20,  /* about one per character of a literal text that no other shares                 */
    GRAMMAR_MAX_EDGES = 8 << 20,   /* steps between states                                                           */
    GRAMMAR_MAX_RULES = 1 << 18,   /* named ones, repeated groups, subschemas                                        */
    GRAMMAR_MAX_GROUPS = 10000,    /* open parentheses                                                               */
    GRAMMAR_MAX_REPEAT = 1 << 30,  /* of {m,n}, minItems, maxLength ...                                              */
    GRAMMAR_MAX_OPEN = 4096,       /* alternatives that fit what was written so far                                  */
    GRAMMAR_MAX_STEPS = 1 << 16,   /* calls and empty steps between two bytes                                        */
    GRAMMAR_MAX_DEPTH = 1 << 16,   /* rules within rules while text is matched: brackets within brackets             */
    GRAMMAR_MAX_PLACES = 1 << 17,  /* different places that one search through the vocabulary may meet               */
    GRAMMAR_KEPT_PLACES = 1 << 11, /* places that a sequence remembers from token to token                           */
    GRAMMAR_CACHE_BYTES = 64 << 20 /* tables of tokens that one grammar keeps; beyond it they are computed each time */
};
#define GRAMMAR_NO_LIMIT UINT32_MAX /* a repetition without an upper bound */

typedef enum edge_kind { EDGE_EMPTY, EDGE_BYTES, EDGE_CALL } edge_kind;

typedef struct grammar_edge {
    uint32_t to;
    uint32_t rule; /* EDGE_CALL */
    uint8_t kind, lo, hi;
} grammar_edge;

typedef struct grammar_pc {
    uint32_t first; /* edge: byte ranges, then n_other empty steps and calls */
    uint32_t n_bytes, n_other;
    uint32_t loop; /* + 1; 0 = an ordinary state */
    uint32_t rule;
    bool is_accept; /* its rule may end here                                        */
    bool is_tail;   /* nothing but the end of its rule follows: a call before it needs no return */
} grammar_pc;

typedef struct grammar_rule {
    const char *name; /* GBNF: the rule's; schema: a JSON pointer. NUL-terminated, printable */
    uint64_t offset;  /* of its definition, or of the first use of an undefined one            */
    uint32_t start, end;
    bool is_defined;
    bool is_nullable; /* may be empty */
} grammar_rule;

typedef struct grammar_loop {
    uint32_t rule; /* the element */
    uint32_t min, max;
    uint32_t next;
} grammar_loop;

/* While it is built: edges in lists. */
typedef struct build_edge {
    grammar_edge e;
    uint32_t next; /* + 1 */
} build_edge;
typedef struct build_state {
    uint32_t first; /* edge + 1 */
    uint32_t tree;  /* edge + 1: single bytes that literal alternatives share, a trie */
    uint32_t loop, rule;
} build_state;

typedef struct build_group {
    uint32_t start, end, cur;
    uint32_t item_start, item_end; /* the last item, not yet joined to cur; 0 = none */
    bool is_tree;                  /* this alternative has been literals only         */
    uint32_t item_rule;            /* + 1: the last item is a call of it and no more   */
    bool item_calls, calls;        /* the last item, anything in the group calls a rule */
    uint64_t offset;
} build_group;

typedef struct program {
    arena mem; /* names */
    grammar_pc *pcs;
    grammar_edge *edges;
    grammar_rule *rules;
    grammar_loop *loops;
    uint32_t n_states, n_edges, n_rules, n_loops;
    uint32_t root;
    uint8_t byte_class[256]; /* bytes that no edge tells apart share one */
    uint8_t class_byte[256]; /* one byte of each class                    */
    uint32_t n_classes;
    /* while it is built */
    build_state *b_states;
    build_edge *b_edges;
    build_group *groups;
    uint32_t n_groups, cap_states, cap_edges, cap_rules, cap_loops, cap_groups;
    uint32_t rule; /* that new states belong to */
    galen_status st;
    galen_error *err;
} program;

void program_open(program *p, galen_error *err);
void program_close(program *p);
/** Keep the first error. offset as in galen_error. */
void program_fail(program *p, galen_status st, uint64_t offset, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/** A rule without a body yet. name[0, n) is copied. */
uint32_t program_rule(program *p, const char *name, size_t n, uint64_t offset);
/** The body of a rule: what is built between the two is it. */
void program_begin(program *p, uint32_t rule);
void program_end(program *p, uint32_t rule);

/* Items follow each other; an alternative ends a sequence; a group is an item. */
void program_group(program *p, uint64_t offset);
void program_or(program *p);
void program_group_end(program *p);
/** The last item again: min to max times (GRAMMAR_NO_LIMIT). */
void program_repeat(program *p, uint32_t min, uint32_t max, uint64_t offset);
bool program_has_item(const program *p);
/** A rule min to max times, as an item. Repetitions that share a rule share what is known of it. */
void program_call_times(program *p, uint32_t rule, uint32_t min, uint32_t max);
/** Bytes. With is_shared, alternatives that begin with the same bytes share their states; it must not be repeated then. */
void program_literal(program *p, const char *bytes, size_t n, bool is_shared);
static inline void program_text(program *p, const char *text) {
    program_literal(p, text, __builtin_strlen(text), false);
}
void program_call(program *p, uint32_t rule);
/** An item of one's own: edges from the first state to the second. */
void program_item(program *p, uint32_t *from, uint32_t *to);
uint32_t program_state(program *p);
void program_bytes(program *p, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void program_empty(program *p, uint32_t from, uint32_t to);
void program_step_call(program *p, uint32_t from, uint32_t rule, uint32_t to);

/** Check the whole (rules defined, able to end, not left-recursive) and lay it out for matching. p->st says how it went. */
void program_finish(program *p, uint32_t root);

/** A rule's name cut to what a message has room for. */
const char *program_rule_name(const program *p, uint32_t rule);

#endif
