/* Five follow-up questions: written by the model on the symptoms, the conditions and what was answered; then read, one by one,
 * for what the answer would tell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/names.h"
#include "assist/text.h"
#include "base/error.h"

static const char *const question_ends[] = {"\n", "\r", NULL};
static const char *const question_not_first[] = {NULL};
static const item_rules question_rules = {.part = GALEN_PART_QUESTION,
                                          .ends = question_ends,
                                          .not_first = question_not_first,
                                          .last = '?',
                                          .budget = QUESTION_TOKENS,
                                          .most = ITEM_TOKENS,
                                          .least = 14,
                                          .cap = GALEN_QUESTION_BYTES,
                                          .key = question_key};

static galen_status question_literals(galen_assistant *a, galen_tokens out[ITEMS_MAX], size_t *n_all, galen_error *err) {
    *n_all = 0;
    for (int i = 1; i < ITEMS_MAX; i++) {
        char lead[16];
        (void)snprintf(lead, sizeof lead, "\n%d.", i + 1);
        const galen_status st = edge_literal(a, lead, &out[i], err);
        if (st) return st;
        *n_all += out[i].n;
    }
    return GALEN_OK;
}

static galen_status write_five(galen_assistant *a, prompt_id id, const prompt_values *v, item items[ITEMS_MAX],
                               galen_error *err) {
    galen_tokens prompt = {0}, literals[ITEMS_MAX] = {{0}};
    size_t n_form = 0;
    galen_status st = edge_prompt(a, id, v, &prompt, err);
    if (!st) st = question_literals(a, literals, &n_form, err);
    if (!st) st = edge_fits(a, prompt.n, n_form + QUESTION_TOKENS, "symptoms and conditions make", err);
    if (!st) st = edge_start(a, &prompt, err);
    if (!st) st = items_write(a, &question_rules, literals, items, err);
    for (int i = 0; i < ITEMS_MAX; i++) galen_tokens_free(&literals[i]);
    galen_tokens_free(&prompt);
    return st;
}

static void take_question(const item *it, galen_question *q) {
    *q = (galen_question){.reason = GALEN_ASK_ENTROPY, .is_cut = it->is_cut};
    memcpy(q->text, it->text, it->n_text + 1); /* below GALEN_QUESTION_BYTES: text_line */
}

/* "A, B, C, D, E", and the average of their confidences, as the guide has it. */
static void name_conditions(const galen_differential *d, char *names, size_t cap, double *average) {
    size_t n = 0;
    *average = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS && n < cap; i++) {
        n += (size_t)snprintf(names + n, cap - n, "%s%s", i ? ", " : "", d->conditions[i].name);
        *average += d->conditions[i].confidence / GALEN_N_CONDITIONS;
    }
}

static int by_bits(const void *pa, const void *pb) {
    const galen_question *a = pa, *b = pb;
    return (a->bits < b->bits) - (a->bits > b->bits);
}

/* The last five, the best first; the order of equals is that of writing. */
static galen_status show_questions(galen_assistant *a, galen_error *err) {
    galen_questions *w = &a->written;
    for (int i = 0; i < GALEN_N_QUESTIONS; i++) w->questions[i] = a->c.list[a->c.first_of_last + i].q;
    for (int i = 1; i < GALEN_N_QUESTIONS; i++) { /* insertion: stable */
        const galen_question q = w->questions[i];
        int k = i;
        for (; k > 0 && by_bits(&w->questions[k - 1], &q) > 0; k--) w->questions[k] = w->questions[k - 1];
        w->questions[k] = q;
    }
    a->usage.total_s = assist_now_s() - a->began_s;
    w->usage = a->usage;
    gain_missing(a);
    return assist_send(a, &(galen_assist_event){.part = GALEN_PART_QUESTIONS, .questions = w}, err);
}

/* One behind a beginning of its own for each condition, the likeliest first. */
static galen_status write_apart(galen_assistant *a, prompt_values *v, item items[ITEMS_MAX], galen_error *err) {
    look looks[ITEMS_MAX] = {{.from = 0}};
    galen_status st = GALEN_OK;
    for (int i = 0; i < ITEMS_MAX && !st; i++) {
        v->of[FIELD_CONDITION] = a->found.conditions[i].name;
        st = edge_prompt(a, PROMPT_QUESTIONS, v, &looks[i].t, err);
        if (!st) st = edge_fits(a, looks[i].t.n, QUESTION_TOKENS / ITEMS_MAX, "symptoms and conditions make", err);
        looks[i].from = (int32_t)looks[i].t.n;
    }
    if (!st) return items_write_apart(a, &question_rules, looks, items, err);
    looks_free(looks, ITEMS_MAX);
    return st;
}

galen_status questions_more(galen_assistant *a, galen_error *err) {
    char names[GALEN_N_CONDITIONS * (GALEN_NAME_BYTES + 2)] = "", confidence[16];
    double average;
    case_file *c = &a->c;
    if (c->n_list + ITEMS_MAX > MAX_ASKED) return galen_fail(err, GALEN_E_REFUSED, 0, "%d questions are enough", c->n_list);
    item *items = calloc(ITEMS_MAX, sizeof *items);
    if (!items) return galen_fail(err, GALEN_E_NOMEM, 0, "five items");
    name_conditions(&a->found, names, sizeof names, &average);
    (void)snprintf(confidence, sizeof confidence, "%.2f", average);
    prompt_values v = {.of = {[FIELD_SYMPTOMS] = c->field,
                              [FIELD_ANSWERS] = c->answers,
                              [FIELD_CONDITIONS] = names,
                              [FIELD_CONFIDENCE] = confidence}};
    galen_status st = write_apart(a, &v, items, err);
    const int32_t first = c->n_list;
    for (int i = 0; i < ITEMS_MAX && !st; i++) {
        asked *q = &c->list[first + i];
        *q = (asked){0};
        take_question(&items[i], &q->q);
        memcpy(q->normal, items[i].normal, sizeof q->normal);
        memcpy(q->key, items[i].key, sizeof q->key);
        st = gain_read(a, q, err);
    }
    if (!st) {
        c->n_list = first + ITEMS_MAX;
        c->first_of_last = first;
        c->n_rounds++;
        st = show_questions(a, err);
    }
    free(items);
    return st;
}

galen_status galen_assistant_questions(galen_assistant *a, galen_questions *out, galen_error *err) {
    *out = (galen_questions){0};
    a->usage = (galen_assist_usage){0};
    a->began_s = assist_now_s();
    if (!a->c.has_conditions)
        return galen_fail(err, GALEN_E_ARG, 0, "there are no conditions to ask about: galen_assistant_diagnose first");
    galen_status st = assist_check_cancel(a, err);
    if (!st) st = questions_more(a, err);
    if (!st) *out = a->written;
    return assist_end(a, st);
}

galen_status galen_assistant_questions_on(galen_assistant *a, const char *context, size_t len, double confidence,
                                          galen_questions *out, galen_error *err) {
    char number[16];
    *out = (galen_questions){0};
    a->usage = (galen_assist_usage){0};
    a->began_s = assist_now_s();
    galen_status st = assist_check_cancel(a, err);
    if (st) return st;
    if (!text_has_letter(context, len)) return galen_fail(err, GALEN_E_REFUSED, 0, "no conditions to ask about");
    if (!(confidence >= 0 && confidence <= 1))
        return galen_fail(err, GALEN_E_ARG, 0, "a confidence of %g, expected 0 to 1", confidence);
    case_file kept = a->c; /* a case's questions are not those of other conditions */
    a->c = (case_file){.open = -1};
    item *items = calloc(ITEMS_MAX, sizeof *items);
    char *line = len <= CASE_BYTES ? prompt_line(context, len, NULL) : NULL;
    if (!items || !line) st = galen_fail(err, GALEN_E_NOMEM, 0, "conditions of %zu bytes", len);
    (void)snprintf(number, sizeof number, "%.2f", confidence);
    const prompt_values v = {.of = {[FIELD_CONDITIONS] = line, [FIELD_CONFIDENCE] = number}};
    if (!st) st = write_five(a, PROMPT_FOLLOWUP, &v, items, err);
    a->c = kept;
    for (int i = 0; i < ITEMS_MAX && !st; i++) take_question(&items[i], &out->questions[i]);
    a->usage.total_s = assist_now_s() - a->began_s;
    if (!st) out->usage = a->usage;
    free(items);
    free(line);
    return assist_end(a, st);
}
