/* A byte-level BPE vocabulary of any size, laid out as Llama 3's: 256 bytes, merges, 256 special tokens.
 *
 * Text is written in the GPT-2 byte alphabet: a printable byte stands for itself, every other byte b, in order, for the
 * character U+0100 + (how many such bytes came before).  Space is U+0120.
 * Merges, commonest first as far as an order of the letters can say it:
 *   level 2  xy    space or a letter, then a letter: 27 * 26 = 702
 *   level 3  xy z  a level 2 token, then a letter: 702 * 26
 *   level 4  xy zw a level 2 token, then one that does not begin with a space: 702 * 676
 * Two numbers are walked along the diagonals of their rectangle, so the first merges join what is common on both sides. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "model/synth.h"

static const char letters[] = "etaoinshrdlcumwfgypbvkjxqz"; /* by frequency in English */
enum { N_LETTERS = 26, N_PAIRS = 27 * 26, N_INNER = 26 * 26, TOKEN_NORMAL = 1, TOKEN_CONTROL = 3 };

/* <|reserved_special_token_N|> takes the places left out. Source: Llama 3.1 tokenizer_config.json. */
static const struct {
    int place;
    const char *name;
} specials[] = {
    {0, "begin_of_text"}, {1, "end_of_text"}, {4, "finetune_right_pad_id"}, {6, "start_header_id"}, {7, "end_header_id"},
    {8, "eom_id"},        {9, "eot_id"},      {10, "python_tag"},
};
enum { PLACE_BOS = 0, PLACE_EOT = 9, N_SPECIALS = sizeof specials / sizeof specials[0] };

static const char chat_template[] =
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/* Position along the diagonals of an n_x by n_y rectangle. */
typedef struct walk {
    int n_x, n_y, x, y;
} walk;

static void walk_next(walk *w) {
    const int sum = w->x + w->y;
    if (w->y > 0 && w->x + 1 < w->n_x) {
        w->x++;
        w->y--;
        return;
    }
    w->y = sum + 1 < w->n_y ? sum + 1 : w->n_y - 1;
    w->x = sum + 1 - w->y;
}

typedef struct vocab {
    gguf_str *tokens, *merges;
    int32_t n_tokens, n_merges, max_merges;
    char *text;              /* where the next string goes */
    gguf_str pairs[N_PAIRS]; /* level 2 */
    gguf_str inner[N_INNER]; /* those without a space */
    int n_pairs, n_inner;
} vocab;

/* The longest of each, in bytes: a merge "Ġx yz" and its token, a byte, a special token's name. Text is not terminated. */
enum { MERGE_BYTES = 6 + 5, BYTE_BYTES = 2, SPECIAL_BYTES = 40 };

static gguf_str write_text(vocab *v, const char *bytes, size_t n) {
    const gguf_str s = {v->text, n};
    memcpy(v->text, bytes, n);
    v->text += n;
    return s;
}

/* Join two tokens: one more token, one more merge. */
static gguf_str join(vocab *v, gguf_str left, gguf_str right) {
    gguf_str *token = &v->tokens[v->n_tokens++], *merge = &v->merges[v->n_merges++];
    *token = write_text(v, left.p, left.n);
    token->n += write_text(v, right.p, right.n).n;
    *merge = write_text(v, left.p, left.n);
    merge->n += write_text(v, " ", 1).n + write_text(v, right.p, right.n).n;
    return *token;
}

static bool is_plain(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* Ids 0..255: first the bytes that stand for themselves, then the others, as in GPT-2's own vocabulary. */
static void add_bytes(vocab *v) {
    uint32_t next = 256;
    for (int pass = 0; pass < 2; pass++) {
        for (int byte = 0; byte < SYNTH_N_BYTES; byte++) {
            char text[4];
            if (is_plain(byte) != (pass == 0)) continue;
            v->tokens[v->n_tokens++] = write_text(v, text, utf8_encode(pass == 0 ? (uint32_t)byte : next++, text));
        }
    }
}

static void add_merges(vocab *v) {
    const gguf_str space = {"\xC4\xA0", 2};
    walk w = {.n_x = N_LETTERS + 1, .n_y = N_LETTERS};
    for (; v->n_pairs < N_PAIRS && v->n_merges < v->max_merges; walk_next(&w)) {
        const gguf_str left = w.x == 0 ? space : (gguf_str){letters + w.x - 1, 1};
        const gguf_str pair = join(v, left, (gguf_str){letters + w.y, 1});
        v->pairs[v->n_pairs++] = pair;
        if (w.x > 0) v->inner[v->n_inner++] = pair;
    }
    w = (walk){.n_x = N_PAIRS, .n_y = N_LETTERS};
    for (int32_t i = 0; i < N_PAIRS * N_LETTERS && v->n_merges < v->max_merges; i++, walk_next(&w)) {
        (void)join(v, v->pairs[w.x], (gguf_str){letters + w.y, 1});
    }
    w = (walk){.n_x = N_PAIRS, .n_y = N_INNER};
    for (int32_t i = 0; i < N_PAIRS * N_INNER && v->n_merges < v->max_merges; i++, walk_next(&w)) {
        (void)join(v, v->pairs[w.x], v->inner[w.y]);
    }
}

static void add_specials(vocab *v) {
    int n_reserved = 0, k = 0;
    for (int place = 0; place < SYNTH_N_SPECIAL; place++) {
        char text[SPECIAL_BYTES];
        if (k < N_SPECIALS && specials[k].place == place) {
            (void)snprintf(text, sizeof text, "<|%s|>", specials[k++].name);
        } else {
            (void)snprintf(text, sizeof text, "<|reserved_special_token_%d|>", n_reserved++);
        }
        v->tokens[v->n_tokens++] = write_text(v, text, strlen(text));
    }
}

static galen_status put_all(gguf_writer *w, const vocab *v, const int32_t *types, galen_error *err) {
    const uint32_t first_special = (uint32_t)(v->n_tokens - SYNTH_N_SPECIAL);
    galen_status st;
    if ((st = gguf_put_str(w, "tokenizer.ggml.model", "gpt2", 4, err))) return st;
    if ((st = gguf_put_str(w, "tokenizer.ggml.pre", "llama-bpe", 9, err))) return st;
    if ((st = gguf_put_arr_str(w, "tokenizer.ggml.tokens", v->tokens, (uint64_t)v->n_tokens, err))) return st;
    if ((st = gguf_put_arr(w, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)v->n_tokens, err))) return st;
    if ((st = gguf_put_arr_str(w, "tokenizer.ggml.merges", v->merges, (uint64_t)v->n_merges, err))) return st;
    if ((st = gguf_put_u32(w, "tokenizer.ggml.bos_token_id", first_special + PLACE_BOS, err))) return st;
    if ((st = gguf_put_u32(w, "tokenizer.ggml.eos_token_id", first_special + PLACE_EOT, err))) return st;
    if ((st = gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true, err))) return st;
    return gguf_put_str(w, "tokenizer.chat_template", chat_template, sizeof chat_template - 1, err);
}

galen_status synth_put_vocab(gguf_writer *w, arena *a, int32_t n_vocab, galen_error *err) {
    const int32_t n_merges = n_vocab - SYNTH_N_BYTES - SYNTH_N_SPECIAL;
    const size_t text_bytes =
        (size_t)n_merges * MERGE_BYTES + SYNTH_N_BYTES * (size_t)BYTE_BYTES + SYNTH_N_SPECIAL * (size_t)SPECIAL_BYTES;
    vocab *v = arena_alloc(a, 1, sizeof *v);
    int32_t *types = arena_alloc(a, (size_t)n_vocab, sizeof *types);
    if (!v || !types) goto fail;
    v->max_merges = n_merges;
    v->tokens = arena_alloc(a, (size_t)n_vocab, sizeof *v->tokens);
    v->merges = arena_alloc(a, (size_t)n_merges, sizeof *v->merges);
    v->text = arena_alloc(a, text_bytes, 1);
    if (!v->tokens || !v->merges || !v->text) goto fail;
    add_bytes(v);
    add_merges(v);
    add_specials(v);
    for (int32_t i = 0; i < n_vocab; i++) types[i] = i < n_vocab - SYNTH_N_SPECIAL ? TOKEN_NORMAL : TOKEN_CONTROL;
    return put_all(w, v, types, err);
fail:
    return galen_fail(err, GALEN_E_NOMEM, 0, "synth: a vocabulary of %d tokens", n_vocab);
}
