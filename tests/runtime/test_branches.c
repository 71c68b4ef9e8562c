/* Branches of a session: what is read of them and written on them is what one after another gives, bit for bit, alone and in a
 * batcher, with room for all and with room for one; and what goes wrong. */
#include "../support/batch.h"

#include "runtime/batch.h"
#include "tensor/log_sum.h"

static char path[] = "/tmp/galen-test-branches-XXXXXX";
enum { MOST_BRANCHES = 40, MOST_TOKENS = 64, MOST_WANTED = 24, MOST_WRITTEN = 24 };

/* Where branches are taken. */
typedef struct place {
    const char *device;
    int32_t n_ctx, n_batch, past, n_branches, longest;
    bool has_batcher;
    int32_t max_seqs;
    int64_t kv_tokens;
    const char *why;
} place;

static const place places[] = {
    {"cpu", 1024, 512, 130, 40, 20, false, 0, 0, "room for all of them, two pages in common and a part"},
    {"cpu", 256, 512, 128, 20, 60, false, 0, 0, "nothing to copy, few at a time"},
    {"cpu", 192, 24, 131, 7, 61, false, 0, 0, "one at a time, in many batches, to the context's last token"},
    {"cpu", 64, 7, 3, 5, 60, false, 0, 0, "one page"},
    {"cpu", 512, 64, 0, 9, 30, false, 0, 0, "an empty session"},
    {"ref", 320, 64, 100, 4, 9, false, 0, 0, "no copying of pages"},
    {"cpu", 512, 0, 130, 30, 20, true, 8, 4096, "a batcher"},
    {"cpu", 256, 0, 131, 12, 60, true, 3, 256, "a batcher with pages for one"},
    {"ref", 192, 0, 70, 3, 9, true, 2, 512, "a batcher without copying of pages"},
};
enum { N_PLACES = sizeof places / sizeof *places };

static int32_t token_of(uint64_t seed, int32_t i) {
    return 3 + (int32_t)(rng_at(seed, 9, (uint64_t)i).v[0] % 250);
}

typedef struct stand {
    galen_model *m;
    galen_batcher *b;
    galen_session *s, *apart; /* apart: where one after another is tried */
} stand;

static galen_session *open_session(galen_model *m, galen_batcher *b, const place *p) {
    galen_session *s;
    galen_error err = {0};
    galen_session_opts o = galen_session_default_opts();
    o.n_ctx = p->n_ctx;
    o.n_batch = b ? 0 : p->n_batch;
    o.batcher = b;
    if (galen_session_open(&s, m, &o, &err)) fail_msg("%s: %s", p->why, err.msg);
    return s;
}

static stand stand_open(const place *p) {
    stand t = {0};
    galen_error err = {0};
    int32_t trunk[1024];
    const tiny_edit longer = {.name = "llama.context_length", .what = TINY_U32, .u = 1024};
    tiny_write(path, "llama", &longer, 1);
    t.m = tiny_open(path, p->device, 2);
    if (p->has_batcher) {
        galen_batcher_opts o = galen_batcher_default_opts();
        o.n_ctx = p->n_ctx;
        o.max_seqs = p->max_seqs;
        o.kv_tokens = p->kv_tokens;
        if (galen_batcher_open(&t.b, t.m, &o, &err)) fail_msg("%s: %s", p->why, err.msg);
    }
    t.s = open_session(t.m, t.b, p);
    t.apart = open_session(t.m, NULL, p);
    for (int32_t i = 0; i < p->past; i++) trunk[i] = token_of(1, i);
    assert_int_equal(galen_session_eval(t.s, trunk, p->past, NULL, NULL), GALEN_OK);
    assert_int_equal(galen_session_eval(t.apart, trunk, p->past, NULL, NULL), GALEN_OK);
    return t;
}

/* The session goes on as if there had been no branches. */
static void stand_close(stand *t, const place *p) {
    float here[TINY_VOCAB], there[TINY_VOCAB];
    const int32_t more[] = {7, 8};
    assert_int_equal(galen_session_n_past(t->s), p->past);
    if (p->past + 2 <= p->n_ctx) {
        assert_int_equal(galen_session_eval(t->s, more, 2, here, NULL), GALEN_OK);
        assert_int_equal(galen_session_eval(t->apart, more, 2, there, NULL), GALEN_OK);
        if (memcmp(here, there, sizeof here) != 0) fail_msg("%s: the session has other bytes afterwards", p->why);
    }
    galen_session_close(t->s);
    galen_session_close(t->apart);
    if (t->b) batch_is_clean(t->b);
    galen_batcher_close(t->b);
    galen_model_close(t->m);
}

/* ---------------------------------------------------------------- reading */

static int32_t tokens[MOST_BRANCHES][MOST_TOKENS], after[MOST_BRANCHES][MOST_WANTED], ids[MOST_BRANCHES][MOST_WANTED];
static double logprobs[MOST_BRANCHES][MOST_WANTED];

static galen_branch make_branch(const place *p, int32_t i, uint64_t seed) {
    const rng_block r = rng_at(seed, 10, (uint64_t)i);
    int32_t n = i == 0 ? p->longest : 1 + (int32_t)(r.v[0] % (uint32_t)p->longest);
    const int32_t n_wanted = (int32_t)(r.v[1] % (MOST_WANTED + 1));
    for (int32_t k = 0; k < n; k++) tokens[i][k] = token_of(seed + (uint64_t)(i % 3), k);
    for (int32_t k = 0; k < n_wanted; k++) {
        const rng_block w = rng_at(seed, 11, (uint64_t)(i * MOST_WANTED + k));
        const int32_t left = n - 1 - (k ? after[i][k - 1] : 0);
        after[i][k] = (k ? after[i][k - 1] : 0) + (left > 0 ? (int32_t)(w.v[0] % 3) % (left + 1) : 0);
        ids[i][k] = (int32_t)(w.v[1] % TINY_VOCAB);
        logprobs[i][k] = 99;
    }
    return (galen_branch){
        .tokens = tokens[i], .n_tokens = n, .after = after[i], .ids = ids[i], .logprobs = logprobs[i], .n_wanted = n_wanted};
}

static void check_branch(galen_session *s, const place *p, int32_t i, const galen_branch *b) {
    static float logits[MOST_TOKENS * TINY_VOCAB];
    galen_error err = {0};
    if (galen_session_eval_all(s, b->tokens, b->n_tokens, logits, &err)) fail_msg("%s: %s", p->why, err.msg);
    for (int32_t k = 0; k < b->n_wanted; k++) {
        const float *row = logits + (size_t)b->after[k] * TINY_VOCAB;
        const double want = (double)row[b->ids[k]] - log_sum(row, TINY_VOCAB);
        if (memcmp(&b->logprobs[k], &want, sizeof want) != 0)
            fail_msg("%s: branch %d, wanted %d: %.17g, one by one %.17g", p->why, i, k, b->logprobs[k], want);
    }
    assert_int_equal(galen_session_rewind(s, p->past, NULL), GALEN_OK);
}

static void what_is_read_is_what_one_by_one_yields(void **state) {
    (void)state;
    for (int i = 0; i < N_PLACES; i++) {
        const place *p = &places[i];
        stand t = stand_open(p);
        for (uint64_t seed = 20; seed < 22; seed++) {
            galen_branch branches[MOST_BRANCHES];
            galen_error err = {0};
            for (int32_t k = 0; k < p->n_branches; k++) branches[k] = make_branch(p, k, seed);
            if (galen_session_read(t.s, branches, p->n_branches, &err)) fail_msg("%s: %s", p->why, err.msg);
            for (int32_t k = 0; k < p->n_branches; k++) check_branch(t.apart, p, k, &branches[k]);
        }
        assert_int_equal(galen_session_read(t.s, NULL, 0, NULL), GALEN_OK);
        stand_close(&t, p);
    }
}

/* As many ids as a batch takes, all behind one token; and more than that in all. */
static void many_are_read_of_one_token(void **state) {
    (void)state;
    enum { MANY = 2 * READ_IDS };
    static int32_t where[MANY], what[MANY];
    static double got[MANY];
    const place *p = &places[0];
    stand t = stand_open(p);
    const int32_t two[] = {9, 10};
    for (int32_t i = 0; i < MANY; i++) where[i] = i / READ_IDS, what[i] = i % TINY_VOCAB;
    galen_branch b = {.tokens = two, .n_tokens = 2, .after = where, .ids = what, .logprobs = got, .n_wanted = MANY};
    galen_error err = {0};
    assert_int_equal(galen_session_read(t.s, &b, 1, &err), GALEN_OK);
    check_branch(t.apart, p, 0, &b);
    for (int32_t i = 0; i < MANY; i++) where[i] = i > READ_IDS;
    assert_int_equal(galen_session_read(t.s, &b, 1, &err), GALEN_E_ARG);
    assert_non_null(strstr(err.msg, "4096"));
    stand_close(&t, p);
}

/* ---------------------------------------------------------------- writing */

typedef struct written {
    int32_t ids[MOST_WRITTEN], n, most; /* most: it wants no more then; 0 = all */
    float logprobs[MOST_WRITTEN];
    char text[512];
    size_t n_text;
    int n_last;
} written;

static bool take(void *user, const galen_chunk *c) {
    written *w = user;
    assert_true(w->n_text + c->text_len < sizeof w->text);
    memcpy(w->text + w->n_text, c->text, c->text_len);
    w->n_text += c->text_len;
    w->n_last += c->is_last;
    if (c->is_last) return true;
    w->logprobs[w->n] = c->logprob;
    w->ids[w->n++] = c->id;
    return w->n != w->most;
}

static galen_logit_bias no_even[TINY_VOCAB / 2], no_odd[TINY_VOCAB / 2];
static const galen_bias_list first[] = {{no_even, TINY_VOCAB / 2}, {no_odd, TINY_VOCAB / 2}};

static galen_generate_opts make_opts(const place *p, int32_t i, int32_t n_tokens, const galen_grammar *g, written *w) {
    static const char *const stop[] = {"\x41"};
    const rng_block r = rng_at(5, 12, (uint64_t)i);
    const int32_t room = p->n_ctx - p->past - n_tokens;
    galen_generate_opts o = galen_generate_default_opts();
    o.max_tokens = i % 6 == 5 && room < MOST_WRITTEN ? -1 : (int32_t)(r.v[0] % MOST_WRITTEN);
    o.sampling.seed = (uint64_t)i;
    o.sampling.temperature = i % 4 ? 0.9f : 0;
    o.sampling.repeat_penalty = i % 3 ? 1.0f : 1.1f;
    o.n_top_logprobs = i % 5 == 4 ? 2 : -1;
    o.first = i % 2 ? first : NULL;
    o.n_first = i % 2 ? 2 : 0;
    if (i % 8 == 3) o.stop = stop, o.n_stop = 1;
    if (i % 8 == 6) o.grammar = g;
    o.on_chunk = take;
    o.user = w;
    *w = (written){.most = i % 7 == 6 ? 3 : 0};
    return o;
}

static void check_draft(galen_session *s, const place *p, int32_t i, const galen_draft *d, galen_generate_opts o,
                        const written *got) {
    written want = {.most = got->most};
    galen_result r;
    galen_error err = {0};
    o.user = &want;
    if (galen_generate(s, d->tokens, d->n_tokens, &o, &r, &err)) fail_msg("%s: %s", p->why, err.msg);
    assert_int_equal(galen_session_rewind(s, p->past, NULL), GALEN_OK);
    if (d->result.n_generated != r.n_generated || d->result.finish != r.finish || d->result.n_prompt != r.n_prompt)
        fail_msg("%s: draft %d: %d tokens, finish %d; one by one %d and %d", p->why, i, d->result.n_generated,
                 (int)d->result.finish, r.n_generated, (int)r.finish);
    for (int32_t k = 0; k < want.n; k++)
        if (got->ids[k] != want.ids[k] || memcmp(&got->logprobs[k], &want.logprobs[k], sizeof(float)) != 0)
            fail_msg("%s: draft %d, token %d: %d (%g), one by one %d (%g)", p->why, i, k, got->ids[k], (double)got->logprobs[k],
                     want.ids[k], (double)want.logprobs[k]);
    if (memcmp(got, &want, sizeof want) != 0)
        fail_msg("%s: draft %d: \"%s\", one by one \"%s\"", p->why, i, got->text, want.text);
}

static void what_is_written_is_what_one_by_one_yields(void **state) {
    (void)state;
    static written got[MOST_BRANCHES];
    galen_generate_opts opts[MOST_BRANCHES];
    galen_draft drafts[MOST_BRANCHES];
    for (int32_t i = 0; i < TINY_VOCAB / 2; i++) {
        no_even[i] = (galen_logit_bias){.id = 2 * i, .bias = -INFINITY};
        no_odd[i] = (galen_logit_bias){.id = 2 * i + 1, .bias = -INFINITY};
    }
    for (int i = 0; i < N_PLACES; i++) {
        const place *p = &places[i];
        const int32_t n = p->n_branches < 20 ? p->n_branches : 20;
        stand t = stand_open(p);
        galen_grammar *g = NULL;
        galen_error err = {0};
        static const char rule[] = "root ::= \"abcdef\" [g-k]+";
        assert_int_equal(galen_grammar_open(&g, t.m, GALEN_GRAMMAR_GBNF, rule, sizeof rule - 1, &err), GALEN_OK);
        memset(got, 0, sizeof got);
        for (int32_t k = 0; k < n; k++) {
            const galen_branch b = make_branch(p, k, 30);
            opts[k] = make_opts(p, k, b.n_tokens, g, &got[k]);
            drafts[k] = (galen_draft){.tokens = b.tokens, .n_tokens = b.n_tokens, .opts = &opts[k]};
        }
        if (galen_session_draft(t.s, drafts, n, &err)) fail_msg("%s: %s", p->why, err.msg);
        int32_t n_written = 0;
        for (int32_t k = 0; k < n; k++) {
            check_draft(t.apart, p, k, &drafts[k], opts[k], &got[k]);
            n_written += got[k].n;
            if (k % 2 && got[k].n > 1 && !opts[k].grammar) assert_true(got[k].ids[0] % 2 == 1 && got[k].ids[1] % 2 == 0);
        }
        assert_true(n_written > n);
        galen_grammar_close(g);
        stand_close(&t, p);
    }
}

/* ---------------------------------------------------------------- what goes wrong */

static void wrong_arguments_are_named(void **state) {
    (void)state;
    static const int32_t good[] = {5, 6, 7}, bad[] = {5, TINY_VOCAB, 7}, rising[] = {0, 2}, falling[] = {1, 0}, far[] = {0, 3};
    static double out[2];
    static const struct {
        galen_branch b;
        galen_status want;
        const char *says;
    } rows[] = {
        {{.tokens = good}, GALEN_E_ARG, "branch 1: 0 tokens"},
        {{.n_tokens = 3}, GALEN_E_ARG, "branch 1: 3 tokens"},
        {{.tokens = bad, .n_tokens = 3}, GALEN_E_RANGE, "token 1 is 262"},
        {{.tokens = good, .n_tokens = 3, .after = falling, .ids = good, .logprobs = out, .n_wanted = 2},
         GALEN_E_ARG,
         "after[1] is 0"},
        {{.tokens = good, .n_tokens = 3, .after = far, .ids = good, .logprobs = out, .n_wanted = 2},
         GALEN_E_ARG,
         "after[1] is 3"},
        {{.tokens = good, .n_tokens = 3, .after = rising, .ids = bad, .logprobs = out, .n_wanted = 2},
         GALEN_E_RANGE,
         "wanted token 1"},
        {{.tokens = good, .n_tokens = 3, .after = rising, .ids = good, .n_wanted = 2}, GALEN_E_ARG, "2 wanted"},
        {{.tokens = good, .n_tokens = 3, .n_wanted = -1}, GALEN_E_ARG, "-1 wanted"},
    };
    for (int i = 2; i < N_PLACES; i += 5) { /* alone and in a batcher */
        const place *p = &places[i];
        stand t = stand_open(p);
        static int32_t long_one[1024];
        galen_error err = {0};
        const galen_branch fine = {.tokens = good, .n_tokens = 3};
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            const galen_branch two[] = {fine, rows[r].b};
            assert_int_equal(galen_session_read(t.s, two, 2, &err), rows[r].want);
            if (!strstr(err.msg, rows[r].says)) fail_msg("row %zu: %s", r, err.msg);
        }
        const galen_branch over = {.tokens = long_one, .n_tokens = p->n_ctx - p->past + 1};
        assert_int_equal(galen_session_read(t.s, &over, 1, &err), GALEN_E_FULL);
        galen_draft d = {.tokens = long_one, .n_tokens = p->n_ctx - p->past + 1};
        assert_int_equal(galen_session_draft(t.s, &d, 1, &err), GALEN_E_FULL);
        assert_int_equal(galen_session_read(t.s, NULL, 1, &err), GALEN_E_ARG);
        assert_int_equal(galen_session_draft(t.s, NULL, 1, &err), GALEN_E_ARG);
        galen_generate_opts o = galen_generate_default_opts();
        o.sampling.top_k = -1;
        d = (galen_draft){.tokens = good, .n_tokens = 3, .opts = &o};
        assert_int_equal(galen_session_draft(t.s, &d, 1, &err), GALEN_E_ARG);
        o = galen_generate_default_opts();
        o.n_first = 1;
        assert_int_equal(galen_session_draft(t.s, &d, 1, &err), GALEN_E_ARG);
        assert_non_null(strstr(err.msg, "first"));
        stand_close(&t, p);
    }
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total) {
    ++*(int *)user;
    return done == total && total < 2;
}

static void branches_can_be_cancelled(void **state) {
    (void)state;
    for (int i = 2; i < N_PLACES; i += 5) {
        const place *p = &places[i];
        stand t = stand_open(p);
        galen_branch branches[MOST_BRANCHES];
        galen_draft drafts[MOST_BRANCHES];
        galen_error err = {0};
        int n = 0;
        for (int32_t k = 0; k < p->n_branches; k++) {
            branches[k] = make_branch(p, k, 40);
            drafts[k] = (galen_draft){.tokens = branches[k].tokens, .n_tokens = branches[k].n_tokens};
        }
        galen_session_set_progress(t.s, stop_at_once, &n);
        assert_int_equal(galen_session_read(t.s, branches, p->n_branches, &err), GALEN_E_CANCELLED);
        assert_int_equal(n, 1);
        assert_int_equal(galen_session_draft(t.s, drafts, p->n_branches, &err), GALEN_E_CANCELLED);
        assert_int_equal(n, 2);
        galen_session_set_progress(t.s, NULL, NULL);
        stand_close(&t, p);
    }
}

/* A token whose embedding is not a number. */
enum { POISON = 77 };
static const backend_api *good;

static galen_status bad_embed(backend_work *w, const batch *b, galen_error *err) {
    static float x[512 * TINY_EMBD];
    galen_status st = good->embed(w, b, err);
    if (!st) st = good->get_hidden(w, b, x, err);
    for (int32_t r = 0; r < b->n_rows; r++)
        if (b->token[r] == POISON) x[r * TINY_EMBD] = NAN;
    return st ? st : good->set_hidden(w, b, x, err);
}

/* A device that reads by itself. */
static int n_reads;

static galen_status own_read(backend_work *w, const batch *b, const read_list *list, galen_error *err) {
    static float logits[512 * TINY_VOCAB];
    const galen_status st = good->head(w, b, logits, err);
    n_reads++;
    for (int32_t r = 0; r < b->n_out && !st; r++)
        for (int32_t i = list->first[r]; i < list->first[r + 1]; i++)
            list->out[i] = (double)logits[r * TINY_VOCAB + list->ids[i]] - log_sum(logits + r * TINY_VOCAB, TINY_VOCAB);
    return st;
}

static void what_is_no_number_is_said(void **state) {
    (void)state;
    static const int places_of[] = {0, 2, 6};
    for (int i = 0; i < 4; i++) {
        const place *p = &places[places_of[i % 3]];
        stand t = stand_open(p);
        const int32_t bad[] = {5, POISON}, fine[] = {5, 6}, at[] = {0, 1}, what[] = {9, 10};
        double a[2], b[2];
        const galen_branch two[] = {{.tokens = fine, .n_tokens = 2, .after = at, .ids = what, .logprobs = a, .n_wanted = 2},
                                    {.tokens = bad, .n_tokens = 2, .after = at, .ids = what, .logprobs = b, .n_wanted = 2}};
        galen_draft drafts[] = {{.tokens = fine, .n_tokens = 2}, {.tokens = bad, .n_tokens = 2}};
        galen_generate_opts o = galen_generate_default_opts();
        galen_error err = {0};
        device_part *part = t.b ? &t.b->where.at->devices.at[0] : &t.s->where.at->devices.at[0];
        good = part->api;
        backend_api api = *good;
        api.embed = bad_embed;
        api.read = i == 3 ? own_read : NULL;
        part->api = &api;
        o.max_tokens = 3;
        drafts[0].opts = drafts[1].opts = &o;
        n_reads = 0;
        assert_int_equal(galen_session_read(t.s, two, 2, &err), GALEN_E_NUMERIC);
        assert_non_null(strstr(err.msg, "logit"));
        assert_int_equal(galen_session_draft(t.s, drafts, 2, &err), GALEN_E_NUMERIC);
        assert_int_equal(galen_session_read(t.s, two, 1, &err), GALEN_OK); /* the session goes on */
        assert_int_equal(n_reads > 0, i == 3);
        check_branch(t.apart, p, 0, &two[0]);
        part->api = good;
        stand_close(&t, p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_one_by_one_yields),
        cmocka_unit_test(many_are_read_of_one_token),
        cmocka_unit_test(what_is_written_is_what_one_by_one_yields),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(branches_can_be_cancelled),
        cmocka_unit_test(what_is_no_number_is_said),
    };
    const int fd = mkstemp(path);
    if (fd < 0 || close(fd)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return failed;
}
