/* "Crohn's disease" and "Crohn disease", "Haemorrhoids" and "hemorrhoid", "Infarction of the heart" and "Heart infarction". */
#include "assist/names.h"

#include <stdlib.h>
#include <string.h>

#include "assist/text.h"

#define MAX_WORDS 32

typedef struct name_word {
    const char *s;
    size_t n;
} name_word;

/* NULL-terminated; as stem leaves them. */
static const char *const name_fillers[] = {"a",  "an", "and",      "condition", "disease",  "disorder", "due", "in",   "of",
                                           "on", "or", "possible", "s",         "syndrome", "the",      "to",  "with", NULL};
static const char *const question_fillers[] = {
    "a",      "an",   "and",        "any",         "are",          "been", "can",     "could", "currently", "did",      "do",
    "does",   "ever", "experience", "experienced", "experiencing", "feel", "feeling", "for",   "had",       "has",      "have",
    "having", "in",   "is",         "it",          "noticed",      "of",   "on",      "or",    "patient",   "recently", "s",
    "some",   "such", "that",       "the",         "there",        "this", "to",      "was",   "were",      "with",     "you",
    "your",   NULL};

static bool is_filler(const name_word *w, const char *const *fillers) {
    for (; *fillers; fillers++) {
        if (strlen(*fillers) == w->n && memcmp(*fillers, w->s, w->n) == 0) return true;
    }
    return false;
}

/* In place: "ae" and "oe" become "e", a plural's "s" goes ("colds"; not "abscess", "pertussis", "lupus"). Returns the length. */
static size_t stem(char *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const bool is_double = i + 1 < n && (s[i] == 'a' || s[i] == 'o') && s[i + 1] == 'e';
        if (!is_double || i + 2 == n) s[k++] = s[i];
    }
    if (k > 4 && s[k - 1] == 's' && !strchr("sui", s[k - 2])) k--;
    return k;
}

static int by_bytes(const void *pa, const void *pb) {
    const name_word *a = pa, *b = pb;
    const int c = memcmp(a->s, b->s, a->n < b->n ? a->n : b->n);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* fillers NULL: none are left out. */
static size_t join(name_word *words, size_t n_words, const char *const *fillers, char *out, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++) {
        if ((fillers && is_filler(&words[i], fillers)) || (i && by_bytes(&words[i - 1], &words[i]) == 0)) continue;
        if (n + (n > 0) + words[i].n + 1 > cap) break;
        if (n) out[n++] = ' ';
        memcpy(out + n, words[i].s, words[i].n);
        n += words[i].n;
    }
    out[n] = '\0';
    return n;
}

static size_t key_of(const char *s, size_t n, const char *const *fillers, char *out, size_t cap) {
    char normal[GALEN_QUESTION_BYTES];
    name_word words[MAX_WORDS];
    size_t n_words = 0;
    const size_t n_normal = text_normal(s, n, normal, sizeof normal);
    for (size_t i = 0; i < n_normal && n_words < MAX_WORDS;) {
        const char *blank = memchr(normal + i, ' ', n_normal - i);
        const size_t k = blank ? (size_t)(blank - normal) - i : n_normal - i;
        words[n_words++] = (name_word){normal + i, stem(normal + i, k)};
        i += k + 1;
    }
    qsort(words, n_words, sizeof words[0], by_bytes);
    const size_t k = join(words, n_words, fillers, out, cap);
    return k ? k : join(words, n_words, NULL, out, cap);
}

size_t name_key(const char *s, size_t n, char *out, size_t cap) {
    return key_of(s, n, name_fillers, out, cap);
}

size_t question_key(const char *s, size_t n, char *out, size_t cap) {
    return key_of(s, n, question_fillers, out, cap);
}

bool name_is_same(const char *key_a, const galen_code *code_a, const char *key_b, const galen_code *code_b) {
    if (strcmp(key_a, key_b) == 0) return true;
    return code_a->code[0] && strcmp(code_a->code, code_b->code) == 0 && code_a->score >= NAME_SAME_SCORE &&
           code_b->score >= NAME_SAME_SCORE;
}

bool galen_condition_is_same(const galen_codes *codes, const char *a, const char *b) {
    char ka[GALEN_QUESTION_BYTES], kb[GALEN_QUESTION_BYTES];
    galen_code ca = {0}, cb = {0};
    (void)name_key(a, strlen(a), ka, sizeof ka);
    (void)name_key(b, strlen(b), kb, sizeof kb);
    if (name_is_same(ka, &ca, kb, &cb)) return true;
    if (!codes || galen_codes_find(codes, a, strlen(a), &ca, NULL) || galen_codes_find(codes, b, strlen(b), &cb, NULL))
        return false;
    return name_is_same(ka, &ca, kb, &cb);
}
