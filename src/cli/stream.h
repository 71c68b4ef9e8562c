/* An answer on its way out: written as it comes, kept for --json and for the history of a chat. */
#ifndef GALEN_CLI_STREAM_H
#define GALEN_CLI_STREAM_H

#include "cli/json.h"

typedef struct stream {
    cli *c;
    const galen_model *model;
    bool is_written; /* text goes to stdout as it comes             */
    json_t *tokens;  /* array of tokens with logprobs, or NULL      */
    bool is_nomem;   /* memory ran out: the generation was stopped  */
    char *text;      /* all of it                                   */
    size_t n, cap;
    int32_t n_tokens; /* so far                                      */
    double started;   /* clock_s() at the first                      */
} stream;             /* zero but for the first fields to start; stream_free at the end */

/** A galen_chunk_fn; user is a stream. Stops on a signal, when stdout is lost, and when memory runs out. */
bool stream_chunk(void *user, const galen_chunk *chunk);
/** After the last chunk: end a line on a terminal, or one cut by a signal. */
void stream_end_line(const stream *s);
void stream_free(stream *s);

/** "stop", "length", "cancelled", "error". */
const char *stream_finish_name(galen_finish f);

#endif
