/* Choices that galen tune measured: kept for a model, a card, its driver and this build, used by every verb that loads the model.
 */
#ifndef GALEN_CLI_TUNE_H
#define GALEN_CLI_TUNE_H

#include "cli/json.h"

typedef struct tune_choice {
    int32_t gpu_layers;    /* GALEN_GPU_LAYERS_AUTO: as the plan has it */
    int32_t stream_layers; /* as galen_model_opts */
    int32_t n_threads;     /* 0: all                     */
    int32_t n_batch;       /* rows of a pass; 0: default */
    char kv_type[8];
    bool is_default_fit; /* the layers fit beside the memory of the model's default context */
    double seconds;      /* of a prompt and an answer: TUNE_PROMPT, TUNE_ANSWER */
} tune_choice;

enum { TUNE_PROMPT = 256, TUNE_ANSWER = 50 }; /* the guide's case: a prompt of a context of 256, 50 new tokens */

/** What the choice is kept under beside the model: the card (its name and the limit set on it, or the processor) and the driver.
 */
typedef struct tune_key {
    char device[256], driver[64];
} tune_key;
void tune_key_of(const cli *c, tune_key *out);

/** The choice kept for this model file here and now. False: none, or the model's hash is not known without reading it. */
bool tune_find(const cli *c, const char *path, tune_choice *out, int64_t *time_ms);
/** It was measured for this model on another card, driver or build: worth measuring again. */
bool tune_is_outdated(const cli *c, const char *path);
/** Keep it, with the measurements it came from. Errors are printed. */
bool tune_keep(cli *c, const char *path, const tune_choice *choice, const json_t *curve);

/** Set what the command line did not. */
void tune_apply(const cli *c, const tune_choice *choice, galen_model_opts *o);

#endif
