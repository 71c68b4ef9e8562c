/* A model file's metadata and tensors, right and wrong (reliability checklist G9, G17, G18, G23). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/tiny.h"
#include "model/model.h"

static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "phi3"};

/* Build, parse, open; the bytes stay until the next call. */
static galen_status open_tiny(const char *arch, const tiny_edit *edits, size_t n, model **m, gguf **g, galen_error *err) {
    static tiny_bytes bytes;
    free(bytes.p);
    *m = NULL;
    *g = NULL;
    assert_int_equal(tiny_build(arch, edits, n, &bytes, err), GALEN_OK);
    const galen_status st = gguf_parse(g, bytes.p, bytes.n, "tiny", err);
    return st ? st : model_open(m, *g, TINY_VOCAB, err);
}

static void close_tiny(model *m, gguf *g) {
    model_close(m);
    gguf_close(g);
}

static void every_architecture_opens(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        model *m;
        gguf *g;
        galen_error err = {0};
        if (open_tiny(archs[i], NULL, 0, &m, &g, &err)) fail_msg("%s: %s", archs[i], err.msg);
        const network *net = model_network(m);
        assert_int_equal(net->n_layer, TINY_LAYERS);
        assert_int_equal(net->d_head, TINY_HEAD);
        assert_ptr_equal(net->head.data, net->embd.data); /* tied */
        assert_int_equal(net->layers[1].w_up.n_out, TINY_FF);
        assert_int_equal(net->layers[1].wv.n_out, TINY_KV_HEADS * TINY_HEAD);
        close_tiny(m, g);
    }
}

static void wrong_values_are_named(void **state) {
    (void)state;
    static const struct {
        const char *arch;
        tiny_edit edit;
        galen_status want;
        const char *names; /* what the message must say */
    } rows[] = {
        {"llama", {"general.architecture", TINY_STR, .s = "mamba"}, GALEN_E_UNSUPPORTED, "llama, qwen2"},
        {"llama", {"general.architecture", TINY_DROP}, GALEN_E_FORMAT, "general.architecture"},
        {"llama", {"llama.block_count", TINY_U32, .u = 0}, GALEN_E_FORMAT, "block_count"},
        {"llama", {"llama.block_count", TINY_U32, .u = 3}, GALEN_E_FORMAT, "blk.2."},
        {"llama", {"llama.block_count", TINY_U32, .u = 513}, GALEN_E_FORMAT, "513"},
        {"llama", {"llama.block_count", TINY_U32, .u = 1u << 31}, GALEN_E_FORMAT, "block_count"},
        {"llama", {"llama.attention.head_count", TINY_U32, .u = 0}, GALEN_E_FORMAT, "head_count"},
        {"llama", {"llama.attention.head_count", TINY_U32, .u = 6}, GALEN_E_FORMAT, "embedding_length: 64"},
        {"llama", {"llama.attention.head_count_kv", TINY_U32, .u = 0}, GALEN_E_FORMAT, "head_count_kv"},
        {"llama", {"llama.attention.head_count_kv", TINY_U32, .u = 8}, GALEN_E_FORMAT, "head_count_kv"},
        {"llama", {"llama.attention.head_count_kv", TINY_U32, .u = 3}, GALEN_E_FORMAT, "does not divide"},
        {"llama",
         {"llama.attention.head_count_kv", TINY_U32, .u = 1},
         GALEN_E_FORMAT,
         "attn_k.weight: shape 64x32, expected 64x16"},
        {"llama", {"llama.embedding_length", TINY_U32, .u = 0}, GALEN_E_FORMAT, "embedding_length"},
        {"llama", {"llama.embedding_length", TINY_U32, .u = 128}, GALEN_E_FORMAT, "64x262, expected 128x262"},
        {"llama", {"llama.rope.dimension_count", TINY_U32, .u = 18}, GALEN_E_FORMAT, "rope.dimension_count"},
        {"llama", {"llama.rope.dimension_count", TINY_U32, .u = 7}, GALEN_E_FORMAT, "odd"},
        {"llama", {"llama.context_length", TINY_U32, .u = 0}, GALEN_E_FORMAT, "context_length"},
        {"llama", {"llama.context_length", TINY_U32, .u = UINT32_MAX}, GALEN_E_FORMAT, "4294967295"},
        {"llama", {"llama.expert_count", TINY_U32, .u = 8}, GALEN_E_UNSUPPORTED, "mixture"},
        {"llama", {"llama.attention.layer_norm_rms_epsilon", TINY_F32, .f = 0}, GALEN_E_FORMAT, "epsilon: 0"},
        {"llama", {"llama.attention.layer_norm_rms_epsilon", TINY_F32, .f = -1}, GALEN_E_FORMAT, "epsilon: -1"},
        {"llama", {"llama.attention.layer_norm_rms_epsilon", TINY_F32, .f = NAN}, GALEN_E_FORMAT, "epsilon"},
        {"llama", {"llama.rope.freq_base", TINY_F32, .f = 0}, GALEN_E_FORMAT, "freq_base"},
        {"llama", {"llama.rope.freq_base", TINY_F32, .f = NAN}, GALEN_E_FORMAT, "freq_base"},
        {"llama", {"llama.rope.freq_base", TINY_F32, .f = INFINITY}, GALEN_E_FORMAT, "freq_base"},
        {"llama", {"llama.rope.scaling.type", TINY_STR, .s = "magic"}, GALEN_E_UNSUPPORTED, "magic"},
        {"llama", {"llama.rope.scaling.factor", TINY_F32, .f = NAN}, GALEN_E_FORMAT, "scaling.factor"},
        {"llama", {"llama.attention.value_length", TINY_U32, .u = 8}, GALEN_E_UNSUPPORTED, "value_length: 8"},
        {"llama", {"token_embd.weight", TINY_ROWS, .u = 1}, GALEN_E_FORMAT, "64x263, expected 64x262"},
        {"llama", {"token_embd.weight", TINY_DROP}, GALEN_E_FORMAT, "token_embd.weight: tensor missing"},
        {"llama", {"output_norm.weight", TINY_DROP}, GALEN_E_FORMAT, "output_norm.weight"},
        {"llama", {"blk.1.ffn_down.weight", TINY_DROP}, GALEN_E_FORMAT, "blk.1.ffn_down.weight"},
        {"llama", {"blk.1.ffn_down.weight", TINY_ROW_LENGTH, .u = 32}, GALEN_E_FORMAT, "128x64, expected 96x64"},
        {"qwen3", {"blk.0.attn_q_norm.weight", TINY_DROP}, GALEN_E_FORMAT, "attn_q_norm"},
        {"gemma3", {"blk.0.post_ffw_norm.weight", TINY_DROP}, GALEN_E_FORMAT, "post_ffw_norm"},
        {"phi3", {"blk.0.attn_qkv.weight", TINY_ROWS, .u = 1}, GALEN_E_FORMAT, "64x129, expected 64x128"},
        {"qwen2", {"blk.0.attn_q.bias", TINY_ROW_LENGTH, .u = 1}, GALEN_E_FORMAT, "attn_q.bias: shape 65x1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        model *m;
        gguf *g;
        galen_error err = {0};
        const galen_status st = open_tiny(rows[i].arch, &rows[i].edit, 1, &m, &g, &err);
        if (st != rows[i].want || !strstr(err.msg, rows[i].names))
            fail_msg("row %zu (%s): status %d \"%s\", expected %d naming \"%s\"", i, rows[i].edit.name, st, err.msg, rows[i].want,
                     rows[i].names);
        assert_null(m);
        close_tiny(m, g);
    }
}

static void a_vocabulary_alone_is_said_to_be_one(void **state) {
    (void)state;
    static const char *const suffixes[] = {"attn_norm", "attn_q", "attn_k",   "attn_v",  "attn_output",
                                           "ffn_norm",  "ffn_up", "ffn_down", "ffn_gate"};
    enum { N = 2 * sizeof suffixes / sizeof *suffixes };
    char names[N][40];
    tiny_edit edits[N];
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(names[i], sizeof names[i], "blk.%zu.%s.weight", i % 2, suffixes[i / 2]);
        edits[i] = (tiny_edit){names[i], TINY_DROP};
    }
    model *m;
    gguf *g;
    galen_error err = {0};
    assert_int_equal(open_tiny("llama", edits, N, &m, &g, &err), GALEN_E_FORMAT);
    assert_non_null(strstr(err.msg, "2 tensors, fewer than one layer"));
    close_tiny(m, g);
}

static const char *const required[] = {"llama.block_count",          "llama.context_length",
                                       "llama.embedding_length",     "llama.feed_forward_length",
                                       "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};

static void required_keys_absent(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        model *m;
        gguf *g;
        galen_error err = {0};
        const tiny_edit edit = {required[i], TINY_DROP};
        assert_int_equal(open_tiny("llama", &edit, 1, &m, &g, &err), GALEN_E_FORMAT);
        if (!strstr(err.msg, required[i])) fail_msg("\"%s\" does not name %s", err.msg, required[i]);
        close_tiny(m, g);
    }
}

/* Every key in every type: an error that names it, or an integer that fits and then another key's or shape's complaint. */
static void every_key_in_every_wrong_type(void **state) {
    (void)state;
    int n_refused = 0;
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        for (uint32_t type = 0; type < GGUF_TYPE_END; type++) {
            model *m;
            gguf *g;
            galen_error err = {0};
            const tiny_edit edit = {required[i], TINY_TYPE, .u = type};
            const galen_status st = open_tiny("llama", &edit, 1, &m, &g, &err);
            const bool is_float_key = i == sizeof required / sizeof *required - 1;
            const bool is_number =
                is_float_key ? type == GGUF_F32 || type == GGUF_F64
                             : type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL && type != GGUF_STR && type != GGUF_ARR;
            if (!is_number) {
                assert_int_equal(st, GALEN_E_FORMAT);
                if (!strstr(err.msg, required[i])) fail_msg("type %u: \"%s\" does not name %s", type, err.msg, required[i]);
                n_refused++;
            }
            close_tiny(m, g);
        }
    assert_int_equal(n_refused, 5 * 5 + 11);
}

/* YaRN, linear and factor scaling against their formulas at the ends of the ramp. */
static void rope_scaling_reaches_the_table(void **state) {
    (void)state;
    const tiny_edit linear[] = {{"llama.rope.scaling.type", TINY_STR, .s = "linear"},
                                {"llama.rope.scaling.factor", TINY_F32, .f = 4}};
    const tiny_edit yarn[] = {{"llama.rope.scaling.type", TINY_STR, .s = "yarn"},
                              {"llama.rope.scaling.factor", TINY_F32, .f = 4},
                              {"llama.rope.scaling.original_context_length", TINY_U32, .u = 64}};
    model *m;
    gguf *g;
    galen_error err = {0};
    assert_int_equal(open_tiny("llama", linear, 2, &m, &g, &err), GALEN_OK);
    for (int i = 0; i < TINY_HEAD / 2; i++)
        assert_true(fabs(model_network(m)->ropes[0][0].inv_freq[i] / (pow(10000, -2.0 * i / TINY_HEAD) / 4) - 1) < 1e-12);
    assert_true(model_network(m)->ropes[0][0].magnitude == 1.0);
    close_tiny(m, g);
    if (open_tiny("llama", yarn, 3, &m, &g, &err)) fail_msg("%s", err.msg);
    const rope_table *t = &model_network(m)->ropes[0][0];
    assert_true(fabs(t->inv_freq[0] - 1) < 1e-12);                                       /* fast: not stretched */
    assert_true(fabs(t->inv_freq[7] / (pow(10000, -14.0 / TINY_HEAD) / 4) - 1) < 1e-12); /* slow: stretched   */
    assert_true(fabs(t->magnitude - (1 + 0.1 * log(4))) < 1e-12);
    assert_int_equal(model_network(m)->n_ctx_orig, 64);
    close_tiny(m, g);
}

static void gemma_has_local_and_global_layers(void **state) {
    (void)state;
    model *m;
    gguf *g;
    galen_error err = {0};
    const tiny_edit period = {"gemma3.attention.sliding_window", TINY_U32, .u = 8};
    assert_int_equal(open_tiny("gemma3", &period, 1, &m, &g, &err), GALEN_OK);
    const network *net = model_network(m);
    assert_int_equal(net->layers[0].window, 8);
    assert_int_equal(net->layers[0].rope, 1);
    assert_true(fabsf(net->embd_scale - 8.0f) < 1e-6f);
    close_tiny(m, g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_opens),
        cmocka_unit_test(wrong_values_are_named),
        cmocka_unit_test(a_vocabulary_alone_is_said_to_be_one),
        cmocka_unit_test(required_keys_absent),
        cmocka_unit_test(every_key_in_every_wrong_type),
        cmocka_unit_test(rope_scaling_reaches_the_table),
        cmocka_unit_test(gemma_has_local_and_global_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
