#include "assist/clauses.h"

#include <stdbool.h>
#include <string.h>

#include "assist/text.h"

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Length of the mark at text[i] that ends a clause: a line break, or punctuation that is not inside a number; 0 for none. A
 * full-width or Arabic comma or stop counts too. */
static size_t mark_at(const char *text, size_t n, size_t i) {
    static const char *const wide[] = {"\xE3\x80\x82", "\xE3\x80\x81", "\xEF\xBC\x8C", "\xEF\xBC\x9B", "\xD8\x8C", "\xD8\x9B"};
    const char c = text[i];
    if (c == '\n' || c == '\r' || c == ';' || c == '!' || c == '?') return 1;
    if (c == '.' || c == ',' || c == ':') {
        const bool is_inside = i > 0 && i + 1 < n && is_digit(text[i - 1]) && is_digit(text[i + 1]);
        const bool ends = i + 1 == n || is_space(text[i + 1]) || c == ',';
        return !is_inside && ends ? 1 : 0;
    }
    for (size_t k = 0; k < sizeof wide / sizeof wide[0]; k++) {
        const size_t m = strlen(wide[k]);
        if (m <= n - i && memcmp(text + i, wide[k], m) == 0) return m;
    }
    return 0;
}

/* Length of a joining word that begins at text[i], behind a blank and before one; 0 for none. */
static size_t joint_at(const char *text, size_t n, size_t i) {
    static const char *const joints[] = {"and", "but", "with", "then", "also", "&", "plus"};
    if (i == 0 || !is_space(text[i - 1])) return 0;
    for (size_t k = 0; k < sizeof joints / sizeof joints[0]; k++) {
        const size_t m = strlen(joints[k]);
        if (i + m >= n || !is_space(text[i + m])) continue;
        size_t j = 0;
        while (j < m && lower(text[i + j]) == joints[k][j]) j++;
        if (j == m) return m;
    }
    return 0;
}

int32_t clauses_find(const char *text, size_t n, clause *out, int32_t cap) {
    int32_t n_out = 0;
    for (size_t i = 0, from = 0; i <= n && n_out < cap; i++) {
        const size_t mark = i == n ? 1 : mark_at(text, n, i), cut = mark || i == n ? mark : joint_at(text, n, i);
        if (!cut) continue;
        size_t a = from, b = i;
        while (a < b && is_space(text[a])) a++;
        while (b > a && is_space(text[b - 1])) b--;
        if (text_has_letter(text + a, b - a)) out[n_out++] = (clause){a, b};
        from = i + cut;
        i = from - 1; /* i moves on to from */
    }
    return n_out;
}
