/* store.h: what Galen remembers, in one SQLite database. All SQL of Galen is in this folder.
 *
 * Cases are lists of turns (kind, JSON text, time) that only grow. Beside them: an audit trail and a performance log, both
 * without any text of a person; settings; fingerprints of model files; results of bench and tune.
 * A turn is on the disk when store_append returns (write-ahead log, synchronous=FULL).
 *
 * Errors, of every call that takes err:
 *   NOT_FOUND  what is named is not there            RANGE  over a stated limit: nothing was written
 *   FORMAT     the database is damaged or not one; text that is no UTF-8, no JSON
 *   IO         locked for longer than the busy time, read-only, disk full, no permission
 *   UNSUPPORTED  written by a newer Galen            NOMEM
 * A call that fails has changed nothing. Messages never hold text of a case. */
#ifndef GALEN_STORE_STORE_H
#define GALEN_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"

#define STORE_TURN_MAX  ((size_t)4 << 20)  /* bytes of one turn: a megabyte of symptoms fits, escaped    */
#define STORE_CASE_MAX  ((size_t)64 << 20) /* bytes of all turns of a case                               */
#define STORE_KIND_MAX  32                 /* bytes of a kind's name: [a-z0-9_]                          */
#define STORE_TITLE_MAX 160                /* bytes of a case's first text in a list, with its NUL       */

typedef struct store store; /* one thread at a time; several may be open on one database, in any number of processes */

typedef struct store_opts {
    const char *path;          /* NULL: GALEN_DB, else $XDG_DATA_HOME/galen/galen.db, else ~/.local/share/galen/galen.db */
    bool is_read_only;         /* nothing is created, migrated, expired */
    int busy_ms;               /* how long to wait for another process; 0 = 5000 */
    int64_t (*now_ms)(void *); /* milliseconds since 1970, UTC; NULL: the system's clock */
    void *now_user;
} store_opts;

/** Open or create the database (0600; its folder, when made here, 0700), migrate an older one in one transaction, erase what its
 *  retention settings say. opts NULL: all defaults. *out is NULL after a failure. */
galen_status store_open(store **out, const store_opts *opts, galen_error *err);
void store_close(store *s);             /* NULL is fine */
const char *store_path(const store *s); /* lives with s */
bool store_is_read_only(const store *s);

/** Where store_open would look, into out. Errors  NOT_FOUND neither HOME nor XDG_DATA_HOME nor GALEN_DB is set; RANGE cap. */
galen_status store_default_path(char *out, size_t cap, galen_error *err);

/** Read every page and row: SQLite's own check, foreign keys, the search index. OK, or FORMAT naming the first damage. */
galen_status store_check(store *s, galen_error *err);

/* ---------------------------------------------------------------- cases */

/** A new case without turns. params: a JSON object of what a replay needs (seed, context, types: never text), or NULL. */
galen_status store_case_begin(store *s, const char *params, int64_t *id, galen_error *err);

/** Append a turn; it is on the disk when this returns. seq (may be NULL): its number in the case, from 1.
 *  json  n bytes of one JSON value in UTF-8, at most STORE_TURN_MAX. */
galen_status store_append(store *s, int64_t id, const char *kind, const char *json, size_t n, int64_t *seq, galen_error *err);

typedef struct store_case {
    int64_t id, created_ms, changed_ms; /* changed: the last turn's time */
    int64_t parent, parent_turns;       /* the case it was branched from and how many turns it took; 0: none */
    int64_t n_turns, n_bytes;
    char title[STORE_TITLE_MAX]; /* first "text" of the first turn, one line, cut at a character; "" without one */
} store_case;

/** Of a row; false = no more rows, please (no error). Strings live during the call. It must not call the store. */
typedef bool (*store_case_fn)(void *user, const store_case *c);

/** Cases, newest first, at most `most`, with ids below `before` (0: all). */
galen_status store_list(store *s, int64_t before, int64_t most, store_case_fn fn, void *user, galen_error *err);

/** As store_list, those where every word of the query begins a word of the symptoms, names, codes or answers. Case and accents do
 *  not matter, punctuation separates. Errors  ARG no word in the query, or more than 64. */
galen_status store_search(store *s, const char *query, size_t n, int64_t before, int64_t most, store_case_fn fn, void *user,
                          galen_error *err);

typedef struct store_turn {
    int64_t seq, time_ms; /* times of a case never decrease, whatever the clock did */
    const char *kind;
    const char *json; /* n bytes and a NUL */
    size_t n;
} store_turn;

/** A case in memory of its own. */
typedef struct store_show {
    store_case info;
    char *params; /* NULL: none */
    store_turn *turns;
    size_t n_turns;
} store_show;
galen_status store_case_get(store *s, int64_t id, store_show *out, galen_error *err);
void store_show_free(store_show *c); /* and zeroes it */

/** A new case that starts with the first n_turns turns of another (-1: all), which become its own. */
galen_status store_branch(store *s, int64_t id, int64_t n_turns, int64_t *branch, galen_error *err);

/** What an erasure did. is_scrubbed: no trace is left in the database, the write-ahead log, the search index or free pages. It is
 *  false when another process held the database for longer than the busy time; the next store_open of anyone tries again. */
typedef struct store_erasure {
    int64_t n_cases, n_turns;
    int64_t n_branches; /* cases branched from those erased: they hold copies of their turns and are still there */
    bool is_scrubbed;
    bool is_audited; /* false: the audit trail is broken, so that it does not say so */
} store_erasure;
galen_status store_erase(store *s, int64_t id, store_erasure *out, galen_error *err);
galen_status store_erase_all(store *s, store_erasure *out, galen_error *err);
/** Erase the cases whose last turn is older than days (>= 0) days. */
galen_status store_expire(store *s, int64_t days, store_erasure *out, galen_error *err);

/* ---------------------------------------------------------------- settings */

/* name, default, what it means */
#define STORE_SETTINGS(X)                                                                                                        \
    X("save", "on", "on or off: are cases kept")                                                                                 \
    X("retention_days", "0", "cases are erased that many days after their last turn, when the database is opened; 0: never")     \
    X("perf_days", "365", "rows of the performance log are dropped after that many days; 0: never")

/** The value of a setting, or its default. Errors  NOT_FOUND no such name; RANGE cap. */
galen_status store_setting_get(store *s, const char *name, char *value, size_t cap, galen_error *err);
/** Errors  NOT_FOUND no such name; ARG a value that it cannot have. */
galen_status store_setting_set(store *s, const char *name, const char *value, galen_error *err);

/* ---------------------------------------------------------------- audit trail */

/* A chain of HMACs with a key that lies beside the database (galen.db.key, 0600). No text: of prompt and response the trail keeps
 * HMACs, salted by the case, so that they mean nothing once the case is erased. */
typedef struct store_audit {
    const char *action;                /* [a-z0-9_.]: "diagnose", "erase" */
    int64_t case_id;                   /* 0: none */
    const char *model_sha256, *params; /* hexadecimal; a JSON object without text; or NULL */
    const char *prompt, *response;     /* their HMACs are kept, they are not; or NULL */
    size_t n_prompt, n_response;
} store_audit;
/** Append a row. Errors  as above; FORMAT also when the trail's key is missing or its end does not verify. */
galen_status store_audit_append(store *s, const store_audit *a, galen_error *err);

typedef struct store_audit_row {
    int64_t seq, time_ms, case_id;
    const char *action, *model_sha256, *build, *params; /* NULL: none */
    const char *prompt_hmac, *response_hmac;            /* hexadecimal, or NULL */
} store_audit_row;
typedef bool (*store_audit_fn)(void *user, const store_audit_row *r);
/** Rows, oldest first, from number `from`. */
galen_status store_audit_list(store *s, int64_t from, int64_t most, store_audit_fn fn, void *user, galen_error *err);
/** Walk the whole chain. OK and the number of rows, or FORMAT naming the first row that is changed, missing or too much. */
galen_status store_audit_verify(store *s, int64_t *n_rows, galen_error *err);

/* ---------------------------------------------------------------- performance log */

typedef struct store_perf {
    int64_t time_ms;                              /* 0: now */
    const char *verb, *model_name, *model_sha256; /* or NULL, as those below */
    const char *device, *placement;               /* "CPU (avx2, 2 threads)", "GPU 16/33 layers, ..." */
    double load_s, prefill_s, decode_s, first_s;  /* first_s: to the first token; 0: not known */
    int64_t n_prompt, n_cached, n_generated;      /* of the prompt's, n_cached were there and not computed */
    const char *fallback;                         /* what was fallen back from, or NULL */
    int error;                                    /* a galen_status */
    int64_t n_dropped;                            /* rows before this one that a full queue had no room for */
} store_perf;
galen_status store_perf_append(store *s, const store_perf *p, galen_error *err);
/** All n rows in one transaction, or none. */
galen_status store_perf_append_all(store *s, const store_perf *rows, size_t n, galen_error *err);
/** Drop the rows older than the setting perf_days. store_open does it; one that stays open for days calls it. */
galen_status store_perf_expire(store *s, galen_error *err);
typedef bool (*store_perf_fn)(void *user, const store_perf *p);
/** Rows of the last `days` days (0: all), oldest first. */
galen_status store_perf_list(store *s, int64_t days, store_perf_fn fn, void *user, galen_error *err);

/* ---------------------------------------------------------------- models, bench, tune */

/** SHA-256 of a model file in hexadecimal, remembered by path, size, time and inode: a file is read once.
 *  s NULL, or a database that fails: the file is read. Errors  those of sha256_file. */
galen_status store_model_hash(store *s, const char *path, galen_progress_fn progress, void *user, char out[SHA256_HEX_BYTES],
                              galen_error *err);
/** The same without reading the file: true when its hash is remembered. */
bool store_model_hash_known(store *s, const char *path, char out[SHA256_HEX_BYTES]);
/** The path last seen with that fingerprint. Errors  NOT_FOUND none whose file is still the same; RANGE cap. */
galen_status store_model_path(store *s, const char *hex, char *out, size_t cap, galen_error *err);

typedef struct store_bench {
    int64_t id, time_ms; /* 0 when putting: the next, now */
    const char *model_sha256, *device, *build;
    const char *json; /* the run */
    size_t n;
} store_bench;
galen_status store_bench_put(store *s, const store_bench *b, int64_t *id, galen_error *err);
typedef bool (*store_bench_fn)(void *user, const store_bench *b);
/** Runs, newest first, at most `most`; model_sha256, device, build: NULL = any. */
galen_status store_bench_list(store *s, const char *model_sha256, const char *device, const char *build, int64_t most,
                              store_bench_fn fn, void *user, galen_error *err);

typedef struct store_tune {
    const char *model_sha256, *device, *driver, *build; /* the key; never NULL, "" where there is none */
    const char *json;                                   /* the choice */
    size_t n;
    int64_t time_ms; /* 0 when putting: now */
} store_tune;
galen_status store_tune_put(store *s, const store_tune *t, galen_error *err); /* replaces */
/** The choice for a key as malloc'ed, NUL-terminated JSON. Errors  NOT_FOUND. */
galen_status store_tune_get(store *s, const store_tune *key, char **json, galen_error *err);
typedef bool (*store_tune_fn)(void *user, const store_tune *t);
galen_status store_tune_list(store *s, store_tune_fn fn, void *user, galen_error *err);

#endif
