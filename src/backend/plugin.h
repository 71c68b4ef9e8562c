/* Backends in shared libraries: libgalen-cuda.so stands beside the program or in the library path, and the core links nothing of
 * it. A plugin has one entry point, backend_plugin_entry_v2; a change of the seam (backend.h, network.h, tensor.h) that the
 * layout number does not show raises the version in the name. */
#ifndef GALEN_BACKEND_PLUGIN_H
#define GALEN_BACKEND_PLUGIN_H

#include "backend/backend.h"

#define BACKEND_PLUGIN_ENTRY "backend_plugin_entry_v2"

/* Sizes of what crosses the seam: a plugin built from other headers is refused instead of misread. */
#define BACKEND_PLUGIN_LAYOUT                                                                                                    \
    ((uint64_t)sizeof(network) ^ (uint64_t)sizeof(network_layer) << 12 ^ (uint64_t)sizeof(tensor) << 24 ^                        \
     (uint64_t)sizeof(backend_api) << 32 ^ (uint64_t)sizeof(backend_config) << 40 ^ (uint64_t)sizeof(work_limits) << 48 ^        \
     (uint64_t)sizeof(batch) << 56 ^ (uint64_t)sizeof(device_info) << 20)

/* One device, as found now. */
typedef struct device_info {
    char name[128];
    char bus_id[32];     /* "0000:65:00.0"                                         */
    int32_t compute;     /* 90 = capability 9.0                                    */
    int32_t n_units;     /* streaming multiprocessors                              */
    uint64_t free_bytes; /* that this process could take now                       */
    uint64_t total_bytes;
    uint64_t read_peak; /* bytes a second of device memory, by its clock; 0 = not known */
    bool is_usable;
    char why[256]; /* not usable: the cause and the remedy */
} device_info;

/* Measured in well under a second. */
typedef struct device_speed {
    double read;   /* bytes a second of device memory                 */
    double upload; /* bytes a second from pinned host memory          */
    double hop_s;  /* seconds to bring a row to the device and back   */
    bool can_pull; /* it takes a mapped file's pages by itself        */
} device_speed;

typedef struct backend_plugin {
    uint64_t layout; /* BACKEND_PLUGIN_LAYOUT of the plugin's headers */
    const backend_api *api;
    const char *archs; /* compute capabilities built for, "75 80 86" */
    /** 12040 = 12.4; driver 0 = no driver, or it does not answer. */
    void (*versions)(int32_t *driver, int32_t *runtime);
    /** Devices visible. Errors  DEVICE no driver, one too old, none visible: the message says which and the remedy. */
    galen_status (*count)(int32_t *n, galen_error *err);
    /** Device number index; what cannot be used is described with the reason. Errors  DEVICE it does not answer. */
    galen_status (*info)(int32_t index, device_info *out, galen_error *err);
    /** Errors  DEVICE, NOMEM; *out is zero then. */
    galen_status (*probe)(int32_t index, device_speed *out, galen_error *err);
    /** Upload from pinned memory for so many seconds, to learn what host and device do to each other: bytes a second.
     *  Errors  DEVICE, NOMEM; *rate is zero then. */
    galen_status (*upload)(int32_t index, double seconds, double *rate, galen_error *err);
} backend_plugin;

typedef const backend_plugin *(*backend_plugin_fn)(void);

typedef struct plugin plugin;

/** Load libgalen-NAME.so from dir; dir NULL: from the folder in the environment's GALEN_PLUGIN_DIR when that is set, else from
 *  where this library or program lies, then from the system's library path.
 *  Errors  NOT_FOUND no such file; DEVICE it does not load (the loader's reason); UNSUPPORTED made for another version. */
galen_status plugin_open(plugin **out, const char *name, const char *dir, galen_error *err);

/** NULL is fine. Close its backends first. */
void plugin_close(plugin *p);
const backend_plugin *plugin_get(const plugin *p);

#endif
