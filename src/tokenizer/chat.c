/* Each row says what stands before and after a role's text, as the model's published Jinja template renders it. Templates are
 * recognised, never run: a template is a program, and running one from a file is a risk nothing here is worth. */
#include "tokenizer/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

#define BOS "\001" /* in the strings of the table: the text of the vocabulary's BOS token */
#define EOS "\002"

typedef enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, N_ROLES } role;

typedef enum system_rule {
    SYSTEM_OWN_TURN,   /* like any other role, wherever it stands           */
    SYSTEM_FIRST_USER, /* first message only, inside the first user's turn  */
    SYSTEM_LAST_USER,  /* first message only, inside the last message, if that is a user's */
} system_rule;

typedef enum trim_rule {
    TRIM_NONE,
    TRIM_CONTENT,  /* every content                                         */
    TRIM_TURNS,    /* users' and assistants', not the system's              */
    TRIM_COMBINED, /* the system's and the first user's as one text         */
} trim_rule;

struct chat_format {
    const char *name;
    const char *has[3], *lacks[4]; /* texts in the Jinja source; has[0] NULL = never detected */
    struct {
        const char *before, *after;
    } role[N_ROLES];
    const char *open; /* before the assistant's next words */
    system_rule system;
    trim_rule trim;
    bool begins_with_bos;       /* the template writes it, whatever the metadata asks for: never two, though */
    bool is_alternating;        /* user, assistant, user, ...: the template refuses other orders   */
    bool is_variant;            /* of the row above: detected, but not a choice of its own          */
    const char *default_system; /* when the conversation has none                                   */
    const char *source;
};

#define MISTRAL_COMMON .begins_with_bos = true, .system = SYSTEM_FIRST_USER, .is_alternating = true, .open = ""

static const chat_format formats[] = {
    {.name = "llama-3",
     .has = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     .role = {{"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
              {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
              {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"}},
     .open = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .trim = TRIM_CONTENT,
     .begins_with_bos = true,
     .source = "meta-llama/Meta-Llama-3-8B-Instruct tokenizer_config.json"},
    {.name = "llama-2",
     .has = {"[INST]", "<<SYS>>"},
     .role = {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {BOS "[INST] ", " [/INST]"}, {" ", " " EOS}},
     .open = "",
     .system = SYSTEM_FIRST_USER,
     .trim = TRIM_COMBINED,
     .is_alternating = true,
     .source = "meta-llama/Llama-2-7b-chat-hf tokenizer_config.json"},
    {.name = "chatml",
     .has = {"<|im_start|>", "<|im_end|>"},
     .lacks = {"<|im_sep|>", "<|im_middle|>", "<|im_user|>"}, /* Phi-4, Kimi */
     .role = {{"<|im_start|>system\n", "<|im_end|>\n"},
              {"<|im_start|>user\n", "<|im_end|>\n"},
              {"<|im_start|>assistant\n", "<|im_end|>\n"}},
     .open = "<|im_start|>assistant\n",
     .source =
         "HuggingFaceTB/SmolLM2-135M-Instruct, Qwen/Qwen2-7B-Instruct tokenizer_config.json, less their default system text"},
    {.name = "mistral",
     .has = {"'[INST] '", "' [/INST]'"},
     .lacks = {"<<SYS>>", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]"},
     .role = {{"", "\n\n"}, {"[INST] ", " [/INST]"}, {"", EOS}},
     MISTRAL_COMMON,
     .source = "mistralai/Mistral-7B-Instruct-v0.2 tokenizer_config.json @2023-12; the system's place as in its later version"},
    {.name = "mistral",
     .has = {"\" [INST] \"", "\" [/INST]\""},
     .lacks = {"<<SYS>>", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]"},
     .role = {{"", "\n\n"}, {" [INST] ", " [/INST]"}, {" ", EOS}},
     MISTRAL_COMMON,
     .is_variant = true,
     .source = "mistralai/Mistral-7B-Instruct-v0.2 tokenizer_config.json @2024-09"},
    {.name = "mistral",
     .has = {"\"[INST] \"", "\"[/INST]\"", "[AVAILABLE_TOOLS]"},
     .lacks = {"<<SYS>>", "[SYSTEM_PROMPT]"},
     .role = {{"", "\n\n"}, {"[INST] ", "[/INST]"}, {" ", EOS}},
     .open = "",
     .system = SYSTEM_LAST_USER,
     .begins_with_bos = true,
     .is_alternating = true,
     .is_variant = true,
     .source = "mistralai/Mistral-7B-Instruct-v0.3 tokenizer_config.json"},
    {.name = "gemma",
     .has = {"<start_of_turn>", "<end_of_turn>"},
     .role = {{"", "\n\n"}, {"<start_of_turn>user\n", "<end_of_turn>\n"}, {"<start_of_turn>model\n", "<end_of_turn>\n"}},
     .open = "<start_of_turn>model\n",
     .system = SYSTEM_FIRST_USER,
     .trim = TRIM_TURNS,
     .begins_with_bos = true,
     .is_alternating = true,
     .source = "google/gemma-3-270m-it chat_template.jinja"},
    {.name = "phi-3",
     .has = {"<|user|>", "<|end|>", "<|assistant|>"},
     .lacks = {"<|im_start|>", "<|start|>", "[gMASK]"},
     .role = {{"<|system|>\n", "<|end|>\n"}, {"<|user|>\n", "<|end|>\n"}, {"<|assistant|>\n", "<|end|>\n"}},
     .open = "<|assistant|>\n",
     .source = "microsoft/Phi-3-mini-4k-instruct tokenizer_config.json"},
    {.name = "zephyr",
     .has = {"<|user|>", "<|system|>", "message['content'] + eos_token"},
     .lacks = {"<|end|>", "[gMASK]", "eos_token + '", "<|im_start|>"}, /* Phi-3, GLM, Tulu */
     .role = {{"<|system|>\n", EOS "\n"}, {"<|user|>\n", EOS "\n"}, {"<|assistant|>\n", EOS "\n"}},
     .open = "<|assistant|>\n",
     .source = "HuggingFaceH4/zephyr-7b-beta tokenizer_config.json"},
    {.name = "alpaca",
     .has = {"### Instruction:", "### Response:"},
     .lacks = {"<|EOT|>", "### Input:"}, /* DeepSeek Coder */
     .role = {{"", "\n\n"}, {"### Instruction:\n", "\n\n"}, {"### Response:\n", EOS "\n\n"}},
     .open = "### Response:\n",
     .default_system =
         "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
     .source = "tatsu-lab/stanford_alpaca train.py, PROMPT_DICT; EOS closes the response as in its training data"},
    {.name = "plain", .role = {{"", "\n\n"}, {"", "\n"}, {"", "\n"}}, .open = "", .source = "no markers: for base models"},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const chat_format *chat_format_at(size_t index) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (!formats[i].is_variant && index-- == 0) return &formats[i];
    }
    return NULL;
}

const char *chat_format_name(const chat_format *f) {
    return f->name;
}

const chat_format *chat_format_by_name(const char *name) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(formats[i].name, name) == 0) return &formats[i];
    }
    return NULL;
}

const char *chat_format_choices(void) {
    return "llama-3, llama-2, chatml, mistral, gemma, phi-3, zephyr, alpaca, plain";
}

static bool contains(const char *text, size_t n, const char *part) {
    return memmem(text, n, part, strlen(part)) != NULL;
}

const chat_format *chat_format_detect(const char *jinja, size_t n) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        const chat_format *f = &formats[i];
        bool is_match = f->has[0] != NULL;
        for (size_t k = 0; k < sizeof f->has / sizeof *f->has && f->has[k]; k++) is_match &= contains(jinja, n, f->has[k]);
        for (size_t k = 0; k < sizeof f->lacks / sizeof *f->lacks && f->lacks[k]; k++) {
            is_match &= !contains(jinja, n, f->lacks[k]);
        }
        if (is_match) return f;
    }
    return NULL;
}

/* ---------------------------------------------------------------- encoding */

static bool parse_role(const char *name, role *out) {
    static const char *const names[N_ROLES] = {"system", "user", "assistant"};
    for (int r = 0; name && r < N_ROLES; r++) {
        if (strcmp(name, names[r]) != 0) continue;
        *out = (role)r;
        return true;
    }
    return false;
}

/* White space as Python's str.strip sees it, which Jinja's trim is. */
static bool is_space(uint32_t cp) {
    return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static text_piece trim_left(text_piece p) {
    uint32_t cp = 0;
    while (p.len) {
        const size_t len = utf8_decode(p.text, p.len, &cp);
        if (len == 0 || !is_space(cp)) break;
        p.text += len;
        p.len -= len;
    }
    return p;
}

static text_piece trim_right(text_piece p) {
    while (p.len) {
        size_t begin = p.len - 1;
        uint32_t cp = 0;
        while (begin > 0 && p.len - begin < 4 && ((uint8_t)p.text[begin] & 0xC0) == 0x80) begin--;
        if (utf8_decode(p.text + begin, p.len - begin, &cp) != p.len - begin || !is_space(cp)) break;
        p.len = begin;
    }
    return p;
}

typedef struct writer {
    const chat_format *f;
    text_piece *pieces; /* room for all: see chat_encode */
    size_t n;
    text_piece bos, eos;
    const galen_message *system; /* waiting for its place in a user's turn, NULL = none */
} writer;

/* A string of the table, its BOS and EOS replaced by the vocabulary's texts. */
static void put_template(writer *w, const char *s) {
    while (*s) {
        const size_t n = strcspn(s, BOS EOS);
        if (n) w->pieces[w->n++] = (text_piece){s, n, true};
        s += n;
        if (*s) w->pieces[w->n++] = *s++ == *BOS ? w->bos : w->eos;
    }
}

static text_piece content_of(const writer *w, const galen_message *m, role r) {
    const text_piece p = {m->content, m->content_len, false};
    const trim_rule trim = w->f->trim;
    const bool is_trimmed = trim == TRIM_CONTENT || ((trim == TRIM_TURNS || trim == TRIM_COMBINED) && r != ROLE_SYSTEM);
    return is_trimmed ? trim_right(trim_left(p)) : p;
}

/* A turn of user or assistant, with the waiting system text inside when this is its place. */
static void put_turn(writer *w, const galen_message *m, role r, bool is_last) {
    const chat_format *f = w->f;
    text_piece content = content_of(w, m, r);
    put_template(w, f->role[r].before);
    if (w->system && r == ROLE_USER && (f->system == SYSTEM_FIRST_USER || is_last)) {
        put_template(w, f->role[ROLE_SYSTEM].before);
        w->pieces[w->n++] = content_of(w, w->system, ROLE_SYSTEM);
        put_template(w, f->role[ROLE_SYSTEM].after);
        if (f->trim == TRIM_COMBINED) { /* what precedes keeps the content's own leading space from being trimmed */
            content = trim_right((text_piece){m->content, m->content_len, false});
            if (content.len == 0) w->pieces[w->n - 1] = trim_right(w->pieces[w->n - 1]);
        }
        w->system = NULL;
    }
    w->pieces[w->n++] = content;
    put_template(w, f->role[r].after);
}

static galen_status put_messages(writer *w, const galen_message *messages, size_t n, galen_error *err) {
    const chat_format *f = w->f;
    const char *choices = "system, user, assistant";
    role r;
    if (f->begins_with_bos) put_template(w, BOS);
    if (f->default_system && (!parse_role(messages[0].role, &r) || r != ROLE_SYSTEM)) {
        put_template(w, f->default_system);
        put_template(w, f->role[ROLE_SYSTEM].after);
    }
    role expected = ROLE_USER;
    for (size_t i = 0; i < n; i++) {
        if (!parse_role(messages[i].role, &r)) {
            return galen_fail(err, GALEN_E_ARG, 0, "message %zu: unknown role; known: %s", i, choices);
        }
        if (r == ROLE_SYSTEM && f->system != SYSTEM_OWN_TURN) {
            if (i > 0) return galen_fail(err, GALEN_E_ARG, 0, "message %zu: %s takes a system message only first", i, f->name);
            w->system = &messages[i];
            continue;
        }
        if (f->is_alternating && r != expected) {
            return galen_fail(err, GALEN_E_ARG, 0, "message %zu: %s wants user and assistant in turn, beginning with user", i,
                              f->name);
        }
        expected = r == ROLE_USER ? ROLE_ASSISTANT : ROLE_USER;
        put_turn(w, &messages[i], r, i + 1 == n);
    }
    if (w->system)
        return galen_fail(err, GALEN_E_ARG, 0, "%s puts the system message into a user message, and there is none", f->name);
    put_template(w, f->open);
    return GALEN_OK;
}

/* The text of a special token, as the template would write it; empty when the vocabulary has none. */
static galen_status token_piece(const tokenizer *t, int32_t id, char **buf, text_piece *out, galen_error *err) {
    const int32_t n = tokenizer_bytes(t, id, true, NULL, 0);
    *out = (text_piece){"", 0, true};
    if (n <= 0) return GALEN_OK;
    *buf = malloc((size_t)n);
    if (!*buf) return galen_fail(err, GALEN_E_NOMEM, 0, "chat: %d bytes", n);
    tokenizer_bytes(t, id, true, *buf, (size_t)n);
    *out = (text_piece){*buf, (size_t)n, true};
    return GALEN_OK;
}

/* A turn is at most: before (two parts and a BOS), the same of the system, two contents, two afters. */
enum { MAX_PIECES_PER_MESSAGE = 14, MAX_PIECES_BESIDE = 8 };

galen_status chat_encode(const chat_format *f, const tokenizer *t, const galen_message *messages, size_t n_messages,
                         galen_tokens *out, galen_error *err) {
    writer w = {.f = f};
    char *bos = NULL, *eos = NULL;
    size_t cap;
    *out = (galen_tokens){0};
    if (n_messages == 0) return galen_fail(err, GALEN_E_ARG, 0, "chat: no message");
    if (!size_mul(n_messages, MAX_PIECES_PER_MESSAGE, &cap) || !size_add(cap, MAX_PIECES_BESIDE, &cap)) {
        return galen_fail(err, GALEN_E_RANGE, 0, "chat: %zu messages", n_messages);
    }
    w.pieces = calloc(cap, sizeof *w.pieces);
    if (!w.pieces) return galen_fail(err, GALEN_E_NOMEM, 0, "chat: %zu messages", n_messages);
    galen_status st = token_piece(t, tokenizer_bos(t), &bos, &w.bos, err);
    if (!st) st = token_piece(t, tokenizer_eos(t), &eos, &w.eos, err);
    if (!st) st = put_messages(&w, messages, n_messages, err);
    if (!st) st = tokenizer_encode(t, w.pieces, w.n, true, out, err);
    free(w.pieces);
    free(bos);
    free(eos);
    return st;
}
