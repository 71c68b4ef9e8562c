/* The performance log of what a server generates. Rows wait in a bounded queue for a thread of their own, which has its own
 * connection to the store and writes many in one transaction: a request never waits for the disk and never fails for it. While
 * the store cannot be written (locked by another replica, a full disk) rows wait; beyond the queue they are dropped and counted,
 * in galen_perf_rows_dropped_total at once and in the log itself with the next row that is written. */
#ifndef GALEN_SERVER_PERF_H
#define GALEN_SERVER_PERF_H

#include "server/shelf.h"

typedef struct perf_log perf_log;

/* What a generation took. No text. */
typedef struct perf_figures {
    const char *verb; /* a literal: "serve.chat" */
    double prefill_s, decode_s, first_s;
    int64_t n_prompt, n_cached, n_generated;
    galen_status status;
} perf_figures;

/** Errors  NOMEM. */
galen_status perf_open(server *s, galen_error *err);
/** Any thread that has taken b. The first row after a load has its time. */
void perf_generation(server *s, book *b, const perf_figures *f);
/** b did not open: the shelf's thread. */
void perf_load_failed(server *s, const book *b, double seconds, galen_status status);
/** Write what waits (once), end the thread. Nobody generates any more. */
void perf_close(server *s);

#endif
