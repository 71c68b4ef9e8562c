/* The host's facts from a folder made up for each case. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "system/host.h"

static char root[64];

/* Write a file of the made-up root, with the folders on its way. */
static void put(const char *path, const char *text) {
    char full[256];
    (void)snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        (void)mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_root(void **state) {
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/galen-host-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state) {
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void nothing_there(void **state) {
    (void)state;
    host_info h;
    host_load load = {0};
    host_read(root, &h);
    assert_true(h.memory_total == 0 && h.memory_limit == 0 && h.n_quota == 0 && !h.is_container);
    assert_true(!h.has_nvidia_pci && h.n_dev_gpus == 0 && h.kernel_driver[0] == '\0' && h.cpu[0] == '\0');
    assert_true(isnan(host_cpu_percent(root, &load)));
    assert_true(host_process_rss(root, 1) == 0);
}

static void a_laptop(void **state) {
    (void)state;
    host_info h;
    put("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    9000000 kB\n");
    put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Ryzen 7 5800H\nprocessor\t: 1\nmodel name\t: other\n");
    put("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    put("/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n");
    put("/sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n"); /* its sound device */
    put("/sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n");
    put("/sys/bus/pci/devices/0000:02:00.0/vendor", "0x1002\n"); /* another maker's */
    put("/sys/bus/pci/devices/0000:02:00.0/class", "0x030000\n");
    put("/proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n");
    put("/dev/nvidia0", "");
    put("/dev/nvidiactl", "");
    host_read(root, &h);
    assert_string_equal(h.cpu, "Ryzen 7 5800H");
    assert_true(h.memory_total == 16000000ULL * 1024 && h.memory_free == 9000000ULL * 1024);
    assert_int_equal(h.n_nvidia_pci, 1);
    assert_string_equal(h.kernel_driver, "550.54.15");
    assert_true(h.has_dev_ctl && !h.has_dev_uvm && h.n_dev_gpus == 1);
}

static void control_groups(void **state) {
    (void)state;
    host_info h;
    put("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n");
    put("/sys/fs/cgroup/memory.max", "2147483648\n");
    put("/sys/fs/cgroup/memory.current", "1073741824\n");
    put("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    put("/.dockerenv", "");
    host_read(root, &h);
    assert_true(h.memory_limit == 2147483648ULL && h.memory_free == 1073741824ULL);
    assert_true(fabs(h.n_quota - 1.5) < 1e-9 && h.is_container);
    put("/sys/fs/cgroup/memory.max", "max\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    host_read(root, &h);
    assert_true(h.memory_limit == 0 && h.n_quota == 0 && h.memory_free == 9000000ULL * 1024);
}

static void load(void **state) {
    (void)state;
    host_load l = {0};
    put("/proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n");
    assert_true(isnan(host_cpu_percent(root, &l))); /* one look says nothing */
    put("/proc/stat", "cpu  150 0 125 825 0 0 0 0 0 0\n");
    assert_true(fabs(host_cpu_percent(root, &l) - 75.0) < 1e-9);
    assert_true(isnan(host_cpu_percent(root, &l))); /* no time has passed */
    put("/proc/7/status", "Name:\tgalen\nVmRSS:\t  2048 kB\n");
    put("/proc/7/comm", "galen\n");
    char name[32];
    assert_true(host_process_rss(root, 7) == 2048 * 1024);
    host_process_name(root, 7, name, sizeof name);
    assert_string_equal(name, "galen");
    host_process_name(root, 8, name, sizeof name);
    assert_string_equal(name, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_there, make_root, drop_root),
        cmocka_unit_test_setup_teardown(a_laptop, make_root, drop_root),
        cmocka_unit_test_setup_teardown(control_groups, make_root, drop_root),
        cmocka_unit_test_setup_teardown(load, make_root, drop_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
