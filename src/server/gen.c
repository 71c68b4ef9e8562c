#include "server/gen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "server/inside.h"
#include "server/perf.h"

#define MODEL_NAME_BYTES 256
#define STOP_BYTES       256
#define GRAMMAR_BYTES    (1u << 20)

/* Fields of every endpoint that writes text. */
static const field_row common[] = {
    {"model", FIELD_USED, 0},
    {"temperature", FIELD_USED, 0},
    {"top_p", FIELD_USED, 0},
    {"top_k", FIELD_USED, 0},
    {"min_p", FIELD_USED, 0},
    {"repeat_penalty", FIELD_USED, 0},
    {"repeat_last_n", FIELD_USED, 0},
    {"presence_penalty", FIELD_USED, 0},
    {"frequency_penalty", FIELD_USED, 0},
    {"logit_bias", FIELD_USED, 0},
    {"seed", FIELD_USED, 0},
    {"n", FIELD_USED, 0},
    {"stop", FIELD_USED, 0},
    {"stream", FIELD_USED, 0},
    {"stream_options", FIELD_USED, 0},
    {"max_tokens", FIELD_USED, 0},
    {"logprobs", FIELD_USED, 0},
    {"grammar", FIELD_USED, 0},
    {"user", FIELD_IGNORED, 0},
    {"cache_prompt", FIELD_IGNORED, 0},
    {"mirostat_tau", FIELD_IGNORED, 0},
    {"mirostat_eta", FIELD_IGNORED, 0},
    {"mirostat_mode", FIELD_REFUSED, 0},
    {"typical_p", FIELD_REFUSED, 1},
    {"tfs_z", FIELD_REFUSED, 1},
    {"min_tokens", FIELD_REFUSED, 0},
    {NULL, FIELD_USED, 0},
};

/* ------------------------------------------------------------ small things */

json_t *gen_text_json(const char *s, size_t n) {
    json_t *t = json_stringn(s ? s : "", n);
    if (t) return t;
    utf8_stream u = {0};
    bytes b = {.p = malloc(3 * (n + 3) + 13)};
    if (!b.p) return NULL;
    b.n = utf8_push(&u, s, n, b.p);
    b.n += utf8_flush(&u, b.p + b.n);
    t = json_stringn(b.p, b.n);
    free(b.p);
    return t;
}

json_t *gen_number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *gen_token_text(const gen *g, int32_t id) {
    char buf[512];
    const int32_t n = galen_token_bytes(g->b->model, id, true, buf, sizeof buf);
    return gen_text_json(buf, n > 0 && n <= (int32_t)sizeof buf ? (size_t)n : 0);
}

json_t *gen_token_bytes(const gen *g, int32_t id) {
    char buf[512];
    const int32_t n = galen_token_bytes(g->b->model, id, true, buf, sizeof buf);
    json_t *a = json_array();
    for (int32_t i = 0; i < n && n <= (int32_t)sizeof buf; i++) {
        if (json_array_append_new(a, json_integer((unsigned char)buf[i]))) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

void gen_make_id(const char *prefix, char *out, size_t cap) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char r[24];
    char tail[sizeof r + 1];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) memset(r, 0, sizeof r);
    for (size_t i = 0; i < sizeof r; i++) tail[i] = letters[r[i] & 31];
    tail[sizeof r] = '\0';
    (void)snprintf(out, cap, "%s%s", prefix, tail);
}

const char *gen_finish_name(galen_finish f) {
    return f == GALEN_FINISH_LENGTH ? "length" : "stop";
}

json_t *gen_usage_json(const gen *g) {
    int n_generated = 0;
    for (int i = 0; i < g->n_choices; i++) n_generated += g->choices[i].usage.n_generated;
    const int n_prompt = (int)g->prompt.n;
    return json_pack("{s:i, s:i, s:i, s:{s:i}}", "prompt_tokens", n_prompt, "completion_tokens", n_generated, "total_tokens",
                     n_prompt + n_generated, "prompt_tokens_details", "cached_tokens", (int)g->choices[0].usage.n_cached);
}

json_t *gen_timings_json(const gen *g) {
    const galen_usage *u = &g->choices[0].usage;
    const double prompt = u->prompt_s - u->start_s, decode = u->end_s - u->first_token_s;
    const int n_prompt = u->n_prompt - u->n_cached;
    return json_pack("{s:i, s:i, s:f, s:f, s:i, s:f, s:f}", "cache_n", (int)u->n_cached, "prompt_n", n_prompt, "prompt_ms",
                     prompt * 1e3, "prompt_per_second", prompt > 0 ? n_prompt / prompt : 0, "predicted_n", (int)u->n_generated,
                     "predicted_ms", decode * 1e3, "predicted_per_second", decode > 0 ? u->n_generated / decode : 0);
}

/* ------------------------------------------------------------ opening */

void gen_free(void *p) {
    gen *g = p;
    if (!g) return;
    for (int i = 0; i < GEN_MAX_CHOICES; i++) {
        bytes_free(&g->choices[i].text);
        json_decref(g->choices[i].logprobs);
    }
    if (g->free_extra) g->free_extra(g->extra);
    galen_tokens_free(&g->prompt);
    galen_tokens_free(&g->first_prompt);
    free(g->biases);
    json_decref(g->body);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
}

static void close_grammars(gen *g) {
    galen_grammar_close(g->grammar);
    galen_grammar_close(g->call_grammar);
    g->grammar = g->call_grammar = NULL;
}

void gen_abandon(gen *g) {
    close_grammars(g);
    if (g->is_taken) shelf_give(g->x->s->shelf, g->b);
    gen_free(g);
}

gen *gen_open(exchange *x, const gen_shape *shape, const char *id_prefix, const field_row *known) {
    const char *model = NULL;
    gen *g = calloc(1, sizeof *g);
    if (!g || pthread_mutex_init(&g->lock, NULL)) {
        free(g);
        reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
        return NULL;
    }
    g->x = x;
    g->shape = shape;
    g->kind = id_prefix;
    g->created = (int64_t)time(NULL);
    g->o = galen_generate_default_opts();
    g->n_choices = 1;
    gen_make_id(id_prefix, g->id, sizeof g->id);
    if (!exchange_json(x, &g->body)) goto fail;
    fields f = {.x = x, .o = g->body};
    fields_check(&f, common, known);
    field_str(&f, "model", MODEL_NAME_BYTES, &model, NULL);
    if (f.is_bad) goto fail;
    g->b = shelf_find(x->s->shelf, model);
    if (!g->b) {
        reply_error(x, HTTP_NO_MODEL, "model", NULL);
        goto fail;
    }
    g->is_taken = shelf_take(x->s->shelf, g->b, x);
    if (!g->is_taken) goto fail;
    return g;
fail:
    gen_abandon(g);
    return NULL;
}

/* ------------------------------------------------------------ reading */

static void read_stops(gen *g, fields *f) {
    const json_t *v = field_any(f, "stop");
    if (!v) return;
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > GEN_MAX_STOPS) {
        field_fail(f, "stop", "one string or at most 16");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(s) || json_string_length(s) == 0 || json_string_length(s) > STOP_BYTES) {
            field_fail(f, "stop", "of strings of 1 to 256 bytes");
            return;
        }
        g->stops[i] = json_string_value(s);
    }
    g->o.stop = g->stops;
    g->o.n_stop = n;
}

static bool read_id(const char *text, int32_t n_vocab, int32_t *id) {
    size_t n = 0;
    int64_t v = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 10; n++) v = v * 10 + (text[n] - '0');
    if (n == 0 || text[n] || v >= n_vocab) return false;
    *id = (int32_t)v;
    return true;
}

static void read_biases(gen *g, fields *f) {
    const json_t *v = field_any(f, "logit_bias");
    if (!v) return;
    if (!json_is_object(v) || json_object_size(v) > GEN_MAX_BIASES) {
        field_fail(f, "logit_bias", "an object of at most 1024 token ids");
        return;
    }
    g->biases = calloc(json_object_size(v) + 1, sizeof *g->biases);
    if (!g->biases) {
        f->is_bad = true;
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
        return;
    }
    size_t n = 0;
    for (void *it = json_object_iter((json_t *)(uintptr_t)v); it; it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
        const json_t *bias = json_object_iter_value(it);
        const double d = json_number_value(bias);
        if (!read_id(json_object_iter_key(it), g->b->info.n_vocab, &g->biases[n].id)) {
            field_fail(f, "logit_bias", "of ids of this model's tokens");
            return;
        }
        if (!json_is_number(bias) || !(d >= -100 && d <= 100)) {
            field_fail(f, "logit_bias", "of numbers between -100 and 100");
            return;
        }
        g->biases[n++].bias = d <= -100 ? -INFINITY : (float)d; /* OpenAI: -100 forbids */
    }
    g->o.sampling.bias = g->biases;
    g->o.sampling.n_bias = n;
}

static void read_sampling(gen *g, fields *f) {
    galen_sampling *s = &g->o.sampling;
    double temperature = s->temperature, top_p = s->top_p, min_p = s->min_p, repeat = s->repeat_penalty, presence = 0,
           frequency = 0;
    int64_t top_k = s->top_k, seed = -1, last_n = s->penalty_last_n;
    field_real(f, "temperature", 0, 2, &temperature);
    field_real(f, "top_p", 0, 1, &top_p);
    field_int(f, "top_k", 0, INT32_MAX, &top_k);
    field_real(f, "min_p", 0, 1, &min_p);
    field_real(f, "repeat_penalty", 0.01, 100, &repeat);
    field_int(f, "repeat_last_n", -1, INT32_MAX, &last_n);
    field_real(f, "presence_penalty", -2, 2, &presence);
    field_real(f, "frequency_penalty", -2, 2, &frequency);
    field_int(f, "seed", -1, INT64_MAX, &seed);
    s->temperature = (float)temperature;
    s->top_p = (float)top_p;
    s->top_k = (int32_t)top_k;
    s->min_p = (float)min_p;
    s->repeat_penalty = (float)repeat;
    s->penalty_last_n = (int32_t)last_n;
    s->presence_penalty = (float)presence;
    s->frequency_penalty = (float)frequency;
    s->seed = (uint64_t)seed;
    if (seed < 0 && getrandom(&s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed) s->seed = clock_monotonic_ns();
}

static void read_stream(gen *g, fields *f) {
    field_bool(f, "stream", &g->is_stream);
    const json_t *v = field_any(f, "stream_options");
    if (!v) return;
    fields inner = {.x = f->x, .o = v};
    if (!json_is_object(v)) {
        field_fail(f, "stream_options", "an object");
    } else if (!g->is_stream) {
        field_fail(f, "stream_options", "left out without stream");
    } else {
        bool obfuscation = false;
        field_bool(&inner, "include_usage", &g->has_usage);
        field_bool(&inner, "include_obfuscation", &obfuscation);
        f->is_bad |= inner.is_bad;
    }
}

bool gen_compile(gen *g, galen_grammar_kind kind, const char *text, size_t n, const char *field, galen_grammar **out) {
    galen_error err = {0};
    if (galen_grammar_open(out, g->b->model, kind, text, n, &err) == GALEN_OK) return true;
    metrics_add(&g->x->s->metrics, METRIC_GRAMMAR_FAILURES, 1);
    const http_error e = err.code == GALEN_E_NOMEM         ? HTTP_NO_MEMORY
                         : err.code == GALEN_E_UNSUPPORTED ? HTTP_UNSUPPORTED
                                                           : HTTP_BAD_VALUE;
    reply_error(g->x, e, field, "'%s': %s", field, err.msg);
    return false;
}

bool gen_constrain(gen *g, galen_grammar_kind kind, const char *text, size_t n, const char *field) {
    if (g->grammar) {
        reply_error(g->x, HTTP_BAD_VALUE, field, "'%s': the text is constrained by another field already", field);
        return false;
    }
    const bool ok = gen_compile(g, kind, text, n, field, &g->grammar);
    g->o.grammar = g->grammar;
    return ok;
}

bool gen_read(gen *g, fields *f, int64_t default_max) {
    int64_t n = 1, max = default_max;
    const char *grammar = NULL;
    size_t grammar_n = 0;
    read_sampling(g, f);
    read_stops(g, f);
    read_biases(g, f);
    read_stream(g, f);
    field_int(f, "n", 1, GEN_MAX_CHOICES, &n);
    field_int(f, "max_tokens", -1, INT32_MAX, &max);
    if (!f->is_bad && max == 0) field_fail(f, "max_tokens", "-1 (as far as the context goes) or at least 1");
    field_str(f, "grammar", GRAMMAR_BYTES, &grammar, &grammar_n);
    if (f->is_bad) return false;
    g->n_choices = (int)n;
    g->o.max_tokens = (int32_t)max;
    return !grammar_n || gen_constrain(g, GALEN_GRAMMAR_GBNF, grammar, grammar_n, "grammar");
}

/* ------------------------------------------------------------ on the batcher's thread */

static void observe(const gen_choice *c) {
    model_metrics *m = &c->g->b->metrics;
    const galen_usage *u = &c->usage;
    const metric_finish f = c->status == GALEN_E_CANCELLED     ? METRIC_FINISH_ABORT
                            : c->status                        ? METRIC_FINISH_ERROR
                            : c->finish == GALEN_FINISH_LENGTH ? METRIC_FINISH_LENGTH
                                                               : METRIC_FINISH_STOP;
    (void)atomic_fetch_add(&m->finishes[f], 1);
    (void)atomic_fetch_add(&m->prompt_tokens, (uint64_t)u->n_prompt);
    (void)atomic_fetch_add(&m->cached_tokens, (uint64_t)u->n_cached);
    (void)atomic_fetch_add(&m->generated_tokens, (uint64_t)u->n_generated);
    metrics_observe(&m->histograms[METRIC_E2E], (uint64_t)(u->end_s * 1e9));
    if (u->start_s > 0) metrics_observe(&m->histograms[METRIC_QUEUE], (uint64_t)(u->start_s * 1e9));
    if (u->prompt_s > 0) metrics_observe(&m->histograms[METRIC_PREFILL], (uint64_t)((u->prompt_s - u->start_s) * 1e9));
    if (u->first_token_s <= 0) return;
    metrics_observe(&m->histograms[METRIC_TTFT], (uint64_t)(u->first_token_s * 1e9));
    metrics_observe(&m->histograms[METRIC_DECODE], (uint64_t)((u->end_s - u->first_token_s) * 1e9));
}

/* One choice of a request, as the performance log keeps it. */
static void log_speed(const gen_choice *c) {
    const galen_usage *u = &c->usage;
    const bool is_read = u->prompt_s > 0, is_written = u->first_token_s > 0;
    const perf_figures f = {.verb = strcmp(c->g->kind, "cmpl-") == 0 ? "serve.completions" : "serve.chat",
                            .prefill_s = is_read ? u->prompt_s - u->start_s : 0,
                            .decode_s = is_written ? u->end_s - u->first_token_s : 0,
                            .first_s = u->first_token_s,
                            .n_prompt = u->n_prompt,
                            .n_cached = u->n_cached,
                            .n_generated = u->n_generated,
                            .status = c->status};
    perf_generation(c->g->x->s, c->g->b, &f);
}

static bool on_chunk(void *user, const galen_chunk *chunk) {
    gen_choice *c = user;
    gen *g = c->g;
    const uint64_t now = clock_monotonic_ns();
    if (chunk->id >= 0) {
        if (c->last_token_ns) metrics_observe(&g->b->metrics.histograms[METRIC_ITL], now - c->last_token_ns);
        c->last_token_ns = now;
        if (g->has_logprobs) {
            if (!c->logprobs) c->logprobs = json_array();
            if (json_array_append_new(c->logprobs, g->shape->logprob(c, chunk))) return false;
        }
    }
    if (!g->is_stream || g->is_call) return bytes_add(&c->text, chunk->text, chunk->text_len) && !exchange_is_gone(g->x);
    if (!chunk->text_len && !(c->logprobs && json_array_size(c->logprobs))) return !exchange_is_gone(g->x);
    json_t *logprobs = c->logprobs;
    c->logprobs = NULL;
    return g->shape->event(c, chunk->text, chunk->text_len, logprobs, NULL);
}

static void answer_failure(gen *g) {
    const http_error e = g->error.code == GALEN_E_CANCELLED ? HTTP_HANGUP
                         : g->error.code == GALEN_E_REFUSED ? HTTP_BAD_VALUE /* no token fits the grammar */
                                                            : http_error_of(g->error.code);
    const bool says_more = http_error_status(e) < 500 && e != HTTP_HANGUP && e != HTTP_BUSY && g->error.msg[0];
    if (e == HTTP_DEVICE) metrics_add(&g->x->s->metrics, METRIC_DEVICE_FAILURES, 1);
    if (e == HTTP_TOO_LONG) metrics_add(&g->x->s->metrics, METRIC_TOO_LONG, 1);
    if (g->is_stream && !g->is_refused)
        stream_fail(g->x, NULL, http_error_json(e, NULL, says_more ? g->error.msg : NULL));
    else
        reply_error(g->x, e, NULL, says_more ? "%s" : NULL, g->error.msg);
}

static void answer_stream(gen *g) {
    static const char done[] = "data: [DONE]\n\n";
    bool ok = true;
    if (g->has_usage)
        ok = stream_event(g->x, NULL,
                          json_pack("{s:s, s:s, s:I, s:s, s:[], s:o}", "id", g->id, "object",
                                    strcmp(g->kind, "cmpl-") == 0 ? "text_completion" : "chat.completion.chunk", "created",
                                    (json_int_t)g->created, "model", g->b->name, "choices", "usage", gen_usage_json(g)));
    if (ok) (void)stream_raw(g->x, done, sizeof done - 1);
    stream_end(g->x);
}

/* All choices have ended. The last thing that touches g. */
static void finish(gen *g) {
    exchange *x = g->x;
    for (int i = 0; i < g->n_choices; i++)
        exchange_count(x, i ? 0 : g->choices[i].usage.n_prompt, i ? 0 : g->choices[i].usage.n_cached,
                       g->choices[i].usage.n_generated);
    json_t *root = g->is_failed || g->is_stream ? NULL : g->shape->answer(g);
    close_grammars(g); /* before the model may go */
    shelf_give(x->s->shelf, g->b);
    g->is_taken = false;
    if (g->is_failed)
        answer_failure(g);
    else if (g->is_stream)
        answer_stream(g);
    else
        reply_json(x, 200, root);
    exchange_unref(x);
}

static void on_end(void *user, const galen_end *end) {
    gen_choice *c = user;
    gen *g = c->g;
    c->finish = end->finish;
    c->status = end->status;
    c->usage = end->usage;
    observe(c);
    log_speed(c);
    if (!end->status && g->is_stream) {
        json_t *logprobs = c->logprobs;
        c->logprobs = NULL;
        (void)g->shape->event(c, "", 0, logprobs, gen_finish_name(end->finish));
    }
    (void)pthread_mutex_lock(&g->lock);
    c->id = 0;
    if (end->status && !g->is_failed) {
        g->is_failed = true;
        g->error = *end->error;
        g->error.code = end->status;
        for (int i = 0; i < g->n_choices; i++)
            if (g->choices[i].id) galen_batcher_cancel(g->b->batcher, g->choices[i].id);
    }
    const bool is_last = --g->n_left == 0;
    (void)pthread_mutex_unlock(&g->lock);
    if (is_last) finish(g);
}

static void on_gone(void *job) {
    gen *g = job;
    (void)pthread_mutex_lock(&g->lock);
    g->is_cancelled = true;
    if (g->first_id) galen_batcher_cancel(g->b->batcher, g->first_id);
    for (int i = 0; i < g->n_choices; i++)
        if (g->choices[i].id && g->n_left) galen_batcher_cancel(g->b->batcher, g->choices[i].id);
    (void)pthread_mutex_unlock(&g->lock);
}

/* ------------------------------------------------------------ starting */

static void take_retry(gen *g) {
    galen_batcher_stats stats = {.size = sizeof stats};
    galen_batcher_get_stats(g->b->batcher, &stats);
    g->x->retry_s = stats.expected_s < 1 ? 1 : stats.expected_s > 60 ? 60 : (int32_t)ceil(stats.expected_s);
}

/* With g's lock. */
static galen_status submit_one(gen *g, int i, galen_error *err) {
    gen_choice *c = &g->choices[i];
    galen_request_opts r = galen_request_default_opts();
    c->g = g;
    c->index = i;
    r.prompt = g->prompt.ids;
    r.n_prompt = (int32_t)g->prompt.n;
    r.generate = g->o;
    r.generate.sampling.seed += (uint64_t)i;
    r.generate.on_chunk = on_chunk;
    r.generate.user = c;
    r.client = r.salt = g->x->key_name; /* nobody's prompt speeds up another's */
    r.on_end = on_end;
    r.user = c;
    return galen_batcher_submit(g->b->batcher, &r, &c->id, err);
}

/* Every choice, or the refusal. Returns whether all were taken; the last on_end, or else this, calls finish. */
static bool submit_all(gen *g) {
    galen_error err = {0};
    galen_status st = GALEN_OK;
    (void)pthread_mutex_lock(&g->lock);
    g->n_left = g->n_choices;
    int i = 0;
    for (; i < g->n_choices && !st && !g->is_cancelled; i++) {
        st = submit_one(g, i, &err);
        if (st) break;
    }
    if (i < g->n_choices) {
        g->is_failed = true;
        g->is_refused = !g->decide;
        g->error = err;
        g->error.code = st ? st : GALEN_E_CANCELLED;
        if (st == GALEN_E_BUSY) take_retry(g);
        g->n_left -= g->n_choices - i;
        for (int k = 0; k < i; k++)
            if (g->choices[k].id) galen_batcher_cancel(g->b->batcher, g->choices[k].id);
    }
    const bool is_over = g->n_left == 0 && i == 0;
    (void)pthread_mutex_unlock(&g->lock);
    if (is_over) finish(g);
    return i == g->n_choices;
}

static void on_first_end(void *user, const galen_end *end) {
    gen *g = user;
    (void)pthread_mutex_lock(&g->lock);
    g->first_id = 0;
    g->is_failed = end->status != GALEN_OK;
    g->error = *end->error;
    g->error.code = end->status;
    (void)pthread_mutex_unlock(&g->lock);
    if (g->is_failed) {
        finish(g);
        return;
    }
    g->decide(g, end->label_logprobs);
    (void)submit_all(g);
}

void gen_start_after(gen *g, galen_tokens *prompt, const int32_t *labels, int32_t n_labels,
                     void (*decide)(gen *g, const float *logprobs)) {
    exchange *x = g->x;
    const bool is_stream = g->is_stream;
    galen_error err = {0};
    galen_request_opts r = galen_request_default_opts();
    g->first_prompt = *prompt;
    *prompt = (galen_tokens){0};
    g->decide = decide;
    r.prompt = g->first_prompt.ids;
    r.n_prompt = (int32_t)g->first_prompt.n;
    r.generate.max_tokens = 0;
    r.labels = labels;
    r.n_labels = n_labels;
    r.client = r.salt = x->key_name;
    r.on_end = on_first_end;
    r.user = g;
    exchange_ref(x);
    exchange_set_job(x, g, on_gone, gen_free);
    (void)pthread_mutex_lock(&g->lock);
    const galen_status st = galen_batcher_submit(g->b->batcher, &r, &g->first_id, &err);
    if (st) {
        g->is_failed = g->is_refused = true;
        g->error = err;
        g->error.code = st;
        if (st == GALEN_E_BUSY) take_retry(g);
    }
    (void)pthread_mutex_unlock(&g->lock);
    if (st)
        finish(g);
    else if (is_stream)
        stream_begin(x);
}

void gen_start(gen *g) {
    exchange *x = g->x;
    const bool is_stream = g->is_stream;
    if (g->prompt.n > INT32_MAX) {
        reply_error(x, HTTP_TOO_LONG, NULL, NULL);
        gen_abandon(g);
        return;
    }
    exchange_ref(x);
    exchange_set_job(x, g, on_gone, gen_free);
    const bool ok = submit_all(g);
    if (is_stream && ok) stream_begin(x);
}
