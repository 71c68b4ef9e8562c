/* Tiny models in memory for tests: two layers of any architecture that is known, random F32 weights, a byte vocabulary.
 * Edits change, drop or mistype single keys and tensors, choose other weights, add words to the vocabulary. */
#ifndef TESTS_SUPPORT_TINY_H
#define TESTS_SUPPORT_TINY_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "gguf/gguf.h"

enum { TINY_EMBD = 64, TINY_HEADS = 4, TINY_KV_HEADS = 2, TINY_HEAD = 16, TINY_FF = 96, TINY_LAYERS = 2, TINY_VOCAB = 262 };

typedef enum tiny_what {
    TINY_DROP,
    TINY_U32,
    TINY_F32,
    TINY_STR,
    TINY_TYPE,
    TINY_ROWS,
    TINY_ROW_LENGTH,
    TINY_FILL,
    TINY_SEED,
    TINY_WORDS
} tiny_what;

typedef struct tiny_edit {
    const char *name; /* key or tensor */
    tiny_what what;
    uint32_t u;    /* TINY_U32; the gguf_type of TINY_TYPE; added to the shape by TINY_ROWS, TINY_ROW_LENGTH; of all weights
                    * with TINY_SEED (name "seed"); how many with TINY_WORDS (name "words") */
    float f;       /* TINY_F32; every weight of a tensor with TINY_FILL */
    const char *s; /* TINY_STR */
    const char *const *words; /* TINY_WORDS: tokens behind the usual ones, each once */
} tiny_edit;

typedef struct tiny_bytes {
    uint8_t *p;
    size_t n, cap;
} tiny_bytes;

typedef struct tiny {
    gguf_writer *w;
    const tiny_edit *edits;
    size_t n_edits;
    bool is_data; /* second pass: tensor data instead of records */
    uint64_t stream;
} tiny;

static galen_status tiny_sink(void *user, const void *bytes, size_t n, galen_error *err) {
    tiny_bytes *b = user;
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        uint8_t *p = realloc(b->p, b->cap);
        if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "tiny");
        b->p = p;
    }
    memcpy(b->p + b->n, bytes, n);
    b->n += n;
    return GALEN_OK;
}

static const tiny_edit *tiny_edit_of(const tiny *t, const char *name) {
    for (size_t i = 0; i < t->n_edits; i++)
        if (strcmp(t->edits[i].name, name) == 0) return &t->edits[i];
    return NULL;
}

/* Write a key as its edit says; true when that settled it. */
static bool tiny_edited(tiny *t, const char *key) {
    const tiny_edit *e = tiny_edit_of(t, key);
    if (!e) return false;
    if (e->what == TINY_U32) (void)gguf_put_u32(t->w, key, e->u, NULL);
    if (e->what == TINY_F32) (void)gguf_put_f32(t->w, key, e->f, NULL);
    if (e->what == TINY_STR) (void)gguf_put_str(t->w, key, e->s, strlen(e->s), NULL);
    if (e->what == TINY_TYPE) {
        static const uint8_t four[8] = {4}; /* the number 4 in any integer type, a denormal in the float types */
        const uint32_t one[2] = {1, 2};
        if (e->u == GGUF_STR)
            (void)gguf_put_str(t->w, key, "4", 1, NULL);
        else if (e->u == GGUF_ARR)
            (void)gguf_put_arr(t->w, key, GGUF_U32, one, 2, NULL);
        else if (e->u == GGUF_BOOL)
            (void)gguf_put_bool(t->w, key, true, NULL);
        else
            (void)gguf_put_scalar(t->w, key, (gguf_type)e->u, four, NULL);
    }
    return true;
}

static void tiny_u32(tiny *t, const char *arch, const char *name, uint32_t v) {
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch, name);
    if (!tiny_edited(t, key)) (void)gguf_put_u32(t->w, key, v, NULL);
}
static void tiny_f32(tiny *t, const char *arch, const char *name, float v) {
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch, name);
    if (!tiny_edited(t, key)) (void)gguf_put_f32(t->w, key, v, NULL);
}
static void tiny_str(tiny *t, const char *key, const char *v) {
    if (!tiny_edited(t, key)) (void)gguf_put_str(t->w, key, v, strlen(v), NULL);
}

static void tiny_tensor(tiny *t, const char *name, uint64_t n_in, uint64_t n_out) {
    const tiny_edit *e = tiny_edit_of(t, name);
    t->stream++;
    if (e && e->what == TINY_DROP) return;
    if (e && e->what == TINY_ROWS) n_out += e->u;
    if (e && e->what == TINY_ROW_LENGTH) n_in += e->u;
    const uint64_t ne[4] = {n_in, n_out, 1, 1};
    if (!t->is_data) {
        (void)gguf_put_tensor(t->w, name, TENSOR_F32, n_out == 1 ? 1 : 2, ne, NULL);
        return;
    }
    const tiny_edit *chosen = tiny_edit_of(t, "seed");
    const uint64_t seed = chosen ? chosen->u : 1;
    for (uint64_t i = 0; i < n_in * n_out; i++) {
        const double u = 2 * rng_uniform(seed, t->stream, i) - 1;
        float v = n_out == 1 ? (float)(1 + 0.1 * u) : (float)(u * sqrt(3.0 / (double)n_in));
        if (e && e->what == TINY_FILL) v = e->f;
        (void)gguf_write_data(t->w, &v, sizeof v, NULL);
    }
}

static void tiny_layer(tiny *t, const char *arch, int i) {
    const bool is_phi = strcmp(arch, "phi3") == 0, is_gemma = strcmp(arch, "gemma3") == 0;
    const bool has_qk = is_gemma || strcmp(arch, "qwen3") == 0, has_bias = strcmp(arch, "qwen2") == 0;
    const uint64_t q = TINY_HEADS * TINY_HEAD, kv = TINY_KV_HEADS * TINY_HEAD;
    char n[64];
#define T(suffix, n_in, n_out) ((void)snprintf(n, sizeof n, "blk.%d.%s", i, suffix), tiny_tensor(t, n, n_in, n_out))
    T("attn_norm.weight", TINY_EMBD, 1);
    if (is_phi) T("attn_qkv.weight", TINY_EMBD, q + 2 * kv);
    if (!is_phi) T("attn_q.weight", TINY_EMBD, q);
    if (!is_phi) T("attn_k.weight", TINY_EMBD, kv);
    if (!is_phi) T("attn_v.weight", TINY_EMBD, kv);
    if (has_bias) T("attn_q.bias", q, 1);
    if (has_bias) T("attn_k.bias", kv, 1);
    if (has_bias) T("attn_v.bias", kv, 1);
    if (has_qk) T("attn_q_norm.weight", TINY_HEAD, 1);
    if (has_qk) T("attn_k_norm.weight", TINY_HEAD, 1);
    T("attn_output.weight", q, TINY_EMBD);
    if (is_gemma) T("post_attention_norm.weight", TINY_EMBD, 1);
    T("ffn_norm.weight", TINY_EMBD, 1);
    if (!is_phi) T("ffn_gate.weight", TINY_EMBD, TINY_FF);
    T("ffn_up.weight", TINY_EMBD, is_phi ? 2 * TINY_FF : TINY_FF);
    T("ffn_down.weight", TINY_FF, TINY_EMBD);
    if (is_gemma) T("post_ffw_norm.weight", TINY_EMBD, 1);
#undef T
}

static size_t tiny_n_vocab(const tiny *t) {
    const tiny_edit *more = tiny_edit_of(t, "words");
    return TINY_VOCAB + (more ? more->u : 0);
}

/* <unk> <s> </s>, 256 byte tokens, three words; then those of the test. */
static void tiny_vocabulary(tiny *t) {
    static char text[TINY_VOCAB][12];
    gguf_str tokens[2 * TINY_VOCAB];
    float scores[2 * TINY_VOCAB];
    int32_t types[2 * TINY_VOCAB];
    static const char *const words[] = {"\xE2\x96\x81", "a", "\xE2\x96\x81\x61"};
    const tiny_edit *more = tiny_edit_of(t, "words");
    const size_t n = tiny_n_vocab(t);
    if (n > 2 * TINY_VOCAB) abort();
    for (size_t i = 0; i < n; i++) {
        const char *s = i < TINY_VOCAB ? text[i] : more ? more->words[i - TINY_VOCAB] : "";
        if (i < 3)
            (void)snprintf(text[i], sizeof text[i], "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
        else if (i < 259)
            (void)snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)i - 3);
        else if (i < TINY_VOCAB)
            (void)snprintf(text[i], sizeof text[i], "%s", words[i - 259]);
        tokens[i] = (gguf_str){s, strlen(s)};
        scores[i] = -(float)i;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1; /* unknown, control, byte, normal */
    }
    tiny_str(t, "tokenizer.ggml.model", "llama");
    (void)gguf_put_arr_str(t->w, "tokenizer.ggml.tokens", tokens, n, NULL);
    (void)gguf_put_arr(t->w, "tokenizer.ggml.scores", GGUF_F32, scores, n, NULL);
    (void)gguf_put_arr(t->w, "tokenizer.ggml.token_type", GGUF_I32, types, n, NULL);
    (void)gguf_put_u32(t->w, "tokenizer.ggml.bos_token_id", 1, NULL);
    (void)gguf_put_u32(t->w, "tokenizer.ggml.eos_token_id", 2, NULL);
}

static void tiny_metadata(tiny *t, const char *arch) {
    tiny_str(t, "general.architecture", arch);
    tiny_u32(t, arch, "block_count", TINY_LAYERS);
    tiny_u32(t, arch, "context_length", 256);
    tiny_u32(t, arch, "embedding_length", TINY_EMBD);
    tiny_u32(t, arch, "feed_forward_length", TINY_FF);
    tiny_u32(t, arch, "attention.head_count", TINY_HEADS);
    tiny_u32(t, arch, "attention.head_count_kv", TINY_KV_HEADS);
    tiny_f32(t, arch, "attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_u32(t, arch, "rope.dimension_count", TINY_HEAD);
    tiny_f32(t, arch, "rope.freq_base", 10000.0f);
    if (strcmp(arch, "gemma3") == 0) tiny_u32(t, arch, "attention.sliding_window", 8);
    for (size_t i = 0; i < t->n_edits; i++) /* keys that are not written otherwise */
        if (strstr(t->edits[i].name, ".scaling.") || strstr(t->edits[i].name, "expert") ||
            strstr(t->edits[i].name, "_length") != NULL) {
            static const char *const usual[] = {"context_length", "embedding_length", "feed_forward_length"};
            bool is_usual = false;
            for (int k = 0; k < 3; k++) is_usual |= strstr(t->edits[i].name, usual[k]) && !strstr(t->edits[i].name, "scaling");
            if (!is_usual) (void)tiny_edited(t, t->edits[i].name);
        }
}

/** A model file of the architecture as bytes (free out->p). Returns the writer's status. */
static galen_status tiny_build(const char *arch, const tiny_edit *edits, size_t n_edits, tiny_bytes *out, galen_error *err) {
    tiny t = {.edits = edits, .n_edits = n_edits};
    *out = (tiny_bytes){0};
    galen_status st = gguf_writer_open(&t.w, 3, 32, tiny_sink, out, err);
    if (st) return st;
    tiny_metadata(&t, arch);
    tiny_vocabulary(&t);
    for (int pass = 0; pass < 2 && !st; pass++) {
        t.is_data = pass == 1;
        t.stream = 0;
        tiny_tensor(&t, "token_embd.weight", TINY_EMBD, tiny_n_vocab(&t));
        tiny_tensor(&t, "output_norm.weight", TINY_EMBD, 1);
        for (int i = 0; i < TINY_LAYERS; i++) tiny_layer(&t, arch, i);
        if (pass == 0) st = gguf_write_header(t.w, err);
    }
    if (!st) st = gguf_write_end(t.w, err);
    gguf_writer_close(t.w);
    return st;
}

#endif
