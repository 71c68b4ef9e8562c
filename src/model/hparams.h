/* Shapes and mechanisms of a network, read from a file's metadata and checked. */
#ifndef GALEN_MODEL_HPARAMS_H
#define GALEN_MODEL_HPARAMS_H

#include "base/arena.h"
#include "gguf/gguf.h"
#include "model/arch.h"

/** Fill every field of *net but the tensors; layers get their window and rope.
 *  Errors  FORMAT a key is missing or its value cannot be (named, with the value); UNSUPPORTED mixture of experts; NOMEM. */
galen_status hparams_read(network *net, const arch *a, const gguf *g, int32_t n_vocab, arena *mem, galen_error *err);

/** The RoPE tables of net->ropes, with the scaling that the file asks for. */
galen_status rope_read(network *net, const arch *a, const gguf *g, arena *mem, galen_error *err);

/** Bind every tensor of the architecture, its shape checked, to *net. Vectors not stored as F32 are converted into mem. */
galen_status tensors_bind(network *net, const arch *a, const gguf *g, arena *mem, galen_error *err);

/** "llama." + name in a buffer of HPARAMS_KEY_BYTES. */
enum { HPARAMS_KEY_BYTES = 96 };
const char *hparams_key(char *buf, const arch *a, const char *name);

#endif
