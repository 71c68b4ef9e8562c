/* Each trouble of docs/gpu.md made up, and the check that must name it; on a healthy machine none does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "system/doctor.h"

#define GIB             ((uint64_t)1 << 30)
#define SET(field, ...) (void)snprintf(f->field, sizeof f->field, __VA_ARGS__)

/* A laptop with a 4 GB card, everything in order. */
static void healthy(doctor_facts *f) {
    *f = (doctor_facts){.disk_free = 100 * GIB,
                        .nvml = DOCTOR_GOOD,
                        .driver_cuda = 13000,
                        .n_gpus = 1,
                        .plugin = DOCTOR_GOOD,
                        .plugin_runtime = 13000,
                        .archs = {75, 80, 86, 89, 90},
                        .n_archs = 5,
                        .ptx = 90,
                        .is_device_usable = true,
                        .n_jobs = 8,
                        .model = DOCTOR_MODEL_GOOD,
                        .gpu_layers = 32,
                        .n_layers = 32};
    f->host = (host_info){.n_cores = 8,
                          .memory_total = 16 * GIB,
                          .memory_free = 12 * GIB,
                          .has_nvidia_pci = true,
                          .n_nvidia_pci = 1,
                          .has_dev_ctl = true,
                          .has_dev_uvm = true,
                          .n_dev_gpus = 1};
    f->gpus[0] =
        (nvml_gpu){.memory_total = 4 * GIB, .memory_free = 4 * GIB - (200 << 20), .throttle = 1, .compute = 86, .temp_c = 50};
    SET(host.cpu, "Ryzen 7 5800H");
    SET(host.kernel_driver, "580.1.2");
    SET(driver, "580.1.2");
    SET(gpus[0].name, "RTX 3050");
    SET(visible, "(unset)");
    SET(isa, "avx2");
    SET(data_dir, "/data");
    SET(cc.path, "/usr/bin/gcc");
    SET(make.path, "/usr/bin/make");
    SET(nvcc.path, "/usr/bin/nvcc");
    f->nvcc.is_on_path = true;
    SET(model_path, "m.gguf");
    SET(placement, "GPU 32/32 layers");
    f->cpu = (doctor_token){.was_tried = true, .id = 7, .tokens_per_s = 5, .spread = 0.05};
    f->gpu = (doctor_token){.was_tried = true, .id = 7, .tokens_per_s = 50, .spread = 0.05};
}

static void plain_machine(doctor_facts *f) { /* no card, and that is well */
    healthy(f);
    f->host.has_nvidia_pci = f->host.has_dev_ctl = f->host.has_dev_uvm = false;
    f->host.n_nvidia_pci = f->host.n_dev_gpus = f->n_gpus = 0;
    f->host.kernel_driver[0] = f->driver[0] = f->nvcc.path[0] = '\0';
    f->nvml = f->plugin = DOCTOR_ABSENT;
    f->driver_cuda = f->plugin_runtime = f->gpu_layers = 0;
    f->is_device_usable = f->gpu.was_tried = false;
}

/* ---- the guide's ten troubles, and the others that the research names */
static void no_nvcc(doctor_facts *f) {
    f->nvcc.path[0] = '\0';
    f->plugin = DOCTOR_ABSENT;
    f->is_device_usable = false;
}
static void no_plugin(doctor_facts *f) {
    f->plugin = DOCTOR_ABSENT;
    f->is_device_usable = false;
}
static void no_compiler(doctor_facts *f) {
    f->cc.path[0] = '\0';
}
static void no_make(doctor_facts *f) {
    f->make.path[0] = '\0';
}
static void little_memory_to_build(doctor_facts *f) {
    f->host.memory_free = 3 * GIB;
}
static void other_version(doctor_facts *f) {
    f->plugin = DOCTOR_BROKEN;
    f->is_plugin_other_version = true;
    f->is_device_usable = false;
    SET(plugin_why, "layout 1, expected 2");
}
static void wrong_path(doctor_facts *f) {
    f->model = DOCTOR_MODEL_MISSING;
    SET(model_why, "no model 'x.gguf'");
}
static void not_used(doctor_facts *f) {
    f->is_device_usable = false;
    SET(device_why, "GPU: initialization error");
}
static void forced_to_cpu(doctor_facts *f) {
    SET(forced_device, "cpu");
}
static void slow_split(doctor_facts *f) {
    f->gpu_layers = 16;
    f->gpu.tokens_per_s = 4;
}
static void unsteady(doctor_facts *f) {
    f->gpu.spread = 0.6;
}
static void hot(doctor_facts *f) {
    f->gpus[0].throttle = 0x40;
    f->gpus[0].temp_c = 92;
}
static void memory_taken(doctor_facts *f) {
    f->gpus[0].memory_free = GIB;
    f->gpus[0].n_processes = 1;
    f->gpus[0].processes[0] = (nvml_process){.pid = 4711, .bytes = 3 * GIB};
}
static void does_not_fit(doctor_facts *f) {
    f->is_refused = true;
    SET(model_fit, "needs 8.4 GiB");
}
static void cut_file(doctor_facts *f) {
    f->model = DOCTOR_MODEL_MALFORMED;
    SET(model_why, "blk.3.ffn_up.weight ends behind the file's end");
}
static void wrong_sum(doctor_facts *f) {
    SET(sha256, "ab");
    f->is_hash_wrong = true;
}
static void updated_driver(doctor_facts *f) {
    f->nvml = DOCTOR_BROKEN;
    SET(nvml_why, "NVIDIA driver/library version mismatch: ...");
    f->n_gpus = 0;
    f->is_device_usable = false;
}
static void driver_gone(doctor_facts *f) {
    f->nvml = DOCTOR_ABSENT;
    f->host.kernel_driver[0] = f->driver[0] = '\0';
    f->host.n_dev_gpus = f->n_gpus = 0;
    f->is_device_usable = false;
}
static void nouveau(doctor_facts *f) {
    driver_gone(f);
    f->host.has_nouveau = true;
}
static void container(doctor_facts *f) {
    f->host.is_container = true;
    f->host.n_dev_gpus = f->n_gpus = 0;
    f->host.has_dev_ctl = f->host.has_dev_uvm = false;
    f->nvml = DOCTOR_ABSENT;
    f->is_device_usable = false;
}
static void no_uvm(doctor_facts *f) {
    f->host.has_dev_uvm = false;
}
static void hidden(doctor_facts *f) {
    SET(visible, "%s", "");
}
static void old_driver(doctor_facts *f) {
    f->driver_cuda = 12040;
}
static void new_card(doctor_facts *f) {
    f->gpus[0].compute = 70;
}
static void plugin_broken(doctor_facts *f) {
    f->plugin = DOCTOR_BROKEN;
    f->is_device_usable = false;
    SET(plugin_why, "libgalen-cuda.so: undefined symbol");
}
static void disagree(doctor_facts *f) {
    f->gpu.id = 8;
}
static void gpu_fails(doctor_facts *f) {
    f->gpu.has_failed = true;
    SET(gpu.why, "GPU: illegal address");
}
static void no_avx2(doctor_facts *f) {
    SET(isa, "generic");
}
static void small_quota(doctor_facts *f) {
    f->host.n_quota = 1.5;
}
static void full_disk(doctor_facts *f) {
    f->disk_free = 1 << 20;
}
static void host_full(doctor_facts *f) {
    f->host.memory_free = GIB / 2;
}
static void no_model(doctor_facts *f) {
    f->model = DOCTOR_MODEL_NONE;
}
static void unreadable(doctor_facts *f) {
    f->model = DOCTOR_MODEL_UNREADABLE;
    SET(model_why, "m.gguf: permission denied");
}
static void unknown_kind(doctor_facts *f) {
    f->model = DOCTOR_MODEL_UNSUPPORTED;
    SET(model_why, "architecture \"mamba\" is not known");
}

static const struct {
    const char *trouble;
    void (*make)(doctor_facts *f);
    const char *check;
    doctor_severity severity;
} troubles[] = {
    {"guide 1: CUDA not found in the build", no_nvcc, "build.nvcc", DOCTOR_FAIL},
    {"guide 2: compiler missing", no_compiler, "build.compiler", DOCTOR_WARN},
    {"guide 3: CMake missing (Galen needs make)", no_make, "build.compiler", DOCTOR_WARN},
    {"guide 4: out of memory while compiling", little_memory_to_build, "build.memory", DOCTOR_WARN},
    {"guide 5: library version conflicts", other_version, "plugin.version", DOCTOR_FAIL},
    {"guide 6: model path wrong", wrong_path, "model.file", DOCTOR_FAIL},
    {"guide 7: CUDA found but not used", not_used, "gpu.used", DOCTOR_FAIL},
    {"guide 7: no plugin beside the program", no_plugin, "plugin.found", DOCTOR_FAIL},
    {"guide 7: kept off by the environment", forced_to_cpu, "gpu.used", DOCTOR_FAIL},
    {"guide 8: slow in spite of the GPU", slow_split, "token.speed", DOCTOR_WARN},
    {"guide 8: split model", slow_split, "model.fits", DOCTOR_WARN},
    {"guide 9: inconsistent timings", unsteady, "token.steady", DOCTOR_WARN},
    {"guide 9: hot card", hot, "gpu.clocks", DOCTOR_WARN},
    {"guide 10: GPU memory held by another", memory_taken, "gpu.memory", DOCTOR_WARN},
    {"guide 10: model too large", does_not_fit, "model.fits", DOCTOR_FAIL},
    {"cut model", cut_file, "model.whole", DOCTOR_FAIL},
    {"damaged model", wrong_sum, "model.hash", DOCTOR_FAIL},
    {"driver updated, not reloaded", updated_driver, "gpu.mismatch", DOCTOR_FAIL},
    {"no kernel driver", driver_gone, "gpu.driver", DOCTOR_FAIL},
    {"nouveau holds the card", nouveau, "gpu.driver", DOCTOR_FAIL},
    {"container without device nodes", container, "gpu.nodes", DOCTOR_FAIL},
    {"uvm not loaded", no_uvm, "gpu.nodes", DOCTOR_FAIL},
    {"cards hidden", hidden, "gpu.visible", DOCTOR_FAIL},
    {"driver older than the runtime", old_driver, "plugin.runtime", DOCTOR_FAIL},
    {"card not built for", new_card, "plugin.arch", DOCTOR_FAIL},
    {"plugin does not load", plugin_broken, "plugin.loads", DOCTOR_FAIL},
    {"devices disagree", disagree, "token.agree", DOCTOR_FAIL},
    {"GPU fails", gpu_fails, "token.gpu", DOCTOR_FAIL},
    {"no vector code", no_avx2, "cpu.kernels", DOCTOR_WARN},
    {"small quota", small_quota, "cpu.quota", DOCTOR_WARN},
    {"full disk", full_disk, "disk.free", DOCTOR_WARN},
    {"host memory full", host_full, "memory.host", DOCTOR_WARN},
    {"no model", no_model, "model.file", DOCTOR_WARN},
    {"unreadable model", unreadable, "model.file", DOCTOR_FAIL},
    {"unknown model", unknown_kind, "model.whole", DOCTOR_FAIL},
};

static void each_trouble_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        doctor_facts f;
        doctor_finding out = {0};
        healthy(&f);
        troubles[i].make(&f);
        const doctor_check *c = doctor_find(troubles[i].check);
        assert_non_null(c);
        c->judge(&f, &out);
        if (out.severity != troubles[i].severity)
            fail_msg("%s: %s says %s: %s", troubles[i].trouble, c->id, doctor_severity_name(out.severity), out.what);
        assert_true(out.what[0]);
        if (out.severity == DOCTOR_FAIL && !out.remedy[0]) fail_msg("%s: %s has no remedy", troubles[i].trouble, c->id);
    }
}

static void the_healthy_hear_nothing(void **state) {
    (void)state;
    void (*const machines[])(doctor_facts *) = {healthy, plain_machine};
    for (size_t m = 0; m < 2; m++) {
        doctor_facts f;
        machines[m](&f);
        for (size_t i = 0; i < doctor_n_checks; i++) {
            doctor_finding out = {0};
            doctor_checks[i].judge(&f, &out);
            if (out.severity > DOCTOR_SKIP) fail_msg("machine %zu: %s: %s", m, doctor_checks[i].id, out.what);
            assert_true(out.what[0]);
        }
    }
}

/* Every check can find fault: none is decoration. Facts that are all empty break none. */
static void every_check_has_a_trouble(void **state) {
    (void)state;
    for (size_t i = 0; i < doctor_n_checks; i++) {
        bool is_driven = strcmp(doctor_checks[i].id, "gpu.present") == 0 || strcmp(doctor_checks[i].id, "token.cpu") == 0;
        for (size_t t = 0; t < sizeof troubles / sizeof *troubles; t++)
            is_driven |= strcmp(troubles[t].check, doctor_checks[i].id) == 0;
        if (!is_driven) fail_msg("%s: no trouble drives it", doctor_checks[i].id);
        for (size_t j = 0; j < i; j++) assert_string_not_equal(doctor_checks[i].id, doctor_checks[j].id);
        doctor_facts f = {0};
        doctor_finding out = {0};
        doctor_checks[i].judge(&f, &out);
        assert_true(out.what[0]);
        assert_true(strlen(doctor_checks[i].about) > 40);
    }
    assert_null(doctor_find("no.such"));
}

static void archs(void **state) {
    (void)state;
    static const struct {
        int32_t compute;
        bool is_built;
        const char *why;
    } cases[] = {{86, true, "named"},        {87, true, "same generation, later"}, {70, false, "before the first"},
                 {61, false, "long before"}, {100, true, "PTX of 90 translates"},  {75, true, "the first"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        doctor_facts f;
        doctor_finding out = {0};
        healthy(&f);
        f.gpus[0].compute = cases[i].compute;
        doctor_find("plugin.arch")->judge(&f, &out);
        if ((out.severity == DOCTOR_OK) != cases[i].is_built) fail_msg("%d: %s", cases[i].compute, cases[i].why);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_trouble_is_named), cmocka_unit_test(the_healthy_hear_nothing),
                                       cmocka_unit_test(every_check_has_a_trouble), cmocka_unit_test(archs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
