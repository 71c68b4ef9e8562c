/* The option table and the verb table: parsing, help, the man page and completions all read these rows. */
#ifndef GALEN_CLI_OPTIONS_H
#define GALEN_CLI_OPTIONS_H

#include "cli/cli.h"

typedef enum opt_kind { OPT_FLAG, OPT_STR, OPT_INT, OPT_FLOAT, OPT_LIST } opt_kind;

typedef struct option_row {
    const char *name; /* without dashes */
    char letter;      /* 0: none        */
    opt_kind kind;
    const char *metavar, *help;
    const char *choices; /* "a|b|c", or NULL */
    double min, max;     /* of numbers       */
    size_t field;        /* in cli_args      */
    uint32_t verbs;      /* bits of verb_row */
} option_row;

extern const verb_row cli_verbs[];
extern const size_t cli_n_verbs;
extern const option_row cli_options[];
extern const size_t cli_n_options;

const verb_row *verb_find(const char *name); /* NULL: none */
bool option_given(const cli_args *a, const char *name);

/** Parse argv[1..] into c->verb and c->args. Prints what is wrong; DONE, or USAGE or MEMORY.
 *  The lists of c->args are malloc'ed: options_free. Strings point into argv. */
cli_exit options_parse(cli *c, int argc, char **argv);
void options_free(cli_args *a);

/** Of n names, the one nearest to word by edit distance; NULL when none is near. */
const char *suggest(const char *word, const char *const *names, size_t n);

#endif
