/* Small files of /proc and /sys, each of which may be absent: then its facts are. */
#include "system/host.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PATH_BYTES = 512, TEXT_BYTES = 8192 };

/* The beginning of a file, NUL-terminated; false when it cannot be read. */
static bool read_text(const char *root, const char *path, char *out, size_t cap) {
    char full[PATH_BYTES];
    const int n = snprintf(full, sizeof full, "%s%s", root, path);
    out[0] = '\0';
    if (n < 0 || (size_t)n >= sizeof full) return false;
    const int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t got = 0;
    for (ssize_t k = 1; k > 0 && got<cap - 1; got += k> 0 ? (size_t)k : 0) k = read(fd, out + got, cap - 1 - got);
    out[got] = '\0';
    (void)close(fd);
    return got > 0;
}

static bool exists(const char *root, const char *path) {
    char full[PATH_BYTES];
    struct stat st;
    const int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full && stat(full, &st) == 0;
}

/* What follows a key at a line's start, to the line's end. */
static bool value_of(const char *text, const char *key, char *out, size_t cap) {
    const size_t n_key = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n_key) != 0) continue;
        line += n_key;
        line += strspn(line, " \t:");
        (void)snprintf(out, cap, "%.*s", (int)strcspn(line, "\n"), line);
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- memory and processors */

static uint64_t kib_of(const char *text, const char *key) {
    char v[64];
    return value_of(text, key, v, sizeof v) ? strtoull(v, NULL, 10) * 1024 : 0;
}

/* A control group's number; 0 for "max", absent, or so large that it limits nothing. */
static uint64_t limit_of(const char *root, const char *path) {
    char text[64];
    if (!read_text(root, path, text, sizeof text)) return 0;
    const uint64_t v = strtoull(text, NULL, 10);
    return v >= (uint64_t)1 << 60 ? 0 : v;
}

static void read_memory(const char *root, host_info *h) {
    char text[TEXT_BYTES];
    if (read_text(root, "/proc/meminfo", text, sizeof text)) {
        h->memory_total = kib_of(text, "MemTotal");
        h->memory_free = kib_of(text, "MemAvailable");
    }
    uint64_t used = limit_of(root, "/sys/fs/cgroup/memory.current");
    h->memory_limit = limit_of(root, "/sys/fs/cgroup/memory.max");
    if (!h->memory_limit) {
        h->memory_limit = limit_of(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes");
        used = limit_of(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes");
    }
    if (h->memory_limit >= h->memory_total) h->memory_limit = 0;
    if (!h->memory_limit) return;
    const uint64_t left = h->memory_limit > used ? h->memory_limit - used : 0;
    if (left < h->memory_free) h->memory_free = left;
}

static void read_processor(const char *root, host_info *h) {
    char text[TEXT_BYTES];
    cpu_set_t set;
    if (read_text(root, "/proc/cpuinfo", text, sizeof text) && !value_of(text, "model name", h->cpu, sizeof h->cpu))
        (void)value_of(text, "Model", h->cpu, sizeof h->cpu);
    CPU_ZERO(&set);
    h->n_cores = sched_getaffinity(0, sizeof set, &set) == 0 ? (int32_t)CPU_COUNT(&set) : 1;
    if (!read_text(root, "/sys/fs/cgroup/cpu.max", text, sizeof text)) return;
    char *rest = NULL;
    const double quota = strtod(text, &rest), period = rest ? strtod(rest, NULL) : 0; /* "max 100000" reads as 0 */
    if (quota > 0 && period > 0) h->n_quota = quota / period;
}

/* ---------------------------------------------------------------- NVIDIA's traces */

/* Display (0x0300..) and 3D (0x0302..) controllers of NVIDIA. */
static bool is_nvidia_gpu(const char *root, const char *slot) {
    char path[PATH_BYTES], text[32];
    (void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%.64s/vendor", slot);
    if (!read_text(root, path, text, sizeof text) || strtoul(text, NULL, 16) != 0x10de) return false;
    (void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%.64s/class", slot);
    return read_text(root, path, text, sizeof text) && strtoul(text, NULL, 16) >> 16 == 0x03;
}

static void read_pci(const char *root, host_info *h) {
    char full[PATH_BYTES];
    (void)snprintf(full, sizeof full, "%.400s/sys/bus/pci/devices", root);
    DIR *dir = opendir(full);
    if (!dir) return;
    for (const struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') h->n_nvidia_pci += is_nvidia_gpu(root, e->d_name);
    (void)closedir(dir);
    h->has_nvidia_pci = h->n_nvidia_pci > 0;
}

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue ...": the first word of digits and dots. */
static void read_kernel_driver(const char *root, host_info *h) {
    char text[TEXT_BYTES];
    if (!read_text(root, "/proc/driver/nvidia/version", text, sizeof text)) return;
    for (const char *p = text; *p && *p != '\n';) {
        const size_t n = strspn(p, "0123456789."), word = strcspn(p, " \t\n");
        if (n >= 5 && n == word && memchr(p, '.', n)) {
            (void)snprintf(h->kernel_driver, sizeof h->kernel_driver, "%.*s", (int)n, p);
            return;
        }
        p += word + strspn(p + word, " \t");
    }
}

static void read_nvidia(const char *root, host_info *h) {
    read_pci(root, h);
    read_kernel_driver(root, h);
    h->has_dev_ctl = exists(root, "/dev/nvidiactl");
    h->has_dev_uvm = exists(root, "/dev/nvidia-uvm");
    h->has_nouveau = exists(root, "/sys/module/nouveau");
    for (char path[32]; h->n_dev_gpus < 64; h->n_dev_gpus++) {
        (void)snprintf(path, sizeof path, "/dev/nvidia%d", h->n_dev_gpus);
        if (!exists(root, path)) break;
    }
}

void host_read(const char *root, host_info *out) {
    char text[TEXT_BYTES];
    *out = (host_info){0};
    read_processor(root, out);
    read_memory(root, out);
    read_nvidia(root, out);
    out->is_container = exists(root, "/.dockerenv") || exists(root, "/run/.containerenv") ||
                        (read_text(root, "/proc/1/cgroup", text, sizeof text) &&
                         (strstr(text, "docker") || strstr(text, "kubepods") || strstr(text, "containerd")));
}

galen_status host_disk_free(const char *path, uint64_t *bytes, galen_error *err) {
    struct statvfs v;
    *bytes = 0;
    if (statvfs(path, &v) != 0) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "%.200s: no such place", path);
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return GALEN_OK;
}

/* ---------------------------------------------------------------- what it is doing */

double host_cpu_percent(const char *root, host_load *last) {
    char text[TEXT_BYTES];
    host_load now = {0};
    if (!read_text(root, "/proc/stat", text, sizeof text) || strncmp(text, "cpu ", 4) != 0) return (double)NAN;
    char *p = text + 4;
    for (int i = 0; i < 8; i++) { /* user nice system idle iowait irq softirq steal */
        const uint64_t v = strtoull(p, &p, 10);
        now.all += v;
        if (i != 3 && i != 4) now.busy += v;
    }
    const host_load was = *last;
    *last = now;
    if (!was.all || now.all <= was.all || now.busy < was.busy) return (double)NAN;
    return 100.0 * (double)(now.busy - was.busy) / (double)(now.all - was.all);
}

uint64_t host_process_rss(const char *root, int32_t pid) {
    char path[64], text[TEXT_BYTES];
    (void)snprintf(path, sizeof path, "/proc/%d/status", pid);
    return read_text(root, path, text, sizeof text) ? kib_of(text, "VmRSS") : 0;
}

void host_process_name(const char *root, int32_t pid, char *out, size_t cap) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (!read_text(root, path, out, cap)) out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}
