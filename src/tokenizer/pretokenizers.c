/* The expressions are those of the models' published tokenizer.json files (pre_tokenizer), with three changes in form that
 * change no match: (?i:'s|'t|...) is spelt out, as case folding would also take U+017F for s; ByteLevel and Digits steps are
 * written as the expressions they stand for; characters beyond ASCII are written as \x{...}.
 * Which name means which model is fixed by llama.cpp's convert_hf_to_gguf_update.py, which writes tokenizer.ggml.pre. */
#include "tokenizer/pretokenizers.h"

#include <string.h>

#define CONTRACTION              "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define SPACES                   "\\s+(?!\\S)|\\s+"
#define UPPER                    "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER                    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE_WORD              "[^\\r\\n\\p{L}\\p{N}]?"
#define ASCII_PUNCTUATION        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define CJK_DEEPSEEK             "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define CJK_KANA                 "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define WORDS_O200K(contraction) BEFORE_WORD UPPER "*" LOWER "+" contraction "|" BEFORE_WORD UPPER "+" LOWER "*" contraction
/* What follows the words in the GPT-4 line: numbers, punctuation, line ends, spaces. */
#define REST_GPT4(numbers, after) "|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n" after "]*|\\s*[\\r\\n]+|" SPACES

#define RE_GPT2   ("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" SPACES)
#define RE_LLAMA3 (CONTRACTION "|" BEFORE_WORD "\\p{L}+" REST_GPT4("\\p{N}{1,3}", ""))
#define RE_QWEN2  (CONTRACTION "|" BEFORE_WORD "\\p{L}+" REST_GPT4("\\p{N}", ""))

#define FAMILY(id, ...) static const char *const id[] = {__VA_ARGS__, NULL}
/* clang-format off */
FAMILY(gpt2, RE_GPT2);
FAMILY(digits_gpt2, "\\p{N}", RE_GPT2);
FAMILY(llama3, RE_LLAMA3);
FAMILY(qwen2, RE_QWEN2);
FAMILY(qwen35, CONTRACTION "|" BEFORE_WORD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" SPACES);
FAMILY(ufakzeka, BEFORE_WORD "\\p{L}+" REST_GPT4("\\p{N}", ""));
FAMILY(laguna, "[^\\n]+|[\\n]+", RE_QWEN2);
FAMILY(minicpm5, "\\p{N}{1,3}", CONTRACTION "|" BEFORE_WORD "\\p{L}+" REST_GPT4("\\p{N}+", ""));
FAMILY(seed_coder, CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|" SPACES);
FAMILY(bailingmoe, "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}"
                   "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|" SPACES);
/* The possessive repeats keep the match from needing memory for every letter; nothing after them could use a shorter match. */
FAMILY(exaone_moe, CONTRACTION "|" BEFORE_WORD "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}"
                   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES);
/* In the middle of a run of spaces no line end can follow, or the run would have been taken with it: the look-behind saves
 * looking through the rest of the run after every 512 spaces. */
FAMILY(jais2, CONTRACTION "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|(?<![^\\S\\r\\n])\\s*[\\r\\n]+"
              "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)"
              "|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}");
FAMILY(gpt4o, WORDS_O200K(CONTRACTION "?") REST_GPT4("\\p{N}{1,3}", "/"));
FAMILY(tekken, WORDS_O200K("") REST_GPT4("\\p{N}", "/"));
FAMILY(youtu, ("[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+"
               "|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}"
               "\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CJK_KANA),
       WORDS_O200K(CONTRACTION "?") REST_GPT4("\\p{N}", "/"));
/* The ranges are the cased letters of Unicode 13. "\s+$" may only begin where white space begins, else every run of spaces
 * would be tried from each of its places: same matches, linear time. */
FAMILY(deepseek_llm, "[\\r\\n]",
       ("\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"
        "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"
        "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}"
        "\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"
        "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}"
        "\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"
        "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"
        "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}"
        "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"
        "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}"
        "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"
        "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"
        "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"),
       "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
       "(?<!\\s)\\s++\\z", CJK_DEEPSEEK, "\\p{N}+");
FAMILY(deepseek_coder, "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_DEEPSEEK, "\\p{N}");
FAMILY(deepseek3, "\\p{N}{1,3}", CJK_KANA,
       (ASCII_PUNCTUATION "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|" SPACES));
FAMILY(spark2_5, "\\p{N}{1,3}", CJK_KANA,
       (ASCII_PUNCTUATION "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|" SPACES), "\\p{N}");
FAMILY(falcon, "[\\p{P}$+<=>^~|`]+", RE_GPT2, "[0-9][0-9][0-9]");
FAMILY(bloom, " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+");
FAMILY(viking, " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+", "\\p{N}");
FAMILY(chameleon, "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
       "[\\p{P}!-/:-@\\[-`{-~]", RE_GPT2);
/* llama.cpp's own, for files written before tokenizer.ggml.pre existed: falcon's steps, and runs of any numbers. A file
 * without the key means this one: it cannot say more, and what it was converted for split its text like this. */
FAMILY(fallback, "[\\p{P}$+<=>^~|]+", RE_GPT2, "\\p{N}+", "[0-9][0-9][0-9]");

/* The first name of a family is the one that messages list. */
static const pretokenizer rows[] = {
    {"default", fallback, false, false},
    {"llama-bpe", llama3, true, true}, {"llama3", llama3, true, true}, {"llama-v3", llama3, true, true},
    {"falcon3", llama3, true, true}, {"falcon-h1", llama3, true, true}, {"pixtral", llama3, true, true},
    {"midm-2.0", llama3, true, true}, {"lfm2", llama3, true, true}, {"jina-v5-nano", llama3, true, true},
    {"dbrx", llama3, false, false}, {"smaug-bpe", llama3, false, false},
    {"chatglm-bpe", llama3, false, false}, {"glm4", llama3, false, false},
    {"qwen2", qwen2, false, false}, {"deepseek-r1-qwen", qwen2, false, false}, {"stablelm2", qwen2, false, false},
    {"hunyuan", qwen2, false, false}, {"megrez", qwen2, false, false}, {"kormo", qwen2, false, false},
    {"f2llmv2", qwen2, false, false}, {"grok-2", qwen2, false, false}, {"solar-open", qwen2, false, false},
    {"qwen35", qwen35, false, false},
    {"ufakzeka", ufakzeka, false, false},
    {"laguna", laguna, false, false},
    {"minicpm5", minicpm5, true, false},
    {"seed-coder", seed_coder, false, false},
    {"bailingmoe", bailingmoe, false, false}, {"bailingmoe2", bailingmoe, false, false}, {"llada-moe", bailingmoe, false, false},
    {"exaone-moe", exaone_moe, false, false},
    {"jais-2", jais2, false, false},
    {"gpt-4o", gpt4o, false, false}, {"llama4", gpt4o, false, false}, {"kanana2", gpt4o, false, false},
    {"talkie", gpt4o, false, false}, {"minimax-m2", gpt4o, false, false}, {"granite-embed-multi-97m", gpt4o, true, false},
    {"tekken", tekken, true, true},
    {"youtu", youtu, true, false},
    {"deepseek-llm", deepseek_llm, false, false},
    {"deepseek-coder", deepseek_coder, false, false},
    {"deepseek-v3", deepseek3, false, false}, {"hunyuan-dense", deepseek3, false, false}, {"joyai-llm", deepseek3, false, false},
    {"hy_v4", deepseek3, false, false},
    {"spark2_5", spark2_5, false, false},
    {"falcon", falcon, false, false},
    {"gpt-2", gpt2, false, false}, {"mpt", gpt2, false, false}, {"gpt-neox", gpt2, false, false}, {"olmo", gpt2, false, false},
    {"phi-2", gpt2, false, false}, {"jais", gpt2, false, false}, {"trillion", gpt2, false, false},
    {"granite-docling", gpt2, false, false}, {"exaone4", gpt2, false, false}, {"gigachat", gpt2, false, false},
    {"a.x-4.0", gpt2, false, false}, {"mellum", gpt2, false, false}, {"modern-bert", gpt2, false, false},
    {"jina-es", gpt2, false, false}, {"jina-de", gpt2, false, false}, {"jina-v2-es", gpt2, false, false},
    {"jina-v2-de", gpt2, false, false}, {"jina-v1-en", gpt2, false, false}, {"jina-v2-code", gpt2, false, false},
    {"roberta-bpe", gpt2, false, false},
    {"smollm", digits_gpt2, false, false}, {"starcoder", digits_gpt2, false, false}, {"refact", digits_gpt2, false, false},
    {"command-r", digits_gpt2, false, false}, {"codeshell", digits_gpt2, false, false}, {"exaone", digits_gpt2, false, false},
    {"minerva-7b", digits_gpt2, false, false}, {"mellum2", digits_gpt2, false, false},
    {"bloom", bloom, false, false}, {"poro-chat", bloom, false, false}, {"gpt3-finnish", bloom, false, false},
    {"viking", viking, false, false},
    {"chameleon", chameleon, false, true},
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof *rows };

const pretokenizer *pretokenizer_find(const char *name, size_t n) {
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0) return &rows[i];
    }
    return NULL;
}

const pretokenizer *pretokenizer_at(size_t i) {
    return i < N_ROWS ? &rows[i] : NULL;
}

const char *pretokenizer_choices(char *buf, size_t cap) {
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < N_ROWS; i++) {
        if (i > 0 && rows[i].regex == rows[i - 1].regex) continue;
        const size_t len = strlen(rows[i].name);
        if (n + len + 6 > cap) { /* ", " here, "..." and NUL at the end */
            memcpy(buf + n, "...", 4);
            break;
        }
        if (n) memcpy(buf + n, ", ", 2), n += 2;
        memcpy(buf + n, rows[i].name, len + 1);
        n += len;
    }
    return buf;
}
