/* Advanced SIMD of ARMv8: four lanes. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 4
#define V_WIDE  1
typedef float32x4_t vf;

static inline vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
static inline vf vf_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b); /* vmaxq would pass NaN on from either side */
}
static inline float vf_largest(vf a) {
    return vmaxvq_f32(a);
}
static inline vf vf_load_half(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline void vf_store_half(uint16_t *p, vf a) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
static inline vf vf_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int16x8_t w = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(w)));
}
static inline void vf_store_i8(int8_t *p, vf a) {
    const int16x4_t w = vqmovn_s32(vcvtnq_s32_f32(a));
    const int8x8_t b = vqmovn_s16(vcombine_s16(w, w));
    memcpy(p, &b, 4);
}

#define OPS_TABLE cpu_ops_neon
#define OPS_ISA   "neon"
#include "backend/cpu/ops_body.h"
