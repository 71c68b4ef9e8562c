/* The asynchronous adapter: a queue of jobs and the one thread that does them. The thread alone touches the model and the
 * assistant; the lock guards the queue, and the assistant's pointer while somebody else wants to cancel it. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "assist/form.h"
#include "base/error.h"

typedef enum job_kind { JOB_LOAD, JOB_DIAGNOSE, JOB_QUESTIONS } job_kind;

typedef struct job {
    struct job *next;
    uint64_t id;
    job_kind kind;
    char *text; /* a path, symptoms or a context; NULL for none */
    size_t n;
    double confidence;
    galen_model_opts model;
    galen_assistant_opts assistant;
    char *strings[12]; /* copies that the options point to */
    int n_strings;
    galen_adapter_fn fn;
    void *user;
    bool is_cancelled;
} job;

struct galen_adapter {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    job *first, **last; /* waiting */
    job *running;       /* NULL while idle */
    uint64_t n_jobs;
    bool is_closing;
    galen_model *m; /* the thread's */
    galen_assistant *a;
};

static void job_free(job *j) {
    if (!j) return;
    for (int i = 0; i < j->n_strings; i++) free(j->strings[i]);
    free(j->text);
    free(j);
}

/* ------------------------------------------------------------ the thread */

/* Replace what is loaded. The old assistant is taken away under the lock, so that a cancel never meets a closed one. */
static galen_status load(galen_adapter *ad, const job *j, galen_error *err) {
    galen_assistant *a = NULL;
    galen_model *m = NULL;
    pthread_mutex_lock(&ad->lock);
    galen_assistant *old = ad->a;
    ad->a = NULL;
    pthread_mutex_unlock(&ad->lock);
    galen_assistant_close(old);
    galen_model_close(ad->m);
    ad->m = NULL;
    galen_status st = galen_model_open(&m, j->text, &j->model, err);
    if (!st) st = galen_assistant_open(&a, m, &j->assistant, err);
    if (st) {
        galen_model_close(m);
        return st;
    }
    pthread_mutex_lock(&ad->lock);
    const bool is_wanted = !j->is_cancelled && !ad->is_closing;
    if (is_wanted) ad->a = a;
    pthread_mutex_unlock(&ad->lock);
    if (is_wanted) {
        ad->m = m;
        return GALEN_OK;
    }
    galen_assistant_close(a);
    galen_model_close(m);
    return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled");
}

typedef struct answer {
    galen_differential d;
    galen_questions q;
} answer;

static galen_status work(galen_adapter *ad, const job *j, answer *out, galen_adapter_result *r, galen_error *err) {
    if (j->kind == JOB_LOAD) return load(ad, j, err);
    if (!ad->a) return galen_fail(err, GALEN_E_ARG, 0, "no model is loaded: galen_adapter_load_model first");
    if (j->kind == JOB_DIAGNOSE) {
        const galen_status st = galen_assistant_diagnose(ad->a, j->text, j->n, &out->d, err);
        r->triage = galen_assistant_triage(ad->a);
        if (!st) r->differential = &out->d;
        return st;
    }
    const galen_status st = j->text ? galen_assistant_questions_on(ad->a, j->text, j->n, j->confidence, &out->q, err)
                                    : galen_assistant_questions(ad->a, &out->q, err);
    if (!st) r->questions = &out->q;
    return st;
}

/* Do it, tell it, free it. */
static void finish(galen_adapter *ad, job *j, bool is_cancelled) {
    galen_error err = {0};
    galen_adapter_result r = {.job = j->id, .error = &err, .text = ""};
    answer *out = calloc(1, sizeof *out);
    char *text = NULL;
    if (is_cancelled)
        r.status = galen_fail(&err, GALEN_E_CANCELLED, 0, "cancelled");
    else
        r.status = out ? work(ad, j, out, &r, &err) : galen_fail(&err, GALEN_E_NOMEM, 0, "a job's answer");
    if (r.differential) text = form_differential(r.differential);
    if (r.questions) text = form_questions(r.questions);
    if ((r.differential || r.questions) && !text) r.status = galen_fail(&err, GALEN_E_NOMEM, 0, "a job's text");
    if (text) r.text = text;
    pthread_mutex_lock(&ad->lock);
    ad->running = NULL; /* from here on a cancel of this job does nothing */
    pthread_mutex_unlock(&ad->lock);
    j->fn(j->user, &r);
    free(text);
    free(out);
    job_free(j);
}

static void *thread_main(void *user) {
    galen_adapter *ad = user;
    pthread_mutex_lock(&ad->lock);
    for (;;) {
        while (!ad->first && !ad->is_closing) pthread_cond_wait(&ad->wake, &ad->lock);
        job *j = ad->first;
        if (!j) break;
        ad->first = j->next;
        if (!ad->first) ad->last = &ad->first;
        ad->running = j;
        if (ad->a) atomic_store(&ad->a->is_cancelled, false); /* what came too late for the job before */
        const bool is_cancelled = j->is_cancelled || ad->is_closing;
        pthread_mutex_unlock(&ad->lock);
        finish(ad, j, is_cancelled);
        pthread_mutex_lock(&ad->lock);
    }
    pthread_mutex_unlock(&ad->lock);
    return NULL;
}

/* ------------------------------------------------------------ open, close, cancel */

galen_status galen_adapter_open(galen_adapter **out, galen_error *err) {
    *out = NULL;
    galen_adapter *ad = calloc(1, sizeof *ad);
    if (!ad) return galen_fail(err, GALEN_E_NOMEM, 0, "adapter");
    ad->last = &ad->first;
    if (pthread_mutex_init(&ad->lock, NULL)) {
        free(ad);
        return galen_fail(err, GALEN_E_FAIL, 0, "the adapter's lock cannot be made");
    }
    if (pthread_cond_init(&ad->wake, NULL)) {
        (void)pthread_mutex_destroy(&ad->lock);
        free(ad);
        return galen_fail(err, GALEN_E_FAIL, 0, "the adapter's signal cannot be made");
    }
    if (pthread_create(&ad->thread, NULL, thread_main, ad)) {
        (void)pthread_cond_destroy(&ad->wake);
        (void)pthread_mutex_destroy(&ad->lock);
        free(ad);
        return galen_fail(err, GALEN_E_FAIL, 0, "the adapter's thread cannot be started");
    }
    *out = ad;
    return GALEN_OK;
}

void galen_adapter_close(galen_adapter *ad) {
    if (!ad) return;
    pthread_mutex_lock(&ad->lock);
    ad->is_closing = true;
    if (ad->running && ad->a) galen_assistant_cancel(ad->a);
    pthread_cond_signal(&ad->wake);
    pthread_mutex_unlock(&ad->lock);
    (void)pthread_join(ad->thread, NULL);
    galen_assistant_close(ad->a);
    galen_model_close(ad->m);
    (void)pthread_cond_destroy(&ad->wake);
    (void)pthread_mutex_destroy(&ad->lock);
    free(ad);
}

void galen_adapter_cancel(galen_adapter *ad, uint64_t id) {
    pthread_mutex_lock(&ad->lock);
    for (job *j = ad->first; j; j = j->next) {
        if (j->id == id) j->is_cancelled = true;
    }
    if (ad->running && ad->running->id == id) {
        ad->running->is_cancelled = true;
        if (ad->running->kind != JOB_LOAD && ad->a) galen_assistant_cancel(ad->a);
    }
    pthread_mutex_unlock(&ad->lock);
}

/* ------------------------------------------------------------ submitting */

static job *job_new(job_kind kind, const char *text, size_t n, galen_adapter_fn fn, void *user) {
    job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->kind = kind;
    j->fn = fn;
    j->user = user;
    if (!text) return j;
    j->text = malloc(n + 1);
    if (!j->text) {
        free(j);
        return NULL;
    }
    memcpy(j->text, text, n);
    j->text[n] = '\0';
    j->n = n;
    return j;
}

static galen_status submit(galen_adapter *ad, job *j, uint64_t *id, galen_error *err) {
    if (!j) return galen_fail(err, GALEN_E_NOMEM, 0, "a job");
    if (!j->fn) {
        job_free(j);
        return galen_fail(err, GALEN_E_ARG, 0, "a job without a function to call");
    }
    pthread_mutex_lock(&ad->lock);
    j->id = ++ad->n_jobs;
    if (id) *id = j->id; /* before the callback can come */
    *ad->last = j;
    ad->last = &j->next;
    pthread_cond_signal(&ad->wake);
    pthread_mutex_unlock(&ad->lock);
    return GALEN_OK;
}

/* Let an option point to a copy of its string. */
static bool own(job *j, const char **option) {
    if (!*option) return true;
    char *copy = strdup(*option);
    if (!copy) return false;
    *option = j->strings[j->n_strings++] = copy;
    return true;
}

galen_status galen_adapter_load_model(galen_adapter *ad, const char *path, const galen_model_opts *model,
                                      const galen_assistant_opts *assistant, galen_adapter_fn fn, void *user, uint64_t *id,
                                      galen_error *err) {
    const galen_model_opts mo = galen_model_default_opts();
    const galen_assistant_opts ao = galen_assistant_default_opts();
    if (model && model->size != sizeof *model)
        return galen_fail(err, GALEN_E_ARG, 0, "galen_model_opts.size is %zu, expected %zu", model->size, sizeof *model);
    if (assistant && assistant->size != sizeof *assistant)
        return galen_fail(err, GALEN_E_ARG, 0, "galen_assistant_opts.size is %zu, expected %zu", assistant->size,
                          sizeof *assistant);
    job *j = job_new(JOB_LOAD, path, strlen(path), fn, user);
    if (j) {
        j->model = model ? *model : mo;
        j->assistant = assistant ? *assistant : ao;
        const bool is_owned = own(j, &j->model.device) && own(j, &j->model.isa) && own(j, &j->model.chat_format) &&
                              own(j, &j->model.kv_type) && own(j, &j->model.cache_dir) && own(j, &j->assistant.kv_type) &&
                              own(j, &j->assistant.client) && own(j, &j->assistant.salt) && own(j, &j->assistant.prompts_dir);
        if (!is_owned) {
            job_free(j);
            j = NULL;
        }
    }
    return submit(ad, j, id, err);
}

galen_status galen_adapter_generate_diagnosis(galen_adapter *ad, const char *symptoms, size_t len, galen_adapter_fn fn,
                                              void *user, uint64_t *id, galen_error *err) {
    return submit(ad, job_new(JOB_DIAGNOSE, symptoms, len, fn, user), id, err);
}

galen_status galen_adapter_generate_followup_questions(galen_adapter *ad, const char *context, size_t len, double confidence,
                                                       galen_adapter_fn fn, void *user, uint64_t *id, galen_error *err) {
    job *j = job_new(JOB_QUESTIONS, context, len, fn, user);
    if (j) j->confidence = confidence;
    return submit(ad, j, id, err);
}
