/* The host as the kernel tells of it: processor, memory, disk, container, NVIDIA's traces. Read-only.
 * root: prefix of /proc, /sys, /dev and /usr, "" for the machine itself; tests give a folder of their own making. */
#ifndef GALEN_SYSTEM_HOST_H
#define GALEN_SYSTEM_HOST_H

#include <stdbool.h>

#include "base/error.h"

typedef struct host_info {
    char cpu[128];                      /* model name; "" = not told */
    int32_t n_cores;                    /* this process may run on   */
    double n_quota;                     /* processors' worth that the control group grants; 0 = no limit */
    uint64_t memory_total, memory_free; /* bytes; free: available without swapping, within the control group's limit */
    uint64_t memory_limit;              /* of the control group; 0 = none */
    bool is_container;
    bool has_nvidia_pci; /* a display or 3D controller of vendor 0x10de */
    int32_t n_nvidia_pci;
    bool has_dev_ctl, has_dev_uvm; /* /dev/nvidiactl, /dev/nvidia-uvm */
    int32_t n_dev_gpus;            /* /dev/nvidia0, ... */
    char kernel_driver[64];        /* version of the loaded NVIDIA kernel driver; "" = none */
    bool has_nouveau;              /* the kernel's own driver holds the card */
} host_info;

/** Never fails: what cannot be read is empty. */
void host_read(const char *root, host_info *out);

/** Bytes that an ordinary user may still write in the file system of path. Errors  NOT_FOUND. */
galen_status host_disk_free(const char *path, uint64_t *bytes, galen_error *err);

/* Load between two looks. All zero is "not looked yet". */
typedef struct host_load {
    uint64_t busy, all; /* jiffies */
} host_load;
/** Share of processor time in use since the last look, 0 to 100; NAN on the first look or when it is not told. */
double host_cpu_percent(const char *root, host_load *last);
/** Bytes resident of a process; 0 when it is not there. */
uint64_t host_process_rss(const char *root, int32_t pid);
/** The name of a process; "" when it is not told. */
void host_process_name(const char *root, int32_t pid, char *out, size_t cap);

#endif
