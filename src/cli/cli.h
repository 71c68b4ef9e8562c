/* What the verbs share: the parsed command line, the terminal, the exit codes and the way to a model.
 * The program reaches the engine through galen/galen.h and galen/assist.h alone; src/assist, src/store and src/server lie
 * between. */
#ifndef GALEN_CLI_CLI_H
#define GALEN_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "galen/galen.h"

/* Exit codes: one table for the program, its help and its man page. */
#define CLI_EXIT_TABLE(X)                                                                                                        \
    X(CLI_DONE, 0, "done")                                                                                                       \
    X(CLI_FAILED, 1, "failed")                                                                                                   \
    X(CLI_USAGE, 2, "wrong usage")                                                                                               \
    X(CLI_MODEL, 3, "model missing or invalid")                                                                                  \
    X(CLI_DEVICE, 4, "device required but unusable")                                                                             \
    X(CLI_MEMORY, 5, "out of memory")                                                                                            \
    X(CLI_NETWORK, 6, "network failed or address in use")                                                                        \
    X(CLI_CONTEXT, 7, "over the context limit")                                                                                  \
    X(CLI_REFUSED, 8, "refused: the input says too little")                                                                      \
    X(CLI_SIGINT, 130, "interrupted (Ctrl-C)")                                                                                   \
    X(CLI_SIGTERM, 143, "terminated")

typedef enum cli_exit {
#define X(name, value, text) name = value,
    CLI_EXIT_TABLE(X)
#undef X
} cli_exit;

#define CLI_SCHEMA_VERSION  1
#define CLI_MAX_POSITIONALS 16
#define CLI_MAX_OPTIONS     128

typedef struct str_list {
    const char **items;
    size_t n;
} str_list;

/* Values of the options; a field belongs to the row of the option table that names it. */
typedef struct cli_args {
    const char *model, *prompt, *file, *system, *tokens, *out, *shape, *type;
    const char *device, *isa, *kv_type, *chat_format;
    const char *grammar, *json_schema; /* files */
    bool json_object;
    const char *gpu_layers, *vram_limit, *as_card; /* words: engine_model_opts reads them */
    int64_t ubatch, main_gpu, parallel, stream_layers;
    bool no_kv_offload, require_gpu, strict;
    const char *db, *format;
    int64_t ctx, batch, threads, n_predict, top_k, last_n, logprobs, seed;
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    str_list stop, bias;
    int64_t n_prompt, n_gen, depth, repeats;
    const char *svg;
    const char *host, *api_keys, *tls_cert, *tls_key, *metrics_compat, *log;
    int64_t port, max_models, queue, keep_alive, drain, max_connections, max_body;
    str_list allow_host, allow_origin, also;
    double interval;
    int64_t days, limit, before, turns;
    bool no_history, yes, verify, quick, compare, no_cpu, no_tune;
    bool once, token, hash, report, all, json, quiet, no_color, no_bos, parse_special, ids, tensors, meta, man, help;
    const char *prompts, *cases, *from, *against;
    int64_t skip, questions;
    bool no_model;
    int64_t samples, max_questions;
    bool interactive, assistant;
    const char *positional[CLI_MAX_POSITIONALS];
    int n_positional;
    bool is_given[CLI_MAX_OPTIONS]; /* [i]: row i of the option table was on the command line */
} cli_args;

/* What kind of thing stdout and stderr are; filled by term_init. */
typedef struct cli_term {
    bool is_out_tty, is_err_tty, has_color, is_quiet;
    int n_columns;         /* of stderr's terminal, else 80           */
    bool is_progress_open; /* an unfinished progress line is on stderr */
} cli_term;

typedef struct verb_row verb_row;
typedef struct cli {
    const verb_row *verb;
    cli_args args;
    cli_term term;
    double load_s;
    int32_t n_batch;           /* rows of a pass that engine_open counted with, 0 = the engine's own: its sessions take no more */
    struct running *run;       /* this process in `galen ps`, or NULL */
    struct running_info *info; /* what it shows there                 */
} cli;

struct verb_row {
    const char *name, *positionals, *summary, *about;
    uint32_t bit;
    int max_positionals;
    cli_exit (*run)(cli *c);
};

/* ------------------------------------------------------------ verbs, one file each */
cli_exit verb_diagnose(cli *c);
cli_exit verb_triage(cli *c);
cli_exit verb_codes(cli *c);
cli_exit verb_calibrate(cli *c);
cli_exit verb_eval(cli *c);
cli_exit verb_complete(cli *c);
cli_exit verb_chat(cli *c);
cli_exit verb_serve(cli *c);
cli_exit verb_show(cli *c);
cli_exit verb_tokenize(cli *c);
cli_exit verb_logits(cli *c);
cli_exit verb_synth(cli *c);
cli_exit verb_plan(cli *c);
cli_exit verb_history(cli *c);
cli_exit verb_audit(cli *c);
cli_exit verb_stats(cli *c);
cli_exit verb_version(cli *c);
cli_exit verb_bench(cli *c);
cli_exit verb_tune(cli *c);
cli_exit verb_doctor(cli *c);
cli_exit verb_explain(cli *c);
cli_exit verb_monitor(cli *c);
cli_exit verb_ps(cli *c);
cli_exit verb_help(cli *c);
cli_exit verb_completions(cli *c);

/* ------------------------------------------------------------ term.c: words for the person */
void term_init(cli_term *t, bool no_color, bool quiet);
/** "galen: ..." on stderr: errors and warnings always; notes only without --quiet. A newline is added. */
void term_error(cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void term_note(cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** One rewritten line on stderr's terminal ("loading  43 %"); nothing elsewhere. */
void term_progress(cli *c, const char *what, uint64_t done, uint64_t total);
/** The same line with words of the user's model, cut to the terminal's width. */
void term_progress_text(cli *c, const char *text);
void term_progress_end(cli *c); /* wipes that line */
/** text for a message: at most cap-1 bytes, control bytes become '?'. Returns buf. */
const char *term_safe(const char *text, char *buf, size_t cap);
/** A model's words on stdout. On a terminal control characters become '?': a model must not drive it. */
void term_write(const cli *c, const char *text, size_t n);
/** Paragraph on out, wrapped at the terminal's width when it is one. */
void term_wrap(FILE *out, const char *text, int n_columns);
/** The same from column `at` on: the first line goes on where the cursor stands, the others begin there. */
void term_hang(FILE *out, int at, const char *text, int n_columns);
/** Columns of standard output where it is a terminal, else TERM_NO_WIDTH: what is piped is not wrapped. */
#define TERM_NO_WIDTH (1 << 20)
int term_width(const cli *c);
/** "left      text" on stdout, the text wrapped beside its column; below the left part where that is long or the terminal narrow.
 */
void term_row(int n_columns, const char *left, int at, const char *text);
/** As term_row with the standard output's width, of a format: a line of facts. */
void term_fact(const cli *c, const char *left, int at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/** Escape sequence n of SGR when colours are on, else "". */
const char *term_sgr(const cli *c, const char *on);
/** Flush stdout; FAILED with a message when anything written to it was lost. Returns st when all is well. */
cli_exit term_finish(cli *c, cli_exit st);

/* ------------------------------------------------------------ signals.c */
void signals_init(void);
int signals_stop(void);      /* the signal that asked for an end (SIGINT, SIGTERM), or 0 */
void signals_clear(void);    /* forget a SIGINT: chat goes on to the next question         */
cli_exit signals_exit(void); /* SIGINT or SIGTERM as an exit code                           */
/** Wait until fd can be read; false when a signal asked for the end. No signal slips in between the look and the wait. */
bool signals_wait_readable(int fd);
/** Called from the handler, with user, at the first SIGINT or SIGTERM; fn must be async-signal-safe. NULL: none. */
void signals_on_stop(void (*fn)(void *user), void *user);
/** The file that is named when its map raises SIGBUS; NULL: none. */
void signals_guard_file(const char *path);

/* ------------------------------------------------------------ input.c */
typedef struct text_buf {
    char *bytes; /* NUL-terminated for convenience; may hold NULs */
    size_t n;
} text_buf;
/** Whole file ("-" or NULL = standard input). Messages are printed; DONE or the exit code. Free out->bytes. */
cli_exit input_read(cli *c, const char *path, text_buf *out);
/** The text of a query: the argument when not NULL, else --file, else standard input (not from a terminal). */
cli_exit input_query(cli *c, const char *argument, const char *what, text_buf *out);
double clock_s(void); /* seconds since an arbitrary start */

/* ------------------------------------------------------------ engine.c */
/** Where a failure happened decides what a status means to the person. */
typedef enum cli_phase { PHASE_LOAD, PHASE_USE, PHASE_WRITE } cli_phase;
/** Print err and give its exit code. */
cli_exit engine_fail(cli *c, cli_phase phase, const galen_error *err);
/** How the options want a model opened: threads, device, placement, what the memory plan counts. */
cli_exit engine_model_opts(cli *c, galen_model_opts *out);
/** What galen tune kept for this model here, into what the command line leaves open; said in a note. path: the model's file. */
void engine_use_tuned(cli *c, const char *path, galen_model_opts *o);
/** The layers that o states fit beside the memory of its context and sequences. */
bool engine_has_room(const char *path, const galen_model_opts *o);
/** --chat-format names one that is known; engine_open asks too. */
cli_exit engine_check_chat_format(cli *c);
/** Resolve the name to a file without opening it; path has RESOLVE_PATH_BYTES. Messages as engine_open's. */
cli_exit engine_find(cli *c, const char *name, char *path);
/** Resolve the name (NULL: GALEN_MODEL, then the demo model), open, say what runs where. */
cli_exit engine_open(cli *c, const char *name, bool is_vocab_only, galen_model **out);
/** --model or else the positional argument; a usage error when both are given. */
cli_exit engine_model_name(cli *c, const char *positional, const char **name);
/** Session with --ctx (0: n_ctx_default), --batch, --kv-type; prefill progress installed. */
cli_exit engine_session(cli *c, const galen_model *m, int32_t n_ctx_default, galen_session **out);
/** Load progress for engine calls outside galen_model_open; user is a cli. False once a signal asked for the end. */
bool engine_prefill_progress(void *user, uint64_t done, uint64_t total);
/** The sampling options over `base`; *bias is malloc'ed (NULL for none) and must outlive *out's use. */
cli_exit engine_sampling(cli *c, int32_t n_vocab, galen_sampling *out, galen_logit_bias **bias);
/** The entry in `galen ps`: put up by engine_open; new figures (negative: as before); taken down when the program ends. */
void engine_tick(cli *c, int64_t ctx_used, int64_t ctx_size, double tokens_per_s);
void engine_done(cli *c);
/** A usage error when more than one of --grammar, --json-schema and --json-object is given. */
cli_exit grammar_check(cli *c);
/** The one given, compiled for m; NULL when none is. Close it before m. */
cli_exit grammar_open(cli *c, const galen_model *m, galen_grammar **out);
/** "prefill 34 tokens in 0.21 s (160/s), decode ..." as a note. */
void engine_note_speed(cli *c, const galen_result *r);

#endif
