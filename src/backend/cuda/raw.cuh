/* Blocks as they stand in the file, one weight at a time: raw<T>::quant is what repacking keeps, raw<T>::value is the
 * reference's arithmetic, operation for operation (nothing is contracted into a fused multiply-add). */
#ifndef GALEN_BACKEND_CUDA_RAW_CUH
#define GALEN_BACKEND_CUDA_RAW_CUH

#include <cuda_fp16.h>

#include "tensor/blocks.h"
#include "tensor/tensor.h"

__device__ static inline float half_bits(uint16_t h) {
    return __half2float(__ushort_as_half(h));
}

__device__ static inline int iq4_value(int q) {
    constexpr int8_t values[16] = BLOCKS_IQ4_VALUES;
    /* four words, so that the table is immediates and not memory */
    constexpr auto word = [](int i) {
        return (uint32_t)(uint8_t)values[4 * i] | (uint32_t)(uint8_t)values[4 * i + 1] << 8 |
               (uint32_t)(uint8_t)values[4 * i + 2] << 16 | (uint32_t)(uint8_t)values[4 * i + 3] << 24;
    };
    constexpr uint32_t w0 = word(0), w1 = word(1), w2 = word(2), w3 = word(3);
    const uint32_t w = q & 8 ? (q & 4 ? w3 : w2) : (q & 4 ? w1 : w0);
    return (int8_t)(w >> (8 * (q & 3)));
}

__device__ static inline int small_nibble(const uint8_t *qs, int i) {
    return qs[i & 15] >> (i & 16 ? 4 : 0) & 15;
}
__device__ static inline int small_bit5(const uint8_t *qh, int i) {
    return (qh[i >> 3] >> (i & 7) & 1) << 4;
}
__device__ static inline float scaled(float d, int q) {
    return __fmul_rn(d, (float)q);
}
__device__ static inline float scaled_less(float d, int sc, int q, float dmin, int m) {
    return __fsub_rn(__fmul_rn(__fmul_rn(d, (float)sc), (float)q), __fmul_rn(dmin, (float)m));
}

/* quant(b, i): the unsigned (Q8_0: signed) integer of weight i of block b.  value(b, i): the weight. */
template <int T> struct raw;

template <> struct raw<TENSOR_F32> {
    typedef float block;
    static __device__ float value(const block *b, int) {
        const uint16_t *p = (const uint16_t *)b; /* a row may start at an odd multiple of two bytes */
        return __uint_as_float(p[0] | (uint32_t)p[1] << 16);
    }
};
template <> struct raw<TENSOR_F16> {
    typedef uint16_t block;
    static __device__ float value(const block *b, int) {
        return half_bits(*b);
    }
};
template <> struct raw<TENSOR_BF16> {
    typedef uint16_t block;
    static __device__ float value(const block *b, int) {
        return __uint_as_float((uint32_t)*b << 16);
    }
};
template <> struct raw<TENSOR_Q8_0> {
    typedef block_q8_0 block;
    static __device__ int quant(const block *b, int i) {
        return b->qs[i];
    }
    static __device__ float value(const block *b, int i) {
        return scaled(half_bits(b->d), b->qs[i]);
    }
};
template <> struct raw<TENSOR_Q4_0> {
    typedef block_q4_0 block;
    static __device__ int quant(const block *b, int i) {
        return small_nibble(b->qs, i);
    }
    static __device__ float value(const block *b, int i) {
        return scaled(half_bits(b->d), quant(b, i) - 8);
    }
};
template <> struct raw<TENSOR_Q4_1> {
    typedef block_q4_1 block;
    static __device__ int quant(const block *b, int i) {
        return small_nibble(b->qs, i);
    }
    static __device__ float value(const block *b, int i) {
        return __fadd_rn(scaled(half_bits(b->d), quant(b, i)), half_bits(b->m));
    }
};
template <> struct raw<TENSOR_Q5_0> {
    typedef block_q5_0 block;
    static __device__ int quant(const block *b, int i) {
        return small_nibble(b->qs, i) | small_bit5(b->qh, i);
    }
    static __device__ float value(const block *b, int i) {
        return scaled(half_bits(b->d), quant(b, i) - 16);
    }
};
template <> struct raw<TENSOR_Q5_1> {
    typedef block_q5_1 block;
    static __device__ int quant(const block *b, int i) {
        return small_nibble(b->qs, i) | small_bit5(b->qh, i);
    }
    static __device__ float value(const block *b, int i) {
        return __fadd_rn(scaled(half_bits(b->d), quant(b, i)), half_bits(b->m));
    }
};
template <> struct raw<TENSOR_IQ4_NL> {
    typedef block_iq4_nl block;
    static __device__ int quant(const block *b, int i) {
        return small_nibble(b->qs, i);
    }
    static __device__ float value(const block *b, int i) {
        return scaled(half_bits(b->d), iq4_value(quant(b, i)));
    }
};
template <> struct raw<TENSOR_Q2_K> {
    typedef block_q2_k block;
    static __device__ int quant(const block *b, int i) {
        return b->qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
    }
    static __device__ float value(const block *b, int i) {
        const int s = b->scales[i / 16];
        return scaled_less(half_bits(b->d), s & 15, quant(b, i), half_bits(b->dmin), s >> 4);
    }
};
template <> struct raw<TENSOR_Q3_K> {
    typedef block_q3_k block;
    static __device__ int quant(const block *b, int i) {
        return (b->qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3) | (b->hmask[i % 32] >> (i / 32) & 1) << 2;
    }
    static __device__ float value(const block *b, int i) {
        return scaled(__fmul_rn(half_bits(b->d), (float)blocks_q3_k_scale(b->scales, i / 16)), quant(b, i) - 4);
    }
};
template <> struct raw<TENSOR_Q4_K> {
    typedef block_q4_k block;
    static __device__ int quant(const block *b, int i) {
        return b->qs[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15;
    }
    static __device__ float value(const block *b, int i) {
        uint8_t sc, m;
        blocks_k4_scale(b->scales, i / 32, &sc, &m);
        return scaled_less(half_bits(b->d), sc, quant(b, i), half_bits(b->dmin), m);
    }
};
template <> struct raw<TENSOR_Q5_K> {
    typedef block_q5_k block;
    static __device__ int quant(const block *b, int i) {
        return (b->qs[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15) | (b->qh[i % 32] >> (i / 32) & 1) << 4;
    }
    static __device__ float value(const block *b, int i) {
        uint8_t sc, m;
        blocks_k4_scale(b->scales, i / 32, &sc, &m);
        return scaled_less(half_bits(b->d), sc, quant(b, i), half_bits(b->dmin), m);
    }
};
template <> struct raw<TENSOR_Q6_K> {
    typedef block_q6_k block;
    static __device__ int quant(const block *b, int i) {
        const int h = i / 128, k = i % 128 / 32, l = i % 32;
        return (b->ql[64 * h + 32 * (k % 2) + l] >> (k < 2 ? 0 : 4) & 15) | (b->qh[32 * h + l] >> (2 * k) & 3) << 4;
    }
    static __device__ float value(const block *b, int i) {
        return scaled(__fmul_rn(half_bits(b->d), (float)b->scales[i / 16]), quant(b, i) - 32);
    }
};
template <> struct raw<TENSOR_IQ4_XS> {
    typedef block_iq4_xs block;
    static __device__ int quant(const block *b, int i) {
        return b->qs[16 * (i / 32) + i % 16] >> (i % 32 < 16 ? 0 : 4) & 15;
    }
    static __device__ float value(const block *b, int i) {
        return scaled(__fmul_rn(half_bits(b->d), (float)blocks_iq4_xs_scale(b, i / 32)), iq4_value(quant(b, i)));
    }
};

#endif
