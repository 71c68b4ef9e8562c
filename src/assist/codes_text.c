#include <stdbool.h>
#include <string.h>

#include "assist/codes.h"
#include "assist/latin.h"
#include "base/utf8.h"

static const char *const stop_words[] = {"of",  "the", "an", "and", "or", "in",          "to",  "by",       "with",
                                         "due", "for", "on", "at",  "as", "unspecified", "nos", "specified"};
/* Joined with the next word: "gastro-esophageal" is "gastroesophageal". */
static const char *const prefixes[] = {"pre",     "post",    "non",     "not",    "gastro",  "auto",    "sub",    "pseudo",
                                       "anti",    "hyper",   "hypo",    "para",   "peri",    "poly",    "micro",  "broncho",
                                       "cardio",  "cerebro", "musculo", "osteo",  "neuro",   "thrombo", "vulvo",  "utero",
                                       "uretero", "laryngo", "tracheo", "naso",   "oro",     "recto",   "ano",    "myo",
                                       "endo",    "epi",     "cortico", "cranio", "cervico", "lumbo",   "thoraco"};
/* What a clinician puts before a name that is not certain. */
static const char *const doubt_words[] = {"possible", "probable",  "suspected",   "likely", "presumed", "possibly",
                                          "probably", "potential", "presumptive", "query",  "suspicion"};

#define IS_ONE_OF(word, list) is_one_of(word, list, sizeof(list) / sizeof(list)[0])
static bool is_one_of(const char *word, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(word, list[i]) == 0) return true;
    return false;
}

static bool ends_with(const char *w, size_t n, const char *tail) {
    const size_t m = strlen(tail);
    return n >= m && memcmp(w + n - m, tail, m) == 0;
}

static size_t drop_pairs(char *w, size_t n) { /* ae, oe: anaemia, oedema */
    size_t out = 0;
    for (size_t i = 0; i < n; i++)
        if (!((w[i] == 'a' || w[i] == 'o') && i + 1 < n && w[i + 1] == 'e')) w[out++] = w[i];
    return out;
}

/* American, singular. */
static size_t fold_word(char *w, size_t n) {
    bool is_number = true;
    for (size_t i = 0; i < n; i++) is_number &= w[i] >= '0' && w[i] <= '9';
    if (is_number) return n;
    n = drop_pairs(w, n);
    if (n > 5 && ends_with(w, n, "our")) {
        w[n - 2] = 'r';
        n--;
    }
    if (n > 4 && ends_with(w, n, "ies")) {
        w[n - 3] = 'y';
        return n - 2;
    }
    if (n > 3 && w[n - 1] == 's' && !ends_with(w, n, "ss") && !ends_with(w, n, "us") && !ends_with(w, n, "is") &&
        !ends_with(w, n, "as") && !ends_with(w, n, "os"))
        n--;
    return n;
}

static void add_word(codes_words *out, char *w, size_t n) {
    n = fold_word(w, n);
    w[n] = '\0';
    if (!n || IS_ONE_OF(w, stop_words) || IS_ONE_OF(w, doubt_words)) return;
    char *last = out->n ? out->text[out->n - 1] : NULL;
    if (last && IS_ONE_OF(last, prefixes) && strlen(last) + n < CODES_WORD_BYTES) {
        memcpy(last + strlen(last), w, n + 1);
        return;
    }
    if (out->n < CODES_MAX_WORDS) memcpy(out->text[out->n++], w, n + 1);
}

void codes_once(codes_words *out) {
    int n = 0;
    for (int i = 0; i < out->n; i++) {
        bool is_new = true;
        for (int k = 0; k < n; k++) is_new &= strcmp(out->text[k], out->text[i]) != 0;
        if (is_new && n++ != i) memmove(out->text[n - 1], out->text[i], CODES_WORD_BYTES);
    }
    out->n = n;
}

/* A letter or digit in lower case; 1 for an apostrophe or a mark that is left out; 0 for what separates. */
static char fold_char(uint32_t cp) {
    if (cp >= 'A' && cp <= 'Z') return (char)(cp | 0x20);
    if ((cp >= 'a' && cp <= 'z') || (cp >= '0' && cp <= '9')) return (char)cp;
    if (cp == '\'' || cp == 0x2019 || (cp >= 0x300 && cp < 0x370)) return 1;
    return latin_base(cp);
}

void codes_fold(const char *s, size_t n, codes_words *out) {
    char w[CODES_WORD_BYTES];
    size_t n_word = 0;
    out->n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        const size_t k = utf8_decode(s + i, n - i, &cp);
        const char c = k ? fold_char(cp) : 0;
        i += k ? k : 1;
        const bool is_possessive =
            c == 1 && i < n && (s[i] == 's' || s[i] == 'S') && (i + 1 >= n || !fold_char((unsigned char)s[i + 1]));
        if (is_possessive) i++;
        if (c > 1 && n_word + 1 < sizeof w) w[n_word++] = c;
        if (c != 0 && i < n) continue;
        if (n_word) add_word(out, w, n_word);
        n_word = 0;
    }
    if (n_word) add_word(out, w, n_word);
}
