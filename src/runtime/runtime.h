/* Inside the engine: what galen_model and galen_session hold. */
#ifndef GALEN_RUNTIME_RUNTIME_H
#define GALEN_RUNTIME_RUNTIME_H

#include "base/arena.h"
#include "model/model.h"
#include "runtime/place.h"
#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"

struct galen_model {
    arena mem;
    gguf *file;
    tokenizer *vocab;
    model *net;              /* NULL when vocab-only and the file holds no network we know */
    placer *placer;          /* where the model lives; NULL when vocab-only */
    const chat_format *chat; /* NULL when none is known */
    struct lazy_vocab *lazy; /* for grammars */
    galen_model_info info;
    const char **keys, **names; /* of metadata and tensors, in file order */
    int32_t n_threads;
};

/* The choice of the token after the last one evaluated, where the device can make it. */
typedef struct session_pick {
    sample_row row;
    sample_choice choice;
    bool is_chosen; /* else there are logits */
} session_pick;

struct galen_session {
    const galen_model *model;
    placed where; /* the works; none with a batcher */
    galen_batcher *batcher;
    struct seq *seat; /* in the batcher */
    arena mem;
    int32_t n_ctx, n_batch, n_past;
    int32_t *history; /* [n_ctx] tokens evaluated so far                     */
    int32_t *pages;   /* [n_pages] page ids: a lone session owns 0, 1, 2, ... */
    int32_t n_pages;
    int32_t *pos, *seq, *out_row; /* [n_batch] of the batch being built */
    float *room;                  /* [n_room][n_vocab] logits of branches, from the first one on that needs them */
    int32_t n_room;
    galen_progress_fn progress;
    void *progress_user;
    uint64_t n_told, n_asked; /* tokens, as progress was told last */
    session_pick *pick;       /* of the evaluation under way; NULL = logits are wanted */
    bool is_broken;           /* the backend failed: only close is legal */
};

/** Check a caller's options struct: its size must be one this library knows. Copies the known part over the defaults. */
galen_status opts_take(void *known, size_t known_size, const void *given, const char *what, galen_error *err);

/** Fill m->keys and m->names. */
galen_status inspect_copy_names(galen_model *m, galen_error *err);

/** The device failed for the reason cause: elsewhere, the session's first `past` tokens are evaluated again. */
galen_status session_recover(galen_session *s, int32_t past, const galen_error *cause, galen_error *err);
/** The same where that may help. Errors  as cause; the session is broken then. */
galen_status session_mend(galen_session *s, int32_t past, const galen_error *cause, galen_error *err);

enum { SESSION_BATCH = 512, SESSION_CTX = 4096 }; /* what 0 stands for in galen_session_opts */

/** What a session of these options asks of a backend. Errors  ARG; FULL more context than the model was made for. */
galen_status session_limits_of(const network *net, const galen_session_opts *o, work_limits *out, galen_error *err);
work_limits session_limits(int32_t n_ctx, int32_t n_batch, kv_type kv);

#endif
