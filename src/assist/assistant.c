/* An assistant's life, and what it says of itself. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "assist/case.h"
#include "base/error.h"

#define DEFAULT_CTX 2048

const char *galen_assist_intended_use(void) {
    return "For licensed professionals, education and research. Lists possible conditions; does not diagnose. Not for "
           "emergencies.";
}

const char *galen_assist_confidence_meaning(bool is_calibrated) {
    return is_calibrated ? "model probability, calibrated for this model" : "model probability, uncalibrated";
}

double assist_now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

galen_status assist_check_cancel(galen_assistant *a, galen_error *err) {
    return atomic_exchange(&a->is_cancelled, false) ? galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled") : GALEN_OK;
}

galen_status assist_end(galen_assistant *a, galen_status st) {
    if (st == GALEN_E_CANCELLED) atomic_store(&a->is_cancelled, false); /* the engine may have seen it first */
    return st;
}

void galen_assistant_cancel(galen_assistant *a) {
    atomic_store(&a->is_cancelled, true);
}

galen_assistant_opts galen_assistant_default_opts(void) {
    return (galen_assistant_opts){.size = sizeof(galen_assistant_opts)};
}

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    galen_assistant *a = user;
    if (atomic_load(&a->is_cancelled)) return false;
    return !a->opts.progress || a->opts.progress(a->opts.user, done, total);
}

galen_status assist_send(galen_assistant *a, const galen_assist_event *e, galen_error *err) {
    if (e->part == GALEN_PART_CONDITION && a->usage.first_condition_s == 0)
        a->usage.first_condition_s = assist_now_s() - a->began_s;
    if (!a->opts.on_event || a->opts.on_event(a->opts.user, e)) return GALEN_OK;
    return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled");
}

static galen_status open_session(galen_assistant *a, galen_error *err) {
    const int32_t n_train = galen_model_get_info(a->m).n_ctx_train;
    galen_session_opts o = galen_session_default_opts();
    o.n_ctx = a->opts.n_ctx ? a->opts.n_ctx : n_train > 0 && n_train < DEFAULT_CTX ? n_train : DEFAULT_CTX;
    o.n_batch = a->opts.n_batch;
    o.kv_type = a->opts.kv_type;
    if (a->opts.batcher) {
        o.batcher = a->opts.batcher;
        o.client = a->opts.client;
        o.salt = a->opts.salt;
        o.n_ctx = a->opts.n_ctx; /* 0: the batcher's */
    }
    const galen_status st = galen_session_open(&a->s, a->m, &o, err);
    if (st) return st;
    a->n_ctx = galen_session_n_ctx(a->s);
    galen_session_set_progress(a->s, on_progress, a);
    return GALEN_OK;
}

static galen_status take_opts(galen_assistant *a, const galen_assistant_opts *opts, galen_error *err) {
    const size_t size = opts ? opts->size : 0;
    if (opts && (size < sizeof opts->size || size > sizeof *opts))
        return galen_fail(err, GALEN_E_ARG, 0, "galen_assistant_opts.size is %zu, expected at most %zu", size, sizeof *opts);
    a->opts = galen_assistant_default_opts();
    if (opts) memcpy(&a->opts, opts, size);
    const galen_assistant_opts *o = &a->opts;
    if (o->n_samples < -1 || o->n_samples > GALEN_MAX_SAMPLES)
        return galen_fail(err, GALEN_E_ARG, 0, "%d samples, expected -1 to %d", o->n_samples, GALEN_MAX_SAMPLES);
    if (!(o->temperature >= 0 && o->temperature <= 100))
        return galen_fail(err, GALEN_E_ARG, 0, "a temperature of %g, expected 0 to 100", (double)o->temperature);
    if (o->max_questions < 0 || o->max_questions > MAX_ASKED)
        return galen_fail(err, GALEN_E_ARG, 0, "%d questions, expected 0 to %d", o->max_questions, MAX_ASKED);
    a->calibration = galen_calibration_none();
    if (!o->calibration) return GALEN_OK;
    if (o->calibration->size != sizeof a->calibration)
        return galen_fail(err, GALEN_E_ARG, 0, "galen_calibration.size is %zu, expected %zu", o->calibration->size,
                          sizeof a->calibration);
    a->calibration = *o->calibration;
    const galen_calibration *k = &a->calibration;
    if (k->temperature > 0 && k->name_weight >= 0 && k->name_weight <= 1 && k->text_weight >= 0 && isfinite(k->other_bias))
        return GALEN_OK;
    return galen_fail(err, GALEN_E_ARG, 0, "a calibration of temperature %g, name weight %g and text weight %g", k->temperature,
                      k->name_weight, k->text_weight);
}

/* Fitted with other prompts it says nothing. */
static void check_calibration(galen_assistant *a) {
    const char *of = a->calibration.prompt_version;
    if (of[0] && strcmp(of, a->prompts.version) != 0) a->calibration = galen_calibration_none();
}

static galen_status alloc_tables(galen_assistant *a, galen_error *err) {
    const size_t n = (size_t)a->n_vocab + 1;
    a->starts = calloc(n, sizeof *a->starts);
    a->bias = calloc(2 * n, sizeof *a->bias); /* and a->second's */
    a->edge.ids = calloc((size_t)a->n_ctx + 1, sizeof *a->edge.ids);
    if (!a->starts || !a->bias || !a->edge.ids)
        return galen_fail(err, GALEN_E_NOMEM, 0, "an assistant over %d tokens of vocabulary", a->n_vocab);
    if (!items_find_starts(a))
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "the model's vocabulary has too few letters to write five names");
    return score_find_words(a, err);
}

galen_status galen_assistant_open(galen_assistant **out, const galen_model *m, const galen_assistant_opts *opts,
                                  galen_error *err) {
    galen_status st;
    *out = NULL;
    galen_assistant *a = calloc(1, sizeof *a);
    if (!a) return galen_fail(err, GALEN_E_NOMEM, 0, "assistant");
    a->m = m;
    a->c.open = -1;
    a->n_vocab = galen_model_get_info(m).n_vocab;
    st = take_opts(a, opts, err);
    if (!st) st = prompts_load(&a->prompts, a->opts.prompts_dir ? a->opts.prompts_dir : getenv("GALEN_PROMPTS"), err);
    if (!st) check_calibration(a);
    if (!st) st = open_session(a, err);
    if (!st) st = alloc_tables(a, err);
    if (st) {
        galen_assistant_close(a);
        return st;
    }
    *out = a;
    return GALEN_OK;
}

const char *galen_assistant_prompt_version(const galen_assistant *a) {
    return a->prompts.version;
}

const galen_triage *galen_assistant_triage(const galen_assistant *a) {
    return a->c.text ? &a->c.triage : NULL;
}

const char *galen_assistant_text(const galen_assistant *a, size_t *len) {
    *len = a->c.n_text;
    return a->c.text;
}

void galen_assistant_close(galen_assistant *a) {
    if (!a) return;
    galen_session_close(a->s);
    galen_tokens_free(&a->held);
    case_close(&a->c);
    prompts_free(&a->prompts);
    free(a->starts);
    free(a->bias);
    free(a->edge.ids);
    free(a);
}
