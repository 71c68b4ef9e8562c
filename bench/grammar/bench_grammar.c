/* What a grammar costs a token: masks over the vocabulary of a model file along texts that fit the grammar.
 *
 *   bench_grammar MODEL.gguf      (a vocabulary-only file will do)
 *
 * Each text is tokenised as the model would write it; before each token the mask is computed and must hold it. "cold" is the
 * first sequence of a fresh grammar, tables of tokens included; "warm" the tenth. Times are of the mask alone, in microseconds.
 * Ends with 1 when a mean, cold or warm, is over the bar.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "grammar/grammar.h"

typedef struct row {
    const char *name, *schema, *gbnf, *text; /* neither: any JSON object */
} row;

#define BAR_US 50.0 /* a token, on the average, at 128k tokens of vocabulary */

#define NAME "{\"type\":\"string\",\"minLength\":3,\"maxLength\":80}"
static const row rows[] = {
    {"differential",
     "{\"type\":\"object\",\"required\":[\"conditions\",\"triage\"],\"properties\":{\"triage\":{\"enum\":[\"self_care\","
     "\"consultation\","
     "\"emergency\"]},\"conditions\":{\"type\":\"array\",\"minItems\":2,\"maxItems\":5,\"items\":{\"type\":\"object\","
     "\"required\":[\"rank\","
     "\"name\",\"confidence\",\"support\",\"code\"],\"properties\":{\"rank\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":5},"
     "\"name\":" NAME ",\"confidence\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"support\":{\"type\":\"array\","
     "\"maxItems\":4,\"items\":" NAME
     "},\"code\":{\"type\":\"string\",\"pattern\":\"^[A-TV-Z][0-9][0-9AB](\\\\.[0-9A-TV-Z]{1,4})?$\"}}}}}}",
     NULL,
     "{\"triage\": \"consultation\", \"conditions\": [{\"rank\": 1, \"name\": \"Community-acquired pneumonia\", \"confidence\": "
     "0.62, "
     "\"support\": [\"productive cough for five days\", \"fever of 39.1 degrees\", \"crackles at the right base\"], \"code\": "
     "\"J18.9\"}, "
     "{\"rank\": 2, \"name\": \"Acute bronchitis\", \"confidence\": 0.21, \"support\": [\"cough\", \"recent upper respiratory "
     "infection\"], "
     "\"code\": \"J20.9\"}, {\"rank\": 3, \"name\": \"Pulmonary embolism\", \"confidence\": 0.07, \"support\": [\"pleuritic "
     "chest pain\"], "
     "\"code\": \"I26.99\"}]}"},
    {"person",
     "{\"type\":\"object\",\"required\":[\"name\",\"born\",\"mail\",\"tags\"],\"properties\":{\"name\":{\"type\":\"string\"},"
     "\"born\":{\"type\":"
     "\"string\",\"format\":\"date\"},\"mail\":{\"type\":[\"string\",\"null\"]},\"tags\":{\"type\":\"array\",\"items\":{\"type\":"
     "\"string\"}},"
     "\"next\":{\"$ref\":\"#\"}}}",
     NULL,
     "{\"name\": \"Maria \\u00c1lvarez \\\"Mia\\\" Lopez\", \"born\": \"1987-02-28\", \"mail\": null, \"tags\": [\"cardiology\", "
     "\"follow-up "
     "in six weeks\", \"speaks Spanish and a little English\"], \"next\": {\"name\": \"Jos\xC3\xA9\", \"born\": \"1950-11-30\", "
     "\"mail\": "
     "\"jose@example.org\", \"tags\": []}}"},
    {"GBNF list", NULL,
     "root ::= item{2,5}\nitem ::= \"- diagnosis: \" name \"\\n- confidence: \" (\"0.\" [0-9]{1,2} | \"1.0\") \"\\n\"\nname ::= "
     "[A-Z] [a-zA-Z0-9 ,'()-]{2,80}",
     "- diagnosis: Community-acquired pneumonia\n- confidence: 0.62\n- diagnosis: Acute bronchitis\n- confidence: 0.21\n- "
     "diagnosis: "
     "Pulmonary embolism\n- confidence: 0.07\n- diagnosis: Congestive heart failure, left-sided\n- confidence: 0.05\n"},
    {"any object", NULL, NULL,
     "{\n  \"patient\": {\"age\": 54, \"sex\": \"female\", \"history\": [\"hypertension\", \"type 2 diabetes\", null, true]},\n  "
     "\"note\": "
     "\"She describes a pressure-like pain that spreads to the left arm, worse with effort, and she has been short of breath "
     "since "
     "this morning.\",\n  \"vitals\": {\"pulse\": 104, \"temp\": 37.2, \"bp\": [142, 91]}\n}"},
};

/* Of this thread alone: the machine may be busy. */
static uint64_t clock_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double us(uint64_t ns) {
    return (double)ns * 1e-3;
}

typedef struct times {
    uint64_t mask, worst, accept;
    size_t n, n_allowed;
} times;

static void fail(const char *what, const galen_error *err) {
    printf("%s: %s\n", what, err->msg);
    exit(1);
}

/* One sequence along the text. */
static times follow(const grammar *g, const tokenizer *t, const galen_tokens *ids) {
    times r = {0};
    grammar_state *s;
    galen_error err = {0};
    const int32_t n_vocab = tokenizer_n_vocab(t);
    uint32_t *bits = calloc(grammar_mask_words(n_vocab), sizeof *bits);
    if (!bits || grammar_state_open(&s, g, &err)) fail("state", &err);
    for (size_t i = 0; i < ids->n; i++) {
        const uint64_t start = clock_ns();
        if (grammar_state_mask(s, bits, &err)) fail("mask", &err);
        const uint64_t masked = clock_ns();
        if (!(bits[ids->ids[i] / 32] >> (ids->ids[i] % 32) & 1)) fail("the text does not fit the grammar", &err);
        if (grammar_state_accept(s, ids->ids[i], &err)) fail("accept", &err);
        r.accept += clock_ns() - masked;
        r.mask += masked - start;
        if (masked - start > r.worst) r.worst = masked - start;
        for (size_t w = 0; w < grammar_mask_words(n_vocab); w++) r.n_allowed += (size_t)__builtin_popcount(bits[w]);
        r.n++;
    }
    if (!grammar_state_may_end(s)) fail("the text is cut", &err);
    grammar_state_close(s);
    free(bits);
    return r;
}

/* Tokens of the text that need no choice. */
static size_t count_forced(const grammar *g, const galen_tokens *ids) {
    enum { CAP = 32 };
    grammar_state *s;
    galen_error err = {0};
    int32_t forced[CAP], n;
    size_t n_forced = 0;
    if (grammar_state_open(&s, g, &err)) fail("state", &err);
    for (size_t i = 0; i < ids->n;) {
        if (grammar_state_forced(s, forced, CAP, &n, &err)) fail("forced", &err);
        for (int32_t k = 0; k < n; k++, i++, n_forced++)
            if (grammar_state_accept(s, forced[k], &err)) fail("forced", &err);
        if (n == 0 && grammar_state_accept(s, ids->ids[i++], &err)) break; /* the text was tokenised another way */
    }
    grammar_state_close(s);
    return n_forced;
}

/* Is the row within the bar? */
static bool run(const grammar_vocab *v, const tokenizer *t, const row *r) {
    grammar *g;
    galen_error err = {0};
    galen_tokens ids = {0};
    const text_piece pieces[] = {{.text = r->text, .len = strlen(r->text)}};
    if (tokenizer_encode(t, pieces, 1, false, &ids, &err)) fail("tokens", &err);
    const uint64_t start = clock_ns();
    const galen_status st = r->schema ? grammar_open_schema(&g, v, r->schema, strlen(r->schema), &err)
                            : r->gbnf ? grammar_open_gbnf(&g, v, r->gbnf, strlen(r->gbnf), &err)
                                      : grammar_open_json_object(&g, v, &err);
    if (st) fail(r->name, &err);
    const uint64_t opened = clock_ns();
    const times cold = follow(g, t, &ids);
    times warm = {0};
    for (int i = 1; i < 10; i++) warm = follow(g, t, &ids);
    const double cold_us = us(cold.mask) / (double)cold.n, warm_us = us(warm.mask) / (double)warm.n;
    printf("%-13s %4zu tokens  open %6.0f us  mask cold %7.1f  warm %6.1f (worst %6.0f)  accept %5.2f us/token  %zu forced, mean "
           "%zu allowed\n",
           r->name, cold.n, us(opened - start), cold_us, warm_us, us(warm.worst), us(warm.accept) / (double)warm.n,
           count_forced(g, &ids), warm.n_allowed / warm.n);
    grammar_close(g);
    galen_tokens_free(&ids);
    return cold_us <= BAR_US && warm_us <= BAR_US;
}

int main(int argc, char **argv) {
    gguf *file;
    tokenizer *t;
    grammar_vocab *v;
    galen_error err = {0};
    if (argc != 2) {
        printf("usage: bench_grammar MODEL.gguf\n");
        return 2;
    }
    if (gguf_open(&file, argv[1], &err) || tokenizer_open(&t, file, &err)) fail(argv[1], &err);
    const uint64_t start = clock_ns();
    if (grammar_vocab_open(&v, t, &err)) fail("vocabulary", &err);
    printf("%d tokens, indexed in %.0f ms\n", tokenizer_n_vocab(t), us(clock_ns() - start) * 1e-3);
    bool is_within = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) is_within &= run(v, t, &rows[i]);
    printf("%s the bar of %.0f us a token\n", is_within ? "within" : "OVER", BAR_US);
    grammar_vocab_close(v);
    tokenizer_close(t);
    gguf_close(file);
    return !is_within;
}
