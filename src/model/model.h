/* A model file understood: its architecture's row, its shapes checked, its tensors bound into a network. */
#ifndef GALEN_MODEL_MODEL_H
#define GALEN_MODEL_MODEL_H

#include "backend/backend.h"
#include "gguf/gguf.h"

typedef struct model model; /* immutable after open */

/** Understand g, which must outlive the model. n_vocab must be the tokenizer's count.
 *  Errors  UNSUPPORTED architecture (named, with the choices); FORMAT a key or a tensor is missing or has the wrong shape:
 *          "blk.3.attn_q.weight: shape 4096x512, expected 4096x4096"; NOMEM. */
galen_status model_open(model **out, const gguf *g, int32_t n_vocab, galen_error *err);
void model_close(model *m);
const network *model_network(const model *m);
const char *model_arch(const model *m);

#endif
