/* From symptoms to five ranked conditions: red flags first, then names, then what the model makes of them. */
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/names.h"
#include "assist/text.h"
#include "base/error.h"

static const char *const name_ends[] = {"\n", "\r", " (", ",", ";", ":", ". ", " - ", "\t", NULL};
static const char *const name_not_first[] = {"name",     "names",   "confidence", "diagnosis", "diagnoses", "condition",
                                             "symptoms", "symptom", "patient",    "patients",  "repeat",    NULL};
static const item_rules name_rules = {.part = GALEN_PART_CONDITION,
                                      .ends = name_ends,
                                      .not_first = name_not_first,
                                      .budget = DIAGNOSIS_TOKENS,
                                      .most = 14,
                                      .least = 8,
                                      .cap = GALEN_NAME_BYTES,
                                      .key = name_key};

bool items_name_end(const char *text, size_t n, size_t *end) {
    for (size_t i = 0; i < n; i++) {
        for (const char *const *e = name_ends; *e; e++) {
            const size_t k = strlen(*e);
            if (n - i < k || memcmp(text + i, *e, k) != 0) continue;
            *end = i;
            return true;
        }
    }
    return false;
}

bool items_is_name(const char *text, size_t n) {
    char normal[GALEN_NAME_BYTES];
    (void)text_normal(text, n, normal, sizeof normal);
    normal[strcspn(normal, " ")] = '\0';
    for (const char *const *f = name_not_first; *f; f++) {
        if (strcmp(*f, normal) == 0) return false;
    }
    return true;
}

/* Five texts of the form before each name, and the room they take together. */
static galen_status name_literals(galen_assistant *a, galen_tokens out[ITEMS_MAX], size_t *n_all, galen_error *err) {
    char line[64];
    *n_all = 0;
    /* "\n- diagnosis:": the lead again. Of a longer lead of one's own, its last line. */
    const char *lead = a->prompts.lead[PROMPT_DIAGNOSE], *nl = strrchr(lead, '\n');
    const size_t n = strlen(nl ? nl + 1 : lead);
    line[0] = '\n';
    memcpy(line + 1, nl ? nl + 1 : lead, n < sizeof line - 2 ? n : sizeof line - 2);
    line[1 + (n < sizeof line - 2 ? n : sizeof line - 2)] = '\0';
    for (int i = 1; i < ITEMS_MAX; i++) {
        const galen_status st = edge_literal(a, line, &out[i], err);
        if (st) return st;
        *n_all += out[i].n;
    }
    return GALEN_OK;
}

static void take_names(galen_assistant *a, const item items[ITEMS_MAX], const double score[ITEMS_MAX], galen_differential *d) {
    for (int i = 0; i < ITEMS_MAX; i++) {
        galen_condition *c = &d->conditions[i];
        memcpy(c->name, items[i].text, items[i].n_text + 1); /* text_line kept it below GALEN_NAME_BYTES */
        memcpy(c->code, items[i].code.code, sizeof c->code);
        c->code_title = items[i].code.title;
        c->name_logprob = score[i];
        c->n_tokens = items[i].n_ids;
        c->order = i;
    }
    d->code_year = a->opts.codes ? galen_codes_year(a->opts.codes) : 0;
    memcpy(d->prompt_version, a->prompts.version, sizeof d->prompt_version);
    d->is_calibrated = a->calibration.n_cases > 0;
    d->urgency = -1;
}

/* The names, how likely each is where it could stand first, and what is named first when asked anew. */
static galen_status find_names(galen_assistant *a, item items[ITEMS_MAX], galen_differential *d, galen_error *err) {
    galen_tokens prompt = {0}, kept = {0}, literals[ITEMS_MAX] = {{0}};
    double score[ITEMS_MAX];
    size_t n_form = 0;
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = a->c.field}};
    galen_status st = edge_prompt(a, PROMPT_DIAGNOSE, &v, &prompt, err);
    if (!st) st = name_literals(a, literals, &n_form, err);
    if (!st) st = edge_fits(a, prompt.n, n_form + DIAGNOSIS_TOKENS, "the symptoms make", err);
    if (!st) st = prompt_append(&kept, &prompt, err);
    if (st) goto done;
    st = edge_start(a, &prompt, err);
    if (!st) st = items_write(a, &name_rules, literals, items, err);
    if (!st) st = score_items(a, &kept, items, score, err);
    if (!st) take_names(a, items, score, d);
    if (!st) st = samples_vote(a, &kept, items, d, err);
done:
    for (int i = 0; i < ITEMS_MAX; i++) galen_tokens_free(&literals[i]);
    galen_tokens_free(&prompt);
    galen_tokens_free(&kept);
    return st;
}

/* How likely the names are without a complaint. */
static galen_status find_name_priors(galen_assistant *a, const item items[ITEMS_MAX], galen_differential *d, galen_error *err) {
    galen_tokens prompt = {0};
    double score[ITEMS_MAX];
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = "none"}};
    galen_status st = edge_prompt(a, PROMPT_DIAGNOSE, &v, &prompt, err);
    if (st) return st;
    st = score_items(a, &prompt, items, score, err);
    galen_tokens_free(&prompt);
    for (int i = 0; i < GALEN_N_CONDITIONS && !st; i++) d->conditions[i].name_prior = score[d->conditions[i].order];
    return st;
}

static galen_status send_triage(galen_assistant *a, galen_error *err) {
    return assist_send(a, &(galen_assist_event){.part = GALEN_PART_TRIAGE, .triage = &a->c.triage}, err);
}

/* What shares the symptoms' place in the session comes first: names, samples, the choice, the urgency. */
static galen_status diagnose(galen_assistant *a, galen_differential *d, galen_error *err) {
    bool is_raised = false;
    item *items = calloc(ITEMS_MAX, sizeof *items);
    if (!items) return galen_fail(err, GALEN_E_NOMEM, 0, "five items");
    galen_status st = find_names(a, items, d, err);
    if (!st) st = choose(a, d, err);
    if (!st && !a->opts.has_no_urgency) st = urgency_read(a, d, &is_raised, err);
    if (!st && is_raised) st = send_triage(a, err);
    if (!st) st = find_name_priors(a, items, d, err);
    if (!st) st = evidence_find(a, d, err);
    free(items);
    if (st) return st;
    rank_conditions(d, &a->calibration, a->c.likelihood);
    rank_signals(d);
    a->usage.ranked_s = assist_now_s() - a->began_s;
    d->usage = a->usage;
    return assist_send(a, &(galen_assist_event){.part = GALEN_PART_RANKING, .differential = d}, err);
}

galen_status galen_assistant_diagnose(galen_assistant *a, const char *symptoms, size_t len, galen_differential *out,
                                      galen_error *err) {
    *out = (galen_differential){0};
    galen_differential found = {0};
    a->usage = (galen_assist_usage){0};
    a->began_s = assist_now_s();
    case_close(&a->c);
    a->found = (galen_differential){0};
    a->written = (galen_questions){0};
    galen_status st = case_open(&a->c, symptoms, len, err);
    if (st) return assist_end(a, st);
    st = send_triage(a, err);
    if (!st) st = galen_symptoms_check(symptoms, len, err);
    if (!st) st = assist_check_cancel(a, err);
    if (!st) st = diagnose(a, &found, err);
    if (st) return assist_end(a, st);
    a->usage.total_s = assist_now_s() - a->began_s;
    found.usage = a->usage;
    a->found = *out = found;
    a->c.has_conditions = true;
    return GALEN_OK;
}
