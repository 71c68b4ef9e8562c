/* Backends in shared libraries: libgalen-cuda.so stands beside the program or in the library path, and the core links nothing of
 * it. A plugin has one entry point, backend_plugin_entry_v1; a change of the seam (backend.h, network.h, tensor.h) that the
 * layout number does not show raises the version in the name. */
#ifndef GALEN_BACKEND_PLUGIN_H
#define GALEN_BACKEND_PLUGIN_H

#include "backend/backend.h"

#define BACKEND_PLUGIN_ENTRY "backend_plugin_entry_v1"

/* Sizes of what crosses the seam: a plugin built from other headers is refused instead of misread. */
#define BACKEND_PLUGIN_LAYOUT                                                                                                    \
    ((uint64_t)sizeof(network) | (uint64_t)sizeof(network_layer) << 16 | (uint64_t)sizeof(tensor) << 32 |                        \
     (uint64_t)sizeof(backend_api) << 40 | (uint64_t)(sizeof(batch) + sizeof(work_limits) + sizeof(backend_config)) << 52)

typedef struct backend_plugin {
    uint64_t layout; /* BACKEND_PLUGIN_LAYOUT of the plugin's headers */
    const backend_api *api;
    /** Memory of the device that open would take. Errors  DEVICE no driver, no device: the message says which and the remedy. */
    galen_status (*memory)(uint64_t *free_bytes, uint64_t *total_bytes, galen_error *err);
} backend_plugin;

typedef const backend_plugin *(*backend_plugin_fn)(void);

typedef struct plugin plugin;

/** Load libgalen-NAME.so from dir, or, dir NULL, from where this library or program lies, then from the system's library path.
 *  Errors  NOT_FOUND no such file; DEVICE it does not load (the loader's reason); UNSUPPORTED made for another version. */
galen_status plugin_open(plugin **out, const char *name, const char *dir, galen_error *err);

/** NULL is fine. Close its backends first. */
void plugin_close(plugin *p);
const backend_plugin *plugin_get(const plugin *p);

#endif
