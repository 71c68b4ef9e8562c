/* galen chat: a conversation. What the session already holds of it is not evaluated again; when the context is full the oldest
 * question and its answer are dropped, and the person is told. */
#include <stdlib.h>
#include <string.h>

#include "cli/case_history.h"
#include "cli/clinic.h"
#include "cli/history.h"
#include "cli/line.h"
#include "cli/options.h"
#include "cli/stream.h"

#define DEFAULT_N_PREDICT 512
#define ROOM_FOR_ANSWER   64 /* tokens left free before an old turn is dropped */

typedef struct chat {
    cli *c;
    galen_model *m;
    galen_session *s;
    galen_message *messages; /* contents are malloc'ed, but for the system message */
    size_t n, cap;
    size_t n_fixed; /* 1 with a system message */
    galen_logit_bias *bias;
    galen_generate_opts o;
    int32_t *held; /* [n_ctx] ids in the session */
    line_reader *lines;
} chat;

static cli_exit no_memory(cli *c) {
    term_error(c, "out of memory");
    return CLI_MEMORY;
}

static cli_exit add_message(chat *k, const char *role, const char *text, size_t n) {
    if (k->n == k->cap) {
        const size_t cap = k->cap * 2 + 8;
        galen_message *p = realloc(k->messages, cap * sizeof *p);
        if (!p) return no_memory(k->c);
        k->messages = p;
        k->cap = cap;
    }
    char *copy = malloc(n + 1);
    if (!copy) return no_memory(k->c);
    memcpy(copy, text, n);
    copy[n] = '\0';
    k->messages[k->n++] = (galen_message){.role = role, .content = copy, .content_len = n};
    return CLI_DONE;
}

/* Drop n messages after the system message. */
static void drop(chat *k, size_t first, size_t n) {
    if (n == 0) return;
    for (size_t i = first; i < first + n; i++) free((void *)(uintptr_t)k->messages[i].content);
    memmove(k->messages + first, k->messages + first + n, (k->n - first - n) * sizeof *k->messages);
    k->n -= n;
}

/* The conversation as ids that leave room for an answer, old turns dropped as needed. */
static cli_exit fit_tokens(chat *k, galen_tokens *t) {
    const size_t n_ctx = (size_t)galen_session_n_ctx(k->s);
    const size_t room = n_ctx > 4 * ROOM_FOR_ANSWER ? ROOM_FOR_ANSWER : n_ctx / 4;
    size_t n_dropped = 0;
    for (;;) {
        galen_error err = {0};
        if (galen_chat_tokens(k->m, k->messages, k->n, t, &err)) return engine_fail(k->c, PHASE_USE, &err);
        if (t->n + room <= n_ctx) break;
        if (k->n - k->n_fixed < 3) {
            term_error(k->c, "this message makes %zu tokens; the context holds %zu, %zu of them for the answer", t->n, n_ctx,
                       room);
            galen_tokens_free(t);
            return CLI_CONTEXT;
        }
        drop(k, k->n_fixed, 2);
        n_dropped += 2;
        galen_tokens_free(t);
    }
    if (n_dropped) term_error(k->c, "the context of %zu tokens is full: the oldest %zu messages are forgotten", n_ctx, n_dropped);
    return CLI_DONE;
}

/* Keep of the session what the new prompt begins with; at least one token is left to evaluate. */
static cli_exit rewind_to_common(chat *k, const galen_tokens *t, size_t *n_common) {
    galen_error err = {0};
    const size_t n_past = (size_t)galen_session_n_past(k->s);
    size_t n = 0;
    while (n < n_past && n + 1 < t->n && k->held[n] == t->ids[n]) n++;
    *n_common = n;
    if (galen_session_rewind(k->s, (int32_t)n, &err)) return engine_fail(k->c, PHASE_USE, &err);
    memcpy(k->held, t->ids, t->n * sizeof *k->held);
    return CLI_DONE;
}

typedef struct answer {
    stream out; /* first: it is also the callback's user */
    chat *k;
    size_t n_held;
} answer;

/* Remembers the ids beside what the stream does. */
static bool on_chunk(void *user, const galen_chunk *chunk) {
    answer *a = user;
    if (chunk->id >= 0 && a->n_held < (size_t)galen_session_n_ctx(a->k->s)) a->k->held[a->n_held++] = chunk->id;
    return stream_chunk(&a->out, chunk);
}

static json_t *json_answer(cli *c, const chat *k, const stream *s, const galen_result *r) {
    json_t *root = json_begin(c);
    int bad = json_object_set_new(root, "text", json_text(s->text, s->n));
    bad |= json_object_set_new(root, "finish_reason", json_string(stream_finish_name(r->finish)));
    bad |= json_object_set_new(root, "device", json_text0(galen_model_get_info(k->m).device));
    bad |= json_object_set_new(root, "timings", json_timings(c, r));
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

static cli_exit show_answer(chat *k, const answer *a, const galen_result *r) {
    if (k->c->args.json) return json_end(k->c, json_answer(k->c, k, &a->out, r), true);
    if (a->out.n == 0 || a->out.text[a->out.n - 1] != '\n') (void)putchar('\n');
    const bool is_cut = r->finish == GALEN_FINISH_LENGTH && r->n_generated != k->o.max_tokens;
    if (is_cut)
        term_error(k->c, "the context of %d tokens is full: the answer is cut", galen_session_n_ctx(k->s));
    else if (r->finish == GALEN_FINISH_LENGTH)
        term_note(k->c, "the answer is cut at %d tokens; -n sets more", k->o.max_tokens);
    engine_note_speed(k->c, r);
    return CLI_DONE;
}

static cli_exit run_turn(chat *k, answer *a, const galen_tokens *t) {
    galen_error err = {0};
    galen_result r = {0};
    size_t n_common;
    cli_exit st = rewind_to_common(k, t, &n_common);
    if (st) return st;
    a->n_held = t->n;
    k->o.user = a;
    const galen_status got = galen_generate(k->s, t->ids + n_common, (int32_t)(t->n - n_common), &k->o, &r, &err);
    term_progress_end(k->c);
    hist_generation(k->c, k->m, &r, got);
    if (a->out.is_nomem) return no_memory(k->c);
    if (got) return engine_fail(k->c, PHASE_USE, &err);
    return show_answer(k, a, &r);
}

/* One question, one answer. A question that does not fit is taken back. */
static cli_exit turn(chat *k, const char *text, size_t n) {
    galen_tokens t = {0};
    answer a = {.out = {.c = k->c, .model = k->m, .is_written = !k->c->args.json}, .k = k};
    cli_exit st = add_message(k, "user", text, n);
    if (st) return st;
    st = fit_tokens(k, &t);
    if (!st) st = run_turn(k, &a, &t);
    if (st)
        drop(k, k->n - 1, 1);
    else
        st = add_message(k, "assistant", a.out.text ? a.out.text : "", a.out.n);
    galen_tokens_free(&t);
    stream_free(&a.out);
    return st;
}

/* One word behind a slash, typed by a person: "/claer". */
static bool is_slip(const cli *c, const char *text, size_t n) {
    size_t i = 1;
    if (!c->term.is_out_tty || n < 2 || n > 16 || text[0] != '/') return false;
    while (i < n && text[i] >= 'a' && text[i] <= 'z') i++;
    return i == n;
}

/* /quit, /clear, /help: true when the line was a command. */
static bool command(chat *k, const char *text, size_t n, bool *is_quit) {
    static const char help[] = "/clear starts anew, /quit or Ctrl-D ends, Ctrl-C stops an answer";
    if (n == 0) return true;
    if (text[0] != '/') return false;
    *is_quit = (n == 5 && memcmp(text, "/quit", 5) == 0) || (n == 5 && memcmp(text, "/exit", 5) == 0);
    if (*is_quit) return true;
    if (n == 6 && memcmp(text, "/clear", 6) == 0) {
        drop(k, k->n_fixed, k->n - k->n_fixed);
        term_note(k->c, "the conversation starts anew");
        return true;
    }
    if (n == 5 && memcmp(text, "/help", 5) == 0) {
        term_error(k->c, "%s", help);
        return true;
    }
    if (!is_slip(k->c, text, n)) return false; /* a message may begin with a slash */
    term_error(k->c, "no such command; %s", help);
    return true;
}

static cli_exit converse(chat *k) {
    const bool is_person = k->c->term.is_out_tty && k->c->term.is_err_tty;
    cli_exit st = CLI_DONE;
    for (bool is_quit = false; !is_quit;) {
        const char *text;
        size_t n;
        const line_result got = line_next(k->lines, &text, &n);
        if (got == LINE_SIGNAL || signals_stop()) {
            if (!is_person || signals_exit() == CLI_SIGTERM) return signals_exit();
            signals_clear();
            term_note(k->c, "Ctrl-D or /quit ends the chat");
            continue;
        }
        if (got == LINE_FAILED) term_error(k->c, "standard input cannot be read");
        if (got != LINE_TEXT && is_person) (void)putchar('\n'); /* below the prompt */
        if (got != LINE_TEXT) return got == LINE_FAILED ? CLI_FAILED : CLI_DONE;
        if (command(k, text, n, &is_quit)) continue;
        st = turn(k, text, n);
        if (signals_stop() && signals_exit() == CLI_SIGINT && is_person) {
            signals_clear();
            st = CLI_DONE;
        }
        if (signals_stop()) return signals_exit();
        if (st == CLI_CONTEXT && is_person) st = CLI_DONE; /* a shorter one may follow */
        if (st) return st;
        if (ferror(stdout)) return CLI_FAILED;
    }
    return st;
}

static cli_exit prepare(chat *k) {
    cli *c = k->c;
    const cli_args *a = &c->args;
    galen_error err = {0};
    galen_tokens t = {0};
    const galen_message probe = {.role = "user", .content = "x", .content_len = 1};
    if (galen_chat_tokens(k->m, &probe, 1, &t, &err)) return engine_fail(c, PHASE_LOAD, &err);
    galen_tokens_free(&t);
    k->o = galen_generate_default_opts();
    cli_exit st = engine_sampling(c, galen_model_get_info(k->m).n_vocab, &k->o.sampling, &k->bias);
    if (st) return st;
    k->o.max_tokens = option_given(a, "n-predict") ? (int32_t)a->n_predict : DEFAULT_N_PREDICT;
    k->o.stop = a->stop.items;
    k->o.n_stop = a->stop.n;
    k->o.on_chunk = on_chunk;
    k->held = calloc((size_t)galen_session_n_ctx(k->s), sizeof *k->held);
    k->lines = line_open(c, "> ");
    if (!k->held || !k->lines) return no_memory(c);
    if (a->system) {
        st = add_message(k, "system", a->system, strlen(a->system));
        k->n_fixed = 1;
    }
    return st;
}

/* Every description is a case of its own in the history. */
static void keep_case(clinic *k, bool is_begin) {
    static case_history h; /* one conversation at a time */
    if (is_begin) {
        k->d = (galen_differential){0};
        case_history_start(&h, k);
    } else {
        if (k->d.conditions[0].name[0]) case_history_audit(&h, k);
        case_history_end(&h, k, CLI_DONE);
    }
}

static cli_exit run_assistant(cli *c, const char *name) {
    clinic k = {.c = c, .n_samples = clinic_samples(c), .prints_turns = c->args.json};
    cli_exit st = clinic_open_model(&k, name);
    if (!st) st = clinic_open(&k);
    line_reader *lines = st ? NULL : line_open(c, "> ");
    if (!st) st = lines ? clinic_chat(&k, lines, keep_case) : no_memory(c);
    line_close(lines);
    clinic_close(&k);
    return st;
}

cli_exit verb_chat(cli *c) {
    chat k = {.c = c};
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st && c->args.assistant) return run_assistant(c, name);
    if (!st) st = engine_open(c, name, false, &k.m);
    if (!st) st = engine_session(c, k.m, 0, &k.s);
    if (!st) st = prepare(&k);
    if (!st) {
        if (c->term.is_out_tty) term_note(c, "context %d tokens; /help lists the commands", galen_session_n_ctx(k.s));
        st = converse(&k);
    }
    line_close(k.lines);
    drop(&k, 0, k.n);
    free(k.messages);
    free(k.held);
    free(k.bias);
    galen_session_close(k.s);
    galen_model_close(k.m);
    return st;
}
