/* One interface, two ways: libedit's where there is a person and GALEN_HAVE_LIBEDIT, plain lines elsewhere. */
#include "cli/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#ifdef GALEN_HAVE_LIBEDIT
#include <histedit.h>
#endif

#define READ_BYTES 4096
#define LINE_MAX_  ((size_t)1 << 30)

struct line_reader {
    const char *prompt;
    bool is_tty;
    char *bytes; /* read and not yet given out: from..n */
    size_t from, n, cap;
#ifdef GALEN_HAVE_LIBEDIT
    EditLine *el;
    History *history;
#endif
};

#ifdef GALEN_HAVE_LIBEDIT
static char *prompt_of(EditLine *el) {
    line_reader *r = NULL;
    static char text[32]; /* libedit takes no const */
    (void)el_get(el, EL_CLIENTDATA, &r);
    (void)snprintf(text, sizeof text, "%s", r ? r->prompt : "> ");
    return text;
}

/* libedit's own reader would miss a Ctrl-C that comes just before it blocks. 1: a character; 0: the end; -1: a signal. */
static int read_wide(EditLine *el, wchar_t *out) {
    mbstate_t state = {0};
    char b;
    (void)el;
    for (;;) {
        if (!signals_wait_readable(STDIN_FILENO)) return -1;
        const ssize_t k = read(STDIN_FILENO, &b, 1);
        if (k < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (k <= 0) return (int)k;
        const size_t got = mbrtowc(out, &b, 1, &state);
        if (got == (size_t)-2) continue;
        if (got == (size_t)-1) *out = L'?';
        return 1;
    }
}

static void open_editor(line_reader *r) {
    HistEvent ev;
    r->history = history_init();
    r->el = el_init("galen", stdin, stdout, stderr);
    if (!r->el || !r->history) return; /* plain lines then */
    (void)history(r->history, &ev, H_SETSIZE, 100);
    (void)el_set(r->el, EL_CLIENTDATA, r);
    (void)el_set(r->el, EL_PROMPT, prompt_of);
    (void)el_set(r->el, EL_EDITOR, "emacs");
    (void)el_set(r->el, EL_HIST, history, r->history);
    (void)el_set(r->el, EL_GETCFN, read_wide);
}

static line_result edit_line(line_reader *r, const char **text, size_t *n) {
    int count = 0;
    HistEvent ev;
    const char *line = el_gets(r->el, &count);
    if (signals_stop()) {
        (void)fputs("\n", stdout);
        el_reset(r->el);
        return LINE_SIGNAL;
    }
    if (!line || count <= 0) return LINE_END;
    *text = line;
    *n = strcspn(line, "\n");
    if (*n) (void)history(r->history, &ev, H_ENTER, line);
    return LINE_TEXT;
}
#endif

line_reader *line_open(const cli *c, const char *prompt) {
    line_reader *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->prompt = prompt;
    r->is_tty = isatty(STDIN_FILENO) && c->term.is_out_tty;
#ifdef GALEN_HAVE_LIBEDIT
    if (r->is_tty) open_editor(r);
#endif
    return r;
}

void line_close(line_reader *r) {
    if (!r) return;
#ifdef GALEN_HAVE_LIBEDIT
    if (r->el) el_end(r->el);
    if (r->history) history_end(r->history);
#endif
    free(r->bytes);
    free(r);
}

/* More bytes behind those held: > 0, 0 at the end, -1 with errno (EINTR: a signal). */
static ssize_t read_more(line_reader *r) {
    if (r->from < r->n) memmove(r->bytes, r->bytes + r->from, r->n - r->from);
    r->n -= r->from;
    r->from = 0;
    if (r->cap - r->n < READ_BYTES) {
        char *p = r->cap < LINE_MAX_ ? realloc(r->bytes, r->cap * 2 + READ_BYTES) : NULL;
        if (!p) {
            errno = ENOMEM;
            return -1;
        }
        r->bytes = p;
        r->cap = r->cap * 2 + READ_BYTES;
    }
    for (;;) {
        if (!signals_wait_readable(STDIN_FILENO)) {
            errno = EINTR;
            return -1;
        }
        const ssize_t k = read(STDIN_FILENO, r->bytes + r->n, r->cap - r->n);
        if (k > 0) r->n += (size_t)k;
        if (k >= 0 || (errno != EINTR && errno != EAGAIN)) return k;
    }
}

static line_result plain_line(line_reader *r, const char **text, size_t *n) {
    size_t looked = 0;
    for (;;) {
        const char *end = r->n > r->from + looked ? memchr(r->bytes + r->from + looked, '\n', r->n - r->from - looked) : NULL;
        looked = r->n - r->from;
        ssize_t k = 1;
        if (!end) k = read_more(r);
        if (k < 0) return signals_stop() ? LINE_SIGNAL : LINE_FAILED;
        if (k == 0 && r->n == r->from) return LINE_END;
        if (!end && k > 0) continue;
        *text = r->bytes + r->from;
        *n = end ? (size_t)(end - *text) : r->n - r->from;
        r->from += *n + (end != NULL);
        if (*n && (*text)[*n - 1] == '\r') (*n)--;
        return LINE_TEXT;
    }
}

line_result line_next(line_reader *r, const char **text, size_t *n) {
#ifdef GALEN_HAVE_LIBEDIT
    if (r->el && r->history) return edit_line(r, text, n);
#endif
    if (r->is_tty) {
        (void)fputs(r->prompt, stdout);
        (void)fflush(stdout);
    }
    return plain_line(r, text, n);
}
