/* Valid files made by the writer: one with every type of value and weight, one with what a small model has. */
#ifndef TESTS_GGUF_SAMPLES_H
#define TESTS_GGUF_SAMPLES_H

#include "gguf_bytes.h"

#define TRY(call)                                                                                                                \
    do {                                                                                                                         \
        const galen_status try_st = (call);                                                                                      \
        if (try_st != GALEN_OK) return try_st;                                                                                   \
    } while (0)

static const uint32_t sample_types[] = {TENSOR_F32,  TENSOR_F16,  TENSOR_Q4_0,   TENSOR_Q4_1,   TENSOR_Q5_0,
                                        TENSOR_Q5_1, TENSOR_Q8_0, TENSOR_Q2_K,   TENSOR_Q3_K,   TENSOR_Q4_K,
                                        TENSOR_Q5_K, TENSOR_Q6_K, TENSOR_IQ4_NL, TENSOR_IQ4_XS, TENSOR_BF16};
enum { N_SAMPLE_TYPES = sizeof sample_types / sizeof *sample_types };

/* Extremes of every number type, little-endian, eight bytes each of which the first few are used. */
static const struct {
    gguf_type type;
    size_t size;
    uint8_t low[8], high[8];
} sample_numbers[] = {
    {GGUF_U8, 1, {0}, {255}},
    {GGUF_I8, 1, {0x80}, {0x7F}},
    {GGUF_U16, 2, {0}, {255, 255}},
    {GGUF_I16, 2, {0, 0x80}, {255, 0x7F}},
    {GGUF_U32, 4, {0}, {255, 255, 255, 255}},
    {GGUF_I32, 4, {0, 0, 0, 0x80}, {255, 255, 255, 0x7F}},
    {GGUF_F32, 4, {0, 0, 0x80, 0xBF}, {0xFF, 0xFF, 0x7F, 0x7F}}, /* -1, FLT_MAX */
    {GGUF_BOOL, 1, {0}, {1}},
    {GGUF_U64, 8, {0}, {255, 255, 255, 255, 255, 255, 255, 255}},
    {GGUF_I64, 8, {0, 0, 0, 0, 0, 0, 0, 0x80}, {255, 255, 255, 255, 255, 255, 255, 0x7F}},
    {GGUF_F64, 8, {0, 0, 0, 0, 0, 0, 0xF0, 0xBF}, {255, 255, 255, 255, 255, 255, 0xEF, 0x7F}}, /* -1, DBL_MAX */
};
enum { N_SAMPLE_NUMBERS = sizeof sample_numbers / sizeof *sample_numbers };

/* Data of all announced tensors: byte i of tensor t is 7 t + i, in chunks that do not divide it. */
static inline galen_status sample_data(gguf_writer *w, size_t t, size_t n_bytes, galen_error *err) {
    uint8_t chunk[37];
    for (size_t done = 0; done < n_bytes;) {
        const size_t n = n_bytes - done < sizeof chunk ? n_bytes - done : sizeof chunk;
        for (size_t i = 0; i < n; i++) chunk[i] = (uint8_t)(7 * t + done + i);
        TRY(gguf_write_data(w, chunk, n, err));
        done += n;
    }
    return GALEN_OK;
}

static inline galen_status sample_all_kv(gguf_writer *w, galen_error *err) {
    static const gguf_str strs[] = {{"plain", 5}, {"", 0}, {"a\0b", 3}, {"gr\xC3\xBC\xC3\x9F dich", 11}};
    char key[32];
    TRY(gguf_put_str(w, "general.architecture", "llama", 5, err));
    for (size_t i = 0; i < N_SAMPLE_NUMBERS; i++) {
        uint8_t both[16];
        const size_t n = sample_numbers[i].size;
        (void)snprintf(key, sizeof key, "scalar.%s", gguf_type_name(sample_numbers[i].type));
        TRY(gguf_put_scalar(w, key, sample_numbers[i].type, sample_numbers[i].high, err));
        memcpy(both, sample_numbers[i].low, n);
        memcpy(both + n, sample_numbers[i].high, n);
        (void)snprintf(key, sizeof key, "array.%s", gguf_type_name(sample_numbers[i].type));
        TRY(gguf_put_arr(w, key, sample_numbers[i].type, both, 2, err));
    }
    TRY(gguf_put_u32(w, "put.u32", 123456789, err));
    TRY(gguf_put_f32(w, "put.f32", 0.5f, err));
    TRY(gguf_put_bool(w, "put.bool", true, err));
    TRY(gguf_put_str(w, "empty.str", "", 0, err));
    TRY(gguf_put_arr(w, "empty.i32", GGUF_I32, NULL, 0, err));
    TRY(gguf_put_arr_str(w, "empty.strs", NULL, 0, err));
    return gguf_put_arr_str(w, "strs", strs, 4, err);
}

/* Every type of value, then a matrix [3][256] of every weight type and one tensor of four dimensions. */
static inline galen_status sample_all_body(gguf_writer *w, galen_error *err) {
    const uint64_t ne[] = {256, 3}, ne4[] = {2, 3, 5, 7};
    TRY(sample_all_kv(w, err));
    for (size_t i = 0; i < N_SAMPLE_TYPES; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "w.%s", tensor_type_get(sample_types[i])->name);
        TRY(gguf_put_tensor(w, name, (tensor_type)sample_types[i], 2, ne, err));
    }
    TRY(gguf_put_tensor(w, "w.4d", TENSOR_F32, 4, ne4, err));
    TRY(gguf_write_header(w, err));
    for (size_t i = 0; i < N_SAMPLE_TYPES; i++)
        TRY(sample_data(w, i, 3 * tensor_row_bytes((tensor_type)sample_types[i], 256), err));
    TRY(sample_data(w, N_SAMPLE_TYPES, sizeof(float) * 2 * 3 * 5 * 7, err));
    return gguf_write_end(w, err);
}

static inline galen_status sample_model_kv(gguf_writer *w, galen_error *err) {
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"llama.block_count", 1},          {"llama.context_length", 64},       {"llama.embedding_length", 32},
        {"llama.feed_forward_length", 64}, {"llama.attention.head_count", 4},  {"llama.attention.head_count_kv", 2},
        {"llama.rope.dimension_count", 8}, {"tokenizer.ggml.bos_token_id", 0}, {"tokenizer.ggml.eos_token_id", 1},
    };
    static const gguf_str tokens[] = {{"<s>", 3}, {"</s>", 4},     {"a", 1}, {"b", 1},
                                      {"ab", 2},  {"\xC4\xA0", 2}, {"c", 1}, {"d", 1}};
    static const gguf_str merges[] = {{"a b", 3}};
    static const uint8_t kinds[4 * 8] = {3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
                                         1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    TRY(gguf_put_str(w, "general.architecture", "llama", 5, err));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) TRY(gguf_put_u32(w, numbers[i].key, numbers[i].value, err));
    TRY(gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, err));
    TRY(gguf_put_f32(w, "llama.rope.freq_base", 10000.0f, err));
    TRY(gguf_put_str(w, "tokenizer.ggml.model", "gpt2", 4, err));
    TRY(gguf_put_str(w, "tokenizer.ggml.pre", "gpt-2", 5, err));
    TRY(gguf_put_arr_str(w, "tokenizer.ggml.tokens", tokens, 8, err));
    TRY(gguf_put_arr(w, "tokenizer.ggml.token_type", GGUF_I32, kinds, 8, err));
    TRY(gguf_put_arr_str(w, "tokenizer.ggml.merges", merges, 1, err));
    return gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true, err);
}

/* One layer of a llama with eight tokens. */
static inline galen_status sample_model_body(gguf_writer *w, galen_error *err) {
    static const struct {
        const char *name;
        tensor_type type;
        uint64_t ne[2];
    } tensors[] = {
        {"token_embd.weight", TENSOR_Q8_0, {32, 8}},      {"blk.0.attn_norm.weight", TENSOR_F32, {32, 1}},
        {"blk.0.attn_q.weight", TENSOR_Q4_0, {32, 32}},   {"blk.0.attn_k.weight", TENSOR_F16, {32, 16}},
        {"blk.0.attn_v.weight", TENSOR_Q5_1, {32, 16}},   {"blk.0.attn_output.weight", TENSOR_Q8_0, {32, 32}},
        {"blk.0.ffn_norm.weight", TENSOR_F32, {32, 1}},   {"blk.0.ffn_gate.weight", TENSOR_Q4_1, {32, 64}},
        {"blk.0.ffn_up.weight", TENSOR_IQ4_NL, {32, 64}}, {"blk.0.ffn_down.weight", TENSOR_Q5_0, {64, 32}},
        {"output_norm.weight", TENSOR_F32, {32, 1}},
    };
    enum { N = sizeof tensors / sizeof *tensors };
    TRY(sample_model_kv(w, err));
    for (size_t i = 0; i < N; i++)
        TRY(gguf_put_tensor(w, tensors[i].name, tensors[i].type, tensors[i].ne[1] == 1 ? 1 : 2, tensors[i].ne, err));
    TRY(gguf_write_header(w, err));
    for (size_t i = 0; i < N; i++)
        TRY(sample_data(w, i, tensors[i].ne[1] * tensor_row_bytes(tensors[i].type, (int64_t)tensors[i].ne[0]), err));
    return gguf_write_end(w, err);
}

typedef galen_status (*sample_body)(gguf_writer *w, galen_error *err);

static inline galen_status sample_write(sample_body body, uint32_t version, uint32_t alignment, gguf_sink sink, void *user,
                                        galen_error *err) {
    gguf_writer *w = NULL;
    galen_status st = gguf_writer_open(&w, version, alignment, sink, user, err);
    if (!st) st = body(w, err);
    gguf_writer_close(w);
    return st;
}

#endif
