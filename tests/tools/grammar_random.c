/* Random texts of schemas: one JSON Schema a line on standard input, one line of JSON a schema on standard output.
 *
 *   grammar_random MODEL.gguf SEED
 *
 * {"status": 0, "text": "..."} for a text that ended by itself, {"status": -9, "error": "..."} for a schema that was refused,
 * {"status": 1, "text": "..."} for one that did not end. Tokens are drawn at random under the mask; half of the
 * sequences take forced tokens when there are any. After a while every other token is one that closes something, if there is any.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "grammar/grammar.h"

enum { SOME_TOKENS = 60, MAX_TOKENS = 3000, MAX_FORCED = 16, MAX_TEXT = 1 << 20 };

typedef struct drawing {
    const tokenizer *t;
    uint32_t *bits, *closers;
    char *text;
    size_t n;
    uint64_t seed, at;
} drawing;

static bool closes(const drawing *d, int32_t id) {
    char text[16];
    const int32_t n = tokenizer_bytes(d->t, id, false, text, sizeof text);
    for (int32_t i = 0; i < n && n <= (int32_t)sizeof text; i++)
        if (!strchr("\"]}", text[i]) || text[i] == '\0') return false;
    return n <= (int32_t)sizeof text; /* an end token too */
}

static int32_t count(const uint32_t *bits, const uint32_t *also, size_t n_words) {
    int32_t n = 0;
    for (size_t i = 0; i < n_words; i++) n += __builtin_popcount(bits[i] & (also ? also[i] : UINT32_MAX));
    return n;
}

/* Logits that are all alike, drawn at temperature 1: each token of the mask is as likely as any other. */
static int32_t draw(drawing *d, bool is_closing) {
    const size_t n_words = grammar_mask_words(tokenizer_n_vocab(d->t));
    const uint32_t *also = is_closing && count(d->bits, d->closers, n_words) ? d->closers : NULL;
    int32_t k = (int32_t)(rng_uniform(d->seed, 0, d->at++) * count(d->bits, also, n_words));
    for (size_t i = 0; i < n_words; i++)
        for (uint32_t bits = d->bits[i] & (also ? also[i] : UINT32_MAX); bits; bits &= bits - 1)
            if (k-- == 0) return (int32_t)(i * 32) + __builtin_ctz(bits);
    return -1;
}

static galen_status write_one(drawing *d, const grammar *g, bool *is_whole, galen_error *err) {
    grammar_state *s;
    int32_t forced[MAX_FORCED], n = 0;
    galen_status st = grammar_state_open(&s, g, err);
    if (st) return st;
    d->n = 0;
    for (int step = 0; step < MAX_TOKENS && !st && !grammar_state_is_done(s); step++) {
        int32_t id;
        if (n == 0 && d->seed % 2) st = grammar_state_forced(s, forced, MAX_FORCED, &n, err);
        if (n > 0) {
            id = forced[0];
            memmove(forced, forced + 1, (size_t)--n * sizeof *forced);
        } else {
            if (!st) st = grammar_state_mask(s, d->bits, err);
            if (st) break;
            id = draw(d, step > SOME_TOKENS && step % 2);
        }
        if ((st = grammar_state_accept(s, id, err))) break;
        if (d->n + 1024 < MAX_TEXT) d->n += (size_t)tokenizer_bytes(d->t, id, false, d->text + d->n, 1024);
    }
    *is_whole = grammar_state_is_done(s);
    grammar_state_close(s);
    return st;
}

static void answer(drawing *d, const grammar_vocab *v, const char *schema, size_t n) {
    grammar *g;
    galen_error err = {0};
    bool is_whole = false;
    galen_status st = grammar_open_schema(&g, v, schema, n, &err);
    if (!st) st = write_one(d, g, &is_whole, &err);
    json_t *line = st ? json_pack("{s:i,s:s}", "status", (int)st, "error", err.msg)
                      : json_pack("{s:i,s:s%}", "status", is_whole ? 0 : 1, "text", d->text, d->n);
    if (!line) /* not UTF-8: jansson refuses it */
        line = json_pack("{s:i,s:s}", "status", 2, "error", "the text is not UTF-8");
    (void)json_dumpf(line, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(line);
    grammar_close(g);
}

int main(int argc, char **argv) {
    gguf *file;
    tokenizer *t;
    grammar_vocab *v;
    galen_error err = {0};
    if (argc != 3) return 2;
    if (gguf_open(&file, argv[1], &err) || tokenizer_open(&t, file, &err) || grammar_vocab_open(&v, t, &err)) {
        printf("%s\n", err.msg);
        return 1;
    }
    drawing d = {.t = t, .seed = strtoull(argv[2], NULL, 10)};
    d.bits = calloc(grammar_mask_words(tokenizer_n_vocab(t)), sizeof *d.bits);
    d.closers = calloc(grammar_mask_words(tokenizer_n_vocab(t)), sizeof *d.closers);
    d.text = malloc(MAX_TEXT);
    for (int32_t id = 0; d.closers && id < tokenizer_n_vocab(t); id++)
        if (closes(&d, id)) d.closers[id / 32] |= 1u << (id % 32);
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; d.bits && d.closers && d.text && (n = getline(&line, &cap, stdin)) > 0; d.seed++, d.at = 0)
        answer(&d, v, line, (size_t)n);
    free(line);
    free(d.bits);
    free(d.closers);
    free(d.text);
    grammar_vocab_close(v);
    tokenizer_close(t);
    gguf_close(file);
    return 0;
}
