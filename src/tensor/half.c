/* binary16 and bfloat16 conversions without hardware support.
 * binary16: sign 1 | exponent 5, bias 15 | fraction 10.  binary32: sign 1 | exponent 8, bias 127 | fraction 23. */
#include "tensor/half.h"

#include <string.h>

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float half_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = h >> 10 & 31u;
    const uint32_t fraction = h & 0x3ffu;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in binary32 */
        return float_of(sign | bits_of((float)fraction * 0x1p-24f));
    }
    if (exponent == 31) {
        const uint32_t quiet = fraction ? 0x400000u : 0u;
        return float_of(sign | 0x7f800000u | quiet | fraction << 13);
    }
    return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
}

uint16_t half_from_f32(float f) {
    const uint32_t u = bits_of(f);
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
    const uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (magnitude < 0x38800000u) {
        /* Below 2^-14: adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded to even by the addition itself. */
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
    }
    const uint32_t is_odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + is_odd) >> 13));
}

uint16_t bf16_from_f32(float f) {
    const uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u); /* quiet, or the payload could vanish */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
