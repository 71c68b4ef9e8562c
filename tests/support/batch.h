/* Requests for a batcher on a tiny model: what they yield is collected, and what the same request yields alone in a session. */
#ifndef TESTS_SUPPORT_BATCH_H
#define TESTS_SUPPORT_BATCH_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "galen/galen.h"
#include "tiny.h"

enum { JOB_TOKENS = 256, JOB_TEXT = 2048 };

typedef struct job {
    /* what is asked */
    int32_t prompt[JOB_TOKENS];
    int32_t n_prompt, max_tokens, n_top, score_from, n_labels;
    uint64_t seed;
    float temperature, repeat_penalty;
    const char *stop, *client, *salt;
    galen_pooling pooling;
    int64_t timeout_ms;
    const galen_grammar *grammar;
    int32_t cancel_after; /* chunks; 0 = never */
    /* what came */
    uint64_t id;
    int32_t ids[JOB_TOKENS];
    float logprobs[JOB_TOKENS], scores[JOB_TOKENS], embedding[TINY_EMBD], labels[3];
    int32_t n_ids, n_scores, n_ends, n_last, place; /* place: which of all jobs to end */
    char text[JOB_TEXT];
    size_t n_text;
    galen_status st;
    galen_error err;
    galen_finish finish;
    galen_usage usage;
} job;

static const int32_t job_labels[3] = {5, 77, 200};

static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t jobs_changed = PTHREAD_COND_INITIALIZER;
static int32_t n_jobs_ended;

static bool job_take(void *user, const galen_chunk *c) {
    job *j = user;
    if (j->n_text + c->text_len <= sizeof j->text) {
        memcpy(j->text + j->n_text, c->text, c->text_len);
        j->n_text += c->text_len;
    }
    j->n_last += c->is_last;
    if (c->is_last) return true;
    j->ids[j->n_ids] = c->id;
    j->logprobs[j->n_ids++] = c->logprob;
    return j->cancel_after == 0 || j->n_ids < j->cancel_after;
}

static bool job_score(void *user, const galen_chunk *c) {
    job *j = user;
    j->scores[j->n_scores++] = c->logprob;
    return true;
}

static void job_end(void *user, const galen_end *end) {
    job *j = user;
    pthread_mutex_lock(&jobs_lock);
    j->st = end->status;
    j->err = *end->error;
    j->finish = end->finish;
    j->usage = end->usage;
    if (end->embedding) memcpy(j->embedding, end->embedding, sizeof j->embedding);
    if (end->label_logprobs) memcpy(j->labels, end->label_logprobs, sizeof j->labels);
    j->n_ends++;
    j->place = ++n_jobs_ended;
    pthread_cond_broadcast(&jobs_changed);
    pthread_mutex_unlock(&jobs_lock);
}

static galen_generate_opts job_generate(job *j) {
    galen_generate_opts o = galen_generate_default_opts();
    o.max_tokens = j->max_tokens;
    o.n_top_logprobs = j->n_top;
    o.sampling.seed = j->seed;
    o.sampling.temperature = j->temperature;
    o.sampling.repeat_penalty = j->repeat_penalty;
    o.stop = &j->stop;
    o.n_stop = j->stop != NULL;
    o.on_chunk = job_take;
    o.user = j;
    o.grammar = j->grammar;
    return o;
}

static inline galen_status job_submit(galen_batcher *b, job *j, galen_error *err) {
    galen_request_opts o = galen_request_default_opts();
    o.prompt = j->prompt;
    o.n_prompt = j->n_prompt;
    o.generate = job_generate(j);
    o.score_from = j->score_from;
    o.on_score = job_score;
    o.labels = job_labels;
    o.n_labels = j->n_labels;
    o.pooling = j->pooling;
    o.client = j->client;
    o.salt = j->salt;
    o.timeout_ms = j->timeout_ms;
    o.on_end = job_end;
    o.user = j;
    return galen_batcher_submit(b, &o, &j->id, err);
}

static inline void job_wait(const job *j) {
    pthread_mutex_lock(&jobs_lock);
    while (j->n_ends == 0) (void)pthread_cond_wait(&jobs_changed, &jobs_lock);
    pthread_mutex_unlock(&jobs_lock);
}

/* A request of 1 to most prompt tokens drawn from a number; many begin alike. */
static inline job job_make(uint64_t number, int32_t most) {
    job j = {
        .score_from = -1, .n_top = (int32_t)(number % 4) - 1, .seed = number, .repeat_penalty = number % 5 == 0 ? 1.2f : 1.0f};
    const rng_block r = rng_at(77, 1, number);
    j.temperature = r.v[0] % 3 == 0 ? 0.0f : 0.9f;
    j.n_prompt = 1 + (int32_t)(r.v[1] % (uint32_t)most);
    j.max_tokens = (int32_t)(r.v[2] % 40);
    if (number % 4 == 3) j.n_prompt = 1 + j.n_prompt % 30, j.max_tokens += 140; /* outgrows the pages it begins with */
    const int32_t shared = r.v[3] % 4 == 0 ? 0 : (int32_t)(r.v[3] % 150);
    for (int32_t i = 0; i < j.n_prompt; i++)
        j.prompt[i] = 3 + (int32_t)(rng_at(78, i < shared ? r.v[3] % 2 : 100 + number, (uint64_t)i).v[0] % 256);
    return j;
}

/* The same in a session of its own. */
static inline void job_alone(const galen_model *m, job *j, int32_t n_ctx, const char *kv) {
    galen_session *s;
    galen_result r;
    galen_session_opts so = galen_session_default_opts();
    so.n_ctx = n_ctx;
    so.kv_type = kv;
    assert_int_equal(galen_session_open(&s, m, &so, NULL), GALEN_OK);
    const galen_generate_opts o = job_generate(j);
    j->st = galen_generate(s, j->prompt, j->n_prompt, &o, &r, &j->err);
    j->finish = r.finish;
    galen_session_close(s);
}

static inline bool job_is_same(const job *a, const job *b) {
    return a->n_ids == b->n_ids && a->n_text == b->n_text && a->finish == b->finish && a->n_last == b->n_last &&
           memcmp(a->ids, b->ids, sizeof a->ids) == 0 && memcmp(a->text, b->text, a->n_text) == 0 &&
           memcmp(a->logprobs, b->logprobs, (size_t)a->n_ids * sizeof *a->logprobs) == 0;
}

__attribute__((unused)) static void tiny_write(const char *path, const char *arch, const tiny_edit *edits, size_t n) {
    tiny_bytes bytes;
    assert_int_equal(tiny_build(arch, edits, n, &bytes, NULL), GALEN_OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    assert_int_equal(fclose(f), 0);
    free(bytes.p);
}

__attribute__((unused)) static galen_model *tiny_open(const char *path, const char *device, int n_threads) {
    galen_model *m;
    galen_error err = {0};
    galen_model_opts o = galen_model_default_opts();
    o.device = device;
    o.n_threads = n_threads;
    if (galen_model_open(&m, path, &o, &err)) fail_msg("%s", err.msg);
    return m;
}

static galen_batcher_stats batch_stats(const galen_batcher *b) {
    galen_batcher_stats s = {.size = sizeof s};
    galen_batcher_get_stats(b, &s);
    return s;
}

/* When nothing runs any more, no page is held. */
static void batch_is_clean(galen_batcher *b) {
    assert_int_equal(galen_batcher_drain(b, 60000, NULL), GALEN_OK);
    galen_batcher_stats s = batch_stats(b);
    for (int i = 0; i < 60000 && s.n_pages_used + s.n_running > 0; i++) { /* the thread sums up after the last callback */
        (void)usleep(1000);
        s = batch_stats(b);
    }
    assert_int_equal(s.n_pages_used, 0);
    assert_int_equal(s.n_running, 0);
    assert_int_equal(s.n_waiting, 0);
}

#endif
