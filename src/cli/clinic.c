#include "cli/clinic.h"

#include <stdlib.h>
#include <string.h>

#include "cli/banner.h"
#include "cli/history.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/ranking.h"

static cli_exit no_memory(cli *c) {
    term_error(c, "out of memory");
    return CLI_MEMORY;
}

/* ------------------------------------------------------------ what the assistant tells on its way */

/* A condition as it is written: one line that is rewritten, since the list can be ranked only at its end. */
static void on_name(clinic *k, const galen_assist_event *e) {
    const size_t room = sizeof k->considered - k->n_considered - 1;
    const int n =
        snprintf(k->considered + k->n_considered, room, "%s%.*s%s", k->n_considered ? "" : "considering: ", (int)e->text_len,
                 e->text, e->is_end && e->index + 1 < GALEN_N_CONDITIONS ? ", " : "");
    if (n > 0) k->n_considered += (size_t)n < room ? (size_t)n : room - 1;
    term_progress_text(k->c, k->considered);
}

static void on_triage(clinic *k, const galen_triage *t) {
    size_t n;
    const char *text = galen_assistant_text(k->a, &n);
    term_progress_end(k->c);
    if (k->n_triage++ && !k->prints_turns && !k->is_silent) banner_print(k->c, t, text, n);
    clinic_turn(k, "triage", record_triage(t, text, n));
}

static bool on_event(void *user, const galen_assist_event *e) {
    clinic *k = user;
    if (e->part == GALEN_PART_CONDITION) on_name(k, e);
    if (e->part == GALEN_PART_QUESTION && e->index == 0) term_progress_text(k->c, "writing questions");
    if (e->part == GALEN_PART_QUESTIONS) {
        k->q = *e->questions;
        k->has_questions = true;
    }
    if (e->part == GALEN_PART_TRIAGE) on_triage(k, e->triage);
    return !signals_stop() && !ferror(stdout);
}

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    const clinic *k = user;
    return done < total ? engine_prefill_progress(k->c, done, total) : !signals_stop();
}

static void on_signal(void *user) {
    galen_assistant_cancel(user);
}

/* ------------------------------------------------------------ open, close */

/* The model's fingerprint, when a calibration could need it; remembered by the store, so that 8 GB are read once. */
static cli_exit find_calibration(clinic *k) {
    galen_error err = {0};
    if (!galen_calibration_any()) return CLI_DONE;
    if (!k->sha256[0]) {
        const galen_status st = hist_fingerprint(k->c, k->m, k->sha256, &err);
        if (st) return engine_fail(k->c, PHASE_LOAD, &err);
    }
    const galen_status st = galen_calibration_find(k->sha256, &k->calibration, &err);
    return st && st != GALEN_E_NOT_FOUND ? engine_fail(k->c, PHASE_LOAD, &err) : CLI_DONE;
}

static void open_codes(clinic *k) {
    galen_error err = {0};
    char safe[GALEN_ERROR_MSG_BYTES];
    const galen_status st = galen_codes_open(&k->codes, NULL, &err);
    if (st) term_note(k->c, "no codes: %s", term_safe(err.msg, safe, sizeof safe));
}

int32_t clinic_samples(const cli *c) {
    return !option_given(&c->args, "samples") ? 0 : c->args.samples ? (int32_t)c->args.samples : -1;
}

cli_exit clinic_open_model(clinic *k, const char *name) {
    return engine_open(k->c, name, false, &k->m);
}

cli_exit clinic_open(clinic *k) {
    cli *c = k->c;
    galen_error err = {0};
    const cli_exit st = find_calibration(k);
    if (st) return st;
    open_codes(k);
    galen_assistant_opts o = galen_assistant_default_opts();
    o.n_ctx = (int32_t)c->args.ctx;
    o.n_batch = c->n_batch;
    o.kv_type = c->args.kv_type;
    o.seed = (uint64_t)c->args.seed;
    o.prompts_dir = c->args.prompts;
    o.n_samples = k->n_samples;
    o.max_questions = (int32_t)c->args.max_questions;
    o.codes = k->codes;
    o.calibration = k->calibration.n_cases ? &k->calibration : NULL;
    o.on_event = on_event;
    o.progress = on_progress;
    o.user = k;
    if (galen_assistant_open(&k->a, k->m, &o, &err)) return engine_fail(c, PHASE_USE, &err);
    signals_on_stop(on_signal, k->a);
    return CLI_DONE;
}

void clinic_close(clinic *k) {
    signals_on_stop(NULL, NULL);
    galen_assistant_close(k->a);
    galen_codes_close(k->codes);
    galen_model_close(k->m);
}

/* ------------------------------------------------------------ a case */

void clinic_use(clinic *k) {
    const bool is_tty = k->c->term.is_out_tty;
    if (k->has_said_use) return;
    term_wrap(stdout, galen_assist_intended_use(), is_tty ? k->c->term.n_columns : 1 << 20);
    (void)putchar('\n');
    k->has_said_use = true;
}

cli_exit clinic_banner(clinic *k, const char *text, size_t n) {
    galen_error err = {0};
    galen_triage *t = malloc(sizeof *t);
    if (!t) return no_memory(k->c);
    const galen_status st = galen_triage_text(text, n, t, &err);
    if (!st && banner_is_needed(t)) {
        clinic_use(k);
        banner_print(k->c, t, text, n);
    }
    free(t);
    return st && st != GALEN_E_REFUSED ? engine_fail(k->c, PHASE_USE, &err) : CLI_DONE;
}

void clinic_turn(clinic *k, const char *kind, json_t *content) {
    if (k->prints_turns) {
        json_t *root = json_pack("{s:i, s:s}", "schema_version", RECORD_SCHEMA_VERSION, "turn", kind);
        if (content && json_object_update(root, content)) {
            json_decref(root);
            root = NULL;
        }
        (void)json_end(k->c, root, true);
        (void)fflush(stdout);
    }
    if (k->put)
        k->put(k->put_user, kind, content);
    else
        json_decref(content);
}

static void turn_differential(clinic *k) {
    const record_run run = clinic_run(k);
    clinic_turn(k, "differential", record_differential(&k->d, k->has_questions ? &k->q : NULL, k->text, k->n, &run));
}

cli_exit clinic_diagnose(clinic *k, const char *text, size_t n) {
    galen_error err = {0};
    k->text = text;
    k->n = n;
    k->has_questions = false;
    k->n_triage = 0;
    k->n_considered = 0;
    clinic_turn(k, "symptoms", record_symptoms(text, n));
    const galen_status st = galen_assistant_diagnose(k->a, text, n, &k->d, &err);
    term_progress_end(k->c);
    if (st) return engine_fail(k->c, PHASE_USE, &err);
    turn_differential(k);
    return CLI_DONE;
}

cli_exit clinic_questions(clinic *k, galen_error *why) {
    *why = (galen_error){0};
    const galen_status st = galen_assistant_questions(k->a, &k->q, why);
    term_progress_end(k->c);
    k->has_questions = !st;
    for (int i = 0; i < GALEN_N_QUESTIONS && !st; i++) {
        galen_question one = k->q.questions[i];
        one.number = i + 1;
        clinic_turn(k, "question", record_question(&one));
    }
    return st ? engine_fail(k->c, PHASE_USE, why) : CLI_DONE;
}

record_run clinic_run(const clinic *k) {
    const galen_model_info i = galen_model_get_info(k->m);
    return (record_run){.model_name = i.name, .model_sha256 = k->sha256, .device = i.device, .seed = (uint64_t)k->c->args.seed};
}

void clinic_show(const clinic *k, const double *change, bool has_details) {
    const galen_questions *q = k->has_questions ? &k->q : NULL;
    if (k->c->term.is_out_tty) {
        ranking_print_title(k->c, &k->d);
        (void)putchar('\n');
        ranking_print_table(k->c, &k->d, q, k->text, k->n, change, has_details);
    } else {
        ranking_print_form(k->c, &k->d);
    }
    ranking_print_doubts(k->c, &k->d);
    (void)fflush(stdout);
}

/* ------------------------------------------------------------ the loop */

static const char help[] =
    "yes, no, unknown, or a few words; /why: why this question, /list: the ranking with what speaks for and "
    "against, /quit: enough";

static void put_question(clinic *k, const galen_question *q) {
    (void)printf("\n%s%d. %s%s%s\n", term_sgr(k->c, "\033[1m"), q->number, q->reason == GALEN_ASK_RED_FLAG ? "(red flag) " : "",
                 q->text, term_sgr(k->c, "\033[0m"));
    (void)fflush(stdout);
}

static void why(clinic *k, const galen_question *q) {
    if (q->reason == GALEN_ASK_RED_FLAG) (void)printf("A yes would be a red flag (rule %s). ", q->flag_id);
    (void)printf("The answer is expected to remove %.2f of %.2f bits. How likely a yes is, by the model:\n", q->bits,
                 k->d.entropy_bits);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) (void)printf("  %.2f  %s\n", q->p_yes[i], k->d.conditions[i].name);
    (void)printf("  %.2f  none of these\n", q->p_yes_other);
    (void)fflush(stdout);
}

static bool is_word(const char *text, size_t n, const char *word) {
    return strlen(word) == n && memcmp(text, word, n) == 0;
}

/* A command: true when the line was one. */
static bool command(clinic *k, const galen_question *q, const char *text, size_t n, bool *is_quit) {
    if (n == 0 || text[0] != '/') return false;
    *is_quit = is_word(text, n, "/quit") || is_word(text, n, "/exit");
    if (*is_quit) return true;
    if (k->prints_turns)
        term_error(k->c, "with --json there is /quit; the turns say the rest");
    else if (is_word(text, n, "/why"))
        why(k, q);
    else if (is_word(text, n, "/list"))
        clinic_show(k, NULL, true);
    else
        term_error(k->c, "%s", help);
    return true;
}

galen_status clinic_answer(clinic *k, const galen_question *q, galen_answer_kind kind, const char *text, size_t n,
                           galen_update *u, galen_error *err) {
    const galen_status st = galen_assistant_answer(k->a, kind, text, n, u, err);
    term_progress_end(k->c);
    if (st) return st;
    k->d = u->now;
    clinic_turn(k, "answer", record_answer(q->number, kind, text, n));
    turn_differential(k);
    return st;
}

galen_status clinic_next(clinic *k, galen_question *q, galen_stop *stop, galen_error *err) {
    const galen_status st = galen_assistant_ask(k->a, q, stop, err);
    term_progress_end(k->c);
    if (!st && *stop) clinic_turn(k, "closed", record_closed(*stop));
    if (!st && !*stop) clinic_turn(k, "question", record_question(q));
    return st;
}

static cli_exit take(clinic *k, const galen_question *q, const char *text, size_t n) {
    galen_error err = {0};
    galen_update *u = calloc(1, sizeof *u);
    if (!u) return no_memory(k->c);
    const galen_answer_kind kind = is_word(text, n, "?") ? GALEN_ANSWER_UNKNOWN : GALEN_ANSWER_TEXT;
    const galen_status got = clinic_answer(k, q, kind, text, n, u, &err);
    cli_exit st = CLI_DONE;
    if (got == GALEN_E_REFUSED && k->c->term.is_out_tty)
        term_error(k->c, "%s", help);
    else if (got)
        st = engine_fail(k->c, PHASE_USE, &err);
    if (!got && !k->prints_turns) {
        (void)putchar('\n');
        clinic_show(k, u->change, false);
    }
    free(u);
    return st;
}

static void put_end(const clinic *k, galen_stop stop) {
    static const char *const reasons[] = {"", "one condition stands out", "no question is expected to tell more",
                                          "as many questions as were allowed", "stopped"};
    if (!k->prints_turns) (void)printf("\nNo more questions: %s.\n", reasons[stop]);
}

/* One line for the open question. LINE_END and /quit end the loop as the user's wish. */
static cli_exit one_answer(clinic *k, line_reader *lines, const galen_question *q, bool *is_over, bool *is_quit) {
    for (;;) {
        const char *text;
        size_t n;
        const line_result got = line_next(lines, &text, &n);
        if (got == LINE_SIGNAL || signals_stop()) return signals_exit();
        if (got == LINE_FAILED) {
            term_error(k->c, "standard input cannot be read");
            return CLI_FAILED;
        }
        *is_over = got == LINE_END;
        if (*is_over) return CLI_DONE;
        if (command(k, q, text, n, is_quit)) {
            *is_over = *is_quit;
            if (*is_quit) return CLI_DONE;
            continue;
        }
        if (n == 0) continue;
        return take(k, q, text, n);
    }
}

cli_exit clinic_ask(clinic *k, line_reader *lines, bool *is_quit) {
    bool is_over = false, quit = false;
    while (!is_over) {
        galen_question q;
        galen_stop stop;
        galen_error err = {0};
        if (clinic_next(k, &q, &stop, &err)) return engine_fail(k->c, PHASE_USE, &err);
        if (stop) {
            put_end(k, stop);
            return CLI_DONE;
        }
        if (!k->prints_turns) put_question(k, &q);
        const cli_exit st = one_answer(k, lines, &q, &is_over, &quit);
        if (st) return st;
    }
    if (is_quit) *is_quit = quit;
    clinic_turn(k, "closed", record_closed(GALEN_STOP_USER));
    put_end(k, GALEN_STOP_USER);
    return CLI_DONE;
}

/* ------------------------------------------------------------ chat --assistant */

static cli_exit chat_case(clinic *k, line_reader *lines, const char *text, size_t n, bool *is_quit) {
    galen_error err = {0};
    cli_exit st = k->prints_turns ? CLI_DONE : clinic_banner(k, text, n);
    if (!st && galen_symptoms_check(text, n, &err)) st = engine_fail(k->c, PHASE_USE, &err);
    if (!st) st = clinic_diagnose(k, text, n);
    if (st) return st;
    if (!k->prints_turns) clinic_show(k, NULL, true);
    return clinic_ask(k, lines, is_quit);
}

/* The line is gone with the next one: the case has a copy. */
static cli_exit one_case(clinic *k, line_reader *lines, const char *line, size_t n, bool *is_quit, clinic_case_fn on_case) {
    char *text = malloc(n + 1);
    if (!text) return no_memory(k->c);
    memcpy(text, line, n);
    text[n] = '\0';
    if (on_case) on_case(k, true);
    const cli_exit st = chat_case(k, lines, text, n, is_quit);
    if (on_case) on_case(k, false);
    free(text);
    return st;
}

cli_exit clinic_chat(clinic *k, line_reader *lines, clinic_case_fn on_case) {
    const bool is_person = k->c->term.is_out_tty && k->c->term.is_err_tty;
    if (!k->prints_turns) clinic_use(k);
    term_note(k->c, "describe the symptoms in a line; then answer the questions; /quit or Ctrl-D ends");
    for (bool is_quit = false; !is_quit;) {
        const char *line;
        size_t n;
        (void)fflush(stdout);
        const line_result got = line_next(lines, &line, &n);
        if (got == LINE_SIGNAL || signals_stop()) return signals_exit();
        if (got != LINE_TEXT) return got == LINE_FAILED ? CLI_FAILED : CLI_DONE;
        if (n == 0) continue;
        is_quit = is_word(line, n, "/quit") || is_word(line, n, "/exit");
        if (is_quit) break;
        if (line[0] == '/') {
            term_error(k->c, "describe the symptoms first; %s", help);
            continue;
        }
        cli_exit st = one_case(k, lines, line, n, &is_quit, on_case);
        if ((st == CLI_REFUSED || st == CLI_CONTEXT) && is_person) st = CLI_DONE; /* a better description may follow */
        if (st) return st;
    }
    return CLI_DONE;
}
