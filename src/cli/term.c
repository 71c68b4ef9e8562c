/* Words for the person: messages on stderr, one progress line there, wrapping and colours where there is a terminal. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

static int columns_of(int fd) {
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

void term_init(cli_term *t, bool no_color, bool quiet) {
    const char *no = getenv("NO_COLOR"), *kind = getenv("TERM");
    const bool is_dumb = !kind || !*kind || strcmp(kind, "dumb") == 0;
    *t = (cli_term){.is_out_tty = isatty(STDOUT_FILENO), .is_err_tty = isatty(STDERR_FILENO), .is_quiet = quiet};
    t->has_color = t->is_out_tty && !no_color && !(no && *no) && !is_dumb;
    if (is_dumb) t->is_err_tty = false; /* it cannot rewrite a line */
    t->n_columns = columns_of(isatty(STDERR_FILENO) ? STDERR_FILENO : STDOUT_FILENO);
}

static void say(cli *c, const char *fmt, va_list ap) {
    char text[1024] = "galen: ";
    const size_t n = strlen(text);
    term_progress_end(c);
    (void)fflush(stdout); /* in order, when both are one terminal */
    (void)vsnprintf(text + n, sizeof text - n, fmt, ap);
    if (isatty(STDERR_FILENO))
        term_wrap(stderr, text, c->term.n_columns);
    else
        (void)fprintf(stderr, "%s\n", text);
}

void term_error(cli *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
}

void term_note(cli *c, const char *fmt, ...) {
    va_list ap;
    if (c->term.is_quiet) return;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
}

/* Bytes of s that fill at most n columns, counting a character as one and never cutting it. */
static size_t fit(const char *s, int n) {
    size_t i = 0;
    while (s[i]) {
        if (((unsigned char)s[i] & 0xC0) != 0x80 && n-- <= 0) break;
        i++;
    }
    return i;
}

void term_progress_text(cli *c, const char *text) {
    if (!c->term.is_err_tty || c->term.is_quiet) return;
    (void)fprintf(stderr, "\r\033[K%.*s", (int)fit(text, c->term.n_columns - 1), text);
    (void)fflush(stderr);
    c->term.is_progress_open = true;
}

void term_progress(cli *c, const char *what, uint64_t done, uint64_t total) {
    char line[96];
    const double part = total ? (double)done / (double)total : 1.0;
    (void)snprintf(line, sizeof line, "%s %3.0f %%", what, 100.0 * (part > 1.0 ? 1.0 : part));
    term_progress_text(c, line);
}

void term_progress_end(cli *c) {
    if (!c->term.is_progress_open) return;
    (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
    c->term.is_progress_open = false;
}

const char *term_safe(const char *text, char *buf, size_t cap) {
    size_t i = 0;
    for (; text[i] && i + 1 < cap; i++) buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    buf[i] = '\0';
    return buf;
}

void term_write(const cli *c, const char *text, size_t n) {
    size_t from = 0;
    for (size_t i = 0; c->term.is_out_tty && i < n; i++) {
        const unsigned char b = (unsigned char)text[i];
        const bool is_c1 = b == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;
        const bool is_bad = (b < 0x20 && b != '\n' && b != '\t') || b == 0x7F || is_c1;
        if (!is_bad) continue;
        (void)fwrite(text + from, 1, i - from, stdout);
        (void)putchar('?');
        i += is_c1;
        from = i + 1;
    }
    (void)fwrite(text + from, 1, n - from, stdout);
}

void term_hang(FILE *out, int at, const char *text, int n_columns) {
    int used = 0;
    const int room = n_columns - at > 24 ? n_columns - at : 24;
    while (*text == ' ') text++;
    while (*text) {
        const size_t n = strcspn(text, " ");
        int width = 0;
        for (size_t i = 0; i < n; i++) width += ((unsigned char)text[i] & 0xC0) != 0x80;
        if (used && used + 1 + width > room) {
            (void)fprintf(out, "\n%*s", at, "");
            used = 0;
        } else if (used) {
            (void)fputc(' ', out);
            used++;
        }
        (void)fwrite(text, 1, n, out);
        used += width;
        text += n;
        while (*text == ' ') text++;
    }
    (void)fputc('\n', out);
}

void term_wrap(FILE *out, const char *text, int n_columns) {
    term_hang(out, 0, text, n_columns);
}

int term_width(const cli *c) {
    return c->term.is_out_tty ? c->term.n_columns : TERM_NO_WIDTH;
}

void term_row(int n_columns, const char *left, int at, const char *text) {
    const bool is_beside = strlen(text) + (size_t)at <= (size_t)n_columns;
    if (n_columns < 60 && at > 8 && !is_beside) at = 6; /* a narrow terminal: the text goes below */
    if (*left && (int)strlen(left) + 2 > at)
        (void)printf("%s\n%*s", left, at, "");
    else
        (void)printf("%-*s", at, left);
    term_hang(stdout, at, text, n_columns);
}

void term_fact(const cli *c, const char *left, int at, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    term_row(term_width(c), left, at, text);
}

const char *term_sgr(const cli *c, const char *on) {
    return c->term.has_color ? on : "";
}

cli_exit term_finish(cli *c, cli_exit st) {
    term_progress_end(c);
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return st;
    term_error(c, "standard output: %s; what was written is not complete", errno ? strerror(errno) : "a write failed");
    return st ? st : CLI_FAILED;
}
