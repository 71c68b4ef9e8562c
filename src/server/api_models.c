/* GET /v1/models, and what all endpoints of OpenAI's API share. Nothing here wakes a model. */
#include <string.h>

#include "galen/assist.h"
#include "server/api.h"
#include "server/inside.h"

const char *api_fingerprint(void) {
    return galen_version();
}

bool api_check_length(gen *g) {
    if (g->prompt.n < (size_t)g->b->n_ctx) return true;
    metrics_add(&g->x->s->metrics, METRIC_TOO_LONG, 1);
    reply_error(g->x, HTTP_TOO_LONG, NULL,
                "the prompt has %zu tokens; this model's context is %d tokens and needs room for one more", g->prompt.n,
                g->b->n_ctx);
    return false;
}

book *api_take_model(exchange *x, const char *name) {
    book *b = shelf_find(x->s->shelf, name);
    if (!b)
        reply_error(x, HTTP_NO_MODEL, "model", NULL);
    else if (shelf_take(x->s->shelf, b, x))
        return b;
    return NULL;
}

static json_t *one_model(server *s, book *b) {
    json_t *meta = NULL;
    if (shelf_peek(s->shelf, b)) {
        const galen_model_info *i = &b->info;
        meta = json_pack("{s:i, s:i, s:i, s:i, s:I, s:I, s:s?, s:s?, s:s?}", "n_ctx", (int)b->n_ctx, "n_ctx_train",
                         (int)i->n_ctx_train, "n_vocab", (int)i->n_vocab, "n_embd", (int)i->n_embd, "n_params",
                         (json_int_t)i->n_params, "size", (json_int_t)i->weight_bytes, "type", i->type_name, "device", i->device,
                         "chat_format", i->chat_format);
        shelf_give(s->shelf, b);
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:b, s:o}", "id", b->name, "object", "model", "created", (json_int_t)s->started,
                     "owned_by", "galen", "loaded", meta != NULL, "meta", meta ? meta : json_null());
}

void api_models(exchange *x) {
    json_t *data = json_array();
    book *b;
    for (size_t i = 0; (b = shelf_at(x->s->shelf, i)); i++) {
        if (json_array_append_new(data, one_model(x->s, b))) {
            json_decref(data);
            data = NULL;
        }
    }
    reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void api_model(exchange *x) {
    book *b = shelf_find(x->s->shelf, x->param);
    if (b)
        reply_json(x, 200, one_model(x->s, b));
    else
        reply_error(x, HTTP_NO_MODEL, "model", NULL);
}

/** What a page's status line shows: of the first model. */
void api_status(exchange *x) {
    server *s = x->s;
    book *b = shelf_at(s->shelf, 0);
    galen_batcher_stats st = {.size = sizeof st};
    const bool is_there = shelf_peek(s->shelf, b);
    json_t *model = NULL;
    if (is_there) {
        const galen_model_info i = galen_model_get_info(b->model);
        galen_batcher_get_stats(b->batcher, &st);
        model = json_pack("{s:s, s:s?, s:s?, s:s?, s:s?, s:i, s:i, s:i, s:I}", "name", b->name, "type", i.type_name, "device",
                          i.device, "placement", i.placement, "fell_back", i.fell_back, "n_layer", (int)i.n_layer, "n_gpu_layers",
                          (int)i.n_gpu_layers, "n_ctx", (int)b->n_ctx, "weight_bytes", (json_int_t)i.weight_bytes);
        shelf_give(s->shelf, b);
    }
    reply_json(x, 200,
               json_pack("{s:s, s:b, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:f, s:s, s:b, s:s?}", "version", galen_version(),
                         "loaded", (int)is_there, "model", model ? model : json_null(), "gpu", look_gpu(s), "running",
                         (int)st.n_running, "waiting", (int)st.n_waiting, "kv_pages", (int)st.n_pages, "kv_pages_used",
                         (int)st.n_pages_used, "kv_page_tokens", 64, "tokens_per_second", st.tokens_per_s, "intended_use",
                         galen_assist_intended_use(), "needs_key", s->keys.n > 0, "role", s->keys.n ? role_name(x->role) : NULL));
}
