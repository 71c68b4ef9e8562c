/* A model on its devices, and the one forward pass over them.
 *
 * devices says which backend holds which part of which layer; it is immutable and shared. works holds one engine's work on each
 * of them and runs batches through the placement: hidden states cross once per change of device. One device with the whole model
 * costs nothing beside its own calls. */
#ifndef GALEN_MODEL_WORKS_H
#define GALEN_MODEL_WORKS_H

#include "backend/backend.h"

enum { MAX_DEVICES = 2, HOST = 0 }; /* where there are two, the host's is the first */

typedef struct device_part {
    const backend_api *api;
    backend *b;
    const uint8_t *parts;    /* [n_layer]; NULL = all                                       */
    const uint8_t *streamed; /* [n_layer] of the host's, that it may run for a large batch; NULL = none */
    const uint8_t *fetched;  /* [n_layer] of streamed, that it runs for every batch; NULL = none        */
    bool has_embed, has_head;
} device_part;

typedef struct devices {
    const network *net;
    int32_t n;
    device_part at[MAX_DEVICES];
    int32_t stream_rows; /* batches of at least so many rows stream; 0 = none ever */
} devices;

/** The whole model on one open backend. */
devices devices_of_one(const network *net, const backend_api *api, backend *b);

typedef struct works works; /* one caller at a time */

/** A work of these limits on each device. d outlives it. Errors  as work_open; *out is NULL then. */
galen_status works_open(works **out, const devices *d, const work_limits *lim, galen_error *err);
void works_close(works *w); /* NULL is fine */

/** One pass of a batch through every stage in order. Logits f32 [n_out][n_vocab] in host memory. Synchronises at the end.
 *  Errors  DEVICE, NOMEM...: only works_close is legal. */
galen_status works_forward(works *w, const batch *b, float *logits, galen_error *err);

/** From now on goes_on is asked between the layers of a pass of many rows, where the processor alone computes: false ends the
 * pass with CANCELLED, and the next may follow. NULL: never asked. */
void works_ask(works *w, bool (*goes_on)(void *user), void *user);

/** As works_forward, with the token after each output row chosen on the device (backend_api.sample): out [n_out]. *is_chosen
 * false: the device does not offer that, or not for these rows, and logits were written as ever. */
galen_status works_choose(works *w, const batch *b, const sample_row *rows, sample_choice *out, bool *is_chosen, float *logits,
                          galen_error *err);

/** As works_forward, with log-probabilities in place of logits: on the device where it offers that (backend_api.read), else from
 *  logits in room, f32 [n_room][n_vocab], n_room >= 1. */
galen_status works_read(works *w, const batch *b, const read_list *list, float *room, int32_t n_room, galen_error *err);

/** After works_forward: final hidden states, before the last norm, f32 [n_rows][n_embd]. */
galen_status works_hidden(works *w, const batch *b, float *x, galen_error *err);

/** Copy KV page from to page to, in every layer; from -1: zeros. Between batches. */
galen_status works_copy_page(works *w, int32_t to, int32_t from, galen_error *err);
bool works_can_copy_pages(const works *w); /* every device offers it */

/** The work and the table of the only device; NULL when the model is split. */
backend_work *works_alone(const works *w, const backend_api **api);

#endif
