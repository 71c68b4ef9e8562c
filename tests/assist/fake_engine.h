/* A stand-in for the engine: the few calls of galen.h that the assistant makes, over a vocabulary of bytes and some words, with
 * logits from a script. Sampling is greedy, so that a script decides every token. Defines the functions: for one test file. */
#ifndef TESTS_ASSIST_FAKE_ENGINE_H
#define TESTS_ASSIST_FAKE_ENGINE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "galen/galen.h"

#define FAKE_CTX_MAX 4096

static const char *const fake_words[] = {
    " flu",    " Flu",       "flu",    " cold",   " asthma", " Pneumonia", " pneu",  "monia",    "\n",         "\n\n",
    " (viral", "confidence", " name",  " What",   " is",     " age?",      " croup", " bronchi", "tis, acute", "?\n",
    " of",     " yes",       " no",    " A",      " B",      " C",         " D",     " E",       " F",         " Do",
    " you",    " Have",      " Is",    " it",     " Are",    " Has",       " Did",   " Does",    " Can",       " heart",
    " attack", " fever?",    " rash?", " cough?", " pain?",  " Heart",     "<end>"};
enum { N_WORDS = sizeof fake_words / sizeof fake_words[0], FAKE_VOCAB = 256 + N_WORDS, FAKE_END = FAKE_VOCAB - 1 };

typedef void (*fake_script)(const int32_t *history, int32_t n, float *logits);

/* What a test sets and reads. */
static struct fake {
    fake_script script;
    uint64_t seed;
    bool has_no_letters; /* a vocabulary that cannot write a name */
    int32_t n_ctx_train;
    int n_evals;            /* tokens evaluated */
    char messages[3][8192]; /* of the last galen_chat_tokens */
    int n_messages;
    galen_sampling sampling; /* of the last galen_generate */
    void (*on_eval)(void);
} fake;

struct galen_model {
    int unused;
};
struct galen_session {
    int32_t ids[FAKE_CTX_MAX], n_past, n_ctx;
    galen_progress_fn progress;
    void *user;
};
static galen_model fake_model;

/* The last bytes of what is in the session, as text. */
static void fake_tail(const int32_t *h, int32_t n, char *out, size_t cap) {
    size_t k = 0;
    out[0] = '\0';
    for (int32_t i = n > (int32_t)cap / 4 ? n - (int32_t)cap / 4 : 0; i < n; i++) {
        const char byte[2] = {(char)h[i], 0};
        const int w = snprintf(out + k, cap - k, "%s", h[i] < 256 ? byte : fake_words[h[i] - 256]);
        if (w < 0 || k + (size_t)w >= cap) break;
        k += (size_t)w;
    }
}

static int32_t word_id(const char *word) {
    for (int32_t i = 0; i < N_WORDS; i++) {
        if (strcmp(fake_words[i], word) == 0) return 256 + i;
    }
    return (unsigned char)word[0];
}

galen_model_info galen_model_get_info(const galen_model *m) {
    (void)m;
    return (galen_model_info){.n_vocab = FAKE_VOCAB, .n_ctx_train = fake.n_ctx_train ? fake.n_ctx_train : 2048};
}

static galen_status fake_fail(galen_error *err, galen_status st, const char *why) {
    if (err) {
        err->code = st;
        (void)snprintf(err->msg, sizeof err->msg, "%s", why);
    }
    return st;
}

void galen_tokens_free(galen_tokens *t) {
    free(t->ids);
    *t = (galen_tokens){0};
}

/* The longest word at each place, else a byte. */
galen_status galen_tokenize(const galen_model *m, const char *text, size_t len, bool add_special, bool parse_special,
                            galen_tokens *out, galen_error *err) {
    (void)m, (void)add_special, (void)parse_special;
    *out = (galen_tokens){.ids = calloc(len + 1, sizeof(int32_t))};
    if (!out->ids) return fake_fail(err, GALEN_E_NOMEM, "fake: tokens");
    for (size_t i = 0; i < len;) {
        int32_t best = (unsigned char)text[i];
        size_t n = 1;
        for (int32_t w = 0; w < N_WORDS - 1; w++) {
            const size_t k = strlen(fake_words[w]);
            if (k > n && k <= len - i && memcmp(text + i, fake_words[w], k) == 0) {
                best = 256 + w;
                n = k;
            }
        }
        out->ids[out->n++] = best;
        i += n;
    }
    return GALEN_OK;
}

int32_t galen_token_bytes(const galen_model *m, int32_t id, bool render_special, char *buf, size_t cap) {
    (void)m;
    if (id < 0 || id >= FAKE_VOCAB) return -1;
    if (id == FAKE_END && !render_special) return 0;
    const char byte[2] = {(char)id, 0};
    const char *s = id < 256 ? byte : fake_words[id - 256];
    if (fake.has_no_letters) s = "1";
    const size_t n = id < 256 ? 1 : strlen(s);
    if (n <= cap) memcpy(buf, s, n);
    return (int32_t)n;
}

bool galen_token_is_end(const galen_model *m, int32_t id) {
    (void)m;
    return id == FAKE_END;
}

galen_status galen_chat_tokens(const galen_model *m, const galen_message *messages, size_t n, galen_tokens *out,
                               galen_error *err) {
    static char text[32768];
    size_t k = 0;
    fake.n_messages = (int)n;
    for (size_t i = 0; i < n; i++) {
        const size_t keep =
            messages[i].content_len < sizeof fake.messages[0] ? messages[i].content_len : sizeof fake.messages[0] - 1;
        memcpy(fake.messages[i], messages[i].content, keep);
        fake.messages[i][keep] = '\0';
        k += (size_t)snprintf(text + k, sizeof text - k, "[%s]%s", messages[i].role, fake.messages[i]);
    }
    return galen_tokenize(m, text, k, true, true, out, err);
}

galen_session_opts galen_session_default_opts(void) {
    return (galen_session_opts){.size = sizeof(galen_session_opts)};
}

galen_status galen_session_open(galen_session **out, const galen_model *m, const galen_session_opts *opts, galen_error *err) {
    (void)m;
    *out = calloc(1, sizeof **out);
    if (!*out) return fake_fail(err, GALEN_E_NOMEM, "fake: session");
    (*out)->n_ctx = opts->n_ctx;
    return GALEN_OK;
}

void galen_session_close(galen_session *s) {
    free(s);
}
int32_t galen_session_n_past(const galen_session *s) {
    return s->n_past;
}
int32_t galen_session_n_ctx(const galen_session *s) {
    return s->n_ctx;
}
void galen_session_set_progress(galen_session *s, galen_progress_fn fn, void *user) {
    s->progress = fn;
    s->user = user;
}

galen_status galen_session_rewind(galen_session *s, int32_t n_past, galen_error *err) {
    if (n_past < 0 || n_past > s->n_past) return fake_fail(err, GALEN_E_RANGE, "fake: rewind past the session's end");
    s->n_past = n_past;
    return GALEN_OK;
}

static galen_status fake_eval(galen_session *s, const int32_t *ids, int32_t n, bool is_all, float *logits, galen_error *err) {
    float scratch[FAKE_VOCAB];
    if (n > s->n_ctx - s->n_past) return fake_fail(err, GALEN_E_FULL, "fake: context is full");
    if (n > 0 && s->progress && !s->progress(s->user, (uint64_t)n, (uint64_t)n))
        return fake_fail(err, GALEN_E_CANCELLED, "fake: cancelled");
    for (int32_t i = 0; i < n; i++) {
        s->ids[s->n_past + i] = ids[i];
        float *row = logits && is_all ? logits + (size_t)i * FAKE_VOCAB : logits ? logits : scratch;
        for (int32_t v = 0; v < FAKE_VOCAB; v++) row[v] = 0.0f;
        if (fake.script && (is_all || i == n - 1)) fake.script(s->ids, s->n_past + i + 1, row);
        fake.n_evals++;
        for (int32_t v = 0; v < FAKE_VOCAB; v++) {
            if (isnan(row[v])) return fake_fail(err, GALEN_E_NUMERIC, "fake: NaN");
        }
    }
    s->n_past += n;
    if (fake.on_eval) fake.on_eval();
    return GALEN_OK;
}

galen_status galen_session_eval(galen_session *s, const int32_t *ids, int32_t n, float *logits, galen_error *err) {
    return fake_eval(s, ids, n, false, logits, err);
}
galen_status galen_session_eval_all(galen_session *s, const int32_t *ids, int32_t n, float *logits, galen_error *err) {
    return fake_eval(s, ids, n, true, logits, err);
}

galen_sampling galen_sampling_default(void) {
    return (galen_sampling){.size = sizeof(galen_sampling), .temperature = 0.8f, .top_k = 40, .penalty_last_n = 64};
}
galen_generate_opts galen_generate_default_opts(void) {
    return (galen_generate_opts){
        .size = sizeof(galen_generate_opts), .sampling = galen_sampling_default(), .max_tokens = -1, .n_top_logprobs = -1};
}

static int32_t greedy(float *logits, const galen_bias_list *bias) {
    int32_t best = -1;
    for (size_t i = 0; i < bias->n; i++) logits[bias->bias[i].id] += bias->bias[i].bias;
    for (int32_t v = 0; v < FAKE_VOCAB; v++) {
        if (logits[v] > -INFINITY && (best < 0 || logits[v] > logits[best])) best = v;
    }
    return best;
}

/* As the engine: a token is given to the caller, then evaluated, unless the caller stops. */
galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *o,
                            galen_result *result, galen_error *err) {
    float logits[FAKE_VOCAB];
    *result = (galen_result){.finish = GALEN_FINISH_LENGTH};
    fake.sampling = o->sampling;
    if (n_prompt < 1) return fake_fail(err, GALEN_E_ARG, "fake: no prompt");
    galen_status st = fake_eval(s, prompt, n_prompt, false, logits, err);
    if (st) return st;
    result->n_prompt = n_prompt;
    while (o->max_tokens < 0 || result->n_generated < o->max_tokens) {
        const galen_bias_list own = {o->sampling.bias, o->sampling.n_bias};
        const int32_t id = greedy(logits, (size_t)result->n_generated < o->n_first ? &o->first[result->n_generated] : &own);
        if (id < 0) return fake_fail(err, GALEN_E_NUMERIC, "fake: every token is forbidden");
        if (id == FAKE_END) {
            result->finish = GALEN_FINISH_STOP;
            break;
        }
        result->n_generated++;
        const galen_chunk c = {.text = "", .id = id, .logprob = NAN};
        if (!o->on_chunk(o->user, &c)) {
            result->finish = GALEN_FINISH_CANCELLED;
            break;
        }
        if (result->n_generated == o->max_tokens) break;
        st = fake_eval(s, &id, 1, false, logits, err);
        if (st) return st;
    }
    const galen_chunk last = {.text = "", .id = -1, .logprob = NAN, .is_last = true};
    (void)o->on_chunk(o->user, &last);
    return GALEN_OK;
}

/* Branches one after another. */
static galen_status fake_read(galen_session *s, const galen_branch *b, galen_error *err) {
    float row[FAKE_VOCAB];
    int32_t k = 0;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const galen_status st = fake_eval(s, &b->tokens[i], 1, false, row, err);
        if (st) return st;
        double sum = 0;
        for (int32_t v = 0; v < FAKE_VOCAB; v++) sum += exp((double)row[v]);
        for (; k < b->n_wanted && b->after[k] == i; k++) b->logprobs[k] = (double)row[b->ids[k]] - log(sum);
    }
    return GALEN_OK;
}

galen_status galen_session_read(galen_session *s, const galen_branch *branches, int32_t n, galen_error *err) {
    const int32_t past = s->n_past;
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < n && !st; i++) {
        st = fake_read(s, &branches[i], err);
        s->n_past = past;
    }
    return st;
}

galen_status galen_session_draft(galen_session *s, galen_draft *drafts, int32_t n, galen_error *err) {
    const int32_t past = s->n_past;
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < n && !st; i++) {
        st = galen_generate(s, drafts[i].tokens, drafts[i].n_tokens, drafts[i].opts, &drafts[i].result, err);
        s->n_past = past;
    }
    return st;
}

#endif
