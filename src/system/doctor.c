/* The checks, in the order in which causes precede effects: what is found first explains what follows. */
#include "system/doctor.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GIB ((double)(1u << 30))

static void say(doctor_finding *f, doctor_severity s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(doctor_finding *f, doctor_severity s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    f->severity = s;
    (void)vsnprintf(f->what, sizeof f->what, fmt, ap);
    va_end(ap);
}

static void help(doctor_finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void help(doctor_finding *f, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->remedy, sizeof f->remedy, fmt, ap);
    va_end(ap);
}

static bool has_card(const doctor_facts *f) {
    return f->host.has_nvidia_pci || f->n_gpus > 0 || f->host.n_dev_gpus > 0 || f->host.kernel_driver[0];
}

static void no_card(doctor_finding *out) {
    say(out, DOCTOR_SKIP, "no NVIDIA GPU");
}

/* ---------------------------------------------------------------- host */

static void cpu_kernels(const doctor_facts *f, doctor_finding *out) {
    if (!f->isa[0]) {
        say(out, DOCTOR_FAIL, "the CPU engine does not start on %s", f->host.cpu[0] ? f->host.cpu : "this processor");
        help(out, "galen version --json");
    } else if (strcmp(f->isa, "generic") == 0) {
        say(out, DOCTOR_WARN, "%s has neither AVX2 nor NEON: plain C code computes, several times slower",
            f->host.cpu[0] ? f->host.cpu : "the processor");
    } else {
        say(out, DOCTOR_OK, "%s, %d cores, kernels: %s", f->host.cpu[0] ? f->host.cpu : "processor", f->host.n_cores, f->isa);
    }
}

static void cpu_quota(const doctor_facts *f, doctor_finding *out) {
    const host_info *h = &f->host;
    if (h->n_quota <= 0 || h->n_quota >= h->n_cores) {
        say(out, DOCTOR_OK, "no limit below the %d cores", h->n_cores);
        return;
    }
    const int n = h->n_quota < 1 ? 1 : (int)h->n_quota;
    say(out, DOCTOR_WARN, "the control group grants %.1f processors of %d: more threads than that wait for each other",
        h->n_quota, h->n_cores);
    help(out, "galen diagnose --threads %d ...", n);
}

static void memory_host(const doctor_facts *f, doctor_finding *out) {
    const host_info *h = &f->host;
    const double free = (double)h->memory_free / GIB, total = (double)h->memory_total / GIB;
    if (!h->memory_total) {
        say(out, DOCTOR_SKIP, "the system does not tell");
    } else if (h->memory_free < (uint64_t)1 << 30) {
        say(out, DOCTOR_WARN, "%.1f of %.1f GiB free: weights will be read from disk again and again", free, total);
        help(out, "ps -eo pid,rss,comm --sort=-rss | head");
    } else if (h->memory_limit) {
        say(out, DOCTOR_OK, "%.1f GiB free of the %.1f GiB that the control group grants", free, (double)h->memory_limit / GIB);
    } else {
        say(out, DOCTOR_OK, "%.1f of %.1f GiB free", free, total);
    }
}

static void disk_free(const doctor_facts *f, doctor_finding *out) {
    if (!f->disk_free) {
        say(out, DOCTOR_SKIP, "%s is not there yet", f->data_dir);
    } else if (f->disk_free < (uint64_t)256 << 20) {
        say(out, DOCTOR_WARN, "%s: %.0f MiB free: history and downloads will fail", f->data_dir,
            (double)f->disk_free / (1 << 20));
        help(out, "df -h '%s'", f->data_dir);
    } else {
        say(out, DOCTOR_OK, "%s: %.1f GiB free", f->data_dir, (double)f->disk_free / GIB);
    }
}

/* ---------------------------------------------------------------- the card and its driver */

static void gpu_present(const doctor_facts *f, doctor_finding *out) {
    if (f->n_gpus > 0) {
        const nvml_gpu *g = &f->gpus[0];
        char capability[32] = "";
        if (g->compute > 0) (void)snprintf(capability, sizeof capability, ", capability %d.%d", g->compute / 10, g->compute % 10);
        say(out, DOCTOR_OK, "%s, %.1f GiB%s%s", g->name[0] ? g->name : "an NVIDIA GPU", (double)g->memory_total / GIB, capability,
            f->n_gpus > 1 ? ", and others" : "");
    } else if (has_card(f)) {
        say(out, DOCTOR_OK, "an NVIDIA GPU is in this machine");
    } else {
        say(out, DOCTOR_SKIP, "none found: the CPU computes");
    }
}

static void gpu_driver(const doctor_facts *f, doctor_finding *out) {
    const host_info *h = &f->host;
    if (!has_card(f)) {
        no_card(out);
    } else if (f->nvml == DOCTOR_GOOD) {
        say(out, DOCTOR_OK, "driver %s, CUDA up to %d.%d", f->driver[0] ? f->driver : "(version not told)", f->driver_cuda / 1000,
            f->driver_cuda % 1000 / 10);
    } else if (h->kernel_driver[0]) {
        say(out, DOCTOR_OK, "kernel driver %s is loaded", h->kernel_driver);
    } else if (h->has_nouveau) {
        say(out, DOCTOR_FAIL, "the card is held by the nouveau driver, which cannot run CUDA");
        help(out, "sudo apt-get install nvidia-driver && sudo reboot");
    } else {
        say(out, DOCTOR_FAIL, "an NVIDIA card is there, its kernel driver is not loaded");
        help(out, "sudo modprobe nvidia || sudo apt-get install nvidia-driver");
    }
}

static void gpu_nodes(const doctor_facts *f, doctor_finding *out) {
    const host_info *h = &f->host;
    if (!has_card(f) || (!h->kernel_driver[0] && f->nvml != DOCTOR_GOOD)) {
        say(out, DOCTOR_SKIP, "%s", has_card(f) ? "no kernel driver, see gpu.driver" : "no NVIDIA GPU");
    } else if (h->n_dev_gpus > 0 && h->has_dev_ctl && h->has_dev_uvm) {
        say(out, DOCTOR_OK, "/dev/nvidiactl, /dev/nvidia-uvm, %d of /dev/nvidiaN", h->n_dev_gpus);
    } else if (h->is_container) {
        say(out, DOCTOR_FAIL, "this container was started without the card's device nodes");
        help(out, "docker run --gpus all ...");
    } else {
        say(out, DOCTOR_FAIL, "device nodes are missing:%s%s%s", h->n_dev_gpus ? "" : " /dev/nvidia0",
            h->has_dev_ctl ? "" : " /dev/nvidiactl", h->has_dev_uvm ? "" : " /dev/nvidia-uvm");
        help(out, "sudo nvidia-modprobe -u -c=0");
    }
}

static void gpu_mismatch(const doctor_facts *f, doctor_finding *out) {
    const host_info *h = &f->host;
    const bool is_said = f->nvml == DOCTOR_BROKEN && strstr(f->nvml_why, "mismatch");
    const bool is_seen = f->driver[0] && h->kernel_driver[0] && strcmp(f->driver, h->kernel_driver) != 0;
    if (!has_card(f)) {
        no_card(out);
    } else if (is_said || is_seen) {
        say(out, DOCTOR_FAIL, "kernel driver %s and user library %s differ: the driver was updated while it ran",
            h->kernel_driver[0] ? h->kernel_driver : "(loaded one)", f->driver[0] ? f->driver : "(installed one)");
        help(out, "sudo reboot");
    } else if (f->nvml == DOCTOR_BROKEN) {
        say(out, DOCTOR_FAIL, "%s", f->nvml_why);
        help(out, "nvidia-smi");
    } else if (f->nvml == DOCTOR_ABSENT) {
        say(out, DOCTOR_WARN, "no management library: memory, heat and clocks of the card stay unknown");
        help(out, "sudo apt-get install libnvidia-ml1");
    } else {
        say(out, DOCTOR_OK, "driver and library agree");
    }
}

static void gpu_visible(const doctor_facts *f, doctor_finding *out) {
    if (!has_card(f)) {
        no_card(out);
    } else if (strcmp(f->visible, "(unset)") == 0) {
        say(out, DOCTOR_OK, "CUDA_VISIBLE_DEVICES hides nothing");
    } else if (!f->visible[0] || f->visible[0] == '-') {
        say(out, DOCTOR_FAIL, "CUDA_VISIBLE_DEVICES='%s' hides every card from this process", f->visible);
        help(out, "unset CUDA_VISIBLE_DEVICES");
    } else {
        say(out, DOCTOR_OK, "CUDA_VISIBLE_DEVICES=%s", f->visible);
    }
}

static void gpu_memory(const doctor_facts *f, doctor_finding *out) {
    size_t n = 0;
    char holders[160] = "";
    if (f->n_gpus == 0 || f->gpus[0].memory_total == 0) {
        say(out, DOCTOR_SKIP, "%s", has_card(f) ? "the driver does not tell" : "no NVIDIA GPU");
        return;
    }
    const nvml_gpu *g = &f->gpus[0];
    const double free = (double)g->memory_free / GIB, total = (double)g->memory_total / GIB;
    if (g->memory_free >= g->memory_total / 2) {
        say(out, DOCTOR_OK, "%.1f of %.1f GiB free", free, total);
        return;
    }
    for (int32_t i = 0; i < g->n_processes && n < sizeof holders - 32; i++)
        n += (size_t)snprintf(holders + n, sizeof holders - n, "%s%u (%.1f GiB)", i ? ", " : "", g->processes[i].pid,
                              (double)g->processes[i].bytes / GIB);
    say(out, DOCTOR_WARN, "%.1f of %.1f GiB free: %s%s", free, total, n ? "held by process " : "other programs hold the rest",
        holders);
    help(out, "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv");
}

static void gpu_clocks(const doctor_facts *f, doctor_finding *out) {
    char reasons[160] = "";
    size_t n = 0;
    if (f->n_gpus == 0 || f->gpus[0].throttle < 0) {
        say(out, DOCTOR_SKIP, "%s", has_card(f) ? "the driver does not tell" : "no NVIDIA GPU");
        return;
    }
    const nvml_gpu *g = &f->gpus[0];
    for (const nvml_throttle *t = nvml_throttle_rows; t->bit; t++)
        if (t->is_trouble && ((uint64_t)g->throttle & t->bit) && n < sizeof reasons - 32)
            n += (size_t)snprintf(reasons + n, sizeof reasons - n, "%s%s", n ? ", " : "", t->name);
    if (n) {
        say(out, DOCTOR_WARN, "clocks are held back (%s)%s: timings will vary and fall", reasons,
            g->temp_c >= 80 ? ", the card is hot" : "");
        help(out, "galen monitor");
    } else {
        say(out, DOCTOR_OK, "not held back");
    }
}

/* ---------------------------------------------------------------- the plugin */

static void plugin_found(const doctor_facts *f, doctor_finding *out) {
    if (f->plugin != DOCTOR_ABSENT) {
        say(out, DOCTOR_OK, "libgalen-cuda.so is there");
    } else if (!has_card(f)) {
        say(out, DOCTOR_SKIP, "not built, and there is no NVIDIA GPU");
    } else {
        say(out, DOCTOR_FAIL, "there is a GPU, and no libgalen-cuda.so beside the program: the CPU computes alone");
        help(out, "%s", f->nvcc.path[0] ? "make cuda" : "sudo apt-get install nvidia-cuda-toolkit && make cuda");
    }
}

static void plugin_loads(const doctor_facts *f, doctor_finding *out) {
    if (f->plugin == DOCTOR_ABSENT) {
        say(out, DOCTOR_SKIP, "there is none");
    } else if (f->plugin == DOCTOR_BROKEN) {
        say(out, DOCTOR_FAIL, "%s", f->plugin_why);
        help(out, "make clean all cuda");
    } else {
        say(out, DOCTOR_OK, "loaded%s", f->plugin_runtime ? "" : " (it does not tell its runtime)");
    }
}

static void plugin_version(const doctor_facts *f, doctor_finding *out) {
    if (f->plugin == DOCTOR_ABSENT) {
        say(out, DOCTOR_SKIP, "there is none");
    } else if (f->is_plugin_other_version) {
        say(out, DOCTOR_FAIL, "program and plugin come from different versions: %s", f->plugin_why);
        help(out, "make clean all cuda");
    } else {
        say(out, DOCTOR_OK, "program and plugin are of one version");
    }
}

static void plugin_runtime(const doctor_facts *f, doctor_finding *out) {
    if (!f->plugin_runtime || !f->driver_cuda) {
        say(out, DOCTOR_SKIP, "%s", has_card(f) ? "versions are not told" : "no NVIDIA GPU");
    } else if (f->plugin_runtime / 1000 > f->driver_cuda / 1000) {
        say(out, DOCTOR_FAIL, "the plugin was built with CUDA %d.%d, the driver %s runs up to %d.%d", f->plugin_runtime / 1000,
            f->plugin_runtime % 1000 / 10, f->driver, f->driver_cuda / 1000, f->driver_cuda % 1000 / 10);
        help(out, "sudo apt-get install nvidia-driver   (or build with a CUDA toolkit of version %d: make cuda NVCC=PATH)",
             f->driver_cuda / 1000);
    } else {
        say(out, DOCTOR_OK, "CUDA %d.%d, the driver runs up to %d.%d", f->plugin_runtime / 1000, f->plugin_runtime % 1000 / 10,
            f->driver_cuda / 1000, f->driver_cuda % 1000 / 10);
    }
}

/* Machine code runs on cards of the same major capability and an equal or higher minor one; PTX on all later ones. */
static bool is_built_for(const doctor_facts *f, int32_t compute) {
    for (int32_t i = 0; i < f->n_archs; i++)
        if (f->archs[i] / 10 == compute / 10 && f->archs[i] <= compute) return true;
    return f->ptx && f->ptx <= compute;
}

static void plugin_arch(const doctor_facts *f, doctor_finding *out) {
    const int32_t compute = f->n_gpus ? f->gpus[0].compute : -1;
    if (f->plugin != DOCTOR_GOOD || f->n_archs == 0 || compute < 0) {
        say(out, DOCTOR_SKIP, "%s", has_card(f) ? "the plugin or the card does not tell" : "no NVIDIA GPU");
    } else if (!is_built_for(f, compute)) {
        say(out, DOCTOR_FAIL, "the card's capability is %d.%d, which the plugin was not built for", compute / 10, compute % 10);
        help(out, "make cuda GALEN_CUDA_ARCHS=%d", compute);
    } else {
        say(out, DOCTOR_OK, "capability %d.%d is among those it was built for", compute / 10, compute % 10);
    }
}

static void gpu_used(const doctor_facts *f, doctor_finding *out) {
    if (!has_card(f)) {
        no_card(out);
    } else if (f->forced_device[0] && strcmp(f->forced_device, "auto") != 0 && strcmp(f->forced_device, "cuda") != 0) {
        say(out, DOCTOR_FAIL, "GALEN_DEVICE=%s keeps the engine off the GPU", f->forced_device);
        help(out, "unset GALEN_DEVICE");
    } else if (f->plugin == DOCTOR_GOOD && f->is_device_usable) {
        say(out, DOCTOR_OK, "the engine uses the GPU%s%s", f->placement[0] ? ": " : "", f->placement);
    } else {
        const char *why = f->device_why[0] ? f->device_why : f->plugin_why;
        say(out, DOCTOR_FAIL, "there is a GPU and it will not be used: %s", why[0] ? why : "no plugin");
        help(out, "%s", f->plugin == DOCTOR_GOOD ? "galen explain gpu.driver" : "galen explain plugin.found");
    }
}

/* ---------------------------------------------------------------- building */

static void build_compiler(const doctor_facts *f, doctor_finding *out) {
    if (f->cc.path[0] && f->make.path[0]) {
        say(out, DOCTOR_OK, "%s %s, make %s (CMake is not used)", f->cc.path, f->cc.version, f->make.version);
        return;
    }
    say(out, DOCTOR_WARN, "building needs %s%s%s, which %s not here (CMake is not used)", f->cc.path[0] ? "" : "a C compiler",
        !f->cc.path[0] && !f->make.path[0] ? " and " : "", f->make.path[0] ? "" : "make",
        !f->cc.path[0] && !f->make.path[0] ? "are" : "is");
    help(out, "sudo apt-get install build-essential");
}

static void build_nvcc(const doctor_facts *f, doctor_finding *out) {
    if (f->nvcc.path[0]) {
        say(out, DOCTOR_OK, "%s %s%s", f->nvcc.path, f->nvcc.version,
            f->nvcc.is_on_path ? "" : " (not on PATH; make finds it there)");
    } else if (has_card(f) && f->plugin != DOCTOR_GOOD) {
        say(out, DOCTOR_FAIL, "the CUDA compiler is not here, so `make` leaves the GPU plugin out");
        help(out, "sudo apt-get install nvidia-cuda-toolkit && make cuda");
    } else {
        say(out, DOCTOR_SKIP, "no CUDA compiler; needed only to build the GPU plugin");
    }
}

/* A GPU compile job's peak: bench/NOTES.md, "Building the plugin". */
#define NVCC_JOB_BYTES ((uint64_t)1200 << 20)

static void build_memory(const doctor_facts *f, doctor_finding *out) {
    const uint64_t fits = f->host.memory_free / NVCC_JOB_BYTES;
    if (!f->nvcc.path[0] || !f->host.memory_total) {
        say(out, DOCTOR_SKIP, "no CUDA compiler");
    } else if ((uint64_t)f->n_jobs > fits) {
        say(out, DOCTOR_WARN, "%d compile jobs at once want %.1f GiB, %.1f are free: the build may be killed", f->n_jobs,
            (double)f->n_jobs * (double)NVCC_JOB_BYTES / GIB, (double)f->host.memory_free / GIB);
        help(out, "make cuda -j%d", fits ? (int)fits : 1);
    } else {
        say(out, DOCTOR_OK, "enough for %d compile jobs", f->n_jobs);
    }
}

/* ---------------------------------------------------------------- the model */

static void model_file(const doctor_facts *f, doctor_finding *out) {
    switch (f->model) {
    case DOCTOR_MODEL_NONE:
        say(out, DOCTOR_WARN, "no model is named and the demo's is not here");
        help(out, "make demo");
        break;
    case DOCTOR_MODEL_MISSING:
        say(out, DOCTOR_FAIL, "%s", f->model_why);
        help(out, "ls ~/.local/share/galen/models");
        break;
    case DOCTOR_MODEL_UNREADABLE:
        say(out, DOCTOR_FAIL, "%s", f->model_why);
        help(out, "ls -l '%.300s'", f->model_path);
        break;
    default:
        say(out, DOCTOR_OK, "%.300s", f->model_path);
    }
}

static void model_whole(const doctor_facts *f, doctor_finding *out) {
    if (f->model < DOCTOR_MODEL_MALFORMED) {
        say(out, DOCTOR_SKIP, "no model to read");
    } else if (f->model == DOCTOR_MODEL_MALFORMED) {
        say(out, DOCTOR_FAIL, "%s", f->model_why);
        help(out, "sha256sum '%.300s'   (compare with the source, then fetch the file again)", f->model_path);
    } else if (f->model == DOCTOR_MODEL_UNSUPPORTED) {
        say(out, DOCTOR_FAIL, "%s", f->model_why);
        help(out, "galen show '%.300s'", f->model_path);
    } else {
        say(out, DOCTOR_OK, "%s: every tensor lies inside the file", f->model_name[0] ? f->model_name : "the model");
    }
}

static void model_hash(const doctor_facts *f, doctor_finding *out) {
    if (!f->sha256[0]) {
        say(out, DOCTOR_SKIP, "not computed; --hash does");
    } else if (f->is_hash_wrong) {
        say(out, DOCTOR_FAIL, "SHA-256 is %s, not the sum that the file's source states", f->sha256);
        help(out, "rm '%.300s' && make demo", f->model_path);
    } else {
        say(out, DOCTOR_OK, "SHA-256 %s", f->sha256);
    }
}

static void model_fits(const doctor_facts *f, doctor_finding *out) {
    if (f->model != DOCTOR_MODEL_GOOD) {
        say(out, DOCTOR_SKIP, "no model to place");
    } else if (f->is_refused) {
        say(out, DOCTOR_FAIL, "%s", f->model_fit);
        help(out, "galen plan '%.300s'", f->model_path);
    } else if (f->gpu_layers && f->gpu_layers < f->n_layers) {
        say(out, DOCTOR_WARN, "%d of %d layers fit the GPU: the rest runs on the CPU, which sets the pace. %s", f->gpu_layers,
            f->n_layers, f->placement);
        help(out, "galen plan '%.300s'", f->model_path);
    } else {
        say(out, DOCTOR_OK, "%s", f->placement[0] ? f->placement : "it fits the host's memory");
    }
}

/* ---------------------------------------------------------------- a real token */

static void judge_token(const doctor_token *t, const char *device, doctor_finding *out) {
    if (!t->was_tried) {
        say(out, DOCTOR_SKIP, "not tried; --token does");
    } else if (t->has_failed) {
        say(out, DOCTOR_FAIL, "%s", t->why);
        help(out, "galen complete --device %s -p Hello -n 8", device);
    } else {
        say(out, DOCTOR_OK, "token %d, %.1f tokens/s", t->id, t->tokens_per_s);
    }
}

static void token_cpu(const doctor_facts *f, doctor_finding *out) {
    judge_token(&f->cpu, "cpu", out);
}

static void token_gpu(const doctor_facts *f, doctor_finding *out) {
    if (!has_card(f))
        no_card(out);
    else
        judge_token(&f->gpu, "cuda", out);
}

static bool are_both_there(const doctor_facts *f) {
    return f->cpu.was_tried && f->gpu.was_tried && !f->cpu.has_failed && !f->gpu.has_failed;
}

static void token_agree(const doctor_facts *f, doctor_finding *out) {
    if (!are_both_there(f)) {
        say(out, DOCTOR_SKIP, "needs both devices");
    } else if (f->cpu.id != f->gpu.id) {
        say(out, DOCTOR_FAIL, "CPU chose token %d, GPU token %d: one of them computes wrongly", f->cpu.id, f->gpu.id);
        help(out, "galen doctor --report > report.md   (and open an issue with it)");
    } else {
        say(out, DOCTOR_OK, "CPU and GPU chose the same token");
    }
}

static void token_speed(const doctor_facts *f, doctor_finding *out) {
    if (!are_both_there(f)) {
        say(out, DOCTOR_SKIP, "needs both devices");
    } else if (f->gpu.tokens_per_s <= f->cpu.tokens_per_s) {
        say(out, DOCTOR_WARN, "the GPU is not faster (%.1f tokens/s, CPU %.1f)%s", f->gpu.tokens_per_s, f->cpu.tokens_per_s,
            f->gpu_layers < f->n_layers ? ": not all layers fit it" : ": small models gain little");
        help(out, "galen tune '%.300s'", f->model_path);
    } else {
        say(out, DOCTOR_OK, "the GPU is %.1f times as fast as the CPU", f->gpu.tokens_per_s / f->cpu.tokens_per_s);
    }
}

#define STEADY 0.25 /* spread of a quiet machine's repeated short runs is below a tenth */

static void token_steady(const doctor_facts *f, doctor_finding *out) {
    const doctor_token *t = f->gpu.was_tried && !f->gpu.has_failed ? &f->gpu : &f->cpu;
    if (!t->was_tried || t->has_failed) {
        say(out, DOCTOR_SKIP, "not tried; --token does");
    } else if (t->spread > STEADY) {
        say(out, DOCTOR_WARN, "equal runs differ by %.0f %%: other programs, heat or power limits disturb them", 100 * t->spread);
        help(out, "galen monitor");
    } else {
        say(out, DOCTOR_OK, "equal runs differ by %.0f %%", 100 * t->spread);
    }
}

/* ---------------------------------------------------------------- the table */

#define CHECK(id, title, judge, about)                                                                                           \
    { id, title, about, judge }
const doctor_check doctor_checks[] = {
    CHECK(
        "cpu.kernels", "Processor", cpu_kernels,
        "Galen chooses its CPU kernels at run time: AVX-512 VNNI, AVX2 or NEON; plain C where none of these is there. A virtual "
        "machine may hide AVX2 from its guest: ask for the host's own processor model."),
    CHECK("cpu.quota", "Processor limit", cpu_quota,
          "A container may be granted fewer processors than the machine shows. Threads beyond the grant are stopped in turn, and "
          "every layer waits for the one that was stopped. --threads should not exceed the grant."),
    CHECK("memory.host", "Host memory", memory_host,
          "Weights are used where they lie in the mapped file. When less memory is free than the layers on the CPU take, the "
          "system "
          "drops pages and reads them again for every token: a hundred times slower. A smaller quantisation, or more layers on a "
          "GPU, helps; galen plan shows both."),
    CHECK("disk.free", "Disk", disk_free,
          "History, calibration and models live in the data folder. A full disk loses no finished turn; "
          "new ones are refused with an error."),
    CHECK("gpu.present", "GPU", gpu_present,
          "The PCI bus, the driver's device nodes and NVIDIA's management library are asked. Other makers' cards are not used "
          "yet."),
    CHECK("gpu.driver", "GPU driver", gpu_driver,
          "CUDA needs NVIDIA's own kernel driver. `nouveau`, the kernel's driver, cannot run it. After installing, the machine "
          "must "
          "be started anew."),
    CHECK(
        "gpu.nodes", "Device nodes", gpu_nodes,
        "Programs reach the card through /dev/nvidia0, /dev/nvidiactl and /dev/nvidia-uvm. A container has them only when it was "
        "started with them (docker: --gpus all). On a plain machine nvidia-modprobe makes them."),
    CHECK("gpu.mismatch", "Driver and library", gpu_mismatch,
          "After an update of the driver the old one stays in the kernel until the next start, while programs load the new "
          "library: "
          "every CUDA call fails, and engines that fall back in silence run on the CPU. Galen says so; a restart mends it."),
    CHECK("gpu.visible", "Visible cards", gpu_visible,
          "CUDA_VISIBLE_DEVICES lists the cards that a process may see. Empty or -1 hides all of them."),
    CHECK("gpu.memory", "GPU memory", gpu_memory,
          "Galen reserves all it needs when a model is loaded, never later, and leaves 256 MiB. What other programs hold is not "
          "there for the model: fewer layers will fit. --vram-limit makes Galen take less than is free."),
    CHECK("gpu.clocks", "GPU clocks", gpu_clocks,
          "A card slows down when it is hot or at its power limit. Timings then vary from run to run. galen monitor shows "
          "clocks, heat, power and the "
          "reason; laptops on battery are limited by design."),
    CHECK(
        "plugin.found", "GPU plugin", plugin_found,
        "libgalen-cuda.so stands beside the program or in ../lib. `make` builds it wherever it finds nvcc, and says when it does "
        "not. Without it the program runs on the CPU and says so."),
    CHECK("plugin.version", "Plugin's version", plugin_version,
          "Program and plugin share data structures. A plugin made from other source is refused instead of misread: build both "
          "again from one tree."),
    CHECK("plugin.loads", "Plugin loads", plugin_loads,
          "The dynamic loader's own message names the library or symbol that is missing."),
    CHECK("plugin.runtime", "CUDA versions", plugin_runtime,
          "A driver runs CUDA programs up to its own major version. nvidia-smi shows it at the top right. Either the driver is "
          "updated, or the plugin is built with an older toolkit."),
    CHECK("plugin.arch", "Capability", plugin_arch,
          "A card runs machine code of its own generation, or PTX of an earlier one that the driver translates. The plugin is "
          "built "
          "for 7.5 8.0 8.6 8.9 9.0 10.0 12.0 unless GALEN_CUDA_ARCHS narrowed it."),
    CHECK("gpu.used", "GPU in use", gpu_used,
          "The verdict: will a model that is loaded now run on the GPU? --require-gpu turns a no into an error (exit code 4) for "
          "every verb."),
    CHECK("build.compiler", "Compiler", build_compiler,
          "Galen is built by make with any C11 compiler. CMake, Python and a C++ compiler of your own are not needed."),
    CHECK("build.nvcc", "CUDA compiler", build_nvcc,
          "Only the GPU plugin needs it. make looks on PATH and in /usr/local/cuda; NVCC=PATH names another."),
    CHECK("build.memory", "Memory to build", build_memory,
          "Each CUDA compile job takes about a gigabyte at its peak. With too many at once the system ends one of them, and the "
          "build fails without a reason that is easy to see: use fewer (-j1)."),
    CHECK("model.file", "Model file", model_file,
          "MODEL is a path, or a name in ~/.local/share/galen/models; without one GALEN_MODEL decides, then the demo's model. "
          "Relative paths count from where the program was started."),
    CHECK("model.whole", "Model is whole", model_whole,
          "A download that broke off leaves a file that is too short. Galen compares every tensor's place with the file's size "
          "before it uses anything."),
    CHECK("model.hash", "Model's sum", model_hash,
          "galen doctor --hash reads the whole file and compares it with the sum that its source states, where one is known."),
    CHECK("model.fits", "Model fits", model_fits,
          "The memory plan, byte for byte, before anything is loaded. galen plan shows it whole, with the choices that would fit "
          "better."),
    CHECK("token.cpu", "A token on the CPU", token_cpu, "One real token, computed by the CPU engine."),
    CHECK("token.gpu", "A token on the GPU", token_gpu,
          "The same token, computed by the GPU alone: placement, driver and kernels are all in it."),
    CHECK("token.agree", "They agree", token_agree, "Greedy choice after the same prompt must be the same token on both."),
    CHECK("token.speed", "GPU is faster", token_speed,
          "A model that is split between GPU and CPU is as fast as the CPU's part. Galen measures the best split: galen tune."),
    CHECK("token.steady", "Timings are steady", token_steady,
          "The same short run is repeated after a warm-up. A large spread points to other programs, heat, power limits, or a "
          "laptop "
          "on battery."),
};
const size_t doctor_n_checks = sizeof doctor_checks / sizeof doctor_checks[0];

const doctor_check *doctor_find(const char *id) {
    for (size_t i = 0; i < doctor_n_checks; i++)
        if (strcmp(doctor_checks[i].id, id) == 0) return &doctor_checks[i];
    return NULL;
}

const char *doctor_severity_name(doctor_severity s) {
    static const char *const names[] = {
        [DOCTOR_OK] = "ok", [DOCTOR_SKIP] = "skip", [DOCTOR_WARN] = "warn", [DOCTOR_FAIL] = "fail"};
    return names[s];
}
