/* Any processor: four lanes, fused multiply-adds by fmaf. */
#include "tensor/half.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 4
#define V_WIDE  1
typedef float vf __attribute__((vector_size(16)));

static inline vf vf_fma(vf a, vf b, vf c) {
    for (int i = 0; i < V_LANES; i++) c[i] = fmaf(a[i], b[i], c[i]);
    return c;
}
static inline vf vf_max(vf a, vf b) {
    for (int i = 0; i < V_LANES; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
static inline float vf_largest(vf a) {
    const float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}
static inline vf vf_load_half(const uint16_t *p) {
    vf r;
    for (int i = 0; i < V_LANES; i++) r[i] = half_to_f32(p[i]);
    return r;
}
static inline void vf_store_half(uint16_t *p, vf a) {
    for (int i = 0; i < V_LANES; i++) p[i] = half_from_f32(a[i]);
}
static inline vf vf_load_i8(const int8_t *p) {
    vf r;
    for (int i = 0; i < V_LANES; i++) r[i] = (float)p[i];
    return r;
}
static inline void vf_store_i8(int8_t *p, vf a) {
    for (int i = 0; i < V_LANES; i++) p[i] = (int8_t)a[i];
}

#define OPS_TABLE cpu_ops_generic
#define OPS_ISA   "generic"
#include "backend/cpu/ops_body.h"
