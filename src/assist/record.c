#include "assist/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* jansson's _new setters refuse NULL members, so a failed allocation anywhere makes the whole NULL in the end. */
#define SET(object, key, value) (json_object_set_new((object), (key), (value)) != 0)

static json_t *whole(json_t *root, int bad) {
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

json_t *record_text(const char *text, size_t len) {
    char *clean = malloc(3 * (len + 4));
    utf8_stream u = {0};
    if (!clean) return NULL;
    size_t n = utf8_push(&u, text, len, clean);
    n += utf8_flush(&u, clean + n);
    json_t *j = json_stringn(clean, n);
    free(clean);
    return j;
}

static json_t *text0(const char *s) {
    return s && *s ? record_text(s, strlen(s)) : json_null();
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* {"quote", "from", "to"} and, when not NULL, "bits". Offsets outside the text give an empty quote. */
static json_t *quote(const char *text, size_t len, size_t from, size_t to, const double *bits) {
    json_t *root = json_object();
    const bool is_inside = from <= to && to <= len;
    int bad = SET(root, "quote", record_text(is_inside ? text + from : "", is_inside ? to - from : 0));
    bad |= SET(root, "from", json_integer((json_int_t)from));
    bad |= SET(root, "to", json_integer((json_int_t)to));
    if (bits) bad |= SET(root, "bits", number(*bits));
    return whole(root, bad);
}

/* Append to list; *bad is set when one of them is NULL or memory is out. */
static void append(json_t *list, json_t *one, int *bad) {
    *bad |= json_array_append_new(list, one) != 0;
}

json_t *record_symptoms(const char *text, size_t len) {
    json_t *root = json_object();
    return whole(root, SET(root, "text", record_text(text, len)));
}

static json_t *flag_of(const galen_triage_flag *f, const char *text, size_t len) {
    json_t *root = quote(text, len, f->from, f->to, NULL);
    int bad = SET(root, "id", text0(f->id));
    bad |= SET(root, "category", text0(f->category));
    bad |= SET(root, "level", text0(galen_triage_level_name(f->level)));
    bad |= SET(root, "message", text0(f->message));
    bad |= SET(root, "source", text0(f->source));
    return whole(root, bad);
}

json_t *record_triage(const galen_triage *t, const char *text, size_t len) {
    json_t *root = json_object(), *flags = json_array(), *asks = json_array(), *warnings = json_array();
    int bad = SET(root, "level", text0(galen_triage_level_name(t->level)));
    bad |= SET(root, "advice", text0(galen_triage_level_advice(t->level)));
    for (int32_t i = 0; i < t->n_flags; i++) append(flags, flag_of(&t->flags[i], text, len), &bad);
    for (int32_t i = 0; i < t->n_asks; i++) {
        json_t *one = json_object();
        int bad_one = SET(one, "id", text0(t->asks[i].id));
        bad_one |= SET(one, "question", text0(t->asks[i].question));
        bad_one |= SET(one, "level", text0(galen_triage_level_name(t->asks[i].level)));
        append(asks, whole(one, bad_one), &bad);
    }
    for (int32_t i = 0; i < t->n_warnings; i++) {
        json_t *one = quote(text, len, t->warnings[i].from, t->warnings[i].to, NULL);
        append(warnings, whole(one, SET(one, "message", text0(t->warnings[i].message))), &bad);
    }
    bad |= SET(root, "flags", flags);
    bad |= SET(root, "asks", asks);
    bad |= SET(root, "warnings", warnings);
    return whole(root, bad);
}

/* ------------------------------------------------------------ differential */

static json_t *quotes(const galen_evidence *e, int32_t n, const char *text, size_t len, int *bad) {
    json_t *list = json_array();
    for (int32_t i = 0; i < n; i++) append(list, quote(text, len, e[i].from, e[i].to, &e[i].bits), bad);
    return list;
}

static json_t *condition_of(const galen_condition *c, int rank, const galen_questions *q, const char *text, size_t len) {
    json_t *root = json_object(), *missing = json_array();
    int bad = SET(root, "rank", json_integer(rank));
    bad |= SET(root, "name", text0(c->name));
    bad |= SET(root, "confidence", number(c->confidence));
    bad |= SET(root, "prior", number(c->prior));
    bad |= SET(root, "code", text0(c->code));
    bad |= SET(root, "code_title", text0(c->code_title));
    bad |= SET(root, "support", quotes(c->support, c->n_support, text, len, &bad));
    bad |= SET(root, "against", quotes(c->against, c->n_against, text, len, &bad));
    for (int i = 0; i < GALEN_N_QUESTIONS && q; i++) {
        if (c->missing & 1u << i) append(missing, text0(q->questions[i].text), &bad);
    }
    bad |= SET(root, "missing", missing);
    bad |= SET(root, "evidence_bits", number(c->evidence_bits));
    bad |= SET(root, "name_logprob", number(c->name_logprob));
    bad |= SET(root, "name_prior", number(c->name_prior));
    bad |= SET(root, "choice_logprob", number(c->choice_logprob));
    bad |= SET(root, "text_logprob", number(c->text_logprob));
    bad |= SET(root, "n_tokens", json_integer(c->n_tokens));
    bad |= SET(root, "order", json_integer(c->order));
    bad |= SET(root, "votes", json_integer(c->n_votes));
    return whole(root, bad);
}

static json_t *disagreement_of(uint32_t bits, int *bad) {
    static const char *const names[] = {"names", "samples", "evidence"};
    json_t *list = json_array();
    for (uint32_t i = 0; i < 3; i++) {
        if (bits & 1u << i) append(list, json_string(names[i]), bad);
    }
    return list;
}

static json_t *timings_of(const galen_assist_usage *u) {
    return json_pack("{s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "n_prompt", u->n_prompt, "n_generated", u->n_generated,
                     "n_scored", u->n_scored, "n_calls", u->n_calls, "prefill_s", u->prefill_s, "decode_s", u->decode_s,
                     "score_s", u->score_s, "first_condition_s", u->first_condition_s, "ranked_s", u->ranked_s, "total_s",
                     u->total_s);
}

static int add_run(json_t *root, const record_run *run) {
    static const record_run nothing = {0};
    const record_run *r = run ? run : &nothing;
    int bad = SET(root, "model", json_pack("{s:o, s:o}", "name", text0(r->model_name), "sha256", text0(r->model_sha256)));
    bad |= SET(root, "device", text0(r->device));
    bad |= SET(root, "seed", json_integer((json_int_t)r->seed));
    return bad;
}

json_t *record_differential(const galen_differential *d, const galen_questions *q, const char *symptoms, size_t len,
                            const record_run *run) {
    json_t *root = json_object(), *list = json_array();
    int bad = 0;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) append(list, condition_of(&d->conditions[i], i + 1, q, symptoms, len), &bad);
    bad |= SET(root, "conditions", list);
    bad |= SET(root, "other", number(d->other));
    bad |= SET(root, "choice_other", number(d->choice_other));
    bad |= SET(root, "entropy_bits", number(d->entropy_bits));
    bad |= SET(root, "intended_use", text0(galen_assist_intended_use()));
    bad |= SET(root, "confidence_meaning", text0(galen_assist_confidence_meaning(d->is_calibrated)));
    bad |= SET(root, "is_calibrated", json_boolean(d->is_calibrated));
    bad |= SET(root, "has_choice", json_boolean(d->has_choice));
    bad |= SET(root, "label_mass", number(d->label_mass));
    bad |= SET(root, "agreement", d->n_samples ? number(d->agreement) : json_null());
    bad |= SET(root, "n_text", json_integer(d->n_text));
    bad |= SET(root, "n_samples", json_integer(d->n_samples));
    bad |= SET(root, "disagreement", disagreement_of(d->disagreement, &bad));
    bad |= SET(root, "urgency", d->urgency >= 0 ? number(d->urgency) : json_null());
    bad |= SET(root, "code_year", d->code_year ? json_integer(d->code_year) : json_null());
    bad |= SET(root, "n_answers", json_integer(d->n_answers));
    bad |= SET(root, "prompt_version", text0(d->prompt_version));
    bad |= SET(root, "timings", timings_of(&d->usage));
    bad |= add_run(root, run);
    return whole(root, bad);
}

/* ------------------------------------------------------------ the loop */

json_t *record_question(const galen_question *q) {
    json_t *root = json_object();
    int bad = SET(root, "number", json_integer(q->number));
    bad |= SET(root, "text", text0(q->text));
    bad |= SET(root, "reason", json_string(q->reason == GALEN_ASK_RED_FLAG ? "red_flag" : "entropy"));
    bad |= SET(root, "flag", text0(q->flag_id));
    bad |= SET(root, "bits", number(q->bits));
    bad |= SET(root, "is_cut", json_boolean(q->is_cut));
    return whole(root, bad);
}

json_t *record_questions(const galen_questions *q) {
    json_t *list = json_array();
    int bad = !list;
    for (int i = 0; i < GALEN_N_QUESTIONS; i++) {
        galen_question one = q->questions[i];
        one.number = i + 1; /* of the list; the case's own numbers come with asking */
        append(list, record_question(&one), &bad);
    }
    return whole(list, bad);
}

json_t *record_answer(int32_t number_, galen_answer_kind kind, const char *text, size_t len) {
    json_t *root = json_object();
    int bad = SET(root, "number", json_integer(number_));
    bad |= SET(root, "kind", json_string(galen_answer_kind_name(kind)));
    bad |= SET(root, "text", kind == GALEN_ANSWER_TEXT ? record_text(text, len) : json_null());
    return whole(root, bad);
}

json_t *record_closed(galen_stop stop) {
    json_t *root = json_object();
    return whole(root, SET(root, "reason", json_string(galen_stop_name(stop))));
}
