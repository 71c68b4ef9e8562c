#include "tokenizer/merges.h"

#include <string.h>

static uint64_t pair_key(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

/* Fibonacci hashing of the folded key; the high bits are the mixed ones. */
static size_t pair_hash(uint64_t key) {
    key ^= key >> 29;
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key >> 24);
}

static merge_slot *find_slot(const merges *m, uint64_t key) {
    const size_t mask = m->n_slots - 1;
    size_t i = pair_hash(key) & mask;
    while (m->slots[i].pair != 0 && m->slots[i].pair != key) i = (i + 1) & mask;
    return &m->slots[i];
}

const merge_slot *merges_find(const merges *m, int32_t left, int32_t right) {
    const merge_slot *s = find_slot(m, pair_key(left, right));
    return s->pair ? s : NULL;
}

/* "Ġ t": the space that divides is the first one after the first character, so that a text may begin with a space. */
static bool divide(gguf_str s, gguf_str *left, gguf_str *right) {
    const char *space = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 2) : NULL;
    if (!space) return false;
    *left = (gguf_str){s.p, (size_t)(space - s.p)};
    *right = (gguf_str){space + 1, s.n - left->n - 1};
    return true;
}

/* The symbol of left and right joined; the text is copied only when no token has it. */
static int32_t intern_joined(vocab *v, arena *mem, gguf_str left, gguf_str right) {
    char small[256];
    const size_t n = left.n + right.n; /* both lie in one string of the file: no overflow */
    char *text = n <= sizeof small ? small : arena_alloc(mem, n, 1);
    if (!text) return VOCAB_NONE;
    memcpy(text, left.p, left.n);
    memcpy(text + left.n, right.p, right.n);
    const int32_t id = vocab_find(v, text, n);
    if (id >= 0) return id;
    if (text == small) text = arena_strndup(mem, small, n);
    return text ? vocab_intern(v, mem, text, n) : VOCAB_NONE;
}

galen_status merges_load(merges *m, vocab *v, arena *mem, const gguf *g, galen_error *err) {
    static const char key[] = "tokenizer.ggml.merges";
    const gguf_kv *arr;
    galen_status st = gguf_get_arr(g, key, GGUF_STR, GGUF_REQUIRED, &arr, err);
    if (st) return st;
    if (arr->n > INT32_MAX / 4) {
        return galen_fail(err, GALEN_E_FORMAT, arr->offset, "%s: %llu elements, at most %d", key, (unsigned long long)arr->n,
                          INT32_MAX / 4);
    }
    m->n_slots = 64;
    while (m->n_slots / 2 < arr->n) m->n_slots *= 2;
    m->slots = arena_alloc(mem, m->n_slots, sizeof *m->slots);
    if (!m->slots) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %llu merges", key, (unsigned long long)arr->n);
    size_t pos = 0;
    for (uint32_t rank = 0; rank < arr->n; rank++) {
        gguf_str left, right;
        if (!divide(gguf_kv_str_next(arr, &pos), &left, &right)) {
            return galen_fail(err, GALEN_E_FORMAT, arr->offset, "%s[%u]: not two texts with a space between", key, rank);
        }
        const int32_t a = vocab_intern(v, mem, left.p, left.n), b = vocab_intern(v, mem, right.p, right.n);
        const int32_t merged = a < 0 || b < 0 ? VOCAB_NONE : intern_joined(v, mem, left, right);
        if (merged < 0) return galen_fail(err, GALEN_E_NOMEM, 0, "%s[%u]", key, rank);
        merge_slot *s = find_slot(m, pair_key(a, b));
        if (s->pair == 0) *s = (merge_slot){.pair = pair_key(a, b), .rank = rank, .merged = merged}; /* the first one counts */
    }
    return GALEN_OK;
}
