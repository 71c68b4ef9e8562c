/* A verb's long work beside the main thread, so that Ctrl-C need not wait for a pass of the engine's: seconds with a large model.
 *
 * The work itself asks signals_stop() and mostly ends in order. What does not end WORK_GRACE_MS after the signal is abandoned:
 * it runs on in its thread until work_leave takes the program down with it. */
#ifndef GALEN_CLI_WORK_H
#define GALEN_CLI_WORK_H

#include "cli/cli.h"

enum { WORK_GRACE_MS = 250 };

/** Runs fn(user); *st is what it returned. False: it was abandoned, *st is the signal's exit code. Then nothing that the work
 * uses may be freed, what it shares may be read (no work_publish begins any more), and the verb ends by work_leave. */
bool work_run(cli_exit (*fn)(void *user), void *user, cli_exit *st);

/** Around each change of what the verb reads of abandoned work. */
void work_publish(void);
void work_published(void);

/** The program's end at once: standard output written, the entry in `galen ps` left to its reader, which sees that nobody is
 * behind it. */
_Noreturn void work_leave(cli *c, cli_exit st);

#endif
