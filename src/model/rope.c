/* RoPE frequencies with the scaling a file asks for, all reduced to one inverse frequency per pair and a magnitude.
 *
 *   base        f_i = base^(-2i / n_rot)
 *   linear      f_i / factor
 *   factors     f_i / factors[i]: Llama 3.1 (rope_freqs.weight), longrope (rope_factors_short / _long.weight)
 *   YaRN        (1 - r_i) f_i / factor + r_i f_i, r_i falling from 1 to 0 between the pairs that turn beta_fast and beta_slow
 *               times in the original context; magnitude 1 + 0.1 ln(factor)   (arXiv 2309.00071, section 3.4) */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/hparams.h"

typedef struct rope_scaling {
    double base;
    float factor; /* 1 = none                              */
    bool is_yarn;
    float attn_factor; /* multiplies the magnitude              */
    float beta_fast, beta_slow, ext_factor;
    int32_t n_ctx_orig;
} rope_scaling;

/* The pair that turns n times over the original context, as a real number. */
static double yarn_pair(const rope_scaling *s, int32_t n_rot, double turns) {
    return n_rot * log(s->n_ctx_orig / (turns * 2.0 * M_PI)) / (2.0 * log(s->base));
}

static galen_status rope_table_make(rope_table *out, const rope_scaling *s, int32_t n_rot, const float *factors, arena *mem,
                                    galen_error *err) {
    const int32_t n = n_rot / 2;
    double *f = arena_alloc(mem, (size_t)n, sizeof *f);
    if (!f) return galen_fail(err, GALEN_E_NOMEM, 0, "RoPE table of %d pairs", n);
    const double low = fmax(0.0, floor(yarn_pair(s, n_rot, s->beta_fast)));
    const double high = fmin(n_rot - 1.0, ceil(yarn_pair(s, n_rot, s->beta_slow)));
    for (int32_t i = 0; i < n; i++) {
        const double plain = pow(s->base, -2.0 * i / n_rot) / (factors ? (double)factors[i] : 1.0);
        const double scaled = plain / (double)s->factor;
        const double ramp = fmin(1.0, fmax(0.0, (i - low) / fmax(0.001, high - low)));
        const double mix = s->is_yarn ? (1.0 - ramp) * (double)s->ext_factor : 0.0;
        f[i] = scaled * (1.0 - mix) + plain * mix;
        if (!isfinite(f[i]) || f[i] == 0.0) return galen_fail(err, GALEN_E_FORMAT, 0, "RoPE frequency %d is %g", i, f[i]);
    }
    out->inv_freq = f;
    out->magnitude = (double)s->attn_factor * (s->is_yarn && s->factor > 1 ? 1.0 + 0.1 * log((double)s->factor) : 1.0);
    return GALEN_OK;
}

/* An optional F32 vector of n_rot / 2 divisors, copied so that its alignment is ours; *out NULL when absent. */
static galen_status read_factors(const gguf *g, const char *name, int32_t n_rot, arena *mem, const float **out,
                                 galen_error *err) {
    const gguf_tensor *t = gguf_find_tensor(g, name);
    *out = NULL;
    if (!t) return GALEN_OK;
    const uint64_t n = (uint64_t)n_rot / 2;
    if (t->type != TENSOR_F32 || t->n_dims != 1 || t->ne[0] != n)
        return galen_fail(err, GALEN_E_FORMAT, t->info_offset, "%s: %s of %llu values, expected F32 of %llu", name,
                          tensor_type_get(t->type)->name, (unsigned long long)t->ne[0], (unsigned long long)n);
    float *f = arena_alloc(mem, (size_t)n, sizeof *f);
    if (!f) return galen_fail(err, GALEN_E_NOMEM, 0, "%s", name);
    memcpy(f, t->data, (size_t)n * sizeof *f);
    *out = f;
    return GALEN_OK;
}

static galen_status read_float(const gguf *g, const arch *a, const char *name, float above, float *out, galen_error *err) {
    char key[HPARAMS_KEY_BYTES];
    const galen_status st = gguf_get_f32(g, hparams_key(key, a, name), GGUF_OPTIONAL, out, err);
    if (st) return st;
    if (!(isfinite(*out) && *out > above))
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: %g, expected a finite number above %g", key, (double)*out, (double)above);
    return GALEN_OK;
}

static galen_status read_scaling(rope_scaling *s, const network *net, const arch *a, const gguf *g, galen_error *err) {
    galen_status st;
    char key[HPARAMS_KEY_BYTES];
    float base = 10000.0f;
    gguf_str type = {"linear", 6}; /* a factor without a type is linear: files from before the type key */
    uint32_t n_ctx_orig = (uint32_t)net->n_ctx_train;
    *s = (rope_scaling){.factor = 1, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1, .ext_factor = 1};
    if ((st = read_float(g, a, "rope.freq_base", 1.0f, &base, err))) return st;
    s->base = (double)base;
    if ((st = read_float(g, a, "rope.scale_linear", 0.0f, &s->factor, err))) return st;
    if ((st = gguf_get_str(g, hparams_key(key, a, "rope.scaling.type"), GGUF_OPTIONAL, &type, err))) return st;
    if ((st = read_float(g, a, "rope.scaling.factor", 0.0f, &s->factor, err))) return st;
    if ((st = read_float(g, a, "rope.scaling.attn_factor", 0.0f, &s->attn_factor, err))) return st;
    if ((st = read_float(g, a, "rope.scaling.yarn_ext_factor", -1.0f, &s->ext_factor, err))) return st;
    if ((st = read_float(g, a, "rope.scaling.yarn_beta_fast", 0.0f, &s->beta_fast, err))) return st;
    if ((st = read_float(g, a, "rope.scaling.yarn_beta_slow", 0.0f, &s->beta_slow, err))) return st;
    hparams_key(key, a, "rope.scaling.original_context_length");
    if ((st = gguf_get_u32(g, key, GGUF_OPTIONAL, &n_ctx_orig, err))) return st;
    if (n_ctx_orig < 1 || n_ctx_orig > INT32_MAX)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: %u, expected 1 to %d", key, n_ctx_orig, INT32_MAX);
    s->n_ctx_orig = (int32_t)n_ctx_orig;
    if (gguf_str_eq(type, "none") || gguf_str_eq(type, "longrope") || gguf_str_eq(type, "llama3"))
        s->factor = 1; /* their scaling is in the factor tensors */
    else if (gguf_str_eq(type, "yarn"))
        s->is_yarn = s->factor > 1;
    else if (!gguf_str_eq(type, "linear"))
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s.rope.scaling.type: \"%.*s\"; known: none, linear, yarn, longrope",
                          a->name, (int)(type.n > 40 ? 40 : type.n), type.p);
    return GALEN_OK;
}

galen_status rope_read(network *net, const arch *a, const gguf *g, arena *mem, galen_error *err) {
    galen_status st;
    rope_scaling s;
    const float *common, *parts[2];
    if ((st = read_scaling(&s, net, a, g, err))) return st;
    if ((st = read_factors(g, "rope_freqs.weight", net->n_rot, mem, &common, err))) return st;
    if ((st = read_factors(g, "rope_factors_short.weight", net->n_rot, mem, &parts[0], err))) return st;
    if ((st = read_factors(g, "rope_factors_long.weight", net->n_rot, mem, &parts[1], err))) return st;
    net->n_ctx_orig = s.n_ctx_orig;
    for (int i = 0; i < 2; i++)
        if ((st = rope_table_make(&net->ropes[0][i], &s, net->n_rot, common ? common : parts[i], mem, err))) return st;
    if (a->rope_base_local > 0) {
        rope_scaling local = {.base = (double)a->rope_base_local,
                              .factor = 1,
                              .attn_factor = 1,
                              .beta_fast = 32,
                              .beta_slow = 1,
                              .n_ctx_orig = s.n_ctx_orig};
        float base = a->rope_base_local;
        if ((st = read_float(g, a, "rope.freq_base_swa", 1.0f, &base, err))) return st;
        local.base = (double)base;
        if ((st = rope_table_make(&net->ropes[1][0], &local, net->n_rot, NULL, mem, err))) return st;
        net->ropes[1][1] = net->ropes[1][0];
    }
    return GALEN_OK;
}
