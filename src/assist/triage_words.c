/* Bytes to folded words. Anything is accepted: what is no letter, digit, % or ° separates; ill-formed UTF-8 separates too.
 * Folding: lower case; Latin letters lose their accents (ae, oe, ss written out); invisible characters vanish; an ideograph or
 * kana is a word by itself, so that phrases in scripts without blanks are sequences too. */
#include <math.h>
#include <string.h>

#include "assist/latin.h"
#include "assist/triage_impl.h"
#include "base/utf8.h"

typedef enum kind { IS_BREAK, IS_LETTER, IS_ALONE, IS_DIGIT, IS_INVISIBLE, IS_SIGN } kind;

typedef struct unit {
    kind kind;
    uint32_t cp;
    uint8_t n_bytes, n_fold;
    char fold[4];
} unit;

static void fold_latin(unit *u) {
    u->n_fold = 1;
    u->fold[0] = latin_base(u->cp);
    if (u->cp == 0xC6 || u->cp == 0xE6 || u->cp == 0x152 || u->cp == 0x153) {
        u->fold[1] = 'e';
        u->n_fold = 2;
    } else if (u->cp == 0xDF) {
        u->fold[1] = 's';
        u->n_fold = 2;
    }
    if (!u->fold[0]) u->kind = IS_BREAK;
}

static uint32_t lower(uint32_t cp) {
    if (cp >= 0x410 && cp <= 0x42F) return cp + 0x20; /* Cyrillic */
    if (cp >= 0x400 && cp <= 0x40F) return cp + 0x50;
    if (cp >= 0x391 && cp <= 0x3A9) return cp + 0x20; /* Greek    */
    return cp;
}

static kind kind_of(uint32_t cp) {
    if (cp == 0xB0 || cp == 0xBA) return IS_SIGN;
    if (cp < 0xC0) return cp == 0xAD ? IS_INVISIBLE : IS_BREAK;
    if (cp >= 0x300 && cp < 0x370) return IS_INVISIBLE; /* combining marks */
    if ((cp >= 0x200B && cp <= 0x200F) || cp == 0x2060 || cp == 0xFEFF) return IS_INVISIBLE;
    if ((cp >= 0x2000 && cp < 0x2C00) || (cp >= 0x2E00 && cp < 0x3040) || (cp >= 0xFE00 && cp < 0xFE70)) return IS_BREAK;
    if (cp >= 0xFF00 && cp < 0xFF66) return IS_BREAK;
    if (cp >= 0x2E80 && cp < 0xFE00) return cp >= 0xD800 && cp < 0xF900 ? IS_BREAK : IS_ALONE;
    if (cp >= 0x1F000 && cp < 0x20000) return IS_BREAK; /* pictures */
    return cp >= 0x20000 ? IS_ALONE : IS_LETTER;
}

/* A program's text may come with JSON's escapes: \\u201c, \\n. Bytes of the escape at pos, its character in *cp; 0 = none. */
static size_t escape_at(const lexer *x, size_t pos, uint32_t *cp) {
    if (x->s[pos] != '\\' || pos + 1 >= x->n) return 0;
    *cp = '\n';
    if (x->s[pos + 1] == 'n') return 2;
    if (x->s[pos + 1] != 'u' || x->n - pos < 6) return 0;
    *cp = 0;
    for (size_t i = pos + 2; i < pos + 6; i++) {
        const char c = x->s[i], l = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            *cp = *cp << 4 | (uint32_t)(c - '0');
        else if (l >= 'a' && l <= 'f')
            *cp = *cp << 4 | (uint32_t)(l - 'a' + 10);
        else
            return 0;
    }
    return 6;
}

static unit unit_at(const lexer *x, size_t pos) {
    unit u = {.kind = IS_BREAK, .n_bytes = 1};
    const unsigned char c = (unsigned char)x->s[pos];
    u.cp = c;
    const size_t n_escape = c == '\\' ? escape_at(x, pos, &u.cp) : 0;
    if (n_escape) {
        u.n_bytes = (uint8_t)n_escape;
        if (u.cp >= 0xD800 && u.cp < 0xE000) return (unit){.kind = IS_BREAK, .n_bytes = 6, .cp = 0xFFFD};
    } else if (c >= 0x80) {
        u.n_bytes = (uint8_t)utf8_decode(x->s + pos, x->n - pos, &u.cp);
        if (!u.n_bytes) return (unit){.kind = IS_BREAK, .n_bytes = 1, .cp = 0xFFFD};
        if (u.cp >= 0xFF01 && u.cp <= 0xFF5E) u.cp -= 0xFEE0; /* full-width ASCII */
    }
    if (u.cp < 0x80) {
        const uint32_t l = u.cp | 0x20;
        if (l >= 'a' && l <= 'z')
            u.kind = IS_LETTER, u.fold[0] = (char)l, u.n_fold = 1;
        else if (u.cp >= '0' && u.cp <= '9')
            u.kind = IS_DIGIT, u.fold[0] = (char)u.cp, u.n_fold = 1;
        else
            u.kind = u.cp == '%' ? IS_SIGN : IS_BREAK;
        return u;
    }
    u.kind = kind_of(u.cp);
    if (u.kind == IS_LETTER && u.cp < 0x180)
        fold_latin(&u);
    else if (u.kind == IS_LETTER || u.kind == IS_ALONE)
        u.n_fold = (uint8_t)utf8_encode(lower(u.cp), u.fold);
    return u;
}

/* ------------------------------------------------------------ between words */

static bool is_sentence_sign(uint32_t cp) {
    return cp == '!' || cp == '?' || cp == ';' || cp == 0x3002 || cp == 0xFF1B || cp == 0x2022 || cp == 0xB7;
}
static bool is_comma_sign(uint32_t cp) {
    return cp == ',' || cp == '(' || cp == ')' || cp == '[' || cp == ']' || cp == 0x2014 || cp == 0x2013 || cp == 0x3001 ||
           cp == 0x2026;
}

/* A line break ends a sentence unless the next line goes on in lower case. */
static bool line_ends(const lexer *x, size_t pos) {
    size_t n_breaks = 0;
    for (; pos < x->n; pos++) {
        const char c = x->s[pos];
        if (c == '\n')
            n_breaks++;
        else if (c != ' ' && c != '\t' && c != '\r')
            break;
        if (n_breaks > 1) return true;
    }
    return pos >= x->n || !(x->s[pos] >= 'a' && x->s[pos] <= 'z');
}

static bool is_dash(const lexer *x, size_t pos) {
    return x->s[pos] == '-' && pos > 0 && pos + 1 < x->n && (x->s[pos - 1] == ' ' || x->s[pos - 1] == '-') &&
           (x->s[pos + 1] == ' ' || x->s[pos + 1] == '-');
}

/* What stands before the next word. *pos moves to it. */
static unit skip_breaks(const lexer *x, size_t *pos, token *t) {
    unit u = {.kind = IS_BREAK};
    const size_t start = *pos;
    bool is_hard = false; /* ended by more than a dot, which an abbreviation has too */
    while (*pos < x->n) {
        if (x->s[*pos] == ' ') { /* the usual case */
            ++*pos;
            continue;
        }
        const char low = (char)(x->s[*pos] | 0x20);
        if (low >= 'a' && low <= 'z') {
            u = (unit){.kind = IS_LETTER, .cp = (unsigned char)x->s[*pos], .n_bytes = 1};
            break;
        }
        u = unit_at(x, *pos);
        if (u.kind != IS_BREAK && u.kind != IS_INVISIBLE) break;
        brk b = BRK_NONE;
        if (is_sentence_sign(u.cp) || (u.cp == '\n' && line_ends(x, *pos)))
            b = BRK_SENTENCE;
        else if (is_comma_sign(u.cp) || is_dash(x, *pos))
            b = BRK_COMMA;
        else if (u.cp == '.')
            b = BRK_SENTENCE, t->is_after_dot = true;
        else if (u.cp == '/')
            t->is_slash_before = true;
        is_hard |= b == BRK_SENTENCE && u.cp != '.';
        if (b > t->before) t->before = b;
        *pos += u.n_bytes;
    }
    t->is_after_dot &= !is_hard;
    t->is_glued = *pos == start;
    return u;
}

/* ------------------------------------------------------------ words and numbers */

static bool digit_at(const lexer *x, size_t pos) {
    return pos < x->n && x->s[pos] >= '0' && x->s[pos] <= '9';
}

static bool letter_at(const lexer *x, size_t pos) {
    return pos < x->n && unit_at(x, pos).kind == IS_LETTER;
}

static void append(token *t, const unit *u) {
    if (t->n + u->n_fold >= WORD_BYTES) return;
    memcpy(t->text + t->n, u->fold, u->n_fold);
    t->n = (uint8_t)(t->n + u->n_fold);
}

/* 39.5 and 39,5 are fractions; 1,200 and 1.200 with three digits behind are thousands unless they begin with 0. */
static void lex_number(lexer *x, token *t) {
    double v = 0, scale = 1;
    bool is_fraction = false;
    for (; digit_at(x, x->pos) || ((x->s[x->pos] == '.' || x->s[x->pos] == ',') && digit_at(x, x->pos + 1)); x->pos++) {
        const char c = x->s[x->pos];
        if (c == '.' || c == ',') {
            size_t n = 1;
            while (n < 5 && digit_at(x, x->pos + n)) n++;
            const bool is_thousands = c == ',' && n - 1 == 3 && v >= 1 && !is_fraction;
            if (!is_thousands && is_fraction) break;
            is_fraction = !is_thousands;
            continue;
        }
        if (v < 1e15) {
            v = v * 10 + (c - '0');
            if (is_fraction) scale *= 10;
        }
        if (x->pos + 1 >= x->n) {
            x->pos++;
            break;
        }
    }
    t->is_digits = t->is_number = true;
    t->value = v / scale;
    t->text[0] = '#';
    t->n = 1;
}

static bool is_apostrophe(uint32_t cp) {
    return cp == '\'' || cp == 0x2019 || cp == 0x2BC || cp == 0xB4 || cp == '`';
}

/* d'urine is two words, can't is one; S.O.B. is sob; HR138 is hr 138, SpO2 is one. */
static void lex_word(lexer *x, token *t) {
    size_t n_units = 0;
    bool is_dotted = false;
    while (x->pos < x->n) {
        const char low = (char)(x->s[x->pos] | 0x20);
        if (low >= 'a' && low <= 'z') { /* the usual case */
            if (t->n + 1 < WORD_BYTES) t->text[t->n++] = low;
            n_units++;
            x->pos++;
            continue;
        }
        const unit u = unit_at(x, x->pos);
        const size_t next = x->pos + u.n_bytes;
        if (u.kind == IS_LETTER) {
            append(t, &u);
            n_units++;
        } else if (u.kind == IS_DIGIT && n_units > 0) {
            if (digit_at(x, next) || (next + 1 < x->n && x->s[next] == '.' && digit_at(x, next + 1))) break;
            append(t, &u);
            n_units++;
        } else if (is_apostrophe(u.cp) && letter_at(x, next)) {
            if (n_units == 1 || (t->n == 2 && memcmp(t->text, "qu", 2) == 0)) break;
        } else if (u.cp == '.' && letter_at(x, next) && (n_units == 1 || is_dotted)) {
            const unit v = unit_at(x, next);
            if (letter_at(x, next + v.n_bytes)) break; /* "a.Then" */
            is_dotted = true;
        } else if (u.kind != IS_INVISIBLE) {
            if (u.cp == '.' && is_dotted) x->pos = next; /* the last dot of S.O.B. */
            break;
        }
        x->pos = next;
    }
}

bool triage_lex(lexer *x, token *t) {
    memset(t, 0, offsetof(token, text));
    t->value = NAN;
    const unit u = skip_breaks(x, &x->pos, t);
    if (x->pos >= x->n) return false;
    t->from = x->pos;
    if (u.kind == IS_DIGIT) {
        if (u.n_bytes == 1) {
            lex_number(x, t);
        } else { /* a full-width digit alone */
            t->is_digits = t->is_number = true;
            t->value = u.fold[0] - '0';
            t->text[0] = '#';
            t->n = 1;
            x->pos += u.n_bytes;
        }
    } else if (u.kind == IS_LETTER) {
        lex_word(x, t);
    } else {
        x->pos += u.n_bytes;
        if (u.kind == IS_ALONE) {
            append(t, &u);
        } else {
            const char *name = u.cp == '%' ? "%" : "deg";
            t->n = (uint8_t)strlen(name);
            memcpy(t->text, name, t->n);
        }
    }
    t->to = x->pos;
    t->text[t->n] = '\0';
    return true;
}
