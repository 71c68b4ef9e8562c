/* GGUF files say little about their special tokens: one EOS, perhaps one EOT, and types that converters got wrong for years.
 * What follows is therefore known by text, as llama.cpp does (llama-vocab.cpp, special_eog_ids and control-looking tokens). */
#include "tokenizer/markers.h"

#include <string.h>

typedef enum marker_flags {
    MARKER_END = 1,    /* generation ends here                                                                        */
    MARKER_FORCED = 2, /* a control token whatever type the file gives: the text cannot be meant as text. Otherwise the
                          marker counts only where the file says control, since "</s>" is also an HTML tag             */
    MARKER_PAIRED = 4, /* also a control token where the file says user-defined and <s> is control (Phi-3)             */
} marker_flags;

#define END_ALWAYS (MARKER_END | MARKER_FORCED)

static const struct {
    const char *text;
    int flags;
    const char *who;
} markers[] = {
    {"<|eot_id|>", END_ALWAYS, "Llama 3"},
    {"<|eom_id|>", END_ALWAYS, "Llama 3.1 tools"},
    {"<|im_end|>", END_ALWAYS, "ChatML"},
    {"<|end|>", END_ALWAYS, "Phi-3"},
    {"<end_of_turn>", END_ALWAYS, "Gemma"},
    {"<|endoftext|>", END_ALWAYS, "GPT-2, Phi-3, Qwen"},
    {"<|end_of_text|>", END_ALWAYS, "Llama 3, Granite"},
    {"<EOT>", END_ALWAYS, "Refact, CodeLlama"},
    {"_<EOT>", END_ALWAYS, "CodeLlama"},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81"
     "of\xE2\x96\x81"
     "sentence\xEF\xBD\x9C>",
     END_ALWAYS, "DeepSeek"},
    {"<end_of_utterance>", END_ALWAYS, "SmolDocling"},
    {"<|return|>", END_ALWAYS, "GPT-OSS"},
    {"<|call|>", END_ALWAYS, "GPT-OSS"},
    {"[EOT]", MARKER_END, "Kimi"},
    {"[EOS]", MARKER_END, "Kimi"},
    {"</s>", MARKER_END | MARKER_PAIRED, "Llama 2, Mistral, Zephyr, Phi-3; an HTML tag in Gemma"},
    {"<eos>", MARKER_END, "Gemma"},
    {"[e~[", MARKER_END, "MiniMax"},
    /* The openings of turns: a user who types one must not open a turn, whatever the file says. */
    {"<|begin_of_text|>", MARKER_FORCED, "Llama 3"},
    {"<|start_header_id|>", MARKER_FORCED, "Llama 3"},
    {"<|end_header_id|>", MARKER_FORCED, "Llama 3"},
    {"<|im_start|>", MARKER_FORCED, "ChatML"},
    {"<start_of_turn>", MARKER_FORCED, "Gemma"},
    {"<|system|>", MARKER_FORCED, "Phi-3, Zephyr"},
    {"<|user|>", MARKER_FORCED, "Phi-3, Zephyr"},
    {"<|assistant|>", MARKER_FORCED, "Phi-3, Zephyr"},
    {"[INST]", MARKER_FORCED, "Mistral"},
    {"[/INST]", MARKER_FORCED, "Mistral"},
    {"[SYSTEM_PROMPT]", MARKER_FORCED, "Mistral"},
    {"[/SYSTEM_PROMPT]", MARKER_FORCED, "Mistral"},
};

static bool contains(gguf_str s, const char *lower) {
    const size_t n = strlen(lower);
    for (size_t i = 0; i + n <= s.n; i++) {
        size_t k = 0;
        while (k < n && (s.p[i + k] | (s.p[i + k] >= 'A' && s.p[i + k] <= 'Z' ? 0x20 : 0)) == lower[k]) k++;
        if (k == n) return true;
    }
    return false;
}

/* GGUF has no field for it. Phi-3's own tokenizer drops the white space that follows a special token, these three excepted
 * (tokenizer.json of microsoft/Phi-3-mini-4k-instruct: "rstrip"); llama.cpp knows the model by general.name. */
static void apply_phi3_strip(vocab *v, const gguf *g) {
    const gguf_kv *kv = gguf_find(g, "general.name");
    if (!kv || kv->type != GGUF_STR) return;
    const gguf_str name = gguf_kv_str(kv);
    if (!contains(name, "phi-3") && !contains(name, "phi3")) return;
    static const char *const kept[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (int32_t id = 0; id < v->n_tokens; id++) {
        vocab_token *t = &v->tokens[id];
        t->is_stripping = t->kind == TOKEN_CONTROL || t->kind == TOKEN_USER_DEFINED || t->kind == TOKEN_UNKNOWN;
    }
    int32_t id = vocab_find(v, "</s>", 4);
    if (id >= 0) v->tokens[id].is_stripping = true;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        id = vocab_find(v, kept[i], strlen(kept[i]));
        if (id >= 0) v->tokens[id].is_stripping = false;
    }
}

/* In GPT-OSS <|end|> closes a channel, not the turn: <|return|> and <|call|> do that. */
static void apply_harmony(vocab *v) {
    const int32_t end = vocab_find(v, "<|end|>", 7);
    if (end < 0 || vocab_find(v, "<|return|>", 10) < 0 || vocab_find(v, "<|call|>", 8) < 0) return;
    v->tokens[end].is_end = end == v->eos;
}

static bool has_control_bos(const vocab *v) {
    const int32_t id = vocab_find(v, "<s>", 3);
    return id >= 0 && v->tokens[id].kind == TOKEN_CONTROL;
}

void markers_apply(vocab *v, const gguf *g) {
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        const int32_t id = vocab_find(v, markers[i].text, strlen(markers[i].text));
        if (id < 0) continue;
        vocab_token *t = &v->tokens[id];
        if (markers[i].flags & MARKER_FORCED) t->kind = TOKEN_CONTROL;
        if ((markers[i].flags & MARKER_PAIRED) && t->kind == TOKEN_USER_DEFINED && has_control_bos(v)) t->kind = TOKEN_CONTROL;
        if ((markers[i].flags & MARKER_END) && t->kind == TOKEN_CONTROL) t->is_end = true;
    }
    apply_harmony(v);
    apply_phi3_strip(v, g);
}
