/* A results file: a head, then a row for each case, appended as each is done. */
#ifndef GALEN_EVAL_RESULTS_H
#define GALEN_EVAL_RESULTS_H

#include "eval/row.h"

typedef struct eval_results {
    eval_head head;
    bool has_head;  /* false: the file was empty */
    bool is_cut;    /* its last line was not whole, and was left out: a run was killed while it wrote */
    eval_row *rows; /* one a key: the first */
    int32_t n, cap;
    uint32_t *places; /* open addressing over rows: index + 1, 0 = empty */
    size_t cap_places;
} eval_results;

/** Errors  FORMAT with the line's number: no results file, or a line that is no result; IO; NOMEM. *out is empty then. */
galen_status results_read(eval_results *out, lines_read_fn read, void *user, galen_error *err);
/** Take a row in, unless its key is there.  Errors  NOMEM: unchanged. */
galen_status results_add(eval_results *r, const eval_row *row, galen_error *err);
/** The row with this key; NULL: none. */
const eval_row *results_find(const eval_results *r, const char *key);
void results_free(eval_results *r);

#endif
