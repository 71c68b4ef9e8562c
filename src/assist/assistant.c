/* An assistant's life, and what it says of itself. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "assist/case.h"

#define DEFAULT_CTX 2048

const char *galen_assist_intended_use(void) {
    return "For licensed professionals, education and research. Lists possible conditions; does not diagnose. Not for "
           "emergencies.";
}

const char *galen_assist_confidence_meaning(bool is_calibrated) {
    return is_calibrated ? "model probability, calibrated for this model" : "model probability, uncalibrated";
}

galen_status assist_fail(galen_error *err, galen_status st, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = st;
        err->offset = 0;
        (void)vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
    }
    return st;
}

double assist_now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

galen_status assist_check_cancel(galen_assistant *a, galen_error *err) {
    return atomic_exchange(&a->is_cancelled, false) ? assist_fail(err, GALEN_E_CANCELLED, "cancelled") : GALEN_OK;
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

static galen_status open_session(galen_assistant *a, galen_error *err) {
    const int32_t n_train = galen_model_get_info(a->m).n_ctx_train;
    galen_session_opts o = galen_session_default_opts();
    o.n_ctx = a->opts.n_ctx ? a->opts.n_ctx : n_train > 0 && n_train < DEFAULT_CTX ? n_train : DEFAULT_CTX;
    o.n_batch = a->opts.n_batch;
    o.kv_type = a->opts.kv_type;
    const galen_status st = galen_session_open(&a->s, a->m, &o, err);
    if (st) return st;
    a->n_ctx = galen_session_n_ctx(a->s);
    galen_session_set_progress(a->s, on_progress, a);
    return GALEN_OK;
}

galen_status galen_assistant_open(galen_assistant **out, const galen_model *m, const galen_assistant_opts *opts,
                                  galen_error *err) {
    galen_status st;
    *out = NULL;
    const size_t size = opts ? opts->size : 0;
    if (opts && (size < sizeof opts->size || size > sizeof *opts))
        return assist_fail(err, GALEN_E_ARG, "galen_assistant_opts.size is %zu, expected at most %zu", size, sizeof *opts);
    galen_assistant *a = calloc(1, sizeof *a);
    if (!a) return assist_fail(err, GALEN_E_NOMEM, "assistant");
    a->m = m;
    a->opts = galen_assistant_default_opts();
    if (opts) memcpy(&a->opts, opts, size);
    a->n_vocab = galen_model_get_info(m).n_vocab;
    st = open_session(a, err);
    if (st) goto fail;
    a->starts = calloc((size_t)a->n_vocab + 1, sizeof *a->starts);
    a->bias = calloc((size_t)a->n_vocab + 1, sizeof *a->bias);
    a->edge.ids = calloc((size_t)a->n_ctx + 1, sizeof *a->edge.ids);
    if (!a->starts || !a->bias || !a->edge.ids) {
        st = assist_fail(err, GALEN_E_NOMEM, "an assistant over %d tokens of vocabulary", a->n_vocab);
        goto fail;
    }
    if (!items_find_starts(a)) {
        st = assist_fail(err, GALEN_E_UNSUPPORTED, "the model's vocabulary has too few letters to write five names");
        goto fail;
    }
    *out = a;
    return GALEN_OK;
fail:
    galen_assistant_close(a);
    return st;
}

void galen_assistant_close(galen_assistant *a) {
    if (!a) return;
    galen_session_close(a->s);
    galen_tokens_free(&a->held);
    free(a->starts);
    free(a->bias);
    free(a->edge.ids);
    free(a->symptoms);
    free(a);
}
