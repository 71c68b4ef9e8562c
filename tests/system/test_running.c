/* Entries of running engines: what is put up is read, what died is taken down, what is hostile does no harm. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "system/running.h"

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/galen-run-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state) {
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void put(const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void round_trip(void **state) {
    (void)state;
    running *r;
    running_info got[4],
        info = {.weight_bytes = 9000000000ULL, .gpu_percent = 48, .gpu_layers = 16, .n_layers = 32, .ctx_size = 4096};
    galen_error err = {0};
    (void)snprintf(info.verb, sizeof info.verb, "serve");
    (void)snprintf(info.model, sizeof info.model, "Llama\nn_layers 7"); /* a name from a file may hold anything */
    (void)snprintf(info.placement, sizeof info.placement, "GPU 16/32 layers");
    assert_int_equal(running_open(&r, dir, &info, &err), GALEN_OK);
    assert_int_equal(running_list(dir, got, 4), 1);
    assert_int_equal(got[0].pid, getpid());
    assert_true(got[0].weight_bytes == 9000000000ULL && got[0].gpu_layers == 16 && got[0].started_s > 0);
    assert_string_equal(got[0].placement, "GPU 16/32 layers");
    assert_string_equal(got[0].model, "Llama?n_layers 7");
    assert_int_equal(got[0].n_layers, 32);
    info.tokens_per_s = 12.5;
    info.ctx_used = 99;
    running_update(r, &info, true);
    assert_int_equal(running_list(dir, got, 4), 1);
    assert_true(got[0].tokens_per_s == 12.5 && got[0].ctx_used == 99);
    bool is_held_back = false;
    for (int i = 0; i < 100 && !is_held_back; i++) { /* somebody may have held us up for longer than what is too soon */
        running_update(r, &info, true);
        info.ctx_used++;
        running_update(r, &info, false); /* too soon after the last */
        assert_int_equal(running_list(dir, got, 4), 1);
        is_held_back = got[0].ctx_used == info.ctx_used - 1;
    }
    assert_true(is_held_back);
    running_close(r);
    assert_int_equal(running_list(dir, got, 4), 0);
    running_close(NULL);
}

static void the_dead_are_taken_down(void **state) {
    (void)state;
    running_info got[2];
    char name[32], path[128];
    const pid_t child = fork();
    if (child == 0) _exit(0);
    assert_true(child > 0 && waitpid(child, NULL, 0) == child);
    (void)snprintf(name, sizeof name, "%d", (int)child);
    put(name, "verb chat\nn_layers 3\n");
    assert_int_equal(running_list(dir, got, 2), 0);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void hostile_entries(void **state) {
    (void)state;
    running_info got[4];
    char name[32], long_line[4000];
    memset(long_line, 'a', sizeof long_line - 1);
    long_line[sizeof long_line - 1] = '\0';
    put("x", "verb chat\n");   /* no process */
    put("12x", "verb chat\n"); /* no number  */
    put("-1", "verb chat\n");  /* would be a group */
    put("99999999999999999999", "verb chat\n");
    (void)snprintf(name, sizeof name, "%d", (int)getppid());
    put(name, long_line);
    assert_int_equal(running_list(dir, got, 4), 1);
    put(name, "verb \n\n\nmodel\n =\nn_layers 99999999999999999999999\nplacement \x1b[2J\n");
    assert_int_equal(running_list(dir, got, 4), 1);
    assert_string_equal(got[0].placement, "?[2J");
    assert_int_equal(running_list("/nonexistent/folder", got, 4), 0);
}

static void bad_folders(void **state) {
    (void)state;
    running *r;
    const running_info info = {.n_layers = 1};
    galen_error err = {0};
    char path[128];
    assert_int_equal(running_open(&r, "/nonexistent/deep/folder", &info, &err), GALEN_E_IO);
    assert_null(r);
    put("file", "");
    (void)snprintf(path, sizeof path, "%s/file", dir);
    assert_int_equal(running_open(&r, path, &info, &err), GALEN_E_IO);
    (void)snprintf(path, sizeof path, "%s/link", dir);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(running_open(&r, path, &info, &err), GALEN_E_IO); /* a link is another's doing */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(the_dead_are_taken_down, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(hostile_entries, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(bad_folders, make_dir, drop_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
