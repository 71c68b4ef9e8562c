/* Sessions over a batcher: the bytes of a session alone, among requests, under pressure; and what goes wrong beside them. */
#include "../support/batch.h"

#include "runtime/batch.h"

#include "../support/temp.h"
enum { CTX = 256 };

static galen_batcher *open_batcher(const galen_model *m, int32_t max_seqs, int64_t kv_tokens) {
    galen_batcher *b;
    galen_error err = {0};
    galen_batcher_opts o = galen_batcher_default_opts();
    o.n_ctx = CTX;
    o.max_seqs = max_seqs;
    o.kv_tokens = kv_tokens;
    o.n_batch = 64;
    if (galen_batcher_open(&b, m, &o, &err)) fail_msg("%s", err.msg);
    b->worth_waking = max_seqs % 2 ? b->worth_waking : 1; /* tokens chosen by several threads, or by one */
    return b;
}

static galen_session *open_session(const galen_model *m, galen_batcher *b) {
    galen_session *s;
    galen_error err = {0};
    galen_session_opts o = galen_session_default_opts();
    o.batcher = b;
    if (!b) o.n_ctx = CTX;
    if (galen_session_open(&s, m, &o, &err)) fail_msg("%s", err.msg);
    return s;
}

/* ---------------------------------------------------------------- the same bytes */

/* Some three hundred random calls; the bytes of all their logits folded into one number. */
typedef struct walk {
    const galen_model *m;
    galen_batcher *b; /* NULL = alone */
    uint64_t seed, hash;
    int n_calls;
} walk;

static void fold(walk *w, const float *logits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        w->hash = (w->hash ^ bits) * 0x100000001B3u;
    }
}

static bool generated(void *user, const galen_chunk *c) {
    walk *w = user;
    w->hash = (w->hash ^ (uint32_t)c->id) * 0x100000001B3u;
    return true;
}

static void *take_walk(void *user) {
    walk *w = user;
    galen_session *s = open_session(w->m, w->b);
    static _Thread_local float logits[70 * TINY_VOCAB];
    w->hash = 7;
    for (int i = 0; i < w->n_calls; i++) {
        const rng_block r = rng_at(w->seed, 5, (uint64_t)i);
        const int32_t past = galen_session_n_past(s), n = 1 + (int32_t)(r.v[1] % 70);
        int32_t tokens[70];
        for (int32_t k = 0; k < n; k++) tokens[k] = 3 + (int32_t)(rng_at(r.v[0] % 2, 6, (uint64_t)past + (uint64_t)k).v[0] % 256);
        if (past + n > CTX || r.v[2] % 4 == 0) {
            assert_int_equal(galen_session_rewind(s, (int32_t)(r.v[3] % (uint32_t)(past + 1)), NULL), GALEN_OK);
        } else if (r.v[2] % 16 == 1) {
            galen_result result;
            galen_generate_opts o = galen_generate_default_opts();
            o.max_tokens = 5;
            o.on_chunk = generated;
            o.user = w;
            o.sampling.seed = w->seed;
            assert_int_equal(galen_generate(s, tokens, n < 40 ? n : 40, &o, &result, NULL), GALEN_OK);
        } else if (r.v[2] % 16 == 2) {
            assert_int_equal(galen_session_eval(s, tokens, n, NULL, NULL), GALEN_OK);
        } else if (r.v[2] % 16 == 3) {
            assert_int_equal(galen_session_eval_all(s, tokens, n, logits, NULL), GALEN_OK);
            fold(w, logits, (size_t)n * TINY_VOCAB);
        } else {
            assert_int_equal(galen_session_eval(s, tokens, n, logits, NULL), GALEN_OK);
            fold(w, logits, TINY_VOCAB);
        }
    }
    galen_session_close(s);
    return NULL;
}

static void sessions_among_requests_keep_their_bytes(void **state) {
    (void)state;
    enum { WALKERS = 4, JOBS = 30 };
    static const struct {
        const char *device;
        int32_t max_seqs;
        int64_t kv_tokens;
        int n_calls;
        const char *why;
    } rows[] = {{"cpu", 8, 8 * CTX, 120, "room for all"},
                {"cpu", 2, CTX, 80, "pages for one"},
                {"ref", 3, CTX, 12, "no copying of pages"}};
    tiny_write(path, "llama", NULL, 0);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        galen_model *m = tiny_open(path, rows[r].device, 2);
        galen_batcher *b = open_batcher(m, rows[r].max_seqs, rows[r].kv_tokens);
        walk alone[WALKERS], among[WALKERS];
        pthread_t threads[WALKERS];
        static job jobs[JOBS], want[JOBS];
        const int n_jobs = r == 2 ? 4 : JOBS;
        for (int i = 0; i < WALKERS; i++) {
            alone[i] = (walk){.m = m, .seed = (uint64_t)i, .n_calls = rows[r].n_calls};
            (void)take_walk(&alone[i]);
            among[i] = alone[i];
            among[i].b = b;
            assert_int_equal(pthread_create(&threads[i], NULL, take_walk, &among[i]), 0);
        }
        for (int i = 0; i < n_jobs; i++) {
            jobs[i] = want[i] = job_make((uint64_t)i, 150);
            assert_int_equal(job_submit(b, &jobs[i], NULL), GALEN_OK);
        }
        for (int i = 0; i < n_jobs; i++) {
            job_wait(&jobs[i]);
            job_alone(m, &want[i], CTX, "f16");
            if (!job_is_same(&jobs[i], &want[i])) fail_msg("%s: request %d has other bytes", rows[r].why, i);
        }
        for (int i = 0; i < WALKERS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            if (alone[i].hash != among[i].hash) fail_msg("%s: session %d has other bytes than alone", rows[r].why, i);
        }
        assert_int_equal(batch_stats(b).n_sessions, 0);
        batch_is_clean(b);
        galen_batcher_close(b);
        galen_model_close(m);
    }
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total) {
    int *n = user;
    ++*n;
    return done == total;
}

static void a_seat_has_the_limits_of_a_session(void **state) {
    (void)state;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher *b = open_batcher(m, 4, 4 * CTX);
    galen_session *s = NULL;
    galen_error err = {0};
    galen_session_opts o = galen_session_default_opts();
    o.batcher = b;
    o.kv_type = "f32";
    assert_int_equal(galen_session_open(&s, m, &o, &err), GALEN_E_ARG);
    o.kv_type = NULL;
    o.n_ctx = CTX + 1;
    assert_int_equal(galen_session_open(&s, m, &o, &err), GALEN_E_FULL);
    o.n_ctx = 200;
    assert_int_equal(galen_session_open(&s, m, &o, &err), GALEN_OK);
    assert_int_equal(galen_session_n_ctx(s), 200);
    static int32_t tokens[201];
    static float logits[TINY_VOCAB], again[TINY_VOCAB];
    for (int i = 0; i < 201; i++) tokens[i] = 3 + i;
    assert_int_equal(galen_session_eval(s, tokens, 201, logits, &err), GALEN_E_FULL);
    tokens[3] = -1;
    assert_int_equal(galen_session_eval(s, tokens, 10, logits, &err), GALEN_E_RANGE);
    tokens[3] = 6;
    assert_int_equal(galen_session_eval(s, tokens, 100, logits, &err), GALEN_OK);
    int n_told = 0;
    galen_session_set_progress(s, stop_at_once, &n_told);
    assert_int_equal(galen_session_rewind(s, 0, NULL), GALEN_OK);
    tokens[0] = 77; /* or the pages would be known */
    const galen_status st = galen_session_eval(s, tokens, 190, logits, &err);
    assert_true(n_told > 0);
    if (st) { /* the steps may have been faster than the caller's thread */
        assert_int_equal(st, GALEN_E_CANCELLED);
        assert_int_equal(galen_session_n_past(s), 0); /* the tokens are not appended */
    }
    galen_session_set_progress(s, NULL, NULL);
    assert_int_equal(galen_session_rewind(s, 0, NULL), GALEN_OK);
    assert_int_equal(galen_session_eval(s, tokens, 190, logits, &err), GALEN_OK);
    galen_session *lone = open_session(m, NULL);
    assert_int_equal(galen_session_eval(lone, tokens, 190, again, &err), GALEN_OK);
    assert_memory_equal(logits, again, sizeof logits);
    galen_session_close(lone);
    galen_session_close(s);
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
}

/* ---------------------------------------------------------------- a device that goes wrong */

enum { POISON = 250 };                      /* a token whose hidden state is not a number */
static const backend_api *good;             /* what the wrapped one stands before */
static _Atomic(int) n_heads_left = 1 << 30; /* heads until the device fails */

static galen_status bad_embed(backend_work *w, const batch *b, galen_error *err) {
    static _Thread_local float x[512 * TINY_EMBD]; /* sessions of the model call it too, beside the batcher's thread */
    galen_status st = good->embed(w, b, err);
    if (!st) st = good->get_hidden(w, b, x, err);
    for (int32_t r = 0; r < b->n_rows; r++)
        if (b->token[r] == POISON) x[r * TINY_EMBD] = NAN;
    return st ? st : good->set_hidden(w, b, x, err);
}

static galen_status bad_head(backend_work *w, const batch *b, float *logits, galen_error *err) {
    if (n_heads_left-- <= 0) {
        galen_error gone = {.code = GALEN_E_DEVICE, .msg = "the device is gone"};
        *err = gone;
        return GALEN_E_DEVICE;
    }
    return good->head(w, b, logits, err);
}

/* A device that chooses tokens itself: by the host's sampler. */
static atomic_int n_samples;

static galen_status own_sample(backend_work *w, const batch *b, const sample_row *rows, sample_choice *out, galen_error *err) {
    static _Thread_local float logits[64 * TINY_VOCAB];
    sampler s;
    if (b->n_out == 0 || b->n_out > 64) return GALEN_E_UNSUPPORTED;
    if (n_samples++ % 7 == 6) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "not these rows"); /* now and then the host must */
    galen_status st = bad_head(w, b, logits, err);
    if (!st) st = sampler_open(&s, TINY_VOCAB, err);
    if (st) return st;
    for (int32_t i = 0; i < b->n_out; i++) {
        const float *row = logits + i * TINY_VOCAB;
        out[i].id = CHOICE_NOT_FINITE;
        if (logits_are_finite(row, TINY_VOCAB) &&
            sampler_choose(&s, rows[i].how, row, rows[i].history, rows[i].n_history, NULL, &out[i].id, err))
            out[i].id = CHOICE_FORBIDDEN;
    }
    sampler_close(&s);
    return GALEN_OK;
}

static void wrap(galen_batcher *b, backend_api *api, bool is_choosing) {
    device_part *part = &b->where.at->devices.at[0];
    good = part->api;
    *api = *good;
    api->embed = bad_embed;
    api->head = bad_head;
    api->sample = is_choosing ? own_sample : NULL;
    part->api = api;
}

static void one_poisoned_sequence_ends_alone(void **state) {
    (void)state;
    enum { JOBS = 24 };
    static job jobs[JOBS], want[JOBS];
    backend_api api;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    for (int i = 0; i < JOBS; i++) {
        want[i] = job_make((uint64_t)i, 180);
        for (int32_t k = 0; k < want[i].n_prompt; k++)
            if (want[i].prompt[k] == POISON) want[i].prompt[k] = 9;
        jobs[i] = want[i];
        job_alone(m, &want[i], CTX, "f16");
        if (i % 4 == 2) jobs[i].prompt[jobs[i].n_prompt / 2] = POISON;
    }
    galen_batcher *b = open_batcher(m, 6, 2 * CTX); /* few pages, so that poisoned ones are used again at once */
    wrap(b, &api, false);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < JOBS; i++) {
            jobs[i].n_ids = jobs[i].n_last = jobs[i].n_ends = 0;
            jobs[i].n_text = 0;
            assert_int_equal(job_submit(b, &jobs[i], NULL), GALEN_OK);
        }
        for (int i = 0; i < JOBS; i++) {
            job_wait(&jobs[i]);
            bool is_told = false; /* by the model itself, which may choose that token */
            for (int32_t k = 0; k < want[i].n_ids; k++) is_told |= want[i].ids[k] == POISON;
            if (i % 4 == 2) {
                assert_int_equal(jobs[i].st, GALEN_E_NUMERIC);
                assert_int_equal(jobs[i].finish, GALEN_FINISH_ERROR);
                assert_non_null(strstr(jobs[i].err.msg, "logit"));
            } else if (!is_told) {
                if (jobs[i].st) fail_msg("neighbour %d: %s", i, jobs[i].err.msg);
                if (!job_is_same(&jobs[i], &want[i])) fail_msg("neighbour %d has other bytes", i);
            }
        }
    }
    galen_session *s = open_session(m, b); /* the same in a session: it may go on */
    float logits[TINY_VOCAB];
    const int32_t bad[] = {5, POISON, 6};
    galen_error err;
    assert_int_equal(galen_session_eval(s, bad, 3, logits, &err), GALEN_E_NUMERIC);
    assert_int_equal(galen_session_n_past(s), 0);
    assert_int_equal(galen_session_eval(s, bad, 1, logits, &err), GALEN_OK);
    galen_session_close(s);
    batch_is_clean(b);
    b->where.at->devices.at[0].api = good;
    galen_batcher_close(b);
    galen_model_close(m);
}

static void a_device_may_choose_the_tokens(void **state) {
    (void)state;
    enum { JOBS = 40 };
    static job jobs[JOBS], want[JOBS];
    backend_api api;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 2);
    galen_batcher *b = open_batcher(m, 5, 2 * CTX);
    wrap(b, &api, true);
    n_samples = 0;
    for (int i = 0; i < JOBS; i++) {
        want[i] = job_make((uint64_t)i, 180);
        if (i < 30) want[i].n_top = -1; /* the others want log-probabilities, and with them logits */
        want[i].n_labels = i < 30 ? 0 : 3;
        for (int32_t k = 0; k < want[i].n_prompt; k++)
            if (want[i].prompt[k] == POISON) want[i].prompt[k] = 9;
        jobs[i] = want[i];
        job_alone(m, &want[i], CTX, "f16");
        if (i % 10 == 7) jobs[i].prompt[jobs[i].n_prompt / 2] = POISON;
        assert_int_equal(job_submit(b, &jobs[i], NULL), GALEN_OK);
    }
    for (int i = 0; i < JOBS; i++) {
        job_wait(&jobs[i]);
        bool is_told = false;
        for (int32_t k = 0; k < want[i].n_ids; k++) is_told |= want[i].ids[k] == POISON;
        if (i % 10 == 7) assert_int_equal(jobs[i].st, GALEN_E_NUMERIC);
        if (i % 10 != 7 && !is_told && !job_is_same(&jobs[i], &want[i])) fail_msg("request %d has other bytes than alone", i);
    }
    assert_true(n_samples > 50);
    batch_is_clean(b);
    b->where.at->devices.at[0].api = good;
    galen_batcher_close(b);
    galen_model_close(m);
}

static void a_lost_device_is_told_to_all_and_can_be_left(void **state) {
    (void)state;
    enum { JOBS = 12 };
    static job jobs[JOBS];
    bool is_refused[JOBS] = {false};
    backend_api api;
    tiny_write(path, "llama", NULL, 0);
    galen_model *m = tiny_open(path, "cpu", 1);
    galen_batcher *b = open_batcher(m, 4, 4 * CTX);
    galen_session *s = open_session(m, b);
    wrap(b, &api, true);
    n_heads_left = 9;
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = job_make((uint64_t)i, 100);
        jobs[i].max_tokens = 100;
        galen_error err = {0};
        const galen_status st = job_submit(b, &jobs[i], &err);
        if (st) { /* it is known by now */
            assert_int_equal(st, GALEN_E_DEVICE);
            is_refused[i] = true;
        }
    }
    for (int i = 0; i < JOBS; i++) {
        if (is_refused[i]) continue;
        job_wait(&jobs[i]);
        assert_true(jobs[i].st == GALEN_E_DEVICE || (jobs[i].st == GALEN_OK && i < 4));
        if (jobs[i].st) assert_string_equal(jobs[i].err.msg, "the device is gone");
    }
    float logits[TINY_VOCAB];
    const int32_t token = 5;
    galen_error err = {0};
    assert_int_equal(galen_session_eval(s, &token, 1, logits, &err), GALEN_E_DEVICE);
    assert_int_equal(job_submit(b, &jobs[0], &err), GALEN_E_DEVICE);
    assert_true(batch_stats(b).is_failed);
    galen_session_close(s);
    batch_is_clean(b);
    b->where.at->devices.at[0].api = good;
    galen_batcher_close(b);
    n_heads_left = 1 << 30;
    b = open_batcher(m, 4, 4 * CTX); /* opened again, all is well */
    job j = job_make(1, 100);
    assert_int_equal(job_submit(b, &j, NULL), GALEN_OK);
    job_wait(&j);
    assert_int_equal(j.st, GALEN_OK);
    batch_is_clean(b);
    galen_batcher_close(b);
    galen_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_among_requests_keep_their_bytes),
        cmocka_unit_test(a_seat_has_the_limits_of_a_session),
        cmocka_unit_test(one_poisoned_sequence_ends_alone),
        cmocka_unit_test(a_device_may_choose_the_tokens),
        cmocka_unit_test(a_lost_device_is_told_to_all_and_can_be_left),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
