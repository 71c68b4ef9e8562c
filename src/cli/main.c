/* galen: one program, one verb a file. Reads the command line, runs the verb, gives its exit code. */
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

int main(int argc, char **argv) {
    static cli c;                  /* zero; a few hundred bytes that the signal handlers never touch */
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
