/* galen diagnose: symptoms in, five ranked conditions and five questions out. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/history.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/turns.h"
#include "galen/assist.h"

typedef struct view {
    cli *c;
    char considered[GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 2) + 16]; /* the progress line */
    size_t n_considered;
    bool is_line_open; /* a question is being written */
    int column;        /* where, on a terminal        */
} view;

/* A condition as it is written: one line that is rewritten, since the list can be ranked only at its end. */
static void on_name(view *v, const galen_assist_event *e) {
    const size_t room = sizeof v->considered - v->n_considered - 1;
    const int n =
        snprintf(v->considered + v->n_considered, room, "%s%.*s%s", v->n_considered ? "" : "considering: ", (int)e->text_len,
                 e->text, e->is_end && e->index + 1 < GALEN_N_CONDITIONS ? ", " : "");
    if (n > 0) v->n_considered += (size_t)n < room ? (size_t)n : room - 1;
    term_progress_text(v->c, v->considered);
}

/* Whole words, on a terminal wrapped below the question's first one. A piece begins at a word or at the blank before it. */
static void put_words(view *v, const char *text, size_t n) {
    const int n_columns = v->c->term.is_out_tty ? v->c->term.n_columns : INT_MAX;
    for (size_t i = 0; i < n;) {
        size_t end = i + (text[i] == ' ');
        int width = text[i] == ' ';
        for (; end < n && text[end] != ' '; end++) width += ((unsigned char)text[end] & 0xC0) != 0x80;
        if (v->column > 3 && v->column + width > n_columns) {
            (void)fputs("\n   ", stdout);
            i += text[i] == ' ';
            v->column = 3;
            continue;
        }
        term_write(v->c, text + i, end - i);
        v->column += width;
        i = end;
    }
}

static void on_question(view *v, const galen_assist_event *e) {
    term_progress_end(v->c);
    if (!v->is_line_open) v->column = printf("%d. ", e->index + 1);
    v->is_line_open = !e->is_end;
    put_words(v, e->text, e->text_len);
    if (e->is_end) (void)putchar('\n');
    (void)fflush(stdout);
}

static bool on_text(void *user, const galen_assist_event *e) {
    view *v = user;
    if (e->part == GALEN_PART_CONDITION)
        on_name(v, e);
    else if (!v->c->args.json)
        on_question(v, e);
    return !signals_stop() && !ferror(stdout);
}

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    view *v = user;
    return engine_prefill_progress(v->c, done, total);
}

static void on_signal(void *user) {
    galen_assistant_cancel(user);
}

static void print_conditions(const cli *c, const galen_differential *d) {
    if (c->term.is_out_tty)
        term_wrap(stdout, galen_assist_intended_use(), c->term.n_columns);
    else
        (void)printf("%s\n", galen_assist_intended_use());
    (void)printf("\n%sPossible conditions%s%s(confidence: %s)\n", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"),
                 c->term.is_out_tty && c->term.n_columns < 66 ? "\n" : " ", galen_assist_confidence_meaning(d->is_calibrated));
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        (void)printf("\n- diagnosis: %s%s%s\n", term_sgr(c, "\033[1m"), d->conditions[i].name, term_sgr(c, "\033[0m"));
        (void)printf("- confidence: %.2f\n", d->conditions[i].confidence);
    }
    (void)fflush(stdout);
}

static json_t *json_conditions(const galen_differential *d) {
    json_t *list = json_array();
    for (int i = 0; i < GALEN_N_CONDITIONS && list; i++) {
        const galen_condition *k = &d->conditions[i];
        json_t *one =
            json_pack("{s:i, s:s, s:o, s:o, s:i, s:i}", "rank", i + 1, "name", k->name, "confidence", json_number(k->confidence),
                      "name_logprob", json_number(k->name_logprob), "n_tokens", k->n_tokens, "order", k->order);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_questions(const galen_questions *q) {
    json_t *list = json_array();
    for (int i = 0; i < GALEN_N_QUESTIONS && list; i++) {
        json_t *one =
            json_pack("{s:i, s:s, s:b}", "number", i + 1, "text", q->questions[i].text, "is_cut", q->questions[i].is_cut);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_usage(const galen_assist_usage *u) {
    return json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "n_prompt", u->n_prompt, "n_generated", u->n_generated, "n_scored",
                     u->n_scored, "prefill_s", u->prefill_s, "decode_s", u->decode_s, "score_s", u->score_s);
}

/* q NULL: the questions failed, and `why` says how. */
static cli_exit print_json(cli *c, const galen_model *m, const galen_differential *d, const galen_questions *q, const char *why) {
    json_t *root = json_begin(c), *timings = json_object();
    int bad = json_object_set_new(timings, "load_s", json_number(c->load_s));
    bad |= json_object_set_new(timings, "conditions", json_usage(&d->usage));
    bad |= json_object_set_new(timings, "questions", q ? json_usage(&q->usage) : json_null());
    bad |= json_object_set_new(root, "intended_use", json_text0(galen_assist_intended_use()));
    bad |= json_object_set_new(root, "model", json_model(m));
    bad |= json_object_set_new(root, "device", json_text0(galen_model_get_info(m).device));
    bad |= json_object_set_new(root, "seed", json_integer((json_int_t)c->args.seed));
    bad |= json_object_set_new(root, "confidence_meaning", json_text0(galen_assist_confidence_meaning(d->is_calibrated)));
    bad |= json_object_set_new(root, "conditions", json_conditions(d));
    bad |= json_object_set_new(root, "questions", q ? json_questions(q) : json_null());
    if (why) bad |= json_object_set_new(root, "error", json_text0(why));
    bad |= json_object_set_new(root, "timings", timings);
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

static void note_speed(cli *c, const galen_differential *d, const galen_questions *q) {
    const galen_result r = {.n_prompt = d->usage.n_prompt + q->usage.n_prompt,
                            .n_generated = d->usage.n_generated + q->usage.n_generated,
                            .prefill_s = d->usage.prefill_s + q->usage.prefill_s,
                            .decode_s = d->usage.decode_s + q->usage.decode_s};
    engine_note_speed(c, &r);
}

/* What a replay needs to run the same again. */
static json_t *json_params(const cli *c) {
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "seed", (json_int_t)c->args.seed, "ctx", (json_int_t)c->args.ctx, "batch",
                     (json_int_t)c->args.batch, "kv_type", json_text0(c->args.kv_type), "chat_format",
                     json_text0(c->args.chat_format), "device", json_text0(c->args.device));
}

static void keep_turn(void *user, const char *kind, json_t *content) {
    hist_turn(user, kind, content);
}

/* The names, one a line: the trail's fingerprint of the answer. */
static void audit(hist *h, const turns *t, const text_buf *text, const galen_differential *d) {
    char names[GALEN_N_CONDITIONS * GALEN_NAME_BYTES + 1] = "";
    size_t n = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s\n", d->conditions[i].name);
    hist_audit(h, "diagnose", t->model_sha256, text->bytes, text->n, names, n);
}

/* q NULL: there are no questions; st: what became of the call that failed. */
static void log_perf(hist *h, const turns *t, const galen_differential *d, const galen_questions *q, galen_status st) {
    store_perf p = {.model_name = t->model_name, .model_sha256 = t->model_sha256, .device = t->device, .error = st};
    const galen_assist_usage *parts[] = {d ? &d->usage : NULL, q ? &q->usage : NULL};
    for (int i = 0; i < 2; i++) {
        if (!parts[i]) continue;
        p.n_prompt += parts[i]->n_prompt;
        p.n_generated += parts[i]->n_generated;
        p.prefill_s += parts[i]->prefill_s;
        p.decode_s += parts[i]->decode_s;
    }
    hist_perf(h, &p);
}

/* Each turn is kept before it is shown: what was shown is there after any end. */
static cli_exit run(cli *c, galen_assistant *a, const galen_model *m, view *v, const text_buf *text, hist *h, const turns *t) {
    galen_error err = {0};
    galen_differential d;
    galen_questions q;
    turns_symptoms(t, text->bytes, text->n);
    if (galen_assistant_diagnose(a, text->bytes, text->n, &d, &err)) {
        log_perf(h, t, NULL, NULL, err.code);
        return engine_fail(c, PHASE_USE, &err);
    }
    term_progress_end(c);
    turns_differential(t, &d);
    audit(h, t, text, &d);
    if (!c->args.json) {
        print_conditions(c, &d);
        (void)printf("\n%sFollow-up questions%s\n\n", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"));
        (void)fflush(stdout);
    }
    const galen_status st = galen_assistant_questions(a, &q, &err);
    term_progress_end(c);
    if (v->is_line_open) (void)putchar('\n'); /* stopped in the middle of one */
    if (!st) turns_questions(t, &q);
    log_perf(h, t, &d, st ? NULL : &q, st);
    if (c->args.json) {
        const cli_exit written = print_json(c, m, &d, st ? NULL : &q, st ? err.msg : NULL);
        if (written) return written;
    }
    if (st) return engine_fail(c, PHASE_USE, &err);
    note_speed(c, &d, &q);
    return CLI_DONE;
}

/* The case is kept with the model's fingerprint, which a first time costs reading its file. */
static cli_exit run_kept(cli *c, galen_assistant *a, const galen_model *m, view *v, const text_buf *text) {
    char hash[SHA256_HEX_BYTES] = "";
    hist h;
    const galen_model_info i = galen_model_get_info(m);
    hist_start(&h, c);
    hist_params(&h, json_params(c));
    if (hist_store(&h)) hist_model_hash(&h, m, hash);
    const turns t = {keep_turn, &h, i.name, hash[0] ? hash : NULL, i.device, (uint64_t)c->args.seed};
    const cli_exit st = run(c, a, m, v, text, &h, &t);
    hist_end(&h);
    return st;
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
    return st ? st : input_query(c, symptoms, "description of symptoms", text);
}

static cli_exit open_assistant(cli *c, const galen_model *m, view *v, galen_assistant **out) {
    galen_error err = {0};
    galen_assistant_opts o = galen_assistant_default_opts();
    o.n_ctx = (int32_t)c->args.ctx;
    o.n_batch = (int32_t)c->args.batch;
    o.kv_type = c->args.kv_type;
    o.seed = (uint64_t)c->args.seed;
    o.on_event = on_text;
    o.progress = on_progress;
    o.user = v;
    if (galen_assistant_open(out, m, &o, &err)) return engine_fail(c, PHASE_USE, &err);
    signals_on_stop(on_signal, *out);
    return CLI_DONE;
}

cli_exit verb_diagnose(cli *c) {
    galen_model *m = NULL;
    galen_assistant *a = NULL;
    galen_error err = {0};
    text_buf text = {0};
    view v = {.c = c};
    const char *name;
    cli_exit st = read_arguments(c, &name, &text);
    if (!st && galen_symptoms_check(text.bytes, text.n, &err)) st = engine_fail(c, PHASE_USE, &err);
    if (st) goto done;
    st = engine_open(c, name, false, &m);
    if (st == CLI_MODEL && c->args.n_positional == 2)
        (void)fputs("(the first of two arguments is the model; symptoms of several words go in quotes)\n", stderr);
    if (!st) st = open_assistant(c, m, &v, &a);
    if (!st) st = run_kept(c, a, m, &v, &text);
done:
    signals_on_stop(NULL, NULL);
    galen_assistant_close(a);
    galen_model_close(m);
    free(text.bytes);
    return st;
}
