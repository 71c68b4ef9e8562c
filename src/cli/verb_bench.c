/* galen bench: how fast a model runs here: prompt, generation, depth, many at once, load; kept, compared with the run before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/history.h"
#include "cli/options.h"
#include "cli/plot.h"
#include "cli/work.h"

#define NARROW 72 /* columns of the table; a narrower terminal has medians alone */

typedef struct bench {
    cli *c;
    char sha256[SHA256_HEX_BYTES], model[128], path[4096];
    bench_run runs[2]; /* as asked; on the CPU alone */
    int n_runs;
    bench_plan plan;
    const char *name; /* of the model, or NULL */
    bool is_cut;      /* by Ctrl-C: only what was measured by then */
    json_t *before;   /* the run before on this device, or NULL    */
    int n_slower;
} bench;

static bench_plan plan_of(const cli_args *a) {
    const bool quick = a->quick;
    bench_plan p = {.n_prompt = quick ? 128 : 512,
                    .n_generate = quick ? 16 : 64,
                    .depth = quick ? 0 : 1024,
                    .parallel = quick ? 0 : 4,
                    .repeats = quick ? 3 : 5,
                    .warmups = 1,
                    .has_load = !quick};
    if (option_given(a, "n-prompt")) p.n_prompt = (int32_t)a->n_prompt;
    if (option_given(a, "n-gen")) p.n_generate = (int32_t)a->n_gen;
    if (option_given(a, "depth")) p.depth = (int32_t)a->depth;
    if (option_given(a, "parallel")) p.parallel = (int32_t)a->parallel;
    if (option_given(a, "repeats")) p.repeats = (int)a->repeats;
    return p;
}

/* What was asked for can be measured, and there is something to measure. */
static cli_exit check_plan(cli *c, const bench_plan *p) {
    if (!p->n_generate &&
        ((option_given(&c->args, "parallel") && p->parallel) || (option_given(&c->args, "depth") && p->depth))) {
        term_error(c, "bench: --depth and --parallel measure tokens generated, and --n-gen 0 generates none");
        return CLI_USAGE;
    }
    if (p->n_generate || p->n_prompt || p->has_load) return CLI_DONE;
    term_error(c, "bench: --n-prompt 0 --n-gen 0 leaves nothing to measure");
    return CLI_USAGE;
}

/* Time to open the model, and from there to the first token, the file in the page cache. */
static cli_exit load_once(bench *b, double *load, double *first) {
    galen_error err = {0};
    galen_model *m = NULL;
    galen_session *s = NULL;
    const bool was_quiet = b->c->term.is_quiet;
    b->c->term.is_quiet = true;
    const double start = clock_s();
    cli_exit st = engine_open(b->c, b->name, false, &m);
    b->c->term.is_quiet = was_quiet;
    *load = clock_s() - start;
    if (!st) st = engine_session(b->c, m, 256, &s);
    float *logits = st ? NULL : calloc((size_t)galen_model_get_info(m).n_vocab, sizeof *logits);
    int32_t *ids = st ? NULL : bench_prompt(m, 1);
    if (!st && (!logits || !ids || galen_session_eval(s, ids, 1, logits, &err))) st = engine_fail(b->c, PHASE_USE, &err);
    *first = clock_s() - start;
    free(logits);
    free(ids);
    galen_session_close(s);
    galen_model_close(m);
    return st ? st : signals_stop() ? signals_exit() : CLI_DONE;
}

static cli_exit measure_load(bench *b) {
    double load[BENCH_MAX_REPEATS], first[BENCH_MAX_REPEATS];
    bench_run *r = &b->runs[0];
    cli_exit st = CLI_DONE;
    for (int i = 0; i < b->plan.repeats && !st; i++) st = load_once(b, &load[i], &first[i]);
    if (st) return st;
    r->rows[r->n_rows] = (bench_row){.name = "load", .kind = BENCH_LOAD};
    bench_publish(r, load, b->plan.repeats);
    r->rows[r->n_rows] = (bench_row){.name = "first token", .kind = BENCH_FIRST};
    bench_publish(r, first, b->plan.repeats);
    return CLI_DONE;
}

/* A placement that uses a GPU is also measured on the CPU alone: the speedup is a ratio of one run. */
static cli_exit measure_cpu(bench *b) {
    galen_model *m = NULL;
    galen_error err = {0};
    galen_model_opts o = galen_model_default_opts();
    bench_plan p = b->plan;
    o.device = "cpu";
    o.n_threads = (int32_t)b->c->args.threads;
    p.depth = p.parallel = 0;
    if (p.repeats > 3) p.repeats = 3;
    if (galen_model_open(&m, b->path, &o, &err)) return engine_fail(b->c, PHASE_LOAD, &err);
    b->n_runs = 2;
    const galen_status st = bench_all(b->c, m, &p, &b->runs[1], &err);
    galen_model_close(m);
    return st ? engine_fail(b->c, PHASE_USE, &err) : CLI_DONE;
}

/* In a thread of its own: cli/work.h. */
static cli_exit measure(void *user) {
    bench *b = user;
    galen_model *m = NULL;
    galen_error err = {0};
    cli_exit st = engine_open(b->c, b->name, false, &m);
    if (st) return st;
    const galen_model_info info = galen_model_get_info(m);
    (void)snprintf(b->path, sizeof b->path, "%s", info.path);
    (void)snprintf(b->model, sizeof b->model, "%.127s", info.name && *info.name ? info.name : info.path);
    const bool has_gpu = strncmp(info.device, "CPU", 3) != 0 && strcmp(info.device, "ref") != 0;
    b->n_runs = 1;
    if (bench_all(b->c, m, &b->plan, &b->runs[0], &err)) st = engine_fail(b->c, PHASE_USE, &err);
    galen_model_close(m);
    if (!st && b->plan.has_load) st = measure_load(b);
    if (!st && has_gpu && !b->c->args.no_cpu) st = measure_cpu(b);
    return st;
}

/* ---------------------------------------------------------------- history */

static bool on_before(void *user, const store_bench *row) {
    bench *b = user;
    b->before = json_loadb(row->json, row->n, 0, NULL);
    return false;
}

/* The run before this one, then this one is kept. A store that fails costs the comparison, not the result. */
static void use_history(bench *b) {
    store *s = NULL;
    galen_error err = {0};
    char build[256];
    const bool is_kept = !b->c->args.no_history;
    const store_opts so = {.path = b->c->args.db, .is_read_only = !is_kept};
    if (!is_kept && !b->c->args.compare) return;
    galen_status st = store_open(&s, &so, &err);
    if (!st) st = store_model_hash(s, b->path, hist_on_hash, b->c, b->sha256, &err);
    term_progress_end(b->c);
    if (!st && b->c->args.compare) st = store_bench_list(s, b->sha256, b->runs[0].device, NULL, 1, on_before, b, &err);
    json_t *root = bench_json(&b->runs[0]);
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    (void)snprintf(build, sizeof build, "%s", galen_version());
    if (!st && text && is_kept) {
        const store_bench row = {
            .model_sha256 = b->sha256, .device = b->runs[0].device, .build = build, .json = text, .n = strlen(text)};
        st = store_bench_put(s, &row, NULL, &err);
    }
    if (st) term_error(b->c, "%s: %s", is_kept ? "the result is not kept" : "no earlier run can be read", err.msg);
    free(text);
    json_decref(root);
    store_close(s);
}

static const json_t *row_before(const bench *b, const char *name) {
    const json_t *rows = json_object_get(b->before, "rows");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *is = json_string_value(json_object_get(row, "name"));
        if (is && strcmp(is, name) == 0) return row;
    }
    return NULL;
}

static double number_of(const json_t *row, const char *key) {
    const json_t *v = json_object_get(row, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* Slower beyond the noise: every run was slower than every run before, and the medians differ by more than 3 %.
 * *ratio: this over before, above 1 is faster. */
static bool is_slower(const bench *b, const bench_row *w, double *ratio) {
    const json_t *row = row_before(b, w->name);
    const bool is_time = w->kind >= BENCH_LOAD;
    const double was = number_of(row, "median");
    *ratio = (double)NAN;
    if (!row || isnan(was) || !(was > 0) || w->stat.n == 0) return false;
    *ratio = is_time ? was / w->stat.median : w->stat.median / was;
    const bool is_apart = is_time ? w->stat.low > number_of(row, "high") : w->stat.high < number_of(row, "low");
    return is_apart && *ratio < 0.97;
}

/* ---------------------------------------------------------------- out */

typedef enum table_kind { TABLE_MD, TABLE_CSV, TABLE_NARROW } table_kind;

static void print_row(const bench *b, table_kind kind, const char *device, const bench_row *w, bool is_compared) {
    const char *unit = w->kind >= BENCH_LOAD ? "s" : "tokens/s";
    double ratio = (double)NAN;
    char note[64] = "", v[3][PLOT_VALUE_BYTES];
    const bool slower = is_compared && is_slower(b, w, &ratio);
    if (!isnan(ratio)) (void)snprintf(note, sizeof note, ", %.2fx%s", ratio, slower ? " SLOWER" : "");
    if (kind == TABLE_CSV)
        (void)printf("\"%s\",%s,%s,%.6g,%.6g,%.6g,%d,%.4g\n", device, w->name, unit, w->stat.median, w->stat.low, w->stat.high,
                     w->stat.n, ratio);
    else if (kind == TABLE_MD)
        (void)printf("| %-20s | %10s | %9s to %-8s | %s%s |\n", w->name, plot_value(w->stat.median, v[0]),
                     plot_value(w->stat.low, v[1]), plot_value(w->stat.high, v[2]), unit, note);
    else
        (void)printf("  %-16s %9s %s%s\n", w->name, plot_value(w->stat.median, v[0]), unit, note);
}

static void print_table(const bench *b, table_kind kind) {
    if (kind == TABLE_CSV)
        (void)printf("device,test,unit,median,low,high,n,ratio_to_before\n");
    else if (kind == TABLE_MD)
        (void)printf("| %-20s | %10s | %21s | %s |\n|---|---|---|---|\n", "test", "median", "low to high  ",
                     b->before ? "to the run before" : "unit");
    for (int k = 0; k < b->n_runs; k++) {
        if (!b->runs[k].n_rows) continue;
        if (kind == TABLE_MD) (void)printf("| **%s** | | | |\n", b->runs[k].device);
        if (kind == TABLE_NARROW) term_row(term_width(b->c), "", 0, b->runs[k].device);
        for (int i = 0; i < b->runs[k].n_rows; i++)
            print_row(b, kind, b->runs[k].device, &b->runs[k].rows[i], k == 0 && b->before);
    }
}

/* "decode: 8.4 times the CPU alone" for what both runs measured. */
static void print_speedup(const bench *b, FILE *out) {
    if (b->n_runs < 2) return;
    if (out == stdout) (void)putchar('\n'); /* Markdown would take it for a row */
    for (int i = 0; i < b->runs[0].n_rows; i++)
        for (int j = 0; j < b->runs[1].n_rows; j++) {
            const bench_row *g = &b->runs[0].rows[i], *h = &b->runs[1].rows[j];
            if (g->kind < BENCH_LOAD && strcmp(g->name, h->name) == 0 && h->stat.median > 0)
                (void)fprintf(out, "%s: %.1f times the CPU alone\n", g->name, g->stat.median / h->stat.median);
        }
}

static void fill_plot(const bench *b, plot *p) {
    *p = (plot){.title = b->model, .x_name = "", .y_name = "tokens per second", .is_bars = true, .n_series = b->n_runs};
    for (int k = 0; k < b->n_runs; k++) {
        plot_series *s = &p->series[k];
        s->name = b->runs[k].device;
        s->marked = -1;
        for (int i = 0; i < b->runs[0].n_rows; i++) {
            const bench_row *w = &b->runs[0].rows[i], *mine = NULL;
            if (w->kind >= BENCH_LOAD) continue;
            for (int j = 0; j < b->runs[k].n_rows; j++)
                if (strcmp(b->runs[k].rows[j].name, w->name) == 0) mine = &b->runs[k].rows[j];
            p->labels[s->n] = w->name;
            const bench_stat none = {0, (double)NAN, (double)NAN, (double)NAN}, *v = mine ? &mine->stat : &none;
            s->points[s->n] = (plot_point){.x = s->n, .y = v->median, .low = v->low, .high = v->high};
            s->n++;
        }
    }
}

static cli_exit write_svg(bench *b) {
    static plot p; /* large */
    if (!b->c->args.svg) return CLI_DONE;
    fill_plot(b, &p);
    return plot_write(b->c, &p, b->c->args.svg);
}

static cli_exit print_json(bench *b) {
    json_t *root = json_begin(b->c), *runs = json_array(), *slower = json_array();
    int bad = 0;
    for (int k = 0; k < b->n_runs; k++) bad |= json_array_append_new(runs, bench_json(&b->runs[k]));
    for (int i = 0; i < b->runs[0].n_rows; i++) {
        double ratio;
        if (is_slower(b, &b->runs[0].rows[i], &ratio))
            bad |= json_array_append_new(slower,
                                         json_pack("{s:s, s:o}", "name", b->runs[0].rows[i].name, "ratio", json_number(ratio)));
    }
    bad |= json_object_set_new(root, "model", json_text0(b->model));
    bad |= json_object_set_new(root, "sha256", b->sha256[0] ? json_string(b->sha256) : json_null());
    bad |= json_object_set_new(root, "runs", runs);
    bad |= json_object_set(root, "before", b->before ? b->before : json_null());
    bad |= json_object_set_new(root, "slower", slower);
    bad |= json_object_set_new(root, "is_interrupted", json_boolean(b->is_cut));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(b->c, root, false);
}

static cli_exit print(bench *b) {
    const cli_args *a = &b->c->args;
    const char *format = a->format ? a->format : "md";
    cli_exit st = CLI_DONE;
    if (a->json || strcmp(format, "json") == 0)
        st = print_json(b);
    else
        print_table(b, strcmp(format, "csv") == 0                ? TABLE_CSV
                       : !a->format && term_width(b->c) < NARROW ? TABLE_NARROW
                                                                 : TABLE_MD);
    print_speedup(b, a->json || strcmp(format, "md") != 0 ? stderr : stdout);
    return st;
}

/* What was measured until Ctrl-C is shown, not kept: the next run would be compared with half of one. */
static cli_exit print_cut(bench *b, cli_exit st) {
    const bool has_rows = b->runs[0].n_rows > 0;
    b->is_cut = true;
    term_progress_end(b->c);
    if (has_rows) (void)print(b);
    term_error(b->c, "interrupted: %s", has_rows ? "what was measured by then is shown, and not kept" : "nothing was measured");
    return st;
}

cli_exit verb_bench(cli *c) {
    static bench b; /* large, and outlives the verb where Ctrl-C abandons the work */
    b.c = c;
    b.plan = plan_of(&c->args);
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &b.name);
    if (!st) st = check_plan(c, &b.plan);
    if (st) return st;
    if (!work_run(measure, &b, &st)) work_leave(c, print_cut(&b, st));
    if (st) return signals_stop() ? print_cut(&b, st) : st;
    use_history(&b);
    if (c->args.compare && !b.before) term_note(c, "there is no earlier run of this model on this device");
    st = print(&b);
    for (int i = 0; i < b.runs[0].n_rows; i++) {
        double ratio;
        b.n_slower += b.before && is_slower(&b, &b.runs[0].rows[i], &ratio);
    }
    if (b.n_slower)
        term_error(c, "%d of %d tests are slower than the run before, beyond the noise", b.n_slower, b.runs[0].n_rows);
    json_decref(b.before);
    if (!st) st = write_svg(&b);
    if (signals_stop()) return signals_exit();
    return st ? st : b.n_slower ? CLI_FAILED : CLI_DONE;
}
