/* Architectures are rows of data: a new model is a row, a new mechanism one field and one branch. */
#ifndef GALEN_MODEL_ARCH_H
#define GALEN_MODEL_ARCH_H

#include "backend/network.h"

typedef struct arch {
    const char *name; /* general.architecture */
    rope_kind rope;
    act_kind act;
    bool has_qk_norm;               /* attn_q_norm, attn_k_norm per head                                   */
    bool has_post_norms;            /* post_attention_norm, post_ffw_norm before each residual             */
    bool is_fused;                  /* attn_qkv and ffn_up hold Q|K|V and gate|up                          */
    bool is_embd_scaled;            /* embeddings times sqrt(n_embd)                                       */
    int32_t window_period;          /* sliding-window layers: all but every n-th; 0 = the file's window is not used */
    float rope_base_local;          /* RoPE base of sliding-window layers, unscaled; 0 = as the others     */
    int32_t embd_scale_head_layers; /* with this many layers scores scale by 1/sqrt(n_embd / n_head); 0 = never */
    const char *source;
} arch;

const arch *arch_by_name(const char *name, size_t n); /* NULL when there is none */
const char *arch_choices(void);                       /* "llama, qwen2, ..." for messages; static */

#endif
