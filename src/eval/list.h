/* The cases of some files: every line is a case, or is named as what it is instead. Nothing is dropped without a word. */
#ifndef GALEN_EVAL_LIST_H
#define GALEN_EVAL_LIST_H

#include "assist/cases.h"
#include "eval/lines.h"

enum { EVAL_KEY_BYTES = 33, EVAL_MAX_PROBLEMS = 64, EVAL_MAX_CASES = 1 << 20 };

typedef struct eval_case {
    labelled_case c;
    char key[EVAL_KEY_BYTES]; /* 128 bits of the line's SHA-256, hexadecimal: the same in any file */
    int32_t file;             /* number of the file, as eval_list_add was told */
    int64_t line;
} eval_case;

/* A line that is no case, or one that is there already. */
typedef struct eval_problem {
    int32_t file;
    int64_t line;
    char why[128]; /* quotes nothing of the line */
} eval_problem;

typedef struct eval_list {
    int32_t skip, limit; /* set before the first file: cases left out at the start; cases at most, 0 = all */
    eval_case *cases;
    int32_t n, cap;
    eval_problem problems[EVAL_MAX_PROBLEMS]; /* the first of them */
    int64_t n_broken, n_twice;                /* all of them       */
    int64_t n_skipped;
    bool is_limited; /* --limit ended the reading: what follows was not looked at */
    uint64_t *seen;  /* open addressing: hashes of lines and of (file, id) */
    size_t n_seen, cap_seen;
} eval_list;

/** Append a file's cases. A blank line is nothing. The same line twice, in any file, and the same id twice in a file are one
 *  case: the first one stays.
 *  Errors  IO reading failed; NOMEM; FULL more than EVAL_MAX_CASES. The cases before it are kept. */
galen_status eval_list_add(eval_list *l, int32_t file, lines_read_fn read, void *user, galen_error *err);
void eval_list_free(eval_list *l);

#endif
