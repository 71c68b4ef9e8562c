/* What is synthesised: shapes, mixes of weight types, tensors and metadata as data.
 * Source of the shapes: config.json of meta-llama Llama-3.1-8B and Llama-3.2-1B. Source of the mixes: llama.cpp
 * src/llama-quant.cpp (llama_tensor_get_type) and include/llama.h (llama_ftype). */
#include <stdio.h>
#include <string.h>

#include "model/synth.h"

static const synth_shape shapes[] = {
    {"tiny", "Tiny", 256, 4, 4, 2, 64, 768, 1024, 2048, 8.0f, false},
    {"llama-1b", "1B", 2048, 16, 32, 8, 64, 8192, 128256, 131072, 32.0f, true},
    {"llama-8b", "8B", 4096, 32, 32, 8, 128, 14336, 128256, 131072, 8.0f, false},
};

static const synth_mix mixes[] = {
    {"f32", TENSOR_F32, false, 0},     {"f16", TENSOR_F16, false, 1},        {"bf16", TENSOR_BF16, false, 32},
    {"q8_0", TENSOR_Q8_0, false, 7},   {"q4_0", TENSOR_Q4_0, false, 2},      {"q4_1", TENSOR_Q4_1, false, 3},
    {"q5_0", TENSOR_Q5_0, false, 8},   {"q5_1", TENSOR_Q5_1, false, 9},      {"q2_k", TENSOR_Q2_K, false, 10},
    {"q3_k", TENSOR_Q3_K, false, 11},  {"q4_k", TENSOR_Q4_K, false, 14},     {"q5_k", TENSOR_Q5_K, false, 16},
    {"q6_k", TENSOR_Q6_K, false, 18},  {"iq4_nl", TENSOR_IQ4_NL, false, 25}, {"iq4_xs", TENSOR_IQ4_XS, false, 30},
    {"q4_k_m", TENSOR_Q4_K, true, 15}, {"q5_k_m", TENSOR_Q5_K, true, 17},
};

enum { N_SHAPES = sizeof shapes / sizeof shapes[0], N_MIXES = sizeof mixes / sizeof mixes[0], NAMES_BYTES = 256 };

static void names_add(char *names, const char *name) {
    const size_t n = strlen(names);
    (void)snprintf(names + n, NAMES_BYTES - n, "%s%s", n ? ", " : "", name);
}

galen_status synth_shape_find(const char *name, const synth_shape **out, galen_error *err) {
    char names[NAMES_BYTES] = "";
    *out = NULL;
    for (int i = 0; i < N_SHAPES; i++) {
        if (strcmp(shapes[i].name, name) == 0) *out = &shapes[i];
        names_add(names, shapes[i].name);
    }
    return *out ? GALEN_OK : galen_fail(err, GALEN_E_ARG, 0, "shape '%.40s' is not known; choose one of: %s", name, names);
}

galen_status synth_mix_find(const char *name, const synth_mix **out, galen_error *err) {
    char names[NAMES_BYTES] = "";
    *out = NULL;
    for (int i = 0; i < N_MIXES; i++) {
        if (strcmp(mixes[i].name, name) == 0) *out = &mixes[i];
        names_add(names, mixes[i].name);
    }
    return *out ? GALEN_OK : galen_fail(err, GALEN_E_ARG, 0, "type '%.40s' is not known; choose one of: %s", name, names);
}

/* The layers that a mix favours: the first and the last eighth, and every third between (use_more_bits). */
static bool is_favoured(int32_t layer, int32_t n_layer) {
    return layer < n_layer / 8 || layer >= 7 * n_layer / 8 || (layer - n_layer / 8) % 3 == 2;
}

/* A growing list of tensors; room for all was made before. */
typedef struct list {
    synth_tensor *at;
    size_t n;
    const synth_mix *mix;
} list;

static void add(list *l, const char *name, int32_t layer, synth_kind kind, int64_t n_in, int64_t n_out, bool is_favourite) {
    synth_tensor *t = &l->at[l->n++];
    *t = (synth_tensor){.kind = kind, .type = TENSOR_F32, .n_in = n_in, .n_out = n_out};
    if (kind == SYNTH_MATRIX) t->type = l->mix->is_mixed && is_favourite ? TENSOR_Q6_K : l->mix->type;
    if (layer >= 0) {
        (void)snprintf(t->name, sizeof t->name, "blk.%d.%s.weight", layer, name);
    } else {
        (void)snprintf(t->name, sizeof t->name, "%s.weight", name);
    }
}

galen_status synth_tensors(arena *a, const synth_shape *s, const synth_mix *mix, synth_tensor **out, size_t *n,
                           galen_error *err) {
    const size_t room = (size_t)s->n_layer * 9 + 4;
    const int64_t n_q = (int64_t)s->n_head * s->d_head, n_kv = (int64_t)s->n_head_kv * s->d_head;
    list l = {.at = arena_alloc(a, room, sizeof *l.at), .mix = mix};
    *out = NULL;
    *n = 0;
    if (!l.at) return galen_fail(err, GALEN_E_NOMEM, 0, "synth: %zu tensor records", room);
    add(&l, "token_embd", -1, SYNTH_MATRIX, s->n_embd, s->n_vocab, s->is_tied);
    for (int32_t i = 0; i < s->n_layer; i++) {
        const bool is_more = is_favoured(i, s->n_layer);
        add(&l, "attn_norm", i, SYNTH_NORM, s->n_embd, 1, false);
        add(&l, "attn_q", i, SYNTH_MATRIX, s->n_embd, n_q, false);
        add(&l, "attn_k", i, SYNTH_MATRIX, s->n_embd, n_kv, false);
        add(&l, "attn_v", i, SYNTH_MATRIX, s->n_embd, n_kv, is_more);
        add(&l, "attn_output", i, SYNTH_MATRIX, n_q, s->n_embd, false);
        add(&l, "ffn_norm", i, SYNTH_NORM, s->n_embd, 1, false);
        add(&l, "ffn_gate", i, SYNTH_MATRIX, s->n_embd, s->n_ff, false);
        add(&l, "ffn_up", i, SYNTH_MATRIX, s->n_embd, s->n_ff, false);
        add(&l, "ffn_down", i, SYNTH_MATRIX, s->n_ff, s->n_embd, is_more);
    }
    add(&l, "output_norm", -1, SYNTH_NORM, s->n_embd, 1, false);
    if (!s->is_tied) add(&l, "output", -1, SYNTH_MATRIX, s->n_embd, s->n_vocab, true);
    add(&l, "rope_freqs", -1, SYNTH_ROPE, s->d_head / 2, 1, false);
    *out = l.at;
    *n = l.n;
    return GALEN_OK;
}

static galen_status put_str(gguf_writer *w, const char *key, const char *v, galen_error *err) {
    return gguf_put_str(w, key, v, strlen(v), err);
}

galen_status synth_put_metadata(gguf_writer *w, const synth_shape *s, const synth_mix *mix, galen_error *err) {
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"general.file_type", mix->file_type},
        {"general.quantization_version", 2},
        {"llama.vocab_size", (uint32_t)s->n_vocab},
        {"llama.context_length", (uint32_t)s->n_ctx},
        {"llama.embedding_length", (uint32_t)s->n_embd},
        {"llama.block_count", (uint32_t)s->n_layer},
        {"llama.feed_forward_length", (uint32_t)s->n_ff},
        {"llama.attention.head_count", (uint32_t)s->n_head},
        {"llama.attention.head_count_kv", (uint32_t)s->n_head_kv},
        {"llama.attention.key_length", (uint32_t)s->d_head},
        {"llama.attention.value_length", (uint32_t)s->d_head},
        {"llama.rope.dimension_count", (uint32_t)s->d_head},
    };
    char title[64];
    galen_status st;
    (void)snprintf(title, sizeof title, "Galen synthetic Llama %s %s", s->title, mix->name);
    if ((st = put_str(w, "general.architecture", "llama", err))) return st;
    if ((st = put_str(w, "general.type", "model", err))) return st;
    if ((st = put_str(w, "general.name", title, err))) return st;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if ((st = gguf_put_u32(w, numbers[i].key, numbers[i].value, err))) return st;
    }
    if ((st = gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, err))) return st;
    return gguf_put_f32(w, "llama.rope.freq_base", 500000.0f, err);
}
