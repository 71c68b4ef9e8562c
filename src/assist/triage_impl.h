/* What the triage_*.c files share: the compiled rules, a sentence's words, what was found. */
#ifndef GALEN_ASSIST_TRIAGE_IMPL_H
#define GALEN_ASSIST_TRIAGE_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "assist/triage.h"
#include "base/arena.h"

enum {
    WORD_BYTES = 32,     /* of a folded word; longer ones are cut      */
    MAX_ROWS = 8,        /* a word's own, and those of stems that it begins with */
    MAX_SYMS = 24576,    /* words and classes of all phrases           */
    MAX_TOKENS = 96,     /* words of a sentence; a longer one is cut   */
    MAX_HITS = 512,      /* phrases found in a sentence                */
    MAX_ACTIVE = 240,    /* phrases half-way through, at one word      */
    MAX_CONCEPTS = 1024, /* in the rules                               */
    MAX_STACK = 64,      /* of an expression                           */
    MAX_GAPS = 24576,    /* nodes after a gap                          */
    GAP_IS_WIDE = 0x80,  /* with its words: it goes over commas, "and", "or" */
    MAX_SEEN = 512,      /* sentences remembered                       */
    N_BUCKETS = 26 * WORD_BYTES,
    N_SUMS = 2,         /* of weighed words: concern, danger  */
    MAX_WEIGHTS = 8192, /* weighed words, of both sums        */
    MAX_FUZZY = 4096,   /* unknown words looked up with one letter wrong, per text: keeps a megabyte within its time */
};

/* ------------------------------------------------------------ words */
typedef enum brk { BRK_NONE, BRK_COMMA, BRK_SENTENCE } brk;

typedef struct run {
    uint32_t first, n; /* of an array of the rules */
} run;

typedef struct token {
    size_t from, to; /* bytes of the text                      */
    double value;    /* of a number, also of "two"             */
    uint32_t known;  /* bit k: the word has known_sym k        */
    brk before;
    uint64_t mask; /* of its symbols, mod 64 */
    uint8_t n_rows, n;
    bool is_digits, is_number, is_glued, is_after_dot, is_slash_before;
    char text[WORD_BYTES];   /* folded: lower case, no accents */
    uint32_t rows[MAX_ROWS]; /* of the rules' words */
} token;

typedef struct lexer {
    const char *s;
    size_t n, pos;
} lexer;

/** The next word, number or one of the signs % ° as "%" "deg"; false at the end. Linear; any bytes. */
bool triage_lex(lexer *x, token *t);

/* ------------------------------------------------------------ compiled rules */
/* Values of a laboratory that rules may compare; the rules' files call them so (lab_name). */
typedef enum lab {
    LAB_INR,
    LAB_POTASSIUM,
    LAB_SODIUM,
    LAB_HB,
    LAB_PLATELETS,
    LAB_NEUTROPHILS,
    LAB_KETONES,
    LAB_LACTATE,
    LAB_CRP,
    LAB_CALCIUM,
    N_LABS
} lab;

typedef enum cue_kind {
    CUE_NONE,
    CUE_NEGATE,       /* "no": forward, to the clause's end            */
    CUE_NEGATE_LIST,  /* "denies": forward, through commas             */
    CUE_NEGATE_AFTER, /* "chest pain: no"                              */
    CUE_NOT_NEGATION, /* "not only": hides the cue inside              */
    CUE_FAMILY,
    CUE_FAMILY_AFTER, /* "stroke in her mother" */
    CUE_PAST,
    CUE_PAST_AFTER,
    CUE_HYPOTHETICAL,
    CUE_END,                                   /* a scope ends here: "but", "now has"                 */
    CUE_RECENT,                                /* "today": no past and no family in this clause       */
    CUE_BEGAN,                                 /* "started": "2 years ago" then is no past            */
    CUE_IGNORE,                                /* "heat stroke" hides what is inside                  */
    CUE_VITAL,                                 /* + galen_vital: a measurement's name                 */
    CUE_LAB = CUE_VITAL + GALEN_VITAL_GCS + 1, /* + lab: a laboratory value's name */
    N_CUES = CUE_LAB + N_LABS
} cue_kind;

enum { IS_MINOR = 1, IS_LASTING = 2, IS_VOICED = 4, IS_QUIET = 8 };

typedef struct concept {
    const char *name;
    size_t n_name;
    uint8_t cue, flags;
}
concept;

/* What a concept was, as bits: a concept can be denied in one place and present in another. */
enum { IS_PRESENT = 1, IS_NEGATED = 2, IS_FAMILY = 4, IS_PAST = 8, IS_HYPOTHETICAL = 16 };

typedef enum opcode { OP_CONCEPT, OP_LESS, OP_LESS_EQ, OP_MORE, OP_MORE_EQ, OP_LOCAL, OP_NOT, OP_AND, OP_OR } opcode;
typedef enum var {
    VAR_AGE,
    VAR_TEMP,
    VAR_HR,
    VAR_RR,
    VAR_SPO2,
    VAR_SBP,
    VAR_DBP,
    VAR_GLUCOSE,
    VAR_GCS,
    VAR_WEEKS,
    VAR_DAYS,
    VAR_SHOCK,
    VAR_CONCERN, /* the sums of weighed words: triage_weigh.c */
    VAR_DANGER,
    VAR_LAB, /* + lab */
    N_VARS = VAR_LAB + N_LABS
} var;

typedef struct op {
    uint8_t code, bits; /* of OP_CONCEPT: which states count   */
    uint16_t id;        /* concept, group, or var              */
    double value;       /* of a comparison                     */
} op;

typedef struct span32 {
    uint32_t first, n; /* of ops */
} span32;

typedef struct rule {
    const char *id, *category, *message, *source, *question, *says; /* question and says may be NULL */
    galen_triage_level level, yes;                                  /* yes: what that answer means */
    span32 when, ask_if;
    bool is_last; /* looks at a sum of weighed words: asked when all others have been, and only to raise the level */
} rule;

typedef struct word_row {
    uint32_t hash, text;   /* text: offset in chars; 0 = empty row */
    int32_t syms;          /* head of a list in links, -1 = none    */
    run list, says, opens; /* once the rules are finished: in word_syms, says, openings */
    uint64_t mask;         /* of the symbols, mod 64                */
    uint32_t known;        /* of the symbols: bits of known_sym     */
    float value;           /* of a word that counts; else NaN       */
    uint8_t n;
} word_row;
typedef struct link {
    int32_t next;
    uint32_t value;
} link;
typedef struct trie_node {
    uint64_t mask;      /* of symbols that lead on, mod 64                  */
    int32_t outs, gaps; /* lists in links: concepts here; nodes after a gap */
    uint32_t edges;     /* of the finished rules: [edges, edges + n_edges) in edges */
    uint16_t n_edges;
    uint16_t gap; /* of a node after a gap: which; 0 = of none */
} trie_node;
/* A phrase that a word begins and that goes on: the node it leads to, and what leads on from there. */
typedef struct opening {
    uint64_t mask;
    uint32_t node;
    uint16_t gap; /* of the node */
} opening;
typedef struct edge {
    uint32_t node, sym, to; /* to 0 = empty row: nothing leads to the root */
} edge;

/* Symbols that the program itself asks for. */
typedef enum known_sym {
    SYM_BREAKS, /* no gap reaches over these: "and", "no", "but" */
    SYM_OR,
    SYM_AND,
    SYM_FILLER,
    SYM_ABBREVIATION,
    SYM_YEAR,
    SYM_MONTH,
    SYM_WEEK,
    SYM_DAY,
    SYM_HOUR,
    SYM_MINUTE,
    SYM_OLD,
    SYM_AGE,
    SYM_SINCE,
    SYM_MALE,
    SYM_FEMALE,
    SYM_HE,
    SYM_SHE,
    SYM_GESTATION,
    SYM_CELSIUS,
    SYM_FAHRENHEIT,
    SYM_BPM,
    SYM_BREATHS,
    SYM_MMHG,
    SYM_MMOL,
    SYM_OXYGEN,
    SYM_CHILD,
    SYM_PERSON,
    SYM_HIS,
    SYM_NUMBER,
    N_KNOWN_SYMS
} known_sym;
_Static_assert(N_KNOWN_SYMS <= 32, "a bit for each in token.known");

/* A word and its letters as bits. */
typedef struct spelling {
    uint32_t row, letters;
} spelling;

struct triage_rules {
    arena strings;
    bool is_starved; /* an allocation of the lexicon failed: that, not the words, is what is wrong */
    char *chars;
    word_row *words;                       /* open addressing */
    word_row *stems;                       /* by their first four bytes: a list of rows in words, "bleed*" */
    spelling *spellings;                   /* words that can be misspelt, by first letter and length */
    uint32_t bucket_starts[N_BUCKETS + 1]; /* of those, in spellings */
    uint32_t *word_hashes, *stem_hashes;   /* of the rows, close together: most look-ups end here */
    uint16_t *word_syms;
    uint16_t *says;    /* concepts that a word alone says */
    opening *openings; /* phrases that it begins          */
    link *links;
    trie_node *nodes;
    uint8_t gap_words[MAX_GAPS]; /* how many words a gap may skip, perhaps GAP_IS_WIDE; from 1 on */
    edge *edges;
    concept *concepts;
    rule *rules;
    op *ops;
    span32 *groups;
    int32_t *concept_groups; /* [n_concepts]: list in links of groups that look at it */
    size_t n_chars, cap_chars, n_words, cap_words, n_stems, cap_stems, n_links, cap_links, n_nodes, n_gaps, cap_nodes, n_edges,
        cap_edges, n_syms, n_concepts, cap_concepts, n_rules, cap_rules, n_ops, cap_ops, n_groups, cap_groups;
    float weights[MAX_WEIGHTS]; /* of weighed words */
    size_t n_weights;
    float bases[N_SUMS]; /* NAN = there is no such sum */
    uint16_t cue_concept[N_CUES];
    uint16_t pregnant, postpartum, female, male, severe; /* concepts */
};

/* ------------------------------------------------------------ what was found */
typedef struct hit {
    uint16_t id; /* concept */
    uint8_t first, last;
    bool is_hidden;
} hit;

typedef struct sentence {
    token tokens[MAX_TOKENS + 1];
    int n_tokens;
    hit hits[MAX_HITS];
    int n_hits;
    uint8_t scope[MAX_TOKENS]; /* IS_NEGATED ... at each word */
    double days;               /* the longest duration said, -1 = none */
} sentence;

typedef struct found {
    uint8_t bits;  /* IS_PRESENT ... seen anywhere */
    uint8_t local; /* in the sentence `at`         */
    uint32_t at;
    size_t from, to; /* where it was present first */
} found;

typedef struct range {
    bool is_known;
    double min, max;
    size_t from_min, to_min, from_max, to_max;
} range;

typedef struct scan {
    const triage_rules *r;
    galen_triage *out;
    lexer lex;
    sentence s;
    uint32_t n_sentences;
    int n_fuzzy;
    found found[MAX_CONCEPTS];
    uint32_t n_words, stamps[MAX_SYMS]; /* the last word that had the symbol */
    range vars[N_VARS];
    uint8_t waits[MAX_GAPS]; /* where a gap's node stands among the places; checked there */
    uint64_t seen[MAX_SEEN]; /* sentences already read, by their words: the same words say nothing new */
    bool has_gestation;
    range weeks;             /* a number of weeks that is a pregnancy's if there is one */
    uint64_t groups[16];     /* bits: the group was true in some sentence */
    uint32_t group_at[1024]; /* the last sentence that the group was tried in */
    size_t group_from[1024], group_to[1024];
    uint64_t weighed[MAX_WEIGHTS / 64]; /* weights that have been added */
    float heaviest[N_SUMS];             /* of each sum, and where it stands: vars' from_max, to_max */
    bool is_age_explicit, is_sex_explicit, is_cut;
    void (*on_sentence)(void *user, const sentence *s); /* triage_sentences' */
    void *user;
} scan;
_Static_assert(sizeof(((scan *)0)->groups) * 8 == 1024, "a bit for each group");
enum { MAX_GROUPS = 1024 };

/* triage.c */
/** Each sentence of a text as the rules see it, one with the same words as one before left out. Allocates nothing. */
void triage_sentences(const triage_rules *r, const char *text, size_t len, void (*fn)(void *user, const sentence *s), void *user);

/* triage_lexicon.c: building the tables, and looking words up in them */
bool lexicon_init(triage_rules *r);
bool lexicon_grow(void **p, size_t *cap, size_t n, size_t size);
/** A new symbol; UINT16_MAX when there are too many or no memory. */
uint32_t lexicon_symbol(triage_rules *r);
/** The word (stem when it ends with '*') gets sym. False: no memory, or a stem under four bytes. */
bool lexicon_word(triage_rules *r, const char *word, size_t n, uint32_t sym);
/** The word's row gets a value and nothing else: it is no word of phrases. */
bool lexicon_value(triage_rules *r, const char *word, size_t n, double value);
/** That value of finished rules; NAN when there is none. */
double lexicon_value_of(const triage_rules *r, const char *word, size_t n);
/** The word counts value. */
bool lexicon_number(triage_rules *r, const char *word, size_t n, double value);
/** The symbol of a literal word, made when missing. */
uint32_t lexicon_literal(triage_rules *r, const char *word, size_t n);
/** The symbol that a word of the rules under construction had first; UINT32_MAX = none. */
uint32_t lexicon_first(const triage_rules *r, const char *word, size_t n);
bool lexicon_link(triage_rules *r, int32_t *head, uint32_t value);
uint32_t lexicon_step(triage_rules *r, uint32_t node, uint32_t sym); /* the child, made when missing; 0 = no memory */
uint32_t lexicon_gap(triage_rules *r, uint32_t node, uint8_t gap);   /* the node after a gap                        */
bool lexicon_finish(triage_rules *r);                                /* roots, one-letter-wrong index               */
/** Is it a word of the rules, as it is written, not by a stem? */
bool lexicon_knows(const triage_rules *r, const char *word, size_t n);
/** Fill t's symbols. */
bool lexicon_lookup(const triage_rules *r, token *t);
bool lexicon_lookup_fuzzy(const triage_rules *r, token *t);
static inline bool token_has(const token *t, known_sym s) {
    return t->known >> s & 1;
}

/* triage_expr.c */
galen_status expr_compile(triage_rules *r, const char *text, size_t n, span32 *out, galen_error *err);
/** Does it look at a sum of weighed words? */
bool expr_is_weighed(const triage_rules *r, span32 code);
bool expr_index(triage_rules *r); /* concept -> groups */
typedef struct truth {
    bool is_true, has_quote;
    size_t from, to;
} truth;
truth expr_eval(const scan *x, span32 code, bool is_local);
void expr_groups(scan *x); /* the groups that the sentence's concepts touch */

/** The lab's name in the rules' files. */
const char *lab_name(lab kind);

/* triage_weigh.c */
/** The sums of an empty text. */
void weigh_begin(scan *x);
/** Add a sentence's words to the sums, each once in a text. */
void weigh_sentence(scan *x);
/** Is it a variable of such a sum? */
static inline bool is_weighed(int v) {
    return v == VAR_CONCERN || v == VAR_DANGER;
}

/* triage_match.c, triage_scope.c, triage_numbers.c: each over one sentence */
void match_sentence(scan *x);
void scope_sentence(const triage_rules *r, sentence *s);
void numbers_sentence(scan *x);

#endif
