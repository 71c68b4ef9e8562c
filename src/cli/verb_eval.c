/* galen eval: labelled cases in; how often the expected condition is first, whether confidences mean something, what the red
 * flags miss, how many questions it takes. Every case is appended to --out as it is done, so that a run that was stopped goes on
 * where it was, and a report can be made again without the model. No word of a case goes anywhere. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/eval_files.h"
#include "cli/eval_text.h"
#include "cli/history.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/reliability.h"
#include "cli/resolve.h"
#include "eval/run.h"

#define NOTE_S 60 /* between two lines about the progress where no line can be rewritten */

typedef struct work {
    cli *c;
    eval_list list;
    eval_results results;          /* what is known: of this run, of an earlier one, or of --from */
    eval_row *rows;                /* of the list's cases, in its order */
    int32_t n_rows, n_run, n_left; /* n_left: still to be run */
    eval_head head;
    galen_model *m;
    galen_codes *codes;
    galen_assistant *a;
    int fd; /* of --out */
    double began_s, told_s;
    int32_t at; /* the case that is being run */
    FILE *svg;
    bool is_svg_written;
} work;

static cli_exit no_memory(cli *c) {
    term_error(c, "out of memory");
    return CLI_MEMORY;
}

/* ------------------------------------------------------------ what is asked for */

static cli_exit usage(cli *c, const char *why) {
    term_error(c, "eval: %s (galen help eval)", why);
    return CLI_USAGE;
}

static cli_exit check(const work *w) {
    cli *c = w->c;
    const cli_args *a = &c->args;
    if (a->from && a->n_positional) return usage(c, "--from makes the report of earlier results; it takes no cases");
    if (!a->from && !a->n_positional) return usage(c, "no FILE: labelled cases, one JSON object a line, or --from RESULTS");
    if (a->no_model && a->model) return usage(c, "both --model and --no-model");
    if (a->no_model && a->svg) return usage(c, "--svg plots a model's confidences; with --no-model there are none");
    if (a->from && a->out) return usage(c, "--from reads results, --out writes them; give one");
    return engine_check_chat_format(c);
}

/* Before an hour of work: can the plot be written? What is there stays until the end. */
static cli_exit open_svg(work *w) {
    char safe[256];
    if (!w->c->args.svg) return CLI_DONE;
    const int fd = open(w->c->args.svg, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    w->svg = fd < 0 ? NULL : fdopen(fd, "w");
    if (w->svg) return CLI_DONE;
    if (fd >= 0) (void)close(fd);
    term_error(w->c, "%s: cannot be written", term_safe(w->c->args.svg, safe, sizeof safe));
    return CLI_FAILED;
}

/* A plot that was not made leaves no empty file. */
static void close_svg(work *w) {
    struct stat s;
    if (!w->svg) return;
    if (!w->is_svg_written && fstat(fileno(w->svg), &s) == 0 && s.st_size == 0) (void)unlink(w->c->args.svg);
    (void)fclose(w->svg);
}

static cli_exit read_cases(work *w) {
    cli *c = w->c;
    w->list.limit = (int32_t)c->args.limit;
    w->list.skip = (int32_t)c->args.skip;
    for (int i = 0; i < c->args.n_positional && !w->list.is_limited; i++) {
        const cli_exit st = eval_read_cases(c, &w->list, i, c->args.positional[i]);
        if (st) return st;
    }
    if (w->list.n == 0 && w->list.n_skipped) return usage(c, "--skip leaves no case");
    if (w->list.n == 0) {
        term_error(c, "there is no case to evaluate");
        return CLI_USAGE;
    }
    w->rows = calloc((size_t)w->list.n, sizeof *w->rows);
    return w->rows ? CLI_DONE : no_memory(c);
}

/* ------------------------------------------------------------ the model */

static bool on_event(void *user, const galen_assist_event *e) {
    (void)user, (void)e;
    return !signals_stop();
}

static void on_signal(void *user) {
    galen_assistant_cancel(user);
}

/* Without --model and GALEN_MODEL a missing demo model is no error: what needs no model is measured. */
static bool has_model(const work *w) {
    bool has = true;
    const char *env = getenv("GALEN_MODEL");
    if (w->c->args.no_model) return false;
    if (w->c->args.model || (env && *env)) return true;
    resolved *r = calloc(1, sizeof *r);
    if (r) has = resolve_model(r, NULL);
    free(r);
    if (!has)
        term_note(w->c, "no model: only red flags and codes are measured (`make demo` fetches a small one; --model names one)");
    return has;
}

static cli_exit find_calibration(work *w) {
    galen_error err = {0};
    galen_calibration *k = &w->head.calibration;
    galen_status st = hist_fingerprint(w->c, w->m, w->head.model_sha256, &err);
    if (!st) st = galen_calibration_find(w->head.model_sha256, k, &err);
    return st && st != GALEN_E_NOT_FOUND ? engine_fail(w->c, PHASE_LOAD, &err) : CLI_DONE;
}

static cli_exit open_assistant(work *w) {
    const cli_args *a = &w->c->args;
    galen_error err = {0};
    galen_assistant_opts o = galen_assistant_default_opts();
    galen_calibration *k = &w->head.calibration;
    o.n_ctx = (int32_t)a->ctx;
    o.n_batch = w->c->n_batch;
    o.kv_type = a->kv_type;
    o.seed = (uint64_t)a->seed;
    o.prompts_dir = a->prompts;
    o.n_samples = -1; /* a second signal, which no figure here is of */
    o.max_questions = w->head.max_questions;
    o.codes = w->codes;
    o.calibration = k->n_cases ? k : NULL;
    o.on_event = on_event;
    if (galen_assistant_open(&w->a, w->m, &o, &err)) return engine_fail(w->c, PHASE_USE, &err);
    signals_on_stop(on_signal, w->a);
    (void)snprintf(w->head.prompt_version, sizeof w->head.prompt_version, "%s", galen_assistant_prompt_version(w->a));
    if (k->n_cases && k->prompt_version[0] && strcmp(k->prompt_version, w->head.prompt_version) != 0) {
        term_note(w->c, "this model's calibration is of other prompts and does not count");
        *k = galen_calibration_none();
    }
    return CLI_DONE;
}

static cli_exit open_model(work *w) {
    cli *c = w->c;
    const cli_exit st = engine_open(c, c->args.model, false, &w->m);
    if (st) return st;
    const galen_model_info i = galen_model_get_info(w->m);
    const char *slash = strrchr(i.path, '/');
    (void)snprintf(w->head.model_name, sizeof w->head.model_name, "%.95s",
                   i.name && *i.name ? i.name
                   : slash           ? slash + 1
                                     : i.path);
    (void)snprintf(w->head.device, sizeof w->head.device, "%.95s", i.device ? i.device : "");
    w->head.max_questions = option_given(&c->args, "questions") ? (int32_t)c->args.questions : 10;
    const cli_exit found = find_calibration(w);
    return found ? found : open_assistant(w);
}

static cli_exit open_all(work *w) {
    galen_error err = {0};
    char safe[GALEN_ERROR_MSG_BYTES];
    w->head = (eval_head){.seed = (uint64_t)w->c->args.seed, .calibration = galen_calibration_none()};
    if (galen_codes_open(&w->codes, NULL, &err)) term_note(w->c, "no codes: %s", term_safe(err.msg, safe, sizeof safe));
    if (w->codes) (void)snprintf(w->head.code_release, sizeof w->head.code_release, "%.63s", galen_codes_release(w->codes));
    cli_exit st = has_model(w) ? open_model(w) : CLI_DONE;
    if (!st && w->c->args.svg && !w->m) st = usage(w->c, "--svg plots a model's confidences, and there is no model");
    if (!st && w->c->args.out) st = eval_open_out(w->c, w->c->args.out, &w->head, &w->fd, &w->results);
    return st;
}

/* ------------------------------------------------------------ the cases */

/* "case 12 of 107, question 3, about 14 min left". Beside a terminal a line now and then. */
static void tell(void *user, const char *what) {
    work *w = user;
    char line[160], left[48] = "";
    const double now = clock_s(), each = w->n_run ? (now - w->began_s) / w->n_run : 0;
    const double rest = each * w->n_left;
    if (w->n_run && rest >= 90)
        (void)snprintf(left, sizeof left, ", about %.0f min left", rest / 60);
    else if (w->n_run)
        (void)snprintf(left, sizeof left, ", about %.0f s left", rest);
    (void)snprintf(line, sizeof line, "case %d of %d%s%s%s", w->at + 1, w->list.n, *what ? ", " : "", what, left);
    if (w->c->term.is_err_tty) {
        term_progress_text(w->c, line);
    } else if (now - w->told_s >= NOTE_S) {
        term_note(w->c, "%s", line);
        w->told_s = now;
    }
}

static cli_exit run_case(work *w, const eval_case *k) {
    galen_error err = {0};
    eval_row row;
    const eval_run run = {.codes = w->codes, .a = w->a, .max_questions = w->head.max_questions, .tell = tell, .user = w};
    if (eval_case_run(&run, k, &row, &err)) return engine_fail(w->c, PHASE_USE, &err);
    if (results_add(&w->results, &row, &err)) return engine_fail(w->c, PHASE_USE, &err);
    w->n_run++;
    w->n_left--;
    return w->c->args.out ? eval_append(w->c, w->fd, w->c->args.out, row_json(&row)) : CLI_DONE;
}

static cli_exit run_cases(work *w) {
    cli_exit st = CLI_DONE;
    int32_t n_earlier = 0;
    for (int32_t i = 0; i < w->list.n; i++) n_earlier += results_find(&w->results, w->list.cases[i].key) != NULL;
    if (n_earlier) term_note(w->c, "%d of %d cases are in %s already", n_earlier, w->list.n, w->c->args.out);
    w->n_left = w->list.n - n_earlier;
    w->began_s = w->told_s = clock_s();
    for (w->at = 0; w->at < w->list.n && !st; w->at++) {
        if (results_find(&w->results, w->list.cases[w->at].key)) continue;
        if (w->m) tell(w, "");
        st = run_case(w, &w->list.cases[w->at]);
        if (!st && signals_stop()) st = signals_exit();
    }
    term_progress_end(w->c);
    for (int32_t i = 0; i < w->list.n; i++) {
        const eval_row *r = results_find(&w->results, w->list.cases[i].key);
        if (r) w->rows[w->n_rows++] = *r;
    }
    const int32_t n_left = w->list.n - w->n_rows;
    if (n_left && !w->n_rows)
        term_error(w->c, "none of the %d cases is done: there is nothing to report", w->list.n);
    else if (n_left)
        term_error(w->c, "%d of %d cases are not done; the report is of the others%s", n_left, w->list.n,
                   w->c->args.out ? ", and the same command goes on from there" : "");
    return st;
}

/* ------------------------------------------------------------ the report */

static json_t *json_input(const work *w) {
    json_t *problems = json_array(), *files = json_array();
    const eval_list *l = &w->list;
    const int64_t n = l->n_broken + l->n_twice;
    for (int i = 0; i < w->c->args.n_positional && files; i++) {
        if (json_array_append_new(files, json_text0(w->c->args.positional[i]))) return NULL;
    }
    for (int64_t i = 0; i < n && i < EVAL_MAX_PROBLEMS; i++) {
        const eval_problem *p = &l->problems[i];
        if (json_array_append_new(problems,
                                  json_pack("{s:i, s:I, s:s}", "file", (int)p->file, "line", (json_int_t)p->line, "why", p->why)))
            return NULL;
    }
    return json_pack("{s:o, s:i, s:I, s:I, s:I, s:b, s:i, s:o}", "files", files, "cases", (int)l->n, "n_broken",
                     (json_int_t)l->n_broken, "n_twice", (json_int_t)l->n_twice, "n_skipped", (json_int_t)l->n_skipped,
                     "is_limited", l->is_limited, "n_not_done", (int)(l->n - w->n_rows), "problems", problems);
}

/* What a results file is of, without what makes it a line. */
static json_t *json_run(const eval_head *h) {
    json_t *j = head_json(h);
    if (json_object_del(j, "kind") == 0 && json_object_del(j, "schema_version") == 0) return j;
    json_decref(j);
    return NULL;
}

static json_t *json_other(const eval_comparison *k, const eval_head *other) {
    json_t *j = k ? eval_comparison_json(k) : json_null();
    if (!k || json_object_set_new(j, "other", json_run(other)) == 0) return j;
    json_decref(j);
    return NULL;
}

static cli_exit print_json(const work *w, const eval_report *r, const eval_comparison *k, const eval_head *other) {
    json_t *root = json_begin(w->c), *report = eval_report_json(r);
    int bad = !report || json_object_update_missing(root, report);
    json_decref(report);
    bad |= json_object_set_new(root, "run", json_run(&w->head));
    bad |= json_object_set_new(root, "input", w->c->args.from ? json_null() : json_input(w));
    bad |= json_object_set_new(root, "intended_use", json_string(galen_assist_intended_use()));
    bad |= json_object_set_new(root, "comparison", json_other(k, other));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(w->c, root, false);
}

static cli_exit write_svg(work *w, const eval_report *r) {
    char model[72], line[160], safe[256];
    if (!w->svg) return CLI_DONE;
    if (!r->n_scored) {
        term_error(w->c, "no case with a diagnosis has a list: there is nothing to plot");
        return CLI_FAILED;
    }
    (void)term_safe(w->head.model_name, model, sizeof model);
    (void)snprintf(line, sizeof line, "%d cases, five confidences each; %s; ECE %.3f [%.3f, %.3f]", (int)r->n_scored,
                   r->is_calibrated ? "calibrated" : "uncalibrated", r->shown.ece.value, r->shown.ece.low, r->shown.ece.high);
    const reliability plot = {"Reliability of the confidences", {model, line}, r->bins, r->is_calibrated ? r->raw_bins : NULL};
    w->is_svg_written = ftruncate(fileno(w->svg), 0) == 0 && reliability_svg(&plot, w->svg) && fflush(w->svg) == 0;
    if (w->is_svg_written) return CLI_DONE;
    term_error(w->c, "%s: cannot be written", term_safe(w->c->args.svg, safe, sizeof safe));
    return CLI_FAILED;
}

static cli_exit report(work *w, const eval_row *rows, int32_t n) {
    cli *c = w->c;
    galen_error err = {0};
    eval_results other = {.n = 0};
    eval_comparison k;
    eval_report *r = malloc(sizeof *r);
    cli_exit st = r ? CLI_DONE : no_memory(c);
    if (!st && eval_report_make(rows, n, &w->head, r, &err)) st = engine_fail(c, PHASE_USE, &err);
    if (!st && c->args.against) st = eval_read_results(c, c->args.against, &other);
    if (!st && c->args.against && eval_compare(rows, n, other.rows, other.n, &k, &err)) st = engine_fail(c, PHASE_USE, &err);
    if (!st && c->args.json) st = print_json(w, r, c->args.against ? &k : NULL, &other.head);
    if (!st && !c->args.json) {
        eval_text_report(c, r, &w->head);
        if (c->args.against) eval_text_comparison(c, &k, &other.head);
    }
    if (!st) st = write_svg(w, r);
    results_free(&other);
    free(r);
    return st;
}

static cli_exit from_cases(work *w) {
    cli_exit st = read_cases(w);
    if (!st) st = open_svg(w);
    if (!st) st = open_all(w);
    if (st) return st;
    const cli_exit ran = run_cases(w);
    if (ran && w->n_rows == 0) return ran;
    st = report(w, w->rows, w->n_rows);
    return ran ? ran : st;
}

static cli_exit from_results(work *w) {
    cli_exit st = eval_read_results(w->c, w->c->args.from, &w->results);
    if (!st) st = open_svg(w);
    w->head = w->results.head;
    return st ? st : report(w, w->results.rows, w->results.n);
}

cli_exit verb_eval(cli *c) {
    work w = {.c = c, .fd = -1};
    cli_exit st = check(&w);
    if (!st) st = c->args.from ? from_results(&w) : from_cases(&w);
    signals_on_stop(NULL, NULL);
    if (w.fd >= 0) (void)close(w.fd);
    close_svg(&w);
    galen_assistant_close(w.a);
    galen_codes_close(w.codes);
    galen_model_close(w.m);
    eval_list_free(&w.list);
    results_free(&w.results);
    free(w.rows);
    return st;
}
