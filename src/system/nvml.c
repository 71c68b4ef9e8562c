/* Prototypes and numbers of the management library, from NVIDIA's published API reference (NVML API, "Device Queries"). The
 * library keeps its entry points' meaning by name: a changed one gets a new suffix (_v2, _v3). */
#include "system/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef void *device;

enum { NVML_SUCCESS = 0, NVML_LIB_RM_VERSION_MISMATCH = 18, NVML_DRIVER_NOT_LOADED = 9, NVML_GPU_IS_LOST = 15 };
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2, SENSOR_GPU = 0 };

typedef struct memory_info {
    unsigned long long total, free, used;
} memory_info;
typedef struct utilization {
    unsigned gpu, memory;
} utilization;
typedef struct process_info { /* _v3 */
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} process_info;

/* Entry points: name in the library, member here, type. Those that are not there stay NULL. */
#define ENTRIES(X)                                                                                                               \
    X(nvmlInit_v2, init, int (*)(void))                                                                                          \
    X(nvmlShutdown, shutdown, int (*)(void))                                                                                     \
    X(nvmlErrorString, error_string, const char *(*)(int))                                                                       \
    X(nvmlSystemGetDriverVersion, driver_version, int (*)(char *, unsigned))                                                     \
    X(nvmlSystemGetCudaDriverVersion_v2, cuda_version, int (*)(int *))                                                           \
    X(nvmlDeviceGetCount_v2, get_count, int (*)(unsigned *))                                                                     \
    X(nvmlDeviceGetHandleByIndex_v2, by_index, int (*)(unsigned, device *))                                                      \
    X(nvmlDeviceGetName, get_name, int (*)(device, char *, unsigned))                                                            \
    X(nvmlDeviceGetUUID, get_uuid, int (*)(device, char *, unsigned))                                                            \
    X(nvmlDeviceGetMemoryInfo, get_memory, int (*)(device, memory_info *))                                                       \
    X(nvmlDeviceGetUtilizationRates, get_utilization, int (*)(device, utilization *))                                            \
    X(nvmlDeviceGetTemperature, get_temperature, int (*)(device, int, unsigned *))                                               \
    X(nvmlDeviceGetPowerUsage, get_power, int (*)(device, unsigned *))                                                           \
    X(nvmlDeviceGetEnforcedPowerLimit, get_power_limit, int (*)(device, unsigned *))                                             \
    X(nvmlDeviceGetFanSpeed, get_fan, int (*)(device, unsigned *))                                                               \
    X(nvmlDeviceGetClockInfo, get_clock, int (*)(device, int, unsigned *))                                                       \
    X(nvmlDeviceGetMaxClockInfo, get_max_clock, int (*)(device, int, unsigned *))                                                \
    X(nvmlDeviceGetCurrentClocksThrottleReasons, get_throttle, int (*)(device, unsigned long long *))                            \
    X(nvmlDeviceGetCudaComputeCapability, get_compute, int (*)(device, int *, int *))                                            \
    X(nvmlDeviceGetCurrPcieLinkGeneration, get_pcie_gen, int (*)(device, unsigned *))                                            \
    X(nvmlDeviceGetCurrPcieLinkWidth, get_pcie_width, int (*)(device, unsigned *))                                               \
    X(nvmlDeviceGetComputeRunningProcesses_v3, get_processes, int (*)(device, unsigned *, process_info *))

struct nvml {
    void *library;
#define X(symbol, member, ...) __typeof__(__VA_ARGS__) member;
    ENTRIES(X)
#undef X
    bool is_started;
    int32_t n_gpus, cuda;
    char driver[80];
};

const nvml_throttle nvml_throttle_rows[] = {{0x1, "idle", false},
                                            {0x2, "application clocks", false},
                                            {0x4, "power cap", true},
                                            {0x8, "hardware slowdown", true},
                                            {0x10, "sync boost", false},
                                            {0x20, "thermal (software)", true},
                                            {0x40, "thermal (hardware)", true},
                                            {0x80, "power brake", true},
                                            {0x100, "display clocks", false},
                                            {0, NULL, false}};

static void load_entries(nvml *n) {
    const struct {
        const char *symbol;
        void *member;
    } rows[] = {
#define X(symbol, member, ...) {#symbol, &n->member},
        ENTRIES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *p = dlsym(n->library, rows[i].symbol);
        memcpy(rows[i].member, &p, sizeof p); /* an object pointer to a function pointer, as POSIX has it */
    }
}

static galen_status start(nvml *n, galen_error *err) {
    if (!n->init || !n->shutdown || !n->get_count || !n->by_index)
        return galen_fail(err, GALEN_E_DEVICE, 0, "the NVIDIA management library lacks its entry points");
    const int e = n->init();
    if (e == NVML_LIB_RM_VERSION_MISMATCH)
        return galen_fail(err, GALEN_E_DEVICE, 0, "NVIDIA driver/library version mismatch: the driver was updated while it runs");
    if (e == NVML_DRIVER_NOT_LOADED) return galen_fail(err, GALEN_E_DEVICE, 0, "the NVIDIA kernel driver is not loaded");
    if (e != NVML_SUCCESS)
        return galen_fail(err, GALEN_E_DEVICE, 0, "the NVIDIA management library does not start: %.120s",
                          n->error_string ? n->error_string(e) : "no reason given");
    n->is_started = true;
    unsigned count = 0;
    int cuda = 0;
    if (n->get_count(&count) == NVML_SUCCESS && count < 1024) n->n_gpus = (int32_t)count;
    if (n->cuda_version && n->cuda_version(&cuda) == NVML_SUCCESS) n->cuda = cuda;
    if (!n->driver_version || n->driver_version(n->driver, sizeof n->driver - 1) != NVML_SUCCESS) n->driver[0] = '\0';
    return GALEN_OK;
}

galen_status nvml_open(nvml **out, const char *path, galen_error *err) {
    galen_status st;
    *out = NULL;
    if (!path) path = getenv("GALEN_NVML");
    if (!path || !*path) path = "libnvidia-ml.so.1";
    nvml *n = calloc(1, sizeof *n);
    if (!n) return galen_fail(err, GALEN_E_NOMEM, 0, "management library");
    n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) {
        st = galen_fail(err, GALEN_E_NOT_FOUND, 0, "no NVIDIA management library (%.200s)", path);
        goto fail;
    }
    load_entries(n);
    if ((st = start(n, err))) goto fail;
    *out = n;
    return GALEN_OK;
fail:
    nvml_close(n);
    return st;
}

void nvml_close(nvml *n) {
    if (!n) return;
    if (n->is_started) (void)n->shutdown();
    if (n->library) (void)dlclose(n->library);
    free(n);
}

int32_t nvml_count(const nvml *n) {
    return n->n_gpus;
}

const char *nvml_driver(const nvml *n) {
    return n->driver;
}

int32_t nvml_cuda_version(const nvml *n) {
    return n->cuda;
}

/* ---------------------------------------------------------------- one card */

typedef int (*get_unsigned)(device, unsigned *);
typedef int (*get_indexed)(device, int, unsigned *);

static double told(get_unsigned get, device d, double unit) {
    unsigned v = 0;
    return get && get(d, &v) == NVML_SUCCESS ? (double)v * unit : (double)NAN;
}

static double told_of(get_indexed get, device d, int what) {
    unsigned v = 0;
    return get && get(d, what, &v) == NVML_SUCCESS ? (double)v : (double)NAN;
}

static int32_t told_int(get_unsigned get, device d) {
    unsigned v = 0;
    return get && get(d, &v) == NVML_SUCCESS && v < 1000 ? (int32_t)v : -1;
}

static void read_text(int (*get)(device, char *, unsigned), device d, char *out, size_t cap) {
    if (!get || get(d, out, (unsigned)cap - 1) != NVML_SUCCESS) out[0] = '\0';
    out[cap - 1] = '\0';
}

static void read_processes(const nvml *n, device d, nvml_gpu *g) {
    process_info list[NVML_MAX_PROCESSES];
    unsigned count = NVML_MAX_PROCESSES;
    g->n_processes = -1;
    memset(list, 0, sizeof list);
    /* With more processes than room the call fails and only tells their number. */
    if (!n->get_processes || n->get_processes(d, &count, list) != NVML_SUCCESS) return;
    g->n_processes = count < NVML_MAX_PROCESSES ? (int32_t)count : NVML_MAX_PROCESSES;
    for (int32_t i = 0; i < g->n_processes; i++) {
        const bool is_told = list[i].bytes != ~0ULL;
        g->processes[i] = (nvml_process){.pid = list[i].pid, .bytes = is_told ? list[i].bytes : 0};
    }
}

galen_status nvml_read(const nvml *n, int32_t index, nvml_gpu *out, galen_error *err) {
    device d = NULL;
    memory_info memory = {0};
    utilization busy = {0};
    unsigned long long throttle = 0;
    int major = 0, minor = 0;
    *out = (nvml_gpu){.throttle = -1, .compute = -1, .gpu_percent = (double)NAN, .memory_percent = (double)NAN};
    if (index < 0 || index >= n->n_gpus) return galen_fail(err, GALEN_E_RANGE, 0, "GPU %d; there are %d", index, n->n_gpus);
    const int e = n->by_index((unsigned)index, &d);
    if (e != NVML_SUCCESS)
        return galen_fail(err, GALEN_E_DEVICE, 0, "GPU %d: %.120s", index, n->error_string ? n->error_string(e) : "lost");
    read_text(n->get_name, d, out->name, sizeof out->name);
    read_text(n->get_uuid, d, out->uuid, sizeof out->uuid);
    if (n->get_memory && n->get_memory(d, &memory) == NVML_SUCCESS) {
        out->memory_total = memory.total;
        out->memory_used = memory.used;
        out->memory_free = memory.free;
    }
    if (n->get_utilization && n->get_utilization(d, &busy) == NVML_SUCCESS) {
        out->gpu_percent = busy.gpu;
        out->memory_percent = busy.memory;
    }
    if (n->get_throttle && n->get_throttle(d, &throttle) == NVML_SUCCESS) out->throttle = (int64_t)(throttle & INT64_MAX);
    if (n->get_compute && n->get_compute(d, &major, &minor) == NVML_SUCCESS) out->compute = 10 * major + minor;
    out->temp_c = told_of(n->get_temperature, d, SENSOR_GPU);
    out->power_w = told(n->get_power, d, 1e-3); /* told in milliwatts */
    out->power_limit_w = told(n->get_power_limit, d, 1e-3);
    out->fan_percent = told(n->get_fan, d, 1.0);
    out->sm_mhz = told_of(n->get_clock, d, CLOCK_SM);
    out->sm_max_mhz = told_of(n->get_max_clock, d, CLOCK_SM);
    out->memory_mhz = told_of(n->get_clock, d, CLOCK_MEMORY);
    out->pcie_gen = told_int(n->get_pcie_gen, d);
    out->pcie_width = told_int(n->get_pcie_width, d);
    read_processes(n, d, out);
    return GALEN_OK;
}
