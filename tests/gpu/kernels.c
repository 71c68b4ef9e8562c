/* Planes and products of every weight type against the scalar reference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/rows_product.h"
#include "gpu.h"
#include "tensor/quants.h"

enum { MAX_ROWS = 8 };

/* A weight matrix: its blocks, what they mean, and its planes on the device. */
typedef struct weights {
    uint8_t *raw;
    float *values;
    dev_matrix m;
    void *planes[4];
} weights;

static cuda_queue queue(void) {
    struct cudaDeviceProp prop;
    check_that(cudaGetDeviceProperties(&prop, 0) == cudaSuccess, "device");
    return (cuda_queue){.n_sm = prop.multiProcessorCount,
                        .has_pdl = prop.major >= 9,
                        .has_bulk = prop.major >= 9,
                        .shared_bytes = (int32_t)prop.sharedMemPerBlockOptin};
}

static weights make_weights(cuda_queue *q, int type, int n_in, int n_out) {
    const tensor_type_info *info = tensor_type_get((uint32_t)type);
    const size_t row = tensor_row_bytes((tensor_type)type, n_in);
    weights w = {.raw = malloc(row * (size_t)n_out), .values = malloc(sizeof(float) * (size_t)n_in * (size_t)n_out)};
    for (size_t i = 0; i < (size_t)n_in * (size_t)n_out; i++) w.values[i] = (float)(fresh() * fresh() * 0.1 + 0.01);
    for (int r = 0; r < n_out; r++) {
        info->quantise(w.values + (size_t)r * (size_t)n_in, w.raw + (size_t)r * row, n_in);
        info->dequantise(w.raw + (size_t)r * row, w.values + (size_t)r * (size_t)n_in, n_in);
    }
    cuda_matrix_shape(&w.m, type, n_in, n_out);
    const uint32_t strides[4] = {w.m.q_row, w.m.h_row, w.m.s_row, w.m.d_row};
    for (int i = 0; i < 4; i++) w.planes[i] = device_copy(NULL, (size_t)strides[i] * (size_t)n_out);
    w.m.q = w.planes[0], w.m.h = w.planes[1], w.m.s = w.planes[2], w.m.d = w.planes[3];
    void *raw = device_copy(w.raw, row * (size_t)n_out);
    check_that(cuda_repack(q, &w.m, raw, (int64_t)row, 0, n_out) == 0, "%s: repack", info->name);
    check_that(cudaDeviceSynchronize() == cudaSuccess, "%s: repack", info->name);
    device_free(raw);
    return w;
}

static void free_weights(weights *w) {
    free(w->raw);
    free(w->values);
    for (int i = 0; i < 4; i++) device_free(w->planes[i]);
}

static double nmse(const float *a, const double *b, size_t n) {
    double diff = 0, all = 0;
    for (size_t i = 0; i < n; i++) diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), all += b[i] * b[i];
    return all > 0 ? diff / all : diff;
}

static void planes_mean_the_same(cuda_queue *q, int type, int n_in, int n_out) {
    const char *name = tensor_type_get((uint32_t)type)->name;
    weights w = make_weights(q, type, n_in, n_out);
    const size_t n = (size_t)n_in * (size_t)n_out;
    float *got = malloc(n * sizeof *got);
    void *out = device_copy(NULL, n * sizeof(float));
    check_that(cuda_dequantise(q, &w.m, 0, n_out, out, n_in, false) == 0, "%s: dequantise", name);
    host_copy(got, out, n * sizeof *got);
    size_t n_differ = 0;
    for (size_t i = 0; i < n; i++) n_differ += memcmp(&got[i], &w.values[i], sizeof(float)) != 0;
    check_that(n_differ == 0, "%s %dx%d: %zu weights differ from the reference", name, n_out, n_in, n_differ);
    device_free(out);
    free(got);
    free_weights(&w);
}

/* ---------------------------------------------------------------- products */

typedef struct product_case {
    int n_in, n_out, n_rows;
    product_mode mode;
    bool is_fused; /* norm inside */
    const char *why;
} product_case;

/* Activations in host and device memory; meant: what the device's form of them means. */
typedef struct inputs {
    float *x, *norm;
    double *meant; /* [n_rows][n_in], the norm's factor included */
    float *d_x, *d_norm;
    dev_acts acts;
} inputs;

static int pad_acts(int n) {
    return (n + ACT_PAD - 1) / ACT_PAD * ACT_PAD;
}
static int act_at(int i) {
    const int u = i / UNIT;
    return 1024 * (u / 32) + 256 * (i % 32 / 8) + 8 * (u % 32) + i % 8;
}

static void read_back(inputs *in, const product_case *c, bool is_float) {
    const int stride = in->acts.stride;
    int16_t *q = malloc(sizeof *q * (size_t)(stride * c->n_rows));
    act_rec *rec = malloc(sizeof *rec * (size_t)(stride / UNIT * c->n_rows));
    float *f = malloc(sizeof *f * (size_t)(stride * c->n_rows)), scale[MAX_ROWS];
    if (is_float)
        host_copy(f, in->acts.f, sizeof *f * (size_t)(stride * c->n_rows));
    else {
        host_copy(q, in->acts.q, sizeof *q * (size_t)(stride * c->n_rows));
        host_copy(rec, in->acts.rec, sizeof *rec * (size_t)(stride / UNIT * c->n_rows));
    }
    host_copy(scale, in->acts.scale, sizeof(float) * (size_t)c->n_rows);
    for (int r = 0; r < c->n_rows; r++)
        for (int i = 0; i < c->n_in; i++) {
            const int u = i / UNIT;
            const double v =
                is_float ? (double)f[r * stride + i] : (double)rec[r * (stride / UNIT) + u].d * q[r * stride + act_at(i)];
            in->meant[r * c->n_in + i] = v * (double)scale[r];
        }
    free(q);
    free(rec);
    free(f);
}

static inputs make_inputs(cuda_queue *q, const product_case *c, bool is_float) {
    const int stride = pad_acts(c->n_in);
    const size_t n = (size_t)(c->n_rows * stride);
    inputs in = {.x = calloc(n, sizeof(float)),
                 .norm = calloc((size_t)stride, sizeof(float)),
                 .meant = malloc(sizeof(double) * (size_t)(c->n_rows * c->n_in))};
    for (int r = 0; r < c->n_rows; r++)
        for (int i = 0; i < c->n_in; i++) in.x[r * stride + i] = (float)(3 * fresh() * fresh());
    for (int i = 0; i < c->n_in; i++) in.norm[i] = (float)(1 + 0.2 * fresh());
    in.d_x = device_copy(in.x, n * sizeof(float));
    in.d_norm = device_copy(in.norm, (size_t)stride * sizeof(float));
    in.acts = (dev_acts){.q = is_float ? NULL : device_copy(NULL, n * sizeof(int16_t)),
                         .rec = is_float ? NULL : device_copy(NULL, n / UNIT * sizeof(act_rec)),
                         .f = is_float ? device_copy(NULL, n * sizeof(float)) : NULL,
                         .scale = device_copy(NULL, MAX_ROWS * sizeof(float)),
                         .stride = stride};
    check_that(cuda_prepare(q, in.d_x, stride, NULL, c->is_fused ? in.d_norm : NULL, 1e-5f, c->n_in, c->n_rows, &in.acts) == 0,
               "prepare");
    read_back(&in, c, is_float);
    return in;
}

static void free_inputs(inputs *in) {
    free(in->x);
    free(in->norm);
    free(in->meant);
    device_free(in->d_x);
    device_free(in->d_norm);
    device_free(in->acts.scale);
    if (in->acts.q) device_free(in->acts.q), device_free(in->acts.rec);
    if (in->acts.f) device_free(in->acts.f);
}

/* The exact input, and the form's distance from it. */
static void check_form(const inputs *in, const product_case *c, bool is_float, const char *name) {
    const int stride = in->acts.stride;
    float *meant = malloc(sizeof *meant * (size_t)(c->n_rows * c->n_in));
    double *exact = malloc(sizeof *exact * (size_t)(c->n_rows * c->n_in));
    for (int r = 0; r < c->n_rows; r++) {
        double sum = 0;
        for (int i = 0; i < c->n_in; i++) sum += (double)in->x[r * stride + i] * (double)in->x[r * stride + i];
        const double factor = c->is_fused ? 1 / sqrt(sum / c->n_in + 1e-5) : 1;
        for (int i = 0; i < c->n_in; i++) {
            exact[r * c->n_in + i] = (double)in->x[r * stride + i] * (c->is_fused ? factor * (double)in->norm[i] : 1);
            meant[r * c->n_in + i] = (float)in->meant[r * c->n_in + i];
        }
    }
    check_bound(is_float ? "activations, f32" : "activations, 14 bits", nmse(meant, exact, (size_t)(c->n_rows * c->n_in)),
                is_float ? 1e-12 : 5e-8, "%s %dx%d", name, c->n_rows, c->n_in);
    free(meant);
    free(exact);
}

static double silu(double g) {
    return g / (1 + exp(-g));
}

static void one_product(cuda_queue *q, int type, const product_case *c) {
    const char *name = tensor_type_get((uint32_t)type)->name;
    const bool is_float = cuda_is_float(type), is_act = c->mode == PRODUCT_ACT;
    const int n_mats = is_act ? 2 : 1, out_stride = pad_acts(c->n_out);
    const size_t n = (size_t)(c->n_rows * out_stride);
    weights w[2];
    for (int i = 0; i < n_mats; i++) w[i] = make_weights(q, type, c->n_in, c->n_out);
    inputs in = make_inputs(q, c, is_float);
    check_form(&in, c, is_float, name);
    float *old = malloc(n * sizeof *old), *bias = malloc(sizeof *bias * (size_t)out_stride), *got = malloc(n * sizeof *got);
    double *want = malloc(sizeof *want * (size_t)(c->n_rows * c->n_out));
    for (size_t i = 0; i < n; i++) old[i] = (float)fresh();
    for (int i = 0; i < out_stride; i++) bias[i] = (float)(0.1 * fresh());
    float *d_y = device_copy(c->mode == PRODUCT_ADD ? old : NULL, n * sizeof(float)),
          *d_bias = device_copy(bias, sizeof *bias * (size_t)out_stride);
    product_args a = {.n_jobs = n_mats,
                      .n_rows = c->n_rows,
                      .y = {d_y},
                      .y_stride = out_stride,
                      .bias = {is_act ? NULL : d_bias},
                      .mode = c->mode,
                      .in = in.acts,
                      .eps = 1e-5f,
                      .out = {.f = d_y, .stride = out_stride}};
    for (int i = 0; i < n_mats; i++) a.w[i] = w[i].m;
    if (c->is_fused && c->n_rows == 1) a.x = in.d_x, a.norm = in.d_norm, a.in = (dev_acts){0};
    check_that(cuda_product(q, &a) == 0, "%s: product", name);
    check_that(cudaDeviceSynchronize() == cudaSuccess, "%s: product %s", name, c->why);
    host_copy(got, d_y, n * sizeof *got);
    for (int r = 0; r < c->n_rows; r++)
        for (int o = 0; o < c->n_out; o++) {
            double s[2] = {0, 0};
            for (int m = 0; m < n_mats; m++)
                for (int i = 0; i < c->n_in; i++)
                    s[m] += (double)w[m].values[(size_t)o * (size_t)c->n_in + (size_t)i] * in.meant[r * c->n_in + i];
            double v = is_act ? silu(s[0]) * s[1] : s[0] + (double)bias[o];
            if (c->mode == PRODUCT_ADD) v += (double)old[r * out_stride + o];
            want[r * c->n_out + o] = v;
            got[r * c->n_out + o] = got[r * out_stride + o]; /* closing up the rows: never ahead of what is read */
        }
    check_bound(is_float ? "product, float weights" : "product, 14 bits, against its own inputs",
                nmse(got, want, (size_t)(c->n_rows * c->n_out)), 1e-10, "%s %s", name, c->why);
    for (int i = 0; i < n_mats; i++) free_weights(&w[i]);
    free_inputs(&in);
    device_free(d_y);
    device_free(d_bias);
    free(old);
    free(bias);
    free(got);
    free(want);
}

static const product_case products[] = {
    {256, 1, 1, PRODUCT_STORE, false, "smallest"},
    {256, 7, 1, PRODUCT_ADD, true, "less than a tile, fused norm"},
    {768, 33, 1, PRODUCT_STORE, true, "odd rows, 24 units"},
    {1280, 70, 1, PRODUCT_STORE, true, "40 units: a short group"},
    {512, 65, 1, PRODUCT_ADD, false, "two groups of eight units short"},
    {2048, 64, 1, PRODUCT_ACT, true, "gate and up, fused"},
    {4096, 4500, 1, PRODUCT_ADD, false, "more rows than one wave of warps"},
};
/* Sizes that only blocks of 32 and floats allow. */
static const product_case small_products[] = {
    {32, 3, 1, PRODUCT_STORE, false, "one unit"},
    {96, 40, 1, PRODUCT_ACT, true, "three units, odd tile"},
    {1056, 20, 1, PRODUCT_STORE, true, "33 units: a group of one"},
};
static const product_case float_products[] = {
    {37, 5, 1, PRODUCT_STORE, true, "odd width"},
    {52, 37, 3, PRODUCT_ACT, true, "odd width and height"},
    {1, 1, 1, PRODUCT_ADD, false, "one weight"},
    {1280, 70, 3, PRODUCT_STORE, true, "3 of 4 columns"},
    {512, 65, 2, PRODUCT_ADD, false, "2 columns"},
    {4096, 100, 8, PRODUCT_STORE, true, "8 columns"},
    {1024, 96, 5, PRODUCT_ACT, true, "gate and up, 5 of 8 columns"},
};

/* Two types in one launch give what a launch for each gives: the same bytes, but for the norm's factor, whose sum is taken by
 * blocks of another size. */
static void products_of_both(cuda_queue *q, int type, int other, bool is_fused) {
    enum { N_IN = 1280, N_LONG = 333, N_SHORT = 70 };
    const product_case c = {N_IN, N_LONG, 1, PRODUCT_STORE, is_fused, "two types"};
    const int types[MAX_JOBS] = {type, type, other}, n_out[MAX_JOBS] = {N_LONG, N_SHORT, N_SHORT};
    const char *name = tensor_type_get((uint32_t)other)->name;
    weights w[MAX_JOBS];
    inputs in = make_inputs(q, &c, false);
    float got[2][N_LONG], *y[2][MAX_JOBS];
    check_that(cuda_product_takes_both(type, other) && cuda_product_takes_both(other, type), "%s: not taken", name);
    check_that(!cuda_product_takes_both(type, TENSOR_F16) && !cuda_product_takes_both(type, type), "%s: too much taken", name);
    product_args both = {.n_jobs = MAX_JOBS, .n_rows = 1, .y_stride = N_LONG, .mode = PRODUCT_STORE, .in = in.acts, .eps = 1e-5f};
    if (is_fused) both.x = in.d_x, both.norm = in.d_norm, both.in = (dev_acts){0};
    for (int i = 0; i < MAX_JOBS; i++) {
        w[i] = make_weights(q, types[i], N_IN, n_out[i]);
        for (int way = 0; way < 2; way++) y[way][i] = device_copy(NULL, sizeof got[0]);
        both.w[i] = w[i].m, both.y[i] = y[0][i];
        product_args one = both;
        one.n_jobs = 1, one.w[0] = w[i].m, one.y[0] = y[1][i];
        check_that(cuda_product(q, &one) == 0, "%s: product", name);
        check_that(cuda_product_mixed(q, &one) == cudaErrorInvalidValue, "%s: one type as two", name);
    }
    check_that(cuda_product_mixed(q, &both) == 0 && cudaDeviceSynchronize() == cudaSuccess, "%s: products of two types", name);
    for (int i = 0; i < MAX_JOBS; i++) {
        double want[N_LONG];
        for (int way = 0; way < 2; way++) host_copy(got[way], y[way][i], sizeof got[0]);
        for (int o = 0; o < n_out[i]; o++) want[o] = (double)got[1][o];
        if (is_fused)
            check_bound("products of two types, against one at a time", nmse(got[0], want, (size_t)n_out[i]), 1e-13, "%s", name);
        else
            check_that(!memcmp(got[0], got[1], (size_t)n_out[i] * sizeof(float)), "%s: matrix %d of two types differs", name, i);
        for (int way = 0; way < 2; way++) device_free(y[way][i]);
        free_weights(&w[i]);
    }
    free_inputs(&in);
}

/* The activation's output as levels: blocks of any number of rows, units joined by the block that comes last, give the same
 * bytes, and they mean what the float output says. */
static void units_in_parts(cuda_queue *q, int type) {
    enum { N_IN = 1024, N_FF = 1056, N_PADDED = 2048, N_WAYS = 6 };
    static const int rows[N_WAYS] = {UNIT, 16, 8, 27, 0, 45}; /* 0: as the device is shared out */
    static int16_t levels[N_WAYS][N_PADDED];
    static act_rec rec[N_WAYS][N_PADDED / UNIT];
    const product_case c = {N_IN, N_FF, 1, PRODUCT_ACT, true, "units in parts"};
    const char *name = tensor_type_get((uint32_t)type)->name;
    weights w[2] = {make_weights(q, type, N_IN, N_FF), make_weights(q, type, N_IN, N_FF)};
    inputs in = make_inputs(q, &c, cuda_is_float(type));
    int32_t zero[N_FF / UNIT] = {0}, *arrived = device_copy(zero, sizeof zero);
    float f[N_FF];
    double diff = 0, all = 0;
    for (int i = 0; i <= N_WAYS; i++) { /* the last: floats */
        dev_acts out = {.q = device_copy(NULL, sizeof levels[0]),
                        .rec = device_copy(NULL, sizeof rec[0]),
                        .f = device_copy(NULL, sizeof f),
                        .stride = N_PADDED};
        product_args a = {.w = {w[0].m, w[1].m},
                          .n_jobs = 2,
                          .n_rows = 1,
                          .mode = PRODUCT_ACT,
                          .x = in.d_x,
                          .norm = in.d_norm,
                          .eps = 1e-5f,
                          .out = out,
                          .is_out_quantised = i < N_WAYS,
                          .arrived = arrived};
        q->act_rows = i < N_WAYS ? rows[i] : 0;
        check_that(cuda_product(q, &a) == 0 && cudaDeviceSynchronize() == cudaSuccess, "%s: units in blocks of %d", name,
                   (int)q->act_rows);
        if (i < N_WAYS) {
            host_copy(levels[i], out.q, sizeof levels[i]);
            host_copy(rec[i], out.rec, sizeof rec[i]);
        } else {
            host_copy(f, out.f, sizeof f);
        }
        device_free(out.q);
        device_free(out.rec);
        device_free(out.f);
    }
    q->act_rows = 0;
    for (int i = 1; i < N_WAYS; i++)
        check_that(!memcmp(levels[i], levels[0], sizeof levels[0]) && !memcmp(rec[i], rec[0], sizeof *rec[0] * (N_FF / UNIT)),
                   "%s: units in blocks of %d differ", name, rows[i]);
    for (int i = 0; i < N_FF; i++) {
        const double v = (double)rec[0][i / UNIT].d * levels[0][act_at(i)];
        diff += (v - (double)f[i]) * (v - (double)f[i]), all += (double)f[i] * (double)f[i];
    }
    check_bound("gate times up, 14 bits", diff / all, 5e-8, "%s: units in parts", name);
    int32_t left[N_FF / UNIT];
    host_copy(left, arrived, sizeof left);
    check_that(!memcmp(left, zero, sizeof zero), "%s: counters are not back at zero", name);
    device_free(arrived);
    free_inputs(&in);
    free_weights(&w[0]);
    free_weights(&w[1]);
}

/* ---------------------------------------------------------------- products of several rows */

typedef struct rows_case {
    int n_in, n_out, n_rows, n_splits;
    const char *why;
} rows_case;

/* Where value i of row r stands among halves. */
static int half_at(int r, int n_in, int i) {
    return (r / 8 * n_in + i / 32 * 32) * 8 + r % 8 * 32 + 8 * (i % 16 / 4) + 4 * (i % 32 / 16) + i % 4;
}

static double half_value(uint16_t h) {
    const int e = h >> 10 & 31, m = h & 1023;
    const double v = e == 31 ? NAN : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

/* The sum of the parts against the products of the halves themselves, and the halves against what they round. */
static void rows_product(cuda_queue *q, int type, const rows_case *c) {
    const char *name = tensor_type_get((uint32_t)type)->name;
    const size_t n_x = (size_t)c->n_rows * (size_t)c->n_in, n_half = (size_t)((c->n_rows + 7) / 8 * 8) * (size_t)c->n_in,
                 stride = (size_t)c->n_out + 5, n_y = (size_t)c->n_splits * (size_t)c->n_rows * stride;
    weights w = make_weights(q, type, c->n_in, c->n_out);
    float *x = malloc(n_x * sizeof *x), *y = malloc(n_y * sizeof *y), scale[FEW_ROWS];
    uint16_t *half = malloc(n_half * sizeof *half);
    double *meant = malloc(n_x * sizeof *meant), *want = malloc((size_t)c->n_rows * (size_t)c->n_out * sizeof *want);
    for (size_t i = 0; i < n_x; i++) x[i] = (float)(3 * fresh() * fresh() * ((int)i / c->n_in % 3 == 1 ? 1e5 : 1));
    float *d_x = device_copy(x, n_x * sizeof *x), *d_scale = device_copy(NULL, sizeof scale),
          *d_y = device_copy(NULL, n_y * sizeof *y);
    void *d_half = device_copy(NULL, n_half * sizeof *half);
    rows_args a = {.w = {w.m},
                   .at = {2},
                   .n_jobs = 1,
                   .n_rows = c->n_rows,
                   .x = d_half,
                   .y = d_y,
                   .part = (int64_t)c->n_rows * (int64_t)stride,
                   .y_stride = (int32_t)stride,
                   .n_splits = c->n_splits};
    const residual_args how = {
        .x = d_x, .x_stride = c->n_in, .half = d_half, .half_scale = d_scale, .n = c->n_in, .n_rows = c->n_rows};
    check_that(!cuda_residual(q, &how) && !cuda_rows_product(q, &a) && cudaDeviceSynchronize() == cudaSuccess, "%s, %s: rows",
               name, c->why);
    host_copy(y, d_y, n_y * sizeof *y);
    host_copy(half, d_half, n_half * sizeof *half);
    host_copy(scale, d_scale, sizeof(float) * (size_t)c->n_rows);
    double diff = 0, all = 0, off = 0, sum = 0;
    for (int r = 0; r < c->n_rows; r++) {
        for (int i = 0; i < c->n_in; i++) {
            const double v = half_value(half[half_at(r, c->n_in, i)]), exact = (double)x[r * c->n_in + i] / (double)scale[r];
            meant[r * c->n_in + i] = v;
            off += (v - exact) * (v - exact), sum += exact * exact;
        }
        for (int o = 0; o < c->n_out; o++) {
            double v = 0, got = 0;
            for (int i = 0; i < c->n_in; i++)
                v += (double)w.values[(size_t)o * (size_t)c->n_in + (size_t)i] * meant[r * c->n_in + i];
            for (int s = 0; s < c->n_splits; s++) got += (double)y[(size_t)(s * c->n_rows + r) * stride + 2 + (size_t)o];
            diff += (got - v) * (got - v), all += v * v;
        }
    }
    check_bound("activations, halves", off / sum, 1e-7, "%s %s", name, c->why);
    check_bound("product, several rows, against its own inputs", diff / all, 1e-10, "%s %s", name, c->why);
    uint32_t poison = 0xffffffffu; /* nothing is put beside the outputs */
    check_that(!memcmp(&y[0], &poison, 4) && !memcmp(&y[2 + c->n_out], &poison, 4), "%s %s: beside the outputs", name, c->why);
    device_free(d_x);
    device_free(d_scale);
    device_free(d_y);
    device_free(d_half);
    free(x);
    free(y);
    free(half);
    free(meant);
    free(want);
    free_weights(&w);
}

static const rows_case rows_cases[] = {
    {256, 1, 2, 1, "smallest"},
    {1280, 70, 3, 2, "an odd tile, uneven splits"},
    {2048, 129, 8, 4, "one output past a tile"},
    {1024, 300, 9, 1, "one row past eight"},
    {768, 130, 17, 3, "17 rows"},
    {768, 128, 40, 1, "40 rows"},
    {1536, 200, 65, 5, "one row past 64"},
    {512, 140, 128, 1, "128 rows"},
};
static const rows_case small_rows_cases[] = {{32, 40, 4, 1, "one unit"}, {1056, 33, 12, 2, "33 units: a chunk of one"}};

void test_rows(void) {
    cuda_queue q = queue();
    for (int type = 0; type < TENSOR_TYPE_END; type++) {
        if (!cuda_takes(type) || cuda_is_float(type)) continue;
        const bool is_small = tensor_type_get((uint32_t)type)->block_weights <= 32;
        for (size_t i = 0; i < sizeof rows_cases / sizeof *rows_cases; i++) rows_product(&q, type, &rows_cases[i]);
        if (is_small)
            for (size_t i = 0; i < 2; i++) rows_product(&q, type, &small_rows_cases[i]);
    }
}

void test_units(void) {
    cuda_queue q = queue();
    for (int type = 0; type < TENSOR_TYPE_END; type++)
        if (cuda_takes(type)) units_in_parts(&q, type);
}

void test_products(void) {
    static const int pairs[][2] = {{TENSOR_Q4_K, TENSOR_Q6_K}, {TENSOR_Q6_K, TENSOR_Q5_K}, {TENSOR_Q4_K, TENSOR_Q5_K}};
    cuda_queue q = queue();
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int is_fused = 0; is_fused < 2; is_fused++) products_of_both(&q, pairs[i][0], pairs[i][1], is_fused);
    for (int type = 0; type < TENSOR_TYPE_END; type++) {
        if (!cuda_takes(type)) continue;
        const bool is_float = cuda_is_float(type), is_small = tensor_type_get((uint32_t)type)->block_weights <= 32;
        if (!is_float) {
            planes_mean_the_same(&q, type, 256, 1);
            planes_mean_the_same(&q, type, 1280, 37);
            if (is_small) planes_mean_the_same(&q, type, 1056, 3);
        }
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) one_product(&q, type, &products[i]);
        if (is_small)
            for (size_t i = 0; i < sizeof small_products / sizeof *small_products; i++) one_product(&q, type, &small_products[i]);
        if (is_float)
            for (size_t i = 0; i < sizeof float_products / sizeof *float_products; i++) one_product(&q, type, &float_products[i]);
    }
}

void test_kernels(void) {
    test_units();
    test_rows();
    test_sampling();
    test_reading();
    test_ahead();
    test_products();
}
