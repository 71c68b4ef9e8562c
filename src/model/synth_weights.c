/* Random blocks. A row's bytes are a SplitMix64 stream whose key is Philox of (seed, tensor, row), so any row can be made
 * alone; about 5 GB/s on one core, faster than most disks. All integers of a block (levels, scales of sub-blocks, minima) are
 * those random bits as they fall, so every pattern is met; only the half floats are then set, to scale * f with f in
 * [0.5, 1.5), so that the weights have mean 0 and variance 1 / n_in and a forward pass neither fades nor overflows. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "model/synth.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

/* SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixing function. */
static void fill_bits(uint64_t key, uint8_t *out, size_t n) {
    uint64_t counter = key;
    for (size_t at = 0; at < n; at += 8) {
        counter += 0x9E3779B97F4A7C15ull;
        uint64_t z = counter;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        z ^= z >> 31;
        memcpy(out + at, &z, n - at < 8 ? n - at : 8);
    }
}

/* The bits that fell on a half float choose its size, and its sign where a type's levels do not balance about 0. */
static float factor(uint16_t bits) {
    return 0.5f + (float)(bits & 255) / 256.0f;
}
static float signed_factor(uint16_t bits) {
    return bits & 0x8000 ? -factor(bits) : factor(bits);
}

/* How the half floats of a block are set. */
typedef enum scaling {
    SCALING_FLOAT,  /* the weight itself                                                       */
    SCALING_SIGNED, /* d of either sign                                                        */
    SCALING_POSITIVE,
    SCALING_MIN, /* d, and m right after it = -d * centre                                    */
    SCALING_DMIN /* d, and dmin right after it = d * centre, so that minima cancel the mean  */
} scaling;

/* centre: for SCALING_MIN the mean level; for SCALING_DMIN mean scale times mean level over mean minimum, so the mean level.
 * power: mean square of a weight under evenly distributed bits, over d^2 (for floats, over scale^2). A level or scale even
 * over a range has the mean square of its integers: 5461.5 for int8, 341.5 for six signed bits, 1333.5 for six unsigned, 77.5
 * for four. With a minimum, E[(s q - c m)^2] = E[s^2] E[q^2] + c^2 E[m^2] - 2 c E[s] E[q] E[m]. */
static const struct {
    scaling scaling;
    size_t d_offset;
    float centre;
    double power;
} rules[TENSOR_TYPE_END] = {
    [TENSOR_F32] = {SCALING_FLOAT, 0, 0, 1.0 / 3.0},
    [TENSOR_F16] = {SCALING_FLOAT, 0, 0, 1.0 / 3.0},
    [TENSOR_BF16] = {SCALING_FLOAT, 0, 0, 1.0 / 3.0},
    [TENSOR_Q8_0] = {SCALING_POSITIVE, offsetof(block_q8_0, d), 0, 5460.5},
    [TENSOR_Q4_0] = {SCALING_SIGNED, offsetof(block_q4_0, d), 0, 21.5},
    [TENSOR_Q4_1] = {SCALING_MIN, offsetof(block_q4_1, d), 7.5f, 21.25},
    [TENSOR_Q5_0] = {SCALING_SIGNED, offsetof(block_q5_0, d), 0, 85.5},
    [TENSOR_Q5_1] = {SCALING_MIN, offsetof(block_q5_1, d), 15.5f, 85.25},
    [TENSOR_Q2_K] = {SCALING_DMIN, offsetof(block_q2_k, d), 1.5f, 192.5},
    [TENSOR_Q3_K] = {SCALING_SIGNED, offsetof(block_q3_k, d), 0, 341.5 * 5.5},
    [TENSOR_Q4_K] = {SCALING_DMIN, offsetof(block_q4_k, d), 7.5f, 66727.5},
    [TENSOR_Q5_K] = {SCALING_DMIN, offsetof(block_q5_k, d), 15.5f, 277651.5},
    [TENSOR_Q6_K] = {SCALING_SIGNED, offsetof(block_q6_k, d), 0, 5461.5 * 341.5},
    [TENSOR_IQ4_NL] = {SCALING_SIGNED, offsetof(block_iq4_nl, d), 0, 4548.0},
    [TENSOR_IQ4_XS] = {SCALING_SIGNED, offsetof(block_iq4_xs, d), 0, 4548.0 * 341.5},
};

/* Mean square of the factor. */
static const double factor_power = 1.0794;

/* Random bits to plain floats, even over [-scale, scale). */
static void set_floats(tensor_type type, float scale, uint8_t *row, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (type == TENSOR_F32) {
            int32_t bits;
            memcpy(&bits, row + 4 * i, sizeof bits);
            const float w = (float)bits * (scale * 0x1p-31f);
            memcpy(row + 4 * i, &w, sizeof w);
            continue;
        }
        int16_t bits;
        memcpy(&bits, row + 2 * i, sizeof bits);
        const float w = (float)bits * (scale * 0x1p-15f);
        const uint16_t stored = type == TENSOR_F16 ? half_from_f32(w) : bf16_from_f32(w);
        memcpy(row + 2 * i, &stored, sizeof stored);
    }
}

/* ggml's Q8_0 levels end at -127, and some kernels count on it. */
static void avoid_lowest(uint8_t *row, int64_t n_blocks) {
    for (int64_t b = 0; b < n_blocks; b++) {
        int8_t *qs = ((block_q8_0 *)(void *)(row + (size_t)b * sizeof(block_q8_0)))->qs;
        for (int i = 0; i < BLOCKS_SMALL; i++) qs[i] = qs[i] == -128 ? -127 : qs[i];
    }
}

static void set_scales(tensor_type type, float scale, uint8_t *row, int64_t n_blocks) {
    const size_t step = (size_t)tensor_type_get(type)->block_bytes;
    const float centre = rules[type].centre;
    for (int64_t b = 0; b < n_blocks; b++) {
        uint8_t *at = row + (size_t)b * step + rules[type].d_offset;
        uint16_t d, other;
        memcpy(&d, at, sizeof d);
        const bool is_signed = rules[type].scaling == SCALING_SIGNED;
        d = half_from_f32(scale * (is_signed ? signed_factor(d) : factor(d)));
        memcpy(at, &d, sizeof d);
        if (rules[type].scaling != SCALING_MIN && rules[type].scaling != SCALING_DMIN) continue;
        other = half_from_f32(half_to_f32(d) * (rules[type].scaling == SCALING_MIN ? -centre : centre));
        memcpy(at + sizeof d, &other, sizeof other);
    }
}

static void fill_row(tensor_type type, uint64_t key, float scale, uint8_t *row, int64_t n_in) {
    const int64_t n_blocks = n_in / tensor_type_get(type)->block_weights;
    fill_bits(key, row, tensor_row_bytes(type, n_in));
    if (rules[type].scaling == SCALING_FLOAT) {
        set_floats(type, scale, row, n_in);
        return;
    }
    if (type == TENSOR_Q8_0) avoid_lowest(row, n_blocks);
    set_scales(type, scale, row, n_blocks);
}

/* How Llama 3.1 stretches rotation i: full speed above one turn in 2048 tokens, 1 / factor below one in 8192, between them a
 * blend. Source: convert_hf_to_gguf.py (rope_scaling type llama3: low_freq_factor 1, high_freq_factor 4, 8192 tokens). */
static float rope_divisor(const synth_shape *shape, int64_t i) {
    const double frequency = pow(500000.0, -2.0 * (double)i / (double)shape->d_head);
    const double wavelength = 6.283185307179586 / frequency, factor = (double)shape->rope_factor;
    if (wavelength < 8192.0 / 4.0) return 1.0f;
    if (wavelength > 8192.0) return shape->rope_factor;
    const double smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
    return (float)(1.0 / ((1.0 - smooth) / factor + smooth));
}

static uint64_t row_key(uint64_t seed, size_t index, int64_t row) {
    const rng_block b = rng_at(seed, index, (uint64_t)row);
    return (uint64_t)b.v[1] << 32 | b.v[0];
}

void synth_rows(const synth_shape *shape, const synth_tensor *t, uint64_t seed, size_t index, int64_t first, int64_t n,
                void *out) {
    uint8_t *row = out;
    float *vector = out;
    if (t->kind == SYNTH_MATRIX) {
        const double spread = rules[t->type].power * (rules[t->type].scaling == SCALING_FLOAT ? 1.0 : factor_power);
        const float scale = (float)(1.0 / sqrt((double)t->n_in * spread));
        const size_t row_bytes = tensor_row_bytes(t->type, t->n_in);
        for (int64_t r = first; r < first + n; r++, row += row_bytes) {
            fill_row(t->type, row_key(seed, index, r), scale, row, t->n_in);
        }
        return;
    }
    fill_bits(row_key(seed, index, 0), out, (size_t)t->n_in * sizeof *vector);
    if (t->kind == SYNTH_NORM) set_floats(TENSOR_F32, 0.125f, out, t->n_in); /* gains from 0.875 to 1.125 */
    for (int64_t i = 0; i < t->n_in; i++) vector[i] = t->kind == SYNTH_NORM ? 1.0f + vector[i] : rope_divisor(shape, i);
}
