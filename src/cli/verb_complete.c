/* galen complete: a text continued. */
#include <stdlib.h>

#include "cli/history.h"
#include "cli/options.h"
#include "cli/stream.h"

#define DEFAULT_N_PREDICT 128
#define DEFAULT_N_GRAMMAR 512 /* a text that ends by itself */

typedef struct completion {
    galen_model *m;
    galen_session *s;
    galen_tokens prompt;
    galen_logit_bias *bias;
    galen_grammar *grammar;
    galen_generate_opts o;
    galen_result r;
    stream out;
} completion;

static cli_exit prepare(cli *c, completion *k, const text_buf *text) {
    galen_error err = {0};
    const cli_args *a = &c->args;
    k->o = galen_generate_default_opts();
    cli_exit st = engine_sampling(c, galen_model_get_info(k->m).n_vocab, &k->o.sampling, &k->bias);
    if (!st) st = grammar_open(c, k->m, &k->grammar);
    if (st) return st;
    k->o.grammar = k->grammar;
    k->o.max_tokens = k->grammar ? DEFAULT_N_GRAMMAR : DEFAULT_N_PREDICT;
    if (option_given(a, "n-predict")) k->o.max_tokens = (int32_t)a->n_predict;
    k->o.stop = a->stop.items;
    k->o.n_stop = a->stop.n;
    if (option_given(a, "logprobs")) k->o.n_top_logprobs = (int32_t)a->logprobs;
    k->o.on_chunk = stream_chunk;
    k->o.user = &k->out;
    k->out = (stream){.c = c, .model = k->m, .is_written = !a->json};
    if (option_given(a, "logprobs") && a->json) {
        k->out.tokens = json_array();
        if (!k->out.tokens) k->out.is_nomem = true;
    }
    if (galen_tokenize(k->m, text->bytes, text->n, !a->no_bos, a->parse_special, &k->prompt, &err))
        return engine_fail(c, PHASE_USE, &err);
    if (k->prompt.n == 0) {
        term_error(c, "complete: the prompt makes no token, and this model puts none before a text");
        return CLI_USAGE;
    }
    if (k->prompt.n > INT32_MAX) {
        term_error(c, "the prompt has %zu tokens, over any context", k->prompt.n);
        return CLI_CONTEXT;
    }
    return CLI_DONE;
}

static json_t *json_completion(cli *c, const completion *k) {
    json_t *root = json_begin(c);
    int bad = json_object_set_new(root, "model", json_model(k->m));
    bad |= json_object_set_new(root, "text", json_text(k->out.text, k->out.n));
    bad |= json_object_set_new(root, "finish_reason", json_string(stream_finish_name(k->r.finish)));
    bad |= json_object_set_new(root, "seed", json_integer((json_int_t)k->o.sampling.seed));
    bad |= json_object_set_new(root, "n_ctx", json_integer(galen_session_n_ctx(k->s)));
    if (k->out.tokens) bad |= json_object_set(root, "tokens", k->out.tokens);
    bad |= json_object_set_new(root, "timings", json_timings(c, &k->r));
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

static cli_exit generate(cli *c, completion *k) {
    galen_error err = {0};
    const galen_status st = galen_generate(k->s, k->prompt.ids, (int32_t)k->prompt.n, &k->o, &k->r, &err);
    term_progress_end(c);
    stream_end_line(&k->out);
    hist_generation(c, k->m, &k->r, st);
    if (k->out.is_nomem) {
        term_error(c, "out of memory keeping the answer");
        return CLI_MEMORY;
    }
    if (st) return engine_fail(c, PHASE_USE, &err);
    if (c->args.json) {
        const cli_exit written = json_end(c, json_completion(c, k), false);
        if (written) return written;
    }
    const bool is_cut = k->r.finish == GALEN_FINISH_LENGTH && k->r.n_generated != k->o.max_tokens;
    if (is_cut) term_error(c, "the context of %d tokens is full; --ctx sets a larger one", galen_session_n_ctx(k->s));
    if (k->grammar && k->r.finish == GALEN_FINISH_LENGTH && !is_cut)
        term_error(c, "cut after %d tokens, before the text was whole; --n-predict allows more", k->r.n_generated);
    engine_note_speed(c, &k->r);
    return signals_stop() ? signals_exit() : CLI_DONE;
}

cli_exit verb_complete(cli *c) {
    completion k = {0};
    text_buf text = {0};
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st && option_given(&c->args, "logprobs") && !c->args.json) {
        term_error(c, "--logprobs needs --json: plain output has room for the text alone");
        st = CLI_USAGE;
    }
    if (!st) st = grammar_check(c);
    if (!st) st = input_query(c, c->args.prompt, "prompt", &text);
    if (!st) st = engine_open(c, name, false, &k.m);
    if (!st) st = engine_session(c, k.m, 0, &k.s);
    if (!st) st = prepare(c, &k, &text);
    if (!st) st = generate(c, &k);
    stream_free(&k.out);
    galen_tokens_free(&k.prompt);
    free(k.bias);
    galen_grammar_close(k.grammar);
    galen_session_close(k.s);
    galen_model_close(k.m);
    free(text.bytes);
    return st;
}
