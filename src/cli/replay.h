/* A kept case run again: what a producer makes now is held against what was kept, byte for byte. */
#ifndef GALEN_CLI_REPLAY_H
#define GALEN_CLI_REPLAY_H

#include "cli/json.h"
#include "store/store.h"

/** Takes a turn as it is made; content (as in src/assist/record.h) is taken over, NULL says that memory was out. */
typedef void (*turn_fn)(void *user, const char *kind, json_t *content);

/** Run a case's symptoms and answers again, as the past one was run, giving each turn that comes of it to put.
 *  Messages are printed; DONE or an exit code. */
typedef cli_exit (*replay_fn)(cli *c, void *user, const store_show *past, turn_fn put, void *put_user);

/** Compare: the turns of each kind in order, without "timings". What a person gave (symptoms, answers, an end by the user) is
 *  input and not compared. Prints the outcome: "identical", or the first turn that differs and at which member; FAILED then. */
cli_exit replay_case(cli *c, const store_show *past, replay_fn produce, void *user);

/** The producer for the assistant: opens the model of the case's differential (--model, else where the database last saw that
 *  SHA-256) with the case's seed and parameters. user: the store. */
cli_exit replay_assistant(cli *c, void *user, const store_show *past, turn_fn put, void *put_user);

#endif
