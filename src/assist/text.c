/* Bytes of unknown quality to clean text. */
#include "assist/text.h"

#include <string.h>

static bool is_tail(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

size_t text_decode(const char *s, size_t n, uint32_t *cp) {
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000}; /* less is an overlong form */
    const unsigned char b = (unsigned char)s[0];
    const size_t len = b < 0x80 ? 1 : b < 0xC0 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF8 ? 4 : 0;
    if (len == 0 || len > n) return 0;
    uint32_t c = len == 1 ? b : b & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (!is_tail(s[i])) return 0;
        c = c << 6 | ((unsigned char)s[i] & 0x3Fu);
    }
    if (len > 1 && (c < smallest[len] || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF)) return 0;
    *cp = c;
    return len;
}

size_t text_valid(const char *s, size_t n, char *out) {
    size_t n_out = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = text_decode(s + i, n - i, &cp);
        memcpy(out + n_out, k ? s + i : "\xEF\xBF\xBD", k ? k : 3);
        n_out += k ? k : 3;
        i += k ? k : 1;
    }
    out[n_out] = '\0';
    return n_out;
}

/* Line and paragraph separators, C0 and C1 controls, and the marks that turn the direction of text around. */
static bool is_control(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029 || (cp >= 0x202A && cp <= 0x202E) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == 0xFEFF;
}

static bool is_stray(char c) { /* what a model leaves around a list item */
    return c && strchr(" .,;:-*_#\"'`<>", c) != NULL;
}

size_t text_line(const char *s, size_t n, char *out, size_t cap) {
    size_t n_out = 0;
    uint32_t cp;
    while (n && is_stray(s[0])) {
        s++;
        n--;
    }
    for (size_t i = 0; i < n;) {
        const size_t k = text_decode(s + i, n - i, &cp);
        const bool is_blank = k && (cp == ' ' || is_control(cp));
        const char *put = is_blank ? " " : k ? s + i : "\xEF\xBF\xBD";
        const size_t n_put = is_blank ? 1 : k ? k : 3;
        i += k ? k : 1;
        if (is_blank && (n_out == 0 || out[n_out - 1] == ' ')) continue;
        if (n_out + n_put >= cap) break;
        memcpy(out + n_out, put, n_put);
        n_out += n_put;
    }
    while (n_out && is_stray(out[n_out - 1])) n_out--;
    out[n_out] = '\0';
    return n_out;
}

size_t text_normal(const char *s, size_t n, char *out, size_t cap) {
    size_t n_out = 0;
    bool is_gap = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        const bool is_kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
        if (!is_kept) {
            is_gap = n_out > 0;
            continue;
        }
        if (n_out + is_gap + 1 >= cap) break;
        if (is_gap) out[n_out++] = ' ';
        is_gap = false;
        out[n_out++] = c;
    }
    out[n_out] = '\0';
    return n_out;
}

/* A letter's weight: 0 for none, 1, or 2 for a script whose signs are syllables or words. Beyond ASCII this is by block: the
 * blocks of punctuation, symbols, pictures and private use are no letters, the rest are. */
static size_t letter_weight(uint32_t cp) {
    if (cp < 0x80) return (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
    if (cp < 0xC0) return cp == 0xAA || cp == 0xB5 || cp == 0xBA;
    if (cp == 0xD7 || cp == 0xF7 || cp == 0xFFFD) return 0;
    if ((cp >= 0x2000 && cp < 0x2C00) || (cp >= 0x2E00 && cp < 0x2E80)) return 0; /* punctuation, arrows, symbols */
    if ((cp >= 0x3000 && cp < 0x3005) || (cp >= 0x3008 && cp < 0x3031)) return 0; /* CJK punctuation              */
    if (cp >= 0xD800 && cp < 0xF900) return 0;                                    /* surrogates, private use      */
    if (cp >= 0xFE00 && cp < 0xFE70) return 0;                                    /* selectors, small forms       */
    if (cp >= 0xFF00 && cp < 0xFF21) return 0;                                    /* full-width marks and digits  */
    if (cp >= 0x1F000 && cp < 0x20000) return 0;                                  /* pictures                     */
    return (cp >= 0x2E80 && cp < 0xD800) || (cp >= 0xF900 && cp < 0xFB00) || cp >= 0x20000 ? 2 : 1;
}

size_t text_count_letters(const char *s, size_t n) {
    size_t sum = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = text_decode(s + i, n - i, &cp);
        sum += k ? letter_weight(cp) : 0;
        i += k ? k : 1;
    }
    return sum;
}

bool text_has_letter(const char *s, size_t n) {
    return text_count_letters(s, n) > 0;
}
