/* Bytes of unknown quality to clean text. */
#include "assist/text.h"

#include <string.h>

#include "base/utf8.h"

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
        const size_t k = utf8_decode(s + i, n - i, &cp);
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
        const size_t k = utf8_decode(s + i, n - i, &cp);
        sum += k ? letter_weight(cp) : 0;
        i += k ? k : 1;
    }
    return sum;
}

bool text_has_letter(const char *s, size_t n) {
    return text_count_letters(s, n) > 0;
}
