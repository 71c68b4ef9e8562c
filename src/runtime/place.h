/* Where a model lives: found, planned, opened, and planned again when that fails (fallback.h).
 *
 * A placer belongs to a model and outlives its placements. A placement is one plan, opened; sessions hold it while they work on
 * it, so that a session may move to the next while another ends on the last. */
#ifndef GALEN_RUNTIME_PLACE_H
#define GALEN_RUNTIME_PLACE_H

#include "backend/plugin.h"
#include "galen/galen.h"
#include "model/works.h"
#include "plan/plan.h"
#include "runtime/fallback.h"

typedef struct placement {
    devices devices;
    plan *plan;
    backend *host, *device;  /* NULL where nothing lives               */
    const char *name, *line; /* "GPU (NVIDIA H100) + CPU (avx512, 16 threads)"; plan_line. They live as long as the placer */
    uint64_t device_all;     /* bytes that the device had in all       */
    int32_t n_holders;
} placement;

typedef struct placer placer;

/** The GPU as options ask for it. */
typedef struct found_gpu {
    plugin *library; /* NULL = none; plugin_close */
    const backend_plugin *table;
    int32_t index, n_visible;
    device_info info;
    bool is_usable;
    fall_event event; /* why not */
    galen_error why;
} found_gpu;

/** Look for a GPU: never fails; what is wrong is in it. */
void found_gpu_open(found_gpu *g, const galen_model_opts *o);
void found_gpu_close(found_gpu *g);
/** The same in a thread: the driver takes a fifth of a second to start. NULL: none is looked for, or there is no thread. */
typedef struct gpu_search gpu_search;
gpu_search *gpu_search_start(const galen_model_opts *o);
/** What it found, *out as found_gpu_open leaves it; s is freed. */
void gpu_search_end(gpu_search *s, found_gpu *out);
/** The machine has an NVIDIA card, whether or not it can be used. */
bool found_gpu_is_here(void);

/** Threads that the options mean. Errors  ARG. */
galen_status place_threads(const galen_model_opts *o, int32_t *n, galen_error *err);
/** What a session of these options asks of a backend. Errors  ARG, FULL: as galen_session_open. */
galen_status place_limits(const network *net, const galen_model_opts *o, work_limits *out, galen_error *err);
/** Bytes of the device that may be taken: free, or what the limit leaves of them. */
uint64_t place_device_free(const found_gpu *g, const galen_model_opts *o);
/** A request without speeds. */
plan_request place_request(const network *net, const galen_model_opts *o, int32_t n_threads, const work_limits *limits,
                           const found_gpu *g);

/** net outlives the placer; o's strings are copied; search: of the same options, ended here; NULL = looked for now. Errors  ARG;
 * DEVICE the GPU is required and unusable; NOMEM; UNSUPPORTED. */
galen_status placer_open(placer **out, const network *net, const galen_model_opts *o, gpu_search *search, galen_error *err);
void placer_close(placer *p); /* NULL is fine; nobody holds a placement */

/** The placement of now. Drop it when done. */
placement *placer_hold(placer *p);
void placer_drop(placer *p, placement *at);

/** `failed`, which the caller holds and gives up here, could not open a work (LOAD_MEMORY, LOAD_DEVICE) or failed in mid-step
 * (STEP) for `cause`. *out is held: another's new placement where somebody else was first, or one made now as the rules say,
 * loudly. Errors  the rules say so, or the second attempt failed; nothing is held then. */
galen_status placer_replace(placer *p, placement *failed, fall_event e, const galen_error *cause, const work_limits *limits,
                            placement **out, galen_error *err);

/* An engine's works on a model's placement: what a session and a batcher run on. */
typedef struct placed {
    placer *placer;
    placement *at; /* held */
    works *works;
    work_limits limits;
} placed;

/** Works of these limits where the model lives; planned again once when the GPU has no memory for them.
 *  Errors  as works_open and placer_replace; *out is zero then. */
galen_status placed_open(placed *out, placer *p, const work_limits *limits, galen_error *err);
void placed_close(placed *w); /* a zero one is fine */

/** After works_forward failed with `cause`: the same works elsewhere, with empty KV; what was evaluated must be evaluated again.
 *  Errors  it cannot be mended, or the rules say so: *w is zero then. */
galen_status placed_recover(placed *w, const galen_error *cause, galen_error *err);
/** The failure is one that placed_recover may mend. */
bool placed_can_recover(const placed *w, galen_status cause);

/** What the last fall-back said; NULL when there was none. Lives as long as the placer. */
const char *placer_fell_back(placer *p);
int32_t placer_threads(const placer *p);

#endif
