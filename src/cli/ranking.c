#include "cli/ranking.h"

#include <string.h>

#define BAR         20
#define NARROW      60 /* columns: below, no bars */
#define QUOTE_BYTES 60

static int columns(const char *s) {
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

void ranking_print_title(const cli *c, const galen_differential *d) {
    const char *meaning = galen_assist_confidence_meaning(d->is_calibrated);
    char line[256];
    (void)snprintf(line, sizeof line, "(confidence: %s)", meaning);
    const bool is_narrow = c->term.is_out_tty && c->term.n_columns < 66;
    (void)printf("%sPossible conditions%s%s", term_sgr(c, "\033[1m"), term_sgr(c, "\033[0m"), is_narrow ? "\n" : " ");
    term_hang(stdout, 0, line, term_width(c));
}

void ranking_print_form(const cli *c, const galen_differential *d) {
    ranking_print_title(c, d);
    for (int i = 0; i < GALEN_N_CONDITIONS; i++)
        (void)printf("\n- diagnosis: %s\n- confidence: %.2f\n", d->conditions[i].name, d->conditions[i].confidence);
}

static void put_bar(double p) {
    char bar[BAR + 1];
    const int n = (int)(p * BAR + 0.5);
    for (int i = 0; i < BAR; i++) bar[i] = i < n ? '#' : '.';
    bar[BAR] = '\0';
    (void)printf(" [%s]", bar);
}

/* The user's words between quotes, cut at a character, and what they weigh. */
static void quote(const char *text, size_t n, const galen_evidence *e, char *out, size_t cap) {
    char cut[QUOTE_BYTES + 1], line[QUOTE_BYTES + 1];
    *out = '\0';
    if (e->to > n || e->from >= e->to) return;
    size_t end = e->to - e->from > QUOTE_BYTES ? e->from + QUOTE_BYTES : e->to;
    while (end < e->to && end > e->from && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
    size_t k = 0;
    for (size_t i = e->from; i < end; i++) cut[k++] = (unsigned char)text[i] < 0x20 ? ' ' : text[i];
    cut[k] = '\0';
    (void)snprintf(out, cap, "\"%s%s\" (%+.1f bits)", term_safe(cut, line, sizeof line), end < e->to ? "..." : "", e->bits);
}

/* "     for     text", the text wrapped beside its column. */
static void put_detail(const cli *c, const char *what, const char *text) {
    (void)printf("     %-8s", what);
    term_hang(stdout, 13, text, term_width(c));
}

static void put_quotes(const cli *c, const char *what, const galen_evidence *e, int32_t n_e, const char *text, size_t n) {
    for (int32_t i = 0; i < n_e; i++) {
        char line[QUOTE_BYTES + 32];
        quote(text, n, &e[i], line, sizeof line);
        put_detail(c, i ? "" : what, line);
    }
}

static void put_details(const cli *c, const galen_condition *k, const galen_questions *q, const char *text, size_t n,
                        bool has_code) {
    if (k->code[0] && !has_code) {
        char code[320];
        (void)snprintf(code, sizeof code, "%s %s", k->code, k->code_title ? k->code_title : "");
        put_detail(c, "code", code);
    }
    put_quotes(c, "for", k->support, k->n_support, text, n);
    put_quotes(c, "against", k->against, k->n_against, text, n);
    for (int i = 0; i < GALEN_N_QUESTIONS && q; i++) {
        char safe[GALEN_QUESTION_BYTES];
        if (k->missing & 1u << i) put_detail(c, "missing", term_safe(q->questions[i].text, safe, sizeof safe));
    }
}

void ranking_print_table(const cli *c, const galen_differential *d, const galen_questions *q, const char *text, size_t n,
                         const double *change, bool has_details) {
    const int n_numbers = 9 + (change ? 8 : 0); /* "1. ", " 0.31", " (+0.05)" */
    const int n_extra = BAR + 3 + (d->code_year ? 9 : 0);
    int widest = 5;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const int w = columns(d->conditions[i].name);
        widest = w > widest ? w : widest;
    }
    widest = widest > 36 ? 36 : widest;
    if (widest + n_numbers > c->term.n_columns) widest = c->term.n_columns - n_numbers;
    const bool is_wide = c->term.n_columns >= NARROW && widest + n_numbers + n_extra <= c->term.n_columns;
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        const galen_condition *k = &d->conditions[i];
        const int pad = widest - columns(k->name);
        (void)printf("%2d. %s", i + 1, term_sgr(c, "\033[1m"));
        term_write(c, k->name, strlen(k->name));
        (void)printf("%s%*s %.2f", term_sgr(c, "\033[0m"), pad > 0 ? pad : 0, "", k->confidence);
        if (change) (void)printf(" (%+.2f)", change[i]);
        if (is_wide) put_bar(k->confidence);
        if (is_wide && d->code_year) (void)printf("  %s", k->code[0] ? k->code : "no code");
        (void)putchar('\n');
        if (has_details) put_details(c, k, q, text, n, is_wide && d->code_year);
    }
    (void)printf("    %-*s %.2f\n", widest, "none of these", d->other);
}

void ranking_print_doubts(cli *c, const galen_differential *d) {
    char line[512];
    if (!d->disagreement) return;
    (void)snprintf(line, sizeof line, "The signals disagree:%s%s%s.",
                   d->disagreement & GALEN_DISAGREE_NAMES ? " by its name alone another condition is likelier;" : "",
                   d->disagreement & GALEN_DISAGREE_SAMPLES ? " asked anew, the model mostly begins with another;" : "",
                   d->disagreement & GALEN_DISAGREE_EVIDENCE ? " the words given speak more for another;" : "");
    char *last = strstr(line, ";.");
    if (last) memmove(last, ".", 2);
    if (c->term.is_out_tty)
        term_wrap(stdout, line, c->term.n_columns);
    else
        term_note(c, "%s", line);
}
