/* Help and the man page: renderings of the two tables. */
#include <string.h>

#include "cli/options.h"

static const struct {
    int code;
    const char *text;
} exit_codes[] = {
#define X(name, value, text) {value, text},
    CLI_EXIT_TABLE(X)
#undef X
};

static const struct {
    const char *name, *text;
} variables[] = {
    {"GALEN_MODEL", "path or name of the model when none is given"},
    {"XDG_DATA_HOME", "its galen/models is the data folder, instead of ~/.local/share/galen/models"},
    {"GALEN_DB", "path of the database, instead of galen/galen.db in the data folder"},
    {"NO_COLOR", "no colours when set and not empty"},
};
#define N_OF(a) (sizeof(a) / sizeof(a)[0])

/* "  -n, --n-predict N" into cap bytes. */
static void option_left(const option_row *o, char *out, size_t cap) {
    char letter[6] = "    ";
    if (o->letter) (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
    (void)snprintf(out, cap, "  %s--%s%s%s", letter, o->name, o->metavar ? " " : "", o->metavar ? o->metavar : "");
}

static int page_columns(const cli *c) {
    return !c->term.is_out_tty ? 80 : c->term.n_columns < 100 ? c->term.n_columns : 100;
}

static void help_all(const cli *c) {
    const int w = page_columns(c);
    term_wrap(stdout, "Galen: a private medical assistant and the engine under it, on this machine alone.", w);
    (void)printf("\nusage: galen VERB [MODEL] [options]\n\n");
    for (size_t i = 0; i < cli_n_verbs; i++) {
        char left[64];
        (void)snprintf(left, sizeof left, "  %s", cli_verbs[i].name);
        term_row(w, left, 16, cli_verbs[i].summary);
    }
    (void)printf("\nEnvironment\n");
    for (size_t i = 0; i < N_OF(variables); i++) {
        char left[64];
        (void)snprintf(left, sizeof left, "  %s", variables[i].name);
        term_row(w, left, 18, variables[i].text);
    }
    (void)printf("\nExit codes\n");
    for (size_t i = 0; i < N_OF(exit_codes); i++) {
        char left[16];
        (void)snprintf(left, sizeof left, "  %d", exit_codes[i].code);
        term_row(w, left, 8, exit_codes[i].text);
    }
    (void)printf("\nA verb's options: galen help VERB\n");
}

static void option_text(const option_row *o, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s%s%s", o->help, o->choices ? "; one of " : "", o->choices ? o->choices : "");
}

static void help_verb(const cli *c, const verb_row *v) {
    const int w = page_columns(c);
    (void)printf("usage: galen %s%s%s [options]\n\n", v->name, *v->positionals ? " " : "", v->positionals);
    term_wrap(stdout, v->about, w);
    (void)printf("\nOptions\n");
    for (size_t i = 0; i < cli_n_options; i++) {
        char left[64], text[256];
        if (!(cli_options[i].verbs & v->bit)) continue;
        option_left(&cli_options[i], left, sizeof left);
        option_text(&cli_options[i], text, sizeof text);
        term_row(w, left, 28, text);
    }
}

/* troff takes a leading '.' or a backslash for itself and prints '-' as a hyphen. */
static void roff(const char *s) {
    for (; *s; s++) {
        if (*s == '-')
            (void)fputs("\\-", stdout);
        else if (*s == '\\')
            (void)fputs("\\e", stdout);
        else
            (void)putchar(*s);
    }
}

static void man_option(const option_row *o) {
    char text[256];
    (void)fputs(".TP\n", stdout);
    if (o->letter) (void)printf("\\fB\\-%c\\fR, ", o->letter);
    (void)fputs("\\fB\\-\\-", stdout);
    roff(o->name);
    (void)fputs("\\fR", stdout);
    if (o->metavar) (void)printf(" \\fI%s\\fR", o->metavar);
    (void)fputs("\n", stdout);
    option_text(o, text, sizeof text);
    roff(text);
    (void)fputs(" (", stdout);
    const char *comma = "";
    for (size_t v = 0; v < cli_n_verbs; v++) {
        if (!(o->verbs & cli_verbs[v].bit)) continue;
        (void)printf("%s%s", comma, cli_verbs[v].name);
        comma = ", ";
    }
    (void)fputs(")\n", stdout);
}

static void man_page(void) {
    (void)fputs(".TH GALEN 1\n.SH NAME\ngalen \\- a private medical assistant and the engine under it\n.SH SYNOPSIS\n"
                ".B galen\n.I VERB\n.RI [ MODEL ]\n.RI [ options ]\n.SH VERBS\n",
                stdout);
    for (size_t i = 0; i < cli_n_verbs; i++) {
        (void)printf(".TP\n\\fB%s\\fR \\fI", cli_verbs[i].name);
        roff(cli_verbs[i].positionals);
        (void)fputs("\\fR\n", stdout);
        roff(cli_verbs[i].about);
        (void)putchar('\n');
    }
    (void)fputs(".SH OPTIONS\nEach names the verbs that have it.\n", stdout);
    for (size_t i = 0; i < cli_n_options; i++) man_option(&cli_options[i]);
    (void)fputs(".SH ENVIRONMENT\n", stdout);
    for (size_t i = 0; i < N_OF(variables); i++) {
        (void)printf(".TP\n\\fB%s\\fR\n", variables[i].name);
        roff(variables[i].text);
        (void)putchar('\n');
    }
    (void)fputs(".SH EXIT STATUS\n", stdout);
    for (size_t i = 0; i < N_OF(exit_codes); i++) (void)printf(".TP\n%d\n%s\n", exit_codes[i].code, exit_codes[i].text);
}

cli_exit verb_help(cli *c) {
    const char *name = c->args.n_positional ? c->args.positional[0] : NULL;
    char safe[64];
    if (c->args.man) {
        man_page();
        return CLI_DONE;
    }
    if (!name) {
        help_all(c);
        return CLI_DONE;
    }
    const verb_row *v = verb_find(name);
    if (!v) {
        term_error(c, "there is no verb '%s'; galen help lists them", term_safe(name, safe, sizeof safe));
        return CLI_USAGE;
    }
    help_verb(c, v);
    return CLI_DONE;
}
