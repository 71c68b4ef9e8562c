/* Which engines run now: each process that has a model open keeps one small file in the user's run-time folder, which
 * `galen ps` and `galen monitor` read. It holds names and figures, never text. */
#ifndef GALEN_SYSTEM_RUNNING_H
#define GALEN_SYSTEM_RUNNING_H

#include "base/error.h"

typedef struct running_info {
    int32_t pid;
    char verb[32], model[128], placement[256]; /* placement: "GPU 16/32 layers, ..." */
    uint64_t weight_bytes;
    int32_t gpu_percent; /* share of the weights on the GPU */
    int32_t gpu_layers, n_layers;
    int64_t ctx_used, ctx_size;   /* tokens, of all sequences */
    int32_t n_running, n_waiting; /* requests; of a server */
    double tokens_per_s;          /* of the last second or generation; 0 = none yet */
    int64_t started_s, updated_s; /* since 1970 */
} running_info;

typedef struct running running; /* this process' entry; any thread */

/** Put up an entry in dir (NULL: $XDG_RUNTIME_DIR/galen, else /tmp/galen-UID, mode 0700). info->pid and times are filled in.
 *  Errors  IO the folder or file cannot be written (being listed is not worth failing for: say so and go on). */
galen_status running_open(running **out, const char *dir, const running_info *info, galen_error *err);
/** New figures; written at most every 250 ms unless is_now. Never blocks for long, never fails. */
void running_update(running *r, const running_info *info, bool is_now);
void running_close(running *r); /* takes the entry down; NULL is fine */

/** Entries of living processes, oldest first; those of dead ones are removed. Returns how many were filled in (<= cap). */
size_t running_list(const char *dir, running_info *out, size_t cap);

#endif
