/* galen.h: the inference engine. Models in GGUF on the CPU (the GPU arrives as a plugin behind the same calls).
 *
 * A galen_model is opened once and shared; a galen_session is one timeline of tokens over it.
 * Every call that can fail returns a galen_status and, when err is not NULL, says why in err->msg.
 * Strings are UTF-8. Nothing here prints, exits or touches the network. */
#ifndef GALEN_GALEN_H
#define GALEN_GALEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(GALEN_BUILD)
#define GALEN_API __attribute__((visibility("default")))
#else
#define GALEN_API
#endif

/* One table: name, value, what it means. */
#define GALEN_STATUS_TABLE(X)                                                                                                    \
    X(GALEN_OK, 0, "success")                                                                                                    \
    X(GALEN_E_FAIL, -1, "failed")                                                                                                \
    X(GALEN_E_ARG, -2, "invalid argument")                                                                                       \
    X(GALEN_E_FORMAT, -3, "malformed input")                                                                                     \
    X(GALEN_E_RANGE, -4, "value out of range")                                                                                   \
    X(GALEN_E_NOMEM, -5, "out of memory")                                                                                        \
    X(GALEN_E_IO, -6, "input or output failed")                                                                                  \
    X(GALEN_E_FULL, -7, "over the context limit")                                                                                \
    X(GALEN_E_DEVICE, -8, "device failed or unusable")                                                                           \
    X(GALEN_E_UNSUPPORTED, -9, "not supported")                                                                                  \
    X(GALEN_E_NOT_FOUND, -10, "not found")                                                                                       \
    X(GALEN_E_NUMERIC, -11, "a value is not a number")                                                                           \
    X(GALEN_E_CANCELLED, -12, "cancelled")                                                                                       \
    X(GALEN_E_REFUSED, -13, "refused")

typedef enum galen_status {
#define X(name, value, text) name = value,
    GALEN_STATUS_TABLE(X)
#undef X
} galen_status;

#define GALEN_ERROR_MSG_BYTES 512

/** Why a call failed. offset is a byte offset in the input where that makes sense, else 0. */
typedef struct galen_error {
    galen_status code;
    uint64_t offset;
    char msg[GALEN_ERROR_MSG_BYTES]; /* NUL-terminated, never user text */
} galen_error;

/** "malformed input" for GALEN_E_FORMAT; never NULL, static. */
GALEN_API const char *galen_status_text(galen_status st);

/** "0.1.0 (commit 1a2b3c4, gcc 12.2.0)"; static. */
GALEN_API const char *galen_version(void);

/* ---------------------------------------------------------------- model */

typedef struct galen_model galen_model;     /* immutable after open; share freely   */
typedef struct galen_session galen_session; /* one timeline; one thread at a time   */

/** Called while a model is opened or a prompt is evaluated. done/total in bytes or tokens; false = cancel. */
typedef bool (*galen_progress_fn)(void *user, uint64_t done, uint64_t total);

typedef struct galen_model_opts {
    size_t size;             /* sizeof(galen_model_opts)                                          */
    const char *device;      /* "cpu" (default); "cuda": the whole model on the GPU, with the plugin beside the library;      *
                              * "ref": scalar double precision, the definition                        */
    const char *isa;         /* NULL or "auto"; "generic", "avx2", "avx512", "neon" to force one    */
    int32_t n_threads;       /* 0 = as many as there are cores                                      */
    bool is_vocab_only;      /* metadata and tokenizer only: no weights are bound, no session opens */
    const char *chat_format; /* NULL = from the file's template; else a name of galen_chat_formats  */
    galen_progress_fn progress;
    void *progress_user;
} galen_model_opts;

GALEN_API galen_model_opts galen_model_default_opts(void);

/** Open a GGUF file (the first of a split set opens all).
 *  Errors  NOT_FOUND no such file; IO unreadable; FORMAT malformed (err->offset says where); UNSUPPORTED architecture,
 *          tokenizer or weight type not known (named); NOMEM. *out is NULL after a failure.
 *  Memory  weights stay in the page cache (mmap); Threads  any. */
GALEN_API galen_status galen_model_open(galen_model **out, const char *path, const galen_model_opts *opts, galen_error *err);
GALEN_API void galen_model_close(galen_model *m); /* NULL is fine; close its sessions first */

/** What a model is. Strings live as long as the model. */
typedef struct galen_model_info {
    const char *path, *arch, *name, *type_name; /* type_name: the most frequent weight type, "Q4_K" */
    const char *chat_format;                    /* NULL when the file has no known template          */
    const char *device;                         /* "CPU (avx512, 2 threads)"; NULL when vocab-only    */
    int32_t n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx_train;
    uint64_t n_params, weight_bytes, file_bytes;
    int32_t n_files;
} galen_model_info;

GALEN_API galen_model_info galen_model_get_info(const galen_model *m);

/** Bytes a session of n_ctx tokens needs beside the weights. kv_type "f16", "f32" or "q8_0". */
GALEN_API galen_status galen_model_memory(const galen_model *m, int32_t n_ctx, const char *kv_type, uint64_t *kv_bytes,
                                          uint64_t *work_bytes, galen_error *err);

/** Metadata pairs in file order. value_text is cut to cap bytes at a character; arrays show their first elements.
 *  Returns false when index is past the end. type is "u32", "str", "arr[str, 128256]"...; key lives with the model. */
GALEN_API bool galen_model_meta(const galen_model *m, size_t index, const char **key, char *type, size_t type_cap,
                                char *value_text, size_t value_cap);

typedef struct galen_tensor_info {
    const char *name, *type_name;
    int32_t n_dims;
    uint64_t dims[4]; /* dims[0] is the row length */
    uint64_t bytes;
} galen_tensor_info;
GALEN_API bool galen_model_tensor(const galen_model *m, size_t index, galen_tensor_info *out);

/* ---------------------------------------------------------------- tokens */

typedef struct galen_tokens {
    int32_t *ids;
    size_t n;
} galen_tokens;
GALEN_API void galen_tokens_free(galen_tokens *t); /* frees ids, zeroes *t */

/** Text to ids. Any bytes are accepted; invalid UTF-8 is tokenised byte for byte.
 *  add_special  put BOS / EOS where the model's metadata asks for them.
 *  parse_special  text such as "<|eot_id|>" becomes that token; false = it stays plain text.
 *  Memory  out->ids is malloc'ed; free with galen_tokens_free. */
GALEN_API galen_status galen_tokenize(const galen_model *m, const char *text, size_t len, bool add_special, bool parse_special,
                                      galen_tokens *out, galen_error *err);

/** Bytes of one token, not NUL-terminated, perhaps a part of a character. Control tokens give no bytes unless
 *  render_special. Returns the length, also when it exceeds cap (then nothing is written); -1 for an id out of range. */
GALEN_API int32_t galen_token_bytes(const galen_model *m, int32_t id, bool render_special, char *buf, size_t cap);
GALEN_API bool galen_token_is_end(const galen_model *m, int32_t id); /* ends a turn or the text */

typedef struct galen_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* never parsed for special tokens */
    size_t content_len;
} galen_message;

/** Messages to ids in the model's chat format, open for the assistant's next words.
 *  Errors  UNSUPPORTED no format known (the message lists the choices); ARG unknown role or order. */
GALEN_API galen_status galen_chat_tokens(const galen_model *m, const galen_message *messages, size_t n, galen_tokens *out,
                                         galen_error *err);

/** Name number index of the chat formats known; NULL past the end. */
GALEN_API const char *galen_chat_format_name(size_t index);

/* ---------------------------------------------------------------- session */

typedef struct galen_session_opts {
    size_t size;         /* sizeof(galen_session_opts), so later fields can be added     */
    int32_t n_ctx;       /* tokens; 0 = the model's own maximum, at most 4096             */
    int32_t n_batch;     /* rows evaluated together in prefill; 0 = 512                   */
    const char *kv_type; /* NULL = "f16"; "f32", "q8_0"                                   */
} galen_session_opts;

GALEN_API galen_session_opts galen_session_default_opts(void);
GALEN_API galen_status galen_session_open(galen_session **out, const galen_model *m, const galen_session_opts *opts,
                                          galen_error *err);
GALEN_API void galen_session_close(galen_session *s);

/** Evaluate tokens, appending them to the session.
 *  tokens  n_tokens ids, each in [0, n_vocab); read, not kept.
 *  logits  out, f32 [n_vocab] for the last token; NULL to skip.
 *  Errors  GALEN_E_RANGE  an id is out of range; session unchanged.
 *          GALEN_E_FULL   n_past + n_tokens > n_ctx; session unchanged.
 *          GALEN_E_NUMERIC a logit is NaN; the tokens are not appended.
 *          GALEN_E_DEVICE the backend failed; only galen_session_close is legal.
 *  Memory  allocates nothing.  Threads  one caller per session. */
GALEN_API galen_status galen_session_eval(galen_session *s, const int32_t *tokens, int32_t n_tokens, float *logits,
                                          galen_error *err);

/** As galen_session_eval, with the logits after every token: logits f32 [n_tokens][n_vocab]. */
GALEN_API galen_status galen_session_eval_all(galen_session *s, const int32_t *tokens, int32_t n_tokens, float *logits,
                                              galen_error *err);

/** Forget everything after the first n_past tokens. Errors  RANGE n_past > the session's; unchanged. */
GALEN_API galen_status galen_session_rewind(galen_session *s, int32_t n_past, galen_error *err);
GALEN_API int32_t galen_session_n_past(const galen_session *s);
GALEN_API int32_t galen_session_n_ctx(const galen_session *s);

/** Called from eval between batches of a long prompt. */
GALEN_API void galen_session_set_progress(galen_session *s, galen_progress_fn fn, void *user);

/* ---------------------------------------------------------------- generation */

typedef struct galen_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids the token */
} galen_logit_bias;

typedef struct galen_sampling {
    size_t size;
    float temperature;       /* 0 = greedy: the largest logit, the lowest id on a tie                    */
    int32_t top_k;           /* 0 = off                                                                   */
    float top_p;             /* 1 = off                                                                   */
    float min_p;             /* 0 = off                                                                   */
    float repeat_penalty;    /* 1 = off; divides positive and multiplies negative logits             */
    float presence_penalty;  /* 0 = off */
    float frequency_penalty; /* 0 = off */
    int32_t penalty_last_n;  /* tokens looked back at, prompt included; 0 = none, -1 = whole context */
    uint64_t seed;           /* 0 is a seed like any other, never "random"                           */
    const galen_logit_bias *bias;
    size_t n_bias;
} galen_sampling;

GALEN_API galen_sampling galen_sampling_default(void); /* 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalties, last 64, seed 0 */

/** One token of a generation, or the last call (is_last) that flushes held text. text is valid UTF-8. */
typedef struct galen_chunk {
    const char *text; /* bytes released by this token: stop strings and cut characters are held back */
    size_t text_len;
    int32_t id;                /* -1 on the last call  */
    float logprob;             /* natural log, over the unmasked, unscaled logits */
    const int32_t *top_ids;    /* [n_top] most likely first */
    const float *top_logprobs; /* [n_top] */
    int32_t n_top;
    bool is_last;
} galen_chunk;

/** false = stop after this token (finish "cancelled"). */
typedef bool (*galen_chunk_fn)(void *user, const galen_chunk *chunk);

typedef enum galen_finish { GALEN_FINISH_STOP, GALEN_FINISH_LENGTH, GALEN_FINISH_CANCELLED, GALEN_FINISH_ERROR } galen_finish;

typedef struct galen_generate_opts {
    size_t size;
    galen_sampling sampling;
    int32_t max_tokens;      /* -1 = until the context is full */
    const char *const *stop; /* never part of the output; empty strings are an error */
    size_t n_stop;
    int32_t n_top_logprobs; /* -1 = no log-probabilities at all (logprob is NaN); 0..20 */
    galen_chunk_fn on_chunk;
    void *user;
} galen_generate_opts;

GALEN_API galen_generate_opts galen_generate_default_opts(void);

typedef struct galen_result {
    galen_finish finish;
    int32_t n_prompt, n_generated;
    double prefill_s, decode_s; /* seconds */
} galen_result;

/** Evaluate a prompt (n_prompt >= 1 tokens, appended to the session), then sample until a stop.
 *  Errors  FULL the prompt does not fit (both counts in err); NUMERIC; DEVICE; ARG. What was generated stays in the session. */
GALEN_API galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *opts,
                                      galen_result *result, galen_error *err);

/* ---------------------------------------------------------------- synthetic models */

typedef struct galen_synth_opts {
    size_t size;
    const char *shape; /* "tiny", "llama-1b", "llama-8b" */
    const char *type;  /* "f32" ... "q8_0", "q4_k_m" ... */
    uint64_t seed;
    galen_progress_fn progress;
    void *progress_user;
} galen_synth_opts;

GALEN_API galen_synth_opts galen_synth_default_opts(void);

/** Write random weights in a real shape, with a working byte-level BPE tokenizer, for benchmarks and tests.
 *  Same options, same bytes. Memory  bounded by one tensor row group, whatever the size of the file. */
GALEN_API galen_status galen_synth(const char *path, const galen_synth_opts *opts, galen_error *err);

#ifdef __cplusplus
}
#endif
#endif
