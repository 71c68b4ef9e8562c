/* Five follow-up questions: the conversation goes on, so that the model sees the symptoms and the five conditions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/prompts.h"

static const char *const question_ends[] = {"\n", "\r", NULL};
static const char *const question_not_first[] = {NULL};
static const item_rules question_rules = {.part = GALEN_PART_QUESTION,
                                          .ends = question_ends,
                                          .not_first = question_not_first,
                                          .last = '?',
                                          .budget = QUESTION_TOKENS,
                                          .most = ITEM_TOKENS,
                                          .least = 14,
                                          .cap = GALEN_QUESTION_BYTES};

static galen_status conversation(galen_assistant *a, galen_tokens *out, galen_error *err) {
    galen_tokens lead = {0};
    char *asked = prompt_symptoms(a->symptoms), *answer = prompt_answer(&a->found), *more = prompt_questions(&a->found);
    galen_status st = GALEN_OK;
    if (!asked || !answer || !more) {
        st = assist_fail(err, GALEN_E_NOMEM, "prompt");
        goto done;
    }
    const galen_message messages[] = {{.role = "user", .content = asked, .content_len = strlen(asked)},
                                      {.role = "assistant", .content = answer, .content_len = strlen(answer)},
                                      {.role = "user", .content = more, .content_len = strlen(more)}};
    st = galen_chat_tokens(a->m, messages, 3, out, err);
    if (!st) st = galen_tokenize(a->m, "1.", 2, false, false, &lead, err);
    if (!st) st = prompt_append(out, &lead, err);
done:
    galen_tokens_free(&lead);
    free(asked);
    free(answer);
    free(more);
    return st;
}

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

static galen_status ask(galen_assistant *a, item items[ITEMS_MAX], galen_error *err) {
    galen_tokens prompt = {0}, literals[ITEMS_MAX] = {{0}};
    size_t n_form = 0;
    galen_status st = conversation(a, &prompt, err);
    if (!st) st = question_literals(a, literals, &n_form, err);
    if (!st) st = edge_fits(a, prompt.n, n_form + QUESTION_TOKENS, "symptoms and conditions make", err);
    if (!st) st = edge_start(a, &prompt, err);
    if (!st) st = items_write(a, &question_rules, literals, items, err);
    for (int i = 0; i < ITEMS_MAX; i++) galen_tokens_free(&literals[i]);
    galen_tokens_free(&prompt);
    return st;
}

galen_status galen_assistant_questions(galen_assistant *a, galen_questions *out, galen_error *err) {
    *out = (galen_questions){0};
    a->usage = (galen_assist_usage){0};
    if (!a->symptoms)
        return assist_fail(err, GALEN_E_ARG, "there are no conditions to ask about: galen_assistant_diagnose first");
    galen_status st = assist_check_cancel(a, err);
    if (st) return st;
    item *items = calloc(ITEMS_MAX, sizeof *items);
    if (!items) return assist_fail(err, GALEN_E_NOMEM, "five items");
    st = ask(a, items, err);
    for (int i = 0; i < ITEMS_MAX && !st; i++) {
        memcpy(out->questions[i].text, items[i].text, items[i].n_text + 1); /* below GALEN_QUESTION_BYTES: text_line */
        out->questions[i].is_cut = items[i].is_cut;
    }
    if (!st) out->usage = a->usage;
    free(items);
    return assist_end(a, st);
}
