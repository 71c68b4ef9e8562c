/* NVIDIA's management library, loaded when it is asked for: what the cards are and how they fare.
 * Each figure fails alone: a card or driver that does not tell one still tells the others. */
#ifndef GALEN_SYSTEM_NVML_H
#define GALEN_SYSTEM_NVML_H

#include <stdbool.h>

#include "base/error.h"

typedef struct nvml nvml; /* one thread at a time */

enum { NVML_MAX_PROCESSES = 16 };

typedef struct nvml_process {
    uint32_t pid;
    uint64_t bytes; /* of device memory; 0 = not told */
} nvml_process;

/* Figures that were not told are NAN, -1, 0 bytes in all (memory) or "". */
typedef struct nvml_gpu {
    char name[96], uuid[96];
    uint64_t memory_total, memory_used, memory_free; /* bytes */
    double gpu_percent, memory_percent;              /* busy, over the last sample period */
    double temp_c, power_w, power_limit_w, fan_percent;
    double sm_mhz, sm_max_mhz, memory_mhz;
    int64_t throttle;             /* bits of nvml_throttle_rows; -1 = not told */
    int32_t compute;              /* 90 = capability 9.0; -1 = not told       */
    int32_t pcie_gen, pcie_width; /* now; -1 = not told */
    int32_t n_processes;          /* listed; -1 = not told */
    nvml_process processes[NVML_MAX_PROCESSES];
} nvml_gpu;

/* Why clocks are held back. is_trouble: slower than the card could be, by heat or want of power. */
typedef struct nvml_throttle {
    uint64_t bit;
    const char *name;
    bool is_trouble;
} nvml_throttle;
extern const nvml_throttle nvml_throttle_rows[]; /* ended by bit 0 */

/** Load and start the library. path NULL: $GALEN_NVML, else the system's libnvidia-ml.so.1.
 *  Errors  NOT_FOUND there is no such library (no NVIDIA driver); DEVICE it is there and does not start: err says why, among
 *          them "driver/library version mismatch" (the driver was updated and not reloaded). *out is NULL then. */
galen_status nvml_open(nvml **out, const char *path, galen_error *err);
void nvml_close(nvml *n); /* NULL is fine */

/** Number of cards; 0 when it is not told. */
int32_t nvml_count(const nvml *n);
/** "580.159.04" and 13000 (CUDA 13.0: the newest the driver runs); "" and 0 when not told. Lives as long as n. */
const char *nvml_driver(const nvml *n);
int32_t nvml_cuda_version(const nvml *n);

/** Read card index. Errors  RANGE there is no such card; DEVICE it is lost. */
galen_status nvml_read(const nvml *n, int32_t index, nvml_gpu *out, galen_error *err);

#endif
