#include "tokenizer/neutral.h"

#include <string.h>

#include "base/utf8.h"

/* Neither letter, mark, number, punctuation, symbol nor space, and in no class that a pre-tokenizer writes out. */
enum { NEUTRAL = 0x01 };

/* U+180E is a format character since Unicode 6.3, but white space to PCRE2's \s (PCRE2 ucp HSPACE list). U+200B is a
 * format character to both, of the same length. */
enum { MONGOLIAN_VOWEL_SEPARATOR = 0x180E, ZERO_WIDTH_SPACE = 0x200B };

static uint32_t like(uint32_t cp) {
    if (cp == MONGOLIAN_VOWEL_SEPARATOR) return ZERO_WIDTH_SPACE;
    size_t lo = 0, hi = newer_table_n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (cp > newer_table[mid].last) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < newer_table_n && cp >= newer_table[lo].first ? newer_table[lo].like : cp;
}

void neutral_copy(char *out, const char *in, size_t n) {
    for (size_t i = 0; i < n;) {
        if ((uint8_t)in[i] < 0x80) {
            out[i] = in[i];
            i++;
            continue;
        }
        uint32_t cp;
        const size_t len = utf8_decode(in + i, n - i, &cp);
        if (len == 0) {
            out[i++] = NEUTRAL;
            continue;
        }
        const uint32_t seen = like(cp);
        if (seen == cp) {
            memcpy(out + i, in + i, len);
        } else {
            utf8_encode(seen, out + i); /* of the same length, by the table's making */
        }
        i += len;
    }
}
