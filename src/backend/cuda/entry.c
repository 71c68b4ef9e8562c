/* The plugin's one entry point. */
#include "backend/cuda/impl.h"
#include "backend/plugin.h"

static galen_status memory(uint64_t *free_bytes, uint64_t *total_bytes, galen_error *err) {
    size_t free_now = 0, total = 0;
    const galen_status st = cuda_find_device(NULL, err);
    if (st) return st;
    const int e = cudaMemGetInfo(&free_now, &total);
    if (e) return cuda_fail(err, e, "free memory");
    *free_bytes = free_now;
    *total_bytes = total;
    return GALEN_OK;
}

__attribute__((visibility("default"))) const backend_plugin *backend_plugin_entry_v1(void);

const backend_plugin *backend_plugin_entry_v1(void) {
    static backend_plugin table;
    table = (backend_plugin){.layout = BACKEND_PLUGIN_LAYOUT, .api = backend_cuda(), .memory = memory};
    return &table;
}
