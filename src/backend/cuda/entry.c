/* The plugin's one entry point, and what it tells of devices. */
#include <stdio.h>
#include <string.h>

#include "backend/cuda/impl.h"
#include "backend/plugin.h"

#ifndef GALEN_CUDA_ARCHS
#define GALEN_CUDA_ARCHS ""
#endif

static void versions(int32_t *driver, int32_t *runtime) {
    int d = 0, r = 0;
    if (cudaDriverGetVersion(&d) != cudaSuccess) d = 0;
    if (cudaRuntimeGetVersion(&r) != cudaSuccess) r = CUDART_VERSION;
    (void)cudaGetLastError();
    *driver = d;
    *runtime = r;
}

static galen_status count(int32_t *n, galen_error *err) {
    int32_t driver, runtime;
    int found = 0;
    *n = 0;
    versions(&driver, &runtime);
    if (driver == 0)
        return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA driver answers; install one for CUDA %d.%d or later", runtime / 1000,
                          runtime % 1000 / 10);
    const int e = cudaGetDeviceCount(&found);
    (void)cudaGetLastError();
    if (e == cudaErrorInsufficientDriver)
        return galen_fail(err, GALEN_E_DEVICE, 0,
                          "the NVIDIA driver is for CUDA %d.%d, this build needs %d.%d; update the driver", driver / 1000,
                          driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (e == cudaErrorNoDevice || (!e && found == 0))
        return galen_fail(err, GALEN_E_DEVICE, 0, "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES, or a container without it)");
    if (e) return cuda_fail(err, e, "looking for a device");
    *n = found;
    return GALEN_OK;
}

static galen_status info(int32_t index, device_info *out, galen_error *err) {
    struct cudaDeviceProp prop;
    galen_error why = {0};
    int clock_khz = 0, width = 0;
    size_t free_now = 0, total = 0;
    memset(out, 0, sizeof *out);
    int e = cudaGetDeviceProperties(&prop, index);
    if (e) return cuda_fail(err, e, "a device's properties");
    (void)snprintf(out->name, sizeof out->name, "%.120s", prop.name);
    (void)cudaDeviceGetPCIBusId(out->bus_id, (int)sizeof out->bus_id, index);
    (void)cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, index);
    (void)cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, index);
    (void)cudaGetLastError();
    out->compute = 10 * prop.major + prop.minor;
    out->n_units = prop.multiProcessorCount;
    out->total_bytes = prop.totalGlobalMem;
    out->read_peak = 2 * (uint64_t)clock_khz * 1000 * ((uint64_t)width / 8);
    if (cuda_find_device(index, NULL, &why)) {
        (void)snprintf(out->why, sizeof out->why, "%.250s", why.msg);
        return GALEN_OK;
    }
    e = cudaMemGetInfo(&free_now, &total);
    if (e) return cuda_fail(err, e, "free memory");
    out->free_bytes = free_now;
    out->total_bytes = total;
    out->is_usable = true;
    return GALEN_OK;
}

__attribute__((visibility("default"))) const backend_plugin *backend_plugin_entry_v2(void);

const backend_plugin *backend_plugin_entry_v2(void) {
    static backend_plugin table;
    table = (backend_plugin){.layout = BACKEND_PLUGIN_LAYOUT,
                             .api = backend_cuda(),
                             .archs = GALEN_CUDA_ARCHS,
                             .versions = versions,
                             .count = count,
                             .info = info,
                             .probe = cuda_probe,
                             .upload = cuda_probe_upload};
    return &table;
}
