/* galen stats: how fast it was, by model and device, and whether that changes. From the performance log, which has no text. */
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>

#include "cli/history.h"
#include "cli/options.h"

#define DEFAULT_DAYS 30
#define N_COLUMNS    40 /* of the plot */
#define TREND_LEAST  8  /* runs before a trend is worth a word */

typedef struct run_row {
    double load_s, first_s, prefill, decode; /* decode, prefill: tokens per second; 0: none were computed */
    int64_t time_ms;
    galen_status error;
    bool fell_back;
} run_row;

/* A server's runs share the machine with each other: their speeds are not compared with a lone run's. */
typedef struct group {
    char *model, *sha256, *device;
    bool is_served;
    char placement[192]; /* of its last run */
    run_row *rows;       /* in the order of time */
    size_t n, cap;
} group;

typedef struct groups {
    group *items;
    size_t n;
    int64_t n_dropped;
    bool is_out_of_memory;
} groups;

static bool is_same(const char *a, const char *b) {
    return strcmp(a, b ? b : "") == 0;
}

static group *group_of(groups *g, const store_perf *p) {
    const bool is_served = p->verb && strncmp(p->verb, "serve", 5) == 0;
    for (size_t i = 0; i < g->n; i++) {
        group *k = &g->items[i];
        if (k->is_served == is_served && is_same(k->model, p->model_name) && is_same(k->sha256, p->model_sha256) &&
            is_same(k->device, p->device))
            return k;
    }
    group *items = realloc(g->items, (g->n + 1) * sizeof *items);
    if (!items) return NULL;
    g->items = items;
    group *k = &items[g->n];
    *k = (group){.is_served = is_served,
                 .model = strdup(p->model_name ? p->model_name : ""),
                 .sha256 = strdup(p->model_sha256 ? p->model_sha256 : ""),
                 .device = strdup(p->device ? p->device : "")};
    g->n++;
    return k->model && k->sha256 && k->device ? k : NULL;
}

static double rate(int64_t n, int64_t least, double seconds) {
    return n >= least && seconds > 0 ? (double)n / seconds : 0;
}

static bool on_row(void *user, const store_perf *p) {
    groups *g = user;
    group *k = group_of(g, p);
    if (k && k->n == k->cap) {
        const size_t cap = k->cap ? k->cap * 2 : 64;
        run_row *rows = realloc(k->rows, cap * sizeof *rows);
        if (rows) {
            k->rows = rows;
            k->cap = cap;
        }
    }
    if (!k || k->n == k->cap) {
        g->is_out_of_memory = true;
        return false;
    }
    k->rows[k->n++] = (run_row){.load_s = p->load_s,
                                .first_s = p->first_s,
                                .prefill = rate(p->n_prompt - p->n_cached, 1, p->prefill_s),
                                .decode = rate(p->n_generated, 2, p->decode_s), /* the first is the prompt's */
                                .time_ms = p->time_ms,
                                .error = p->error,
                                .fell_back = p->fallback != NULL};
    if (p->placement) (void)snprintf(k->placement, sizeof k->placement, "%s", p->placement);
    g->n_dropped += p->n_dropped;
    return true;
}

static void group_free(group *k) {
    free(k->model);
    free(k->sha256);
    free(k->device);
    free(k->rows);
}

static void groups_free(groups *g) {
    for (size_t i = 0; i < g->n; i++) group_free(&g->items[i]);
    free(g->items);
}

static int by_time(const void *a, const void *b) {
    const int64_t x = ((const run_row *)a)->time_ms, y = ((const run_row *)b)->time_ms;
    return (x > y) - (x < y);
}

/* The group that runs without a fingerprint belong to: the only one that is like theirs and has one. NULL: none, or several. */
static group *owner_of(const groups *g, const group *k) {
    group *found = NULL;
    for (size_t i = 0; i < g->n; i++) {
        group *o = &g->items[i];
        if (!*o->sha256 || o->is_served != k->is_served || strcmp(o->model, k->model) != 0 || strcmp(o->device, k->device) != 0)
            continue;
        if (found) return NULL;
        found = o;
    }
    return found;
}

/* A model's fingerprint is known from some run on; the runs before it are the same model's. */
static void join_nameless(groups *g) {
    for (size_t i = 0; i < g->n; i++) {
        group *k = &g->items[i], *o = *k->sha256 ? NULL : owner_of(g, k);
        run_row *rows = o ? realloc(o->rows, (o->n + k->n) * sizeof *rows) : NULL;
        if (!rows) continue; /* told apart: no harm */
        memcpy(rows + o->n, k->rows, k->n * sizeof *rows);
        o->rows = rows;
        o->n += k->n;
        qsort(rows, o->n, sizeof *rows, by_time);
        group_free(k);
        g->n--;
        memmove(k, k + 1, (g->n - i) * sizeof *k);
        i--;
    }
}

/* ------------------------------------------------------------ figures */

typedef double (*figure)(const run_row *r);
static double load_of(const run_row *r) {
    return r->load_s;
}
static double first_of(const run_row *r) {
    return r->first_s;
}
static double prefill_of(const run_row *r) {
    return r->prefill;
}
static double decode_of(const run_row *r) {
    return r->decode;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of what was measured in rows [from, to); 0 when nothing was. scratch: room for them. */
static double median(const group *k, figure f, size_t from, size_t to, double *scratch) {
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        const double v = f(&k->rows[i]);
        if (v > 0) scratch[n++] = v;
    }
    if (!n) return 0;
    qsort(scratch, n, sizeof *scratch, by_value);
    return n % 2 ? scratch[n / 2] : (scratch[n / 2 - 1] + scratch[n / 2]) / 2;
}

/* Change of the last quarter's median against the first quarter's; false: too few runs. */
static bool trend(const group *k, figure f, double *scratch, double *change) {
    const size_t quarter = k->n / 4;
    if (k->n < TREND_LEAST) return false;
    const double first = median(k, f, 0, quarter, scratch), last = median(k, f, k->n - quarter, k->n, scratch);
    if (!(first > 0 && last > 0)) return false;
    *change = last / first - 1;
    return true;
}

typedef struct counts {
    size_t n_failed, n_cancelled, n_fallbacks;
} counts;

static counts count(const group *k) {
    counts n = {0};
    for (size_t i = 0; i < k->n; i++) {
        n.n_failed += k->rows[i].error && k->rows[i].error != GALEN_E_CANCELLED;
        n.n_cancelled += k->rows[i].error == GALEN_E_CANCELLED;
        n.n_fallbacks += k->rows[i].fell_back;
    }
    return n;
}

/* Decode speed, the oldest run left; a column is the median of its runs, its height a share of the fastest column. */
static size_t columns(const group *k, size_t most, double *scratch, double out[N_COLUMNS]) {
    const size_t n = k->n < most ? k->n : most;
    for (size_t i = 0; i < n; i++) out[i] = median(k, decode_of, i * k->n / n, (i + 1) * k->n / n, scratch);
    return n;
}

static void print_plot(const cli *c, const group *k, double *scratch) {
    static const char *const blocks[] = {" ",
                                         "\xE2\x96\x81",
                                         "\xE2\x96\x82",
                                         "\xE2\x96\x83",
                                         "\xE2\x96\x84",
                                         "\xE2\x96\x85",
                                         "\xE2\x96\x86",
                                         "\xE2\x96\x87",
                                         "\xE2\x96\x88"};
    static const char *const plain[] = {" ", "_", ".", "-", "=", "+", "*", "#", "@"};
    const bool is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    double values[N_COLUMNS], most = 0;
    const size_t n = columns(k, term_width(c) < 80 ? 8 : N_COLUMNS, scratch, values);
    for (size_t i = 0; i < n; i++) most = values[i] > most ? values[i] : most;
    if (n < 2 || !(most > 0)) return;
    (void)fputs("  decode  |", stdout);
    for (size_t i = 0; i < n; i++) {
        const int height = values[i] > 0 ? 1 + (int)(values[i] / most * 7.0) : 0;
        (void)fputs((is_utf8 ? blocks : plain)[height], stdout);
    }
    (void)printf("| most %.1f/s\n", most);
}

/* ------------------------------------------------------------ output */

static void print_trend(const cli *c, const group *k, const char *what, figure f, double *scratch) {
    double change;
    if (trend(k, f, scratch, &change))
        term_fact(c, "  trend", 10, "%s %+.1f %% (last quarter of the runs against the first)", what, 100 * change);
}

static void print_group(const cli *c, const group *k, double *scratch) {
    char model[128], device[128], title[320], placement[192], from[HIST_TIME_BYTES], to[HIST_TIME_BYTES];
    const counts n = count(k);
    (void)snprintf(title, sizeof title, "%s%s%s on %s%s", term_sgr(c, "\033[1m"),
                   term_safe(*k->model ? k->model : "unnamed model", model, sizeof model), term_sgr(c, "\033[0m"),
                   term_safe(*k->device ? k->device : "no device", device, sizeof device), k->is_served ? ", served" : "");
    term_wrap(stdout, title, term_width(c));
    term_fact(c, "  runs", 10, "%zu, %s to %s", k->n, hist_time(k->rows[0].time_ms, from),
              hist_time(k->rows[k->n - 1].time_ms, to));
    if (*k->placement) term_fact(c, "  where", 10, "%s", term_safe(k->placement, placement, sizeof placement));
    term_fact(c, "  median", 10, "load %.2f s, first token %.3f s", median(k, load_of, 0, k->n, scratch),
              median(k, first_of, 0, k->n, scratch));
    term_fact(c, "", 10, "prefill %.1f tokens/s, decode %.1f tokens/s", median(k, prefill_of, 0, k->n, scratch),
              median(k, decode_of, 0, k->n, scratch));
    print_trend(c, k, "decode", decode_of, scratch);
    print_trend(c, k, "first token", first_of, scratch);
    print_plot(c, k, scratch);
    if (n.n_failed || n.n_cancelled || n.n_fallbacks)
        term_fact(c, "  failed", 10, "%zu; cancelled %zu; fell back %zu", n.n_failed, n.n_cancelled, n.n_fallbacks);
}

static json_t *json_trend(const group *k, figure f, double *scratch) {
    double change;
    return trend(k, f, scratch, &change) ? json_number(change) : json_null();
}

static json_t *json_group(const group *k, double *scratch) {
    double values[N_COLUMNS];
    json_t *series = json_array();
    const size_t n = columns(k, N_COLUMNS, scratch, values);
    const counts sum = count(k);
    int bad = 0;
    for (size_t i = 0; i < n; i++) bad |= json_array_append_new(series, json_number(values[i]));
    json_t *one = json_pack("{s:o, s:o, s:o, s:b, s:o}", "model", json_text0(k->model), "sha256", json_text0(k->sha256), "device",
                            json_text0(k->device), "is_served", (int)k->is_served, "placement", json_text0(k->placement));
    json_t *figures =
        json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:o, s:I, s:I, s:I, s:o}", "n_runs", (json_int_t)k->n, "from_ms",
                  (json_int_t)k->rows[0].time_ms, "to_ms", (json_int_t)k->rows[k->n - 1].time_ms, "median_load_s",
                  median(k, load_of, 0, k->n, scratch), "median_first_token_s", median(k, first_of, 0, k->n, scratch),
                  "median_prefill_tokens_per_s", median(k, prefill_of, 0, k->n, scratch), "median_decode_tokens_per_s",
                  median(k, decode_of, 0, k->n, scratch), "decode_trend", json_trend(k, decode_of, scratch), "first_token_trend",
                  json_trend(k, first_of, scratch), "n_failed", (json_int_t)sum.n_failed, "n_cancelled",
                  (json_int_t)sum.n_cancelled, "n_fallbacks", (json_int_t)sum.n_fallbacks, "decode_series", series);
    bad |= !figures || json_object_update(one, figures);
    json_decref(figures);
    if (!bad) return one;
    json_decref(one);
    return NULL;
}

static cli_exit print_all(cli *c, const groups *g, int64_t days, double *scratch) {
    if (!c->args.json) {
        for (size_t i = 0; i < g->n; i++) print_group(c, &g->items[i], scratch);
        if (!g->n && days) term_note(c, "nothing was computed in the last %lld days", (long long)days);
        if (!g->n && !days) term_note(c, "nothing was computed yet");
        if (g->n_dropped)
            term_error(c, "%lld runs of a server are missing: the database could not be written in time",
                       (long long)g->n_dropped);
        return CLI_DONE;
    }
    json_t *root = json_begin(c), *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < g->n; i++) bad |= json_array_append_new(list, json_group(&g->items[i], scratch));
    bad |= json_object_set_new(root, "days", json_integer((json_int_t)days));
    bad |= json_object_set_new(root, "n_dropped", json_integer((json_int_t)g->n_dropped));
    bad |= json_object_set_new(root, "groups", list);
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_stats(cli *c) {
    store *s;
    galen_error err = {0};
    groups g = {0};
    const int64_t days = option_given(&c->args, "days") ? c->args.days : DEFAULT_DAYS;
    cli_exit st = hist_open(c, false, &s);
    if (st) return st;
    if (store_perf_list(s, days, on_row, &g, &err)) st = hist_fail(c, &err);
    store_close(s);
    join_nameless(&g);
    size_t most = 1;
    for (size_t i = 0; i < g.n; i++) most = g.items[i].n > most ? g.items[i].n : most;
    double *scratch = calloc(most, sizeof *scratch);
    if (!st && (g.is_out_of_memory || !scratch)) {
        term_error(c, "out of memory");
        st = CLI_MEMORY;
    }
    if (!st) st = print_all(c, &g, days, scratch);
    free(scratch);
    groups_free(&g);
    return st;
}
