/* A management library for tests: figures from the environment, so that each can fail alone. Built as a shared object.
 *   FAKE_NVML  "init=18 count=1 name=RTX driver=550.1 cuda=12040 total=4096 used=1024 util=7 temp=61 power=35000 limit=60000
 *               sm=1200 smmax=2100 throttle=4 compute=86 procs=2 slow=500"   (memory in MiB; slow: milliseconds that it takes to
 * tell the memory); a figure that is absent is not told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY         __attribute__((visibility("default")))
#define NOT_SUPPORTED 3

static int figure(const char *key, unsigned long long *out) {
    const char *all = getenv("FAKE_NVML");
    const size_t n = strlen(key);
    for (const char *p = all; p && *p; p += strcspn(p, " "), p += *p == ' ') {
        if (strncmp(p, key, n) != 0 || p[n] != '=') continue;
        *out = strtoull(p + n + 1, NULL, 10);
        return 0;
    }
    return NOT_SUPPORTED;
}

static int text(const char *key, char *out, unsigned cap) {
    const char *all = getenv("FAKE_NVML");
    const size_t n = strlen(key);
    for (const char *p = all; p && *p; p += strcspn(p, " "), p += *p == ' ') {
        if (strncmp(p, key, n) != 0 || p[n] != '=') continue;
        (void)snprintf(out, cap, "%.*s", (int)strcspn(p + n + 1, " "), p + n + 1);
        return 0;
    }
    return NOT_SUPPORTED;
}

static int small(const char *key, unsigned *out) {
    unsigned long long v;
    if (figure(key, &v)) return NOT_SUPPORTED;
    *out = (unsigned)v;
    return 0;
}

ENTRY int nvmlInit_v2(void);
ENTRY int nvmlShutdown(void);
ENTRY const char *nvmlErrorString(int e);
ENTRY int nvmlSystemGetDriverVersion(char *out, unsigned cap);
ENTRY int nvmlSystemGetCudaDriverVersion_v2(int *out);
ENTRY int nvmlDeviceGetCount_v2(unsigned *out);
ENTRY int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out);
ENTRY int nvmlDeviceGetName(void *d, char *out, unsigned cap);
ENTRY int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *out);
ENTRY int nvmlDeviceGetUtilizationRates(void *d, unsigned *out);
ENTRY int nvmlDeviceGetTemperature(void *d, int which, unsigned *out);
ENTRY int nvmlDeviceGetPowerUsage(void *d, unsigned *out);
ENTRY int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *out);
ENTRY int nvmlDeviceGetClockInfo(void *d, int which, unsigned *out);
ENTRY int nvmlDeviceGetMaxClockInfo(void *d, int which, unsigned *out);
ENTRY int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *out);
ENTRY int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor);
ENTRY int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, void *list);

int nvmlInit_v2(void) {
    unsigned long long e = 0;
    return figure("init", &e) ? 0 : (int)e;
}
int nvmlShutdown(void) {
    return 0;
}
const char *nvmlErrorString(int e) {
    return e == 15 ? "GPU is lost" : "fake error";
}
int nvmlSystemGetDriverVersion(char *out, unsigned cap) {
    return text("driver", out, cap);
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    return small("cuda", (unsigned *)out);
}
int nvmlDeviceGetCount_v2(unsigned *out) {
    return small("count", out);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out) {
    unsigned long long lost = 0;
    *out = (void *)(size_t)(i + 1);
    return figure("lost", &lost) || lost != i ? 0 : 15;
}
int nvmlDeviceGetName(void *d, char *out, unsigned cap) {
    (void)d;
    return text("name", out, cap);
}
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *out) {
    unsigned long long total, used = 0, slow = 0;
    (void)d;
    if (figure("total", &total)) return NOT_SUPPORTED;
    (void)figure("used", &used);
    (void)figure("slow", &slow);
    (void)usleep((useconds_t)slow * 1000);
    out[0] = total << 20;
    out[1] = (total - used) << 20;
    out[2] = used << 20;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *d, unsigned *out) {
    (void)d;
    out[1] = 0;
    return small("util", out);
}
int nvmlDeviceGetTemperature(void *d, int which, unsigned *out) {
    (void)d;
    return which ? NOT_SUPPORTED : small("temp", out);
}
int nvmlDeviceGetPowerUsage(void *d, unsigned *out) {
    (void)d;
    return small("power", out);
}
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *out) {
    (void)d;
    return small("limit", out);
}
int nvmlDeviceGetClockInfo(void *d, int which, unsigned *out) {
    (void)d;
    return which == 1 ? small("sm", out) : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxClockInfo(void *d, int which, unsigned *out) {
    (void)d;
    return which == 1 ? small("smmax", out) : NOT_SUPPORTED;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *out) {
    (void)d;
    return figure("throttle", out);
}
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
    unsigned v;
    (void)d;
    if (small("compute", &v)) return NOT_SUPPORTED;
    *major = (int)(v / 10);
    *minor = (int)(v % 10);
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, void *list) {
    struct {
        unsigned pid;
        unsigned long long bytes;
        unsigned gi, ci;
    } *rows = list;
    unsigned n;
    (void)d;
    if (small("procs", &n)) return NOT_SUPPORTED;
    if (n > *count) return 7; /* insufficient size */
    for (unsigned i = 0; i < n; i++) {
        rows[i].pid = i + 1;
        rows[i].bytes = i ? ~0ULL : 512ULL << 20;
    }
    *count = n;
    return 0;
}
