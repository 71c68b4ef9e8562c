/* From what the person typed to a model file. */
#ifndef GALEN_CLI_RESOLVE_H
#define GALEN_CLI_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>

#define RESOLVE_PATH_BYTES 4096
#define RESOLVE_MAX_TRIED  4

#define RESOLVE_DEMO_FILE "smollm2-135m-instruct-q4_1.gguf" /* the name that tools/fetch-model writes */

typedef struct resolved {
    char path[RESOLVE_PATH_BYTES];                     /* the file, when found         */
    char folder[RESOLVE_PATH_BYTES];                   /* the data folder, "" for none */
    char tried[RESOLVE_MAX_TRIED][RESOLVE_PATH_BYTES]; /* where it was looked for      */
    int n_tried;
    const char *wanted; /* the name looked for: given, GALEN_MODEL's, or the demo file */
    bool is_from_env;
} resolved;

/** name NULL: the environment's GALEN_MODEL, else the demo model. True when a file (of any kind) is there. */
bool resolve_model(resolved *r, const char *name);

#endif
