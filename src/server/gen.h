/* A request for text: sampling as the body asks, n choices as n sequences of the batcher, their tokens gathered or streamed. */
#ifndef GALEN_SERVER_GEN_H
#define GALEN_SERVER_GEN_H

#include "server/fields.h"
#include "server/shelf.h"

#define GEN_MAX_CHOICES 16
#define GEN_MAX_STOPS   16
#define GEN_MAX_BIASES  1024

typedef struct gen gen;

typedef struct gen_choice {
    gen *g;
    int index;
    uint64_t id;        /* of the batcher; 0: not submitted, or over */
    const char *prefix; /* written before the text: completions' echo */
    bytes text;
    json_t *logprobs;   /* array of one object a token, as the endpoint wants them; NULL: none wanted */
    size_t text_offset; /* of the next token, in bytes: completions */
    bool has_begun;     /* a stream's first event was sent */
    galen_finish finish;
    galen_status status;
    galen_usage usage;
    uint64_t last_token_ns;
} gen_choice;

/* What differs between endpoints. Called on the batcher's thread. */
typedef struct gen_shape {
    /** A token's entry in the choice's logprobs; NULL: no memory. */
    json_t *(*logprob)(gen_choice *c, const galen_chunk *chunk);
    /** An event with the text since the last one. */
    bool (*event)(gen_choice *c, const char *text, size_t n, json_t *logprobs, const char *finish);
    /** The whole answer. */
    json_t *(*answer)(gen *g);
} gen_shape;

struct gen {
    exchange *x;
    book *b;
    const gen_shape *shape;
    const char *kind; /* "cmpl-", "chatcmpl-" */
    char id[48];
    int64_t created;
    json_t *body;
    galen_tokens prompt;
    galen_generate_opts o;
    galen_grammar *grammar, *call_grammar; /* of the text; of a call of a tool */
    galen_logit_bias *biases;
    const char *stops[GEN_MAX_STOPS];
    bool is_stream, has_usage, has_logprobs;
    int n_choices;
    gen_choice choices[GEN_MAX_CHOICES];
    bool is_call; /* chat: the text is a call of a tool */
    void *extra;  /* the endpoint's own */
    void (*free_extra)(void *extra);

    uint64_t first_id; /* the request before the choices, when there is one */
    galen_tokens first_prompt;
    void (*decide)(gen *g, const float *logprobs);

    pthread_mutex_t lock; /* guards n_left and the choices' ids against the client's leaving */
    int n_left;
    bool is_cancelled, is_failed, is_refused; /* refused: before its stream began */
    galen_error error;
    bool is_taken; /* b is held */
};

/** The request's body, model and sampling. NULL: answered or waiting. known: the endpoint's own fields beside the common ones. */
gen *gen_open(exchange *x, const gen_shape *shape, const char *id_prefix, const field_row *known);
/** Sampling, stops, grammar, n, stream. default_max: max_tokens when it is not given. False: answered. */
bool gen_read(gen *g, fields *f, int64_t default_max);
/** Compile; the constraint of all choices. False: answered. */
bool gen_constrain(gen *g, galen_grammar_kind kind, const char *text, size_t n, const char *field);
bool gen_compile(gen *g, galen_grammar_kind kind, const char *text, size_t n, const char *field, galen_grammar **out);
/** Hand the choices to the batcher and the exchange over to its callbacks; g is the exchange's from here on. */
void gen_start(gen *g);
/** As gen_start, but first the n_labels tokens are weighed after `prompt` (taken over); decide(g, logprobs) then may change g
 *  before its choices begin. */
void gen_start_after(gen *g, galen_tokens *prompt, const int32_t *labels, int32_t n_labels,
                     void (*decide)(gen *g, const float *logprobs));
void gen_free(void *g);
/** Answered: free g and give the model back. */
void gen_abandon(gen *g);

json_t *gen_usage_json(const gen *g);
json_t *gen_timings_json(const gen *g);
const char *gen_finish_name(galen_finish f);
/** Bytes of a token as text (invalid bytes become U+FFFD) and as an array of numbers. */
json_t *gen_token_text(const gen *g, int32_t id);
json_t *gen_token_bytes(const gen *g, int32_t id);
/** 24 random letters behind prefix. */
void gen_make_id(const char *prefix, char *out, size_t cap);
json_t *gen_text_json(const char *s, size_t n); /* ill-formed UTF-8 becomes U+FFFD */
json_t *gen_number(double v);                   /* what JSON cannot say becomes null */

#endif
