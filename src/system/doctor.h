/* What may be wrong on this machine, as a table of checks over facts gathered beforehand: pure, so every trouble can be made up
 * in a test. A finding says the cause and the one command that helps. */
#ifndef GALEN_SYSTEM_DOCTOR_H
#define GALEN_SYSTEM_DOCTOR_H

#include "system/host.h"
#include "system/nvml.h"

enum { DOCTOR_MAX_GPUS = 16, DOCTOR_MAX_ARCHS = 16, DOCTOR_TEXT = 512 };

typedef enum doctor_state { DOCTOR_ABSENT, DOCTOR_BROKEN, DOCTOR_GOOD } doctor_state;

/* A tool of the build: where it is and the version it tells. path "" = not found. */
typedef struct doctor_tool {
    char path[256], version[64];
    bool is_on_path; /* false: found only where the toolkit is usually put */
} doctor_tool;

typedef enum doctor_model_state {
    DOCTOR_MODEL_NONE, /* none was named and there is no default one */
    DOCTOR_MODEL_MISSING,
    DOCTOR_MODEL_UNREADABLE,
    DOCTOR_MODEL_MALFORMED, /* or cut short */
    DOCTOR_MODEL_UNSUPPORTED,
    DOCTOR_MODEL_GOOD
} doctor_model_state;

/* One real token on a device. */
typedef struct doctor_token {
    bool was_tried, has_failed;
    char why[DOCTOR_TEXT]; /* it failed */
    int32_t id;            /* the token chosen */
    double tokens_per_s;   /* median of short runs */
    double spread;         /* (largest - smallest) / median of the runs' times */
} doctor_token;

typedef struct doctor_facts {
    char isa[32]; /* what the CPU engine selects; "" when it does not start */
    char data_dir[256];
    uint64_t disk_free; /* of data_dir; 0 = not told */
    host_info host;

    doctor_state nvml;
    char nvml_why[DOCTOR_TEXT];
    char driver[80];     /* of the library */
    int32_t driver_cuda; /* 13000 = CUDA 13.0; 0 = not told */
    int32_t n_gpus;
    nvml_gpu gpus[DOCTOR_MAX_GPUS];
    char visible[128]; /* CUDA_VISIBLE_DEVICES, "(unset)" without it */

    doctor_state plugin;
    bool is_plugin_other_version; /* broken because it was made from other source */
    char plugin_why[DOCTOR_TEXT];
    int32_t plugin_runtime;                   /* CUDA runtime it was built with; 0 = not told */
    int32_t archs[DOCTOR_MAX_ARCHS], n_archs; /* compute capabilities it has machine code for */
    int32_t ptx;                              /* code that newer cards compile for themselves: lowest capability; 0 = none */
    bool is_device_usable;                    /* the plugin sees a card and can open it */
    char device_why[DOCTOR_TEXT];             /* why not */
    char forced_device[32];                   /* GALEN_DEVICE, "" without it */

    doctor_tool cc, make, nvcc;
    int32_t n_jobs; /* processors that make uses by itself */

    doctor_model_state model;
    char model_path[512], model_why[DOCTOR_TEXT], model_name[128];
    char placement[DOCTOR_TEXT]; /* what runs where, in one line; "" = not planned */
    bool is_refused;             /* the plan refuses: model_fit says why */
    char model_fit[DOCTOR_TEXT];
    int32_t gpu_layers, n_layers;
    char sha256[65];    /* "" = not computed */
    bool is_hash_wrong; /* it differs from the sum that came with the file */

    doctor_token cpu, gpu; /* of the token test */
    bool is_required;      /* the user demands the GPU */
} doctor_facts;

typedef enum doctor_severity { DOCTOR_OK, DOCTOR_SKIP, DOCTOR_WARN, DOCTOR_FAIL } doctor_severity;

typedef struct doctor_finding {
    doctor_severity severity;
    char what[DOCTOR_TEXT];   /* the fact, or the cause */
    char remedy[DOCTOR_TEXT]; /* one command, or "" */
} doctor_finding;

typedef struct doctor_check {
    const char *id;    /* stable: "gpu.driver" */
    const char *title; /* "NVIDIA driver" */
    const char *about; /* paragraphs for `galen explain ID` */
    void (*judge)(const doctor_facts *f, doctor_finding *out);
} doctor_check;

extern const doctor_check doctor_checks[];
extern const size_t doctor_n_checks;

const doctor_check *doctor_find(const char *id);     /* NULL: none */
const char *doctor_severity_name(doctor_severity s); /* "ok", "skip", "warn", "fail" */

#endif
