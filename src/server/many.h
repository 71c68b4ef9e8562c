/* Requests that write nothing: several prompts evaluated, each for an embedding or for the weight of some tokens. At most a few
 * are with the batcher at a time, so that one call with many prompts does not fill the queue. */
#ifndef GALEN_SERVER_MANY_H
#define GALEN_SERVER_MANY_H

#include "server/shelf.h"

typedef struct many many;

typedef struct many_item {
    many *m;
    galen_tokens prompt;
    int32_t *labels; /* malloc'ed */
    int32_t n_labels;
    float *result; /* malloc'ed: n_embd of the embedding, or n_labels log-probabilities */
    galen_usage usage;
    uint64_t id;
} many_item;

struct many {
    exchange *x;
    book *b;
    json_t *body;
    galen_pooling pooling;
    many_item *items;
    size_t n;
    json_t *(*answer)(many *m); /* on the batcher's thread, when all are there */
    void *extra;
    void (*free_extra)(void *extra);

    pthread_mutex_t lock; /* guards what follows, and the items' ids */
    size_t n_begun, n_running, n_done;
    bool is_failed;
    galen_error error;
};

/** b is taken by x and is given back by this. NULL: answered; body is freed then. */
many *many_open(exchange *x, book *b, json_t *body, size_t n);
/** Every prompt fits. False: answered. */
bool many_check_lengths(many *m);
void many_start(many *m);   /* takes m over */
void many_abandon(many *m); /* answered */

#endif
