/* Opening a model: file, tokenizer, network, device, chat format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/grammars.h"
#include "runtime/runtime.h"

galen_model_opts galen_model_default_opts(void) {
    return (galen_model_opts){.size = sizeof(galen_model_opts), .gpu_layers = GALEN_GPU_LAYERS_AUTO};
}

galen_status opts_take(void *known, size_t known_size, const void *given, const char *what, galen_error *err) {
    size_t size;
    if (!given) return GALEN_OK;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > known_size)
        return galen_fail(err, GALEN_E_ARG, 0, "%s: size %zu, this library knows up to %zu", what, size, known_size);
    memcpy(known, given, size);
    return GALEN_OK;
}

/* ---------------------------------------------------------------- what the file says */

static const char *copy_str(galen_model *m, const char *key) {
    gguf_str s = {0};
    if (gguf_get_str(m->file, key, GGUF_OPTIONAL, &s, NULL) || !s.p) return NULL;
    return arena_strndup(&m->mem, s.p, s.n);
}

/* A shape as the file states it, for files that hold no network we know; 0 when it does not. */
static int32_t stated(const galen_model *m, const char *name) {
    char key[128];
    uint32_t v = 0;
    (void)snprintf(key, sizeof key, "%s.%s", m->info.arch ? m->info.arch : "", name);
    (void)gguf_get_u32(m->file, key, GGUF_OPTIONAL, &v, NULL);
    return v > INT32_MAX ? 0 : (int32_t)v;
}

static void count_weights(galen_model *m) {
    uint64_t bytes[TENSOR_TYPE_END] = {0};
    tensor_type most = TENSOR_F32;
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const gguf_tensor *t = gguf_tensor_at(m->file, i);
        m->info.n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        m->info.weight_bytes += t->n_bytes;
        bytes[t->type] += t->n_bytes;
        if (bytes[t->type] > bytes[most]) most = t->type;
    }
    m->info.type_name = m->info.n_params ? tensor_type_get(most)->name : NULL;
}

static galen_status fill_info(galen_model *m, const char *path, galen_error *err) {
    galen_model_info *i = &m->info;
    i->path = arena_strndup(&m->mem, path, strlen(path));
    if (!i->path) return galen_fail(err, GALEN_E_NOMEM, 0, "%s", path);
    i->arch = copy_str(m, "general.architecture");
    i->name = copy_str(m, "general.name");
    i->n_vocab = tokenizer_n_vocab(m->vocab);
    i->n_files = (int32_t)gguf_n_files(m->file);
    i->file_bytes = gguf_file_bytes(m->file);
    i->n_layer = stated(m, "block_count");
    i->n_embd = stated(m, "embedding_length");
    i->n_head = stated(m, "attention.head_count");
    i->n_head_kv = stated(m, "attention.head_count_kv");
    i->n_ff = stated(m, "feed_forward_length");
    i->n_ctx_train = stated(m, "context_length");
    i->chat_format = m->chat ? chat_format_name(m->chat) : NULL;
    if (m->net) i->n_head_kv = model_network(m->net)->n_head_kv;
    count_weights(m);
    return GALEN_OK;
}

static galen_status choose_chat(galen_model *m, const char *name, galen_error *err) {
    gguf_str template = {0};
    if (name) {
        m->chat = chat_format_by_name(name);
        if (!m->chat)
            return galen_fail(err, GALEN_E_ARG, 0, "chat format \"%.40s\" is not known; known: %s", name, chat_format_choices());
        return GALEN_OK;
    }
    const galen_status st = gguf_get_str(m->file, "tokenizer.chat_template", GGUF_OPTIONAL, &template, err);
    if (st) return st;
    if (template.p) m->chat = chat_format_detect(template.p, template.n);
    return GALEN_OK;
}

/* ---------------------------------------------------------------- open, close */

galen_status galen_model_open(galen_model **out, const char *path, const galen_model_opts *opts, galen_error *err) {
    galen_status st;
    galen_model_opts o = galen_model_default_opts();
    gpu_search *gpu = NULL;
    found_gpu unused;
    *out = NULL;
    if ((st = opts_take(&o, sizeof o, opts, "galen_model_opts", err))) return st;
    galen_model *m = calloc(1, sizeof *m);
    if (!m) return galen_fail(err, GALEN_E_NOMEM, 0, "%s", path);
    if ((st = gguf_open(&m->file, path, err))) goto fail;
    if (!o.is_vocab_only) gpu = gpu_search_start(&o);
    if ((st = tokenizer_open(&m->vocab, m->file, err))) goto fail;
    if ((st = lazy_vocab_open(&m->lazy, err))) goto fail;
    if ((st = choose_chat(m, o.chat_format, err))) goto fail;
    st = model_open(&m->net, m->file, tokenizer_n_vocab(m->vocab), o.is_vocab_only ? NULL : err);
    if (st == GALEN_E_NOMEM && o.is_vocab_only) (void)galen_fail(err, st, 0, "%s", path); /* its other reasons do not matter */
    if (st && !(o.is_vocab_only && st != GALEN_E_NOMEM)) goto fail;
    if ((st = fill_info(m, path, err))) goto fail;
    if ((st = inspect_copy_names(m, err))) goto fail;
    if (!o.is_vocab_only) {
        st = placer_open(&m->placer, model_network(m->net), &o, gpu, err);
        gpu = NULL;
        if (st) goto fail;
    }
    if (m->placer) m->n_threads = placer_threads(m->placer);
    if (o.progress && !o.progress(o.progress_user, m->info.file_bytes, m->info.file_bytes)) {
        st = galen_fail(err, GALEN_E_CANCELLED, 0, "%s: cancelled", path);
        goto fail;
    }
    *out = m;
    return GALEN_OK;
fail:
    gpu_search_end(gpu, &unused);
    found_gpu_close(&unused);
    galen_model_close(m);
    return st;
}

void galen_model_close(galen_model *m) {
    if (!m) return;
    placer_close(m->placer);
    model_close(m->net);
    lazy_vocab_close(m->lazy);
    tokenizer_close(m->vocab);
    gguf_close(m->file);
    arena_free(&m->mem);
    free(m);
}

static int32_t gpu_percent(const plan *p) {
    const double device = (double)p->device.weights, all = device + (double)p->host.weights;
    if (p->n_whole == p->n_layer && p->has_head) return 100;
    const int32_t percent = all > 0 ? (int32_t)(100 * device / all + 0.5) : 0;
    return percent > 99 ? 99 : percent;
}

galen_model_info galen_model_get_info(const galen_model *m) {
    galen_model_info i = m->info;
    placement *at = m->placer ? placer_hold(m->placer) : NULL;
    if (!at) return i;
    i.device = at->name;
    i.placement = at->line;
    i.fell_back = placer_fell_back(m->placer);
    i.n_gpu_layers = at->plan->n_whole;
    i.n_streamed = at->plan->n_fetched;
    i.gpu_percent = gpu_percent(at->plan);
    i.gpu_bytes = plan_total(&at->plan->device);
    i.gpu_all_bytes = at->device_all;
    placer_drop(m->placer, at);
    return i;
}
