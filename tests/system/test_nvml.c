/* The management library: figures told and not told, and how it fails. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "system/nvml.h"

static char fake[1024]; /* beside this program */

static galen_status open_with(const char *figures, nvml **n, galen_error *err) {
    (void)setenv("FAKE_NVML", figures, 1);
    return nvml_open(n, fake, err);
}

static void whole_card(void **state) {
    (void)state;
    nvml *n;
    nvml_gpu g;
    galen_error err = {0};
    assert_int_equal(open_with("count=1 name=RTX driver=550.1 cuda=12040 total=4096 used=1024 util=7 temp=61 power=35500 "
                               "limit=60000 sm=1200 smmax=2100 throttle=4 compute=86 procs=2",
                               &n, &err),
                     GALEN_OK);
    assert_int_equal(nvml_count(n), 1);
    assert_string_equal(nvml_driver(n), "550.1");
    assert_int_equal(nvml_cuda_version(n), 12040);
    assert_int_equal(nvml_read(n, 0, &g, &err), GALEN_OK);
    assert_string_equal(g.name, "RTX");
    assert_true(g.memory_total == 4096ULL << 20 && g.memory_used == 1024ULL << 20 && g.memory_free == 3072ULL << 20);
    assert_true(g.gpu_percent == 7 && g.temp_c == 61 && g.power_limit_w == 60 && fabs(g.power_w - 35.5) < 1e-9);
    assert_true(g.sm_mhz == 1200 && g.sm_max_mhz == 2100);
    assert_int_equal(g.throttle, 4);
    assert_int_equal(g.compute, 86);
    assert_int_equal(g.n_processes, 2);
    assert_true(g.processes[0].pid == 1 && g.processes[0].bytes == 512ULL << 20);
    assert_true(g.processes[1].bytes == 0); /* not told */
    nvml_close(n);
}

/* One figure missing: only that one is. */
static void each_fails_alone(void **state) {
    (void)state;
    nvml *n;
    nvml_gpu g;
    galen_error err = {0};
    assert_int_equal(open_with("count=2 temp=50 total=8192", &n, &err), GALEN_OK);
    assert_string_equal(nvml_driver(n), "");
    assert_int_equal(nvml_cuda_version(n), 0);
    assert_int_equal(nvml_read(n, 1, &g, &err), GALEN_OK);
    assert_true(g.temp_c == 50 && g.memory_total == 8192ULL << 20);
    assert_true(isnan(g.gpu_percent) && isnan(g.power_w) && isnan(g.fan_percent) && isnan(g.sm_mhz) && isnan(g.memory_mhz));
    assert_true(g.throttle == -1 && g.compute == -1 && g.n_processes == -1 && g.pcie_gen == -1 && g.name[0] == '\0');
    assert_int_equal(nvml_read(n, 2, &g, &err), GALEN_E_RANGE);
    assert_int_equal(nvml_read(n, -1, &g, &err), GALEN_E_RANGE);
    nvml_close(n);
    assert_int_equal(open_with("count=2 lost=1 temp=50", &n, &err), GALEN_OK);
    assert_int_equal(nvml_read(n, 0, &g, &err), GALEN_OK);
    assert_int_equal(nvml_read(n, 1, &g, &err), GALEN_E_DEVICE);
    assert_non_null(strstr(err.msg, "GPU is lost"));
    nvml_close(n);
}

static void failures(void **state) {
    (void)state;
    static const struct {
        const char *figures;
        galen_status st;
        const char *says, *why;
    } cases[] = {{"init=18", GALEN_E_DEVICE, "version mismatch", "driver updated while loaded"},
                 {"init=9", GALEN_E_DEVICE, "not loaded", "no kernel driver"},
                 {"init=999", GALEN_E_DEVICE, "fake error", "any other"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nvml *n = (nvml *)(uintptr_t)1;
        galen_error err = {0};
        assert_int_equal(open_with(cases[i].figures, &n, &err), cases[i].st);
        assert_null(n);
        if (!strstr(err.msg, cases[i].says)) fail_msg("%s: %s", cases[i].why, err.msg);
    }
    nvml *n;
    galen_error err = {0};
    assert_int_equal(nvml_open(&n, "/nonexistent/libnvidia-ml.so.1", &err), GALEN_E_NOT_FOUND);
    assert_null(n);
    /* A library of another kind. */
    assert_int_equal(nvml_open(&n, "libm.so.6", &err), GALEN_E_DEVICE);
    assert_non_null(strstr(err.msg, "entry points"));
    nvml_close(NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *slash = strrchr(argv[0], '/');
    (void)snprintf(fake, sizeof fake, "%.*s/fake_nvml.so", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_card), cmocka_unit_test(each_fails_alone),
                                       cmocka_unit_test(failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
