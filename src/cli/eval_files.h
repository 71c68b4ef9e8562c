/* The files of galen eval: cases and results read line by line, results appended. */
#ifndef GALEN_CLI_EVAL_FILES_H
#define GALEN_CLI_EVAL_FILES_H

#include "cli/cli.h"
#include "eval/results.h"

/** Append the cases of a file ("-": standard input) to the list; what is no case is said on stderr, by file and line. */
cli_exit eval_read_cases(cli *c, eval_list *l, int32_t number, const char *path);
/** A whole results file. Messages are printed. */
cli_exit eval_read_results(cli *c, const char *path, eval_results *out);

/** Open --out to go on with it, or to begin it: *fd for eval_append; *earlier has what it holds. A last line that is not whole
 *  is cut off. Refused when the file is of another model, seed, table, calibration or number of questions. */
cli_exit eval_open_out(cli *c, const char *path, const eval_head *head, int *fd, eval_results *earlier);
/** Append j as one line and give it up. NULL: out of memory. */
cli_exit eval_append(cli *c, int fd, const char *path, json_t *j);

#endif
