/* Looking into a model file: metadata as text, tensors, the memory that a session needs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "runtime/runtime.h"

enum { MAX_SHOWN = 8 }; /* elements of an array */

/* A bounded text under construction; overlong text is cut at a character. */
typedef struct text {
    char *p;
    size_t n, cap; /* n < cap */
} text;

static void put(text *t, const char *s, size_t n) {
    utf8_stream u = {0};
    char out[12];
    for (size_t i = 0; i <= n; i++) {
        const size_t k = i < n ? utf8_push(&u, s + i, 1, out) : utf8_flush(&u, out);
        if (k >= t->cap - t->n) break;
        memcpy(t->p + t->n, out, k);
        t->n += k;
    }
    t->p[t->n] = '\0';
}

static void put_z(text *t, const char *z) {
    put(t, z, strlen(z));
}

static void put_number(text *t, const gguf_kv *kv, uint64_t i) {
    char buf[40];
    switch (kv->elem_type) {
    case GGUF_F32:
    case GGUF_F64:
        (void)snprintf(buf, sizeof buf, "%.9g", gguf_kv_float(kv, i));
        break;
    case GGUF_BOOL:
        (void)snprintf(buf, sizeof buf, "%s", gguf_kv_int(kv, i) ? "true" : "false");
        break;
    case GGUF_U64:
        (void)snprintf(buf, sizeof buf, "%" PRIu64, (uint64_t)gguf_kv_int(kv, i));
        break;
    default:
        (void)snprintf(buf, sizeof buf, "%" PRId64, gguf_kv_int(kv, i));
    }
    put_z(t, buf);
}

static void put_array(text *t, const gguf_kv *kv) {
    size_t pos = 0;
    put_z(t, "[");
    for (uint64_t i = 0; i < kv->n && i < MAX_SHOWN; i++) {
        if (i) put_z(t, ", ");
        if (kv->elem_type == GGUF_STR) {
            const gguf_str s = gguf_kv_str_next(kv, &pos);
            put_z(t, "\"");
            put(t, s.p, s.n);
            put_z(t, "\"");
        } else {
            put_number(t, kv, i);
        }
    }
    put_z(t, kv->n > MAX_SHOWN ? ", ...]" : "]");
}

bool galen_model_meta(const galen_model *m, size_t index, const char **key, char *type, size_t type_cap, char *value_text,
                      size_t value_cap) {
    if (index >= gguf_n_kv(m->file)) return false;
    const gguf_kv *kv = gguf_kv_at(m->file, index);
    *key = m->keys[index];
    if (kv->type == GGUF_ARR)
        (void)snprintf(type, type_cap, "arr[%s, %" PRIu64 "]", gguf_type_name(kv->elem_type), kv->n);
    else
        (void)snprintf(type, type_cap, "%s", gguf_type_name(kv->type));
    if (value_cap == 0) return true;
    text t = {.p = value_text, .cap = value_cap};
    value_text[0] = '\0';
    if (kv->type == GGUF_ARR)
        put_array(&t, kv);
    else if (kv->type == GGUF_STR)
        put(&t, gguf_kv_str(kv).p, gguf_kv_str(kv).n);
    else
        put_number(&t, kv, 0);
    return true;
}

bool galen_model_tensor(const galen_model *m, size_t index, galen_tensor_info *out) {
    if (index >= gguf_n_tensors(m->file)) return false;
    const gguf_tensor *t = gguf_tensor_at(m->file, index);
    *out = (galen_tensor_info){
        .name = m->names[index], .type_name = tensor_type_get(t->type)->name, .n_dims = (int32_t)t->n_dims, .bytes = t->n_bytes};
    memcpy(out->dims, t->ne, sizeof out->dims);
    return true;
}

/* Copies with a terminator, because those in the file have none. */
galen_status inspect_copy_names(galen_model *m, galen_error *err) {
    const size_t n_kv = gguf_n_kv(m->file), n_tensors = gguf_n_tensors(m->file);
    m->keys = arena_alloc(&m->mem, n_kv + n_tensors, sizeof *m->keys);
    if (!m->keys) goto fail;
    m->names = m->keys + n_kv;
    for (size_t i = 0; i < n_kv + n_tensors; i++) {
        const gguf_str s = i < n_kv ? gguf_kv_at(m->file, i)->key : gguf_tensor_at(m->file, i - n_kv)->name;
        m->keys[i] = arena_strndup(&m->mem, s.p, s.n);
        if (!m->keys[i]) goto fail;
    }
    return GALEN_OK;
fail:
    return galen_fail(err, GALEN_E_NOMEM, 0, "names of %zu keys and %zu tensors", n_kv, n_tensors);
}

galen_status galen_model_memory(const galen_model *m, int32_t n_ctx, const char *kv_name, uint64_t *kv_bytes,
                                uint64_t *work_bytes, galen_error *err) {
    kv_type kv = KV_F16;
    *kv_bytes = *work_bytes = 0;
    if (!m->net) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: holds no network that could be run", m->info.path);
    if (kv_name && !kv_type_by_name(kv_name, &kv))
        return galen_fail(err, GALEN_E_ARG, 0, "KV type \"%.40s\" is not known; known: f16, f32, q8_0", kv_name);
    if (n_ctx < 1) return galen_fail(err, GALEN_E_ARG, 0, "a context of %d tokens", n_ctx);
    const network *net = model_network(m->net);
    const backend_config cfg = {.n_threads = m->n_threads ? m->n_threads : 1, .has_embed = true, .has_head = true};
    const work_limits lim = session_limits(n_ctx, SESSION_BATCH, kv);
    backend_cpu()->work_bytes(net, &cfg, &lim, kv_bytes, work_bytes);
    return GALEN_OK;
}
