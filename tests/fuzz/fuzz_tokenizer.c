/* Three tokenizers over small vocabularies, any text, cut into trusted and untrusted pieces. First byte: which tokenizer and
 * how the text is cut. The bytes of untrusted text must come back; control tokens must not come from it.
 * An input that begins like a GGUF file is opened as a vocabulary instead. */
#include <stdlib.h>

#include "../unit/vocab_maker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static maker makers[4];

static void require(bool ok) {
    if (!ok) abort();
}

static void open_all(void) {
    static const char *const pre[] = {NULL, "gpt-2", "deepseek-v3", "tekken"};
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        if (i == 0) {
            maker_spm(&makers[i]);
        } else {
            maker_bpe(&makers[i]);
        }
        makers[i].pre = pre[i];
        makers[i].add_bos = 0;
        require(maker_open(&makers[i], NULL) == GALEN_OK);
    }
}

static void check_untrusted(const maker *m, const char *text, size_t n) {
    const text_piece piece = {text, n, false};
    galen_tokens out;
    require(tokenizer_encode(m->t, &piece, 1, false, &out, NULL) == GALEN_OK);
    size_t at = 0;
    const size_t skip = tokenizer_adds_space(m->t) ? 1 : 0;
    for (size_t i = 0; i < out.n; i++) {
        char buf[64];
        const int32_t len = tokenizer_bytes(m->t, out.ids[i], false, buf, sizeof buf);
        require(len >= 0 && len <= (int32_t)sizeof buf && m->kinds[out.ids[i]] != TOKEN_CONTROL);
        /* SentencePiece: a space before each fragment, of which user-defined tokens make several, and U+2581 is a space */
        if (!skip) require(at + (size_t)len <= n && memcmp(buf, text + at, (size_t)len) == 0);
        at += (size_t)len;
    }
    if (!skip) require(at == n);
    free(out.ids);
}

static void check_pieces(const maker *m, const char *text, size_t n, size_t cut) {
    text_piece pieces[3];
    const size_t a = cut % (n + 1), b = a + (n - a) / 2;
    pieces[0] = (text_piece){text, a, true};
    pieces[1] = (text_piece){text + a, b - a, false};
    pieces[2] = (text_piece){text + b, n - b, true};
    galen_tokens out;
    require(tokenizer_encode(m->t, pieces, 3, true, &out, NULL) == GALEN_OK);
    for (size_t i = 0; i < out.n; i++) require(out.ids[i] >= 0 && out.ids[i] < (int32_t)m->n);
    free(out.ids);
}

/* The input is a file: what opens must encode. */
static void check_file(const uint8_t *data, size_t n) {
    gguf *g;
    tokenizer *t;
    if (gguf_parse(&g, data, n, "fuzz", NULL) != GALEN_OK) return;
    if (tokenizer_open(&t, g, NULL) == GALEN_OK) {
        const text_piece piece = {"hello <s>a<|im_end|>\xFF\n", 22, true};
        galen_tokens out = {0};
        if (tokenizer_encode(t, &piece, 1, true, &out, NULL) == GALEN_OK) {
            for (size_t i = 0; i < out.n; i++) require(tokenizer_bytes(t, out.ids[i], true, NULL, 0) >= 0);
        }
        free(out.ids);
        tokenizer_close(t);
    }
    gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > 4 && memcmp(data, "GGUF", 4) == 0) {
        check_file(data, n);
        return 0;
    }
    if (!makers[0].t) open_all();
    if (n == 0) return 0;
    const maker *m = &makers[data[0] % 4];
    char *text = malloc(n); /* of its own, so that a read past the end is seen */
    if (!text) return 0;
    memcpy(text, data + 1, n - 1);
    check_untrusted(m, text, n - 1);
    check_pieces(m, text, n - 1, data[0] / 4);
    free(text);
    return 0;
}
