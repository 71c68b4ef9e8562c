/* What one instruction set offers besides products. The same bytes come out of every set: reductions are sixteen partial
 * sums by index mod 16 folded 8, 4, 2, 1; exp and tanh are polynomials of fused multiply-adds (vec.h). */
#ifndef GALEN_BACKEND_CPU_OPS_H
#define GALEN_BACKEND_CPU_OPS_H

#include "backend/cpu/kv.h"

enum {
    ATTEND_TILE = 32,     /* keys an online-softmax step takes; aligned to absolute positions */
    ATTEND_SEGMENT = 512, /* positions whose partial result is one term of the final sum      */
    ATTEND_QUERIES = 64,  /* queries that share an unpacked tile, unless one row has more      */
    ATTEND_STATE = 32     /* floats of a partial result beside its d_pad sums                 */
};

/* Queries of consecutive rows of one sequence that share a KV head, against that head's keys.
 *
 * Query i * n_group + g is row i, head g of the group. Its partial result over some segments is
 *   float [d_pad]  sum of exp(score - m) * v
 *   float [16]     sum of exp(score - m), by key mod 16
 *   float          m, the largest score
 *   float          1 when any key was seen, else 0 and all the rest is to be ignored;  14 floats unused
 * and merging two of them in the order of the segments gives that of the union. */
typedef struct attend_job {
    const kv_layout *kl;
    const char *layer;    /* pages of this layer            */
    const int32_t *pages; /* of the sequence                */
    size_t head_offset;   /* of the KV head's run in a page */
    const float *q;       /* row 0, first head of the group; heads are d apart */
    int64_t q_stride;     /* floats from row to row         */
    int32_t n_rows, n_group;
    int32_t first_pos; /* of row 0; rising by one   */
    int32_t window;    /* 0 = all                   */
    float scale, softcap;
} attend_job;

typedef struct cpu_ops {
    const char *isa;
    /** y = x / sqrt(mean(x^2) + eps) * weight, n values; y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *weight, int64_t n, float eps);
    void (*add)(float *y, const float *x, int64_t n);                        /* y += x */
    void (*scale)(float *y, float factor, int64_t n);                        /* y *= factor */
    void (*softcap)(float *y, float cap, int64_t n);                         /* y = cap * tanh(y / cap) */
    void (*activate)(float *gate, const float *up, int64_t n, act_kind act); /* gate = act(gate) * up */
    void (*rope)(float *x, const float *cos, const float *sin, int32_t n_rot, rope_kind kind);
    /** Store the key and value of one position at slot of a head's run. */
    void (*kv_put)(const kv_layout *kl, void *head, int32_t slot, const float *k, const float *v);

    /** Partial results of the job over positions [begin, end), a segment or less, into part [n_rows * n_group].
     *  scratch as attend_scratch_floats. */
    void (*attend)(const attend_job *job, int32_t begin, int32_t end, float *part, float *scratch);
    /** total = total merged with the later partial result. */
    void (*attend_merge)(const kv_layout *kl, float *total, const float *part);
    /** out [d] = the finished attention of one query. */
    void (*attend_finish)(const kv_layout *kl, float *out, const float *total);

    /* For tests of the functions themselves. */
    void (*exp)(float *y, const float *x, int64_t n);
    void (*tanh)(float *y, const float *x, int64_t n);
} cpu_ops;

/** Floats of scratch that attend needs for up to n_queries queries. */
static inline size_t attend_scratch_floats(const kv_layout *kl, int32_t n_queries) {
    const size_t d = (size_t)kl->d_pad;
    return 2 * ATTEND_TILE * d + (size_t)n_queries * (d + ATTEND_TILE + 16);
}

/** NULL when this processor or this build lacks the set: "generic", "avx2", "avx512", "neon". */
const cpu_ops *cpu_ops_get(const char *isa);

/** The sets that exist, best first, NULL at the end. Static. */
const char *const *cpu_isa_names(void);

extern const cpu_ops cpu_ops_generic, cpu_ops_avx2, cpu_ops_avx512, cpu_ops_neon;

#endif
