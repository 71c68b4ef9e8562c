/* The block formats of every weight type, as they stand in a GGUF file: little-endian, packed, 2-byte aligned.
 * Included by the scalar reference, the CPU kernels and the CUDA kernels, so: plain structs, no library types.
 * Source of all: ggml src/ggml-common.h (block_*), read together with gguf-py gguf/quants.py 0.19.0, which
 * tests/tensor_py/check_dequantise.py compares with. Half floats are binary16; "weight i" counts within the block. */
#ifndef GALEN_TENSOR_BLOCKS_H
#define GALEN_TENSOR_BLOCKS_H

#include <stdint.h>

#ifdef __cplusplus
#define BLOCKS_SIZE(type, n) static_assert(sizeof(type) == (n), #type " on disk")
#else
#define BLOCKS_SIZE(type, n) _Static_assert(sizeof(type) == (n), #type " on disk")
#endif
#ifdef __CUDACC__
#define BLOCKS_FN static __host__ __device__ inline
#else
#define BLOCKS_FN static inline
#endif

enum { BLOCKS_SMALL = 32, BLOCKS_SUPER = 256 }; /* weights in a block of the 32 family, of the K family */

/* ---------------------------------------------------------------- 32 weights, one scale */

/* Q8_0: w[i] = d * qs[i].
 *   offset size  field
 *        0    2  d    binary16
 *        2   32  qs   int8[32] in weight order */
typedef struct block_q8_0 {
    uint16_t d;
    int8_t qs[32];
} block_q8_0;
BLOCKS_SIZE(block_q8_0, 34);

/* Q4_0: w[i] = d * (q[i] - 8).
 *   offset size  field
 *        0    2  d    binary16
 *        2   16  qs   byte j: low nibble q[j], high nibble q[j + 16] */
typedef struct block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
} block_q4_0;
BLOCKS_SIZE(block_q4_0, 18);

/* Q4_1: w[i] = d * q[i] + m.
 *   offset size  field
 *        0    2  d    binary16
 *        2    2  m    binary16, the least weight
 *        4   16  qs   as Q4_0 */
typedef struct block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
} block_q4_1;
BLOCKS_SIZE(block_q4_1, 20);

/* Q5_0: w[i] = d * (q[i] - 16), q[i] = nibble i | bit i of qh << 4.
 *   offset size  field
 *        0    2  d    binary16
 *        2    4  qh   32 bits, little-endian: bit i is the fifth bit of q[i]
 *        6   16  qs   as Q4_0 */
typedef struct block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
} block_q5_0;
BLOCKS_SIZE(block_q5_0, 22);

/* Q5_1: w[i] = d * q[i] + m.
 *   offset size  field
 *        0    2  d    binary16
 *        2    2  m    binary16
 *        4    4  qh   as Q5_0
 *        8   16  qs   as Q4_0 */
typedef struct block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
} block_q5_1;
BLOCKS_SIZE(block_q5_1, 24);

/* IQ4_NL: w[i] = d * value[q[i]], 16 uneven steps (BLOCKS_IQ4_VALUES).
 *   offset size  field
 *        0    2  d    binary16
 *        2   16  qs   as Q4_0 */
typedef struct block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
} block_iq4_nl;
BLOCKS_SIZE(block_iq4_nl, 18);

/* ---------------------------------------------------------------- 256 weights, scales of scales */

/* Q2_K: sub-block s = i / 16: w[i] = d * (scales[s] & 15) * q[i] - dmin * (scales[s] >> 4).
 *   offset size  field
 *        0   16  scales  low nibble scale, high nibble minimum
 *       16   64  qs      weight i: byte 32 * (i / 128) + i % 32, bits 2 * (i % 128 / 32) and the next
 *       80    2  d       binary16
 *       82    2  dmin    binary16 */
typedef struct block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
} block_q2_k;
BLOCKS_SIZE(block_q2_k, 84);

/* Q3_K: sub-block s = i / 16: w[i] = d * (scale[s] - 32) * (q[i] - (high bit clear ? 4 : 0)).
 *   offset size  field
 *        0   32  hmask   weight i: byte i % 32, bit i / 32
 *       32   64  qs      low two bits, as Q2_K
 *       96   12  scales  6 bits each; scale s has its low nibble in byte s % 8, bits 4 * (s / 8),
 *                        and its two high bits in byte 8 + s % 4, bits 2 * (s / 4)
 *      108    2  d       binary16 */
typedef struct block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
} block_q3_k;
BLOCKS_SIZE(block_q3_k, 110);

/* Q4_K: sub-block s = i / 32: w[i] = d * sc[s] * q[i] - dmin * m[s].
 *   offset size  field
 *        0    2  d       binary16
 *        2    2  dmin    binary16
 *        4   12  scales  6 bits each of sc[8] and m[8]; blocks_k4_scale draws them
 *       16  128  qs      weight i: byte 32 * (i / 64) + i % 32, low nibble when i % 64 < 32 */
typedef struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
} block_q4_k;
BLOCKS_SIZE(block_q4_k, 144);

/* Q5_K: as Q4_K with a fifth bit.
 *   offset size  field
 *        0    2  d       binary16
 *        2    2  dmin    binary16
 *        4   12  scales  as Q4_K
 *       16   32  qh      weight i: byte i % 32, bit i / 32
 *       48  128  qs      as Q4_K */
typedef struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} block_q5_k;
BLOCKS_SIZE(block_q5_k, 176);

/* Q6_K: sub-block s = i / 16: w[i] = d * scales[s] * (q[i] - 32).
 * With half h = i / 128, lane l = i % 32, quarter k = i % 128 / 32:
 *   offset size  field
 *        0  128  ql      byte 64 * h + 32 * (k % 2) + l, low nibble for k < 2, high for k >= 2
 *      128   64  qh      byte 32 * h + l, bits 2 * k and the next
 *      192   16  scales  int8
 *      208    2  d       binary16 */
typedef struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} block_q6_k;
BLOCKS_SIZE(block_q6_k, 210);

/* IQ4_XS: sub-block s = i / 32: w[i] = d * (scale[s] - 32) * value[q[i]].
 *   offset size  field
 *        0    2  d         binary16
 *        2    2  scales_h  bits 2 * s and the next are the high bits of scale[s]
 *        4    4  scales_l  byte s / 2, low nibble when s is even
 *        8  128  qs        byte 16 * s + j: low nibble weight 32 * s + j, high nibble weight 32 * s + j + 16 */
typedef struct block_iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
} block_iq4_xs;
BLOCKS_SIZE(block_iq4_xs, 136);

/* The steps of IQ4: denser near zero, where weights are. Source: ggml-common.h kvalues_iq4nl. */
#define BLOCKS_IQ4_VALUES                                                                                                        \
    { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 }
#ifndef __CUDACC__
extern const int8_t blocks_iq4_values[16]; /* device code makes its own copy from the macro */
#endif

/* Scale and minimum of sub-block s (0..7) of Q4_K and Q5_K.
 *   byte   bits 7..4      bits 3..0        bits 7..6 of bytes 0..7 hold what 6 bits do not leave room for
 *   0..3   sc[s+4] high 2 | sc[s] 6 bits   s = 0..3
 *   4..7   m[s+4] high 2  | m[s] 6 bits    s = 0..3
 *   8..11  m[s] low 4     | sc[s] low 4    s = 4..7 */
BLOCKS_FN void blocks_k4_scale(const uint8_t *scales, int s, uint8_t *sc, uint8_t *m) {
    if (s < 4) {
        *sc = (uint8_t)(scales[s] & 63);
        *m = (uint8_t)(scales[s + 4] & 63);
    } else {
        *sc = (uint8_t)((scales[s + 4] & 15) | (scales[s - 4] >> 6 << 4));
        *m = (uint8_t)((scales[s + 4] >> 4) | (scales[s] >> 6 << 4));
    }
}

/* Scale of sub-block s (0..15) of Q3_K, the offset of 32 taken off: -32..31. */
BLOCKS_FN int blocks_q3_k_scale(const uint8_t *scales, int s) {
    const int low = scales[s % 8] >> (4 * (s / 8)) & 15;
    const int high = scales[8 + s % 4] >> (2 * (s / 4)) & 3;
    return (low | high << 4) - 32;
}

/* Scale of sub-block s (0..7) of IQ4_XS, the offset of 32 taken off: -32..31. */
BLOCKS_FN int blocks_iq4_xs_scale(const block_iq4_xs *b, int s) {
    const int low = b->scales_l[s / 2] >> (4 * (s % 2)) & 15;
    const int high = b->scales_h >> (2 * s) & 3;
    return (low | high << 4) - 32;
}

#endif
