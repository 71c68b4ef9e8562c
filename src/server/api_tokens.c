/* POST /v1/tokenize and /v1/detokenize. */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/inside.h"

#define IDS_MAX 200000

static const field_row known_tokenize[] = {
    {"model", FIELD_USED, 0},         {"content", FIELD_USED, 0},     {"add_special", FIELD_USED, 0},
    {"parse_special", FIELD_USED, 0}, {"with_pieces", FIELD_USED, 0}, {NULL, FIELD_USED, 0},
};
static const field_row known_detokenize[] = {
    {"model", FIELD_USED, 0},
    {"tokens", FIELD_USED, 0},
    {NULL, FIELD_USED, 0},
};

static json_t *tokens_json(const galen_model *m, const galen_tokens *t, bool has_pieces) {
    json_t *list = json_array();
    char buf[512];
    for (size_t i = 0; i < t->n; i++) {
        json_t *one = json_integer(t->ids[i]);
        if (has_pieces) {
            const int32_t n = galen_token_bytes(m, t->ids[i], true, buf, sizeof buf);
            one = json_pack("{s:o, s:o}", "id", one, "piece",
                            gen_text_json(buf, n > 0 && n <= (int32_t)sizeof buf ? (size_t)n : 0));
        }
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static void tokenize(exchange *x, const book *b, const char *content, size_t n, const bool flags[3]) {
    galen_tokens t = {0};
    galen_error err = {0};
    if (galen_tokenize(b->model, content, n, flags[0], flags[1], &t, &err))
        reply_status(x, &err);
    else
        reply_json(x, 200,
                   json_pack("{s:o, s:I, s:i}", "tokens", tokens_json(b->model, &t, flags[2]), "count", (json_int_t)t.n,
                             "max_model_len", (int)b->n_ctx));
    galen_tokens_free(&t);
}

void api_tokenize(exchange *x) {
    const char *model = NULL, *content = NULL;
    size_t n = 0;
    bool flags[3] = {false, false, false}; /* add_special, parse_special, with_pieces */
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known_tokenize, NULL);
    field_str(&f, "model", 256, &model, NULL);
    field_str(&f, "content", SIZE_MAX, &content, &n);
    field_bool(&f, "add_special", &flags[0]);
    field_bool(&f, "parse_special", &flags[1]);
    field_bool(&f, "with_pieces", &flags[2]);
    if (!content) field_fail(&f, "content", "a string");
    book *b = f.is_bad ? NULL : api_take_model(x, model);
    if (b) {
        tokenize(x, b, content, n, flags);
        shelf_give(x->s->shelf, b);
    }
    json_decref(body);
}

static void detokenize(fields *f, const book *b, const json_t *ids) {
    bytes text = {0};
    char buf[512];
    bool ok = true;
    for (size_t i = 0; i < json_array_size(ids) && ok; i++) {
        const json_t *id = json_array_get(ids, i);
        const json_int_t k = json_integer_value(id);
        if (!json_is_integer(id) || k < 0 || k >= b->info.n_vocab) {
            field_fail(f, "tokens", "of this model's token ids");
            break;
        }
        const int32_t n = galen_token_bytes(b->model, (int32_t)k, false, buf, sizeof buf);
        ok = n <= (int32_t)sizeof buf && bytes_add(&text, buf, n > 0 ? (size_t)n : 0);
    }
    if (!ok)
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
    else if (!f->is_bad)
        reply_json(f->x, 200, json_pack("{s:o}", "content", gen_text_json(text.p, text.n)));
    bytes_free(&text);
}

void api_detokenize(exchange *x) {
    const char *model = NULL;
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known_detokenize, NULL);
    field_str(&f, "model", 256, &model, NULL);
    const json_t *ids = field_any(&f, "tokens");
    if (!json_is_array(ids) || json_array_size(ids) > IDS_MAX) field_fail(&f, "tokens", "a list of at most 200000 token ids");
    book *b = f.is_bad ? NULL : api_take_model(x, model);
    if (b) {
        detokenize(&f, b, ids);
        shelf_give(x->s->shelf, b);
    }
    json_decref(body);
}
