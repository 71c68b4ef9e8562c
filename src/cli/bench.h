/* Measuring a model's speed: what bench and tune share. Warm-up, repeats, medians; the same fixed prompt every time. */
#ifndef GALEN_CLI_BENCH_H
#define GALEN_CLI_BENCH_H

#include "cli/json.h"

enum { BENCH_MAX_REPEATS = 25, BENCH_MAX_ROWS = 24 };

/* Figures of equal runs: tokens a second, or seconds. */
typedef struct bench_stat {
    int n;
    double median, low, high; /* NAN when n is 0 */
} bench_stat;
bench_stat bench_stat_of(const double *values, int n);

typedef enum bench_kind { BENCH_PREFILL, BENCH_DECODE, BENCH_PARALLEL, BENCH_LOAD, BENCH_FIRST } bench_kind;

/* One line of a run. */
typedef struct bench_row {
    char name[40]; /* "prefill 512", "decode 64 at 2048", "8 in parallel", "load" */
    bench_kind kind;
    int32_t n_prompt, n_generate, depth, n_parallel;
    bench_stat stat; /* tokens/s; seconds for load and first token */
} bench_row;

typedef struct bench_run {
    char device[256], placement[256];
    bench_row rows[BENCH_MAX_ROWS];
    int n_rows; /* measured; they and these are shared as cli/work.h says */
} bench_run;

typedef struct bench_plan {
    int32_t n_prompt, n_generate, depth; /* depth 0: none */
    int32_t parallel;                    /* 0: none       */
    int repeats, warmups;
    bool has_load;
} bench_plan;

/** A prompt of n tokens, the same for the same vocabulary; free it. NULL without memory. */
int32_t *bench_prompt(const galen_model *m, int32_t n);

/** tokens/s of a prompt of n tokens, of n tokens generated after depth ones, of the whole of n requests at once. values has room
 *  for repeats figures; warm-up runs come before them. CANCELLED on Ctrl-C. */
galen_status bench_prefill(galen_session *s, const galen_model *m, int32_t n, int warmups, int repeats, double *values,
                           galen_error *err);
galen_status bench_decode(galen_session *s, const galen_model *m, int32_t depth, int32_t n, int warmups, int repeats,
                          double *values, galen_error *err);
galen_status bench_parallel(const galen_model *m, int32_t n_seqs, int32_t n_prompt, int32_t n, int warmups, int repeats,
                            double *values, galen_error *err);

/** rows[n_rows] has its name and is measured now: n values. */
void bench_publish(bench_run *r, const double *values, int n);
/** The whole plan on an open model. */
galen_status bench_all(cli *c, const galen_model *m, const bench_plan *plan, bench_run *out, galen_error *err);

json_t *bench_json(const bench_run *r); /* NULL without memory */

#endif
