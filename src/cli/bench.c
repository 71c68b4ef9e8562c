#include "cli/bench.h"

#include "cli/work.h"

#include <math.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_stat bench_stat_of(const double *values, int n) {
    double sorted[BENCH_MAX_REPEATS];
    if (n < 1 || n > BENCH_MAX_REPEATS) return (bench_stat){0, (double)NAN, (double)NAN, (double)NAN};
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    const double median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return (bench_stat){n, median, sorted[0], sorted[n - 1]};
}

/* Ids spread over the vocabulary by a multiplicative generator (Lehmer, modulus 2^31 - 1); tokens that end a text are passed. */
int32_t *bench_prompt(const galen_model *m, int32_t n) {
    const uint32_t n_vocab = (uint32_t)galen_model_get_info(m).n_vocab;
    int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
    uint64_t state = 20240229;
    for (int32_t i = 0; ids && i < n; i++) {
        do {
            state = state * 48271 % 2147483647;
            ids[i] = (int32_t)(state % n_vocab);
        } while (galen_token_is_end(m, ids[i]));
    }
    return ids;
}

static galen_status stopped(galen_error *err) {
    *err = (galen_error){.code = GALEN_E_CANCELLED, .msg = "interrupted"};
    return GALEN_E_CANCELLED;
}

static galen_status no_memory(galen_error *err) {
    *err = (galen_error){.code = GALEN_E_NOMEM, .msg = "out of memory preparing the measurement"};
    return GALEN_E_NOMEM;
}

/* Ctrl-C does not wait for a long prompt's end. */
static bool goes_on(void *user, uint64_t done, uint64_t total) {
    (void)user;
    (void)done;
    (void)total;
    return !signals_stop();
}

galen_status bench_prefill(galen_session *s, const galen_model *m, int32_t n, int warmups, int repeats, double *values,
                           galen_error *err) {
    galen_status st = GALEN_OK;
    int32_t *ids = bench_prompt(m, n);
    float *logits = calloc((size_t)galen_model_get_info(m).n_vocab, sizeof *logits);
    if (!ids || !logits) st = no_memory(err);
    galen_session_set_progress(s, goes_on, NULL);
    for (int run = -warmups; run < repeats && !st; run++) {
        st = galen_session_rewind(s, 0, err);
        const double start = clock_s();
        if (!st) st = galen_session_eval(s, ids, n, logits, err);
        if (run >= 0 && !st) values[run] = n / (clock_s() - start);
        if (!st && signals_stop()) st = stopped(err);
    }
    free(ids);
    free(logits);
    return st;
}

static bool on_chunk(void *user, const galen_chunk *chunk) {
    (void)user;
    (void)chunk;
    return !signals_stop();
}

/* Greedy, and never an end: a ban for each token that would stop the run. */
static galen_status greedy_opts(const galen_model *m, int32_t n, galen_generate_opts *o, galen_logit_bias **bans,
                                galen_error *err) {
    const int32_t n_vocab = galen_model_get_info(m).n_vocab;
    size_t n_bans = 0;
    *o = galen_generate_default_opts();
    o->max_tokens = n;
    o->n_top_logprobs = -1;
    o->sampling.temperature = 0;
    o->on_chunk = on_chunk;
    for (int32_t i = 0; i < n_vocab; i++) n_bans += galen_token_is_end(m, i);
    *bans = calloc(n_bans + 1, sizeof **bans);
    if (!*bans) return no_memory(err);
    n_bans = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        if (galen_token_is_end(m, i)) (*bans)[n_bans++] = (galen_logit_bias){.id = i, .bias = -INFINITY};
    o->sampling.bias = *bans;
    o->sampling.n_bias = n_bans;
    return GALEN_OK;
}

galen_status bench_decode(galen_session *s, const galen_model *m, int32_t depth, int32_t n, int warmups, int repeats,
                          double *values, galen_error *err) {
    galen_generate_opts o;
    galen_logit_bias *bans = NULL;
    galen_result r;
    if (depth < 1) depth = 1; /* a generation follows at least one token */
    int32_t *ids = bench_prompt(m, depth);
    galen_status st = ids ? greedy_opts(m, n, &o, &bans, err) : no_memory(err);
    galen_session_set_progress(s, goes_on, NULL);
    if (!st) st = galen_session_rewind(s, 0, err);
    if (!st && depth > 1) st = galen_session_eval(s, ids, depth - 1, NULL, err);
    for (int run = -warmups; run < repeats && !st; run++) {
        st = galen_session_rewind(s, depth - 1, err);
        if (!st) st = galen_generate(s, ids + depth - 1, 1, &o, &r, err);
        /* the first token comes with the prompt; what decode_s measures are the others */
        if (run >= 0 && !st) values[run] = r.decode_s > 0 ? r.n_generated / r.decode_s : 0;
        if (!st && signals_stop()) st = stopped(err);
    }
    free(ids);
    free(bans);
    return st;
}

/* ---------------------------------------------------------------- many at once */

typedef struct crowd {
    atomic_int n_left, n_failed;
    atomic_long n_tokens;
} crowd;

static void on_end(void *user, const galen_end *end) {
    crowd *k = user;
    if (end->status) (void)atomic_fetch_add(&k->n_failed, 1);
    (void)atomic_fetch_add(&k->n_tokens, end->usage.n_generated);
    (void)atomic_fetch_sub(&k->n_left, 1);
}

/* One round: n_seqs requests, each with a prompt of its own. */
static galen_status round_of(galen_batcher *b, const int32_t *ids, int32_t n_seqs, int32_t n_prompt, const galen_generate_opts *o,
                             double *value, galen_error *err) {
    crowd k = {.n_left = n_seqs};
    galen_status st = GALEN_OK;
    const double start = clock_s();
    for (int32_t i = 0; i < n_seqs && !st; i++) {
        uint64_t id;
        galen_request_opts q = galen_request_default_opts();
        q.prompt = ids + (size_t)i * (size_t)n_prompt;
        q.n_prompt = n_prompt;
        q.generate = *o;
        q.on_end = on_end;
        q.user = &k;
        st = galen_batcher_submit(b, &q, &id, err);
        if (st) (void)atomic_fetch_sub(&k.n_left, n_seqs - i); /* those that were never submitted */
    }
    while (atomic_load(&k.n_left) > 0) (void)poll(NULL, 0, 1); /* after Ctrl-C every request ends with its next token */
    *value = (double)atomic_load(&k.n_tokens) / (clock_s() - start);
    if (!st && atomic_load(&k.n_failed)) {
        *err = (galen_error){.code = GALEN_E_FAIL, .msg = "a request failed in the measurement of many at once"};
        st = GALEN_E_FAIL;
    }
    return st;
}

galen_status bench_parallel(const galen_model *m, int32_t n_seqs, int32_t n_prompt, int32_t n, int warmups, int repeats,
                            double *values, galen_error *err) {
    galen_batcher *b = NULL;
    galen_generate_opts o;
    galen_logit_bias *bans = NULL;
    galen_batcher_opts bo = galen_batcher_default_opts();
    bo.n_ctx = n_prompt + n + 1;
    bo.max_seqs = n_seqs;
    bo.max_queue = n_seqs;
    bo.kv_tokens = (int64_t)(bo.n_ctx + 64) * n_seqs;
    bo.has_prefix_cache = false; /* every repeat computes its prompts */
    int32_t *ids = bench_prompt(m, n_seqs * n_prompt);
    galen_status st = ids ? greedy_opts(m, n, &o, &bans, err) : no_memory(err);
    if (!st) st = galen_batcher_open(&b, m, &bo, err);
    for (int run = -warmups; run < repeats && !st; run++) {
        double value;
        st = round_of(b, ids, n_seqs, n_prompt, &o, &value, err);
        if (run >= 0) values[run] = value;
        if (!st && signals_stop()) st = stopped(err);
    }
    galen_batcher_close(b);
    free(ids);
    free(bans);
    return st;
}

/* ---------------------------------------------------------------- the plan */

/* A row as it begins, named by what it holds; it counts from publish on. */
static void begin_row(cli *c, bench_run *r, bench_row row) {
    char *const name = row.name;
    if (row.kind == BENCH_PREFILL) (void)snprintf(name, sizeof row.name, "prefill %d", row.n_prompt);
    if (row.kind == BENCH_DECODE) (void)snprintf(name, sizeof row.name, "decode %d", row.n_generate);
    if (row.depth) (void)snprintf(name, sizeof row.name, "decode %d at %d", row.n_generate, row.depth);
    if (row.kind == BENCH_PARALLEL) (void)snprintf(name, sizeof row.name, "%d in parallel", row.n_parallel);
    r->rows[r->n_rows] = row;
    term_progress_text(c, name);
}

void bench_publish(bench_run *r, const double *values, int n) {
    work_publish();
    r->rows[r->n_rows].stat = bench_stat_of(values, n);
    r->n_rows++;
    work_published();
}

static galen_status all_decodes(cli *c, galen_session *s, const galen_model *m, const bench_plan *plan, bench_run *out,
                                galen_error *err) {
    double values[BENCH_MAX_REPEATS];
    galen_status st = GALEN_OK;
    for (int k = 0; k < 2 && !st && plan->n_generate; k++) {
        const int32_t depth = k ? plan->depth : 0;
        if (k && !depth) break;
        begin_row(c, out, (bench_row){.kind = BENCH_DECODE, .n_generate = plan->n_generate, .depth = depth});
        st = bench_decode(s, m, depth, plan->n_generate, plan->warmups, plan->repeats, values, err);
        if (!st) bench_publish(out, values, plan->repeats);
    }
    return st;
}

galen_status bench_all(cli *c, const galen_model *m, const bench_plan *plan, bench_run *out, galen_error *err) {
    double values[BENCH_MAX_REPEATS];
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    so.n_ctx = plan->n_prompt > plan->depth + plan->n_generate ? plan->n_prompt : plan->depth + plan->n_generate;
    so.n_ctx += 1;
    so.n_batch = c->n_batch;
    so.kv_type = c->args.kv_type;
    (void)snprintf(out->device, sizeof out->device, "%s", galen_model_get_info(m).device);
    galen_status st = galen_session_open(&s, m, &so, err);
    if (!st && plan->n_prompt) {
        begin_row(c, out, (bench_row){.kind = BENCH_PREFILL, .n_prompt = plan->n_prompt});
        st = bench_prefill(s, m, plan->n_prompt, plan->warmups, plan->repeats, values, err);
        if (!st) bench_publish(out, values, plan->repeats);
    }
    if (!st) st = all_decodes(c, s, m, plan, out, err);
    galen_session_close(s);
    if (!st && plan->parallel && plan->n_generate) {
        begin_row(
            c, out,
            (bench_row){.kind = BENCH_PARALLEL, .n_prompt = 128, .n_generate = plan->n_generate, .n_parallel = plan->parallel});
        st = bench_parallel(m, plan->parallel, 128, plan->n_generate, plan->warmups, plan->repeats, values, err);
        if (!st) bench_publish(out, values, plan->repeats);
    }
    term_progress_end(c);
    return st;
}

json_t *bench_json(const bench_run *r) {
    static const char *const kinds[] = {"prefill", "decode", "parallel", "load", "first_token"};
    json_t *rows = json_array();
    for (int i = 0; i < r->n_rows; i++) {
        const bench_row *w = &r->rows[i];
        json_t *one =
            json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:i, s:o, s:o, s:o}", "name", w->name, "kind", kinds[w->kind],
                      "n_prompt", w->n_prompt, "n_generate", w->n_generate, "depth", w->depth, "n_parallel", w->n_parallel,
                      "unit", w->kind >= BENCH_LOAD ? "s" : "tokens/s", "n", w->stat.n, "median", json_number(w->stat.median),
                      "low", json_number(w->stat.low), "high", json_number(w->stat.high));
        if (json_array_append_new(rows, one)) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o}", "device", json_text0(r->device), "placement", json_text0(r->placement), "rows", rows);
}
