/* The operations of ops.h for the instruction set that the including file has described. */
#include "backend/cpu/ops.h"
#include "backend/cpu/vec.h"

/* A chunk of up to 16 values at x + i, zeros behind the end. */
V_INLINE v16 load_chunk(const float *x, int64_t i, int64_t n) {
    if (n - i >= 16) return v16_load(x + i);
    float t[16] = {0};
    memcpy(t, x + i, (size_t)(n - i) * sizeof *t);
    return v16_load(t);
}
V_INLINE void store_chunk(float *y, int64_t i, int64_t n, v16 a) {
    if (n - i >= 16) {
        v16_store(y + i, a);
        return;
    }
    float t[16];
    v16_store(t, a);
    memcpy(y + i, t, (size_t)(n - i) * sizeof *t);
}

static void rms_norm(float *y, const float *x, const float *weight, int64_t n, float eps) {
    v16 sum = v16_set(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const v16 a = load_chunk(x, i, n);
        sum = v16_fma(a, a, sum);
    }
    const v16 s = v16_set(1.0f / sqrtf(v16_sum(sum) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, v16_mul(v16_mul(load_chunk(x, i, n), s), load_chunk(weight, i, n)));
}

static void add(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, v16_add(load_chunk(y, i, n), load_chunk(x, i, n)));
}

static void scale(float *y, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, v16_mul(load_chunk(y, i, n), v16_set(factor)));
}

V_INLINE v16 capped(v16 a, v16 cap) {
    return v16_mul(cap, v16_tanh(v16_div(a, cap)));
}

static void softcap(float *y, float cap, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, capped(load_chunk(y, i, n), v16_set(cap)));
}

/* x / (1 + e^-x) */
V_INLINE v16 silu(v16 x) {
    const v16 e = v16_exp(v16_sub(v16_set(0.0f), x));
    return v16_div(x, v16_add(v16_set(1.0f), e));
}

/* x (1 + tanh u) / 2 = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation where tanh is near -1 */
V_INLINE v16 gelu_tanh(v16 x) {
    const v16 cubic = v16_fma(v16_mul(v16_mul(x, x), v16_set(0.044715f)), x, x);
    const v16 e = v16_exp(v16_mul(cubic, v16_set(-0x1.988454p+0f))); /* -sqrt(8 / pi) */
    return v16_div(x, v16_add(v16_set(1.0f), e));
}

static void activate(float *gate, const float *up, int64_t n, act_kind act) {
    for (int64_t i = 0; i < n; i += 16) {
        const v16 g = load_chunk(gate, i, n);
        store_chunk(gate, i, n, v16_mul(act == ACT_SILU ? silu(g) : gelu_tanh(g), load_chunk(up, i, n)));
    }
}

static void exp_all(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, v16_exp(load_chunk(x, i, n)));
}

static void tanh_all(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store_chunk(y, i, n, v16_tanh(load_chunk(x, i, n)));
}

static void rope(float *x, const float *cos, const float *sin, int32_t n_rot, rope_kind kind) {
    const int32_t half = n_rot / 2;
    if (kind == ROPE_PAIRS) {
        for (int32_t i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = fmaf(a, cos[i], -(b * sin[i]));
            x[2 * i + 1] = fmaf(a, sin[i], b * cos[i]);
        }
        return;
    }
    for (int32_t i = 0; i < half; i += 16) {
        const v16 a = load_chunk(x, i, half), b = load_chunk(x + half, i, half);
        const v16 c = load_chunk(cos, i, half), s = load_chunk(sin, i, half);
        store_chunk(x, i, half, v16_fma(a, c, v16_sub(v16_set(-0.0f), v16_mul(b, s))));
        store_chunk(x + half, i, half, v16_fma(a, s, v16_mul(b, c)));
    }
}

/* ---------------------------------------------------------------- keys and values in */

/* Q8_0 of n <= 32 values: binary16 scale returned, q[32] filled. As matmul.h: d = max|x| / 127, q = round(x / d).
 * A block with a NaN or an infinity gets a NaN scale. */
static uint16_t quantise_block(int8_t q[KV_BLOCK], const float *x, int32_t n) {
    const v16 a = load_chunk(x, 0, n), b = n > 16 ? load_chunk(x, 16, n) : v16_set(0.0f), zero = v16_set(0.0f);
    const bool is_finite = v16_sum(v16_fma(a, zero, v16_mul(b, zero))) == 0.0f;
    const float d = is_finite ? v16_largest(v16_max(v16_abs(a), v16_abs(b))) / 127.0f : NAN;
    const bool is_scaled = d >= 0x1p-26f; /* smaller ones are 0 in binary16 */
    uint16_t halves[16];
    v16_store_half(halves, v16_set(d));
    v16_store_i8(q, is_scaled ? v16_round(v16_div(a, v16_set(d))) : zero);
    v16_store_i8(q + 16, is_scaled ? v16_round(v16_div(b, v16_set(d))) : zero);
    return halves[0];
}

static void put_f16(const kv_layout *kl, char *head, int32_t slot, const float *k, const float *v) {
    uint16_t *kt = (uint16_t *)(void *)head + (size_t)(slot / KV_LANES) * KV_LANES * (size_t)kl->d + slot % KV_LANES;
    uint16_t *vt = (uint16_t *)(void *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    for (int32_t i = 0; i < kl->d; i += 16) {
        uint16_t t[16];
        v16_store_half(t, load_chunk(k, i, kl->d));
        for (int32_t j = 0; j < 16 && i + j < kl->d; j++) kt[(i + j) * KV_LANES] = t[j];
        v16_store_half(vt + i, load_chunk(v, i, kl->d));
    }
}

static void put_f32(const kv_layout *kl, char *head, int32_t slot, const float *k, const float *v) {
    float *kt = (float *)(void *)head + (size_t)(slot / KV_LANES) * KV_LANES * (size_t)kl->d + slot % KV_LANES;
    float *vt = (float *)(void *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    for (int32_t i = 0; i < kl->d; i++) kt[i * KV_LANES] = k[i];
    for (int32_t i = 0; i < kl->d; i += 16) v16_store(vt + i, load_chunk(v, i, kl->d));
}

static void put_q8_0(const kv_layout *kl, char *head, int32_t slot, const float *k, const float *v) {
    const int32_t tile = slot / KV_LANES, lane = slot % KV_LANES;
    int8_t *kt = (int8_t *)head + (size_t)tile * KV_LANES * (size_t)kl->d + lane;
    int8_t *vt = (int8_t *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    uint16_t *ks = (uint16_t *)(void *)(head + kl->k_scales) + (size_t)tile * KV_LANES * (size_t)kl->n_blocks + lane;
    uint16_t *vs = (uint16_t *)(void *)(head + kl->v_scales) + (size_t)slot * (size_t)kl->n_blocks;
    for (int32_t b = 0; b < kl->n_blocks; b++) {
        const int32_t i = b * KV_BLOCK, n = kl->d - i < KV_BLOCK ? kl->d - i : KV_BLOCK;
        const int32_t n_pad = kl->d_pad - i < KV_BLOCK ? kl->d_pad - i : KV_BLOCK;
        int8_t q[KV_BLOCK];
        ks[b * KV_LANES] = quantise_block(q, k + i, n);
        for (int32_t j = 0; j < n; j++) kt[(i + j) * KV_LANES] = q[j];
        vs[b] = quantise_block(q, v + i, n);
        memcpy(vt + i, q, (size_t)n_pad);
    }
}

static void kv_put(const kv_layout *kl, void *head, int32_t slot, const float *k, const float *v) {
    static void (*const put[N_KV_TYPES])(const kv_layout *, char *, int32_t, const float *,
                                         const float *) = {[KV_F16] = put_f16, [KV_F32] = put_f32, [KV_Q8_0] = put_q8_0};
    put[kl->type](kl, head, slot, k, v);
}

#include "backend/cpu/attend_body.h"

const cpu_ops OPS_TABLE = {.isa = OPS_ISA,
                           .rms_norm = rms_norm,
                           .add = add,
                           .scale = scale,
                           .softcap = softcap,
                           .activate = activate,
                           .rope = rope,
                           .kv_put = kv_put,
                           .attend = attend,
                           .attend_merge = attend_merge,
                           .attend_finish = attend_finish,
                           .exp = exp_all,
                           .tanh = tanh_all};
