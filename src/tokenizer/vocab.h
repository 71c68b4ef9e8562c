/* The vocabulary of a GGUF file: token texts that stay in the file, a hash from text to id, kinds and special ids. */
#ifndef GALEN_TOKENIZER_VOCAB_H
#define GALEN_TOKENIZER_VOCAB_H

#include "base/arena.h"
#include "gguf/gguf.h"

/** tokenizer.ggml.token_type, as numbered in the file (gguf-py constants.py, TokenType). */
typedef enum token_kind {
    TOKEN_UNDEFINED = 0, /* treated as normal text                                     */
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,      /* stands for text the vocabulary lacks                     */
    TOKEN_CONTROL = 3,      /* matched in trusted text only, gives no text              */
    TOKEN_USER_DEFINED = 4, /* matched in any text, before all else                     */
    TOKEN_UNUSED = 5,       /* treated as normal text                                   */
    TOKEN_BYTE = 6          /* "<0x0A>": one byte                                       */
} token_kind;

typedef struct vocab_token {
    const char *p; /* in the file */
    uint32_t n;
    uint32_t rank; /* SentencePiece: the score as a rank, best first */
    uint8_t kind;
    uint8_t byte;      /* of a TOKEN_BYTE                                                          */
    bool is_end;       /* ends a turn or the text                                                  */
    bool is_stripping; /* white space after it is dropped when it is parsed as a special token     */
} vocab_token;

typedef struct vocab_slot {
    uint32_t hash;
    int32_t id; /* + 1; 0 = empty */
} vocab_slot;

enum { VOCAB_NONE = -1 };

typedef enum vocab_model { VOCAB_SPM, VOCAB_BPE } vocab_model;

/* Immutable after vocab_load. Symbols are ids too: the tokens, and after them texts that merges name and no token has. */
typedef struct vocab {
    vocab_model model;
    vocab_token *tokens; /* [n_symbols] */
    int32_t n_tokens, n_symbols, cap_symbols;
    uint32_t max_len;  /* bytes of the longest token that text can become */
    vocab_slot *slots; /* power of two, at most half full */
    size_t n_slots;
    int32_t bos, eos, unk;  /* VOCAB_NONE = none */
    int32_t byte_ids[256];  /* the token that stands for a byte, VOCAB_NONE = none */
    int32_t byte_syms[256]; /* BPE: the symbol a byte begins as */
    bool add_bos, add_eos, add_space;
} vocab;

/** Fill v from tokenizer.ggml.* of g; memory from mem. Errors  FORMAT, NOMEM. */
galen_status vocab_load(vocab *v, arena *mem, const gguf *g, vocab_model model, bool add_bos, galen_error *err);

/** The id of the symbol with this text; the lowest when several have it; VOCAB_NONE. */
int32_t vocab_find(const vocab *v, const char *p, size_t n);

/** As vocab_find, but only tokens that ordinary text may become: never control, unknown or byte tokens. */
int32_t vocab_find_text(const vocab *v, const char *p, size_t n);

/** The id of a text, added behind the tokens when it is new; VOCAB_NONE when memory is out. p must outlive v. */
int32_t vocab_intern(vocab *v, arena *mem, const char *p, size_t n);

/** The text of a byte in byte-level BPE vocabularies, 1 or 2 bytes of UTF-8; returns the length. */
size_t vocab_byte_text(uint8_t byte, char out[2]);

/** The byte that a character stands for there; -1 when it stands for none. */
int vocab_text_byte(uint32_t cp);

/** A text from a file made fit for a message: cut, and anything but printable ASCII replaced. Returns buf. */
enum { VOCAB_SHOWN_BYTES = 48 };
const char *vocab_shown(char buf[VOCAB_SHOWN_BYTES], gguf_str s);

static inline bool vocab_is_text(const vocab_token *t) {
    return t->kind != TOKEN_CONTROL && t->kind != TOKEN_UNKNOWN && t->kind != TOKEN_BYTE;
}

#endif
