/* galen monitor: a live view of processor, memory, GPU and the engines at work. --once prints one look, --json one object (with
 * --once) or one a line. Without ncurses, or where standard output is no terminal, looks are printed one after the other. */
#include <math.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/machine.h"
#include "cli/options.h"

#ifdef GALEN_HAVE_NCURSES
#include <ncurses.h>
#endif

#define GIB ((double)(1u << 30))
enum { N_HISTORY = 240, LINE = 256, MAX_LINES = 96, MOST_CELLS = 30 };

/* A look as lines of text, the same for the live view and for a pipe. */
typedef struct page {
    char lines[MAX_LINES][LINE];
    int n, width; /* width: of the lines, in columns */
} page;

typedef struct monitor {
    cli *c;
    sampler_state *state;
    sample s;
    double history[2][N_HISTORY]; /* GPU busy %, tokens/s; the newest last, NAN before the first */
    page page;
} monitor;

/* A line, or several where it is wider than the page: the others begin two columns further in. */
static void put(page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(page *p, const char *fmt, ...) {
    char text[2 * LINE];
    const char *at = text;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const int indent = (int)strspn(text, " ") + 2, most = p->width < LINE - 8 ? p->width : LINE - 8;
    for (bool is_first = true; *at && p->n < MAX_LINES; is_first = false) {
        const int left = is_first ? 0 : indent, room = most - left > 8 ? most - left : 8;
        int n = (int)strlen(at);
        if (n > room) {
            n = room;
            while (n > 0 && at[n] != ' ') n--;
            if (n == 0) n = room; /* one long word */
        }
        (void)snprintf(p->lines[p->n++], LINE, "%*s%.*s", left, "", n, at);
        at += n;
        while (*at == ' ') at++;
    }
}

/* "  busy    [#####     ] 51 % of 2 cores": the bar takes what the words leave; NAN: not told. */
static void put_bar(page *p, const char *label, double part, const char *words) {
    char cells[MOST_CELLS + 1];
    const int room = p->width - 13 - (int)strlen(words), n = room < 4 ? 4 : room > MOST_CELLS ? MOST_CELLS : room;
    const int full = !(part > 0) ? 0 : part > 1 ? n : (int)(part * n + 0.5);
    memset(cells, '#', (size_t)full);
    memset(cells + full, ' ', (size_t)(n - full));
    cells[n] = '\0';
    if (isnan(part))
        put(p, "  %-7s not told", label);
    else if (p->n < MAX_LINES)
        (void)snprintf(p->lines[p->n++], LINE, "  %-7s [%s] %s", label, cells, words);
}

/* ", 61 C" or nothing: figures that are not told are left out. */
static const char *figure(const char *fmt, double v, char out[32]) {
    out[0] = '\0';
    if (!isnan(v)) (void)snprintf(out, 32, fmt, v);
    return out;
}

static void page_gpu(page *p, const nvml_gpu *g) {
    char words[64], a[4][32], reasons[96] = "";
    size_t n = 0;
    put(p, "GPU  %s", g->name[0] ? g->name : "(name not told)");
    (void)snprintf(words, sizeof words, "%.0f %%", isnan(g->gpu_percent) ? 0 : g->gpu_percent);
    put_bar(p, "busy", g->gpu_percent / 100, words);
    (void)snprintf(words, sizeof words, "%.1f of %.1f GiB", (double)g->memory_used / GIB, (double)g->memory_total / GIB);
    if (g->memory_total) put_bar(p, "memory", (double)g->memory_used / (double)g->memory_total, words);
    put(p, "  %s%s%s%s", figure("%.0f C ", g->temp_c, a[0]), figure(" %.0f W", g->power_w, a[1]),
        figure(" of %.0f W ", g->power_limit_w, a[2]), figure(" fan %.0f %%", g->fan_percent, a[3]));
    for (const nvml_throttle *t = nvml_throttle_rows; g->throttle > 0 && t->bit; t++)
        if (((uint64_t)g->throttle & t->bit) && n < sizeof reasons - 32)
            n += (size_t)snprintf(reasons + n, sizeof reasons - n, "%s%s", n ? ", " : "", t->name);
    put(p, "  clock  %s%s%s%s", figure("%.0f", g->sm_mhz, a[0]), figure(" of %.0f MHz", g->sm_max_mhz, a[1]), n ? ", held: " : "",
        reasons);
}

static void page_engine(page *p, const running_info *e, uint64_t rss) {
    char name[128];
    put(p, "%s  (%s, process %d)", term_safe(e->model, name, sizeof name), e->verb, e->pid);
    put(p, "  %s", e->placement[0] ? e->placement : "placement not told");
    put(p, "  %.1f tokens/s, context %lld of %lld", e->tokens_per_s, (long long)e->ctx_used, (long long)e->ctx_size);
    put(p, "  %d running, %d waiting, %.1f GiB resident", e->n_running, e->n_waiting, (double)rss / GIB);
}

/* The last columns of a history as digits of height 0..8, scaled to its largest. */
static void page_history(page *p, const char *name, const double *h, int columns) {
    static const char *const heights[] = {" ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
    char text[LINE - 40];
    double most = 0;
    size_t n = 0;
    const int from = columns < N_HISTORY ? N_HISTORY - columns : 0;
    for (int i = from; i < N_HISTORY; i++) most = h[i] > most ? h[i] : most; /* NAN compares false */
    for (int i = from; i < N_HISTORY && n + 4 < sizeof text; i++) {
        const int level = isnan(h[i]) || most <= 0 ? 0 : (int)(h[i] / most * 8 + 0.5);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s", heights[level]);
    }
    if (p->n < MAX_LINES) (void)snprintf(p->lines[p->n++], LINE, "%-9s %s %.0f", name, text, most);
}

static void build_page(monitor *m, int n_columns, bool has_history) {
    const sample *s = &m->s;
    char words[64], time_text[32] = "";
    struct tm tm;
    const time_t now = (time_t)s->time_s;
    page *p = &m->page;
    p->n = 0;
    p->width = n_columns;
    if (localtime_r(&now, &tm)) (void)strftime(time_text, sizeof time_text, "%H:%M:%S", &tm);
    put(p, "galen monitor  %s", time_text);
    put(p, "CPU  %s", s->host.cpu[0] ? s->host.cpu : "(name not told)");
    (void)snprintf(words, sizeof words, "%.0f %% of %d cores", isnan(s->cpu_percent) ? 0 : s->cpu_percent, s->host.n_cores);
    put_bar(p, "busy", s->cpu_percent / 100, words);
    (void)snprintf(words, sizeof words, "%.1f of %.1f GiB", (double)(s->host.memory_total - s->host.memory_free) / GIB,
                   (double)s->host.memory_total / GIB);
    if (s->host.memory_total) put_bar(p, "memory", 1 - (double)s->host.memory_free / (double)s->host.memory_total, words);
    for (int32_t i = 0; i < s->n_gpus; i++) page_gpu(p, &s->gpus[i]);
    if (!s->n_gpus) put(p, "GPU  none (%.200s)", s->gpu_why[0] ? s->gpu_why : "no NVIDIA GPU");
    if (has_history) {
        if (s->n_gpus) page_history(p, "GPU %", m->history[0], n_columns - 20);
        page_history(p, "tokens/s", m->history[1], n_columns - 20);
    }
    for (size_t i = 0; i < s->n_engines; i++) page_engine(p, &s->engines[i], s->engine_rss[i]);
    if (!s->n_engines) put(p, "no engine of this user is running");
}

static void look(monitor *m) {
    double rate = 0;
    sample_take(m->state, &m->s);
    for (size_t i = 0; i < m->s.n_engines; i++)
        if (m->s.time_s - m->s.engines[i].updated_s <= 2) rate += m->s.engines[i].tokens_per_s;
    for (int k = 0; k < 2; k++) memmove(m->history[k], m->history[k] + 1, (N_HISTORY - 1) * sizeof(double));
    m->history[0][N_HISTORY - 1] = m->s.n_gpus ? m->s.gpus[0].gpu_percent : (double)NAN;
    m->history[1][N_HISTORY - 1] = rate;
}

/* ---------------------------------------------------------------- JSON */

static json_t *json_gpu(const nvml_gpu *g) {
    json_t *reasons = json_array();
    for (const nvml_throttle *t = nvml_throttle_rows; g->throttle > 0 && t->bit; t++)
        if ((uint64_t)g->throttle & t->bit) (void)json_array_append_new(reasons, json_string(t->name));
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:i}", "name",
                     json_text0(g->name), "uuid", json_text0(g->uuid), "memory_total", (json_int_t)g->memory_total, "memory_used",
                     (json_int_t)g->memory_used, "memory_free", (json_int_t)g->memory_free, "busy_percent",
                     json_number(g->gpu_percent), "temp_c", json_number(g->temp_c), "power_w", json_number(g->power_w),
                     "power_limit_w", json_number(g->power_limit_w), "fan_percent", json_number(g->fan_percent), "sm_mhz",
                     json_number(g->sm_mhz), "sm_max_mhz", json_number(g->sm_max_mhz), "throttle", reasons, "compute", g->compute,
                     "pcie_gen", g->pcie_gen, "pcie_width", g->pcie_width, "n_processes", g->n_processes);
}

static cli_exit print_json(monitor *m, bool is_line) {
    const sample *s = &m->s;
    json_t *root = json_begin(m->c), *gpus = json_array();
    int bad = 0;
    for (int32_t i = 0; i < s->n_gpus; i++) bad |= json_array_append_new(gpus, json_gpu(&s->gpus[i]));
    bad |= json_object_set_new(root, "time", json_integer((json_int_t)s->time_s));
    bad |= json_object_set_new(root, "cpu",
                               json_pack("{s:o, s:i, s:o}", "name", json_text0(s->host.cpu), "n_cores", s->host.n_cores,
                                         "busy_percent", json_number(s->cpu_percent)));
    bad |= json_object_set_new(
        root, "memory",
        json_pack("{s:I, s:I}", "total", (json_int_t)s->host.memory_total, "free", (json_int_t)s->host.memory_free));
    bad |= json_object_set_new(root, "gpus", gpus);
    bad |= json_object_set_new(root, "gpu_absent", s->n_gpus ? json_null() : json_text0(s->gpu_why));
    bad |= json_object_set_new(root, "engines", json_engines(s));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    const cli_exit st = json_end(m->c, root, is_line);
    (void)fflush(stdout);
    return st;
}

static void print_page(const page *p) {
    for (int i = 0; i < p->n; i++) (void)printf("%s\n", p->lines[i]);
    (void)fflush(stdout);
}

/* Wait up to ms; false when a signal asked for the end. */
static bool wait_ms(int ms) {
    for (; ms > 0 && !signals_stop(); ms -= 100) (void)poll(NULL, 0, ms < 100 ? ms : 100);
    return !signals_stop();
}

/* ---------------------------------------------------------------- live */

#ifdef GALEN_HAVE_NCURSES
/* A terminal whose cursor can be moved. */
static bool is_screen(const cli *c) {
    const char *kind = getenv("TERM");
    return c->term.is_out_tty && kind && *kind && strcmp(kind, "dumb") != 0;
}

static cli_exit run_live(monitor *m, int interval_ms) {
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (!screen) {
        term_error(m->c, "the terminal cannot be used (TERM=%s); galen monitor --once prints one look", getenv("TERM"));
        return CLI_FAILED;
    }
    (void)noecho();
    (void)cbreak();
    (void)curs_set(0);
    for (bool goes_on = true; goes_on;) {
        look(m);
        build_page(m, COLS, true);
        (void)erase();
        for (int i = 0; i < m->page.n && i < LINES - 1; i++) (void)mvaddnstr(i, 0, m->page.lines[i], -1);
        (void)mvaddnstr(LINES - 1, 0, "q ends", -1);
        (void)refresh();
        for (int left = interval_ms; left > 0 && goes_on; left -= 100) {
            timeout(left < 100 ? left : 100);
            const int key = getch();
            if (key == 'q' || key == 'Q' || key == 27 || signals_stop()) goes_on = false;
            if (key == KEY_RESIZE || key == ' ') break;
        }
    }
    (void)endwin();
    delscreen(screen);
    return CLI_DONE;
}
#endif

static cli_exit run_plain(monitor *m, int interval_ms) {
    cli_exit st = CLI_DONE;
    do {
        look(m);
        build_page(m, m->c->term.n_columns, false);
        if (m->c->args.json)
            st = print_json(m, true);
        else
            print_page(&m->page);
    } while (!st && !ferror(stdout) && wait_ms(interval_ms));
    return st;
}

cli_exit verb_monitor(cli *c) {
    static monitor m; /* large */
    galen_error err = {0};
    const int interval_ms = option_given(&c->args, "interval") ? (int)(c->args.interval * 1000) : 1000;
    m.c = c;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < N_HISTORY; i++) m.history[k][i] = (double)NAN;
    if (sampler_state_open(&m.state, "", NULL, NULL, &err)) {
        term_error(c, "%s", err.msg);
        return CLI_MEMORY;
    }
    cli_exit st;
    if (c->args.once) {
        (void)wait_ms(200); /* the processor's load needs two looks */
        look(&m);
        build_page(&m, c->term.n_columns, false);
        st = c->args.json ? print_json(&m, false) : CLI_DONE;
        if (!c->args.json) print_page(&m.page);
#ifdef GALEN_HAVE_NCURSES
    } else if (is_screen(c) && isatty(STDIN_FILENO) && !c->args.json) {
        st = run_live(&m, interval_ms);
#endif
    } else {
        st = run_plain(&m, interval_ms);
    }
    sampler_state_close(m.state);
    return st ? st : signals_stop() ? signals_exit() : CLI_DONE;
}
