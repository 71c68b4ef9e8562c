/* What happens when the GPU cannot be used as planned: one table of rules. Nothing falls back in silence, nothing falls back
 * twice: a second failure of the same model is an error. docs/design.md shows the table to people. */
#ifndef GALEN_RUNTIME_FALLBACK_H
#define GALEN_RUNTIME_FALLBACK_H

#include "base/error.h"

typedef enum fall_event {
    FALL_NO_PLUGIN,   /* no plugin, or one that does not load                        */
    FALL_NO_DEVICE,   /* no driver, one too old, no card, a card that cannot be used */
    FALL_NO_FIT,      /* the layers asked for need more memory than is free          */
    FALL_UNUSED,      /* a card that can be used, and the plan leaves it idle        */
    FALL_UNSUPPORTED, /* the GPU's code does not take this model or this cache      */
    FALL_LOAD_MEMORY, /* memory ran out between plan and load, or for a session      */
    FALL_LOAD_DEVICE, /* the device failed while weights were loaded                 */
    FALL_STEP,        /* the device failed in mid-step                               */
    N_FALL_EVENTS
} fall_event;

typedef enum fall_action {
    FALL_ERROR, /* give the error up                               */
    FALL_FEWER, /* plan again with what memory is there            */
    FALL_CPU    /* plan again without the GPU                      */
} fall_action;

typedef struct fall_policy {
    bool is_required; /* --require-gpu: a GPU or an error             */
    bool is_named;    /* --device cuda: as required, but fewer layers are no failure */
    bool is_strict;   /* --strict: whatever would be a warning is an error */
    bool is_gpu_here; /* the machine has an NVIDIA card               */
    bool is_asked;    /* layers on a GPU, or a certain one, were asked for */
    int32_t n_fallen; /* times this model fell back after it was loaded or while */
} fall_policy;

typedef struct fall_decision {
    fall_action action;
    bool is_loud;      /* a warning goes out                            */
    galen_status code; /* of FALL_ERROR: DEVICE or NOMEM               */
} fall_decision;

fall_decision fallback_decide(fall_event e, const fall_policy *p);

/** "GPU weights do not load", then what to do; static. */
const char *fallback_what(fall_event e);
const char *fallback_remedy(fall_event e);

#endif
