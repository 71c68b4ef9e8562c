/* POST /v1/completions: a text continued. Shapes: ecosystem of the OpenAI API, as its own client and llama-cpp-python read them.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/inside.h"

#define DEFAULT_MAX_TOKENS 16 /* OpenAI's */
#define PROMPT_TOKENS_MAX  (1 << 20)

static const field_row known[] = {
    {"prompt", FIELD_USED, 0},          {"echo", FIELD_USED, 0}, {"suffix", FIELD_REFUSED, 0}, {"best_of", FIELD_REFUSED, 1},
    {"logit_bias_type", FIELD_USED, 0}, {NULL, FIELD_USED, 0},
};

/* ------------------------------------------------------------ shapes */

static json_t *one_logprob(gen_choice *c, const galen_chunk *chunk) {
    json_t *top = json_object();
    for (int32_t i = 0; i < chunk->n_top; i++) {
        json_t *name = gen_token_text(c->g, chunk->top_ids[i]);
        if (!name || json_object_set_new(top, json_string_value(name), gen_number(chunk->top_logprobs[i]))) {
            json_decref(name);
            json_decref(top);
            return NULL;
        }
        json_decref(name);
    }
    json_t *entry = json_pack("{s:o, s:o, s:o, s:I}", "token", gen_token_text(c->g, chunk->id), "logprob",
                              gen_number(chunk->logprob), "top", top, "offset", (json_int_t)c->text_offset);
    const int32_t n = galen_token_bytes(c->g->b->model, chunk->id, false, NULL, 0);
    c->text_offset += n > 0 ? (size_t)n : 0;
    return entry;
}

/* Rows of one_logprob to columns. Takes rows over; NULL: null. */
static json_t *columns(json_t *rows) {
    if (!rows) return json_null();
    json_t *all = json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
    static const char *const from[] = {"token", "logprob", "top", "offset"};
    static const char *const to[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        for (int k = 0; k < 4; k++) {
            if (json_array_append(json_object_get(all, to[k]), json_object_get(row, from[k]))) {
                json_decref(rows);
                json_decref(all);
                return NULL;
            }
        }
    }
    json_decref(rows);
    return all;
}

static json_t *one_choice(const gen_choice *c, const char *text, size_t n, json_t *logprobs, const char *finish) {
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", c->index, "text", gen_text_json(text, n), "logprobs", columns(logprobs),
                     "finish_reason", finish);
}

static bool on_event(gen_choice *c, const char *text, size_t n, json_t *logprobs, const char *finish) {
    gen *g = c->g;
    if (!c->has_begun && g->extra) { /* echo */
        c->has_begun = true;
        const char *echo = g->extra;
        if (!stream_event(g->x, NULL,
                          json_pack("{s:s, s:s, s:I, s:s, s:[o]}", "id", g->id, "object", "text_completion", "created",
                                    (json_int_t)g->created, "model", g->b->name, "choices",
                                    one_choice(c, echo, strlen(echo), NULL, NULL)))) {
            json_decref(logprobs);
            return false;
        }
    }
    return stream_event(g->x, NULL,
                        json_pack("{s:s, s:s, s:I, s:s, s:[o]}", "id", g->id, "object", "text_completion", "created",
                                  (json_int_t)g->created, "model", g->b->name, "choices",
                                  one_choice(c, text, n, logprobs, finish)));
}

static json_t *on_answer(gen *g) {
    json_t *choices = json_array();
    for (int i = 0; i < g->n_choices; i++) {
        gen_choice *c = &g->choices[i];
        bytes text = {0};
        json_t *logprobs = c->logprobs;
        c->logprobs = NULL;
        const char *echo = g->extra;
        if ((echo && !bytes_add(&text, echo, strlen(echo))) || !bytes_add(&text, c->text.p, c->text.n)) {
            json_decref(logprobs);
            json_decref(choices);
            bytes_free(&text);
            return NULL;
        }
        if (g->has_logprobs && !logprobs) logprobs = json_array();
        const int bad = json_array_append_new(choices, one_choice(c, text.p, text.n, logprobs, gen_finish_name(c->finish)));
        bytes_free(&text);
        if (bad) {
            json_decref(choices);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o, s:o, s:s}", "id", g->id, "object", "text_completion", "created",
                     (json_int_t)g->created, "model", g->b->name, "choices", choices, "usage", gen_usage_json(g), "timings",
                     gen_timings_json(g), "system_fingerprint", api_fingerprint());
}

static const gen_shape shape = {one_logprob, on_event, on_answer};

/* ------------------------------------------------------------ the prompt */

static bool take_ids(gen *g, fields *f, const json_t *v) {
    const size_t n = json_array_size(v);
    if (n == 0 || n > PROMPT_TOKENS_MAX) {
        field_fail(f, "prompt", "a string, or a list of 1 to 1048576 token ids");
        return false;
    }
    g->prompt.ids = calloc(n, sizeof *g->prompt.ids);
    if (!g->prompt.ids) {
        f->is_bad = true;
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        const json_int_t k = json_integer_value(id);
        if (!json_is_integer(id) || k < 0 || k >= g->b->info.n_vocab) {
            field_fail(f, "prompt", "a string, or a list of this model's token ids");
            return false;
        }
        g->prompt.ids[g->prompt.n++] = (int32_t)k;
    }
    return true;
}

static bool take_prompt(gen *g, fields *f) {
    galen_error err = {0};
    const json_t *v = field_any(f, "prompt");
    bool echo = false;
    field_bool(f, "echo", &echo);
    if (f->is_bad) return false;
    if (json_is_array(v) && json_array_size(v) == 1 && !json_is_integer(json_array_get(v, 0))) v = json_array_get(v, 0);
    if (json_is_array(v)) {
        if (echo) {
            field_fail(f, "echo", "left out when the prompt is token ids");
            return false;
        }
        return take_ids(g, f, v);
    }
    if (!json_is_string(v)) {
        field_fail(f, "prompt", "a string, a list of one string, or a list of token ids");
        return false;
    }
    if (galen_tokenize(g->b->model, json_string_value(v), json_string_length(v), true, false, &g->prompt, &err)) {
        f->is_bad = true;
        reply_status(f->x, &err);
        return false;
    }
    if (g->prompt.n == 0) {
        field_fail(f, "prompt", "not empty: this model puts no token before a text");
        return false;
    }
    if (echo) g->extra = (void *)(uintptr_t)json_string_value(v); /* lives with the body */
    return true;
}

void api_completions(exchange *x) {
    gen *g = gen_open(x, &shape, "cmpl-", known);
    if (!g) return;
    fields f = {.x = x, .o = g->body};
    int64_t logprobs = -1;
    const char *bias_type = "input_ids";
    if (!gen_read(g, &f, DEFAULT_MAX_TOKENS)) goto fail;
    field_int(&f, "logprobs", 0, 20, &logprobs);
    field_str(&f, "logit_bias_type", 16, &bias_type, NULL);
    if (!f.is_bad && strcmp(bias_type, "input_ids") != 0) field_refuse(&f, "logit_bias_type", "only \"input_ids\" is supported");
    if (f.is_bad || !take_prompt(g, &f)) goto fail;
    g->has_logprobs = logprobs >= 0;
    g->o.n_top_logprobs = (int32_t)logprobs;
    if (!api_check_length(g)) goto fail;
    gen_start(g);
    return;
fail:
    gen_abandon(g);
}
