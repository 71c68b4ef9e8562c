/* What the tokenizers make of odd vocabularies and odd text. Row names T1..T11 are those of the reliability checklist. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tokenizer/pretokenizers.h"
#include "vocab_maker.h"

static maker m; /* 100 KB: not for the stack */

static galen_tokens encode(const char *text, size_t n, bool is_trusted, bool add_special) {
    const text_piece piece = {text, n, is_trusted};
    galen_tokens out;
    galen_error err = {0};
    if (tokenizer_encode(m.t, &piece, 1, add_special, &out, &err) != GALEN_OK) fail_msg("%s", err.msg);
    return out;
}

/* The ids as the texts of their tokens, "hello|<0x0A>". */
static const char *shown(const galen_tokens *t) {
    static char buf[4096];
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < t->n; i++) {
        const gguf_str s = m.tokens[t->ids[i]];
        if (n + s.n + 2 > sizeof buf) abort();
        if (i) buf[n++] = '|';
        memcpy(buf + n, s.p, s.n);
        n += s.n;
        buf[n] = '\0';
    }
    return buf;
}

static void expect(const char *text, size_t n, bool is_trusted, bool add_special, const char *ids, const char *why) {
    galen_tokens t = encode(text, n, is_trusted, add_special);
    if (strcmp(shown(&t), ids) != 0) fail_msg("%s: \"%s\", expected \"%s\"", why, shown(&t), ids);
    galen_tokens_free(&t);
}

/* ---------------------------------------------------------------- opening */

static void no_model(maker *k) {
    k->model = NULL;
}
static void model_bert(maker *k) {
    k->model = "bert";
}
static void pre_unknown(maker *k) {
    k->pre = "wat-bpe";
}
static void pre_hostile(maker *k) {
    k->pre = "\x1B[2Jboo\n";
}
static void empty_token(maker *k) {
    maker_token(k, "", TOKEN_NORMAL, 0);
}
static void long_token(maker *k) {
    static char text[40000];
    memset(text, 'a', sizeof text);
    maker_token_n(k, text, sizeof text, TOKEN_NORMAL, 0);
}
static void no_tokens(maker *k) {
    k->n = k->n_kinds = k->n_scores = 0;
}
static void short_scores(maker *k) {
    k->n_scores--;
}
static void long_scores(maker *k) {
    k->n_scores++;
}
static void no_scores(maker *k) {
    k->has_scores = false;
}
static void short_kinds(maker *k) {
    k->n_kinds--;
}
static void long_kinds(maker *k) {
    k->n_kinds++;
}
static void odd_kind(maker *k) {
    maker_token(k, "zz", 77, 0);
}
static void nan_score(maker *k) {
    k->scores[260] = NAN;
}
static void no_merges(maker *k) {
    k->has_merges = false;
}
static void byte_minus(maker *k) {
    maker_token(k, "<0x-1>", TOKEN_BYTE, 0);
}
static void byte_zz(maker *k) {
    maker_token(k, "<0xZZ>", TOKEN_BYTE, 0);
}
static void byte_short(maker *k) {
    maker_token(k, "<0x1>", TOKEN_BYTE, 0);
}
static void byte_long(maker *k) {
    maker_token(k, "<0x100>", TOKEN_BYTE, 0);
}
static void bytes_missing(maker *k) {
    for (int i = 3; i < 259; i++) k->kinds[i] = TOKEN_NORMAL, k->tokens[i].p = "<gone>";
}
static void bos_n(maker *k) {
    maker_id(k, "tokenizer.ggml.bos_token_id", k->n, GGUF_U32);
}
static void bos_minus(maker *k) {
    maker_id(k, "tokenizer.ggml.bos_token_id", (uint64_t)-1, GGUF_I32);
}
static void eos_2_31(maker *k) {
    maker_id(k, "tokenizer.ggml.eos_token_id", (uint64_t)1 << 31, GGUF_U32);
}
static void eos_u64(maker *k) {
    maker_id(k, "tokenizer.ggml.eos_token_id", (uint64_t)1 << 32, GGUF_U64);
}
static void unk_n(maker *k) {
    maker_id(k, "tokenizer.ggml.unknown_token_id", k->n, GGUF_U32);
}
static void pad_n(maker *k) {
    maker_id(k, "tokenizer.ggml.padding_token_id", k->n, GGUF_U32);
}
static void eot_n(maker *k) {
    maker_id(k, "tokenizer.ggml.eot_token_id", k->n, GGUF_U32);
}
static void bos_float(maker *k) {
    maker_id(k, "tokenizer.ggml.bos_token_id", 0, GGUF_F32);
}
static void bos_asked_for(maker *k) {
    k->add_bos = 1;
}
static void merge_no_space(maker *k) {
    maker_merge(k, "aaaa");
}
static void merge_empty(maker *k) {
    maker_merge(k, "");
}
static void merge_half(maker *k) {
    maker_merge(k, "a ");
}
static void merge_space_first(maker *k) {
    maker_merge(k, " a");
}
static void merge_unknown(maker *k) {
    maker_merge(k, "zz yy");
}
static void merge_cycle(maker *k) {
    maker_merge(k, "b c");
    maker_merge(k, "bc b");
    maker_merge(k, "bcb cb");
    maker_merge(k, "c b");
    maker_merge(k, "a a");
}

static void test_open(void **state) {
    (void)state;
    static const struct {
        void (*make)(maker *);
        void (*change)(maker *);
        galen_status st;
        const char *msg;
        const char *why;
    } cases[] = {
        {maker_spm, NULL, GALEN_OK, "", "SentencePiece as it should be"},
        {maker_bpe, NULL, GALEN_OK, "", "BPE as it should be"},
        {maker_spm, no_model, GALEN_E_FORMAT, "tokenizer.ggml.model", "no tokenizer at all"},
        {maker_spm, model_bert, GALEN_E_UNSUPPORTED, "\"bert\"", "a tokenizer we lack is named"},
        {maker_bpe, pre_unknown, GALEN_E_UNSUPPORTED, "\"wat-bpe\" is not known; known: default, llama-bpe",
         "an unknown pre-tokenizer is named, with the choices"},
        {maker_bpe, pre_hostile, GALEN_E_UNSUPPORTED, "\"?[2Jboo?\"", "its name cannot drive a terminal"},
        {maker_spm, empty_token, GALEN_OK, "", "T1 a token of 0 bytes is never matched"},
        {maker_spm, long_token, GALEN_OK, "", "T1 a token of 40,000 bytes"},
        {maker_spm, no_tokens, GALEN_E_FORMAT, "tokenizer.ggml.tokens", "T1 no tokens"},
        {maker_spm, short_scores, GALEN_E_FORMAT, "tokenizer.ggml.scores: 291 elements, expected 292", "T3 one score short"},
        {maker_spm, long_scores, GALEN_E_FORMAT, "tokenizer.ggml.scores: 293 elements, expected 292", "T3 one score too many"},
        {maker_spm, no_scores, GALEN_E_FORMAT, "tokenizer.ggml.scores: missing", "T3 without scores nothing can be ordered"},
        {maker_spm, short_kinds, GALEN_E_FORMAT, "tokenizer.ggml.token_type", "T3 one type short"},
        {maker_bpe, long_kinds, GALEN_E_FORMAT, "tokenizer.ggml.token_type", "T3 one type too many"},
        {maker_bpe, odd_kind, GALEN_OK, "", "T3 a type nobody knows is plain text"},
        {maker_spm, nan_score, GALEN_OK, "", "T3 a NaN score joins last"},
        {maker_bpe, no_merges, GALEN_E_FORMAT, "tokenizer.ggml.merges: missing", "T3 BPE needs merges"},
        {maker_spm, byte_minus, GALEN_E_FORMAT, "\"<0x-1>\"", "T4 a sign"},
        {maker_spm, byte_zz, GALEN_E_FORMAT, "\"<0xZZ>\"", "T4 no digits"},
        {maker_spm, byte_short, GALEN_E_FORMAT, "\"<0x1>\"", "T4 one digit"},
        {maker_bpe, byte_long, GALEN_E_FORMAT, "\"<0x100>\"", "T4 three digits"},
        {maker_spm, bytes_missing, GALEN_OK, "", "T4 no byte tokens: unknown text becomes <unk>"},
        {maker_spm, bos_n, GALEN_E_FORMAT, "tokenizer.ggml.bos_token_id: 292, expected an id below 292", "T5 one past the end"},
        {maker_spm, bos_minus, GALEN_E_FORMAT, "tokenizer.ggml.bos_token_id", "T5 -1"},
        {maker_spm, eos_2_31, GALEN_E_FORMAT, "tokenizer.ggml.eos_token_id: 2147483648", "T5 2^31"},
        {maker_spm, eos_u64, GALEN_E_FORMAT, "tokenizer.ggml.eos_token_id", "T5 2^32 is not 0"},
        {maker_spm, unk_n, GALEN_E_FORMAT, "tokenizer.ggml.unknown_token_id", "T5 unk"},
        {maker_spm, pad_n, GALEN_E_FORMAT, "tokenizer.ggml.padding_token_id", "T5 pad, though unused"},
        {maker_bpe, eot_n, GALEN_E_FORMAT, "tokenizer.ggml.eot_token_id", "T5 eot"},
        {maker_bpe, bos_float, GALEN_E_FORMAT, "tokenizer.ggml.bos_token_id", "T5 a float"},
        {maker_bpe, bos_asked_for, GALEN_E_FORMAT, "tokenizer.ggml.bos_token_id: missing", "T5 BOS wanted, none there"},
        {maker_bpe, merge_no_space, GALEN_E_FORMAT, "tokenizer.ggml.merges[16]", "T7 no space"},
        {maker_bpe, merge_empty, GALEN_E_FORMAT, "tokenizer.ggml.merges[16]", "T7 empty"},
        {maker_bpe, merge_half, GALEN_E_FORMAT, "tokenizer.ggml.merges[16]", "T7 no right half"},
        {maker_bpe, merge_space_first, GALEN_E_FORMAT, "tokenizer.ggml.merges[16]", "T7 no left half"},
        {maker_bpe, merge_unknown, GALEN_OK, "", "T7 texts that are no tokens"},
        {maker_bpe, merge_cycle, GALEN_OK, "", "T7 merges that feed one another; a merge given twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        galen_error err = {0};
        cases[i].make(&m);
        if (cases[i].change) cases[i].change(&m);
        const galen_status st = maker_open(&m, &err);
        if (st != cases[i].st) fail_msg("%s: status %d (%s), expected %d", cases[i].why, st, err.msg, cases[i].st);
        if (!strstr(err.msg, cases[i].msg)) fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].why, err.msg, cases[i].msg);
        assert_true(st ? m.t == NULL : m.t != NULL);
        if (!st) { /* any text goes through, whatever the vocabulary is like */
            static const char any[] = "aaaabcbcb zzyy\xFF <tool> \n";
            galen_tokens t = encode(any, sizeof any - 1, false, true);
            for (size_t k = 0; k < t.n; k++) assert_in_range(t.ids[k], 0, m.n - 1);
            galen_tokens_free(&t);
        }
        maker_close(&m);
    }
}

static void test_pretokenizers(void **state) {
    (void)state;
    size_t n = 0;
    for (const pretokenizer *p; (p = pretokenizer_at(n)) != NULL; n++) {
        galen_error err = {0};
        maker_bpe(&m);
        m.pre = p->name;
        m.add_bos = 0;
        if (maker_open(&m, &err) != GALEN_OK) fail_msg("%s: %s", p->name, err.msg);
        assert_ptr_equal(pretokenizer_find(p->name, strlen(p->name)), p); /* no name twice */
        static const char text[] = "hello world's 777\n\n \xE4\xB8\xAD";
        galen_tokens t = encode(text, sizeof text - 1, false, false);
        assert_true(t.n >= 9);
        galen_tokens_free(&t);
        maker_close(&m);
    }
    assert_true(n > 70);
    maker_bpe(&m);
    m.pre = NULL; /* the key is absent: "default", as in llama.cpp */
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    expect("777", 3, false, false, "77|7", "digits in threes, then merges");
    maker_close(&m);
}

/* ---------------------------------------------------------------- text */

#define SP "\xE2\x96\x81"

static void test_spm(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        bool is_trusted, add_special;
        const char *ids;
        const char *why;
    } cases[] = {
        {"", 0, false, false, "", "nothing"},
        {"", 0, false, true, "<s>", "BOS alone"},
        {"hello", 5, false, false, SP "hello", "the space before the first word"},
        {"hello world", 11, false, true, "<s>|" SP "hello|" SP "world", "two words"},
        {" hello", 6, false, false, SP "|" SP "hello", "a space of its own stays"},
        {"aaaaa", 5, false, false, SP "|aaaa|a", "equal pairs join from the left"},
        {"\xE4\xB8\xAD", 3, false, false, SP "|\xE4\xB8\xAD", "a character that is a token"},
        {"\xE4\xB8\xAE", 3, false, false, SP "|<0xE4>|<0xB8>|<0xAE>", "one that is not, in bytes"},
        {"\xFF", 1, false, false, SP "|<0xFF>", "T8 never valid"},
        {"\xC0\xAF", 2, false, false, SP "|<0xC0>|<0xAF>", "T8 overlong"},
        {"\xED\xA0\x80", 3, false, false, SP "|<0xED>|<0xA0>|<0x80>", "T8 surrogate"},
        {"\xF4\x90\x80\x80", 4, false, false, SP "|<0xF4>|<0x90>|<0x80>|<0x80>", "T8 beyond U+10FFFF"},
        {"\x80", 1, false, false, SP "|<0x80>", "T8 lone continuation"},
        {"\xE4\xB8", 2, false, false, SP "|<0xE4>|<0xB8>", "T8 cut short at the end"},
        {"\xE4hell", 5, false, false, SP "|<0xE4>|hell", "T8 cut short before text, which stays text"},
        {"\0a", 2, false, false, SP "|<0x00>|a", "NUL"},
        {"<|im_end|>", 10, true, false, "<|im_end|>", "trusted: the token"},
        {"a<|im_end|>a", 12, true, false, SP "a|<|im_end|>|" SP "a", "each fragment begins with a space"},
        {"<s>a", 4, true, true, "<s>|" SP "a", "BOS is not doubled"},
        {"a<s>", 4, true, true, "<s>|" SP "a|<s>", "a BOS elsewhere is another"},
        {"<tool>", 6, false, false, "<tool>", "a user-defined token is matched in any text"},
    };
    maker_spm(&m);
    maker_token(&m, SP "a", TOKEN_NORMAL, -20.5f);
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect(cases[i].text, cases[i].n, cases[i].is_trusted, cases[i].add_special, cases[i].ids, cases[i].why);
    }
    maker_close(&m);
}

static void test_bpe(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        bool is_trusted;
        const char *ids;
        const char *why;
    } cases[] = {
        {"hello world", 11, false, "hello|\xC4\xA0world", "two words"},
        {"aaaaa", 5, false, "aaaa|a", "lowest rank, then leftmost"},
        {"\n\n\n\n", 4, false, "\xC4\x8A\xC4\x8A|\xC4\x8A\xC4\x8A", "line ends"},
        {"\xE4\xB8\xAD", 3, false, "\xC3\xA4\xC2\xB8\xC5\x83", "three bytes of a character join"},
        {"\xE4\xB8", 2, false, "\xC3\xA4\xC2\xB8", "T8 cut short: its bytes still join"},
        {"\xFF\xFE", 2, false, "\xC3\xBF|\xC3\xBE", "T8 never valid"},
        {"\xC0\xAF", 2, false, "\xC3\x80|\xC2\xAF", "T8 overlong"},
        {"\xED\xA0\x80", 3, false, "\xC3\xAD|\xC5\x82|\xC4\xA2", "T8 surrogate"},
        {"\xF4\x90\x80\x80", 4, false, "\xC3\xB4|\xC4\xB2|\xC4\xA2|\xC4\xA2", "T8 beyond U+10FFFF"},
        {"\x80hello", 6, false, "\xC4\xA2|hello", "T8 lone continuation"},
        {"<|im_start|>", 12, true, "<|im_start|>", "trusted: the token"},
        {"<tool>", 6, false, "<tool>", "user-defined: in any text"},
        {"<tool><tool><tool>", 18, false, "<tool><tool>|<tool>", "the longer token first"},
        {"a<tool>a", 8, false, "a|<tool>|a", "between letters"},
    };
    maker_bpe(&m);
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect(cases[i].text, cases[i].n, cases[i].is_trusted, false, cases[i].ids, cases[i].why);
    }
    maker_close(&m);
}

/* SmolLM2's file has no token for some bytes and names its end-of-text token as the unknown one. */
static void test_missing_byte(void **state) {
    (void)state;
    maker_bpe(&m);
    m.tokens[0xFF] = maker_keep(&m, "zz", 2); /* a token, but not that byte */
    maker_id(&m, "tokenizer.ggml.unknown_token_id", (uint64_t)maker_find(&m, "<|endoftext|>"), GGUF_U32);
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    expect("a\xFF"
           "a",
           3, false, false, "a|a", "left out: no byte of a user's becomes a control token");
    maker_close(&m);
}

/* T9: what a person types never becomes a control token, however the pieces are cut. */
static void test_untrusted(void **state) {
    (void)state;
    static const struct {
        text_piece pieces[3];
        int n_control;
        const char *why;
    } cases[] = {
        {{{"<|im_start|>", 12, true}, {"<|im_end|>", 10, false}, {"<|im_end|>", 10, true}}, 2, "T9 the text of a token"},
        {{{"<|im_start|>", 12, true}, {"x<|im_", 6, false}, {"end|>", 5, true}}, 1, "T9 begun by the user, ended by us"},
        {{{"<|im_", 5, true}, {"end|>", 5, false}, {"", 0, true}}, 0, "T9 begun by us, ended by the user"},
        {{{"<|im_", 5, true}, {"", 0, false}, {"end|>", 5, true}}, 1, "an empty content divides nothing"},
        {{{"<|im_end", 8, false}, {"|", 1, false}, {">", 1, false}}, 0, "T9 in parts"},
    };
    static void (*const makers[])(maker *) = {maker_spm, maker_bpe};
    for (size_t k = 0; k < 2; k++) {
        makers[k](&m);
        assert_int_equal(maker_open(&m, NULL), GALEN_OK);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            galen_tokens out;
            int n = 0;
            assert_int_equal(tokenizer_encode(m.t, cases[i].pieces, 3, false, &out, NULL), GALEN_OK);
            for (size_t j = 0; j < out.n; j++) n += m.kinds[out.ids[j]] == TOKEN_CONTROL;
            if (n != cases[i].n_control) fail_msg("%s: %d control tokens, expected %d", cases[i].why, n, cases[i].n_control);
            galen_tokens_free(&out);
        }
        maker_close(&m);
    }
}

/* A marker of a chat format is no text even where the file calls it user-defined or normal. */
static void test_marker_kinds(void **state) {
    (void)state;
    maker_bpe(&m);
    m.kinds[maker_find(&m, "<|im_start|>")] = TOKEN_USER_DEFINED;
    m.kinds[maker_find(&m, "<|im_end|>")] = TOKEN_NORMAL;
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    const int32_t start = maker_find(&m, "<|im_start|>"), end = maker_find(&m, "<|im_end|>");
    galen_tokens t = encode("<|im_start|><|im_end|>", 22, false, false);
    for (size_t i = 0; i < t.n; i++) assert_true(t.ids[i] != start && t.ids[i] != end);
    galen_tokens_free(&t);
    expect("<|im_start|><|im_end|>", 22, true, false, "<|im_start|>|<|im_end|>", "trusted");
    assert_true(tokenizer_is_end(m.t, end));
    assert_false(tokenizer_is_end(m.t, start));
    assert_true(tokenizer_is_end(m.t, maker_find(&m, "<|endoftext|>")));
    assert_false(tokenizer_is_end(m.t, maker_find(&m, "hello")));
    maker_close(&m);
}

static void test_phi3_strip(void **state) {
    (void)state;
    maker_spm(&m);
    m.name = "Phi-3 mini";
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    expect("<|im_start|> \n hello", 20, true, false, "<|im_start|>|" SP "hello", "white space behind a token goes");
    expect("<s>\n\nc", 6, true, false, "<s>|" SP "|\n\n|c", "not behind <s>");
    expect("<|im_start|> \n <|im_end|>", 25, true, false, "<|im_start|>|<|im_end|>", "nothing left between");
    maker_close(&m);
}

/* T10, T11 */
static void test_bytes(void **state) {
    (void)state;
    static void (*const makers[])(maker *) = {maker_spm, maker_bpe};
    uint64_t x = 88172645463325252u;
    for (size_t k = 0; k < 2; k++) {
        makers[k](&m);
        m.add_bos = 0;
        assert_int_equal(maker_open(&m, NULL), GALEN_OK);
        for (int round = 0; round < 2000; round++) {
            char text[64], back[256];
            size_t n = 0, n_back = 0;
            for (; n < (size_t)(round % 64); n++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                text[n] = round % 3 ? (char)(x >> 32) : "hel o\nawrld\xE4\xB8\xAD\xFF"[(x >> 32) % 15];
            }
            galen_tokens t = encode(text, n, false, false);
            for (size_t i = 0; i < t.n; i++) {
                const int32_t len = tokenizer_bytes(m.t, t.ids[i], false, back + n_back, sizeof back - n_back);
                assert_true(len >= 0 && (size_t)len <= sizeof back - n_back);
                n_back += (size_t)len;
            }
            const size_t skip = tokenizer_adds_space(m.t) && n > 0;
            if (n_back != n + skip || memcmp(back + skip, text, n) != 0) fail_msg("T10 round %d: other bytes came back", round);
            galen_tokens_free(&t);
        }
        char buf[4] = "xyz";
        assert_int_equal(tokenizer_bytes(m.t, -1, true, buf, 4), -1);           /* T11 */
        assert_int_equal(tokenizer_bytes(m.t, (int32_t)m.n, true, buf, 4), -1); /* T11 */
        assert_int_equal(tokenizer_bytes(m.t, INT32_MIN, true, buf, 4), -1);    /* T11 */
        assert_false(tokenizer_is_end(m.t, -1));
        assert_false(tokenizer_is_end(m.t, (int32_t)m.n));
        const int32_t end = maker_find(&m, "<|im_end|>");
        assert_int_equal(tokenizer_bytes(m.t, end, false, buf, 4), 0); /* a control token gives nothing */
        assert_int_equal(tokenizer_bytes(m.t, end, true, buf, 4), 10); /* too long for buf: the length, nothing written */
        assert_string_equal(buf, "xyz");
        assert_int_equal(tokenizer_n_vocab(m.t), (int)m.n);
        maker_close(&m);
    }
}

/* T2: lengths alone are looked at before the bytes are. */
static void test_lengths(void **state) {
    (void)state;
    static const struct {
        size_t a, b;
        const char *why;
    } cases[] = {
        {(size_t)INT32_MAX, 1, "T2 one byte over INT32_MAX in two pieces"},
        {SIZE_MAX, 0, "T2 SIZE_MAX"},
        {SIZE_MAX, 2, "T2 a sum that wraps"},
    };
    maker_bpe(&m);
    assert_int_equal(maker_open(&m, NULL), GALEN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const text_piece p[2] = {{"a", cases[i].a, false}, {"a", cases[i].b, false}};
        galen_tokens out;
        galen_error err;
        if (tokenizer_encode(m.t, p, 2, false, &out, &err) != GALEN_E_RANGE) fail_msg("%s", cases[i].why);
        assert_null(out.ids);
    }
    maker_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),         cmocka_unit_test(test_pretokenizers), cmocka_unit_test(test_spm),
        cmocka_unit_test(test_bpe),          cmocka_unit_test(test_missing_byte),  cmocka_unit_test(test_untrusted),
        cmocka_unit_test(test_marker_kinds), cmocka_unit_test(test_phi3_strip),    cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
