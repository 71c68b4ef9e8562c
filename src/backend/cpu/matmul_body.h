/* The products on one instruction set. Included once by each matmul_<isa>.c, which has defined:
 *   MM_ISA, MM_NAME     "avx2" and matmul_avx2
 *   MM_LANES, MM_COLS   weight rows in a vector; vectors in a panel's width
 *   MM_GROUP, MM_FEW    activation rows in a tile; batches up to MM_FEW are streamed, not packed
 *   mm_vi, mm_vf        int32 and float vectors of MM_LANES
 *   mm_dot32            partial sums of 32 products: lanes 0-3 of the first sixteen, lanes 4-7 of the others
 *   mm_fold             those of eight rows to eight lanes, both halves of 16
 *   mm_transpose        8 rows x 8 words
 *   mm_panel_byte       weights as the panel wants them
 *   MM_WIDE             defined where tiles multiply 16-bit numbers; then mm_panel_byte takes the zero point off,
 *   mm_widen            makes 4 weights of 8 rows two pairs, and mm_store_whole puts activations in the same order
 *   mm_block_dot        the integer products of a tile with one scale block
 * and small ones, named where they are used. mm_traits arguments are constants, so every branch on them folds. */
#include "backend/cpu/matmul_ops.h"

enum { PANEL = MM_LANES * MM_COLS };

#ifdef MM_WIDE
enum { WEIGHT_BYTES = 2 };
typedef mm_whole mm_met; /* what a tile meets */
#else
enum { WEIGHT_BYTES = 1 };
typedef mm_act mm_met;
#endif

/* A panel is blocks of 32 weights of PANEL rows, one after the other:
 *   uint8  [8][PANEL][4]   weight 4 * i + j of row r at (i, r, j); with MM_WIDE
 *   int16  [16][PANEL][2]  a pair of mm_whole's order
 *   float  [scales][PANEL]
 *   float  [scales][PANEL] minima, where the type has them */
enum { PANEL_SCALES_AT = PANEL * 32 * WEIGHT_BYTES };

MM_INLINE size_t mm_panel_block_bytes(const mm_traits t) {
    return PANEL_SCALES_AT + PANEL * 4 * (size_t)t.scales * (t.has_min ? 2 : 1);
}

typedef u8x32 (*mm_get_fn)(const uint8_t *p, int b);
typedef void (*mm_scales_fn)(const uint8_t *const p[8], f32x8 *dw, f32x8 *mw);

/* ---------------------------------------------------------------- few rows: stream */

/* y += one scale block: sum of u * q, and the minimum's share. half: MM_LO, MM_HI or MM_ALL of the activations. */
MM_INLINE f32x8 mm_add_block(const mm_traits t, f32x8 y, i32x8 sum, const mm_act *a, int half, f32x8 dw, f32x8 mw) {
    const int zero = mm_stream_zero(t); /* 0, or what mm_dot32's bytes are above the weights */
    if (zero) sum += a->zero[half] * zero;
    y = mm_fma8(__builtin_convertvector(sum, f32x8), dw * a->d, y);
    return t.has_min ? mm_fma8(-mw, (f32x8){} + a->fsum[half], y) : y;
}

/* 32 weights of each of eight rows. */
MM_INLINE f32x8 mm_stream_block(const mm_traits t, mm_get_fn get, const uint8_t *const p[8], int b, const mm_act *a,
                                const f32x8 *dw, const f32x8 *mw, f32x8 y) {
    const u8x32 coarse = mm_load32(a->coarse), fine = mm_load32(a->fine);
    i32x8 part[8], lo, hi;
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) {
        const u8x32 w = get(p[r], b);
        part[r] = (mm_dot32(t, w, coarse) << MM_FINE_BITS) + mm_dot32(t, w, fine);
    }
    mm_fold(part, &lo, &hi);
    if (t.scales == 1) return mm_add_block(t, y, lo + hi, a, MM_ALL, dw[b], mw[b]);
    y = mm_add_block(t, y, lo, a, MM_LO, dw[2 * b], mw[2 * b]);
    return mm_add_block(t, y, hi, a, MM_HI, dw[2 * b + 1], mw[2 * b + 1]);
}

MM_INLINE void mm_rows(const mm_traits t, mm_get_fn get, mm_scales_fn scales, const mm_rows_args *args, float *sum) {
    const int64_t n = args->n_in / (32 * t.blocks);
    const mm_act *a = args->act.first;
    const char *ahead = args->ahead;
    const uint8_t *p[8];
    f32x8 y = {0};
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) p[r] = args->w + (size_t)(r < args->n ? r : args->n - 1) * args->row_bytes;
    for (int64_t i = 0; i < n; i++) {
        f32x8 dw[16], mw[16];
        scales(p, dw, mw);
#pragma GCC unroll 32
        for (int at = 0; at < 8 * t.bytes; at += 64) __builtin_prefetch(ahead + at, 0, 2);
        ahead += 8 * t.bytes;
#pragma GCC unroll 8
        for (int b = 0; b < t.blocks; b++, a += args->act.stride) y = mm_stream_block(t, get, p, b, a, dw, mw, y);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) p[r] += t.bytes;
    }
    memcpy(sum, &y, sizeof y);
}

/* ---------------------------------------------------------------- many rows: pack, then tiles */

/* 32 weights of each of eight rows. */
MM_INLINE void mm_pack_block(const mm_traits t, mm_get_fn get, const uint8_t *const p[8], int b, uint8_t *out) {
    u32x8 w[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) w[r] = (u32x8)mm_panel_byte(t, get(p[r], b));
    mm_transpose(w);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
#ifdef MM_WIDE
        mm_vi two[2];
        mm_widen(t, w[k], two);
        memcpy(out + 8 * PANEL * k, &two[0], sizeof two[0]);
        memcpy(out + 8 * PANEL * k + 4 * PANEL, &two[1], sizeof two[1]);
#else
        memcpy(out + 4 * PANEL * k, &w[k], sizeof w[k]);
#endif
    }
}

MM_INLINE void mm_pack(const mm_traits t, mm_get_fn get, mm_scales_fn scales, const mm_pack_args *args) {
    const size_t stride = mm_panel_block_bytes(t);
    for (int first = 0; first < PANEL; first += 8) {
        uint8_t *out = (uint8_t *)args->panel + 4 * first; /* words and floats are both 4 bytes a row */
        const uint8_t *p[8];
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) { /* missing rows repeat the last: what comes of them is never read */
            const int row = first + r < args->n ? first + r : args->n - 1;
            p[r] = args->w + (size_t)row * args->row_bytes + (size_t)(args->first / t.blocks) * (size_t)t.bytes;
        }
        for (int i = 0; i < args->n_blocks; i += t.blocks) {
            f32x8 dw[16], mw[16];
            scales(p, dw, mw);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++)
#pragma GCC unroll 4
                for (int at = 0; at < t.bytes; at += 64) __builtin_prefetch(p[r] + args->ahead + at, 0, 2);
#pragma GCC unroll 8
            for (int b = 0; b < t.blocks; b++, out += stride) {
                mm_pack_block(t, get, p, b, out);
                for (int s = 0; s < t.scales; s++) {
                    memcpy(out + PANEL_SCALES_AT + PANEL * 4 * s, &dw[t.scales * b + s], sizeof dw[0]);
                    if (t.has_min)
                        memcpy(out + PANEL_SCALES_AT + PANEL * 4 * (t.scales + s), &mw[t.scales * b + s], sizeof mw[0]);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) p[r] += t.bytes;
        }
    }
}

/* n_rows is a constant. */
MM_INLINE void mm_tile_rows(const mm_traits t, const mm_tile_args *args, const int n_rows) {
    const size_t stride = mm_panel_block_bytes(t);
    const uint8_t *w = args->panel;
    const mm_met *a = args->act;
    mm_vf y[MM_GROUP][MM_COLS];
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < MM_COLS; c++) y[r][c] = mm_vf_load(args->sum + r * args->stride + MM_LANES * c);
    for (int i = 0; i < args->n_blocks; i++, w += stride, a += n_rows) {
#pragma GCC unroll 2
        for (int s = 0; s < t.scales; s++) {
            const int half = t.scales == 1 ? MM_ALL : s;
            const float *dw = (const float *)(w + PANEL_SCALES_AT) + PANEL * s, *mw = dw + PANEL * t.scales;
            mm_vi dot[MM_GROUP][MM_COLS];
            mm_block_dot(t, dot, w, a, half, n_rows);
#pragma GCC unroll 8
            for (int r = 0; r < n_rows; r++) {
                const mm_vf d = mm_vf_set1(&a[r].d);
#pragma GCC unroll 4
                for (int c = 0; c < MM_COLS; c++) {
                    y[r][c] = mm_vf_fma(mm_vf_from(dot[r][c]), mm_vf_mul(mm_vf_load(dw + MM_LANES * c), d), y[r][c]);
                    if (t.has_min) y[r][c] = mm_vf_fnma(mm_vf_load(mw + MM_LANES * c), mm_vf_set1(&a[r].fsum[half]), y[r][c]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < MM_COLS; c++) mm_vf_store(args->sum + r * args->stride + MM_LANES * c, y[r][c]);
}

MM_INLINE void mm_tile(const mm_traits t, const mm_tile_args *args) {
    switch (args->n_rows) {
    case 1:
        mm_tile_rows(t, args, 1);
        break;
    case 2:
        mm_tile_rows(t, args, 2);
        break;
    case 3:
        mm_tile_rows(t, args, 3);
        break;
#if MM_GROUP > 4
    case 4:
        mm_tile_rows(t, args, 4);
        break;
    case 5:
        mm_tile_rows(t, args, 5);
        break;
#endif
    default:
        mm_tile_rows(t, args, MM_GROUP);
        break;
    }
}

/* ---------------------------------------------------------------- activations */

MM_INLINE i32x8 mm_max8(i32x8 a, i32x8 b) {
    const i32x8 is_more = a > b;
    return (a & is_more) | (b & ~is_more);
}

MM_INLINE int32_t mm_largest(i32x8 v) {
    v = mm_max8(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
    v = mm_max8(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
    v = mm_max8(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6));
    return v[0];
}

MM_INLINE int32_t mm_sum8(i32x8 v) {
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    return v[0] + v[1];
}

/* 32 activations as integers; sum: lo, hi, all. Returns d. */
MM_INLINE float mm_round32(const float *x, i32x8 q[4], int32_t sum[3]) {
    f32x8 v[4];
    i32x8 max = {0};
    memcpy(v, x, sizeof v);
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) /* as integers magnitudes order as floats do, with infinity and NaN on top */
        max = mm_max8((i32x8)v[i] & 0x7fffffff, max);
    const int32_t top = mm_largest(max);
    float d;
    memcpy(&d, &top, sizeof d);
    d = top >= 0x7f800000 ? __builtin_nanf("") : d / (float)MM_Q_MAX;
    const bool is_zero = !(d > 0);
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++)
        q[i] = is_zero ? (i32x8){0} : -mm_max8(-mm_max8(mm_round8(v[i] / d), (i32x8){} - MM_Q_MAX), (i32x8){} - MM_Q_MAX);
    sum[MM_LO] = mm_sum8(q[0] + q[1]);
    sum[MM_HI] = mm_sum8(q[2] + q[3]);
    sum[MM_ALL] = sum[MM_LO] + sum[MM_HI];
    return d;
}

static void mm_quantise(const float *x, int64_t n_blocks, mm_act *out, int64_t stride) {
    for (int64_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        i32x8 q[4], high[4], low[4];
        int32_t sum[3];
        out->d = mm_round32(x, q, sum);
#pragma GCC unroll 8
        for (int i = 0; i < 4; i++) {
            high[i] = (q[i] + (1 << (MM_FINE_BITS - 1))) >> MM_FINE_BITS;
            low[i] = q[i] - (high[i] << MM_FINE_BITS);
        }
        const u8x32 coarse = mm_narrow(high), fine = mm_narrow(low);
        memcpy(out->coarse, &coarse, sizeof coarse);
        memcpy(out->fine, &fine, sizeof fine);
#pragma GCC unroll 8
        for (int i = 0; i < 3; i++) {
            out->fsum[i] = out->d * (float)sum[i];
            out->zero[i] = -sum[i];
        }
        out->unused = 0;
    }
}

#ifdef MM_WIDE
static void mm_quantise_whole(const float *x, int64_t n_blocks, mm_whole *out, int64_t stride) {
    for (int64_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        i32x8 q[4];
        int32_t sum[3];
        out->d = mm_round32(x, q, sum);
        mm_store_whole(out, q);
#pragma GCC unroll 8
        for (int i = 0; i < 3; i++) out->fsum[i] = out->d * (float)sum[i];
    }
}
#endif

/* ---------------------------------------------------------------- float weights */

enum { FLOAT_W = MM_FLOAT_W, FLOAT_CHUNK = 1024 /* weights: with its rows of x it stays in L1 */ };

typedef mm_v16 (*mm_floats_fn)(const uint8_t *row, int64_t i);

/* Sixteen weights of which n exist, and as many of x: what is missing is -0 * +0, which changes no sum, not even -0. */
MM_INLINE mm_v16 mm_weights_part(mm_floats_fn get, int size, const uint8_t *row, int64_t i, int n) {
    uint8_t padded[64] = {0};
    memcpy(padded, row + (size_t)i * (size_t)size, (size_t)n * (size_t)size);
    for (int j = n; j < 16; j++) padded[j * size + size - 1] = 0x80; /* little-endian: the sign */
    return get(padded, 0);
}

MM_INLINE mm_v16 mm_x_part(const float *x, int n) {
    float padded[16] = {0};
    memcpy(padded, x, (size_t)n * sizeof *x);
    return mm_v16_load(padded);
}

/* Continue the sixteen partial sums of FLOAT_W x n_x products over weights [first, end). n_x is a constant. */
MM_INLINE void mm_float_tile(mm_floats_fn get, int size, const uint8_t *const w[FLOAT_W], const float *x, int64_t x_stride,
                             const int n_x, int64_t first, int64_t end, float *part) {
    mm_v16 y[MM_FLOAT_X][FLOAT_W];
#pragma GCC unroll 8
    for (int r = 0; r < n_x; r++)
#pragma GCC unroll 4
        for (int o = 0; o < FLOAT_W; o++) y[r][o] = mm_v16_load(part + 16 * (r * FLOAT_W + o));
    int64_t i = first;
    for (; i + 16 <= end; i += 16) {
        mm_v16 v[FLOAT_W];
#pragma GCC unroll 4
        for (int o = 0; o < FLOAT_W; o++) v[o] = get(w[o], i);
#pragma GCC unroll 8
        for (int r = 0; r < n_x; r++) {
            const mm_v16 xv = mm_v16_load(x + r * x_stride + i);
#pragma GCC unroll 4
            for (int o = 0; o < FLOAT_W; o++) y[r][o] = mm_v16_fma(v[o], xv, y[r][o]);
        }
    }
    if (i < end)
        for (int r = 0; r < n_x; r++)
            for (int o = 0; o < FLOAT_W; o++)
                y[r][o] = mm_v16_fma(mm_weights_part(get, size, w[o], i, (int)(end - i)),
                                     mm_x_part(x + r * x_stride + i, (int)(end - i)), y[r][o]);
#pragma GCC unroll 8
    for (int r = 0; r < n_x; r++)
#pragma GCC unroll 4
        for (int o = 0; o < FLOAT_W; o++) mm_v16_store(part + 16 * (r * FLOAT_W + o), y[r][o]);
}

MM_INLINE float mm_fold16(float *part) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

MM_INLINE void mm_float_rows(mm_floats_fn get, int size, const mm_rows_args *args, float *sum) {
    for (int o = 0; o < args->n; o += FLOAT_W) {
        _Alignas(64) float part[16 * FLOAT_W] = {0};
        const uint8_t *w[FLOAT_W];
        for (int i = 0; i < FLOAT_W; i++) w[i] = args->w + (size_t)(o + i < args->n ? o + i : args->n - 1) * args->row_bytes;
        mm_float_tile(get, size, w, args->x, 0, 1, 0, args->n_in, part);
        for (int i = 0; i < FLOAT_W && o + i < args->n; i++) sum[o + i] = mm_fold16(part + 16 * i);
    }
}

/* Up to MM_FLOAT_X rows of x; fewer are filled up with the last, whose copies are thrown away. */
MM_INLINE void mm_float_group(mm_floats_fn get, int size, const mm_float_args *args, int row, int n_x) {
    const float *x = args->x + row * args->x_stride;
    float *parts = args->parts;
    const size_t tile = 16 * FLOAT_W * MM_FLOAT_X;
    memset(parts, 0, (size_t)((args->n_w + FLOAT_W - 1) / FLOAT_W) * tile * sizeof *parts);
    for (int64_t k = 0; k < args->n_in; k += FLOAT_CHUNK) {
        const int64_t end = k + FLOAT_CHUNK < args->n_in ? k + FLOAT_CHUNK : args->n_in;
        for (int o = 0; o < args->n_w; o += FLOAT_W) {
            float *part = parts + (size_t)(o / FLOAT_W) * tile;
            const uint8_t *w[FLOAT_W];
            for (int i = 0; i < FLOAT_W; i++)
                w[i] = args->w + (size_t)(o + i < args->n_w ? o + i : args->n_w - 1) * args->row_bytes;
            if (n_x == MM_FLOAT_X)
                mm_float_tile(get, size, w, x, args->x_stride, MM_FLOAT_X, k, end, part);
            else
                for (int r = 0; r < n_x; r++)
                    mm_float_tile(get, size, w, x + r * args->x_stride, 0, 1, k, end, part + (size_t)(16 * FLOAT_W * r));
        }
    }
    for (int r = 0; r < n_x; r++)
        for (int o = 0; o < args->n_w; o++)
            args->sum[(row + r) * args->stride + o] =
                mm_fold16(parts + (size_t)(o / FLOAT_W) * tile + (size_t)(16 * (r * FLOAT_W + o % FLOAT_W)));
}

MM_INLINE void mm_floats(mm_floats_fn get, int size, const mm_float_args *args) {
    for (int r = 0; r < args->n_rows; r += MM_FLOAT_X)
        mm_float_group(get, size, args, r, args->n_rows - r < MM_FLOAT_X ? args->n_rows - r : MM_FLOAT_X);
}

/* ---------------------------------------------------------------- the table */

#define MM_ROWS_FN(name, type, n_blocks, n_scales, min, sign, zero_point, top)                                                   \
    static const mm_traits mm_traits_##name = {n_blocks, sizeof(block_##name), n_scales, min, sign, zero_point, top};            \
    static void rows_##name(const mm_rows_args *args, float *sum) {                                                              \
        mm_rows(mm_traits_##name, mm_get_##name, mm_scales_##name, args, sum);                                                   \
    }                                                                                                                            \
    static void pack_##name(const mm_pack_args *args) {                                                                          \
        mm_pack(mm_traits_##name, mm_get_##name, mm_scales_##name, args);                                                        \
    }
MM_QUANTISED(MM_ROWS_FN)

#define MM_TILE_FN(name)                                                                                                         \
    static void tile_##name(const mm_tile_args *args) {                                                                          \
        mm_tile(mm_traits_##name, args);                                                                                         \
    }
MM_TILES(MM_TILE_FN)

#define MM_FLOAT_FN(name, size)                                                                                                  \
    static void rows_##name(const mm_rows_args *args, float *sum) {                                                              \
        mm_float_rows(mm_v16_##name, size, args, sum);                                                                           \
    }                                                                                                                            \
    static void floats_##name(const mm_float_args *args) {                                                                       \
        mm_floats(mm_v16_##name, size, args);                                                                                    \
    }
MM_FLOAT_FN(f32, 4)
MM_FLOAT_FN(f16, 2)
MM_FLOAT_FN(bf16, 2)

#define MM_ROWS_ENTRY(name, type, ...) [TENSOR_##type] = rows_##name,
#define MM_PACK_ENTRY(name, type, ...) [TENSOR_##type] = pack_##name,
#define MM_TILE_ENTRY(name, type, ...) [TENSOR_##type] = MM_TILE_OF_##name,
const matmul_ops MM_NAME = {
    .isa = MM_ISA,
    .group = MM_GROUP,
    .panel = PANEL,
    .few = MM_FEW,
    .quantise = mm_quantise,
#ifdef MM_WIDE
    .quantise_whole = mm_quantise_whole,
#endif
    .rows = {MM_QUANTISED(MM_ROWS_ENTRY)[TENSOR_F32] = rows_f32, [TENSOR_F16] = rows_f16, [TENSOR_BF16] = rows_bf16},
    .pack = {MM_QUANTISED(MM_PACK_ENTRY)},
    .tile = {MM_QUANTISED(MM_TILE_ENTRY)},
    .floats = {[TENSOR_F32] = floats_f32, [TENSOR_F16] = floats_f16, [TENSOR_BF16] = floats_bf16},
};
