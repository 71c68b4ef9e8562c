/* galen: one program, one verb a file. Reads the command line, runs the verb, gives its exit code. */
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"

/* A standard descriptor that is closed would be the next file's: the signals' pipe read as the user's text, the database written
 * as output. In its place stands one that can be neither read nor written, so whoever needs it is told. */
static void fill_standard(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* the lowest free: fd */
    }
}

int main(int argc, char **argv) {
    static cli c; /* zero; a few hundred bytes that the signal handlers never touch */
    fill_standard();
    (void)setlocale(LC_CTYPE, ""); /* libedit measures characters by it; numbers stay in the C locale */
    signals_init();
    term_init(&c.term, false, false);
    cli_exit st = options_parse(&c, argc, argv);
    if (!st) {
        term_init(&c.term, c.args.no_color, c.args.quiet);
        if (c.args.help) {
            c.args.positional[0] = c.verb->name;
            c.args.n_positional = 1;
            st = verb_help(&c);
        } else {
            st = c.verb->run(&c);
        }
        st = term_finish(&c, st);
        engine_done(&c);
    }
    options_free(&c.args);
    return st;
}
