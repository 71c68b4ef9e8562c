/* galen tune: measure where layers, streaming, threads and rows of a pass are best; keep the choice.
 *
 * A candidate's figure is the time of one case: TUNE_PROMPT tokens read, TUNE_ANSWER tokens written. What does not fit the GPU is
 * not tried, and which number of layers is worth a measurement is the plan's guess, put right by what was measured so far. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/options.h"
#include "cli/plot.h"
#include "cli/resolve.h"
#include "cli/tune.h"
#include "cli/work.h"

enum { MAX_TRIES = 96, MAX_LAYERS = 512, BAR_CELLS = 16, QUICK_S = 55, N_FINALISTS = 3, N_ROUNDS = 3, RUN_OFF_ANSWER = 24 };
enum { CASE_TOKENS = TUNE_PROMPT + TUNE_ANSWER + 1 };

typedef struct try_row {
    tune_choice choice;
    double prefill, decode;     /* tokens/s, medians */
    double fastest, slowest;    /* seconds, of the best and the worst runs put together */
    double looks[1 + N_ROUNDS]; /* seconds: when it was tried, and in the run-off */
    int n_looks;
    int32_t n_streamed; /* layers whose feed-forward the GPU fetched in every step */
    int32_t n_host;     /* layers that are not on the GPU as a whole                */
    char placement[256];
} try_row;

typedef struct tuner {
    cli *c;
    char path[RESOLVE_PATH_BYTES], model[128];
    galen_model_opts base;
    int32_t n_layer, most_layers; /* of the model; the most whole layers that fit the GPU, -1 without one */
    int n_cores, repeats;
    int32_t n_answer;
    double guess[MAX_LAYERS + 1]; /* seconds by the plan, of so many layers as it would stream them; NAN = does not fit */
    try_row tries[MAX_TRIES];
    int n_tries, n_expected; /* the tries and the best are shared as cli/work.h says */
    int best;
    galen_status found;
    cli_exit failed;         /* what a measurement's failure, told of already, exits with */
    double until_s, spent_s; /* with --quick: when to end, and what the tries took together; until_s 0: no end */
    bool is_cut;             /* candidates were left out for it */
} tuner;

static bool is_equal(const tune_choice *a, const tune_choice *b) {
    return a->gpu_layers == b->gpu_layers && a->stream_layers == b->stream_layers && a->n_threads == b->n_threads &&
           a->n_batch == b->n_batch && strcmp(a->kv_type, b->kv_type) == 0;
}

static galen_status measure(tuner *t, try_row *row, int repeats, int32_t n_answer) {
    double prefill[BENCH_MAX_REPEATS], decode[BENCH_MAX_REPEATS];
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_error err = {0};
    galen_model_opts o = t->base;
    galen_session_opts so = galen_session_default_opts();
    o.gpu_layers = row->choice.gpu_layers;
    o.stream_layers = row->choice.stream_layers;
    o.n_threads = row->choice.n_threads;
    o.n_batch = so.n_batch = row->choice.n_batch;
    o.kv_type = so.kv_type = row->choice.kv_type;
    so.n_ctx = o.n_ctx; /* its KV takes the memory that was counted */
    galen_status st = galen_model_open(&m, t->path, &o, &err);
    if (!st) st = galen_session_open(&s, m, &so, &err);
    if (!st) st = bench_prefill(s, m, TUNE_PROMPT, 1, repeats, prefill, &err);
    if (!st) st = bench_decode(s, m, TUNE_PROMPT, n_answer, 1, repeats, decode, &err);
    if (!st) {
        const bench_stat in = bench_stat_of(prefill, repeats), out = bench_stat_of(decode, repeats);
        row->prefill = in.median;
        row->decode = out.median;
        row->choice.seconds = TUNE_PROMPT / in.median + TUNE_ANSWER / out.median;
        row->fastest = TUNE_PROMPT / in.high + TUNE_ANSWER / out.high;
        row->slowest = TUNE_PROMPT / in.low + TUNE_ANSWER / out.low;
        row->looks[0] = row->choice.seconds;
        row->n_looks = 1;
        row->n_streamed = galen_model_get_info(m).n_streamed;
        row->n_host = t->n_layer - galen_model_get_info(m).n_gpu_layers;
        (void)snprintf(row->placement, sizeof row->placement, "%s", galen_model_get_info(m).placement);
    }
    galen_session_close(s);
    galen_model_close(m);
    if (st && st != GALEN_E_NOMEM && st != GALEN_E_CANCELLED) t->failed = engine_fail(t->c, PHASE_USE, &err);
    return st;
}

static const char *layers_text(int32_t layers, char out[16]) {
    if (layers == GALEN_GPU_LAYERS_AUTO)
        (void)snprintf(out, 16, "auto");
    else
        (void)snprintf(out, 16, "%d", layers);
    return out;
}

/* "12 layers on the GPU, 2 threads, 512 rows, KV f16"; without a GPU no layers. */
static void choice_text(const tuner *t, const tune_choice *k, char *out, size_t cap) {
    char layers[16];
    (void)snprintf(out, cap, "%s%s%d thread%s, %d rows, KV %s", t->most_layers < 0 ? "" : layers_text(k->gpu_layers, layers),
                   t->most_layers < 0 ? "" : " layers on the GPU, ", k->n_threads, k->n_threads == 1 ? "" : "s", k->n_batch,
                   k->kv_type);
}

/* On the curve of seconds over layers: streamed as the plan has it, or as was asked. */
static bool is_stated(const try_row *r, int32_t own) {
    return r->choice.gpu_layers >= 0 && r->choice.stream_layers == own && !isnan(r->choice.seconds);
}

/* What measurements say of the guesses: the ratio at the nearest numbers measured on both sides, by distance. NAN seconds: none,
 * or so many layers were measured themselves. */
static double expect(const tuner *t, int32_t layers) {
    double ratio[2] = {0, 0};
    int32_t at[2] = {-1, -1}; /* below, above */
    for (int i = 0; i < t->n_tries; i++) {
        const int32_t n = t->tries[i].choice.gpu_layers;
        if (!is_stated(&t->tries[i], t->base.stream_layers) || isnan(t->guess[n])) continue;
        if (n == layers) return (double)NAN;
        const int side = n > layers;
        if (at[side] >= 0 && abs(at[side] - layers) < abs(n - layers)) continue;
        at[side] = n;
        ratio[side] = t->tries[i].choice.seconds / t->guess[n];
    }
    if (at[0] < 0 && at[1] < 0) return (double)NAN;
    if (at[0] < 0 || at[1] < 0) return t->guess[layers] * ratio[at[0] < 0];
    const double part = (double)(layers - at[0]) / (at[1] - at[0]);
    return t->guess[layers] * (ratio[0] * (1 - part) + ratio[1] * part);
}

/* Seconds that a try takes. */
static double try_s(const tuner *t) {
    return t->spent_s / t->n_tries;
}

/* Whether --quick leaves no time for another and a round of the run-off; the first is measured whatever it takes. */
static bool is_over(tuner *t) {
    const bool is_late = t->until_s > 0 && t->n_tries && clock_s() + (1 + N_FINALISTS) * try_s(t) > t->until_s;
    t->is_cut |= is_late;
    return is_late;
}

/* A candidate that comes out much slower than the tries beside it promise is measured again, and the faster counts: what disturbs
 * a run only slows it. */
static galen_status measure_doubted(tuner *t, try_row *row) {
    static const double doubtful = 1.2;
    const int32_t layers = row->choice.gpu_layers;
    const galen_status st = measure(t, row, t->repeats, t->n_answer);
    if (st || layers < 0 || !(row->choice.seconds > doubtful * expect(t, layers))) return st;
    try_row again = {.choice = row->choice};
    const galen_status second = measure(t, &again, t->repeats, t->n_answer);
    if (!second && again.choice.seconds < row->choice.seconds) *row = again;
    return second == GALEN_E_NOMEM ? GALEN_OK : second; /* the first stands */
}

/* Measure a candidate unless it was; NAN seconds: it does not fit after all. CANCELLED and failures end the search. */
static galen_status consider(tuner *t, tune_choice choice) {
    char line[160], what[112], bar[BAR_CELLS + 1];
    for (int i = 0; i < t->n_tries; i++)
        if (is_equal(&t->tries[i].choice, &choice)) return GALEN_OK;
    if (t->n_tries == MAX_TRIES) return GALEN_OK;
    if (is_over(t)) return GALEN_OK;
    const double start = clock_s();
    try_row *row = &t->tries[t->n_tries];
    *row = (try_row){.choice = choice};
    row->choice.seconds = (double)NAN;
    if (t->n_expected <= t->n_tries) t->n_expected = t->n_tries + 1;
    choice_text(t, &choice, what, sizeof what);
    for (int i = 0; i < BAR_CELLS; i++) bar[i] = i < BAR_CELLS * t->n_tries / t->n_expected ? '#' : ' ';
    bar[BAR_CELLS] = '\0';
    (void)snprintf(line, sizeof line, "[%s] %d of about %d: %s", bar, t->n_tries + 1, t->n_expected, what);
    term_progress_text(t->c, line);
    const galen_status st = measure_doubted(t, row);
    t->spent_s += clock_s() - start;
    if (st && st != GALEN_E_NOMEM) return st;
    work_publish();
    const bool may_win = strcmp(choice.kv_type, t->tries[0].choice.kv_type) == 0;
    if (!st && may_win && (t->best < 0 || row->choice.seconds < t->tries[t->best].choice.seconds)) t->best = t->n_tries;
    t->n_tries++;
    work_published();
    return GALEN_OK;
}

/* A best that the untuned runs reach too is chance: then nothing is changed. After a run-off of medians less than a hundredth is.
 */
static void distrust_noise(tuner *t) {
    const try_row *best = &t->tries[t->best], *first = &t->tries[0];
    if (t->best <= 0 || isnan(first->choice.seconds)) return;
    const bool is_chance = best->n_looks > 1 && first->n_looks == best->n_looks
                               ? 0.99 * first->choice.seconds <= best->choice.seconds
                               : best->slowest >= first->fastest;
    if (is_chance) t->best = 0;
}

static tune_choice best_of(const tuner *t) {
    return t->tries[t->best].choice;
}

/* ---------------------------------------------------------------- what fits, and what it should take */

/* The plan's guess for so many layers; false: they do not fit. */
static bool guess(tuner *t, const galen_model *m, int32_t layers) {
    galen_plan *p = NULL;
    galen_model_opts o = t->base;
    o.gpu_layers = layers;
    const galen_status st = galen_plan_make(&p, m, &o, NULL, NULL);
    const bool ok =
        !st && galen_plan_get_info(p).gpu_name && galen_plan_get_info(p).n_whole >= (layers < t->n_layer ? layers : t->n_layer);
    if (layers <= MAX_LAYERS) t->guess[layers] = ok ? galen_plan_seconds(p, TUNE_PROMPT, TUNE_ANSWER) : (double)NAN;
    galen_plan_close(p);
    return ok;
}

/* n_layer, n_cores, most_layers and the guesses. */
static galen_status look_at_plan(tuner *t, const galen_model *m, galen_error *err) {
    galen_plan *p = NULL;
    galen_status st = galen_plan_make(&p, m, &t->base, NULL, err);
    if (st) return st;
    const galen_plan_info i = galen_plan_get_info(p);
    t->n_layer = i.n_layer;
    t->n_cores = i.n_threads;
    t->most_layers = i.gpu_name ? 0 : -1;
    if (i.n_ctx < CASE_TOKENS) {
        *err = (galen_error){.code = st = GALEN_E_FULL};
        (void)snprintf(err->msg, sizeof err->msg, "a context of %d tokens; what tune measures takes %d", i.n_ctx, CASE_TOKENS);
    }
    for (int32_t n = 0; !st && i.gpu_name && n <= i.n_layer && n <= MAX_LAYERS; n++) {
        if (!guess(t, m, n) && n > 0) break;
        t->most_layers = n;
    }
    galen_plan_close(p);
    return st;
}

/* What the model is and what the plan says of it, without loading anything. */
static galen_status look(tuner *t, galen_error *err) {
    galen_model *m = NULL;
    galen_model_opts o = t->base;
    o.is_vocab_only = true;
    galen_status st = galen_model_open(&m, t->path, &o, err);
    if (st) return st;
    const galen_model_info mi = galen_model_get_info(m);
    (void)snprintf(t->model, sizeof t->model, "%.127s", mi.name && *mi.name ? mi.name : t->path);
    st = look_at_plan(t, m, err);
    galen_model_close(m);
    return st;
}

/* ---------------------------------------------------------------- the search */

/* The best of the tries that state a number of layers; -1 when there is none. */
static int best_stated(const tuner *t) {
    int best = -1;
    for (int i = 0; i < t->n_tries; i++)
        if (is_stated(&t->tries[i], t->base.stream_layers) &&
            (best < 0 || t->tries[i].choice.seconds < t->tries[best].choice.seconds))
            best = i;
    return best;
}

/* The number of layers most worth a measurement; -1: none promises more than the best has. */
static int32_t most_promising(const tuner *t, double best) {
    static const double worth = 0.99;
    int32_t n = -1;
    double least = worth * best;
    for (int32_t i = 0; i <= t->most_layers; i++) {
        const double s = expect(t, i);
        if (isnan(s) || s >= least) continue;
        least = s;
        n = i;
    }
    return n;
}

/* A few points of the curve, then what promises most, then what is beside the best. The plan's own arrangement was tried first
 * and need not be a number of layers. */
static galen_status search_layers(tuner *t) {
    const int parts = t->c->args.quick ? 2 : 4, most_more = t->c->args.quick ? 4 : 12;
    tune_choice c = best_of(t);
    galen_status st = GALEN_OK;
    if (t->most_layers <= 0) return GALEN_OK;
    for (int k = parts; k >= 0 && !st; k--) {
        c.gpu_layers = t->most_layers * k / parts;
        st = consider(t, c);
    }
    for (int i = 0; i < most_more && !st && best_stated(t) >= 0; i++) {
        c.gpu_layers = most_promising(t, t->tries[t->best].choice.seconds);
        if (c.gpu_layers < 0) break;
        st = consider(t, c);
    }
    for (int at = -1; !st && best_stated(t) >= 0 && best_stated(t) != at;) {
        at = best_stated(t);
        for (int side = 1; side >= -1 && !st; side -= 2) {
            c.gpu_layers = t->tries[at].choice.gpu_layers + side;
            if (c.gpu_layers >= 0 && c.gpu_layers <= t->most_layers) st = consider(t, c);
        }
    }
    return st;
}

/* More or fewer feed-forwards fetched in every step than the plan has, as long as that helps. */
static galen_status search_streaming(tuner *t) {
    galen_status st = GALEN_OK;
    const int32_t own = t->tries[t->best].n_streamed, most = t->tries[t->best].n_host;
    const int32_t step = own >= 8 ? own / 4 : own > 2 ? 2 : 1;
    if (own == 0) return GALEN_OK;
    for (int side = 1; side >= -1 && !st; side -= 2) {
        const int was = t->best;
        for (int32_t n = own + side * step; n >= 0 && n <= most && !st; n += side * step) {
            const int before = t->best;
            tune_choice c = best_of(t);
            c.stream_layers = n ? n : GALEN_STREAM_NONE;
            st = consider(t, c);
            if (t->best == before) break;
        }
        if (t->best != was) break;
    }
    return st;
}

static galen_status search_threads(tuner *t) {
    galen_status st = GALEN_OK;
    const int parts[] = {2, 3, 4};                                                   /* of 4 */
    if (t->most_layers == t->n_layer && best_of(t).gpu_layers != 0) return GALEN_OK; /* the host computes nothing */
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !st; i++) {
        tune_choice c = best_of(t);
        c.n_threads = t->n_cores * parts[i] / 4;
        const int n = t->n_tries, was = t->best;
        if (c.n_threads >= 1) st = consider(t, c);
        if (t->n_tries > n && t->best == was) break; /* fewer were slower: still fewer are too */
    }
    return st;
}

static galen_status search_rest(tuner *t) {
    static const int32_t rows[] = {128, 256, 512};
    galen_status st = GALEN_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !st; i++) {
        tune_choice c = best_of(t);
        c.n_batch = rows[i];
        st = consider(t, c);
    }
    if (st || t->c->args.kv_type) return st;
    /* Q8_0 rounds the cache and so changes answers: it is measured and told of, and stays the user's to ask for. */
    tune_choice c = best_of(t);
    (void)snprintf(c.kv_type, sizeof c.kv_type, "q8_0");
    return consider(t, c);
}

/* ---------------------------------------------------------------- the run-off */

/* One more look at a try: its figure is the median of all then. */
static galen_status look_again(tuner *t, try_row *row) {
    try_row again = {.choice = row->choice};
    const galen_status st = measure(t, &again, 1, RUN_OFF_ANSWER);
    if (st) return st;
    work_publish();
    row->looks[row->n_looks++] = again.choice.seconds;
    row->choice.seconds = bench_stat_of(row->looks, row->n_looks).median;
    row->fastest = fmin(row->fastest, again.fastest);
    row->slowest = fmax(row->slowest, again.slowest);
    work_published();
    return GALEN_OK;
}

/* The untuned, the best, and what came within a tenth of it and rounds the cache as it does: indices into tries. Returns how
 * many. */
static int find_finalists(const tuner *t, int out[N_FINALISTS]) {
    int n = 0;
    const tune_choice best = best_of(t);
    if (!isnan(t->tries[0].choice.seconds)) out[n++] = 0;
    while (n < N_FINALISTS) {
        int next = -1;
        for (int i = 1; i < t->n_tries; i++) {
            const tune_choice *c = &t->tries[i].choice;
            bool is_in = false;
            for (int k = 0; k < n; k++) is_in |= out[k] == i;
            if (is_in || isnan(c->seconds) || c->seconds > 1.1 * best.seconds || strcmp(c->kv_type, best.kv_type) != 0) continue;
            if (next < 0 || c->seconds < t->tries[next].choice.seconds) next = i;
        }
        if (next < 0) break;
        out[n++] = next;
    }
    return n;
}

/* The best few are measured again, in turns, so that what drifts on the machine meets all of them alike. Whole rounds only. */
static galen_status run_off(tuner *t) {
    int row[N_FINALISTS];
    const int n = find_finalists(t, row);
    galen_status st = GALEN_OK;
    double round_s = n * try_s(t);
    for (int round = 0; n > 1 && round < N_ROUNDS && !st; round++) {
        char line[160], what[112];
        const double start = clock_s();
        if (t->until_s > 0 && start + round_s > t->until_s) break;
        for (int k = 0; k < n && !st; k++) {
            choice_text(t, &t->tries[row[k]].choice, what, sizeof what);
            (void)snprintf(line, sizeof line, "the best again, round %d of %d: %s", round + 1, N_ROUNDS, what);
            term_progress_text(t->c, line);
            st = look_again(t, &t->tries[row[k]]);
        }
        round_s = clock_s() - start;
    }
    for (int k = 0; k < n; k++)
        if (t->tries[row[k]].choice.seconds < t->tries[t->best].choice.seconds) t->best = row[k];
    return st;
}

static galen_status search(tuner *t) {
    tune_choice first = {
        .gpu_layers = t->base.gpu_layers, .stream_layers = t->base.stream_layers, .n_threads = t->n_cores, .n_batch = 512};
    (void)snprintf(first.kv_type, sizeof first.kv_type, "%s", t->c->args.kv_type ? t->c->args.kv_type : "f16");
    if (option_given(&t->c->args, "threads")) first.n_threads = (int32_t)t->c->args.threads;
    t->n_expected = (t->most_layers > 0 ? 10 : 0) + 7;
    galen_status st = consider(t, first);
    if (!st && t->best < 0) return GALEN_E_NOMEM;
    if (!st && !t->c->args.gpu_layers) st = search_layers(t);
    if (!st && !option_given(&t->c->args, "stream-layers")) st = search_streaming(t);
    if (!st && !option_given(&t->c->args, "threads")) st = search_threads(t);
    if (!st && !t->c->args.quick) st = search_rest(t);
    if (!st) st = run_off(t);
    if (!st) distrust_noise(t);
    return st;
}

/* ---------------------------------------------------------------- out */

static int by_layers(const void *pa, const void *pb) {
    const plot_point *a = pa, *b = pb;
    return (a->x > b->x) - (a->x < b->x);
}

/* Seconds over GPU layers, of the tries that differ in nothing else; without a GPU over threads. */
static void fill_plot(const tuner *t, plot *p) {
    plot_series *s = &p->series[0];
    const bool has_gpu = t->most_layers > 0;
    *p = (plot){.title = t->model,
                .x_name = has_gpu ? "layers on the GPU" : "threads",
                .n_series = 1,
                .y_name = "seconds: 256 tokens read, 50 written"};
    s->name = "measured";
    s->marked = -1;
    for (int i = 0; i < t->n_tries; i++) {
        const tune_choice *c = &t->tries[i].choice, *f = &t->tries[0].choice;
        const bool is_on_curve = strcmp(c->kv_type, f->kv_type) == 0 && c->n_batch == f->n_batch &&
                                 c->stream_layers == f->stream_layers &&
                                 (has_gpu ? c->n_threads == f->n_threads && c->gpu_layers >= 0 : true);
        if (!is_on_curve || isnan(c->seconds)) continue;
        s->points[s->n++] = (plot_point){.x = has_gpu ? c->gpu_layers : c->n_threads,
                                         .y = c->seconds,
                                         .low = t->tries[i].fastest,
                                         .high = t->tries[i].slowest};
    }
    qsort(s->points, (size_t)s->n, sizeof *s->points, by_layers);
    const tune_choice best = best_of(t); /* marked, or the curve's own best where the choice is not on it */
    for (int i = 0; i < s->n; i++)
        if (s->marked < 0 || s->points[i].y < s->points[s->marked].y) s->marked = i;
    for (int i = 0; i < s->n; i++)
        if (s->points[i].y <= best.seconds && s->points[i].y >= best.seconds) s->marked = i;
}

static json_t *json_tries(const tuner *t) {
    json_t *all = json_array();
    for (int i = 0; i < t->n_tries; i++) {
        const try_row *r = &t->tries[i];
        json_t *one = json_pack(
            "{s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:o, s:o, s:o, s:o}", "gpu_layers", r->choice.gpu_layers, "stream_layers",
            r->choice.stream_layers, "n_streamed", r->n_streamed, "threads", r->choice.n_threads, "ubatch", r->choice.n_batch,
            "kv_type", r->choice.kv_type, "looks", r->n_looks, "seconds", json_number(r->choice.seconds), "prefill_tokens_per_s",
            json_number(r->prefill), "decode_tokens_per_s", json_number(r->decode), "placement", json_text0(r->placement));
        if (json_array_append_new(all, one)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

static void print_tries(const tuner *t) {
    char layers[16];
    const bool is_narrow = term_width(t->c) < 72;
    const int w = is_narrow ? 6 : 8, v = is_narrow ? 3 : 7;
    (void)printf("%6s %*s %*s %4s %4s %8s", "layers", w, is_narrow ? "stream" : "streamed", v, is_narrow ? "thr" : "threads",
                 "rows", "KV", "seconds");
    if (!is_narrow) (void)printf(" %12s %12s", "prompt t/s", "answer t/s");
    (void)putchar('\n');
    for (int i = 0; i < t->n_tries; i++) {
        const try_row *r = &t->tries[i];
        (void)printf("%6s %*d %*d %4d %4s ", layers_text(r->choice.gpu_layers, layers), w, r->n_streamed, v, r->choice.n_threads,
                     r->choice.n_batch, r->choice.kv_type);
        if (isnan(r->choice.seconds))
            (void)printf("does not fit");
        else
            (void)printf("%8.3f", r->choice.seconds);
        if (!isnan(r->choice.seconds) && !is_narrow) (void)printf(" %12.1f %12.1f", r->prefill, r->decode);
        (void)puts(i == t->best ? " <-" : "");
    }
}

static void print_text(const tuner *t, const char *title) {
    static plot p; /* large */
    char text[128];
    const try_row *best = &t->tries[t->best], *first = &t->tries[0];
    print_tries(t);
    fill_plot(t, &p);
    (void)putchar('\n');
    if (p.series[0].n > 1) plot_text(&p, stdout, t->c->term.n_columns, term_sgr(t->c, "\033[1m"), term_sgr(t->c, "\033[0m"));
    choice_text(t, &best->choice, text, sizeof text);
    (void)putchar('\n');
    term_fact(t->c, title, (int)strlen(title) + 2, "%s: %.3f s (%.2f times the untuned speed)", text, best->choice.seconds,
              first->choice.seconds / best->choice.seconds);
    term_fact(t->c, "", (int)strlen(title) + 2, "%s", best->placement);
}

/* Another KV type that gains more than noise. */
static void note_kv(const tuner *t) {
    const double own = t->tries[t->best].choice.seconds;
    for (int i = 0; i < t->n_tries; i++) {
        const tune_choice *k = &t->tries[i].choice;
        if (strcmp(k->kv_type, t->tries[0].choice.kv_type) != 0 && k->seconds < 0.95 * own)
            term_note(t->c, "with --kv-type %s, which rounds the cache and so may change answers: %.3f s instead of %.3f",
                      k->kv_type, k->seconds, own);
    }
}

static cli_exit print_json(const tuner *t, const json_t *tries) {
    const tune_choice *b = &t->tries[t->best].choice;
    json_t *root = json_begin(t->c);
    int bad = json_object_set_new(root, "model", json_text0(t->model));
    bad |= json_object_set_new(root, "chosen",
                               json_pack("{s:i, s:i, s:i, s:i, s:s, s:f}", "gpu_layers", b->gpu_layers, "stream_layers",
                                         b->stream_layers, "threads", b->n_threads, "ubatch", b->n_batch, "kv_type", b->kv_type,
                                         "seconds", b->seconds));
    bad |= json_object_set(root, "tries", (json_t *)(uintptr_t)tries);
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(t->c, root, false);
}

static cli_exit write_svg(const tuner *t) {
    static plot p; /* large */
    if (!t->c->args.svg) return CLI_DONE;
    fill_plot(t, &p);
    return plot_write(t->c, &p, t->c->args.svg);
}

static cli_exit finish(tuner *t) {
    json_t *tries = json_tries(t);
    cli_exit st = tries ? CLI_DONE : CLI_MEMORY;
    if (st) {
        term_error(t->c, "out of memory");
        return st;
    }
    if (!t->c->args.no_history) {
        tune_choice *best = &t->tries[t->best].choice;
        galen_model_opts usual = t->base;
        usual.n_ctx = 0;
        usual.kv_type = NULL;
        usual.gpu_layers = best->gpu_layers;
        best->is_default_fit = engine_has_room(t->path, &usual);
        (void)tune_keep(t->c, t->path, best, tries);
    }
    if (t->c->args.json)
        st = print_json(t, tries);
    else
        print_text(t, "chosen");
    note_kv(t);
    json_decref(tries);
    if (!st) st = write_svg(t);
    return signals_stop() ? signals_exit() : st;
}

/* In a thread of its own: cli/work.h. */
static cli_exit run(void *user) {
    tuner *t = user;
    galen_error err = {0};
    const galen_status st = look(t, &err);
    if (st) return engine_fail(t->c, PHASE_LOAD, &err);
    t->found = search(t);
    return CLI_DONE;
}

/* What was measured until Ctrl-C is shown, not kept: half a search is no choice. */
static cli_exit print_cut(const tuner *t, cli_exit st) {
    term_progress_end(t->c);
    if (t->best >= 0 && !t->c->args.json) print_text(t, "best so far");
    term_error(t->c, "interrupted after %d measurement%s: nothing is kept", t->n_tries, t->n_tries == 1 ? "" : "s");
    return st;
}

static cli_exit check_ctx(cli *c) {
    if (!c->args.ctx || c->args.ctx >= CASE_TOKENS) return CLI_DONE;
    term_error(c, "--ctx %lld: tune reads %d tokens and writes %d, so the context must hold %d", (long long)c->args.ctx,
               TUNE_PROMPT, TUNE_ANSWER, CASE_TOKENS);
    return CLI_USAGE;
}

cli_exit verb_tune(cli *c) {
    static tuner t; /* large, and outlives the verb where Ctrl-C abandons the work */
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st) st = check_ctx(c);
    if (!st) st = engine_find(c, name, t.path);
    if (!st) st = engine_model_opts(c, &t.base);
    if (st) return st;
    t.c = c;
    t.best = -1;
    t.failed = CLI_FAILED;
    t.repeats = c->args.quick ? 2 : 3;
    t.until_s = c->args.quick ? clock_s() + QUICK_S : 0;
    t.n_answer = c->args.quick ? 8 : TUNE_ANSWER;
    if (!work_run(run, &t, &st)) work_leave(c, print_cut(&t, st));
    term_progress_end(c);
    if (signals_stop()) return print_cut(&t, signals_exit());
    if (st) return st;
    if (t.is_cut) term_error(c, "--quick ended the search before all were measured; galen tune without it measures on");
    if (t.found == GALEN_E_NOMEM && t.best < 0) {
        term_error(c, "no placement of this model fits; galen plan says what would");
        return CLI_MEMORY;
    }
    return t.found ? t.failed : finish(&t);
}
