/* Does a text say enough to be worth a list? Judged by what is left when the words that say nothing are taken away (data/input):
 * so greetings, instructions and "I feel bad" are turned away with what is missing, and a word that is not known counts as a
 * complaint. */
#include <string.h>

#include "assist/text.h"
#include "base/embed.h"
#include "base/error.h"
#include "galen/assist.h"

#define MIN_LETTERS 3     /* "flu" */
#define LOOKED_AT   65536 /* bytes: a longer text says something */
#define WORD_BYTES  24    /* a longer word is none of the list */

#define SAY "say what is felt, where, since when, how strong, and the person's age and sex"

static const char list_file[] = "data/input/says-nothing.txt";
static const char instructions_mark[] = "[instructions]";

typedef struct word_list {
    const char *all, *end, *instructions; /* instructions: from here on */
} word_list;

static bool list_open(word_list *l) {
    const embedded *e = embed_find(embedded_data, list_file);
    if (!e) return false;
    l->all = e->bytes;
    l->end = e->bytes + e->n;
    l->instructions = strstr(e->bytes, instructions_mark); /* ends with a NUL */
    if (!l->instructions) l->instructions = l->end;
    return true;
}

/* The word as a line of the list; NULL when it is none. */
static const char *list_find(const word_list *l, const char *word, size_t n) {
    for (const char *p = l->all; p < l->end;) {
        const char *nl = memchr(p, '\n', (size_t)(l->end - p));
        const size_t k = (size_t)((nl ? nl : l->end) - p);
        if (k == n && memcmp(p, word, n) == 0) return p;
        p += k + 1;
    }
    return NULL;
}

/* The next word at text[*at]: lower case, ASCII letters and apostrophes (dropped). Length; 0 at the end. A word with another
 * letter in it, or too long for the list, comes as one that is in no list. */
static size_t next_word(const char *text, size_t n, size_t *at, char word[WORD_BYTES]) {
    size_t k = 0;
    bool is_other = false;
    for (; *at < n; (*at)++) {
        const char c = text[*at];
        const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if ((unsigned char)c >= 0x80) is_other |= text_has_letter(text + *at, n - *at < 4 ? n - *at : 4);
        if (is_letter && k < WORD_BYTES)
            word[k++] = (char)(c | 0x20);
        else if (!is_letter && (unsigned char)c < 0x80 && c != '\'' && (k || is_other))
            break;
    }
    if (is_other) word[0] = '?';
    return is_other ? 1 : k;
}

galen_status galen_symptoms_check(const char *symptoms, size_t len, galen_error *err) {
    bool has_mark = false, is_instruction = false;
    word_list list;
    char word[WORD_BYTES];
    for (size_t i = 0; i < len; i++) has_mark |= (unsigned char)symptoms[i] > 0x20;
    if (!has_mark) return galen_fail(err, GALEN_E_REFUSED, 0, "the description is empty; " SAY);
    const size_t n_letters = text_count_letters(symptoms, len);
    if (n_letters < MIN_LETTERS)
        return galen_fail(err, GALEN_E_REFUSED, 0, "the description %s; " SAY,
                          n_letters ? "is too short to say anything" : "has no words, only digits or marks");
    if (len > LOOKED_AT || !list_open(&list)) return GALEN_OK;
    for (size_t at = 0, n; (n = next_word(symptoms, len, &at, word));) {
        const char *found = list_find(&list, word, n);
        if (!found) return GALEN_OK;
        is_instruction |= found > list.instructions;
    }
    if (is_instruction) return galen_fail(err, GALEN_E_REFUSED, 0, "the description holds instructions and no complaint; " SAY);
    return galen_fail(err, GALEN_E_REFUSED, 0, "the description names no complaint; " SAY);
}
