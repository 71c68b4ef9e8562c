/* binary16 and bfloat16, bit-exact in plain C. */
#ifndef GALEN_TENSOR_HALF_H
#define GALEN_TENSOR_HALF_H

#include <stdint.h>

enum { HALF_NAN = 0x7e00 }; /* a quiet NaN in binary16 */

float half_to_f32(uint16_t h);   /* exact; NaN payloads kept quiet */
uint16_t half_from_f32(float f); /* round to nearest even; overflow to infinity */

static inline float bf16_to_f32(uint16_t b) {
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)b << 16};
    return v.f;
}
uint16_t bf16_from_f32(float f); /* round to nearest even; NaN stays NaN */

#endif
