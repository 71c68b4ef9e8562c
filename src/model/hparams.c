/* Metadata to shapes. Every value is checked against what the engine can represent before anything is sized by it. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>

enum { MAX_DIM = 1 << 24, MAX_HEAD_DIM = 1024 };

const char *hparams_key(char *buf, const arch *a, const char *name) {
    (void)snprintf(buf, HPARAMS_KEY_BYTES, "%s.%s", a->name, name);
    return buf;
}

/* An unsigned integer in [min, max]; when optional and absent *out keeps its value. */
static galen_status get_int(const gguf *g, const arch *a, const char *name, gguf_need need, int32_t min, int32_t max,
                            int32_t *out, galen_error *err) {
    char key[HPARAMS_KEY_BYTES];
    uint32_t v = (uint32_t)*out;
    const galen_status st = gguf_get_u32(g, hparams_key(key, a, name), need, &v, err);
    if (st) return st;
    if (!gguf_find(g, key)) return GALEN_OK;
    if (v < (uint32_t)min || v > (uint32_t)max)
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, key)->offset, "%s: %u, expected %d to %d", key, v, min, max);
    *out = (int32_t)v;
    return GALEN_OK;
}

/* A finite number above min (exclusive). */
static galen_status get_float(const gguf *g, const arch *a, const char *name, gguf_need need, float above, float *out,
                              galen_error *err) {
    char key[HPARAMS_KEY_BYTES];
    const galen_status st = gguf_get_f32(g, hparams_key(key, a, name), need, out, err);
    if (st) return st;
    if (gguf_find(g, key) && !(isfinite(*out) && *out > above))
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, key)->offset, "%s: %g, expected a finite number above %g", key,
                          (double)*out, (double)above);
    return GALEN_OK;
}

static galen_status read_shapes(network *net, const arch *a, const gguf *g, galen_error *err) {
    galen_status st;
    /* a layer has at least five tensors, so a lying block_count costs nothing */
    const size_t max_layers = gguf_n_tensors(g) / 5;
    const int32_t layer_cap = max_layers > 1024 ? 1024 : (int32_t)max_layers;
    if (layer_cap < 1)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: the file holds %zu tensors, fewer than one layer has: a vocabulary only?",
                          gguf_label(g), gguf_n_tensors(g));
    if ((st = get_int(g, a, "block_count", GGUF_REQUIRED, 1, layer_cap, &net->n_layer, err))) return st;
    if ((st = get_int(g, a, "embedding_length", GGUF_REQUIRED, 1, MAX_DIM, &net->n_embd, err))) return st;
    if ((st = get_int(g, a, "feed_forward_length", GGUF_REQUIRED, 1, MAX_DIM, &net->n_ff, err))) return st;
    if ((st = get_int(g, a, "context_length", GGUF_REQUIRED, 1, INT32_MAX, &net->n_ctx_train, err))) return st;
    if ((st = get_int(g, a, "attention.head_count", GGUF_REQUIRED, 1, 4096, &net->n_head, err))) return st;
    net->n_head_kv = net->n_head;
    if ((st = get_int(g, a, "attention.head_count_kv", GGUF_OPTIONAL, 1, net->n_head, &net->n_head_kv, err))) return st;
    if (net->n_head % net->n_head_kv != 0)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s.attention.head_count_kv: %d does not divide head_count %d", a->name,
                          net->n_head_kv, net->n_head);
    int32_t experts = 0;
    if ((st = get_int(g, a, "expert_count", GGUF_OPTIONAL, 0, INT32_MAX, &experts, err))) return st;
    if (experts)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s.expert_count: %d; mixtures of experts are not supported", a->name,
                          experts);
    return GALEN_OK;
}

static galen_status read_head_dims(network *net, const arch *a, const gguf *g, galen_error *err) {
    galen_status st;
    char key[HPARAMS_KEY_BYTES];
    if (!gguf_find(g, hparams_key(key, a, "attention.key_length")) && net->n_embd % net->n_head != 0)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s.embedding_length: %d is not a multiple of head_count %d", a->name,
                          net->n_embd, net->n_head);
    net->d_head = net->n_embd / net->n_head;
    if ((st = get_int(g, a, "attention.key_length", GGUF_OPTIONAL, 2, MAX_HEAD_DIM, &net->d_head, err))) return st;
    if (net->d_head < 2 || net->d_head > MAX_HEAD_DIM || net->d_head % 2)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: heads of %d dimensions, expected an even number from 2 to %d", a->name,
                          net->d_head, MAX_HEAD_DIM);
    int32_t d_value = net->d_head;
    if ((st = get_int(g, a, "attention.value_length", GGUF_OPTIONAL, 1, MAX_HEAD_DIM, &d_value, err))) return st;
    if (d_value != net->d_head)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s.attention.value_length: %d differs from key_length %d", a->name,
                          d_value, net->d_head);
    net->n_rot = net->d_head;
    if ((st = get_int(g, a, "rope.dimension_count", GGUF_OPTIONAL, 2, net->d_head, &net->n_rot, err))) return st;
    if (net->n_rot % 2) return galen_fail(err, GALEN_E_FORMAT, 0, "%s.rope.dimension_count: %d is odd", a->name, net->n_rot);
    return GALEN_OK;
}

static galen_status read_scales(network *net, const arch *a, const gguf *g, galen_error *err) {
    galen_status st;
    if ((st = get_float(g, a, "attention.layer_norm_rms_epsilon", GGUF_REQUIRED, 0.0f, &net->norm_eps, err))) return st;
    if ((st = get_float(g, a, "attn_logit_softcapping", GGUF_OPTIONAL, 0.0f, &net->attn_softcap, err))) return st;
    if ((st = get_float(g, a, "final_logit_softcapping", GGUF_OPTIONAL, 0.0f, &net->logit_softcap, err))) return st;
    const bool is_wide = a->embd_scale_head_layers && net->n_layer == a->embd_scale_head_layers;
    net->attn_scale = (float)(1.0 / sqrt(is_wide ? (double)net->n_embd / net->n_head : (double)net->d_head));
    if ((st = get_float(g, a, "attention.scale", GGUF_OPTIONAL, 0.0f, &net->attn_scale, err))) return st;
    net->embd_scale = a->is_embd_scaled ? (float)sqrt((double)net->n_embd) : 1.0f;
    net->rope_kind = a->rope;
    net->act = a->act;
    return GALEN_OK;
}

/* Which layers look through a sliding window. The file may give the period, or one bool a layer. */
static galen_status read_windows(network *net, const arch *a, const gguf *g, galen_error *err) {
    galen_status st;
    char key[HPARAMS_KEY_BYTES];
    int32_t window = 0, period = a->window_period;
    if (!a->window_period) return GALEN_OK;
    if ((st = get_int(g, a, "attention.sliding_window", GGUF_OPTIONAL, 0, INT32_MAX, &window, err))) return st;
    const gguf_kv *pattern = gguf_find(g, hparams_key(key, a, "attention.sliding_window_pattern"));
    const bool is_array = pattern && pattern->type == GGUF_ARR;
    if (is_array && (pattern->elem_type != GGUF_BOOL || pattern->n != (uint64_t)net->n_layer))
        return galen_fail(err, GALEN_E_FORMAT, pattern->offset, "%s: %llu elements of type %s, expected %d of type bool", key,
                          (unsigned long long)pattern->n, gguf_type_name(pattern->elem_type), net->n_layer);
    if (!is_array && (st = get_int(g, a, "attention.sliding_window_pattern", GGUF_OPTIONAL, 1, INT32_MAX, &period, err)))
        return st;
    for (int32_t i = 0; i < net->n_layer; i++) {
        const bool is_local = is_array ? gguf_kv_int(pattern, (uint64_t)i) != 0 : i % period < period - 1;
        net->layers[i].window = is_local ? window : 0;
        net->layers[i].rope = is_local && a->rope_base_local > 0 ? 1 : 0;
    }
    return GALEN_OK;
}

galen_status hparams_read(network *net, const arch *a, const gguf *g, int32_t n_vocab, arena *mem, galen_error *err) {
    galen_status st;
    net->n_vocab = n_vocab;
    if ((st = read_shapes(net, a, g, err))) return st;
    if ((st = read_head_dims(net, a, g, err))) return st;
    if ((st = read_scales(net, a, g, err))) return st;
    net->layers = arena_alloc(mem, (size_t)net->n_layer, sizeof *net->layers);
    if (!net->layers) return galen_fail(err, GALEN_E_NOMEM, 0, "%d layers", net->n_layer);
    if ((st = read_windows(net, a, g, err))) return st;
    return rope_read(net, a, g, mem, err);
}
