/* POST /v1/chat/completions. With tools and tool_choice auto the model first weighs two letters, a tool or an answer; what it
 * then writes is under the grammar of what it chose. */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/chat.h"
#include "server/inside.h"

static const field_row known[] = {
    {"messages", FIELD_USED, 0},
    {"max_completion_tokens", FIELD_USED, 0},
    {"top_logprobs", FIELD_USED, 0},
    {"response_format", FIELD_USED, 0},
    {"tools", FIELD_USED, 0},
    {"tool_choice", FIELD_USED, 0},
    {"modalities", FIELD_USED, 0},
    {"parallel_tool_calls", FIELD_IGNORED, 0}, /* one call at a time */
    {"store", FIELD_IGNORED, 0},               /* nothing is stored  */
    {"metadata", FIELD_IGNORED, 0},
    {"service_tier", FIELD_IGNORED, 0},
    {"safety_identifier", FIELD_IGNORED, 0},
    {"prompt_cache_key", FIELD_IGNORED, 0},
    {"reasoning_effort", FIELD_IGNORED, 0},
    {"verbosity", FIELD_IGNORED, 0},
    {"prediction", FIELD_IGNORED, 0},
    {"functions", FIELD_REFUSED, 0},
    {"function_call", FIELD_REFUSED, 0},
    {"audio", FIELD_REFUSED, 0},
    {"web_search_options", FIELD_REFUSED, 0},
    {"chat_template", FIELD_REFUSED, 0},
    {"chat_template_kwargs", FIELD_REFUSED, 0},
    {NULL, FIELD_USED, 0},
};

/* ------------------------------------------------------------ shapes */

static json_t *one_token(const gen *g, int32_t id, float logprob) {
    return json_pack("{s:o, s:o, s:o}", "token", gen_token_text(g, id), "logprob", gen_number(logprob), "bytes",
                     gen_token_bytes(g, id));
}

static json_t *one_logprob(gen_choice *c, const galen_chunk *chunk) {
    json_t *row = one_token(c->g, chunk->id, chunk->logprob), *top = json_array();
    for (int32_t i = 0; i < chunk->n_top; i++) {
        if (json_array_append_new(top, one_token(c->g, chunk->top_ids[i], chunk->top_logprobs[i]))) {
            json_decref(top);
            top = NULL;
        }
    }
    if (json_object_set_new(row, "top_logprobs", top) == 0) return row;
    json_decref(row);
    return NULL;
}

static json_t *logprobs_json(json_t *rows) {
    return rows ? json_pack("{s:o, s:n}", "content", rows, "refusal") : json_null();
}

static bool send_chunk(gen_choice *c, json_t *delta, json_t *logprobs, const char *finish) {
    gen *g = c->g;
    return stream_event(g->x, NULL,
                        json_pack("{s:s, s:s, s:I, s:s, s:s, s:[{s:i, s:o, s:o, s:s?}]}", "id", g->id, "object",
                                  "chat.completion.chunk", "created", (json_int_t)g->created, "model", g->b->name,
                                  "system_fingerprint", api_fingerprint(), "choices", "index", c->index, "delta", delta,
                                  "logprobs", logprobs_json(logprobs), "finish_reason", finish));
}

/* The call as one delta; false: it is not whole, and goes out as text. */
static bool send_call(gen_choice *c, const char **finish) {
    json_t *calls = chat_tools_calls(c->text.p, c->text.n);
    if (!calls) return send_chunk(c, json_pack("{s:o}", "content", gen_text_json(c->text.p, c->text.n)), NULL, NULL);
    (void)json_object_set_new(json_array_get(calls, 0), "index", json_integer(0));
    *finish = "tool_calls";
    return send_chunk(c, json_pack("{s:o}", "tool_calls", calls), NULL, NULL);
}

static bool on_event(gen_choice *c, const char *text, size_t n, json_t *logprobs, const char *finish) {
    bool ok = true;
    if (!c->has_begun) {
        c->has_begun = true;
        ok = send_chunk(c, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, NULL);
    }
    if (ok && finish && c->g->is_call) ok = send_call(c, &finish);
    if (!ok) {
        json_decref(logprobs);
        return false;
    }
    if (n || (logprobs && !finish)) {
        ok = send_chunk(c, json_pack("{s:o}", "content", gen_text_json(text, n)), logprobs, NULL);
        logprobs = NULL;
    }
    if (!finish) return ok;
    return send_chunk(c, json_object(), logprobs, finish);
}

static json_t *one_choice(gen_choice *c) {
    json_t *logprobs = c->logprobs, *calls = c->g->is_call ? chat_tools_calls(c->text.p, c->text.n) : NULL;
    const char *finish = calls ? "tool_calls" : gen_finish_name(c->finish);
    c->logprobs = NULL;
    if (c->g->has_logprobs && !logprobs) logprobs = json_array();
    json_t *message = json_pack("{s:s, s:o, s:n, s:o*}", "role", "assistant", "content",
                                calls ? json_null() : gen_text_json(c->text.p, c->text.n), "refusal", "tool_calls", calls);
    return json_pack("{s:i, s:o, s:o, s:s}", "index", c->index, "message", message, "logprobs", logprobs_json(logprobs),
                     "finish_reason", finish);
}

static json_t *on_answer(gen *g) {
    json_t *choices = json_array();
    for (int i = 0; i < g->n_choices; i++) {
        if (json_array_append_new(choices, one_choice(&g->choices[i]))) {
            json_decref(choices);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o}", "id", g->id, "object", "chat.completion", "created",
                     (json_int_t)g->created, "model", g->b->name, "system_fingerprint", api_fingerprint(), "choices", choices,
                     "usage", gen_usage_json(g), "timings", gen_timings_json(g));
}

static const gen_shape shape = {one_logprob, on_event, on_answer};

/* ------------------------------------------------------------ reading */

static bool constrain_schema(gen *g, fields *f, const json_t *schema) {
    if (!json_is_object(schema)) {
        field_fail(f, "response_format", "an object whose schema is a JSON Schema object");
        return false;
    }
    char *text = json_dumps(schema, JSON_COMPACT);
    if (!text) {
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
        return false;
    }
    const bool ok = gen_constrain(g, GALEN_GRAMMAR_JSON_SCHEMA, text, strlen(text), "response_format");
    free(text);
    return ok;
}

static bool read_format(gen *g, fields *f) {
    const json_t *v = field_any(f, "response_format"), *schema = json_object_get(v, "schema");
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!v || f->is_bad) return !f->is_bad;
    if (type && strcmp(type, "text") == 0) return true;
    if (type && strcmp(type, "json_object") == 0) {
        if (schema && !json_is_null(schema)) return constrain_schema(g, f, schema); /* llama-cpp-python's */
        return gen_constrain(g, GALEN_GRAMMAR_JSON_OBJECT, "", 0, "response_format");
    }
    if (type && strcmp(type, "json_schema") == 0)
        return constrain_schema(g, f, json_object_get(json_object_get(v, "json_schema"), "schema"));
    field_fail(f, "response_format", "an object of type text, json_object or json_schema");
    return false;
}

static void read_rest(gen *g, fields *f) {
    int64_t top = 0, max = g->o.max_tokens;
    const json_t *modalities = field_any(f, "modalities");
    field_bool(f, "logprobs", &g->has_logprobs);
    field_int(f, "top_logprobs", 0, 20, &top);
    if (!f->is_bad && field_has(f, "top_logprobs") && !g->has_logprobs)
        field_fail(f, "top_logprobs", "left out without logprobs: true");
    g->o.n_top_logprobs = g->has_logprobs ? (int32_t)top : -1;
    field_int(f, "max_completion_tokens", 1, INT32_MAX, &max);
    g->o.max_tokens = (int32_t)max;
    if (!modalities || f->is_bad) return;
    const char *one = json_string_value(json_array_get(modalities, 0));
    if (json_array_size(modalities) != 1 || !one || strcmp(one, "text") != 0) field_fail(f, "modalities", "[\"text\"]");
}

/* ------------------------------------------------------------ a tool or an answer */

static void decide(gen *g, const float *logprobs) {
    g->is_call = logprobs[0] > logprobs[1];
    if (g->is_call) g->o.grammar = g->call_grammar;
}

static const char question[] =
    "Before you answer: do you have to call one of the tools first? A: yes, call a tool. B: no, answer at "
    "once. Answer with the letter alone.";

/* Takes g over. */
static void begin(gen *g, fields *f, chat_tools *tools) {
    galen_tokens first = {0};
    int32_t letters[2];
    const bool has_tools = tools->choice != TOOLS_NONE;
    if (!chat_messages_read(g->b->model, f, has_tools ? tools->words.p : NULL, NULL, &g->prompt) || !api_check_length(g))
        goto fail;
    if (has_tools && !gen_compile(g, GALEN_GRAMMAR_JSON_SCHEMA, tools->schema, strlen(tools->schema), "tools", &g->call_grammar))
        goto fail;
    if (tools->choice == TOOLS_AUTO) {
        if (!chat_letters(g->b->model, letters, 2)) {
            field_refuse(f, "tool_choice", "this vocabulary has no letters to choose by; name a function");
            goto fail;
        }
        if (!chat_messages_read(g->b->model, f, tools->words.p, question, &first)) goto fail;
        chat_tools_free(tools);
        gen_start_after(g, &first, letters, 2, decide);
        return;
    }
    if (tools->choice == TOOLS_REQUIRED) {
        g->is_call = true;
        g->o.grammar = g->call_grammar;
    }
    chat_tools_free(tools);
    gen_start(g);
    return;
fail:
    chat_tools_free(tools);
    galen_tokens_free(&first);
    gen_abandon(g);
}

void api_chat(exchange *x) {
    gen *g = gen_open(x, &shape, "chatcmpl-", known);
    chat_tools tools = {0};
    if (!g) return;
    fields f = {.x = x, .o = g->body};
    if (!gen_read(g, &f, -1)) goto fail;
    read_rest(g, &f);
    if (f.is_bad || !read_format(g, &f) || !chat_tools_read(&f, &tools)) goto fail;
    begin(g, &f, &tools);
    return;
fail:
    chat_tools_free(&tools);
    gen_abandon(g);
}
