/* One interface, two ways: libedit's where there is a person and GALEN_HAVE_LIBEDIT, getline's elsewhere. */
#include "cli/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef GALEN_HAVE_LIBEDIT
#include <histedit.h>
#endif

struct line_reader {
    const char *prompt;
    bool is_tty;
    char *line; /* getline's */
    size_t cap;
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
    free(r->line);
    free(r);
}

line_result line_next(line_reader *r, const char **text, size_t *n) {
#ifdef GALEN_HAVE_LIBEDIT
    if (r->el && r->history) return edit_line(r, text, n);
#endif
    if (r->is_tty) {
        (void)fputs(r->prompt, stdout);
        (void)fflush(stdout);
    }
    errno = 0;
    const ssize_t k = getline(&r->line, &r->cap, stdin);
    if (signals_stop()) {
        clearerr(stdin);
        return LINE_SIGNAL;
    }
    if (k < 0) return errno && ferror(stdin) ? LINE_FAILED : LINE_END;
    *text = r->line;
    *n = (size_t)k - (r->line[k - 1] == '\n');
    if (*n && r->line[*n - 1] == '\r') (*n)--;
    return LINE_TEXT;
}
