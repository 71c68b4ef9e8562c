/* The nearest of some names to a misspelt word: edit distance with swaps of neighbours (Damerau; optimal alignment). */
#include <string.h>

#include "cli/options.h"

#define WORD_MAX 31 /* longer words are not near anything we have */

static size_t min3(size_t a, size_t b, size_t c) {
    const size_t m = a < b ? a : b;
    return m < c ? m : c;
}

static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t d[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= n_a; i++) d[i][0] = i;
    for (size_t j = 0; j <= n_b; j++) d[0][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        for (size_t j = 1; j <= n_b; j++) {
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            const bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (is_swap && d[i - 2][j - 2] + 1 < d[i][j]) d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[n_a][n_b];
}

const char *suggest(const char *word, const char *const *names, size_t n) {
    const size_t n_word = strlen(word);
    const char *best = NULL;
    size_t best_d = 1 + (n_word > 3) + (n_word > 7); /* edits that still look like a slip */
    if (n_word == 0 || n_word > WORD_MAX) return NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t len = strlen(names[i]);
        if (len > WORD_MAX) continue;
        const size_t d = distance(word, n_word, names[i], len);
        if (d <= best_d && (!best || d < best_d)) {
            best = names[i];
            best_d = d;
        }
    }
    return best;
}
