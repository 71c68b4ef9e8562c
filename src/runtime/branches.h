/* Branches of one session in works of its own: pages for as many as fit, batches of their rows.
 *
 * A session holds pages 0, 1, 2, ... and uses the first of them. The first branch of a wave goes on in the session's own pages,
 * behind n_past; each other one shares the full ones and takes pages from the end, of which the first begins with a copy of the
 * session's last, partly filled one. So one branch always fits, and the session needs no memory beside its own. */
#ifndef GALEN_RUNTIME_BRANCHES_H
#define GALEN_RUNTIME_BRANCHES_H

#include "runtime/runtime.h"

typedef struct branch {
    const int32_t *tokens;    /* those after the session's                                            */
    int32_t n_tokens, n_most; /* positions there are, and may come to be; the session's counted */
    int32_t n_done;           /* positions whose KV is there        */
    int32_t n_rows;           /* in the batch, from n_done on       */
    int32_t *pages;           /* [n_pages of the session]; while it is in the wave */
    bool is_over;             /* no more of it is evaluated */
} branch;

typedef struct branches {
    galen_session *s;
    branch *all; /* [n] */
    int32_t n;
    int32_t first, end;         /* the wave: these have pages */
    int32_t *token, *pos, *seq; /* [n_batch] */
    int32_t *out_row, *out_of;  /* [n_batch] row of an output, and its branch */
    kv_pages *tables;           /* [n] */
    batch batch;
    int32_t most_out; /* outputs of a batch */
    arena mem;
} branches;

/* How much is wanted after position pos of branch i: 0 = nothing. */
typedef int32_t (*branch_wants)(void *ctx, int32_t i, int32_t pos);

/** Room for n branches; their fields are the caller's to fill before the first wave. At most most_out outputs a batch.
 *  Errors  NOMEM. branches_close in any case. */
galen_status branches_open(branches *b, galen_session *s, int32_t n, int32_t most_out, galen_error *err);
void branches_close(branches *b);

/** Pages for the next branches; *is_over when there are none left. Errors  as of copying a page. */
galen_status branches_next_wave(branches *b, bool *is_over, galen_error *err);

/** Fill b->batch with rows of the wave that are not done, of at most `most` wanted things; false when there are none. */
bool branches_fill(branches *b, branch_wants wants, void *ctx, int32_t most);
/** The batch was evaluated. */
void branches_advance(branches *b);

/** After a batch failed with st: the session on another device and the wave begun anew there, or its end. GALEN_OK: go on with
 *  branches_fill. */
galen_status branches_recover(branches *b, galen_status st, const galen_error *why, galen_error *err);

/** Check a branch of n_tokens that may grow by n_more. */
galen_status branches_check(const galen_session *s, int32_t index, const int32_t *tokens, int32_t n_tokens, int32_t n_more,
                            galen_error *err);

/** Rows of logits that the session keeps for its branches: at least n. NULL when memory is out. */
float *branches_room(galen_session *s, int32_t n);

#endif
