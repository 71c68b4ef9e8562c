/* galen diagnose: symptoms in; red flags, five ranked conditions and questions out. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/case_history.h"
#include "cli/clinic.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/ranking.h"

static json_t *json_usage(const galen_assist_usage *u) {
    return json_pack("{s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "n_prompt", u->n_prompt, "n_generated", u->n_generated,
                     "n_scored", u->n_scored, "n_calls", u->n_calls, "prefill_s", u->prefill_s, "decode_s", u->decode_s,
                     "score_s", u->score_s, "first_condition_s", u->first_condition_s, "ranked_s", u->ranked_s, "total_s",
                     u->total_s);
}

/* q NULL: the questions failed, and `why` says how. */
static cli_exit print_json(clinic *k, const galen_questions *q, const char *why) {
    cli *c = k->c;
    const record_run run = clinic_run(k);
    json_t *root = json_begin(c), *found = record_differential(&k->d, q, k->text, k->n, &run), *timings = json_object();
    int bad = !root || !found || json_object_update_missing(root, found);
    json_decref(found);
    bad |= json_object_set_new(timings, "load_s", json_number(c->load_s));
    bad |= json_object_set_new(timings, "conditions", json_usage(&k->d.usage));
    bad |= json_object_set_new(timings, "questions", q ? json_usage(&q->usage) : json_null());
    bad |= json_object_set_new(root, "triage", record_triage(galen_assistant_triage(k->a), k->text, k->n));
    bad |= json_object_set_new(root, "questions", q ? record_questions(q) : json_null());
    if (why) bad |= json_object_set_new(root, "error", json_text0(why));
    bad |= json_object_set_new(root, "timings", timings);
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

static void print_questions(const galen_questions *q) {
    for (int i = 0; i < GALEN_N_QUESTIONS; i++) (void)printf("%d. %s\n", i + 1, q->questions[i].text);
    (void)fflush(stdout);
}

static void note_speed(cli *c, const galen_differential *d, const galen_questions *q) {
    const galen_result r = {.n_prompt = d->usage.n_prompt + q->usage.n_prompt,
                            .n_generated = d->usage.n_generated + q->usage.n_generated,
                            .prefill_s = d->usage.prefill_s + q->usage.prefill_s,
                            .decode_s = d->usage.decode_s + q->usage.decode_s};
    engine_note_speed(c, &r);
}

/* Five conditions, five questions. */
static cli_exit run_once(clinic *k) {
    cli *c = k->c;
    galen_error err;
    if (!c->args.json) {
        clinic_use(k);
        clinic_show(k, NULL, true);
        (void)printf("\n%sFollow-up questions%s\n\n", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"));
        (void)fflush(stdout);
    }
    const cli_exit st = clinic_questions(k, &err);
    if (c->args.json) {
        const cli_exit written = print_json(k, st ? NULL : &k->q, st ? err.msg : NULL);
        if (written) return written;
    }
    if (st) return st;
    if (!c->args.json) print_questions(&k->q);
    note_speed(c, &k->d, &k->q);
    return CLI_DONE;
}

static cli_exit run_interactive(clinic *k) {
    line_reader *lines = line_open(k->c, "> ");
    if (!lines) {
        term_error(k->c, "out of memory");
        return CLI_MEMORY;
    }
    if (!k->prints_turns) {
        clinic_use(k);
        clinic_show(k, NULL, true);
    }
    const cli_exit st = clinic_ask(k, lines, NULL);
    line_close(lines);
    return st;
}

/* A line from the person at the terminal: the answers will come from there too. */
static cli_exit ask_symptoms(cli *c, text_buf *out) {
    line_reader *lines = line_open(c, "> ");
    const char *line = NULL;
    line_result got = LINE_TEXT;
    if (!lines) goto no_memory;
    term_note(c, "describe the symptoms in a line: what is felt, where, since when, how strong; age and sex");
    while (got == LINE_TEXT && out->n == 0) got = line_next(lines, &line, &out->n);
    out->bytes = calloc(out->n + 1, 1);
    if (!out->bytes) goto no_memory;
    if (got == LINE_TEXT)
        memcpy(out->bytes, line, out->n);
    else
        (void)putchar('\n'); /* Ctrl-D left the prompt's line open */
    line_close(lines);
    return signals_stop() ? signals_exit() : got == LINE_FAILED ? CLI_FAILED : CLI_DONE;
no_memory:
    line_close(lines);
    term_error(c, "out of memory");
    return CLI_MEMORY;
}

/* [MODEL] [SYMPTOMS]: one argument is the symptoms, unless they come by --file or it is plainly a model file. */
static cli_exit read_arguments(cli *c, const char **model, text_buf *text) {
    const char *first = c->args.n_positional ? c->args.positional[0] : NULL, *symptoms = NULL;
    const size_t n = first ? strlen(first) : 0;
    const bool is_file = n > 5 && strcmp(first + n - 5, ".gguf") == 0;
    const char *positional_model = NULL;
    if (c->args.n_positional == 2) {
        positional_model = first;
        symptoms = c->args.positional[1];
    } else if (first && (is_file || c->args.file)) {
        positional_model = first;
    } else {
        symptoms = first;
    }
    const cli_exit st = engine_model_name(c, positional_model, model);
    if (!st && !symptoms && !c->args.file && c->term.is_out_tty && isatty(STDIN_FILENO)) return ask_symptoms(c, text);
    if (!st && c->args.interactive && !symptoms && (!c->args.file || strcmp(c->args.file, "-") == 0)) {
        term_error(c,
                   "diagnose --interactive: the answers come from standard input; give the symptoms as an argument or by --file");
        return CLI_USAGE;
    }
    return st ? st : input_query(c, symptoms, "description of symptoms", text);
}

/* What needs no model: the red flags, and whether the text says enough. */
static cli_exit before_model(clinic *k, const text_buf *text) {
    galen_error err = {0};
    cli_exit st = k->c->args.json ? CLI_DONE : clinic_banner(k, text->bytes, text->n);
    if (!st && galen_symptoms_check(text->bytes, text->n, &err)) st = engine_fail(k->c, PHASE_USE, &err);
    return st;
}

static cli_exit run(clinic *k, const char *model, const text_buf *text) {
    case_history h = {0};
    cli_exit st = clinic_open_model(k, model);
    if (st == CLI_MODEL && k->c->args.n_positional == 2)
        (void)fputs("(the first of two arguments is the model; symptoms of several words go in quotes)\n", stderr);
    if (st) return st;
    case_history_start(&h, k);
    st = clinic_open(k);
    if (!st) st = clinic_diagnose(k, text->bytes, text->n);
    if (!st) case_history_audit(&h, k);
    if (!st) st = k->c->args.interactive ? run_interactive(k) : run_once(k);
    case_history_end(&h, k, st);
    return st;
}

cli_exit verb_diagnose(cli *c) {
    text_buf text = {0};
    clinic k = {.c = c, .n_samples = clinic_samples(c), .prints_turns = c->args.json && c->args.interactive};
    const char *name;
    cli_exit st = engine_check_chat_format(c); /* a wrong command line says only that */
    if (!st) st = read_arguments(c, &name, &text);
    if (!st) st = before_model(&k, &text);
    if (!st) st = run(&k, name, &text);
    clinic_close(&k);
    free(text.bytes);
    return st;
}
