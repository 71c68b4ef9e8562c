/* POST /v1/embeddings: the mean (or the last) of the final hidden states, of length 1. */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/many.h"

#define INPUTS_MAX 2048

static const field_row known[] = {
    {"model", FIELD_USED, 0},   {"input", FIELD_USED, 0},         {"encoding_format", FIELD_USED, 0},
    {"pooling", FIELD_USED, 0}, {"dimensions", FIELD_REFUSED, 0}, {"user", FIELD_IGNORED, 0},
    {NULL, FIELD_USED, 0},
};

/* RFC 4648, of little-endian float32. */
static json_t *base64(const float *v, size_t n) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)v;
    const size_t bytes_n = n * sizeof *v;
    char *out = malloc((bytes_n + 2) / 3 * 4 + 1), *at = out;
    if (!out) return NULL;
    for (size_t i = 0; i < bytes_n; i += 3) {
        const size_t left = bytes_n - i;
        const uint32_t w = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        *at++ = letters[w >> 18];
        *at++ = letters[w >> 12 & 63];
        *at++ = left > 1 ? letters[w >> 6 & 63] : '=';
        *at++ = left > 2 ? letters[w & 63] : '=';
    }
    json_t *s = json_stringn(out, (size_t)(at - out));
    free(out);
    return s;
}

static json_t *floats(const float *v, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(a, gen_number(v[i]))) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

static json_t *on_answer(many *m) {
    json_t *data = json_array();
    const bool is_base64 = m->extra != NULL;
    int n_prompt = 0;
    for (size_t i = 0; i < m->n; i++) {
        const size_t n = (size_t)m->b->info.n_embd;
        json_t *v = is_base64 ? base64(m->items[i].result, n) : floats(m->items[i].result, n);
        n_prompt += (int)m->items[i].prompt.n;
        if (json_array_append_new(data,
                                  json_pack("{s:s, s:I, s:o}", "object", "embedding", "index", (json_int_t)i, "embedding", v))) {
            json_decref(data);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o, s:s, s:{s:i, s:i}}", "object", "list", "data", data, "model", m->b->name, "usage",
                     "prompt_tokens", n_prompt, "total_tokens", n_prompt);
}

/* A string or token ids. Returns what is wrong, or NULL. */
static const char *take(const galen_model *model, int32_t n_vocab, const json_t *v, galen_tokens *out) {
    galen_error err = {0};
    if (json_is_string(v)) {
        if (galen_tokenize(model, json_string_value(v), json_string_length(v), true, false, out, &err))
            return "smaller: out of memory";
        return out->n ? NULL : "of texts that are not empty";
    }
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n == 0) return "a text, a list of texts, token ids, or a list of lists of token ids";
    out->ids = calloc(n, sizeof *out->ids);
    if (!out->ids) return "smaller: out of memory";
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= n_vocab)
            return "of this model's token ids";
        out->ids[out->n++] = (int32_t)json_integer_value(id);
    }
    return NULL;
}

static void run(fields *f, book *b, json_t *body, galen_pooling pooling, bool is_base64) {
    const json_t *v = field_any(f, "input");
    const json_t *first = json_array_get(v, 0);
    const bool is_list = json_is_array(v) && (json_is_string(first) || json_is_array(first));
    const size_t n = is_list ? json_array_size(v) : 1;
    const char *wrong = n > INPUTS_MAX ? "a list of at most 2048 inputs" : NULL;
    many *m = many_open(f->x, b, body, wrong ? 1 : n);
    if (!m) return;
    m->pooling = pooling;
    m->answer = on_answer;
    m->extra = is_base64 ? (void *)(uintptr_t) "base64" : NULL;
    for (size_t i = 0; i < n && !wrong; i++)
        wrong = take(b->model, b->info.n_vocab, is_list ? json_array_get(v, i) : v, &m->items[i].prompt);
    if (wrong) {
        field_fail(f, "input", wrong);
        many_abandon(m);
    } else if (!many_check_lengths(m)) {
        many_abandon(m);
    } else {
        many_start(m);
    }
}

void api_embeddings(exchange *x) {
    const char *model = NULL, *format = "float", *pooling = "mean";
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known, NULL);
    field_str(&f, "model", 256, &model, NULL);
    field_str(&f, "encoding_format", 16, &format, NULL);
    field_str(&f, "pooling", 16, &pooling, NULL);
    const bool is_base64 = strcmp(format, "base64") == 0, is_last = strcmp(pooling, "last") == 0;
    if (!is_base64 && strcmp(format, "float") != 0) field_fail(&f, "encoding_format", "float or base64");
    if (!is_last && strcmp(pooling, "mean") != 0) field_fail(&f, "pooling", "mean or last");
    book *b = f.is_bad ? NULL : api_take_model(x, model);
    if (b)
        run(&f, b, body, is_last ? GALEN_POOL_LAST : GALEN_POOL_MEAN, is_base64);
    else
        json_decref(body);
}
