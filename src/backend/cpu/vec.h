/* Sixteen f32 lanes for any instruction set: v16 is one, two or four native vectors.
 *
 * An instruction set's file defines, before it includes this one, V_LANES (f32 lanes of its vector), the vector type vf,
 * and the few things that compilers do not offer alike: vf_fma, vf_max (a > b ? a : b), vf_largest (of the lanes), the
 * conversions vf_load_half, vf_store_half (round to even), vf_load_i8, vf_store_i8 (of values already rounded, in [-127, 127]).
 * All else is written once, here. Every function gives the same bits everywhere, NaN payloads apart. */
#ifndef GALEN_BACKEND_CPU_VEC_H
#define GALEN_BACKEND_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define V_INLINE static inline __attribute__((always_inline, unused))
#define V_PART(n, ...)                                                                                                           \
    {                                                                                                                            \
        enum { part = (n) };                                                                                                     \
        __VA_ARGS__;                                                                                                             \
    }
#if V_LANES == 16
#define V_EACH(...) V_PART(0, __VA_ARGS__)
#elif V_LANES == 8
#define V_EACH(...) V_PART(0, __VA_ARGS__) V_PART(1, __VA_ARGS__)
#else
#define V_EACH(...) V_PART(0, __VA_ARGS__) V_PART(1, __VA_ARGS__) V_PART(2, __VA_ARGS__) V_PART(3, __VA_ARGS__)
#endif

typedef int32_t vi __attribute__((vector_size(V_LANES * 4)));
typedef struct v16 {
    vf v[16 / V_LANES];
} v16;

V_INLINE v16 v16_load(const float *p) {
    v16 r;
    V_EACH(memcpy(&r.v[part], p + part * V_LANES, sizeof(vf))) /* whole, gcc 12 would copy it in pieces of 16 bytes */
    return r;
}
V_INLINE void v16_store(float *p, v16 a){V_EACH(memcpy(p + part * V_LANES, &a.v[part], sizeof(vf)))} V_INLINE v16
    v16_set(float x) {
    v16 r;
    V_EACH(r.v[part] = x - (vf){0}) /* spreads x: x - 0 is x, -0 included */
    return r;
}
V_INLINE v16 v16_add(v16 a, v16 b) {
    V_EACH(a.v[part] = a.v[part] + b.v[part])
    return a;
}
V_INLINE v16 v16_sub(v16 a, v16 b) {
    V_EACH(a.v[part] = a.v[part] - b.v[part])
    return a;
}
V_INLINE v16 v16_mul(v16 a, v16 b) {
    V_EACH(a.v[part] = a.v[part] * b.v[part])
    return a;
}
V_INLINE v16 v16_div(v16 a, v16 b) {
    V_EACH(a.v[part] = a.v[part] / b.v[part])
    return a;
}
/* a * b + c, rounded once */
V_INLINE v16 v16_fma(v16 a, v16 b, v16 c) {
    V_EACH(c.v[part] = vf_fma(a.v[part], b.v[part], c.v[part]))
    return c;
}
/* a > b ? a : b, so b when either is NaN */
V_INLINE v16 v16_max(v16 a, v16 b) {
    V_EACH(a.v[part] = vf_max(a.v[part], b.v[part]))
    return a;
}
V_INLINE v16 v16_min(v16 a, v16 b) {
    V_EACH(a.v[part] = -vf_max(-a.v[part], -b.v[part]))
    return a;
}
V_INLINE v16 v16_abs(v16 a) {
    V_EACH(a.v[part] = (vf)((vi)a.v[part] & 0x7fffffff))
    return a;
}
/* the magnitude of a with the sign of b */
V_INLINE v16 v16_copysign(v16 a, v16 b) {
    V_EACH(a.v[part] = (vf)(((vi)a.v[part] & 0x7fffffff) | ((vi)b.v[part] & INT32_MIN)))
    return a;
}
/* x < y ? a : b */
V_INLINE v16 v16_if_less(v16 x, v16 y, v16 a, v16 b) {
    V_EACH(const vi m = (vi)(x.v[part] < y.v[part]); a.v[part] = (vf)(((vi)a.v[part] & m) | ((vi)b.v[part] & ~m)))
    return a;
}
/* lanes [begin, end) of a, fill elsewhere */
V_INLINE v16 v16_keep(v16 a, int begin, int end, float fill) {
    float t[16];
    v16_store(t, a);
    for (int i = 0; i < 16; i++)
        if (i < begin || i >= end) t[i] = fill;
    return v16_load(t);
}
V_INLINE float v16_sum(v16 a) {
    float t[16];
    v16_store(t, a);
    for (int n = 8; n >= 1; n /= 2)
        for (int i = 0; i < n; i++) t[i] = t[i] + t[i + n];
    return t[0];
}
/* the largest lane; anything when one is NaN */
V_INLINE float v16_largest(v16 a) {
#if V_LANES == 8
    a.v[0] = vf_max(a.v[0], a.v[1]);
#elif V_LANES == 4
    a.v[0] = vf_max(vf_max(a.v[0], a.v[1]), vf_max(a.v[2], a.v[3]));
#endif
    return vf_largest(a.v[0]);
}
/* |a| <= 2^22: to the nearest integer, ties to even */
V_INLINE v16 v16_round(v16 a) {
    const v16 big = v16_set(0x1.8p23f);
    return v16_sub(v16_add(a, big), big);
}
V_INLINE v16 v16_load_half(const uint16_t *p) {
    v16 r;
    V_EACH(r.v[part] = vf_load_half(p + part * V_LANES))
    return r;
}
V_INLINE void v16_store_half(uint16_t *p, v16 a){V_EACH(vf_store_half(p + part * V_LANES, a.v[part]))} V_INLINE v16
    v16_load_i8(const int8_t *p) {
    v16 r;
    V_EACH(r.v[part] = vf_load_i8(p + part * V_LANES))
    return r;
}
V_INLINE void v16_store_i8(int8_t *p, v16 a){V_EACH(vf_store_i8(p + part * V_LANES, a.v[part]))}

/* 2^(n-k) for each lane, where the low bits of t = n + 1.5 * 2^23 carry n. */
V_INLINE v16 v16_power(v16 t, int k) {
    V_EACH(t.v[part] = (vf)(((vi)t.v[part] << 23) + ((127 - k) << 23)))
    return t;
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; returns e^r = 1 + r + r^2 P(r), P minimax of degree 4 (relative error 3e-9 before rounding),
 * and *t = n + 1.5 * 2^23. NaN stays NaN. */
V_INLINE v16 v16_exp_reduced(v16 x, v16 *t) {
    const v16 magic = v16_set(0x1.8p23f);
    *t = v16_fma(x, v16_set(0x1.715476p+0f), magic);
    const v16 n = v16_sub(*t, magic);
    v16 r = v16_fma(n, v16_set(-0x1.62e43p-1f), x);
    r = v16_fma(n, v16_set(0x1.05c61p-29f), r);
    v16 p = v16_set(0x1.6a21a8p-10f);
    p = v16_fma(p, r, v16_set(0x1.123b6ap-7f));
    p = v16_fma(p, r, v16_set(0x1.5558fcp-5f));
    p = v16_fma(p, r, v16_set(0x1.55549p-3f));
    p = v16_fma(p, r, v16_set(0x1.fffffcp-2f));
    return v16_add(v16_fma(v16_mul(p, r), r, r), v16_set(1.0f));
}

/* e^x within 2 ulp; results below e^-86 are 0, above the largest float infinite; NaN stays NaN.
 * 2^(n-1) is built and doubled, so that n = 128 does not overflow early. */
V_INLINE v16 v16_exp(v16 x) {
    const v16 low = v16_set(-86.0f);
    v16 t;
    const v16 y = v16_max(low, v16_min(v16_set(89.0f), x)); /* NaN passes both: they return their second operand */
    const v16 p = v16_exp_reduced(y, &t);
    return v16_if_less(x, low, v16_set(0.0f), v16_mul(v16_mul(p, v16_power(t, 1)), v16_set(2.0f)));
}

/* e^x of x <= 0 for softmax: as v16_exp, but what lies below -86 yields e^-86 = 4.5e-38. */
V_INLINE v16 v16_exp_down(v16 x) {
    v16 t;
    const v16 p = v16_exp_reduced(v16_max(v16_set(-86.0f), x), &t);
    return v16_mul(p, v16_power(t, 0));
}

/* tanh x within 3 ulp. |x| < 0.55: x + x^3 P(x^2), P minimax; else 1 - 2 / (e^2|x| + 1), which loses nothing there. */
V_INLINE v16 v16_tanh(v16 x) {
    const v16 a = v16_abs(x), z = v16_mul(x, x), one = v16_set(1.0f), two = v16_set(2.0f);
    v16 p = v16_set(-0x1.825868p-8f);
    p = v16_fma(p, z, v16_set(0x1.54b8a4p-6f));
    p = v16_fma(p, z, v16_set(-0x1.b898dep-5f));
    p = v16_fma(p, z, v16_set(0x1.1109aep-3f));
    p = v16_fma(p, z, v16_set(-0x1.55553ep-2f));
    const v16 small = v16_fma(v16_mul(p, z), x, x);
    const v16 big = v16_sub(one, v16_div(two, v16_add(v16_exp(v16_mul(two, a)), one)));
    return v16_copysign(v16_if_less(a, v16_set(0.55f), small, big), x);
}

#endif
