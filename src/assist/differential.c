/* From symptoms to five ranked conditions. The prompt is the guide's "streamlined" one; the user's text is one line of it. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/prompts.h"
#include "assist/text.h"

#define MIN_LETTERS 3 /* "flu" */

static const char *const name_ends[] = {"\n", "\r", " (", ",", ";", ":", ". ", " - ", "\t", NULL};
static const char *const name_not_first[] = {"name",     "names",   "confidence", "diagnosis", "diagnoses", "condition",
                                             "symptoms", "symptom", "patient",    "patients",  "repeat",    NULL};
static const item_rules name_rules = {.part = GALEN_PART_CONDITION,
                                      .ends = name_ends,
                                      .not_first = name_not_first,
                                      .budget = DIAGNOSIS_TOKENS,
                                      .most = 14,
                                      .least = 8,
                                      .cap = GALEN_NAME_BYTES};

galen_status galen_symptoms_check(const char *symptoms, size_t len, galen_error *err) {
    bool has_mark = false;
    for (size_t i = 0; i < len; i++) has_mark |= (unsigned char)symptoms[i] > 0x20;
    if (!has_mark)
        return assist_fail(err, GALEN_E_REFUSED, "the description is empty; say what is felt, where, and for how long");
    if (text_count_letters(symptoms, len) < MIN_LETTERS)
        return assist_fail(err, GALEN_E_REFUSED,
                           "the description has no words, only digits or marks; say what is felt, where, and for how long");
    return GALEN_OK;
}

/* Five texts of the form before each name, and the room they take together. */
static galen_status name_literals(galen_assistant *a, galen_tokens out[ITEMS_MAX], size_t *n_all, galen_error *err) {
    *n_all = 0;
    for (int i = 1; i < ITEMS_MAX; i++) {
        const galen_status st = edge_literal(a, "\n" PROMPT_NAME_LEAD, &out[i], err);
        if (st) return st;
        *n_all += out[i].n;
    }
    return GALEN_OK;
}

static int by_score(const void *pa, const void *pb) {
    const galen_condition *a = pa, *b = pb;
    if (a->name_logprob != b->name_logprob) return a->name_logprob > b->name_logprob ? -1 : 1;
    return a->order - b->order;
}

static void rank(const item items[ITEMS_MAX], const double score[ITEMS_MAX], galen_differential *out) {
    double most = score[0], sum = 0;
    for (int i = 1; i < ITEMS_MAX; i++) most = score[i] > most ? score[i] : most;
    for (int i = 0; i < ITEMS_MAX; i++) sum += exp(score[i] - most);
    for (int i = 0; i < ITEMS_MAX; i++) {
        galen_condition *d = &out->conditions[i];
        memcpy(d->name, items[i].text, items[i].n_text + 1); /* text_line kept it below GALEN_NAME_BYTES */
        d->confidence = exp(score[i] - most) / sum;
        d->name_logprob = score[i];
        d->n_tokens = items[i].n_ids;
        d->order = i;
    }
    qsort(out->conditions, ITEMS_MAX, sizeof out->conditions[0], by_score);
}

/* The prompt as tokens, open for the first name. */
static galen_status prompt_tokens(galen_assistant *a, galen_tokens *out, galen_error *err) {
    galen_status st;
    galen_tokens lead = {0};
    char *text = prompt_symptoms(a->symptoms);
    if (!text) return assist_fail(err, GALEN_E_NOMEM, "prompt");
    const galen_message message = {.role = "user", .content = text, .content_len = strlen(text)};
    st = galen_chat_tokens(a->m, &message, 1, out, err);
    if (!st) st = galen_tokenize(a->m, PROMPT_NAME_LEAD, strlen(PROMPT_NAME_LEAD), false, false, &lead, err);
    if (!st) st = prompt_append(out, &lead, err);
    galen_tokens_free(&lead);
    free(text);
    return st;
}

static galen_status diagnose(galen_assistant *a, galen_differential *found, galen_error *err) {
    galen_tokens prompt = {0}, literals[ITEMS_MAX] = {{0}};
    item *items = calloc(ITEMS_MAX, sizeof *items);
    double score[ITEMS_MAX];
    size_t n_form = 0;
    galen_status st = items ? prompt_tokens(a, &prompt, err) : assist_fail(err, GALEN_E_NOMEM, "five items");
    if (!st) st = name_literals(a, literals, &n_form, err);
    if (!st) st = edge_fits(a, prompt.n, n_form + DIAGNOSIS_TOKENS, "the symptoms make", err);
    if (st) goto done;
    assert(prompt.ids); /* the lead's, at least */
    const int32_t past = (int32_t)prompt.n - 1, last = prompt.ids[past];
    st = edge_start(a, &prompt, err);
    if (!st) st = items_write(a, &name_rules, literals, items, err);
    if (!st) st = score_items(a, past, last, items, score, err);
    if (!st) rank(items, score, found);
done:
    for (int i = 0; i < ITEMS_MAX; i++) galen_tokens_free(&literals[i]);
    galen_tokens_free(&prompt);
    free(items);
    return st;
}

galen_status galen_assistant_diagnose(galen_assistant *a, const char *symptoms, size_t len, galen_differential *out,
                                      galen_error *err) {
    *out = (galen_differential){0};
    galen_differential found = {0};
    galen_status st = galen_symptoms_check(symptoms, len, err);
    free(a->symptoms);
    a->symptoms = NULL;
    a->usage = (galen_assist_usage){0};
    if (!st) st = assist_check_cancel(a, err);
    if (st) return st;
    a->symptoms = prompt_field(symptoms, len);
    st = a->symptoms ? diagnose(a, &found, err) : assist_fail(err, GALEN_E_NOMEM, "symptoms of %zu bytes", len);
    if (st) {
        free(a->symptoms);
        a->symptoms = NULL;
        return assist_end(a, st);
    }
    found.usage = a->usage;
    a->found = found;
    *out = found;
    return GALEN_OK;
}
