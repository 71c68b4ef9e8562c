/* AVX-512: sixteen lanes. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 16
#define V_WIDE  2
typedef __m512 vf;

static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline float vf_largest(vf a) {
    return _mm512_reduce_max_ps(a);
}
static inline vf vf_load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void vf_store_half(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline void vf_store_i8(int8_t *p, vf a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}

#define OPS_TABLE cpu_ops_avx512
#define OPS_ISA   "avx512"
#include "backend/cpu/ops_body.h"
