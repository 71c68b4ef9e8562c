/* What the driver of the products (matmul.c) and the instruction sets agree on. Private to src/backend/cpu/matmul*. */
#ifndef GALEN_BACKEND_CPU_MATMUL_OPS_H
#define GALEN_BACKEND_CPU_MATMUL_OPS_H

#include "backend/cpu/matmul.h"

enum {
    MM_ROWS = 8,    /* weight rows a row kernel takes at once: they end up in the lanes of one vector   */
    MM_CHUNK = 512, /* weights of a row that a packed panel holds: panel and activations stay in L1 / L2 */
    MM_CHUNK_BLOCKS = MM_CHUNK / 32,
    MM_BATCH = 512, /* activation rows that meet one packing of the weights */
};

/* 32 activations with all that any weight type needs of them: x = d * q, q = 128 * coarse + fine, two planes of signed bytes
 * that every instruction set can multiply with weight bytes. lo and hi are the halves of 16.
 *   offset size  field
 *        0   32  coarse  in [-127, 127]
 *       32   32  fine    in [-64, 63]
 *       64    4  d
 *       68   12  fsum    d * (float)sum(q): lo, hi, all; meets the minimum of a weight block
 *       80   12  zero    -sum(q): lo, hi, all; times z makes sum((u + z) * q) a sum(u * q), exactly
 *       92    4  unused */
typedef struct mm_act {
    int8_t coarse[32], fine[32];
    float d;
    float fsum[3];
    int32_t zero[3];
    int32_t unused;
} mm_act;
_Static_assert(sizeof(mm_act) == 96, "a multiple of 32 bytes");

/* The same for tiles that multiply 16-bit numbers. Weights stand in their panel less their zero point, so no zero is needed. */
typedef struct mm_whole {
    int16_t q[32]; /* of each four: 0, 2, 1, 3 */
    float d;
    float fsum[3];
} mm_whole;
_Static_assert(sizeof(mm_whole) == 80 && sizeof(mm_whole) <= sizeof(mm_act), "either fits where matmul_input_bytes made room");

enum {
    MM_FINE_BITS = 7,
    MM_Q_MAX = 127 << MM_FINE_BITS,
};

enum { MM_LO, MM_HI, MM_ALL };

/* Records stand in groups of ops->group rows: within a group, block after block, a block's rows side by side. */
typedef struct mm_acts {
    const mm_act *first; /* block 0 */
    int64_t stride;      /* records from a block to the next */
} mm_acts;

/* Some weight rows against one activation row: sum[r] = W[r] . x, r < n. */
typedef struct mm_rows_args {
    const uint8_t *w; /* n rows of row_bytes */
    size_t row_bytes;
    int32_t n; /* 1..MM_ROWS */
    int64_t n_in;
    mm_acts act;       /* of quantised weights */
    const float *x;    /* of float weights      */
    const char *ahead; /* what this thread will read next: asked of the memory while these rows are worked on */
} mm_rows_args;
typedef void (*mm_rows_fn)(const mm_rows_args *a, float *sum);

/* Unpack n_blocks blocks of 32 of n <= ops->panel weight rows, from block first on, into a panel; missing rows are zero. */
typedef struct mm_pack_args {
    const uint8_t *w; /* start of the first row */
    size_t row_bytes;
    int32_t n;
    int64_t first;    /* a multiple of 8 */
    int32_t n_blocks; /* 1..MM_CHUNK_BLOCKS */
    void *panel;
    ptrdiff_t ahead; /* bytes from here to what this thread packs next: asked of the memory meanwhile */
} mm_pack_args;
typedef void (*mm_pack_fn)(const mm_pack_args *a);

/* A panel against n_rows activation rows of one group: sum[r * stride + o] continued, o < ops->panel. */
typedef struct mm_tile_args {
    const void *panel;
    int32_t n_blocks;
    const void *act; /* the group, at the panel's first block: mm_whole, or mm_act where there is no quantise_whole */
    int32_t n_rows;  /* 1..ops->group, the rows the group has */
    float *sum;
    int64_t stride;
} mm_tile_args;
typedef void (*mm_tile_fn)(const mm_tile_args *a);

/* Float weights against several rows of x: sum[r * stride + o] = W[o] . x[r]. Any n_w, n_rows. */
typedef struct mm_float_args {
    const uint8_t *w;
    size_t row_bytes;
    int32_t n_w, n_rows;
    int64_t n_in;
    const float *x;
    int64_t x_stride;
    float *sum;
    int64_t stride;
    float *parts; /* scratch: 16 * 6 floats for every weight row, 64-aligned */
} mm_float_args;
typedef void (*mm_float_fn)(const mm_float_args *a);

struct matmul_ops {
    const char *isa;
    int32_t group; /* activation rows in a tile                                   */
    int32_t panel; /* weight rows in a panel, a multiple of MM_ROWS; 0 = no tiles */
    int32_t few;   /* batches of up to so many rows go through the row kernels    */
    void (*quantise)(const float *x, int64_t n_blocks, mm_act *out, int64_t stride);
    void (*quantise_whole)(const float *x, int64_t n_blocks, mm_whole *out, int64_t stride); /* for tiles; NULL = mm_act too */
    mm_rows_fn rows[TENSOR_TYPE_END];                                                        /* every supported type */
    mm_pack_fn pack[TENSOR_TYPE_END]; /* with tile: every quantised type, or none */
    mm_tile_fn tile[TENSOR_TYPE_END];
    mm_float_fn floats[TENSOR_TYPE_END]; /* of float types; NULL = the row kernel */
};

extern const matmul_ops matmul_generic;
#if defined(__x86_64__)
extern const matmul_ops matmul_avx2, matmul_avxvnni, matmul_avx512;
#elif defined(__aarch64__)
extern const matmul_ops matmul_neon;
#endif

#endif
