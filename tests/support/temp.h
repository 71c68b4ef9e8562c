/* A model file of one test program: make_path and remove_path are the set-up and tear-down of its group. */
#ifndef GALEN_TESTS_TEMP_H
#define GALEN_TESTS_TEMP_H

#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/galen-test-XXXXXX";

__attribute__((unused)) static int make_path(void **state) {
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}
__attribute__((unused)) static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

#endif
