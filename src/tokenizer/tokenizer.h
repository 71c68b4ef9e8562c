/* Text to token ids and back: SentencePiece ("llama") and byte-level BPE ("gpt2") as GGUF files describe them.
 * A tokenizer is immutable after open and may be shared by threads; nothing here does I/O. */
#ifndef GALEN_TOKENIZER_TOKENIZER_H
#define GALEN_TOKENIZER_TOKENIZER_H

#include "gguf/gguf.h"

typedef struct tokenizer tokenizer;

/** From tokenizer.ggml.* of g, which must outlive it.
 *  Errors  UNSUPPORTED tokenizer model or pre-tokenizer not known (named, with the choices); FORMAT arrays of different
 *          lengths, ids out of range, bad byte tokens (named); NOMEM. */
galen_status tokenizer_open(tokenizer **out, const gguf *g, galen_error *err);
void tokenizer_close(tokenizer *t);

/** A run of text. Only in trusted text (our own chat templates) do special tokens' texts become those tokens. */
typedef struct text_piece {
    const char *text;
    size_t len;
    bool is_trusted;
} text_piece;

/** The pieces, joined, as ids. Any bytes are accepted; time is linear (at most n log n) in the length.
 *  add_special puts BOS / EOS where the metadata asks for them (not doubled when a trusted text begins with BOS).
 *  Errors  NOMEM; RANGE more than INT32_MAX tokens. out->ids is malloc'ed, free with galen_tokens_free. */
galen_status tokenizer_encode(const tokenizer *t, const text_piece *pieces, size_t n_pieces, bool add_special, galen_tokens *out,
                              galen_error *err);

/** Bytes of one token, not NUL-terminated; as galen_token_bytes. */
int32_t tokenizer_bytes(const tokenizer *t, int32_t id, bool render_special, char *buf, size_t cap);

int32_t tokenizer_n_vocab(const tokenizer *t);
int32_t tokenizer_bos(const tokenizer *t); /* -1 = none */
int32_t tokenizer_eos(const tokenizer *t);
bool tokenizer_is_end(const tokenizer *t, int32_t id); /* EOS, EOT, <|im_end|>, <end_of_turn>, ... */
/** SentencePiece puts a space before the first word, which decoding of a whole text drops again. */
bool tokenizer_adds_space(const tokenizer *t);

#endif
