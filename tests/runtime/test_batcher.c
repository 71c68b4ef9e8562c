/* Many requests at once on tiny models: the bytes of each alone, whatever runs beside it; limits; ends; pages. */
#include "../support/batch.h"

#include <stdatomic.h>

#include "base/clock.h"

#include "../support/temp.h"
enum { CTX = 256 };

static galen_batcher *open_batcher(const galen_model *m, const galen_batcher_opts *o) {
    galen_batcher *b;
    galen_error err = {0};
    if (galen_batcher_open(&b, m, o, &err)) fail_msg("%s", err.msg);
    return b;
}

static galen_batcher_opts small(void) {
    galen_batcher_opts o = galen_batcher_default_opts();
    o.n_ctx = CTX;
    return o;
}

/* ---------------------------------------------------------------- the same bytes */

enum { N_JOBS = 60 };

static void run_mix(const galen_model *m, const galen_batcher_opts *o, const job *want, int n_jobs, const char *why) {
    static job got[N_JOBS];
    static const char *const clients[] = {"a", "b", NULL, "c"};
    galen_batcher *b = open_batcher(m, o);
    for (int i = 0; i < n_jobs; i++) {
        got[i] = job_make((uint64_t)i, 200);
        got[i].client = clients[i % 4];
        galen_error err;
        if (job_submit(b, &got[i], &err)) fail_msg("%s: %s", why, err.msg);
        if (i % 7 == 6) galen_batcher_cancel(b, got[i - 3].id); /* it may have ended */
        if (i % 11 == 0) (void)usleep(2000);                    /* some join later */
    }
    int n_whole = 0;
    for (int i = 0; i < n_jobs; i++) {
        job_wait(&got[i]);
        assert_int_equal(got[i].n_ends, 1);
        if (got[i].st == GALEN_E_CANCELLED && i % 7 == 3) continue;
        if (got[i].st) fail_msg("%s: job %d: %s", why, i, got[i].err.msg);
        if (!job_is_same(&got[i], &want[i])) fail_msg("%s: job %d has other bytes than alone", why, i);
        n_whole++;
    }
    assert_true(n_whole >= n_jobs - n_jobs / 7 - 1);
    const galen_batcher_stats s = batch_stats(b);
    if (!o->has_prefix_cache && s.n_cached_tokens) fail_msg("%s: cached tokens without a cache", why);
    if (o->kv_tokens == CTX && o->max_seqs > 4 && s.n_preemptions == 0) fail_msg("%s: nobody was preempted", why);
    batch_is_clean(b);
    galen_batcher_close(b);
}

static void batch_mates_change_nothing(void **state) {
    (void)state;
    static const struct {
        int32_t max_seqs, n_batch, n_chunk;
        int64_t kv_tokens;
        bool has_cache;
        const char *kv, *why;
    } rows[] = {
        {8, 64, 16, 0, true, "f16", "eight at once"},
        {8, 64, 16, 0, false, "f16", "without a prefix cache"},
        {16, 16, 1, 4 * CTX, true, "f16", "one prompt row beside the others"},
        {32, 512, 512, 0, true, "q8_0", "large steps, q8_0"},
        {8, 37, 9, CTX, true, "f16", "pages for one: preemption, cache"},
        {8, 37, 9, CTX, false, "f32", "pages for one: preemption, no cache"},
        {1, 5, 5, CTX, true, "f16", "one after another"},
    };
    static const char *const archs[] = {"llama", "gemma3"};
    static job want[N_JOBS];
    for (int a = 0; a < 2; a++) {
        tiny_write(path, archs[a], NULL, 0);
        galen_model *m = tiny_open(path, "cpu", 2);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            for (int i = 0; i < N_JOBS; i++) {
                want[i] = job_make((uint64_t)i, 200);
                job_alone(m, &want[i], CTX, rows[r].kv);
            }
            galen_batcher_opts o = small();
            o.max_seqs = rows[r].max_seqs;
            o.n_batch = rows[r].n_batch;
            o.n_chunk = rows[r].n_chunk;
            o.kv_tokens = rows[r].kv_tokens;
            o.kv_type = rows[r].kv;
            o.has_prefix_cache = rows[r].has_cache;
            run_mix(m, &o, want, N_JOBS, rows[r].why);
        }
        galen_model_close(m);
    }
}

/* The reference device offers no copying of pages: shared ones are shared whole or not at all. */
static void without_copying_pages_too(void **state) {
    (void)state;
    enum { N_REF = 14 };
    static job want[N_REF];
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "ref", 1);
    for (int i = 0; i < N_REF; i++) {
        want[i] = job_make((uint64_t)i, 200);
        job_alone(m, &want[i], CTX, "f16");
    }
    galen_batcher_opts o = small();
    o.max_seqs = 4;
    o.kv_tokens = CTX;
    run_mix(m, &o, want, N_REF, "ref");
    galen_model_close(m);
}

/* ---------------------------------------------------------------- prefixes */

static int32_t cached_after(galen_batcher *b, const job *first, job second, const job *want) {
    job j = *first;
    assert_int_equal(job_submit(b, &j, NULL), GALEN_OK);
    job_wait(&j);
    assert_int_equal(job_submit(b, &second, NULL), GALEN_OK);
    job_wait(&second);
    assert_int_equal(second.st, GALEN_OK);
    if (want) assert_true(job_is_same(&second, want));
    return second.usage.n_cached;
}

static void known_prefixes_are_reused_and_counted(void **state) {
    (void)state;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    job a = {.n_prompt = 150, .max_tokens = 30, .n_top = 2, .score_from = -1, .repeat_penalty = 1};
    for (int32_t i = 0; i < 200; i++) a.prompt[i] = 3 + i % 200;
    job alone = a;
    job_alone(m, &alone, CTX, "f16");
    const galen_batcher_opts o = small();
    galen_batcher *b = open_batcher(m, &o);
    assert_int_equal(cached_after(b, &a, a, &alone), 149); /* two pages and a part of the third; the last token is computed */
    job longer = a;                                        /* the next turn of a talk: the prompt, what was answered, and more */
    memcpy(longer.prompt + 150, alone.ids, 30 * sizeof *alone.ids);
    longer.n_prompt = 200;
    job longer_alone = longer;
    job_alone(m, &longer_alone, CTX, "f16");
    assert_int_equal(cached_after(b, &a, longer, &longer_alone), 179); /* the last token told was never evaluated */
    job other = a;
    other.prompt[100] = 250;
    job other_alone = other;
    job_alone(m, &other_alone, CTX, "f16");
    assert_int_equal(cached_after(b, &a, other, &other_alone), 100);
    other.salt = "another tenant";
    assert_int_equal(cached_after(b, &a, other, &other_alone), 0);
    assert_int_equal(cached_after(b, &other, other, &other_alone), 149); /* but its own */
    job scored = a;
    scored.score_from = 100;
    assert_int_equal(cached_after(b, &a, scored, &alone), 99); /* what is to be scored is computed */
    scored.score_from = 0;
    assert_int_equal(cached_after(b, &a, scored, &alone), 0);
    const galen_batcher_stats s = batch_stats(b);
    assert_int_equal(s.n_cached_tokens, 149 * 8 + 179 + 100 + 99); /* the first of a pair finds itself from the second on */
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
}

/* Twins that come together wait for the first one's pages instead of computing them again. */
static void twins_share_a_prompt_under_way(void **state) {
    (void)state;
    enum { TWINS = 8 };
    static job twins[TWINS];
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    galen_batcher_opts o = small();
    o.n_batch = o.max_seqs = 32;
    galen_batcher *b = open_batcher(m, &o);
    job busy = {.n_prompt = 1, .prompt = {9}, .max_tokens = 200, .n_top = -1, .score_from = -1, .repeat_penalty = 1};
    assert_int_equal(job_submit(b, &busy, NULL), GALEN_OK);
    for (int i = 0; i < TWINS; i++) {
        twins[i] = (job){.n_prompt = 190, .max_tokens = 4, .n_top = -1, .score_from = -1, .repeat_penalty = 1, .temperature = 1};
        twins[i].seed = (uint64_t)i;
        for (int32_t k = 0; k < 190; k++) twins[i].prompt[k] = 3 + k;
        assert_int_equal(job_submit(b, &twins[i], NULL), GALEN_OK);
    }
    int n_cached = 0;
    for (int i = 0; i < TWINS; i++) {
        job_wait(&twins[i]);
        n_cached += twins[i].usage.n_cached >= 128;
    }
    assert_int_equal(n_cached, TWINS - 1);
    job_wait(&busy);
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
}

/* ---------------------------------------------------------------- scores, labels, embeddings */

static void scores_labels_and_embeddings(void **state) {
    (void)state;
    enum { N = 140 };
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    static float logits[N][TINY_VOCAB];
    job j = {.n_prompt = N, .max_tokens = 3, .n_top = 0, .n_labels = 3, .repeat_penalty = 1};
    for (int32_t i = 0; i < N; i++) j.prompt[i] = 3 + (i * 7) % 250;
    galen_session *s;
    galen_session_opts so = galen_session_default_opts();
    so.n_ctx = CTX;
    assert_int_equal(galen_session_open(&s, m, &so, NULL), GALEN_OK);
    assert_int_equal(galen_session_eval_all(s, j.prompt, N, logits[0], NULL), GALEN_OK);
    galen_session_close(s);
    job alone = j;
    job_alone(m, &alone, CTX, "f16");
    float mean[TINY_EMBD] = {0}, last[TINY_EMBD] = {0};
    for (int r = 0; r < 4; r++) {
        galen_batcher_opts o = small();
        o.n_batch = r == 0 ? 512 : r == 1 ? 70 : r == 2 ? 64 : 3;
        o.max_seqs = 3;
        galen_batcher *b = open_batcher(m, &o);
        job got = j, pooled = j;
        got.pooling = GALEN_POOL_MEAN;
        pooled.pooling = GALEN_POOL_LAST;
        pooled.score_from = -1;
        pooled.max_tokens = 0;
        assert_int_equal(job_submit(b, &pooled, NULL), GALEN_OK);
        assert_int_equal(job_submit(b, &got, NULL), GALEN_OK);
        job_wait(&got);
        job_wait(&pooled);
        assert_true(job_is_same(&got, &alone));
        assert_int_equal(got.n_scores, N);
        assert_true(isnan(got.scores[0]));
        for (int i = 1; i < N + 3; i++) { /* the prompt's scores, then the labels */
            const float *row = logits[i < N ? i - 1 : N - 1];
            double sum = 0;
            for (int v = 0; v < TINY_VOCAB; v++) sum += exp((double)row[v]);
            const double want = (double)row[i < N ? j.prompt[i] : job_labels[i - N]] - log(sum);
            assert_true(fabs(want - (double)(i < N ? got.scores[i] : got.labels[i - N])) < 1e-5);
        }
        assert_int_equal(pooled.n_ids, 0);
        assert_int_equal(pooled.finish, GALEN_FINISH_LENGTH);
        double length = 0;
        for (int i = 0; i < TINY_EMBD; i++) length += (double)got.embedding[i] * (double)got.embedding[i];
        assert_true(fabs(length - 1) < 1e-6);
        if (r == 0) memcpy(mean, got.embedding, sizeof mean), memcpy(last, pooled.embedding, sizeof last);
        assert_memory_equal(mean, got.embedding, sizeof mean);
        assert_memory_equal(last, pooled.embedding, sizeof last);
        assert_memory_not_equal(mean, last, sizeof mean);
        batch_is_clean(b);
        galen_batcher_close(b);
    }
    galen_model_close(m);
}

/* ---------------------------------------------------------------- grammars */

/* Much of these texts is bound to come: forced tokens take another way through the steps, with log-probabilities and without. */
static void grammars_give_the_bytes_of_a_session(void **state) {
    (void)state;
    enum { JOBS = 16 };
    static const char *const texts[] = {"root ::= \"yes, always\" | \"no, never\"", "root ::= \"only this\"",
                                        "root ::= (\"abc\" [0-9] \"defghijkl\")*", "root ::= [a-c]+ \"end of it\""};
    static job jobs[JOBS], want[JOBS];
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    galen_batcher_opts o = small();
    o.max_seqs = 5;
    o.kv_tokens = CTX;
    o.n_batch = 24;
    galen_grammar *grammars[4];
    for (int i = 0; i < 4; i++) {
        galen_error err;
        if (galen_grammar_open(&grammars[i], m, GALEN_GRAMMAR_GBNF, texts[i], strlen(texts[i]), &err)) fail_msg("%s", err.msg);
    }
    galen_batcher *b = open_batcher(m, &o);
    for (int i = 0; i < JOBS; i++) {
        want[i] = job_make((uint64_t)i, 150);
        want[i].max_tokens = i % 5 == 4 ? 6 : 60;
        want[i].grammar = grammars[(i / 4) % 4];
        if (i == 3) want[i].n_prompt = CTX - 5; /* the context ends first */
        for (int k = 0; k < want[i].n_prompt; k++) want[i].prompt[k] = 3 + (k * (i + 3)) % 255;
        jobs[i] = want[i];
        job_alone(m, &want[i], CTX, "f16");
        assert_int_equal(job_submit(b, &jobs[i], NULL), GALEN_OK);
    }
    for (int i = 0; i < JOBS; i++) {
        job_wait(&jobs[i]);
        assert_int_equal(jobs[i].st, GALEN_OK);
        assert_true(jobs[i].n_text > 0 || (i / 4) % 4 == 2); /* that one may be empty */
        if (!job_is_same(&jobs[i], &want[i]))
            fail_msg("job %d: \"%.*s\" here, \"%.*s\" alone", i, (int)jobs[i].n_text, jobs[i].text, (int)want[i].n_text,
                     want[i].text);
    }
    batch_is_clean(b);
    galen_batcher_close(b);
    for (int i = 0; i < 4; i++) galen_grammar_close(grammars[i]);
    galen_model_close(m);
}

/* ---------------------------------------------------------------- limits and ends */

static void bad_requests_are_named(void **state) {
    (void)state;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    const galen_batcher_opts o = small();
    galen_batcher *b = open_batcher(m, &o);
    static const int32_t ids[] = {5, TINY_VOCAB, 6}, wrong_label = -1;
    static const struct {
        int32_t n_prompt, score_from, n_labels;
        galen_pooling pooling;
        float temperature;
        int64_t timeout_ms;
        galen_status want;
        const char *word;
    } rows[] = {
        {0, -1, 0, 0, 1, 0, GALEN_E_ARG, "prompt"},    {3, -1, 0, 0, 1, 0, GALEN_E_RANGE, "token 1 is 262"},
        {1, 2, 0, 0, 1, 0, GALEN_E_ARG, "score_from"}, {1, -2, 0, 0, 1, 0, GALEN_E_ARG, "score_from"},
        {1, -1, 1, 0, 1, 0, GALEN_E_RANGE, "label 0"}, {1, -1, -1, 0, 1, 0, GALEN_E_ARG, "labels"},
        {1, -1, 0, 9, 1, 0, GALEN_E_ARG, "pooling"},   {1, -1, 0, 0, NAN, 0, GALEN_E_ARG, "temperature"},
        {1, -1, 0, 0, 1, -5, GALEN_E_ARG, "timeout"},  {CTX + 1, -1, 0, 0, 1, 0, GALEN_E_FULL, "257 tokens"},
    };
    static int32_t many[CTX + 1];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        galen_request_opts r = galen_request_default_opts();
        galen_error err = {0};
        uint64_t id = 0;
        r.prompt = rows[i].n_prompt > 3 ? many : ids;
        r.n_prompt = rows[i].n_prompt;
        r.score_from = rows[i].score_from;
        r.labels = &wrong_label;
        r.n_labels = rows[i].n_labels;
        r.pooling = rows[i].pooling;
        r.generate.sampling.temperature = rows[i].temperature;
        r.timeout_ms = rows[i].timeout_ms;
        assert_int_equal(galen_batcher_submit(b, &r, &id, &err), rows[i].want);
        if (!strstr(err.msg, rows[i].word)) fail_msg("row %zu: \"%s\" lacks \"%s\"", i, err.msg, rows[i].word);
    }
    galen_batcher_cancel(b, 12345); /* nobody's */
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_batcher_close(NULL);
    galen_model_close(m);
}

static void bad_batchers_are_named(void **state) {
    (void)state;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher_opts rows[8];
    static const char *const words[] = {"max_seqs", "n_batch", "kv_tokens", "KV type", "257", "n_chunk", "size", "max_queue"};
    for (int i = 0; i < 8; i++) rows[i] = small();
    rows[0].max_seqs = -1;
    rows[1].n_batch = 3, rows[1].max_seqs = 4;
    rows[2].kv_tokens = CTX - 1;
    rows[3].kv_type = "f13";
    rows[4].n_ctx = 257;
    rows[5].n_chunk = 10000;
    rows[6].size = 4096;
    rows[7].max_queue = -1;
    for (int i = 0; i < 8; i++) {
        galen_batcher *b = (galen_batcher *)&b;
        galen_error err = {0};
        assert_int_not_equal(galen_batcher_open(&b, m, &rows[i], &err), GALEN_OK);
        assert_null(b);
        if (!strstr(err.msg, words[i])) fail_msg("row %d: \"%s\" lacks \"%s\"", i, err.msg, words[i]);
    }
    galen_model_close(m);
}

/* A callback that holds the thread until it is let go. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int n_held;
static bool held(void *user, const galen_chunk *c) {
    n_held++;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return job_take(user, c);
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher_opts o = small();
    o.max_seqs = 2;
    o.max_queue = 3;
    galen_batcher *b = open_batcher(m, &o);
    static job jobs[6];
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 6; i++) {
        jobs[i] = job_make((uint64_t)i + 50, 20);
        jobs[i].max_tokens = 5;
        galen_request_opts r = galen_request_default_opts();
        galen_error err = {0};
        r.prompt = jobs[i].prompt;
        r.n_prompt = jobs[i].n_prompt;
        r.generate = job_generate(&jobs[i]);
        r.generate.on_chunk = held;
        r.on_end = job_end;
        r.user = &jobs[i];
        assert_int_equal(galen_batcher_submit(b, &r, &jobs[i].id, &err), i < 5 ? GALEN_OK : GALEN_E_BUSY);
        if (i == 5) assert_non_null(strstr(err.msg, "5 requests"));
    }
    const galen_batcher_stats s = batch_stats(b);
    assert_int_equal(s.n_refused, 1);
    assert_true(s.expected_s > 0);
    galen_batcher_cancel(b, jobs[4].id); /* one that waits */
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < 5; i++) {
        job_wait(&jobs[i]);
        assert_int_equal(jobs[i].st, i == 4 ? GALEN_E_CANCELLED : GALEN_OK);
    }
    assert_int_equal(jobs[4].n_last, 0); /* it had not begun */
    batch_is_clean(b);
    galen_error err;
    assert_int_equal(job_submit(b, &jobs[0], &err), GALEN_E_BUSY); /* drained */
    galen_batcher_close(b);
    galen_model_close(m);
}

static void time_cancel_and_close_end_requests(void **state) {
    (void)state;
    enum { TIMEOUT_MS = 1000 }; /* the thread must have begun within it */
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher_opts o = small();
    o.max_seqs = 2;
    galen_batcher *b = open_batcher(m, &o);
    static job jobs[5];
    n_held = 0;
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 5; i++) {
        jobs[i] = (job){.n_prompt = 4, .prompt = {9, 8, 7, 6}, .max_tokens = 250, .n_top = -1, .repeat_penalty = 1};
        galen_request_opts r = galen_request_default_opts();
        r.prompt = jobs[i].prompt;
        r.n_prompt = jobs[i].n_prompt;
        r.generate = job_generate(&jobs[i]);
        if (i < 2) r.generate.on_chunk = held;
        r.timeout_ms = i == 0 || i == 2 ? TIMEOUT_MS : 0; /* one that runs, one that waits */
        r.on_end = job_end;
        r.user = &jobs[i];
        jobs[i].cancel_after = i == 1 ? 2 : 0;
        assert_int_equal(galen_batcher_submit(b, &r, &jobs[i].id, NULL), GALEN_OK);
        for (int k = 0; i == 0 && k < TIMEOUT_MS && n_held == 0; k++) (void)usleep(1000); /* nothing ends before the gate opens */
    }
    galen_error err;
    assert_int_equal(galen_batcher_drain(b, 1, &err), GALEN_E_CANCELLED);
    assert_non_null(strstr(err.msg, "5 requests"));
    (void)usleep(1000 * (TIMEOUT_MS + 10));
    pthread_mutex_unlock(&gate);
    job_wait(&jobs[0]);
    assert_int_equal(jobs[0].st, GALEN_E_CANCELLED);
    assert_int_equal(jobs[0].finish, GALEN_FINISH_CANCELLED);
    assert_non_null(strstr(jobs[0].err.msg, "1000 ms"));
    job_wait(&jobs[1]); /* its receiver said no */
    assert_int_equal(jobs[1].st, GALEN_E_CANCELLED);
    assert_int_equal(jobs[1].n_ids, 2);
    assert_int_equal(jobs[1].n_last, 1);
    job_wait(&jobs[2]);
    assert_int_equal(jobs[2].st, GALEN_E_CANCELLED);
    galen_batcher_close(b);
    for (int i = 3; i < 5; i++) {
        assert_int_equal(jobs[i].n_ends, 1); /* all have ended when close returns, the last two well or by it */
        if (jobs[i].st) assert_non_null(strstr(jobs[i].err.msg, "closing"));
    }
    galen_model_close(m);
}

static void random_cancels_leak_no_page(void **state) {
    (void)state;
    const char *count = getenv("GALEN_SOAK");
    const int n = count ? (int)strtol(count, NULL, 10) : 300;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    enum { AT_ONCE = 40 };
    static job jobs[AT_ONCE];
    galen_batcher_opts o = small();
    o.max_seqs = 8;
    o.kv_tokens = 3 * CTX;
    o.n_batch = 48;
    galen_batcher *b = open_batcher(m, &o);
    int n_cancelled = 0, n_ok = 0;
    for (int i = 0; i < n + AT_ONCE; i++) {
        job *j = &jobs[i % AT_ONCE];
        const rng_block r = rng_at(9, 9, (uint64_t)i);
        if (i >= AT_ONCE) {
            job_wait(j);
            n_cancelled += j->st == GALEN_E_CANCELLED;
            n_ok += j->st == GALEN_OK;
        }
        if (i >= n) continue;
        *j = job_make((uint64_t)i, 180);
        j->cancel_after = (int32_t)(r.v[0] % 8);
        assert_int_equal(job_submit(b, j, NULL), GALEN_OK);
        const job *victim = &jobs[r.v[1] % AT_ONCE];
        if (r.v[2] % 2 == 0 && victim->id) galen_batcher_cancel(b, victim->id);
    }
    assert_int_equal(n_cancelled + n_ok, n);
    assert_true(n_cancelled > n / 4);
    if (count) print_message("%d requests, %d cancelled\n", n, n_cancelled);
    batch_is_clean(b);
    const galen_batcher_stats s = batch_stats(b);
    assert_true(s.n_pages_cached <= s.n_pages);
    assert_int_equal(s.n_requests, n);
    galen_batcher_close(b);
    galen_model_close(m);
}

/* Clients take turns: one that asks for little is not held up by one that asks for much. */
static void clients_take_turns(void **state) {
    (void)state;
    enum { MANY = 30 };
    static job many[MANY];
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher_opts o = small();
    o.max_seqs = 2;
    galen_batcher *b = open_batcher(m, &o);
    pthread_mutex_lock(&jobs_lock); /* holds up the first end */
    for (int i = 0; i < MANY; i++) {
        many[i] = (job){.n_prompt = 100, .max_tokens = 20, .n_top = -1, .score_from = -1, .repeat_penalty = 1, .client = "much"};
        for (int32_t k = 0; k < 100; k++) many[i].prompt[k] = 3 + (k * (i + 1)) % 255;
        assert_int_equal(job_submit(b, &many[i], NULL), GALEN_OK);
    }
    job little = {.n_prompt = 3, .prompt = {4, 5, 6}, .max_tokens = 3, .n_top = -1, .score_from = -1, .repeat_penalty = 1};
    little.client = "little";
    assert_int_equal(job_submit(b, &little, NULL), GALEN_OK);
    pthread_mutex_unlock(&jobs_lock);
    job_wait(&little);
    for (int i = 0; i < MANY; i++) job_wait(&many[i]);
    int n_before = 0;
    for (int i = 0; i < MANY; i++) n_before += many[i].place < little.place;
    assert_true(n_before <= 6); /* those that ran when it came, and one turn more */
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_mates_change_nothing),
        cmocka_unit_test(without_copying_pages_too),
        cmocka_unit_test(known_prefixes_are_reused_and_counted),
        cmocka_unit_test(twins_share_a_prompt_under_way),
        cmocka_unit_test(scores_labels_and_embeddings),
        cmocka_unit_test(grammars_give_the_bytes_of_a_session),
        cmocka_unit_test(bad_requests_are_named),
        cmocka_unit_test(bad_batchers_are_named),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(time_cancel_and_close_end_requests),
        cmocka_unit_test(random_cancels_leak_no_page),
        cmocka_unit_test(clients_take_turns),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
