/* Bytes of unknown quality to clean text. */
#include "assist/text.h"

#include <string.h>

#include "assist/latin.h"
#include "base/utf8.h"

typedef struct range {
    uint32_t first, last;
} range;

/* Line and paragraph separators, C0 and C1 controls, blanks of any width, and the marks that turn the direction of text around:
 * each is a blank. */
static const range blanks[] = {{0, 0x20},        {0x7F, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                               {0x2028, 0x202F}, {0x205F, 0x205F}, {0x2066, 0x2069}, {0x3000, 0x3000}};
/* What cannot be seen or is no character: soft hyphens, widths of zero, direction marks, byte-order marks, signs that enclose
 * numbers, private use, all beyond the last block of ideographs. (The two joiners, U+200C and
 * U+200D, change how letters of some scripts look, and stay in a line.) Source: Unicode 15, general category Cf. */
static const range invisible[] = {
    {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},     {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},
    {0x8E2, 0x8E2},     {0x180E, 0x180E},   {0x200B, 0x200B},   {0x200E, 0x200F},   {0x2060, 0x2065},   {0x206A, 0x206F},
    {0xE000, 0xF8FF},   {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},   {0xFFF0, 0xFFFF},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD},
    {0x13430, 0x13455}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0x323B0, 0x10FFFF}};
/* Marks upon the letter before that a reader may leave out (accents, Hebrew points, Arabic vowels; not the vowel signs of Indian
 * scripts), and the joiners. Source: Unicode 15, general category Mn. */
static const range marks[] = {{0x300, 0x36F},   {0x483, 0x489},   {0x591, 0x5BD},   {0x5BF, 0x5BF},  {0x5C1, 0x5C2},
                              {0x5C4, 0x5C5},   {0x5C7, 0x5C7},   {0x610, 0x61A},   {0x64B, 0x65F},  {0x670, 0x670},
                              {0x6D6, 0x6DC},   {0x6DF, 0x6E4},   {0x6E7, 0x6E8},   {0x6EA, 0x6ED},  {0x1AB0, 0x1AFF},
                              {0x1DC0, 0x1DFF}, {0x200C, 0x200D}, {0x20D0, 0x20FF}, {0xFE00, 0xFE2F}};
/* Digits of other scripts (general category Nd), and punctuation and symbols below U+0900 (P, S). */
static const range digits[] = {
    {0x660, 0x669},   {0x6F0, 0x6F9},   {0x7C0, 0x7C9},   {0x966, 0x96F},   {0x9E6, 0x9EF},   {0xA66, 0xA6F},
    {0xAE6, 0xAEF},   {0xB66, 0xB6F},   {0xBE6, 0xBEF},   {0xC66, 0xC6F},   {0xCE6, 0xCEF},   {0xD66, 0xD6F},
    {0xDE6, 0xDEF},   {0xE50, 0xE59},   {0xED0, 0xED9},   {0xF20, 0xF29},   {0x1040, 0x1049}, {0x1090, 0x1099},
    {0x17E0, 0x17E9}, {0x1810, 0x1819}, {0x1946, 0x194F}, {0x19D0, 0x19D9}, {0x1A80, 0x1A89}, {0x1A90, 0x1A99},
    {0x1B50, 0x1B59}, {0x1BB0, 0x1BB9}, {0x1C40, 0x1C49}, {0x1C50, 0x1C59}, {0xA620, 0xA629}, {0xA8D0, 0xA8D9},
    {0xA900, 0xA909}, {0xA9D0, 0xA9D9}, {0xA9F0, 0xA9F9}, {0xAA50, 0xAA59}, {0xABF0, 0xABF9}, {0xFF10, 0xFF19}};
static const range signs[] = {{0x2C2, 0x2C5}, {0x2D2, 0x2DF}, {0x2E5, 0x2EB}, {0x2ED, 0x2ED}, {0x2EF, 0x2FF}, {0x375, 0x375},
                              {0x37E, 0x37E}, {0x384, 0x385}, {0x387, 0x387}, {0x3F6, 0x3F6}, {0x482, 0x482}, {0x55A, 0x55F},
                              {0x589, 0x58A}, {0x58D, 0x58F}, {0x5BE, 0x5BE}, {0x5C0, 0x5C0}, {0x5C3, 0x5C3}, {0x5C6, 0x5C6},
                              {0x5F3, 0x5F4}, {0x606, 0x60F}, {0x61B, 0x61B}, {0x61D, 0x61F}, {0x66A, 0x66D}, {0x6D4, 0x6D4},
                              {0x6DE, 0x6DE}, {0x6E9, 0x6E9}, {0x6FD, 0x6FE}, {0x700, 0x70D}, {0x7F6, 0x7F9}, {0x7FE, 0x7FF},
                              {0x830, 0x83E}, {0x85E, 0x85E}, {0x888, 0x888}};

static bool is_among(uint32_t cp, const range *r, size_t n) {
    for (size_t i = 0; i < n && cp >= r[i].first; i++) {
        if (cp <= r[i].last) return true;
    }
    return false;
}
#define IS_AMONG(cp, ranges) is_among(cp, ranges, sizeof(ranges) / sizeof((ranges)[0]))

static bool is_stray(char c) { /* what a model leaves around a list item */
    return c && strchr(" .,;:-*_#\"'`<>", c) != NULL;
}

size_t text_line(const char *s, size_t n, char *out, size_t cap) {
    size_t n_out = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_decode(s + i, n - i, &cp);
        const bool is_blank = k && IS_AMONG(cp, blanks), is_leading = k == 1 && n_out == 0 && is_stray(s[i]);
        const char *put = is_blank ? " " : s + i;
        const size_t n_put = is_blank ? 1 : k;
        i += k ? k : 1;
        if (k == 0 || is_leading || IS_AMONG(cp, invisible) || (is_blank && (n_out == 0 || out[n_out - 1] == ' '))) continue;
        if (n_out + n_put >= cap) break;
        memcpy(out + n_out, put, n_put);
        n_out += n_put;
    }
    while (n_out && is_stray(out[n_out - 1])) n_out--;
    out[n_out] = '\0';
    return n_out;
}

/* A letter's weight: 0 for none, 1, or 2 for a script whose signs are syllables or words. Beyond ASCII this is by block: the
 * blocks of punctuation, symbols, pictures and private use are no letters, the rest are. */
static size_t letter_weight(uint32_t cp) {
    if (cp < 0x80) return (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
    if (cp < 0xC0) return cp == 0xAA || cp == 0xB5 || cp == 0xBA;
    if (cp == 0xD7 || cp == 0xF7 || cp == 0xFFFD) return 0;
    if (IS_AMONG(cp, marks) || IS_AMONG(cp, digits) || IS_AMONG(cp, signs) || IS_AMONG(cp, invisible)) return 0;
    if ((cp >= 0x2000 && cp < 0x2C00) || (cp >= 0x2E00 && cp < 0x2E80)) return 0; /* punctuation, arrows, symbols */
    if ((cp >= 0x3000 && cp < 0x3005) || (cp >= 0x3008 && cp < 0x3031)) return 0; /* CJK punctuation              */
    if (cp >= 0xD800 && cp < 0xF900) return 0;                                    /* surrogates, private use      */
    if (cp >= 0xFE00 && cp < 0xFE70) return 0;                                    /* selectors, small forms       */
    if (cp >= 0xFF00 && cp < 0xFF21) return 0;                                    /* full-width marks and digits  */
    if (cp >= 0x1F000 && cp < 0x20000) return 0;                                  /* pictures                     */
    return (cp >= 0x2E80 && cp < 0xD800) || (cp >= 0xF900 && cp < 0xFB00) || cp >= 0x20000 ? 2 : 1;
}

static bool is_any_digit(uint32_t cp) {
    return (cp >= '0' && cp <= '9') || IS_AMONG(cp, digits);
}

/* Lower case without accents, as far as one character goes for one: Latin, Greek, Cyrillic, Armenian, full-width letters.
 * Source: Unicode 15, CaseFolding.txt (C), and latin.c. */
static uint32_t fold(uint32_t cp) {
    if (cp >= 0xFF01 && cp <= 0xFF5E) cp -= 0xFEE0; /* full-width ASCII */
    if (cp >= 'A' && cp <= 'Z') return cp + 0x20;
    const char base = latin_base(cp);
    if (base) return (uint32_t)base;
    if ((cp >= 0x391 && cp <= 0x3AB && cp != 0x3A2) || (cp >= 0x410 && cp <= 0x42F)) return cp + 0x20;
    if (cp >= 0x400 && cp <= 0x40F) return cp + 0x50;
    if (cp >= 0x531 && cp <= 0x556) return cp + 0x30;
    const bool is_pair = (cp >= 0x460 && cp <= 0x481) || (cp >= 0x48A && cp <= 0x4BF) || (cp >= 0x4D0 && cp <= 0x52F) ||
                         (cp >= 0x1E00 && cp <= 0x1E95) || (cp >= 0x1EA0 && cp <= 0x1EFF);
    return is_pair ? cp | 1 : cp; /* the small letter follows the capital; compared only, never shown */
}

size_t text_normal(const char *s, size_t n, char *out, size_t cap) {
    size_t n_out = 0;
    bool is_gap = false;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        char letter[4];
        const size_t k = utf8_decode(s + i, n - i, &cp);
        i += k ? k : 1;
        if (k && (IS_AMONG(cp, marks) || IS_AMONG(cp, invisible))) continue;
        cp = fold(cp);
        if (!k || (letter_weight(cp) == 0 && !is_any_digit(cp))) {
            is_gap = n_out > 0;
            continue;
        }
        const size_t n_letter = utf8_encode(cp, letter);
        if (n_out + is_gap + n_letter >= cap) break;
        if (is_gap) out[n_out++] = ' ';
        is_gap = false;
        memcpy(out + n_out, letter, n_letter);
        n_out += n_letter;
    }
    out[n_out] = '\0';
    return n_out;
}

size_t text_count_letters(const char *s, size_t n) {
    size_t sum = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_decode(s + i, n - i, &cp);
        sum += k ? letter_weight(cp) : 0;
        i += k ? k : 1;
    }
    return sum;
}

bool text_has_letter(const char *s, size_t n) {
    return text_count_letters(s, n) > 0;
}
