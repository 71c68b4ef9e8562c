/* The choice of a token from logits in device memory: sample.cu. */
#ifndef GALEN_BACKEND_CUDA_SAMPLE_H
#define GALEN_BACKEND_CUDA_SAMPLE_H

#include "backend/cuda/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SAMPLE_ROWS = 8,       /* rows chosen for by one launch, each in scratch memory of its own     */
    SAMPLE_ALL_ROWS = 128, /* of one call                                                         */
    SAMPLE_WINDOW = 4096,  /* tokens that penalties look back at; more is left to the host         */
    SAMPLE_BIASES = 256,
    SAMPLE_HERE = 2048, /* candidates that are put in order in shared memory; more in scratch memory */
    SAMPLE_SLICES = 32  /* of a vocabulary that are surveyed side by side: a warp's lanes             */
};

/* How one row's token is chosen; the lists stand in sample_args.lists. */
typedef struct sample_how {
    float temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int32_t top_k;                      /* 0 = off */
    int32_t n_window, window_at;        /* token ids */
    int32_t n_bias, bias_at, values_at; /* ids; floats as bits */
    double u;                           /* the draw, in [0, 1) */
} sample_how;

enum { SAMPLE_NOT_FINITE = -1, SAMPLE_FORBIDDEN = -2 }; /* in place of an id */

typedef struct sample_result {
    int32_t id;
    float logprob; /* natural, over the logits as they came */
} sample_result;

/* What is known of a slice of a row's logits. */
typedef struct sample_survey {
    uint64_t raw, best; /* of the logits, and as bias and penalties leave them: the greatest, with its id */
    double sum;         /* of exp(logit - the slice's greatest) */
    int32_t is_bad, unused;
} sample_survey;

/* Where a sequence stands that runs ahead of the host. */
typedef struct ahead_state {
    int32_t pos;      /* of the step under way            */
    int32_t n_window; /* tokens that penalties look back at, at most; -1 = all */
    uint64_t seed;
} ahead_state;

typedef struct sample_args {
    const float *logits;               /* [n_rows][n_vocab] */
    int32_t n_rows, n_vocab, n_padded; /* n_padded: a power of two, >= n_vocab */
    const sample_how *how;             /* [n_rows] */
    const int32_t *lists;
    sample_result *out; /* [n_rows] */
    /* scratch, [SAMPLE_ROWS] of each */
    float *adjusted;        /* [n_vocab]  */
    int32_t *counts;        /* [n_vocab], zero between launches */
    uint64_t *keys;         /* [n_padded] */
    double *weights;        /* [n_padded] */
    sample_survey *surveys; /* [SAMPLE_SLICES] */
    /* one row that runs ahead; else NULL: the window stands in lists */
    ahead_state *ahead;
    int32_t *history;    /* the sequence's tokens from its first on; the choice is put behind them */
    sample_result *told; /* [AHEAD_STEPS] host memory: slot pos % AHEAD_STEPS */
    int32_t n_told;
} sample_args;

int32_t cuda_choose(cuda_queue *q, const sample_args *p);

/* The beginning of a step that runs ahead, instead of cuda_begin: ahead.cu. */
typedef struct ahead_args {
    dev_matrix table; /* the embeddings */
    float embd_scale;
    float *x;
    ahead_state *state;
    const int32_t *history; /* the step's token is history[state->pos] */
    sample_how *how;        /* its draw and window are brought up to date */
    int32_t *pos;           /* out: where attention looks for it */
    int32_t n_ropes, n_half, max_rows;
    const double *inv_freq[2];
    float magnitude[2];
    float *cos, *sin;
} ahead_args;
int32_t cuda_begin_ahead(cuda_queue *q, const ahead_args *p);

#ifdef __cplusplus
}
#endif
#endif
