/* Parts of galen_synth; private to src/model/synth*.c. */
#ifndef GALEN_MODEL_SYNTH_H
#define GALEN_MODEL_SYNTH_H

#include "base/arena.h"
#include "gguf/gguf.h"

typedef struct synth_shape {
    const char *name, *title;
    int32_t n_embd, n_layer, n_head, n_head_kv, d_head, n_ff, n_vocab, n_ctx;
    float rope_factor; /* how far Llama 3.1 stretches the slow rotations beyond 8192 tokens */
    bool is_tied;      /* the output head is token_embd */
} synth_shape;

typedef struct synth_mix {
    const char *name;
    tensor_type type;   /* of every matrix, but for:                                                  */
    bool is_mixed;      /* Q6_K for the head and for attn_v and ffn_down of some layers (llama.cpp's _M) */
    uint32_t file_type; /* general.file_type, llama.cpp's llama_ftype                                 */
} synth_mix;

typedef enum synth_kind { SYNTH_MATRIX, SYNTH_NORM, SYNTH_ROPE } synth_kind;

typedef struct synth_tensor {
    char name[32];
    synth_kind kind;
    tensor_type type;
    int64_t n_in, n_out; /* n_out 1 and one dimension unless a matrix */
} synth_tensor;

enum { SYNTH_N_SPECIAL = 256, SYNTH_N_BYTES = 256 };

/** By name. Errors  ARG, the message lists the names. */
galen_status synth_shape_find(const char *name, const synth_shape **out, galen_error *err);
galen_status synth_mix_find(const char *name, const synth_mix **out, galen_error *err);

/** Every tensor of a shape in file order, in the arena. Errors  NOMEM. */
galen_status synth_tensors(arena *a, const synth_shape *shape, const synth_mix *mix, synth_tensor **out, size_t *n,
                           galen_error *err);

/** general.* and llama.* */
galen_status synth_put_metadata(gguf_writer *w, const synth_shape *shape, const synth_mix *mix, galen_error *err);
/** tokenizer.*; scratch is the arena's. */
galen_status synth_put_vocab(gguf_writer *w, arena *a, int32_t n_vocab, galen_error *err);

/** Rows [first, first + n) of tensor number index into out; the same for the same (seed, index, row). */
void synth_rows(const synth_shape *shape, const synth_tensor *t, uint64_t seed, size_t index, int64_t first, int64_t n,
                void *out);

#endif
