/* Launchers of the cuda backend's kernels. Each puts one kernel on the queue and returns a cudaError_t as an integer (0 is
 * success): the caller in C knows which stage and layer it was and makes a galen_status of it. None synchronises or allocates. */
#ifndef GALEN_BACKEND_CUDA_KERNELS_H
#define GALEN_BACKEND_CUDA_KERNELS_H

#include "backend/cuda/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The strides of a matrix of this type; the planes are left NULL. */
void cuda_matrix_shape(dev_matrix *m, int32_t type, int64_t n_in, int64_t n_out);

/** data: n_rows raw rows of raw_row bytes in device memory, into rows [first, first + n_rows) of m. */
int32_t cuda_repack(cuda_queue *q, const dev_matrix *m, const void *data, int64_t raw_row, int64_t first, int32_t n_rows);

/** Rows [first, first + n_rows) of a quantised m as halves or floats, out_row elements from a row to the next (16-byte aligned).
 */
int32_t cuda_dequantise(cuda_queue *q, const dev_matrix *m, int64_t first, int32_t n_rows, void *out, int64_t out_row,
                        bool is_half);

/** Products with weights of one type; tile_rows and first_tile are filled in. n_rows <= PASS_ROWS; x needs n_rows 1. */
int32_t cuda_product(cuda_queue *q, product_args *p);
/** One row, matrices of two types in one launch; tiles are filled in. Types that cuda_product_takes_both does not know together
 *  are cudaErrorInvalidValue. */
int32_t cuda_product_mixed(cuda_queue *q, product_args *p);
bool cuda_product_takes_both(int32_t type, int32_t other);
/* What the _M and _L files have for Q, K and V. */
#define CUDA_PRODUCT_PAIRS(X) X(TENSOR_Q4_K, TENSOR_Q6_K) X(TENSOR_Q5_K, TENSOR_Q6_K) X(TENSOR_Q4_K, TENSOR_Q5_K)
bool cuda_takes(int32_t type); /* there is a product for this type */
bool cuda_is_float(int32_t type);

#define CUDA_PRODUCTS(X)                                                                                                         \
    X(TENSOR_F32, f32)                                                                                                           \
    X(TENSOR_F16, f16)                                                                                                           \
    X(TENSOR_BF16, bf16)                                                                                                         \
    X(TENSOR_Q8_0, q8_0)                                                                                                         \
    X(TENSOR_Q4_0, q4_0)                                                                                                         \
    X(TENSOR_Q4_1, q4_1)                                                                                                         \
    X(TENSOR_Q5_0, q5_0)                                                                                                         \
    X(TENSOR_Q5_1, q5_1)                                                                                                         \
    X(TENSOR_IQ4_NL, iq4_nl)                                                                                                     \
    X(TENSOR_IQ4_XS, iq4_xs)                                                                                                     \
    X(TENSOR_Q2_K, q2_k)                                                                                                         \
    X(TENSOR_Q3_K, q3_k)                                                                                                         \
    X(TENSOR_Q4_K, q4_k)                                                                                                         \
    X(TENSOR_Q5_K, q5_k)                                                                                                         \
    X(TENSOR_Q6_K, q6_k)
#define X(type, name) int32_t cuda_product_##name(cuda_queue *q, product_args *p);
CUDA_PRODUCTS(X)
#undef X

/* What begins a batch: rotation angles, and the embeddings of its tokens. */
typedef struct begin_args {
    int32_t n_rows, n_embd, stride;
    const int32_t *pos; /* [n_rows] */
    const void *raw;    /* [n_rows][raw_row] blocks of the token's embedding; NULL = hidden states were given */
    int32_t raw_row, type;
    float embd_scale;
    float *x; /* [n_rows][stride] */
    int32_t n_ropes, n_half, max_rows;
    const double *inv_freq[2];
    float magnitude[2];
    float *cos, *sin; /* [n_ropes][max_rows][n_half] */
} begin_args;
int32_t cuda_begin(cuda_queue *q, const begin_args *p);

/** norm * x of rows, and the RMS factors: what the fused product computes for itself. norm NULL: x as it is, factor 1.
 *  row picks rows of x, NULL = in order. out.q NULL or out.f NULL: that form is not wanted. */
int32_t cuda_prepare(cuda_queue *q, const float *x, int32_t x_stride, const int32_t *row, const float *norm, float eps, int32_t n,
                     int32_t n_rows, const dev_acts *out);

/** The same as halves or bfloats for the tensor cores: each row is multiplied by a power of two so that its largest value lies
 *  in [512, 1024), which keeps it inside a half's range; scale[r] undoes that and holds the RMS factor. */
typedef enum half_form { HALF_PLAIN, HALF_BFLOAT } half_form;
int32_t cuda_prepare_half(cuda_queue *q, const float *x, int32_t x_stride, const int32_t *row, const float *norm, float eps,
                          int32_t n, int32_t n_rows, void *out, int32_t out_stride, float *scale, half_form form);

/* x += v or x += post_norm(v), each row, v = y * scale[r] + bias; then, where half is given, norm(x) as halves, scaled as
 * cuda_prepare_half does, which stand as rows_product.h says. y.y NULL: x stays as it is. */
typedef struct residual_args {
    float *x;           /* [n_rows][x_stride]                                   */
    const int32_t *row; /* of x, where only halves are wanted; NULL = in order  */
    row_parts y;
    const float *scale;            /* [n_rows] of y; NULL = 1         */
    const float *bias, *post_norm; /* [n]; NULL = none                */
    const float *norm;             /* [n]; NULL = x itself            */
    uint16_t *half;                /* NULL = not wanted               */
    float *half_scale;             /* [n_rows]; may be scale          */
    float eps;
    int32_t x_stride, n, n_rows; /* half: n whole units */
} residual_args;
int32_t cuda_residual(cuda_queue *q, const residual_args *p);

/** y = y * scale[r] + bias */
int32_t cuda_finish_rows(cuda_queue *q, float *y, int32_t y_stride, const float *scale, const float *bias, int32_t n,
                         int32_t n_rows);

/** out = act(gate * scale[r]) * (up * scale[r]), n values of each row. */
int32_t cuda_activate(cuda_queue *q, const float *gate, const float *up, int32_t in_stride, const float *scale, float *out,
                      int32_t out_stride, int32_t n, int32_t n_rows, bool is_gelu);

/** The same from one product's parts, gate and then the other half in each row, and as cuda_residual leaves it: halves,
 *  n whole units, which are for scale_out[r] times the next product. scale_out may be scale. */
int32_t cuda_activate_half(cuda_queue *q, const row_parts *both, const float *scale, uint16_t *out, float *scale_out, int32_t n,
                           int32_t n_rows, bool is_gelu);

/** logits = y * scale[r], soft-capped, n values of each row, in place. */
int32_t cuda_finish_logits(cuda_queue *q, float *y, int64_t y_stride, const float *scale, float softcap, int32_t n,
                           int32_t n_rows);

/** Scale and bias, QK-norm and rotation of Q and K in place, K and V into their pages. */
int32_t cuda_heads(cuda_queue *q, const heads_args *p);

/* Positions [first, first + n_rows) of one sequence: k and v f32 [n_rows][n_head_kv][d_head] on the device. */
typedef struct kv_rows_args {
    dev_kv kv;            /* base: of the layer           */
    const int32_t *pages; /* of the sequence, from its 0  */
    int32_t first, n_rows, n_head_kv, d_head;
    float *k, *v;
} kv_rows_args;
int32_t cuda_kv_get_rows(cuda_queue *q, const kv_rows_args *p);
int32_t cuda_kv_put_rows(cuda_queue *q, const kv_rows_args *p);

/** Pieces that n positions are cut into; depends on n alone, so a row's bytes do not depend on its company. */
int32_t cuda_attend_splits(int32_t n);
int32_t cuda_attend(cuda_queue *q, const attend_args *p);
/** There is room to fuse: all heads of a group fit one block. */
bool cuda_attend_can_fuse(int32_t n_group, int32_t d_head);

#ifdef __cplusplus
}
#endif
#endif
