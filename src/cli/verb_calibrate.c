/* galen calibrate: labelled cases in, the temperature that makes a model's confidences mean something out.
 *
 * What the model says of a case is seventeen numbers and which of the six was right; they are appended to SHA.partial in the
 * calibration folder as each case is done, no word of it, so that a run that was stopped goes on where it was. Cases with an even
 * number fit, the others measure. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assist/calibration.h"
#include "assist/cases.h"
#include "base/sha256.h"
#include "cli/history.h"
#include "cli/json.h"
#include "cli/options.h"

typedef struct work {
    cli *c;
    galen_model *m;
    galen_codes *codes;
    galen_assistant *a;
    char model_sha256[SHA256_HEX_BYTES], cases_sha256[SHA256_HEX_BYTES], prompt_version[40];
    char path[4096], partial[4096];
    text_buf text;
    labelled_case *cases;
    int32_t n_cases, n_unlabelled;
    fit_case *seen; /* [n_cases] */
    bool *is_seen, *is_skipped;
    int fd; /* of the partial file */
} work;

static cli_exit no_memory(cli *c) {
    term_error(c, "out of memory");
    return CLI_MEMORY;
}

/* ------------------------------------------------------------ cases */

static cli_exit read_cases(work *w) {
    cli *c = w->c;
    uint8_t hash[SHA256_BYTES];
    char safe[128];
    size_t cap = 0;
    int line = 0;
    if (!c->args.cases) {
        term_error(c, "calibrate needs --cases FILE: labelled cases, one JSON object a line (galen help calibrate)");
        return CLI_USAGE;
    }
    const cli_exit st = input_read(c, c->args.cases, &w->text);
    if (st) return st;
    sha256_of(w->text.bytes, w->text.n, hash);
    sha256_hex(hash, w->cases_sha256);
    for (const char *p = w->text.bytes, *end = p + w->text.n; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const size_t n = (size_t)((nl ? nl : end) - p);
        labelled_case one;
        galen_error err = {0};
        line++;
        if (strspn(p, " \t\r") >= n) { /* the buffer ends with a NUL */
            p += n + 1;
            continue;
        }
        if (cases_parse(p, n, &one, &err)) {
            term_error(c, "%s:%d: %s", term_safe(c->args.cases, safe, sizeof safe), line, err.msg);
            return err.code == GALEN_E_NOMEM ? CLI_MEMORY : CLI_USAGE;
        }
        p += n + 1;
        if (one.n_names == 0) {
            w->n_unlabelled++;
            cases_free(&one);
            continue;
        }
        if ((size_t)w->n_cases == cap) {
            cap = cap * 2 + 64;
            labelled_case *more = realloc(w->cases, cap * sizeof *more);
            if (!more) {
                cases_free(&one);
                return no_memory(c);
            }
            w->cases = more;
        }
        w->cases[w->n_cases++] = one;
    }
    if (w->n_cases >= FIT_LEAST) return CLI_DONE;
    term_error(c, "%s: %d cases with a diagnosis; calibration needs at least %d", term_safe(c->args.cases, safe, sizeof safe),
               w->n_cases, FIT_LEAST);
    return CLI_USAGE;
}

/* ------------------------------------------------------------ the partial file */

static bool numbers(const json_t *list, double *out, size_t n) {
    if (json_array_size(list) != n) return false;
    for (size_t i = 0; i < n; i++) {
        if (!json_is_number(json_array_get(list, i))) return false;
        out[i] = json_number_value(json_array_get(list, i));
    }
    return true;
}

static void take_line(work *w, const json_t *j) {
    const json_int_t i = json_integer_value(json_object_get(j, "case"));
    fit_case f = {.has_choice = json_is_true(json_object_get(j, "has_choice")),
                  .n_text = (int32_t)json_integer_value(json_object_get(j, "n_text")),
                  .right = (int32_t)json_integer_value(json_object_get(j, "right"))};
    if (i < 0 || i >= w->n_cases) return;
    if (json_is_true(json_object_get(j, "is_skipped"))) {
        w->is_seen[i] = w->is_skipped[i] = true;
        return;
    }
    const bool is_whole = numbers(json_object_get(j, "name"), f.name, GALEN_N_CONDITIONS) &&
                          numbers(json_object_get(j, "choice"), f.choice, FIT_OPTIONS) &&
                          numbers(json_object_get(j, "patient"), f.text, GALEN_N_CONDITIONS) && f.right >= 0 && f.right <= 5;
    if (!is_whole) return;
    w->seen[i] = f;
    w->is_seen[i] = true;
}

static json_t *head(const work *w) {
    return json_pack("{s:s, s:s, s:s, s:I}", "model_sha256", w->model_sha256, "cases_sha256", w->cases_sha256, "prompt_version",
                     w->prompt_version, "seed", (json_int_t)w->c->args.seed);
}

/* What an earlier run left, if it was of the same model, cases, prompts and seed. A last line that is cut is left out. */
static int32_t resume(work *w) {
    int32_t n = 0;
    char line[2048];
    json_t *mine = head(w);
    FILE *f = fopen(w->partial, "re");
    bool is_same = false;
    for (int k = 0; f && fgets(line, sizeof line, f); k++) {
        json_t *j = json_loads(line, 0, NULL);
        if (k == 0) is_same = mine && json_equal(j, mine);
        if (k && is_same && j) take_line(w, j);
        json_decref(j);
        if (!is_same) break;
    }
    if (f) (void)fclose(f);
    json_decref(mine);
    for (int32_t i = 0; i < w->n_cases; i++) n += w->is_seen[i];
    return is_same ? n : -1;
}

static cli_exit append(work *w, json_t *j) {
    char *line = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(j);
    if (!line) return no_memory(w->c);
    const size_t n = strlen(line);
    line[n] = '\n'; /* in place of the NUL: one write, so that a kill leaves whole lines */
    const bool is_written = write(w->fd, line, n + 1) == (ssize_t)n + 1;
    free(line);
    if (is_written) return CLI_DONE;
    term_error(w->c, "%s: %s", w->partial, strerror(errno));
    return CLI_FAILED;
}

static json_t *numbers_json(const double *v, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_real(v[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static cli_exit open_partial(work *w) {
    galen_error err = {0};
    const int32_t n = resume(w);
    if (n < 0) {
        if (calibration_write(w->partial, "", 0, &err)) return engine_fail(w->c, PHASE_WRITE, &err);
    }
    w->fd = open(w->partial, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (w->fd < 0) {
        term_error(w->c, "%s: %s", w->partial, strerror(errno));
        return CLI_FAILED;
    }
    if (n > 0) term_note(w->c, "going on after %d of %d cases", n, w->n_cases);
    return n < 0 ? append(w, head(w)) : CLI_DONE;
}

/* ------------------------------------------------------------ the model */

static bool on_event(void *user, const galen_assist_event *e) {
    (void)user, (void)e;
    return !signals_stop();
}

static void on_signal(void *user) {
    galen_assistant_cancel(user);
}

static cli_exit open_all(work *w, const char *model) {
    cli *c = w->c;
    galen_error err = {0};
    char name[SHA256_HEX_BYTES + 16];
    cli_exit st = engine_open(c, model, false, &w->m);
    if (st) return st;
    galen_status got = hist_fingerprint(c, w->m, w->model_sha256, &err);
    if (!got) {
        (void)snprintf(name, sizeof name, "%s.json", w->model_sha256);
        got = calibration_path(name, w->path, sizeof w->path, &err);
    }
    if (!got) {
        (void)snprintf(name, sizeof name, "%s.partial", w->model_sha256);
        got = calibration_path(name, w->partial, sizeof w->partial, &err);
    }
    if (got) return engine_fail(c, PHASE_LOAD, &err);
    (void)galen_codes_open(&w->codes, NULL, NULL);
    if (!w->codes) term_note(c, "no table of codes: synonyms of a diagnosis count as wrong");
    galen_assistant_opts o = galen_assistant_default_opts();
    o.n_ctx = (int32_t)c->args.ctx;
    o.n_batch = c->n_batch;
    o.kv_type = c->args.kv_type;
    o.seed = (uint64_t)c->args.seed;
    o.prompts_dir = c->args.prompts;
    o.n_samples = -1;
    o.has_no_urgency = true;
    o.codes = w->codes;
    o.on_event = on_event;
    if (galen_assistant_open(&w->a, w->m, &o, &err)) return engine_fail(c, PHASE_USE, &err);
    (void)snprintf(w->prompt_version, sizeof w->prompt_version, "%s", galen_assistant_prompt_version(w->a));
    signals_on_stop(on_signal, w->a);
    return CLI_DONE;
}

static cli_exit run_case(work *w, int32_t i) {
    galen_error err = {0};
    galen_differential d;
    const galen_status st = galen_assistant_diagnose(w->a, w->cases[i].text, w->cases[i].n, &d, &err);
    const bool is_skipped = st == GALEN_E_REFUSED || st == GALEN_E_FULL;
    if (st && !is_skipped) return engine_fail(w->c, PHASE_USE, &err);
    w->is_seen[i] = true;
    w->is_skipped[i] = is_skipped;
    if (is_skipped) return append(w, json_pack("{s:i, s:b}", "case", i, "is_skipped", 1));
    fit_case *f = &w->seen[i];
    cases_scores(&w->cases[i], &d, w->codes, f);
    return append(w, json_pack("{s:i, s:b, s:i, s:i, s:o, s:o, s:o}", "case", i, "has_choice", f->has_choice, "right",
                               (int)f->right, "n_text", f->n_text, "name", numbers_json(f->name, GALEN_N_CONDITIONS), "choice",
                               numbers_json(f->choice, FIT_OPTIONS), "patient", numbers_json(f->text, GALEN_N_CONDITIONS)));
}

static cli_exit run_cases(work *w) {
    cli_exit st = open_partial(w);
    for (int32_t i = 0; i < w->n_cases && !st; i++) {
        term_progress(w->c, "cases", (uint64_t)i, (uint64_t)w->n_cases);
        if (!w->is_seen[i]) st = run_case(w, i);
        if (!st && signals_stop()) st = signals_exit();
    }
    term_progress_end(w->c);
    if (st == CLI_SIGINT || st == CLI_SIGTERM) term_note(w->c, "what was done is kept; the same command goes on from there");
    return st;
}

/* ------------------------------------------------------------ fit and tell */

static void put_row(const char *name, const fit_interval *raw, const fit_interval *fitted) {
    (void)printf("  %-12s %.3f [%.3f, %.3f]      %.3f [%.3f, %.3f]\n", name, raw->value, raw->low, raw->high, fitted->value,
                 fitted->low, fitted->high);
}

static cli_exit tell(work *w, const galen_calibration *k, const fit_report *held, const fit_report *raw, int32_t n_fit,
                     int32_t n_skipped, json_t *content) {
    cli *c = w->c;
    if (c->args.json) {
        json_t *root = json_begin(c);
        int bad = json_object_update_missing(root, content);
        bad |= json_object_set_new(root, "path", json_text0(w->path));
        bad |= json_object_set_new(root, "n_skipped", json_integer(n_skipped));
        bad |= json_object_set_new(root, "n_unlabelled", json_integer(w->n_unlabelled));
        if (bad) {
            json_decref(root);
            root = NULL;
        }
        return json_end(c, root, false);
    }
    (void)printf("cases          %d to fit, %d held out, %d skipped, %d without a diagnosis\n", n_fit, k->n_cases, n_skipped,
                 w->n_unlabelled);
    (void)printf("temperature    %.3f   name weight %.3f   text weight %.3f   bias of other %.3f\n", k->temperature,
                 k->name_weight, k->text_weight, k->other_bias);
    (void)printf("held out       uncalibrated              calibrated              (95 %% intervals)\n");
    put_row("ECE", &raw->ece, &held->ece);
    put_row("Brier", &raw->brier, &held->brier);
    put_row("AUROC", &raw->auroc, &held->auroc);
    put_row("first right", &raw->top1, &held->top1);
    put_row("in the five", &raw->top5, &held->top5);
    (void)printf("written        %s\n", w->path);
    return CLI_DONE;
}

static cli_exit fit_and_write(work *w) {
    cli *c = w->c;
    galen_error err = {0};
    galen_calibration k = galen_calibration_none(), before = k;
    fit_report held, raw;
    int32_t n_fit = 0, n_held = 0, n_used = 0;
    fit_case *fit = calloc((size_t)w->n_cases, sizeof *fit), *test = calloc((size_t)w->n_cases, sizeof *test);
    char *bytes = NULL;
    json_t *content = NULL;
    cli_exit st = fit && test ? CLI_DONE : no_memory(c);
    for (int32_t i = 0; i < w->n_cases && !st; i++) {
        if (w->is_skipped[i]) continue;
        if (n_used++ % 2 == 0)
            fit[n_fit++] = w->seen[i];
        else
            test[n_held++] = w->seen[i];
    }
    if (!st && n_used < FIT_LEAST) {
        term_error(c, "%d of %d cases could be read; calibration needs at least %d", n_used, w->n_cases, FIT_LEAST);
        st = CLI_USAGE;
    }
    if (st) goto done;
    fit_calibration(fit, n_fit, &k);
    k.n_cases = n_held;
    (void)snprintf(k.model_sha256, sizeof k.model_sha256, "%s", w->model_sha256);
    (void)snprintf(k.prompt_version, sizeof k.prompt_version, "%s", w->prompt_version);
    if (fit_measure(test, n_held, &k, 1, &held, &err) || fit_measure(test, n_held, &before, 1, &raw, &err)) {
        st = engine_fail(c, PHASE_USE, &err);
        goto done;
    }
    content = calibration_json(&k, &held, &raw, n_fit, galen_model_get_info(w->m).name, w->cases_sha256);
    bytes = content ? json_dumps(content, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    if (!bytes) st = no_memory(c);
    if (!st && calibration_write(w->path, bytes, strlen(bytes), &err)) st = engine_fail(c, PHASE_WRITE, &err);
    if (!st) (void)unlink(w->partial);
    if (!st) st = tell(w, &k, &held, &raw, n_fit, w->n_cases - n_used, content);
done:
    json_decref(content);
    free(bytes);
    free(fit);
    free(test);
    return st;
}

cli_exit verb_calibrate(cli *c) {
    work w = {.c = c, .fd = -1};
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st) st = read_cases(&w);
    if (!st) {
        w.seen = calloc((size_t)w.n_cases, sizeof *w.seen);
        w.is_seen = calloc((size_t)w.n_cases, sizeof *w.is_seen);
        w.is_skipped = calloc((size_t)w.n_cases, sizeof *w.is_skipped);
        if (!w.seen || !w.is_seen || !w.is_skipped) st = no_memory(c);
    }
    if (!st) st = open_all(&w, name);
    if (!st) st = run_cases(&w);
    if (!st) st = fit_and_write(&w);
    signals_on_stop(NULL, NULL);
    if (w.fd >= 0) (void)close(w.fd);
    galen_assistant_close(w.a);
    galen_codes_close(w.codes);
    galen_model_close(w.m);
    for (int32_t i = 0; i < w.n_cases; i++) cases_free(&w.cases[i]);
    free(w.cases);
    free(w.seen);
    free(w.is_seen);
    free(w.is_skipped);
    free(w.text.bytes);
    return st;
}
