#include "tokenizer/vocab.h"

#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "tokenizer/markers.h"

/* Byte-level BPE writes bytes as printable characters: the 188 printable Latin-1 characters stand for themselves, the
 * other 68 bytes, in order, for U+0100 and on. Source: openai/gpt-2 src/encoder.py, bytes_to_unicode. */
static bool is_own_character(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* 0..32 are the first 33 of the others, 127..160 the next 34, 173 the last. */
static uint32_t byte_character(uint8_t byte) {
    if (is_own_character(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int vocab_text_byte(uint32_t cp) {
    if (cp < 0x100) return is_own_character((int)cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

size_t vocab_byte_text(uint8_t byte, char out[2]) {
    const uint32_t cp = byte_character(byte);
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xC0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 0x3F));
    return 2;
}

/* ---------------------------------------------------------------- text to id */

static uint64_t mix(uint64_t a, uint64_t b) {
    const __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Eight bytes a step through a 64 x 64 -> 128 bit product; the constants are odd, of mixed bits. */
static uint32_t hash_text(const char *p, size_t n) {
    uint64_t h = mix(n ^ 0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u), w;
    while (n >= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w, 0xA0761D6478BD642Fu);
        p += 8;
        n -= 8;
    }
    w = 0;
    for (size_t i = 0; i < n; i++) w |= (uint64_t)(uint8_t)p[i] << (8 * i);
    h = mix(h ^ w, 0xE7037ED1A0B428DBu);
    return (uint32_t)(h >> 32);
}

/* The slot that holds the text, or the empty one where it belongs. */
static vocab_slot *find_slot(const vocab *v, uint32_t hash, const char *p, size_t n) {
    const size_t mask = v->n_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        vocab_slot *s = &v->slots[i];
        if (s->id == 0) return s;
        if (s->hash != hash) continue;
        const vocab_token *t = &v->tokens[s->id - 1];
        if (t->n == n && memcmp(t->p, p, n) == 0) return s;
    }
}

int32_t vocab_find(const vocab *v, const char *p, size_t n) {
    if (n == 0) return VOCAB_NONE;
    return find_slot(v, hash_text(p, n), p, n)->id - 1;
}

int32_t vocab_find_text(const vocab *v, const char *p, size_t n) {
    if (n > v->max_len) return VOCAB_NONE;
    const int32_t id = vocab_find(v, p, n);
    return id >= 0 && id < v->n_tokens && vocab_is_text(&v->tokens[id]) ? id : VOCAB_NONE;
}

/* The lowest id keeps a text that several tokens have. Empty texts are never found. */
static void insert(vocab *v, int32_t id) {
    const vocab_token *t = &v->tokens[id];
    if (t->n == 0) return;
    const uint32_t hash = hash_text(t->p, t->n);
    vocab_slot *s = find_slot(v, hash, t->p, t->n);
    if (s->id == 0) *s = (vocab_slot){.hash = hash, .id = id + 1};
}

static bool alloc_slots(vocab *v, arena *mem, size_t n_symbols) {
    size_t n_slots = 64;
    while (n_slots / 2 < n_symbols) n_slots *= 2;
    vocab_slot *slots = arena_alloc(mem, n_slots, sizeof *slots);
    if (!slots) return false;
    v->slots = slots;
    v->n_slots = n_slots;
    return true;
}

/* Room for one more symbol. The old arrays stay in the arena: rare, and doubling bounds the waste. */
static bool grow(vocab *v, arena *mem) {
    if (v->n_symbols < v->cap_symbols) return true;
    if (v->cap_symbols > INT32_MAX / 2) return false;
    const int32_t cap = v->cap_symbols * 2 + 16;
    vocab_token *tokens = arena_alloc(mem, (size_t)cap, sizeof *tokens);
    if (!tokens) return false;
    if (v->n_symbols) memcpy(tokens, v->tokens, (size_t)v->n_symbols * sizeof *tokens);
    if (!alloc_slots(v, mem, (size_t)cap)) return false;
    v->tokens = tokens;
    v->cap_symbols = cap;
    for (int32_t id = 0; id < v->n_symbols; id++) insert(v, id);
    return true;
}

int32_t vocab_intern(vocab *v, arena *mem, const char *p, size_t n) {
    const int32_t id = vocab_find(v, p, n);
    if (id >= 0) return id;
    if (n > UINT32_MAX || !grow(v, mem)) return VOCAB_NONE;
    v->tokens[v->n_symbols] = (vocab_token){.p = p, .n = (uint32_t)n, .kind = TOKEN_NORMAL};
    insert(v, v->n_symbols);
    return v->n_symbols++;
}

/* ---------------------------------------------------------------- loading */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

const char *vocab_shown(char buf[VOCAB_SHOWN_BYTES], gguf_str s) {
    size_t n = 0;
    for (; n < s.n && n + 1 < VOCAB_SHOWN_BYTES; n++) buf[n] = s.p[n] >= ' ' && s.p[n] <= '~' ? s.p[n] : '?';
    buf[n] = '\0';
    return buf;
}

/* "<0x0A>", six characters and nothing else. */
static bool parse_byte_text(const char *p, size_t n, uint8_t *byte) {
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return false;
    const int hi = hex_digit(p[3]), lo = hex_digit(p[4]);
    if (hi < 0 || lo < 0) return false;
    *byte = (uint8_t)(hi << 4 | lo);
    return true;
}

static galen_status check_length(const gguf_kv *arr, const char *key, uint64_t n_tokens, galen_error *err) {
    if (!arr || arr->n == n_tokens) return GALEN_OK;
    return galen_fail(err, GALEN_E_FORMAT, arr->offset, "%s: %llu elements, expected %llu as in tokenizer.ggml.tokens", key,
                      (unsigned long long)arr->n, (unsigned long long)n_tokens);
}

static galen_status load_tokens(vocab *v, arena *mem, const gguf *g, galen_error *err) {
    static const char key[] = "tokenizer.ggml.tokens", type_key[] = "tokenizer.ggml.token_type";
    const gguf_kv *texts, *types = NULL;
    galen_status st = gguf_get_arr(g, key, GGUF_STR, GGUF_REQUIRED, &texts, err);
    if (!st) st = gguf_get_arr(g, type_key, GGUF_I32, GGUF_OPTIONAL, &types, err);
    if (!st && (texts->n == 0 || texts->n > INT32_MAX / 4)) {
        st = galen_fail(err, GALEN_E_FORMAT, texts->offset, "%s: %llu elements, expected 1 to %d", key,
                        (unsigned long long)texts->n, INT32_MAX / 4);
    }
    if (!st) st = check_length(types, type_key, texts->n, err);
    if (st) return st;
    v->n_tokens = v->n_symbols = v->cap_symbols = (int32_t)texts->n;
    v->tokens = arena_alloc(mem, texts->n, sizeof *v->tokens);
    if (!v->tokens || !alloc_slots(v, mem, texts->n)) {
        return galen_fail(err, GALEN_E_NOMEM, 0, "vocabulary: %llu tokens", (unsigned long long)texts->n);
    }
    size_t pos = 0;
    for (int32_t id = 0; id < v->n_tokens; id++) {
        const gguf_str s = gguf_kv_str_next(texts, &pos);
        if (s.n > INT32_MAX) {
            return galen_fail(err, GALEN_E_FORMAT, texts->offset, "%s[%d]: %zu bytes, at most %d", key, id, s.n, INT32_MAX);
        }
        const int64_t kind = types ? gguf_kv_int(types, (uint64_t)id) : TOKEN_NORMAL;
        v->tokens[id] = (vocab_token){.p = s.p, .n = (uint32_t)s.n, .kind = TOKEN_UNDEFINED};
        if (kind > TOKEN_UNDEFINED && kind <= TOKEN_BYTE) v->tokens[id].kind = (uint8_t)kind;
        insert(v, id);
    }
    return GALEN_OK;
}

/* A score as a rank: the order of the floats reversed, as unsigned numbers below SYMBOL_NEVER. NaN comes last. */
static uint32_t score_rank(float score) {
    uint32_t bits;
    if (score != score) return UINT32_MAX - 1;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return 0xFF800000u - ascending; /* which is that of +infinity */
}

static galen_status load_scores(vocab *v, const gguf *g, galen_error *err) {
    static const char key[] = "tokenizer.ggml.scores";
    const gguf_kv *scores;
    galen_status st = gguf_get_arr(g, key, GGUF_F32, v->model == VOCAB_SPM ? GGUF_REQUIRED : GGUF_OPTIONAL, &scores, err);
    if (!st) st = check_length(scores, key, (uint64_t)v->n_tokens, err);
    for (int32_t id = 0; !st && v->model == VOCAB_SPM && id < v->n_tokens; id++) {
        v->tokens[id].rank = score_rank((float)gguf_kv_float(scores, (uint64_t)id));
    }
    return st;
}

/* Byte tokens: "<0x00>" to "<0xFF>" in SentencePiece vocabularies, one character each in byte-level ones. A token of kind
 * BYTE whose text is not of that form would decode to a guess, so it is an error. */
static galen_status load_bytes(vocab *v, arena *mem, const gguf *g, galen_error *err) {
    char shown[VOCAB_SHOWN_BYTES];
    const bool has_types = gguf_find(g, "tokenizer.ggml.token_type") != NULL;
    for (int b = 0; b < 256; b++) v->byte_ids[b] = v->byte_syms[b] = VOCAB_NONE;
    for (int32_t id = v->n_tokens - 1; id >= 0; id--) { /* downwards: the lowest id stays */
        vocab_token *t = &v->tokens[id];
        const bool is_byte = parse_byte_text(t->p, t->n, &t->byte);
        if (t->kind == TOKEN_BYTE && !is_byte) {
            return galen_fail(err, GALEN_E_FORMAT, 0,
                              "tokenizer.ggml.tokens[%d]: a byte token, but \"%s\" is not <0x00> to <0xFF>", id,
                              vocab_shown(shown, (gguf_str){t->p, t->n}));
        }
        if (is_byte && !has_types && v->model == VOCAB_SPM) t->kind = TOKEN_BYTE; /* old files have no types */
        if (is_byte && (t->kind == TOKEN_BYTE || v->model == VOCAB_SPM)) v->byte_ids[t->byte] = id;
    }
    for (int b = 0; b < 256 && v->model == VOCAB_BPE; b++) {
        char *text = arena_alloc(mem, 2, 1);
        if (!text) return galen_fail(err, GALEN_E_NOMEM, 0, "vocabulary: byte table");
        const size_t n = vocab_byte_text((uint8_t)b, text);
        const int32_t id = vocab_find_text(v, text, n);
        if (id >= 0) v->byte_ids[b] = id;
        v->byte_syms[b] = vocab_intern(v, mem, text, n);
        if (v->byte_syms[b] < 0) return galen_fail(err, GALEN_E_NOMEM, 0, "vocabulary: byte table");
    }
    return GALEN_OK;
}

static galen_status load_id(const vocab *v, const gguf *g, const char *key, int32_t fallback, int32_t *out, galen_error *err) {
    *out = fallback < v->n_tokens ? fallback : VOCAB_NONE;
    const gguf_kv *kv = gguf_find(g, key);
    if (!kv) return GALEN_OK;
    uint32_t id = 0;
    galen_status st = gguf_get_u32(g, key, GGUF_REQUIRED, &id, err);
    if (st) return st;
    if (id >= (uint32_t)v->n_tokens) {
        return galen_fail(err, GALEN_E_FORMAT, kv->offset, "%s: %u, expected an id below %d", key, id, v->n_tokens);
    }
    *out = (int32_t)id;
    return GALEN_OK;
}

/* SentencePiece files without the keys mean <unk> 0, <s> 1, </s> 2. */
static galen_status load_special_ids(vocab *v, const gguf *g, galen_error *err) {
    const bool is_spm = v->model == VOCAB_SPM;
    int32_t unread, end;
    galen_status st = load_id(v, g, "tokenizer.ggml.bos_token_id", is_spm ? 1 : VOCAB_NONE, &v->bos, err);
    if (!st) st = load_id(v, g, "tokenizer.ggml.eos_token_id", is_spm ? 2 : VOCAB_NONE, &v->eos, err);
    if (!st) st = load_id(v, g, "tokenizer.ggml.unknown_token_id", is_spm ? 0 : VOCAB_NONE, &v->unk, err);
    if (!st) st = load_id(v, g, "tokenizer.ggml.padding_token_id", VOCAB_NONE, &unread, err);
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; !st && i < sizeof ends / sizeof *ends; i++) {
        st = load_id(v, g, ends[i], VOCAB_NONE, &end, err);
        if (!st && end >= 0) v->tokens[end].is_end = true;
    }
    if (!st && v->eos >= 0) v->tokens[v->eos].is_end = true;
    return st;
}

static galen_status load_flags(vocab *v, const gguf *g, bool add_bos, galen_error *err) {
    v->add_bos = add_bos;
    v->add_space = v->model == VOCAB_SPM;
    galen_status st = gguf_get_bool(g, "tokenizer.ggml.add_bos_token", GGUF_OPTIONAL, &v->add_bos, err);
    if (!st) st = gguf_get_bool(g, "tokenizer.ggml.add_eos_token", GGUF_OPTIONAL, &v->add_eos, err);
    if (!st) st = gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", GGUF_OPTIONAL, &v->add_space, err);
    if (st) return st;
    if (v->model == VOCAB_BPE) v->add_space = false;
    if (v->add_bos && v->bos < 0) {
        return galen_fail(err, GALEN_E_FORMAT, 0, "tokenizer.ggml.bos_token_id: missing, but BOS is to be added");
    }
    if (v->add_eos && v->eos < 0) {
        return galen_fail(err, GALEN_E_FORMAT, 0, "tokenizer.ggml.eos_token_id: missing, but EOS is to be added");
    }
    return GALEN_OK;
}

galen_status vocab_load(vocab *v, arena *mem, const gguf *g, vocab_model model, bool add_bos, galen_error *err) {
    *v = (vocab){.model = model};
    galen_status st = load_tokens(v, mem, g, err);
    if (!st) st = load_scores(v, g, err);
    if (!st) st = load_special_ids(v, g, err);
    if (!st) st = load_flags(v, g, add_bos, err);
    if (st) return st;
    markers_apply(v, g);
    for (int32_t id = 0; id < v->n_tokens; id++) {
        const vocab_token *t = &v->tokens[id];
        if (vocab_is_text(t) && t->n > v->max_len) v->max_len = t->n;
    }
    return load_bytes(v, mem, g, err);
}
