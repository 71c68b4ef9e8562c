/* galen.h: the inference engine. Models in GGUF on the GPU, the CPU, or both (the GPU's code is a plugin, found when it is
 * there).
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
    X(GALEN_E_REFUSED, -13, "refused")                                                                                           \
    X(GALEN_E_BUSY, -14, "too much is asked at once")

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
typedef struct galen_batcher galen_batcher; /* many timelines of one model; any thread */

/** Called while a model is opened or a prompt is evaluated. done/total in bytes or tokens; false = cancel. */
typedef bool (*galen_progress_fn)(void *user, uint64_t done, uint64_t total);

/** What the engine has to say while it goes on. */
typedef enum galen_notice {
    GALEN_NOTICE_WARNING, /* it fell back: the cause and the remedy; never to be kept from the user */
    GALEN_NOTICE_PLACED,  /* where the model lives now, after falling back in use                   */
    GALEN_NOTICE_DETAIL   /* why no GPU is used on a machine that seems to have none                */
} galen_notice;

/** Called from the thread that opens a model or evaluates; text holds nothing of the user's. */
typedef void (*galen_notice_fn)(void *user, galen_notice kind, const char *text);

enum { GALEN_GPU_LAYERS_AUTO = -1, GALEN_GPU_LAYERS_ALL = 0x7fffffff, GALEN_STREAM_NONE = -1 };

typedef struct galen_model_opts {
    size_t size;        /* sizeof(galen_model_opts)                                          */
    const char *device; /* NULL or "auto": the GPU for as much of the model as fits and helps, else the CPU; "cpu"; "cuda":  *
                         * the GPU or an error; "ref": scalar double precision, the definition   */
    const char *isa;    /* NULL or "auto"; "generic", "avx2", "avx512", "neon" to force one    */
    int32_t n_threads;  /* 0 = as many as there are cores                                      */
    bool is_vocab_only; /* metadata and tokenizer only: no weights are bound, no session opens */
    const char *chat_format; /* NULL = from the file's template; else a name of galen_chat_formats  */
    galen_progress_fn progress;
    void *progress_user;

    /* What the memory plan counts before anything is loaded: n_seqs sessions of these, or a batcher. A larger session may still
     * open, where there is room. */
    int32_t n_ctx;       /* tokens; 0 = the model's own maximum, at most 4096 */
    int32_t n_batch;     /* rows evaluated together; 0 = 512                  */
    int32_t n_seqs;      /* sequences of n_ctx at once; 0 = 1                 */
    const char *kv_type; /* NULL = "f16"; "f32", "q8_0"                       */

    int32_t gpu_layers;    /* GALEN_GPU_LAYERS_AUTO; else the last so many whole layers and the head, as other engines count */
    uint64_t vram_limit;   /* bytes: act as a card of that size; 0 = the card's own */
    int32_t main_gpu;      /* index of the GPU                                      */
    bool is_kv_on_host;    /* attention and KV stay on the host                     */
    bool is_gpu_required;  /* a GPU that cannot be used as planned is an error, never a fall-back */
    bool is_strict;        /* whatever would be a warning is an error               */
    const char *cache_dir; /* folder that keeps measured speeds; NULL = measured whenever they matter */
    galen_notice_fn notice;
    void *notice_user;
    int32_t stream_layers; /* of so many of the host's layers the GPU fetches the feed-forward in every step, while the processor
                            * computes others; 0 = as many as the plan finds best, GALEN_STREAM_NONE */
} galen_model_opts;

GALEN_API galen_model_opts galen_model_default_opts(void);

/** Open a GGUF file (the first of a split set opens all).
 *  Errors  NOT_FOUND no such file; IO unreadable; FORMAT malformed (err->offset says where); UNSUPPORTED architecture,
 *          tokenizer or weight type not known (named); DEVICE the GPU is asked for and unusable (cause and remedy); NOMEM host or
 *          device cannot hold it (needed, free, and choices that would fit). *out is NULL after a failure.
 *  Memory  as galen_plan says; the host's weights stay in the page cache (mmap); Threads  any. */
GALEN_API galen_status galen_model_open(galen_model **out, const char *path, const galen_model_opts *opts, galen_error *err);
GALEN_API void galen_model_close(galen_model *m); /* NULL is fine; close its sessions first */

/** What a model is. Strings live as long as the model. */
typedef struct galen_model_info {
    const char *path, *arch, *name, *type_name; /* type_name: the most frequent weight type, "Q4_K" */
    const char *chat_format;                    /* NULL when the file has no known template          */
    const char *device;                         /* "CPU (avx512, 2 threads)"; NULL when vocab-only    */
    const char *placement;                      /* "GPU 16/32 layers, 3.6 of 4.0 GiB; CPU 16; KV on both"; NULL when vocab-only */
    const char *fell_back;                      /* what the last fall-back said; NULL = there was none */
    int32_t n_gpu_layers;                       /* whole layers on the GPU                            */
    int32_t gpu_percent;                        /* share of the weights on the GPU; 100 = all layers and the head */
    uint64_t gpu_bytes, gpu_all_bytes;          /* as planned: taken, and of how many                 */
    int32_t n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx_train;
    uint64_t n_params, weight_bytes, file_bytes;
    int32_t n_files;
    int32_t n_streamed; /* host layers whose feed-forward the GPU fetches in every step */
} galen_model_info;

GALEN_API galen_model_info galen_model_get_info(const galen_model *m);

/** Bytes a session of n_ctx tokens needs beside the weights. kv_type "f16", "f32" or "q8_0". */
GALEN_API galen_status galen_model_memory(const galen_model *m, int32_t n_ctx, const char *kv_type, uint64_t *kv_bytes,
                                          uint64_t *work_bytes, galen_error *err);

/* ---------------------------------------------------------------- the memory plan */

typedef struct galen_plan galen_plan; /* immutable */

/** What a device is asked for, in bytes. */
typedef struct galen_plan_side {
    uint64_t weights, kv, buffers; /* while it runs                                     */
    uint64_t loading;              /* beside the weights while they load                */
    uint64_t total, peak;          /* while it runs; at the worst moment                */
    uint64_t available;            /* 0 = not known                                     */
    int32_t n_attn, n_ffn;         /* layers whose attention, whose feed-forward is here */
    bool has_head;
} galen_plan_side;

typedef struct galen_plan_info {
    const char *line, *why, *gpu_name; /* gpu_name NULL = no GPU */
    const char *gpu_why;               /* why there is none      */
    int32_t n_layer, n_whole, n_ctx, n_batch, n_threads;
    const char *kv_type;
    galen_plan_side gpu, host;
    int32_t n_crossings;                /* of hidden states in a decode step                           */
    int32_t stream_rows;                /* batches from so many rows on stream the host's part to the GPU; 0 = none */
    double decode_rate, prefill_rate;   /* tokens a second to expect                                   */
    double host_read, gpu_read, upload; /* bytes a second reckoned with                                */
    bool is_measured;                   /* they were measured here                                     */
    bool is_exact;                      /* the plugin's own counting; else the CPU's stands in for it   */
    int32_t n_streamed;                 /* host layers whose feed-forward the GPU fetches in every step     */
} galen_plan_info;

typedef struct galen_plan_opts {
    size_t size;
    const char *card; /* NULL = this machine's; a name of galen_plan_card: one that is not here */
    double card_read; /* > 0: a card of so many bytes a second, of vram_limit bytes, instead   */
} galen_plan_opts;

GALEN_API galen_plan_opts galen_plan_default_opts(void);

/** Plan for a model opened with is_vocab_only or otherwise; nothing is loaded or reserved. m outlives the plan.
 *  Errors  NOMEM it cannot fit (needed, free, choices); ARG; FULL; UNSUPPORTED the file holds no network that is known. */
GALEN_API galen_status galen_plan_make(galen_plan **out, const galen_model *m, const galen_model_opts *opts,
                                       const galen_plan_opts *plan, galen_error *err);
GALEN_API void galen_plan_close(galen_plan *p); /* NULL is fine */
/** Seconds that a prompt of so many tokens and an answer should take. */
GALEN_API double galen_plan_seconds(const galen_plan *p, int32_t n_prompt, int32_t n_answer);
GALEN_API galen_plan_info galen_plan_get_info(const galen_plan *p);

typedef struct galen_plan_tensor {
    const char *name, *type_name;
    int32_t layer; /* -1 = of no layer                       */
    bool is_on_gpu;
    uint64_t bytes; /* there: the file's, or as the GPU keeps them */
} galen_plan_tensor;
GALEN_API bool galen_plan_get_tensor(const galen_plan *p, size_t index, galen_plan_tensor *out); /* false past the end */

/** What one change of the request would do. */
typedef struct galen_plan_choice {
    const char *what, *option; /* "context 2048", "--ctx 2048" ("" = another file) */
    bool fits;                 /* else all below is 0                              */
    int32_t n_whole, n_attn, n_ffn;
    uint64_t gpu_bytes, host_bytes;
    double decode_rate, prefill_rate;
} galen_plan_choice;
GALEN_API bool galen_plan_get_choice(const galen_plan *p, size_t index, galen_plan_choice *out);

/** Cards that can be planned for: name, title, memory. NULL past the end. */
GALEN_API const char *galen_plan_card(size_t index, const char **title, uint64_t *total_bytes);

/* ---------------------------------------------------------------- what a file says */

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
    size_t size;               /* sizeof(galen_session_opts), so later fields can be added     */
    int32_t n_ctx;             /* tokens; 0 = the model's own maximum, at most 4096             */
    int32_t n_batch;           /* rows evaluated together in prefill; 0 = 512                   */
    const char *kv_type;       /* NULL = "f16"; "f32", "q8_0"                                   */
    galen_batcher *batcher;    /* not NULL: evaluate among its requests, in its KV pages; then n_batch and kv_type are its own, *
                                * n_ctx is at most its own (0 = the same) and the session is closed before the batcher      */
    const char *client, *salt; /* with a batcher: as in galen_request_opts; copied */
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
 *          GALEN_E_CANCELLED the progress function said so; the tokens are not appended.
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

/** Called from eval between batches of a long prompt, and on a processor between the layers of a large one, with the same count.
 */
GALEN_API void galen_session_set_progress(galen_session *s, galen_progress_fn fn, void *user);

/* ---------------------------------------------------------------- grammars */

typedef struct galen_grammar galen_grammar; /* compiled for one model; share freely; close it before the model */

typedef enum galen_grammar_kind {
    GALEN_GRAMMAR_GBNF,        /* llama.cpp's notation; the rule "root" is the whole text            */
    GALEN_GRAMMAR_JSON_SCHEMA, /* a JSON Schema; docs/design.md lists what it may say                 */
    GALEN_GRAMMAR_JSON_OBJECT  /* any JSON object; text is ignored                                    */
} galen_grammar_kind;

/** Compile a grammar for the vocabulary of m. text: len bytes of UTF-8, not kept.
 *  Errors  FORMAT malformed (err->offset is the byte; for a schema the message names the JSON pointer); UNSUPPORTED it says
 *          something that cannot be enforced, which is named; RANGE a limit, or it admits nothing or never ends; NOMEM.
 *          *out is NULL after a failure: text is never generated without the constraint.
 *  Threads  any; the first grammar of a model indexes its vocabulary (a tenth of a second at 128k tokens). */
GALEN_API galen_status galen_grammar_open(galen_grammar **out, const galen_model *m, galen_grammar_kind kind, const char *text,
                                          size_t len, galen_error *err);
GALEN_API void galen_grammar_close(galen_grammar *g); /* NULL is fine */

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

/** Biases of one token of a generation. */
typedef struct galen_bias_list {
    const galen_logit_bias *bias;
    size_t n;
} galen_bias_list;

typedef struct galen_generate_opts {
    size_t size;
    galen_sampling sampling;
    int32_t max_tokens;      /* -1 = until the context is full */
    const char *const *stop; /* never part of the output; empty strings are an error */
    size_t n_stop;
    int32_t n_top_logprobs; /* -1 = no log-probabilities at all (logprob is NaN); 0..20 */
    galen_chunk_fn on_chunk;
    void *user;
    const galen_grammar *grammar; /* NULL = none. The text is in its language, or cut by a limit or a stop string */
    const galen_bias_list *first; /* [n_first] of its first tokens, one after another, in place of sampling.bias */
    size_t n_first;
} galen_generate_opts;

GALEN_API galen_generate_opts galen_generate_default_opts(void);

typedef struct galen_result {
    galen_finish finish;
    int32_t n_prompt, n_generated;
    double prefill_s, decode_s; /* seconds */
} galen_result;

/** Evaluate a prompt (n_prompt >= 1 tokens, appended to the session), then sample until a stop.
 *  Errors  FULL the prompt does not fit (both counts in err); NUMERIC; DEVICE; ARG; REFUSED no token of the vocabulary fits the
 *          grammar. What was generated stays in the session. */
GALEN_API galen_status galen_generate(galen_session *s, const int32_t *prompt, int32_t n_prompt, const galen_generate_opts *opts,
                                      galen_result *result, galen_error *err);

/* ---------------------------------------------------------------- branches
 * Many short continuations of what a session holds, evaluated together: one pass over the weights for all of them. They share the
 * session's KV, and their own lies in that part of its context which is not in use: as many at once as fit there, the others
 * after them. What comes of a branch does not depend on the others on the CPU and in a session of a batcher. The session holds
 * the same tokens afterwards. Errors   ARG an argument (named); RANGE a token id; FULL the session, the branch and what is to
 * come are over n_ctx (counts in err); NUMERIC; CANCELLED by the session's progress function, which counts tokens; NOMEM; DEVICE
 * as galen_session_eval. The session is unchanged but for DEVICE; results that were written are right. */

/** A branch that is read. */
typedef struct galen_branch {
    const int32_t *tokens; /* [n_tokens], n_tokens >= 1, after those of the session */
    int32_t n_tokens;
    const int32_t *after; /* [n_wanted] rising or equal, each in [0, n_tokens)                                            */
    const int32_t *ids;   /* [n_wanted] how likely is this token after tokens[0] to tokens[after[i]]?                     */
    double *logprobs;     /* [n_wanted] out: natural logs, over the whole vocabulary, of unmasked and unscaled logits     */
    int32_t n_wanted;
} galen_branch;

/** Read branches. Nothing is sampled. */
GALEN_API galen_status galen_session_read(galen_session *s, const galen_branch *branches, int32_t n_branches, galen_error *err);

/** A branch that is written on. */
typedef struct galen_draft {
    const int32_t *tokens; /* [n_tokens], n_tokens >= 1, after those of the session */
    int32_t n_tokens;
    const galen_generate_opts *opts; /* each with a seed of its own; a grammar's forced tokens are evaluated one by one */
    galen_result result;             /* out; the seconds are those of all drafts together */
} galen_draft;

/** Generate after each of them, as galen_generate would after the session's tokens and the draft's: the same tokens on the CPU.
 *  on_chunk may be called from a thread of the batcher's while this call waits; never two calls at a time. A draft whose on_chunk
 *  wants no more ends; the others go on. */
GALEN_API galen_status galen_session_draft(galen_session *s, galen_draft *drafts, int32_t n_drafts, galen_error *err);

/* ---------------------------------------------------------------- many sequences */

/* A batcher evaluates many requests together: one thread of its own takes a step after another, a step being one pass of the
 * model over rows of any mix of requests. Requests join and leave at every step; a long prompt is taken in pieces beside the
 * others' tokens. KV memory is cut into pages of 64 positions: a full page is shared by all requests whose prompts begin alike
 * (under the same salt) and stays, unused, until its memory is needed. When pages run out, the request that came last gives its
 * own back and is computed again later: it takes longer, nothing fails.
 * On the CPU what a request yields is the same bytes as alone in a session, whatever runs beside it and however it is cut.
 *
 * Callbacks run on the batcher's thread between steps: they must return at once (queue, do not write to a socket) and must not
 * call galen_batcher_drain or _close or a session of the batcher; _submit, _cancel and _get_stats are fine. */
typedef struct galen_batcher_opts {
    size_t size;
    int32_t n_ctx;         /* tokens a request may reach; 0 = the model's own maximum, at most 4096          */
    int64_t kv_tokens;     /* positions of KV memory in all, >= n_ctx, rounded up to pages; 0 = 8 * n_ctx    */
    int32_t max_seqs;      /* requests that run at once; 0 = 32                                              */
    int32_t max_queue;     /* requests that wait for that; one more is refused with BUSY; 0 = 256            */
    int32_t n_batch;       /* rows of a step, at least max_seqs; 0 = 512 with a GPU, else 128               */
    int32_t n_chunk;       /* prompt rows of a step in which others generate; 0 = n_batch / 4, at least 64   */
    const char *kv_type;   /* NULL = "f16"; "f32", "q8_0"                                                    */
    bool has_prefix_cache; /* default true: pages of prompts are kept and shared                             */
} galen_batcher_opts;

GALEN_API galen_batcher_opts galen_batcher_default_opts(void);

/** Reserve everything and start the thread. m outlives the batcher.
 *  Errors  ARG; FULL n_ctx is over the model's own; NOMEM; DEVICE. *out is NULL after a failure. */
GALEN_API galen_status galen_batcher_open(galen_batcher **out, const galen_model *m, const galen_batcher_opts *opts,
                                          galen_error *err);

/** Refuse what is submitted from now on (BUSY) and wait until every request has ended, timeout_ms at most (-1 = for ever).
 *  Errors  CANCELLED the time is over and some still run. */
GALEN_API galen_status galen_batcher_drain(galen_batcher *b, int64_t timeout_ms, galen_error *err);

/** Cancel what still runs or waits (their on_end is called), stop the thread, free all. NULL is fine. */
GALEN_API void galen_batcher_close(galen_batcher *b);

typedef enum galen_pooling { GALEN_POOL_NONE, GALEN_POOL_MEAN, GALEN_POOL_LAST } galen_pooling;

/* What a request used, and when. Times in seconds since it was submitted, 0 = never reached. */
typedef struct galen_usage {
    int32_t n_prompt, n_cached; /* prompt tokens; those found in shared pages, not computed */
    int32_t n_generated, n_preempted;
    double start_s;       /* its first row was in a step */
    double prompt_s;      /* the whole prompt was evaluated */
    double first_token_s; /* its first token was sampled    */
    double end_s;
} galen_usage;

/* How a request ended; lives during the callback. */
typedef struct galen_end {
    uint64_t id;
    galen_status status;      /* OK with any finish but CANCELLED and ERROR                                         */
    const galen_error *error; /* never NULL. CANCELLED: cancelled, or the time was over (the message says which);   *
                               * NUMERIC; DEVICE: the batcher can only be closed, then opened again; NOMEM          */
    galen_finish finish;
    galen_usage usage;
    const float *label_logprobs; /* [n_labels] natural logs over the whole vocabulary, after the prompt; else NULL */
    const float *embedding;      /* f32 [n_embd] of length 1 with pooling; else NULL                                */
} galen_end;

typedef void (*galen_end_fn)(void *user, const galen_end *end);

/* Everything pointed to is copied by submit. */
typedef struct galen_request_opts {
    size_t size;
    const int32_t *prompt; /* [n_prompt], n_prompt >= 1 */
    int32_t n_prompt;
    galen_generate_opts generate; /* max_tokens 0 = the prompt is only evaluated. on_chunk has generate.user         */
    int32_t score_from;           /* on_score is called for the prompt's tokens from this index on; -1 (default) = none. *
                                   * n_top_logprobs as in generate. Token 0 follows nothing: its logprob is NaN         */
    galen_chunk_fn on_score;      /* in order, before any on_chunk; text is empty; false = stop                         */
    const int32_t *labels;        /* [n_labels] tokens whose log-probability after the prompt is wanted                 */
    int32_t n_labels;
    galen_pooling pooling; /* of the final hidden states (normed) of the prompt: their mean, or the last; default none  */
    int64_t timeout_ms;    /* since submit; 0 = none */
    const char *client;    /* requests take turns by client; NULL = ""                                                  */
    const char *salt;      /* pages are shared among equal salts only, so nobody learns of another's prompt by its speed; *
                            * NULL = ""                                                                                  */
    galen_end_fn on_end;   /* called exactly once for each submitted request, as its last callback                      */
    void *user;            /* of on_score and on_end */
} galen_request_opts;

GALEN_API galen_request_opts galen_request_default_opts(void);

/** Queue a request. *id (never 0, not used again) is written before its first callback, which may come before this returns.
 *  Errors  ARG an option (named); RANGE a token id; FULL the prompt leaves no room in n_ctx (both counts in err);
 *          BUSY the queue is full, or the batcher is draining; NOMEM; DEVICE it failed earlier. No callback comes then. */
GALEN_API galen_status galen_batcher_submit(galen_batcher *b, const galen_request_opts *opts, uint64_t *id, galen_error *err);

/** End a request before its next step; its on_end says CANCELLED. One that has ended already is left alone. */
GALEN_API void galen_batcher_cancel(galen_batcher *b, uint64_t id);

typedef struct galen_batcher_stats {
    size_t size; /* set it before the call */
    int32_t n_waiting, n_running, n_sessions;
    int32_t n_pages, n_pages_used, n_pages_cached; /* used: held by requests and sessions; cached: by nobody, but kept */
    uint64_t n_steps, n_prompt_tokens, n_cached_tokens, n_generated_tokens; /* evaluated; found in shared pages; sampled */
    uint64_t n_requests, n_refused, n_cancelled, n_errors, n_preemptions, n_evictions;
    double tokens_per_s; /* generated, over the last ten seconds of work     */
    double expected_s;   /* until a request submitted now begins; for Retry-After */
    double last_step_s;  /* seconds since a step ended, or since there was work; 0 = idle: a watchdog's measure */
    bool is_failed;      /* the device failed: only close is legal */
    bool is_draining;
} galen_batcher_stats;

GALEN_API void galen_batcher_get_stats(const galen_batcher *b, galen_batcher_stats *out);

/* ---------------------------------------------------------------- devices */

enum { GALEN_MAX_GPUS = 16 };

typedef struct galen_gpu {
    char name[128];
    int32_t compute;                  /* 90 = capability 9.0                                    */
    uint64_t free_bytes, total_bytes; /* of device memory; free: what this process could take now */
    bool is_usable;
    char why[256]; /* it is not usable: the cause and the remedy */
} galen_gpu;

/** The GPU plugin and the cards it sees. */
typedef struct galen_gpu_report {
    galen_status plugin;     /* OK it is loaded; NOT_FOUND there is none; UNSUPPORTED made from other source; else it is broken */
    char plugin_why[512];    /* when not OK */
    char archs[64];          /* compute capabilities it holds machine code for, "75 80 86" */
    int32_t runtime, driver; /* CUDA versions, 13000 = 13.0: built with, and the newest that the driver runs; 0 = not told */
    int32_t n_gpus;
    char why[512]; /* no card can be used: the cause and the remedy */
    galen_gpu gpus[GALEN_MAX_GPUS];
} galen_gpu_report;

/** Load the plugin, ask it, unload it. Never fails: what is wrong is in the report. Threads  any. */
GALEN_API void galen_gpu_look(galen_gpu_report *out);

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
