/* Lines typed by a person, or sent through a pipe. */
#ifndef GALEN_CLI_LINE_H
#define GALEN_CLI_LINE_H

#include "cli/cli.h"

typedef struct line_reader line_reader;

/** With editing and a history (in memory alone: what a person types about a patient is not written to disk) when standard input
 *  and output are terminals and the program was built with libedit; else plain lines. NULL without memory. */
line_reader *line_open(const cli *c, const char *prompt);
void line_close(line_reader *r);

typedef enum line_result { LINE_TEXT, LINE_END, LINE_SIGNAL, LINE_FAILED } line_result;

/** The next line without its newline, *n bytes, valid until the next call. */
line_result line_next(line_reader *r, const char **text, size_t *n);

#endif
