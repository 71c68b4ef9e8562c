/* Sizes of a KV page; the drawing is in kv.h. */
#include "backend/cpu/kv.h"

static size_t pad64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

kv_layout kv_layout_of(kv_type type, int32_t d_head, int32_t n_head_kv) {
    static const size_t element_bytes[N_KV_TYPES] = {[KV_F16] = 2, [KV_F32] = 4, [KV_Q8_0] = 1};
    kv_layout kl = {.type = type, .d = d_head};
    kl.d_pad = (d_head + KV_LANES - 1) / KV_LANES * KV_LANES;
    kl.n_blocks = (d_head + KV_BLOCK - 1) / KV_BLOCK;
    const size_t scales = type == KV_Q8_0 ? pad64((size_t)KV_PAGE * (size_t)kl.n_blocks * 2) : 0;
    kl.k_scales = pad64((size_t)KV_PAGE * (size_t)kl.d * element_bytes[type]);
    kl.v = kl.k_scales + scales;
    kl.v_scales = kl.v + pad64((size_t)KV_PAGE * (size_t)kl.d_pad * element_bytes[type]);
    kl.head_bytes = kl.v_scales + scales;
    kl.page_bytes = kl.head_bytes * (size_t)n_head_kv;
    return kl;
}
