/* The follow-up loop. Which question is next, what an answer does, when there are enough.
 *
 * An answer is taken by Bayes' rule: p_i is multiplied by how likely the model finds this answer in a patient with condition i.
 * That was read once for each question, so an answer costs no evaluation, its effect on each condition can be shown and undone,
 * and the order of the answers does not matter. Asking the model for a new ranking with the answer in its prompt would cost more
 * and let a small model turn everything over at a word. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/names.h"
#include "assist/text.h"
#include "assist/triage.h"
#include "base/error.h"

#define MAX_FLAG_ASKS 4    /* red-flag questions of a case: more would tire */
#define MAX_ROUNDS    3    /* times five are written */
#define REPLY_TOKENS  64   /* of a free-text answer that are read for its likelihood; the rules read all */
#define MOST_RATIO    19.0 /* (1 - 0.05) / 0.05, as of a yes or no: gain.c */

static const char *const stop_names[] = {"", "confident", "no_gain", "count", "user"};
static const char *const kind_names[] = {"yes", "no", "unknown", "text"};

const char *galen_stop_name(galen_stop stop) {
    return (unsigned)stop < sizeof stop_names / sizeof stop_names[0] ? stop_names[stop] : "?";
}

const char *galen_answer_kind_name(galen_answer_kind kind) {
    return (unsigned)kind < sizeof kind_names / sizeof kind_names[0] ? kind_names[kind] : "?";
}

/* ------------------------------------------------------------ the next question */

static bool is_listed(const case_file *c, const char *normal) {
    for (int32_t i = 0; i < c->n_list; i++) {
        if (strcmp(c->list[i].normal, normal) == 0) return true;
    }
    return false;
}

/* A red flag that would say more than the signs that are known, and was not asked yet: appended to the list. Its index; -1 for
 * none. */
static int32_t next_flag(case_file *c) {
    const galen_triage_level known = triage_level_of_signs(&c->triage);
    int32_t n_flags = 0;
    for (int32_t i = 0; i < c->n_list; i++) n_flags += c->list[i].flag.id != NULL;
    if (n_flags >= MAX_FLAG_ASKS || c->n_list >= MAX_ASKED) return -1;
    for (int32_t i = 0; i < c->triage.n_asks; i++) {
        const galen_triage_ask *f = &c->triage.asks[i];
        asked q = {.flag = *f};
        (void)text_normal(f->question, strlen(f->question), q.normal, sizeof q.normal);
        (void)question_key(f->question, strlen(f->question), q.key, sizeof q.key);
        if (f->level <= known || is_listed(c, q.normal)) continue;
        q.q.reason = GALEN_ASK_RED_FLAG;
        q.q.flag_id = f->id;
        (void)snprintf(q.q.text, sizeof q.q.text, "%s", f->question);
        c->list[c->n_list] = q;
        return c->n_list++;
    }
    return -1;
}

static int32_t best_left(const case_file *c) {
    int32_t best = -1;
    for (int32_t i = 0; i < c->n_list; i++) {
        const asked *q = &c->list[i];
        if (!q->is_asked && !q->flag.id && (best < 0 || q->q.bits > c->list[best].q.bits)) best = i;
    }
    return best;
}

/* The index of the next question; -1 with *stop. */
static galen_status choose_next(galen_assistant *a, int32_t *next, galen_stop *stop, galen_error *err) {
    case_file *c = &a->c;
    const double least = a->opts.least_bits > 0 ? a->opts.least_bits : 0.02;
    const int32_t most = a->opts.max_questions ? a->opts.max_questions : 10;
    *next = -1;
    *stop = GALEN_STOP_COUNT;
    if (c->n_answered >= most) return GALEN_OK;
    for (int32_t i = 0; i < c->n_list && *next < 0; i++) {
        if (c->list[i].flag.id && !c->list[i].is_asked) *next = i; /* a call that failed left it there */
    }
    if (*next < 0) *next = next_flag(c);
    if (*next >= 0) return gain_read(a, &c->list[*next], err);
    *stop = GALEN_STOP_CONFIDENT;
    if (a->found.conditions[0].confidence >= (a->opts.confident > 0 ? a->opts.confident : 0.85)) return GALEN_OK;
    *stop = GALEN_STOP_NO_GAIN;
    for (;;) {
        *next = best_left(c);
        if (*next >= 0 && c->list[*next].q.bits >= least) return GALEN_OK;
        *next = -1;
        if (c->n_rounds >= MAX_ROUNDS) return GALEN_OK;
        const galen_status st = questions_more(a, err);
        if (st) return st == GALEN_E_REFUSED ? GALEN_OK : st; /* nothing new to ask */
    }
}

galen_status galen_assistant_ask(galen_assistant *a, galen_question *out, galen_stop *stop, galen_error *err) {
    case_file *c = &a->c;
    int32_t next = c->open;
    *out = (galen_question){0};
    *stop = GALEN_STOP_NONE;
    a->usage = (galen_assist_usage){0};
    a->began_s = assist_now_s();
    if (!c->has_conditions)
        return galen_fail(err, GALEN_E_ARG, 0, "there are no conditions to ask about: galen_assistant_diagnose first");
    galen_status st = assist_check_cancel(a, err);
    if (!st && next < 0) st = choose_next(a, &next, stop, err);
    if (st) *stop = GALEN_STOP_NONE;
    if (st || next < 0) return assist_end(a, st);
    *stop = GALEN_STOP_NONE;
    asked *q = &c->list[next];
    if (!q->is_asked) q->q.number = ++c->n_asked;
    q->is_asked = true;
    c->open = next;
    *out = q->q;
    return GALEN_OK;
}

/* ------------------------------------------------------------ an answer */

/* "Yes, since Monday." and "not sure" are what they say; anything else is free text. */
static galen_answer_kind understand(const char *text, size_t n) {
    static const struct {
        const char *word;
        galen_answer_kind kind;
    } words[] = {{"yes", GALEN_ANSWER_YES},
                 {"y", GALEN_ANSWER_YES},
                 {"yeah", GALEN_ANSWER_YES},
                 {"yep", GALEN_ANSWER_YES},
                 {"no", GALEN_ANSWER_NO},
                 {"n", GALEN_ANSWER_NO},
                 {"nope", GALEN_ANSWER_NO},
                 {"never", GALEN_ANSWER_NO},
                 {"unknown", GALEN_ANSWER_UNKNOWN},
                 {"unsure", GALEN_ANSWER_UNKNOWN},
                 {"not sure", GALEN_ANSWER_UNKNOWN},
                 {"maybe", GALEN_ANSWER_UNKNOWN},
                 {"i do not know", GALEN_ANSWER_UNKNOWN},
                 {"i don t know", GALEN_ANSWER_UNKNOWN},
                 {"don t know", GALEN_ANSWER_UNKNOWN},
                 {"dunno", GALEN_ANSWER_UNKNOWN},
                 {"idk", GALEN_ANSWER_UNKNOWN}};
    char normal[32];
    const size_t k = text_normal(text, n, normal, sizeof normal);
    const size_t first = strcspn(normal, " ");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t m = strlen(words[i].word);
        const bool is_whole = m == k && memcmp(normal, words[i].word, k) == 0;
        const bool is_first =
            words[i].kind < GALEN_ANSWER_UNKNOWN && m > 1 && m == first && memcmp(normal, words[i].word, m) == 0;
        if (is_whole || is_first) return words[i].kind;
    }
    return GALEN_ANSWER_TEXT;
}

/* The answer from a patient with a condition. */
static galen_status begin_reply(galen_assistant *a, const char *question, const char *condition, const galen_tokens *reply,
                                look *out, galen_error *err) {
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = a->c.field, [FIELD_QUESTION] = question, [FIELD_CONDITION] = condition}};
    galen_status st = edge_prompt(a, PROMPT_REPLY, &v, &out->t, err);
    if (!st) st = edge_fits(a, out->t.n, reply->n, "symptoms and answer make", err);
    out->from = (int32_t)out->t.n;
    return st ? st : prompt_append(&out->t, reply, err);
}

/* Sums over the tokens of a reply, by condition.order. */
static galen_status read_reply(galen_assistant *a, const char *question, const galen_tokens *reply, double out[N_OPTIONS],
                               galen_error *err) {
    double each[N_OPTIONS][REPLY_TOKENS];
    look looks[N_OPTIONS] = {{.from = 0}};
    galen_status st = GALEN_OK;
    for (int i = 0; i < N_OPTIONS && !st; i++) {
        const bool is_other = i == OTHER;
        const galen_condition *c = &a->found.conditions[is_other ? 0 : i];
        const int32_t at = is_other ? OTHER : c->order;
        looks[at].out = each[at];
        st = begin_reply(a, question, is_other ? GAIN_ANOTHER : c->name, reply, &looks[at], err);
    }
    if (!st)
        st = edge_look(a, looks, N_OPTIONS, err);
    else
        looks_free(looks, N_OPTIONS);
    for (int i = 0; i < N_OPTIONS && !st; i++) {
        out[i] = 0;
        for (size_t k = 0; k < reply->n; k++) out[i] += each[i][k];
    }
    return st;
}

/* Log-likelihood of a free-text answer by condition.order, none less than MOST_RATIO times the largest. */
static galen_status read_text(galen_assistant *a, const asked *q, const char *text, size_t n, double out[N_OPTIONS],
                              galen_error *err) {
    galen_tokens reply = {0};
    char *line = prompt_line(text, n, NULL);
    galen_status st = line ? galen_tokenize(a->m, line, strlen(line), false, false, &reply, err)
                           : galen_fail(err, GALEN_E_NOMEM, 0, "an answer of %zu bytes", n);
    if (reply.n > REPLY_TOKENS) reply.n = REPLY_TOKENS;
    for (int i = 0; i < N_OPTIONS; i++) out[i] = 0;
    if (!st && reply.n) st = read_reply(a, q->q.text, &reply, out, err);
    if (!st) {
        double most = out[0];
        for (int i = 1; i < N_OPTIONS; i++) most = out[i] > most ? out[i] : most;
        for (int i = 0; i < N_OPTIONS; i++) out[i] = out[i] - most > -log(MOST_RATIO) ? out[i] - most : -log(MOST_RATIO);
    }
    galen_tokens_free(&reply);
    free(line);
    return st;
}

static galen_status likelihood_of(galen_assistant *a, const asked *q, galen_answer_kind kind, const char *text, size_t n,
                                  double out[N_OPTIONS], galen_error *err) {
    for (int i = 0; i < N_OPTIONS; i++) {
        out[i] = kind == GALEN_ANSWER_YES ? log(q->p_yes[i]) : kind == GALEN_ANSWER_NO ? log(1 - q->p_yes[i]) : 0;
    }
    return kind == GALEN_ANSWER_TEXT ? read_text(a, q, text, n, out, err) : GALEN_OK;
}

/* The answers as prompts have them, one more. malloc'ed; NULL without memory. */
static char *more_answers(const case_file *c, const asked *q, galen_answer_kind kind, const char *text, size_t n) {
    char *line = kind == GALEN_ANSWER_TEXT ? prompt_line(text, n < 200 ? n : 200, NULL) : NULL, *out = NULL;
    if (kind == GALEN_ANSWER_TEXT && !line) return NULL;
    if (asprintf(&out, "%s\n%s %s", c->answers, q->q.text, line ? line : kind_names[kind]) < 0) out = NULL;
    free(line);
    return out;
}

/* What the red-flag rules get to read: free text, and a question that was affirmed; of a red flag's question what its rule says,
 * since a yes to a list says only that one thing of it is so. */
static galen_status read_flags_of(galen_assistant *a, const asked *q, galen_answer_kind kind, const char *text, size_t n,
                                  bool *is_raised, galen_error *err) {
    galen_status st = GALEN_OK;
    *is_raised = false;
    if (text && n) st = case_add_line(&a->c, text, n, is_raised, err);
    if (st || kind != GALEN_ANSWER_YES) return st;
    triage_yes yes = {.says = q->q.text};
    if (q->flag.id) {
        const triage_rules *rules;
        st = triage_rules_builtin(&rules, err);
        if (st) return st;
        yes = triage_rules_yes(rules, q->flag.id);
    }
    if (yes.says && (!text || !n)) st = case_add_line(&a->c, yes.says, strcspn(yes.says, "?"), is_raised, err);
    if (!st && q->flag.id) *is_raised |= case_raise(&a->c, q->flag.id, "answer", yes.message, yes.source, q->flag.level);
    return st;
}

static void apply(galen_assistant *a, const double likelihood[N_OPTIONS], galen_update *out) {
    double before[N_OPTIONS];
    const double bits = a->found.entropy_bits;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) before[a->found.conditions[i].order] = a->found.conditions[i].confidence;
    before[OTHER] = a->found.other;
    for (int i = 0; i < N_OPTIONS; i++) a->c.likelihood[i] += likelihood[i];
    rank_conditions(&a->found, &a->calibration, a->c.likelihood);
    rank_signals(&a->found);
    a->found.n_answers = a->c.n_answered;
    for (int32_t i = 0; i < a->c.n_list; i++) gain_update(a, &a->c.list[i]);
    gain_missing(a);
    out->now = a->found;
    out->now.usage = a->usage;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        out->change[i] = a->found.conditions[i].confidence - before[a->found.conditions[i].order];
    out->change_other = a->found.other - before[OTHER];
    out->bits = bits - a->found.entropy_bits;
}

static galen_status take_answer(galen_assistant *a, galen_answer_kind kind, const char *text, size_t n, galen_update *out,
                                galen_error *err) {
    case_file *c = &a->c;
    asked *q = &c->list[c->open];
    double likelihood[N_OPTIONS];
    if (text && kind == GALEN_ANSWER_TEXT) kind = understand(text, n);
    galen_status st = likelihood_of(a, q, kind, text, n, likelihood, err);
    if (st) return st;
    char *answers = more_answers(c, q, kind, text, n);
    if (!answers) return galen_fail(err, GALEN_E_NOMEM, 0, "answers");
    st = read_flags_of(a, q, kind, text, n, &out->is_raised, err);
    if (st) {
        free(answers);
        return st;
    }
    free(c->answers);
    c->answers = answers;
    q->is_answered = true;
    c->n_answered++;
    c->open = -1;
    apply(a, likelihood, out);
    return GALEN_OK;
}

galen_status galen_assistant_answer(galen_assistant *a, galen_answer_kind kind, const char *text, size_t len, galen_update *out,
                                    galen_error *err) {
    *out = (galen_update){0};
    a->usage = (galen_assist_usage){0};
    a->began_s = assist_now_s();
    if (a->c.open < 0 || !a->c.has_conditions)
        return galen_fail(err, GALEN_E_ARG, 0, "no question is open: galen_assistant_ask first");
    if ((unsigned)kind > GALEN_ANSWER_TEXT) return galen_fail(err, GALEN_E_ARG, 0, "an answer of kind %d", (int)kind);
    const bool has_text = kind == GALEN_ANSWER_TEXT;
    if (has_text && !text_has_letter(text, len)) return galen_fail(err, GALEN_E_REFUSED, 0, "the answer has no words");
    galen_status st = assist_check_cancel(a, err);
    if (!st) st = take_answer(a, kind, has_text ? text : NULL, has_text ? len : 0, out, err);
    if (!st && out->is_raised) st = assist_send(a, &(galen_assist_event){.part = GALEN_PART_TRIAGE, .triage = &a->c.triage}, err);
    if (!st) st = assist_send(a, &(galen_assist_event){.part = GALEN_PART_RANKING, .differential = &out->now}, err);
    return assist_end(a, st);
}
