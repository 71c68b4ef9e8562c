#include "eval/run.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "eval/patient.h"

enum { CATEGORY_BYTES = 3 };

static double now_s(void) {
    return (double)clock_monotonic_ns() * 1e-9;
}

/* ------------------------------------------------------------ labels and rules */

/* The label's own, else that of the first wording that has one; none without a table. Errors  NOMEM. */
static galen_status find_code(const galen_codes *codes, const labelled_case *c, char out[12], galen_error *err) {
    galen_code found = {.code = ""};
    if (codes) (void)snprintf(found.code, sizeof found.code, "%s", c->code);
    for (int32_t i = 0; i < c->n_names && codes && !found.code[0]; i++) {
        const galen_status st = galen_codes_find(codes, c->names[i], strlen(c->names[i]), &found, err);
        if (st && st != GALEN_E_REFUSED) return st;
    }
    (void)snprintf(out, 12, "%s", found.code);
    return GALEN_OK;
}

/* As much of a name as a condition may have, not cut inside a character. */
static void copy_name(const char *s, char out[GALEN_NAME_BYTES]) {
    size_t n = strlen(s);
    if (n >= GALEN_NAME_BYTES) {
        n = GALEN_NAME_BYTES - 1;
        while (n && ((unsigned char)s[n] & 0xC0) == 0x80) n--;
    }
    memcpy(out, s, n);
    out[n] = '\0';
}

static galen_status by_rules(const eval_run *run, const eval_case *c, eval_row *r, galen_error *err) {
    const double began = now_s();
    galen_triage t;
    galen_status st = galen_triage_text(c->c.text, c->c.n, &t, err);
    if (st && st != GALEN_E_REFUSED) return st;
    r->rules_s = now_s() - began;
    r->level = r->model_level = (int32_t)t.level;
    r->n_flags = t.n_flags;
    memcpy(r->key, c->key, sizeof r->key);
    (void)snprintf(r->id, sizeof r->id, "%s", c->c.id);
    r->tier = c->c.tier;
    r->least = c->c.least;
    r->most = c->c.most;
    r->n_categories = c->c.n_categories;
    memcpy(r->categories, c->c.categories, sizeof r->categories);
    if (c->c.n_names) copy_name(c->c.names[0], r->expected);
    return find_code(run->codes, &c->c, r->expected_code, err);
}

/* ------------------------------------------------------------ right or wrong */

static bool is_category(const char *expected, const char *code) {
    return expected[0] && code[0] && strncmp(expected, code, CATEGORY_BYTES) == 0;
}

static bool is_name(const eval_run *run, const labelled_case *c, const char *name) {
    for (int32_t i = 0; i < c->n_names; i++) {
        if (galen_condition_is_same(run->codes, name, c->names[i])) return true;
    }
    return false;
}

/* Where what is expected stands in a ranking, 1..5; 0: nowhere. */
static int32_t rank_in(const eval_run *run, const eval_case *c, const eval_row *r, const galen_differential *d) {
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *k = &d->conditions[i];
        if (r->expected_code[0] ? is_category(r->expected_code, k->code) : is_name(run, &c->c, k->name)) return i + 1;
    }
    return 0;
}

static void keep_list(const eval_run *run, const eval_case *c, const galen_differential *d, eval_row *r) {
    cases_scores(&c->c, d, run->codes, &r->scores);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *k = &d->conditions[i];
        eval_condition *e = &r->conditions[i];
        *e = (eval_condition){.confidence = k->confidence,
                              .order = k->order,
                              .is_name = is_name(run, &c->c, k->name),
                              .is_category = is_category(r->expected_code, k->code)};
        (void)snprintf(e->name, sizeof e->name, "%s", k->name);
        (void)snprintf(e->code, sizeof e->code, "%s", k->code);
        if (e->is_name && !r->name_rank) r->name_rank = i + 1;
        if (e->is_category && !r->category_rank) r->category_rank = i + 1;
    }
    r->other = d->other;
    r->first_s = d->usage.first_condition_s;
    r->ranked_s = d->usage.ranked_s;
}

/* ------------------------------------------------------------ the model */

/* REFUSED and FULL are results. */
static galen_status list_of(const eval_run *run, const char *text, size_t n, galen_differential *d, eval_status *status,
                            galen_error *err) {
    const galen_status st = galen_assistant_diagnose(run->a, text, n, d, err);
    *status = st == GALEN_E_REFUSED ? EVAL_REFUSED : st == GALEN_E_FULL ? EVAL_TOO_LONG : EVAL_DONE;
    return *status == EVAL_DONE ? st : GALEN_OK;
}

static galen_status by_model(const eval_run *run, const eval_case *c, eval_row *r, galen_error *err) {
    galen_differential d;
    const galen_status st = list_of(run, c->c.text, c->c.n, &d, &r->status, err);
    if (st || r->status != EVAL_DONE) return st;
    keep_list(run, c, &d, r);
    const galen_triage *t = galen_assistant_triage(run->a);
    if (t && (int32_t)t->level > r->model_level) r->model_level = (int32_t)t->level;
    return GALEN_OK;
}

static void count_answer(eval_questions *q, galen_answer_kind kind) {
    q->n_asked++;
    q->n_yes += kind == GALEN_ANSWER_YES;
    q->n_no += kind == GALEN_ANSWER_NO;
    q->n_unknown += kind == GALEN_ANSWER_UNKNOWN;
}

static galen_status ask_patient(const eval_run *run, const eval_case *c, const patient *p, eval_row *r, galen_error *err) {
    eval_questions *q = &r->questions;
    char what[48];
    for (;;) {
        galen_question one;
        galen_update u;
        galen_status st = galen_assistant_ask(run->a, &one, &q->stop, err);
        if (st || q->stop != GALEN_STOP_NONE) return st;
        (void)snprintf(what, sizeof what, "question %d", q->n_asked + 1);
        if (run->tell) run->tell(run->user, what);
        const galen_answer_kind kind = patient_answer(p, one.text, strlen(one.text));
        st = galen_assistant_answer(run->a, kind, NULL, 0, &u, err);
        if (st) return st;
        count_answer(q, kind);
        q->end_rank = rank_in(run, c, r, &u.now);
        if (q->end_rank == 1 && q->reached < 0) q->reached = q->n_asked;
    }
}

static galen_status by_questions(const eval_run *run, const eval_case *c, eval_row *r, galen_error *err) {
    eval_questions *q = &r->questions;
    const char *opening = c->c.opening ? c->c.opening : c->c.text, *facts = c->c.facts ? c->c.facts : c->c.text;
    const double began = now_s();
    galen_differential d;
    patient *p = NULL;
    galen_status st = list_of(run, opening, strlen(opening), &d, &q->status, err);
    if (!st && q->status == EVAL_DONE) st = patient_open(&p, facts, strlen(facts), err);
    if (!st && p) {
        q->start_rank = q->end_rank = rank_in(run, c, r, &d);
        q->reached = q->start_rank == 1 ? 0 : -1;
        st = ask_patient(run, c, p, r, err);
        if (st == GALEN_E_FULL || st == GALEN_E_REFUSED) { /* in the middle: what was asked is no full loop */
            q->status = st == GALEN_E_FULL ? EVAL_TOO_LONG : EVAL_REFUSED;
            st = GALEN_OK;
        }
    }
    patient_close(p);
    q->seconds = now_s() - began;
    return st;
}

galen_status eval_case_run(const eval_run *run, const eval_case *c, eval_row *out, galen_error *err) {
    *out = (eval_row){.questions = {.reached = -1}};
    galen_status st = by_rules(run, c, out, err);
    if (st || !run->a) return st;
    st = by_model(run, c, out, err);
    if (!st && out->expected[0] && run->max_questions) st = by_questions(run, c, out, err);
    return st;
}
