#include "cli/banner.h"

#include <string.h>
#include <strings.h>

#define MOST_SHOWN 6 /* flags: the highest come first */

static const char *const titles[] = {
    [GALEN_TRIAGE_SELF_CARE] = "Self-care",
    [GALEN_TRIAGE_CONSULTATION] = "See a clinician",
    [GALEN_TRIAGE_CONSULTATION_24] = "SEE A CLINICIAN WITHIN 24 HOURS",
    [GALEN_TRIAGE_EMERGENCY] = "EMERGENCY",
    [GALEN_TRIAGE_EMERGENCY_AMBULANCE] = "EMERGENCY: CALL AN AMBULANCE",
};

static void put_flag(const cli *c, const galen_triage_flag *f, const char *text, size_t n) {
    char line[1200];
    (void)snprintf(line, sizeof line, "! %s (%s)", f->message, f->source);
    if (c->term.is_out_tty)
        term_wrap(stdout, line, c->term.n_columns);
    else
        (void)printf("%s\n", line);
    if (f->from >= f->to || f->to > n) return;
    const int room = c->term.is_out_tty ? c->term.n_columns - 7 : 1 << 20; /* a quote is one line */
    size_t i = f->from;
    (void)fputs("  \"", stdout);
    for (int used = 0; i < f->to && used < room; used++) {
        const char blank = ' ', *at = (unsigned char)text[i] < 0x20 ? &blank : text + i;
        size_t k = 1;
        while (at != &blank && i + k < f->to && ((unsigned char)text[i + k] & 0xC0) == 0x80) k++;
        term_write(c, at, k);
        i += k;
    }
    (void)printf("%s\"\n", i < f->to ? "..." : "");
}

bool banner_is_needed(const galen_triage *t) {
    bool has_warning = false;
    for (int32_t i = 0; i < t->n_warnings; i++) has_warning |= t->warnings[i].kind != GALEN_WARN_TOO_LITTLE;
    return t->n_flags || t->level >= GALEN_TRIAGE_CONSULTATION_24 || has_warning;
}

void banner_print(const cli *c, const galen_triage *t, const char *text, size_t n) {
    const bool is_urgent = t->level >= GALEN_TRIAGE_CONSULTATION_24;
    if (!banner_is_needed(t)) return;
    if (t->n_flags || is_urgent) {
        char line[512];
        const char *title = titles[t->level], *advice = galen_triage_level_advice(t->level);
        const bool is_said = strncasecmp(title, advice, strlen(title)) == 0; /* by the title */
        (void)snprintf(line, sizeof line, "%s%s%s", title, is_said ? "" : ". ", is_said ? advice + strlen(title) : advice);
        (void)fputs(term_sgr(c, is_urgent ? "\033[1;31m" : "\033[1m"), stdout);
        term_wrap(stdout, line, c->term.is_out_tty ? c->term.n_columns : 1 << 20);
        (void)fputs(term_sgr(c, "\033[0m"), stdout);
    }
    for (int32_t i = 0; i < t->n_flags && i < MOST_SHOWN; i++) put_flag(c, &t->flags[i], text, n);
    if (t->n_flags > MOST_SHOWN) (void)printf("! and %d more\n", t->n_flags - MOST_SHOWN);
    for (int32_t i = 0; i < t->n_warnings; i++) {
        if (t->warnings[i].kind != GALEN_WARN_TOO_LITTLE) (void)printf("? %s\n", t->warnings[i].message);
    }
    (void)putchar('\n');
    (void)fflush(stdout);
}
