/* Weights on their way from the mapped file to planes on the device: at load (upload.c), and of streamed layers (stream.c). */
#ifndef GALEN_BACKEND_CUDA_MOVER_H
#define GALEN_BACKEND_CUDA_MOVER_H

#include "backend/cuda/impl.h"
#include "base/pool.h"

enum { N_SLOTS = 2, PIECE = 32 << 20 };

/* What copies out of registered pages: pull.c. */
typedef struct puller {
    cudaStream_t copies;
    cudaEvent_t begun, filled[N_SLOTS], emptied[N_SLOTS];
    int n_pieces; /* of the part in hand */
} puller;

typedef struct mover {
    backend *b;
    cudaStream_t stream, uploads; /* of repacking, and what is asked of it next; of copies before it */
    cuda_queue queue;
    puller *pull;     /* NULL: through pinned slots that the host fills */
    bool is_fetching; /* the slots are read past the map: nobody will look at these pages again */
    pool *pool;
    char *pinned[N_SLOTS], *device[N_SLOTS];
    size_t piece; /* bytes of a slot: at least one row */
    cudaEvent_t filled[N_SLOTS], free[N_SLOTS];
    int slot;
} mover;

/** v all zero but for pull. Errors  NOMEM, DEVICE: close it all the same. */
galen_status mover_open(mover *v, backend *b, size_t piece, int n_threads, galen_error *err);
void mover_close(mover *v);
/** Queue the parts of layer l on the mover's stream, into planes placed by cuda_place_part. The host's bytes are read on return,
 *  or, where they are pulled, when the stream comes to it; then the call waits for nothing and may be captured. */
galen_status mover_layer(mover *v, const network *net, const network_layer *l, int parts, const dev_layer *d, galen_error *err);

/** Register the pages of b's streamed parts; *out NULL: none, or the driver does not do that. */
void pins_open(pins **out, const backend *b);
void pins_close(pins *p); /* NULL is fine */
/** u all zero. Errors  DEVICE: close it all the same. */
galen_status pull_open(puller *u, galen_error *err);
void pull_close(puller *u);
/** As mover_layer's parts: begin, then matrix by matrix. */
galen_status pull_begin(mover *v, galen_error *err);
galen_status pull_matrix(mover *v, const tensor *from, const dev_matrix *to, galen_error *err);

/** Bytes of a slot: at least `least`, and a row of anything that cfg brings to the device. Pure. */
size_t mover_piece(const network *net, const backend_config *cfg, size_t least);
/** One part of a layer placed at base, NULL: only counted. Returns the bytes. Pure. */
size_t cuda_place_part(const network *net, const network_layer *l, int part, char *base, dev_layer *d, bool *is_bad);

#endif
