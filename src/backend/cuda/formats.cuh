/* The planes of every weight type (types.h): reading a unit, its integers, and its part of a product.
 *   format<T>::load    a unit into registers
 *   format<T>::words   the 32 integers, four to a word, as dp4a takes them
 *   format<T>::sums    the integer sums of the two halves with 32 activation levels
 *   format<T>::meet    from them, the unit times 32 activations
 *   format<T>::value   one weight, bit for bit the reference's */
#ifndef GALEN_BACKEND_CUDA_FORMATS_CUH
#define GALEN_BACKEND_CUDA_FORMATS_CUH

#include "backend/cuda/quantise.cuh"
#include "backend/cuda/raw.cuh"

/* Read once by one block: no place in the first-level cache. */
__device__ static inline uint4 stream16(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
__device__ static inline uint2 stream8(const void *p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
__device__ static inline uint32_t stream4(const void *p) {
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

struct format_bytes {
    int q, h, s, d; /* of a unit; d of eight units */
};
constexpr __host__ __device__ format_bytes format_bytes_of(int type) {
    switch (type) {
    case TENSOR_F32:
        return {32, 0, 0, 0};
    case TENSOR_F16:
    case TENSOR_BF16:
        return {16, 0, 0, 0};
    case TENSOR_Q8_0:
        return {32, 0, 2, 0};
    case TENSOR_Q4_0:
    case TENSOR_IQ4_NL:
        return {16, 0, 2, 0};
    case TENSOR_Q4_1:
        return {16, 0, 4, 0};
    case TENSOR_Q5_0:
        return {16, 4, 2, 0};
    case TENSOR_Q5_1:
        return {16, 4, 4, 0};
    case TENSOR_Q2_K:
        return {8, 0, 2, 4};
    case TENSOR_Q3_K:
        return {8, 4, 2, 2};
    case TENSOR_Q4_K:
        return {16, 0, 2, 4};
    case TENSOR_Q5_K:
        return {16, 4, 2, 4};
    case TENSOR_Q6_K:
        return {16, 8, 2, 2};
    case TENSOR_IQ4_XS:
        return {16, 0, 1, 2};
    default:
        return {0, 0, 0, 0};
    }
}
constexpr __host__ __device__ bool is_float_type(int type) {
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

/* A unit in registers; a type leaves the members it has no use for untouched, and the compiler drops them. */
struct unit_bits {
    uint4 q0, q1;
    uint32_t h0, h1, s, d;
};

/* Where a row's planes begin. */
struct row_planes {
    const uint8_t *q, *h, *s, *d;
    __device__ __forceinline__ row_planes() {}
    __device__ __forceinline__ row_planes(const dev_matrix &m, int64_t row)
        : q(m.q + row * m.q_row), h(m.h + row * m.h_row), s(m.s + row * m.s_row), d(m.d + row * m.d_row) {}
};

template <int T> struct format {
    static constexpr format_bytes bytes = format_bytes_of(T);
    static constexpr bool is_iq4 = T == TENSOR_IQ4_NL || T == TENSOR_IQ4_XS;
    static constexpr bool is_signed_k = T == TENSOR_Q3_K || T == TENSOR_Q6_K; /* d * scale * (q - offset), a scale for 16 */

    /* Unit u of the row that stands row_units units (rows times n_units) after the one of r. */
    static __device__ __forceinline__ unit_bits load(const row_planes &r, uint32_t row_units, uint32_t u, uint32_t n_units) {
        unit_bits b = {};
        const uint32_t at = row_units + u;
        if constexpr (T == TENSOR_Q8_0) {
            const uint8_t *q = r.q + (32u * row_units + 16u * (u + (u & ~31u)));
            b.q0 = stream16(q);
            b.q1 = stream16(q + 16u * min(32u, n_units - (u & ~31u)));
        } else if constexpr (bytes.q == 32) {
            b.q0 = stream16(r.q + 32u * at);
            b.q1 = stream16(r.q + 32u * at + 16u);
        } else if constexpr (bytes.q == 16) {
            b.q0 = stream16(r.q + 16u * at);
        } else {
            const uint2 v = stream8(r.q + 8u * at);
            b.q0.x = v.x, b.q0.y = v.y;
        }
        if constexpr (bytes.h == 4) b.h0 = stream4(r.h + 4u * at);
        if constexpr (bytes.h == 8) {
            const uint2 v = stream8(r.h + 8u * at);
            b.h0 = v.x, b.h1 = v.y;
        }
        if constexpr (bytes.s == 1) b.s = __ldg(r.s + at);
        if constexpr (bytes.s == 2) b.s = __ldg((const uint16_t *)r.s + at);
        if constexpr (bytes.s == 4) b.s = __ldg((const uint32_t *)r.s + at);
        if constexpr (bytes.d == 2) b.d = __ldg((const uint16_t *)r.d + at / UNITS_SUPER); /* rows are whole blocks of eight */
        if constexpr (bytes.d == 4) b.d = __ldg((const uint32_t *)r.d + at / UNITS_SUPER);
        return b;
    }

    static __device__ __forceinline__ uint32_t q_word(const unit_bits &b, int i) {
        return i == 0 ? b.q0.x : i == 1 ? b.q0.y : i == 2 ? b.q0.z : b.q0.w;
    }

    /* Four table values for the four low nibbles of v. */
    static __device__ __forceinline__ int iq4_word(uint32_t v) {
        constexpr int8_t t[16] = BLOCKS_IQ4_VALUES;
        constexpr uint32_t w[4] = {(uint32_t)(uint8_t)t[0] | (uint32_t)(uint8_t)t[1] << 8 | (uint32_t)(uint8_t)t[2] << 16 |
                                       (uint32_t)(uint8_t)t[3] << 24,
                                   (uint32_t)(uint8_t)t[4] | (uint32_t)(uint8_t)t[5] << 8 | (uint32_t)(uint8_t)t[6] << 16 |
                                       (uint32_t)(uint8_t)t[7] << 24,
                                   (uint32_t)(uint8_t)t[8] | (uint32_t)(uint8_t)t[9] << 8 | (uint32_t)(uint8_t)t[10] << 16 |
                                       (uint32_t)(uint8_t)t[11] << 24,
                                   (uint32_t)(uint8_t)t[12] | (uint32_t)(uint8_t)t[13] << 8 | (uint32_t)(uint8_t)t[14] << 16 |
                                       (uint32_t)(uint8_t)t[15] << 24};
        /* byte_perm takes its four selectors from nibbles 0..3: gather the nibbles of the four bytes there */
        const uint32_t sel = (v & 0x0f) | (v >> 4 & 0xf0) | (v >> 8 & 0xf00) | (v >> 12 & 0xf000);
        const uint32_t low = __byte_perm(w[0], w[1], sel & 0x7777), high = __byte_perm(w[2], w[3], sel & 0x7777);
        /* bit 3 of each selector, spread over its byte */
        const uint32_t mask = (v >> 3 & 0x01010101u) * 255u;
        return (int)((low & ~mask) | (high & mask));
    }

    /* Bits above the low ones of word k, in their place. */
    static __device__ __forceinline__ uint32_t high_bits(const unit_bits &b, int k) {
        if constexpr (bytes.h == 8) {
            const uint32_t h = k < 4 ? b.h0 : b.h1;
            const int up = 4 - 2 * (k % 4);
            return (up >= 0 ? h << (up & 31) : h >> (-up & 31)) & 0x30303030u;
        } else if constexpr (bytes.h == 4) {
            constexpr int to = T == TENSOR_Q3_K ? 2 : 4;
            const int up = to - k;
            return (up >= 0 ? b.h0 << (up & 31) : b.h0 >> (-up & 31)) & (0x01010101u << to);
        } else {
            return 0;
        }
    }

    /* Word k of the integers: k a constant once the caller's loop is unrolled. */
    static __device__ __forceinline__ int word(const unit_bits &b, int k) {
        if constexpr (T == TENSOR_Q8_0) {
            const uint4 &q = k < 4 ? b.q0 : b.q1;
            return (int)(k % 4 == 0 ? q.x : k % 4 == 1 ? q.y : k % 4 == 2 ? q.z : q.w);
        } else {
            const uint32_t low = bytes.q == 8 ? (k < 4 ? b.q0.x : b.q0.y) >> (2 * (k % 4)) & 0x03030303u
                                              : q_word(b, k % 4) >> (k < 4 ? 0 : 4) & 0x0f0f0f0fu;
            const uint32_t v = low | high_bits(b, k);
            return is_iq4 ? iq4_word(v) : (int)v;
        }
    }

    static __device__ __forceinline__ void words(const unit_bits &b, int (&w)[8]) {
#pragma unroll
        for (int k = 0; k < 8; k++) w[k] = word(b, k);
    }

    /* x: levels 0..31, two to a word. Plain nibbles stay where they are: the high ones count for 16 times their value. */
    static constexpr bool has_plain_nibbles = T == TENSOR_Q4_0 || T == TENSOR_Q4_1 || T == TENSOR_Q4_K;
    static constexpr float sum_unit = has_plain_nibbles ? 1.0f / 16 : 1.0f; /* what the sums count in */
    template <int FROM>
    static __device__ __forceinline__ void sums(const unit_bits &b, const int4 &x0, const int4 &x1, int &sum) {
        const int x[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
#pragma unroll
        for (int j = 0; j < 4; j++) { /* words FROM .. FROM + 3 */
            if constexpr (has_plain_nibbles && FROM == 4) {
                const uint32_t v = q_word(b, j) & 0xf0f0f0f0u;
                asm("dp2a.lo.s32.u32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x[2 * j]), "r"(v));
                asm("dp2a.hi.s32.u32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x[2 * j + 1]), "r"(v));
            } else {
                const int v = word(b, FROM + j);
                asm("dp2a.lo.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x[2 * j]), "r"(v));
                asm("dp2a.hi.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x[2 * j + 1]), "r"(v));
            }
        }
    }

    static __device__ __forceinline__ float d_of(const unit_bits &b) {
        return half_bits((uint16_t)(bytes.d ? b.d : b.s));
    }
    static __device__ __forceinline__ float min_of(const unit_bits &b) {
        return half_bits((uint16_t)((bytes.d ? b.d : b.s) >> 16));
    }
    static __device__ __forceinline__ int s_lo(const unit_bits &b) {
        return (int8_t)b.s;
    }
    static __device__ __forceinline__ int s_hi(const unit_bits &b) {
        return (int8_t)(b.s >> 8);
    }

    static __device__ __forceinline__ float meet(const unit_bits &b, int lo, int hi, const float4 &a /* an act_rec */) {
        const float d = d_of(b);
        if constexpr (is_signed_k) {
            constexpr float offset = T == TENSOR_Q3_K ? 4 : 32;
            return d * fmaf((float)s_lo(b), fmaf(-offset, a.y, a.x * (float)lo),
                            (float)s_hi(b) * fmaf(-offset, a.z, a.x * (float)hi));
        }
        if constexpr (T == TENSOR_Q2_K)
            return fmaf(d * a.x, (float)((int)(b.s & 15) * lo + (int)(b.s >> 8 & 15) * hi),
                        -min_of(b) * fmaf((float)(b.s >> 4 & 15), a.y, (float)(b.s >> 12 & 15) * a.z));
        const float all = (float)(has_plain_nibbles ? 16 * lo + hi : lo + hi) * (sum_unit * a.x);
        if constexpr (T == TENSOR_Q4_0) return d * fmaf(-8.0f, a.w, all);
        if constexpr (T == TENSOR_Q5_0) return d * fmaf(-16.0f, a.w, all);
        if constexpr (T == TENSOR_Q4_1 || T == TENSOR_Q5_1) return fmaf(d, all, min_of(b) * a.w);
        if constexpr (T == TENSOR_Q4_K || T == TENSOR_Q5_K)
            return fmaf(d * (float)(b.s & 255), all, -min_of(b) * (float)(b.s >> 8) * a.w);
        if constexpr (T == TENSOR_IQ4_XS) return d * (float)s_lo(b) * all;
        return d * all; /* Q8_0, IQ4_NL */
    }

    /* Weight i (0..31) of the unit whose integer is q. */
    static __device__ __forceinline__ float value(const unit_bits &b, int i, int q) {
        if constexpr (T == TENSOR_Q4_0) return scaled(d_of(b), q - 8);
        if constexpr (T == TENSOR_Q5_0) return scaled(d_of(b), q - 16);
        if constexpr (T == TENSOR_Q4_1 || T == TENSOR_Q5_1) return __fadd_rn(scaled(d_of(b), q), min_of(b));
        if constexpr (T == TENSOR_Q4_K || T == TENSOR_Q5_K)
            return scaled_less(d_of(b), (int)(b.s & 255), q, min_of(b), (int)(b.s >> 8));
        if constexpr (T == TENSOR_Q2_K) {
            const int s = (int)(b.s >> (i < 16 ? 0 : 8)) & 255;
            return scaled_less(d_of(b), s & 15, q, min_of(b), s >> 4);
        }
        if constexpr (is_signed_k)
            return scaled(__fmul_rn(d_of(b), (float)(i < 16 ? s_lo(b) : s_hi(b))), q - (T == TENSOR_Q3_K ? 4 : 32));
        if constexpr (T == TENSOR_IQ4_XS) return scaled(__fmul_rn(d_of(b), (float)s_lo(b)), q);
        return scaled(d_of(b), q);
    }

    /* The eight values of a float type's unit. */
    static __device__ __forceinline__ void floats(const unit_bits &b, float (&f)[8]) {
        const uint32_t w[8] = {b.q0.x, b.q0.y, b.q0.z, b.q0.w, b.q1.x, b.q1.y, b.q1.z, b.q1.w};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if constexpr (T == TENSOR_F32) f[i] = __uint_as_float(w[i]);
            if constexpr (T == TENSOR_F16) f[i] = half_bits((uint16_t)(w[i / 2] >> (16 * (i % 2))));
            if constexpr (T == TENSOR_BF16) f[i] = __uint_as_float(i % 2 ? w[i / 2] & 0xffff0000u : w[i / 2] << 16);
        }
    }
};

/* Run body with T a compile-time constant for every weight type, or for the quantised ones. */
#define FORMATS_QUANT(X)                                                                                                         \
    X(TENSOR_Q8_0)                                                                                                               \
    X(TENSOR_Q4_0)                                                                                                               \
    X(TENSOR_Q4_1)                                                                                                               \
    X(TENSOR_Q5_0) X(TENSOR_Q5_1) X(TENSOR_IQ4_NL) X(TENSOR_Q2_K) X(TENSOR_Q3_K) X(TENSOR_Q4_K) X(TENSOR_Q5_K) X(TENSOR_Q6_K)    \
        X(TENSOR_IQ4_XS)
#define FORMATS_FLOAT(X) X(TENSOR_F32) X(TENSOR_F16) X(TENSOR_BF16)

#endif
