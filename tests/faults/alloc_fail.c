/* Every allocation of a scenario failing on purpose, one run for each (SQLite's method, sqlite.org/testing.html 3.1).
 *
 * The linker sends malloc, calloc, realloc, mmap, pthread_create... here (Makefile, WRAP). A first run counts the calls; then
 * the n-th fails, for each n: once, and from then on. Each run must end with a status that says so, or with the first
 * run's result; must leave no block, no mapping and no file descriptor behind; must not crash (also built with ASan).
 *
 *   alloc_fail [MODEL.gguf ...]      a model of our own making when none is named
 * Ends with 'N passed, N failed', one for each run. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "assist/json_line.h"
#include "assist/triage.h"
#include "base/embed.h"
#include "base/error.h"
#include "eval/patient.h"
#include "eval/report.h"
#include "eval/results.h"
#include "eval/run.h"
#include "galen/galen.h"
#include "grammar/grammar.h"

/* ---------------------------------------------------------------- the allocator that fails */

enum { MAX_LIVE = 1 << 16 };

static struct {
    pthread_mutex_t lock;
    long n_calls, fail_at; /* the call that fails, from 1; 0 = none */
    bool is_sticky;        /* and all after it                      */
    long n_failed;
    const void *live[MAX_LIVE]; /* open addressing; freed slots hold TOMB */
    long n_live, n_mapped;
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char tomb;
#define TOMB ((const void *)&tomb)

static bool must_fail(void) {
    pthread_mutex_lock(&faults.lock);
    const long n = ++faults.n_calls;
    const bool fails = faults.fail_at > 0 && (n == faults.fail_at || (faults.is_sticky && n > faults.fail_at));
    faults.n_failed += fails;
    pthread_mutex_unlock(&faults.lock);
    if (fails) errno = ENOMEM;
    return fails;
}

static size_t slot_of(const void *p) {
    return ((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u >> 48;
}

static void *note(void *p) {
    if (!p) return p;
    pthread_mutex_lock(&faults.lock);
    size_t i = slot_of(p) % MAX_LIVE;
    for (size_t k = 0; k < MAX_LIVE && faults.live[i] && faults.live[i] != TOMB; k++) i = (i + 1) % MAX_LIVE;
    faults.live[i] = p;
    faults.n_live++;
    pthread_mutex_unlock(&faults.lock);
    return p;
}

/* Blocks that libc made itself (getline, fopen) were never noted. */
static void forget(const void *p) {
    if (!p) return;
    pthread_mutex_lock(&faults.lock);
    size_t i = slot_of(p) % MAX_LIVE;
    for (size_t k = 0; k < MAX_LIVE && faults.live[i]; k++, i = (i + 1) % MAX_LIVE) {
        if (faults.live[i] != p) continue;
        faults.live[i] = TOMB;
        faults.n_live--;
        break;
    }
    pthread_mutex_unlock(&faults.lock);
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void __real_free(void *p);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *p, size_t n);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
void __wrap_free(void *p);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *p, size_t n);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

void *__wrap_malloc(size_t n) {
    return must_fail() ? NULL : note(__real_malloc(n));
}
void *__wrap_calloc(size_t n, size_t size) {
    return must_fail() ? NULL : note(__real_calloc(n, size));
}
void *__wrap_realloc(void *p, size_t n) {
    if (must_fail()) return NULL;
    forget(p);
    return note(__real_realloc(p, n));
}
void *__wrap_reallocarray(void *p, size_t n, size_t size) {
    if (must_fail()) return NULL;
    forget(p);
    return note(__real_reallocarray(p, n, size));
}
void *__wrap_aligned_alloc(size_t align, size_t n) {
    return must_fail() ? NULL : note(__real_aligned_alloc(align, n));
}
int __wrap_posix_memalign(void **out, size_t align, size_t n) {
    if (must_fail()) return ENOMEM;
    const int rc = __real_posix_memalign(out, align, n);
    if (rc == 0) note(*out);
    return rc;
}
char *__wrap_strdup(const char *s) {
    return must_fail() ? NULL : note(__real_strdup(s));
}
char *__wrap_strndup(const char *s, size_t n) {
    return must_fail() ? NULL : note(__real_strndup(s, n));
}
void __wrap_free(void *p) {
    forget(p);
    __real_free(p);
}
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    if (must_fail()) return MAP_FAILED;
    void *p = __real_mmap(at, n, prot, flags, fd, offset);
    if (p != MAP_FAILED) __atomic_add_fetch(&faults.n_mapped, 1, __ATOMIC_RELAXED);
    return p;
}
int __wrap_munmap(void *p, size_t n) {
    __atomic_sub_fetch(&faults.n_mapped, 1, __ATOMIC_RELAXED);
    return __real_munmap(p, n);
}
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg) {
    return must_fail() ? EAGAIN : __real_pthread_create(t, a, f, arg);
}

/* ---------------------------------------------------------------- scenarios */

typedef struct outcome {
    galen_status st;
    galen_error err;
    uint64_t hash; /* of what was produced */
} outcome;

static void hash_bytes(uint64_t *h, const void *p, size_t n) {
    for (const unsigned char *b = p, *end = b + n; b < end; b++) *h = (*h ^ *b) * 0x100000001B3u;
}

static bool take_chunk(void *user, const galen_chunk *c) {
    uint64_t *h = user;
    hash_bytes(h, &c->id, sizeof c->id);
    hash_bytes(h, c->text, c->text_len);
    for (int i = 0; i < c->n_top; i++) hash_bytes(h, &c->top_ids[i], sizeof c->top_ids[i]);
    return true;
}

static const char story[] = "Patient has a cough \xC3\xA9\xF0\x9F\xA4\x92 \xFF for 3 days.\n\n<s> </s> <|im_end|> 12345";

static galen_status generate(galen_session *s, const galen_tokens *prompt, outcome *o) {
    const char *stops[] = {"never to be written", "\x01"};
    galen_generate_opts opts = galen_generate_default_opts();
    galen_logit_bias bias = {.id = 1, .bias = -3.0f};
    galen_result result;
    opts.max_tokens = 8;
    opts.stop = stops;
    opts.n_stop = 2;
    opts.n_top_logprobs = 3;
    opts.sampling.bias = &bias;
    opts.sampling.n_bias = 1;
    opts.sampling.repeat_penalty = 1.1f;
    opts.sampling.frequency_penalty = 0.1f;
    opts.on_chunk = take_chunk;
    opts.user = &o->hash;
    const galen_status st = galen_generate(s, prompt->ids, (int32_t)prompt->n, &opts, &result, &o->err);
    if (!st) hash_bytes(&o->hash, &result.n_generated, sizeof result.n_generated);
    return st;
}

/* Branches of what the session holds, read and written on. */
static galen_status branch_out(galen_session *s, outcome *o) {
    enum { N = 3 };
    const int32_t tokens[] = {7, 9, 11}, after[] = {0, 2}, ids[] = {5, 6};
    const galen_logit_bias bias = {.id = 3, .bias = -2.0f};
    const galen_bias_list first = {&bias, 1};
    double logprobs[N][2];
    galen_branch branches[N];
    galen_draft drafts[N];
    uint64_t hashes[N] = {1, 2, 3};
    galen_generate_opts opts[N];
    for (int i = 0; i < N; i++) {
        branches[i] =
            (galen_branch){.tokens = tokens, .n_tokens = 3, .after = after, .ids = ids, .logprobs = logprobs[i], .n_wanted = 2};
        opts[i] = galen_generate_default_opts();
        opts[i].max_tokens = 4;
        opts[i].sampling.seed = (uint64_t)i;
        opts[i].first = &first;
        opts[i].n_first = 1;
        opts[i].on_chunk = take_chunk;
        opts[i].user = &hashes[i];
        drafts[i] = (galen_draft){.tokens = tokens, .n_tokens = i + 1, .opts = &opts[i]};
    }
    galen_status st = galen_session_read(s, branches, N, &o->err);
    if (!st) st = galen_session_draft(s, drafts, N, &o->err);
    if (!st) hash_bytes(&o->hash, logprobs, sizeof logprobs);
    if (!st) hash_bytes(&o->hash, hashes, sizeof hashes);
    return st;
}

/* A whole life: open, tokenise, a conversation's tokens, a session, eight tokens, close. */
static void scenario_answer(const char *path, outcome *o) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_tokens text = {0}, chat = {0};
    galen_model_opts mo = galen_model_default_opts();
    galen_session_opts so = galen_session_default_opts();
    const galen_message messages[] = {{"system", "Be brief.", 9}, {"user", story, sizeof story - 1}};
    mo.n_threads = 2;
    mo.chat_format = "chatml";
    so.n_ctx = 512;
    so.n_batch = 32;
    o->st = galen_model_open(&m, path, &mo, &o->err);
    if (o->st) goto done;
    o->st = galen_tokenize(m, story, sizeof story - 1, true, true, &text, &o->err);
    if (o->st) goto done;
    hash_bytes(&o->hash, text.ids, text.n * sizeof *text.ids);
    o->st = galen_chat_tokens(m, messages, 2, &chat, &o->err);
    if (o->st) goto done;
    hash_bytes(&o->hash, chat.ids, chat.n * sizeof *chat.ids);
    o->st = galen_session_open(&s, m, &so, &o->err);
    if (o->st) goto done;
    o->st = generate(s, &text, o);
    if (!o->st) o->st = branch_out(s, o);
done:
    galen_session_close(s);
    galen_tokens_free(&text);
    galen_tokens_free(&chat);
    galen_model_close(m);
}

static void scenario_ref(const char *path, outcome *o) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    float *logits = NULL;
    galen_model_opts mo = galen_model_default_opts();
    galen_session_opts so = galen_session_default_opts();
    const int32_t ids[] = {1, 5, 7, 9};
    mo.device = "ref";
    so.n_ctx = 16;
    so.kv_type = "q8_0";
    o->st = galen_model_open(&m, path, &mo, &o->err);
    if (!o->st) o->st = galen_session_open(&s, m, &so, &o->err);
    if (o->st) goto done;
    const size_t n_vocab = (size_t)galen_model_get_info(m).n_vocab;
    logits = __real_calloc(n_vocab, sizeof *logits); /* ours, not the engine's: it never fails */
    o->st = galen_session_eval(s, ids, 4, logits, &o->err);
    if (!o->st) hash_bytes(&o->hash, logits, n_vocab * sizeof *logits);
done:
    __real_free(logits);
    galen_session_close(s);
    galen_model_close(m);
}

/* One grammar: compiled, followed by the first token of each mask, with what is forced, a copy, and a fresh start. */
static galen_status follow(const grammar *g, const galen_model_info *info, uint64_t *h, galen_error *err) {
    enum { STEPS = 12, WORDS = 64 };
    grammar_state *s = NULL, *c = NULL;
    uint32_t bits[WORDS];
    int32_t forced[8], n;
    galen_status st = grammar_state_open(&s, g, err);
    for (int step = 0; step < STEPS && !st && !grammar_state_is_done(s); step++) {
        int32_t id = 0;
        if (grammar_mask_words(info->n_vocab) > WORDS) return GALEN_E_FAIL;
        st = grammar_state_forced(s, forced, 8, &n, err);
        if (!st && n == 0) st = grammar_state_mask(s, bits, err);
        if (st) break;
        while (n == 0 && !(bits[id / 32] >> (id % 32) & 1)) id++;
        if (n) id = forced[0];
        hash_bytes(h, &id, sizeof id);
        st = grammar_state_accept(s, id, err);
    }
    if (!st) st = grammar_state_clone(&c, s, err);
    if (!st) st = grammar_state_reset(s, err);
    grammar_state_close(s);
    grammar_state_close(c);
    return st;
}

static void scenario_grammars(const char *path, outcome *o) {
    static const struct {
        galen_grammar_kind kind;
        const char *text;
    } rows[] = {
        {GALEN_GRAMMAR_GBNF, "root ::= \"ab\" (item \",\"){1,3} [^a-c\\u00e9]* # end\nitem ::= [a-z]{2,9} | \"(\" item \")\""},
        {GALEN_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"b\":{\"$ref\":\"#/$defs/"
         "x\"},\"c\":{\"pattern\":\"^[a-c]+|d$\"}},"
         "\"required\":[\"b\"],\"additionalProperties\":{\"format\":\"date\"},\"$defs\":{\"x\":{\"anyOf\":[{\"type\":\"null\"},{"
         "\"enum\":[1,\"two\"]},{\"type\":"
         "\"array\",\"items\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1.5},\"maxItems\":3}]}}}"},
        {GALEN_GRAMMAR_JSON_OBJECT, ""},
    };
    galen_model *m = NULL;
    galen_model_opts mo = galen_model_default_opts();
    mo.is_vocab_only = true;
    o->st = galen_model_open(&m, path, &mo, &o->err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !o->st; i++) {
        galen_grammar *g = NULL;
        o->st = galen_grammar_open(&g, m, rows[i].kind, rows[i].text, strlen(rows[i].text), &o->err);
        if (!o->st) {
            const galen_model_info info = galen_model_get_info(m);
            o->st = follow(g, &info, &o->hash, &o->err);
        } else if (g) {
            o->err.code = GALEN_OK; /* *out is NULL after a failure */
        }
        galen_grammar_close(g);
    }
    galen_model_close(m);
}

typedef struct batched {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_ended;
    galen_status st;
    galen_error err;
} batched;

static void end_batched(void *user, const galen_end *end) {
    batched *w = user;
    pthread_mutex_lock(&w->lock);
    if (end->status && !w->st) w->err = *end->error;
    if (end->status && !w->st) w->st = end->status;
    w->n_ended++;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* Two requests and a session in a batcher. */
static void scenario_batcher(const char *path, outcome *o) {
    galen_model *m = NULL;
    galen_batcher *b = NULL;
    galen_session *s = NULL;
    batched w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    uint64_t hashes[2] = {1, 2}, id;
    int n_sent = 0;
    const int32_t prompt[] = {1, 5, 7, 9, 11};
    const char *stops[] = {"never to be written"};
    galen_model_opts mo = galen_model_default_opts();
    galen_batcher_opts bo = galen_batcher_default_opts();
    galen_session_opts so = galen_session_default_opts();
    mo.device = "cpu";
    mo.n_threads = 1;
    bo.n_ctx = 128;
    bo.max_seqs = 2;
    bo.n_batch = 32;
    o->st = galen_model_open(&m, path, &mo, &o->err);
    if (!o->st) o->st = galen_batcher_open(&b, m, &bo, &o->err);
    so.batcher = b;
    for (int i = 0; i < 2 && !o->st; i++) {
        galen_request_opts r = galen_request_default_opts();
        r.prompt = prompt;
        r.n_prompt = 5 - i;
        r.generate.max_tokens = 4;
        r.generate.stop = stops;
        r.generate.n_stop = 1;
        r.generate.on_chunk = take_chunk;
        r.generate.user = &hashes[i];
        r.labels = prompt;
        r.n_labels = 2;
        r.pooling = GALEN_POOL_MEAN;
        r.salt = "salt";
        r.client = i ? "a" : "b";
        r.on_end = end_batched;
        r.user = &w;
        o->st = galen_batcher_submit(b, &r, &id, &o->err);
        n_sent += !o->st;
    }
    pthread_mutex_lock(&w.lock);
    while (w.n_ended < n_sent) (void)pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    if (!o->st && w.st) o->st = w.st, o->err = w.err;
    if (!o->st) o->st = galen_session_open(&s, m, &so, &o->err);
    if (!o->st) o->st = galen_session_eval(s, prompt, 5, NULL, &o->err);
    if (!o->st) o->st = branch_out(s, o);
    hash_bytes(&o->hash, hashes, sizeof hashes);
    galen_session_close(s);
    galen_batcher_close(b);
    galen_model_close(m);
}

static char synth_path[4096], cache_path[4096];

/* A model on two devices, the second being the fake GPU: what the host asks memory for on the way. */
static void scenario_split(const char *path, outcome *o) {
    galen_model *m = NULL;
    galen_session *s = NULL;
    galen_tokens text = {0};
    galen_model_opts mo = galen_model_default_opts();
    galen_session_opts so = galen_session_default_opts();
    mo.n_threads = 2;
    mo.n_ctx = so.n_ctx = 512;
    mo.n_batch = so.n_batch = 48;
    mo.gpu_layers = 2;
    mo.cache_dir = cache_path;
    o->st = galen_model_open(&m, path, &mo, &o->err);
    if (!o->st) o->st = galen_tokenize(m, story, sizeof story - 1, true, true, &text, &o->err);
    if (!o->st) o->st = galen_session_open(&s, m, &so, &o->err);
    if (!o->st) o->st = generate(s, &text, o);
    galen_session_close(s);
    galen_tokens_free(&text);
    galen_model_close(m);
}

static void scenario_synth(const char *path, outcome *o) {
    galen_synth_opts opts = galen_synth_default_opts();
    (void)path;
    opts.shape = "tiny";
    opts.type = "q4_k_m";
    o->st = galen_synth(synth_path, &opts, &o->err);
    /* half a file under the final name would be taken for a model */
    if (o->st && access(synth_path, F_OK) == 0) o->err.code = GALEN_OK;
    (void)unlink(synth_path);
}

/* The rules inside the library, parsed and run: nothing is half-parsed, and the text costs no memory. */
static void scenario_triage(const char *path, outcome *o) {
    static const char text[] = "62-year-old man, chest pain spreading to the arm, BP 80/40, no fever";
    static galen_triage t;
    triage_file files[32];
    triage_rules *r = NULL;
    size_t n = 0;
    (void)path;
    for (const embedded *e = embedded_data; e->name && n < 32; e++)
        if (strncmp(e->name, "data/triage/", 12) == 0) files[n++] = (triage_file){e->name, e->bytes, e->n};
    o->st = triage_rules_parse(&r, files, n, &o->err);
    if (o->st) return;
    triage_scan(r, text, sizeof text - 1, &t);
    for (int32_t i = 0; i < t.n_flags; i++) hash_bytes(&o->hash, t.flags[i].id, strlen(t.flags[i].id));
    triage_rules_free(r);
}

/* A table of codes opened and asked. path: the table. */
static void scenario_codes(const char *path, outcome *o) {
    galen_codes *c = NULL;
    galen_code k;
    o->st = galen_codes_open(&c, path, &o->err);
    if (!o->st) o->st = galen_codes_find(c, "acute asthma", 12, &k, &o->err);
    if (!o->st) hash_bytes(&o->hash, k.code, sizeof k.code);
    galen_codes_close(c);
}

/* galen eval without a model: cases read, measured, written, read again, reported. jansson takes its memory from here too. */
typedef struct feed {
    const char *s;
    size_t n;
} feed;

static long read_feed(void *user, char *buf, size_t cap) {
    feed *f = user;
    const size_t k = f->n < cap ? f->n : cap;
    memcpy(buf, f->s, k);
    f->s += k;
    f->n -= k;
    return (long)k;
}

static const char cases[] =
    "{\"text\":\"crushing chest pain\",\"diagnosis\":[\"Heart attack (MI)\",\"x\"],\"tier\":\"critical\",\"facts\":[\"no "
    "fever\"]}\n"
    "{\"OSCE_Examination\":{\"Patient_Actor\":{\"Demographics\":\"40\",\"Symptoms\":{\"Primary_Symptom\":\"Cough\"},\"Diet\":"
    "[\"x\"]},\"Physical_Examination_Findings\":{\"Chest\":{\"A_B\":\"wheeze\"}},\"Correct_Diagnosis\":\"Flu\"}}\nbroken\n"
    "{\"id\":\"1\",\"input\":{\"chief_complaint\":\"fever\",\"demographics\":{\"age\":3,\"sex\":\"male\"}},\"labels\":{"
    "\"gold_risk_tier\":\"urgent\",\"gold_red_flag_categories\":[\"sepsis\"]}}\n";

/* Rows of the list's cases, each as a line of text and back. */
static galen_status measure_cases(const eval_list *l, eval_results *r, uint64_t *h, galen_error *err) {
    galen_status st = GALEN_OK;
    for (int32_t i = 0; i < l->n && !st; i++) {
        const eval_run run = {.max_questions = 0};
        eval_head head;
        eval_row row;
        patient *p = NULL;
        bool is_head;
        st = eval_case_run(&run, &l->cases[i], &row, err);
        if (!st) st = patient_open(&p, l->cases[i].c.facts, strlen(l->cases[i].c.facts), err);
        if (!st) *h += (uint64_t)patient_answer(p, "Do you have a fever?", 20);
        patient_close(p);
        row.rules_s = 0;
        json_t *j = st ? NULL : row_json(&row);
        size_t n = 0;
        char *line = json_line_write(j, &n);
        json_decref(j);
        if (!st && !line) return galen_fail(err, GALEN_E_NOMEM, 0, "a row's JSON");
        if (!st) hash_bytes(h, line, n);
        if (!st) st = result_parse(line, n, &is_head, &head, &row, err);
        free(line);
        if (!st) st = results_add(r, &row, err);
    }
    return st;
}

static void scenario_eval(const char *path, outcome *o) {
    feed f = {cases, sizeof cases - 1};
    eval_list l = {.n = 0};
    eval_results r = {.n = 0};
    eval_report *rep = malloc(sizeof *rep);
    const eval_head head = {.seed = 1};
    (void)path;
    json_set_alloc_funcs(malloc, free);
    o->st = rep ? eval_list_add(&l, 0, read_feed, &f, &o->err) : galen_fail(&o->err, GALEN_E_NOMEM, 0, "a report");
    if (!o->st && l.n_broken != 1) o->st = GALEN_E_FAIL; /* and no case was taken for a broken line */
    if (!o->st) o->st = measure_cases(&l, &r, &o->hash, &o->err);
    if (!o->st) o->st = eval_report_make(r.rows, r.n, &head, rep, &o->err);
    eval_comparison same;
    if (!o->st) o->st = eval_compare(r.rows, r.n, r.rows, r.n, &same, &o->err);
    if (!o->st && same.n_both != r.n) o->st = GALEN_E_FAIL;
    json_t *j = o->st ? NULL : eval_report_json(rep);
    size_t n = 0;
    char *text = json_line_write(j, &n);
    if (!o->st && !text) o->st = galen_fail(&o->err, GALEN_E_NOMEM, 0, "a report's JSON");
    if (text) hash_bytes(&o->hash, text, n);
    free(text);
    json_decref(j);
    json_set_alloc_funcs(__real_malloc, __real_free);
    results_free(&r);
    eval_list_free(&l);
    free(rep);
}

/* ---------------------------------------------------------------- runs */

static long n_passed, n_failed;

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    while (readdir(d)) n++;
    (void)closedir(d);
    return n;
}

static bool is_right(const outcome *o, const outcome *first) {
    if (o->st == GALEN_OK) return o->hash == first->hash;
    return (o->st == GALEN_E_NOMEM || o->st == GALEN_E_DEVICE || o->st == GALEN_E_IO) && o->err.code == o->st && o->err.msg[0];
}

typedef void (*scenario_fn)(const char *path, outcome *o);

/* Freed slots make every search longer: between runs the table is written anew. */
static void compact(void) {
    static const void *kept[MAX_LIVE];
    size_t n = 0;
    for (size_t i = 0; i < MAX_LIVE; i++) {
        if (faults.live[i] && faults.live[i] != TOMB) kept[n++] = faults.live[i];
        faults.live[i] = NULL;
    }
    for (size_t k = 0; k < n; k++) {
        size_t i = slot_of(kept[k]) % MAX_LIVE;
        while (faults.live[i]) i = (i + 1) % MAX_LIVE;
        faults.live[i] = kept[k];
    }
}

static long run_once(scenario_fn f, const char *path, long fail_at, bool is_sticky, outcome *o) {
    *o = (outcome){.hash = 0xCBF29CE484222325u};
    compact();
    faults.n_calls = faults.n_failed = 0;
    faults.is_sticky = is_sticky;
    faults.fail_at = fail_at;
    f(path, o);
    faults.fail_at = 0;
    return faults.n_calls;
}

static void check(bool ok, const char *name, long at, bool is_sticky, const outcome *o, const char *what) {
    n_passed += ok;
    n_failed += !ok;
    if (!ok && n_failed <= 20)
        printf("%s: call %ld failing %s: %s (status %d, \"%s\")\n", name, at, is_sticky ? "from then on" : "once", what, o->st,
               o->err.msg);
}

/* How many calls every run makes: where threads meet, some make one more. */
static long least_calls(scenario_fn f, const char *path, long n) {
    outcome o;
    for (int i = 0; i < 2; i++) {
        const long again = run_once(f, path, 0, false, &o);
        n = again < n ? again : n;
    }
    return n;
}

enum { SLACK = 8 }; /* calls that some runs of threads make and others do not */

/* The call at fails, if need be at the next attempt: a run that threads make shorter does not reach the last. False: no run made
 * so many. */
static bool run_failing(scenario_fn f, const char *path, long at, bool is_sticky, outcome *o) {
    long most = 0;
    for (int i = 0; i < 8; i++) {
        const long n = run_once(f, path, at, is_sticky, o);
        if (faults.n_failed) return true;
        most = n > most ? n : most;
    }
    return most >= at;
}

static void run_all(const char *name, scenario_fn f, const char *path) {
    outcome first, o;
    (void)run_once(f, path, 0, false, &o); /* whatever is made once for the process */
    const long live = faults.n_live, mapped = faults.n_mapped;
    const int files = open_files();
    long n = run_once(f, path, 0, false, &first);
    check(first.st == GALEN_OK && faults.n_live == live, name, 0, false, &first, "the run without failures");
    if (first.st || n == 0) return;
    n = least_calls(f, path, n);
    const long step = n > 4000 ? n / 4000 + 1 : 1; /* the first 500 each, then a sample */
    for (int sticky = 0; sticky < 2; sticky++) {
        for (long at = 1; at <= n; at += at < 500 ? 1 : step) {
            if (!run_failing(f, path, at, sticky, &o) && at > n - SLACK) continue;
            const char *what = faults.n_failed == 0        ? "the call was not reached: the scenario is not deterministic"
                               : !is_right(&o, &first)     ? "wrong status or result"
                               : faults.n_live != live     ? "blocks left behind"
                               : faults.n_mapped != mapped ? "mappings left behind"
                               : open_files() != files     ? "files left open"
                                                           : NULL;
            check(!what, name, at, sticky, &o, what ? what : "");
            if (faults.n_live != live || faults.n_mapped != mapped) return; /* one leak is enough */
        }
    }
    printf("%s: %ld fallible calls%s\n", name, n, step > 1 ? ", sampled after the first 500" : "");
}

int main(int argc, char **argv) {
    char model[4096];
    galen_error err = {0};
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(model, sizeof model, "%s/galen-faults-%ld.gguf", folder, (long)getpid());
    (void)snprintf(synth_path, sizeof synth_path, "%s/galen-faults-%ld-synth.gguf", folder, (long)getpid());
    galen_synth_opts so = galen_synth_default_opts();
    so.shape = "tiny";
    so.type = "q8_0";
    if (galen_synth(model, &so, &err)) {
        printf("synth: %s\n0 passed, 1 failed\n", err.msg);
        return 1;
    }
    run_all("answer", scenario_answer, model);
    run_all("ref", scenario_ref, model);
    const char *slash = strrchr(argv[0], '/');
    (void)snprintf(cache_path, sizeof cache_path, "%.*s/../fake", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    (void)setenv("GALEN_PLUGIN_DIR", cache_path, 1);
    (void)snprintf(cache_path, sizeof cache_path, "%s/galen-faults-%ld-cache", folder, (long)getpid());
    run_all("split", scenario_split, model);
    (void)setenv("GALEN_PLUGIN_DIR", folder, 1); /* and no plugin again */
    run_all("grammars", scenario_grammars, model);
    run_all("batcher", scenario_batcher, model);
    run_all("synth", scenario_synth, NULL);
    run_all("triage", scenario_triage, NULL);
    run_all("eval", scenario_eval, NULL);
    run_all("codes", scenario_codes, "tests/fuzz/corpus/codes/table");
    for (int i = 1; i < argc; i++) run_all(argv[i], scenario_answer, argv[i]);
    (void)unlink(model);
    char speeds[4200];
    (void)snprintf(speeds, sizeof speeds, "%s/speeds.tsv", cache_path);
    (void)unlink(speeds);
    (void)rmdir(cache_path);
    printf("%ld passed, %ld failed\n", n_passed, n_failed);
    return n_failed ? 1 : 0;
}
