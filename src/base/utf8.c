/* Decoding by the table of well-formed byte sequences (Unicode 15, table 3-7). */
#include "base/utf8.h"

#include <string.h>

/* For a lead byte: the length of its character and the range its second byte must lie in. length 0 = not a lead. */
static size_t lead(uint8_t b, uint8_t *lo, uint8_t *hi) {
    *lo = 0x80;
    *hi = 0xBF;
    if (b < 0x80) return 1;
    if (b < 0xC2) return 0;
    if (b < 0xE0) return 2;
    if (b < 0xF0) {
        if (b == 0xE0) *lo = 0xA0;
        if (b == 0xED) *hi = 0x9F; /* surrogates */
        return 3;
    }
    if (b > 0xF4) return 0;
    if (b == 0xF0) *lo = 0x90;
    if (b == 0xF4) *hi = 0x8F;
    return 4;
}

/* Bytes at s that are the beginning of some character, at most its length; *len is that length (0: none starts here). */
static size_t prefix(const char *s, size_t n, size_t *len) {
    uint8_t lo, hi;
    *len = lead((uint8_t)s[0], &lo, &hi);
    if (*len == 0) return 0;
    size_t k = 1;
    while (k < *len && k < n && (uint8_t)s[k] >= lo && (uint8_t)s[k] <= hi) {
        k++;
        lo = 0x80;
        hi = 0xBF;
    }
    return k;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp) {
    size_t len;
    const size_t k = prefix(s, n, &len);
    if (len == 0 || k < len) return 0;
    const uint8_t first = (uint8_t)s[0];
    uint32_t c = len == 1 ? first : first & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) c = c << 6 | ((uint8_t)s[i] & 0x3Fu);
    *cp = c;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xD800 && cp < 0xE000) return 0;
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > 0x10FFFF) return 0;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool utf8_is_valid(const char *s, size_t n) {
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_decode(s + i, n - i, &cp);
        if (k == 0) return false;
        i += k;
    }
    return true;
}

static size_t put_replacement(char *out) {
    static const uint8_t u_fffd[3] = {0xEF, 0xBF, 0xBD};
    memcpy(out, u_fffd, sizeof u_fffd);
    return sizeof u_fffd;
}

/* Emit all that is decided of s[0..n); returns the bytes consumed, the rest is the start of a character. */
static size_t emit(const char *s, size_t n, char *out, size_t *n_out) {
    size_t i = 0;
    while (i < n) {
        size_t len;
        const size_t k = prefix(s + i, n - i, &len);
        if (len != 0 && k == len) {
            memcpy(out + *n_out, s + i, k);
            *n_out += k;
            i += k;
        } else if (k != 0 && i + k == n) {
            break; /* cut short: more may come */
        } else {
            *n_out += put_replacement(out + *n_out);
            i += k ? k : 1;
        }
    }
    return i;
}

size_t utf8_push(utf8_stream *u, const char *s, size_t n, char *out) {
    size_t n_out = 0;
    if (n == 0) return 0;    /* what is held stays held */
    while (u->n_held && n) { /* at most three bytes complete what is held */
        char joint[8];
        const size_t take = n < 4 ? n : 4, total = u->n_held + take;
        memcpy(joint, u->held, u->n_held);
        memcpy(joint + u->n_held, s, take);
        size_t len;
        const size_t k = prefix(joint, total, &len);
        if (k == total && k < len) { /* still incomplete, and s is used up (take == n) */
            memcpy(u->held, joint, total);
            u->n_held = total;
            return n_out;
        }
        if (k == len) {
            memcpy(out, joint, k);
            n_out = k;
        } else {
            n_out = put_replacement(out);
        }
        s += k - u->n_held;
        n -= k - u->n_held;
        u->n_held = 0;
    }
    const size_t used = emit(s, n, out, &n_out);
    u->n_held = n - used;
    memcpy(u->held, s + used, u->n_held);
    return n_out;
}

size_t utf8_flush(utf8_stream *u, char *out) {
    const size_t n = u->n_held ? put_replacement(out) : 0;
    u->n_held = 0;
    return n;
}
