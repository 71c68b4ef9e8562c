/* The turns' form is docs/schema/turns.json. */
#include "cli/turns.h"

#include <string.h>

void turns_symptoms(const turns *t, const char *text, size_t n) {
    t->put(t->user, "symptoms", json_pack("{s:o}", "text", json_text(text, n)));
}

static json_t *condition(const galen_condition *k, int rank) {
    const bool has_code = k->code[0] != '\0';
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:[], s:[], s:[]}", "rank", rank, "name", json_text0(k->name), "confidence",
                     json_number(k->confidence), "name_logprob", json_number(k->name_logprob), "code",
                     has_code ? json_text0(k->code) : json_null(), "code_title", json_text0(has_code ? k->code_title : NULL),
                     "support", "against", "missing");
}

static json_t *usage(const galen_assist_usage *u) {
    return json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "n_prompt", u->n_prompt, "n_generated", u->n_generated, "n_scored",
                     u->n_scored, "prefill_s", u->prefill_s, "decode_s", u->decode_s, "score_s", u->score_s);
}

void turns_differential(const turns *t, const galen_differential *d) {
    json_t *list = json_array();
    int bad = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) bad |= json_array_append_new(list, condition(&d->conditions[i], i + 1));
    json_t *turn =
        json_pack("{s:o, s:o, s:s, s:b, s:o, s:i, s:{s:o, s:o}, s:o, s:I, s:s, s:o}", "conditions", list, "other",
                  json_number(d->other), "confidence_meaning", galen_assist_confidence_meaning(d->is_calibrated), "is_calibrated",
                  d->is_calibrated, "agreement", json_number(d->agreement), "code_year", d->code_year, "model", "name",
                  json_text0(t->model_name), "sha256", json_text0(t->model_sha256), "device", json_text0(t->device), "seed",
                  (json_int_t)t->seed, "prompt_version", d->prompt_version, "timings", usage(&d->usage));
    if (bad) {
        json_decref(turn);
        turn = NULL;
    }
    t->put(t->user, "differential", turn);
}

void turns_questions(const turns *t, const galen_questions *q) {
    for (int i = 0; i < GALEN_N_QUESTIONS; i++) {
        const galen_question *one = &q->questions[i];
        t->put(t->user, "question",
               json_pack("{s:i, s:o, s:s, s:o}", "number", i + 1, "text", json_text0(one->text), "reason",
                         one->reason == GALEN_ASK_RED_FLAG ? "red_flag" : "entropy", "bits", json_number(one->bits)));
    }
}
