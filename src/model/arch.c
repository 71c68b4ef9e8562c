/* The architectures known. Sources name the public definition that each row was read from. */
#include "model/arch.h"

#include <string.h>

#define ARCH_TABLE(X)                                                                                                            \
    X("llama", .rope = ROPE_PAIRS, .act = ACT_SILU, .source = "transformers modeling_llama.py; GGUF permutes Q and K for pairs") \
    X("qwen2", .rope = ROPE_HALVES, .act = ACT_SILU, .source = "transformers modeling_qwen2.py: biases on Q, K, V")              \
    X("qwen3", .rope = ROPE_HALVES, .act = ACT_SILU, .has_qk_norm = true, .source = "transformers modeling_qwen3.py")            \
    X("gemma3", .rope = ROPE_HALVES, .act = ACT_GELU_TANH, .has_qk_norm = true, .has_post_norms = true, .is_embd_scaled = true,  \
      .window_period = 6, .rope_base_local = 10000.0f, .embd_scale_head_layers = 62,                                             \
      .source = "transformers modeling_gemma3.py; 62 layers = 27B, whose query_pre_attn_scalar is n_embd / n_head")              \
    X("phi3", .rope = ROPE_HALVES, .act = ACT_SILU, .is_fused = true,                                                            \
      .source = "transformers modeling_phi3.py; files carry a sliding window that their models were not released with "          \
                "a pattern for, so it is not used (llama.cpp PR 13676 does the same)")

static const arch table[] = {
#define X(text, ...) {.name = text, __VA_ARGS__},
    ARCH_TABLE(X)
#undef X
};

const arch *arch_by_name(const char *name, size_t n) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0) return &table[i];
    return NULL;
}

const char *arch_choices(void) {
    static const char text[] =
#define X(text, ...) ", " text
        ARCH_TABLE(X)
#undef X
        ;
    return text + 2; /* past the first separator */
}
