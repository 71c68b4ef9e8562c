/* Keeping what a verb did: the database is opened when it is first needed, a failure is said once and loudly, and the answer is
 * shown all the same. The prefix is hist_ since libedit owns history_. */
#ifndef GALEN_CLI_HISTORY_H
#define GALEN_CLI_HISTORY_H

#include "cli/json.h"
#include "store/store.h"

typedef struct hist {
    cli *c;
    store *db;  /* NULL: not open */
    int64_t id; /* of the case; 0: not begun */
    char *params;
    bool is_off;        /* --no-history: nothing is written */
    bool keeps_no_case; /* the setting save is off: no turns, but measures */
    bool has_failed;    /* and it was said */
} hist;

/** All of these take a hist that hist_start filled; none of them fails but in words on stderr. */
void hist_start(hist *h, cli *c);
/** The database, opened now if it must be; NULL with --no-history or after a failure. */
store *hist_store(hist *h);
/** What a replay of the case to come needs beside the seed: a JSON object, taken over. Before the first turn. */
void hist_params(hist *h, json_t *params);
/** Append a turn, beginning the case with the first. content (src/assist/record.h) is taken over; NULL says that memory was out.
 */
void hist_turn(hist *h, const char *kind, json_t *content);
/** Progress of store_model_hash; user is a cli. */
bool hist_on_hash(void *user, uint64_t done, uint64_t total);
/** SHA-256 of the model's file in hexadecimal, remembered by the database (none with --no-history, or where it cannot be had: the
 *  file is read; a progress line). Errors  those of store_model_hash. */
galen_status hist_fingerprint(cli *c, const galen_model *m, char out[SHA256_HEX_BYTES], galen_error *err);
/** SHA-256 of the model's file in hexadecimal, from the database or by reading it (a progress line); "" when that failed. */
void hist_model_hash(hist *h, const galen_model *m, char out[SHA256_HEX_BYTES]);
/** A row of the audit trail. Of prompt and response HMACs are kept. */
void hist_audit(hist *h, const char *action, const char *model_sha256, const char *prompt, size_t n_prompt, const char *response,
                size_t n_response);
/** A row of the performance log; verb, load_s are filled in. */
void hist_perf(hist *h, const store_perf *p);
/** The same for a generation without a case (complete, chat): a database that cannot be had is worth a note, no more. */
void hist_generation(cli *c, const galen_model *m, const galen_result *r, galen_status st);
/** "case 12 saved" and the end; also of a hist that was never started (all zero). */
void hist_end(hist *h);

/** Open the database for a verb that is about it (--db, GALEN_DB): FAILED with a message. may_write: what the verb is about to do
 *  needs it; else a database that cannot be written is opened read-only, with a note, and one that --db names and that is not
 *  there is a USAGE error. */
cli_exit hist_open(cli *c, bool may_write, store **out);
/** Print what a call of the store said; its exit code. */
cli_exit hist_fail(cli *c, const galen_error *err);

#define HIST_TIME_BYTES 24
/** "2026-11-24 06:14", local time. Returns out. */
const char *hist_time(int64_t ms, char out[HIST_TIME_BYTES]);

#endif
