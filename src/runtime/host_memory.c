/* /proc/meminfo and the control group's files. Pages of files count as free: they can be dropped, and the model's own are among
 * them. */
#include "runtime/host_memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 8192 };

static bool read_text(const char *path, char text[TEXT_BYTES]) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    const size_t n = fread(text, 1, TEXT_BYTES - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    return n > 0;
}

/* The number behind key at the beginning of a line; 0 when it is not there. */
static uint64_t number_of(const char *text, const char *key) {
    const size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0) return strtoull(line + n, NULL, 10);
    }
    return 0;
}

static uint64_t of_group(void) {
    char text[TEXT_BYTES];
    if (!read_text("/sys/fs/cgroup/memory.max", text)) return UINT64_MAX;
    const uint64_t most = strtoull(text, NULL, 10); /* "max" reads as 0 */
    if (most == 0 || most >= (uint64_t)1 << 60) return UINT64_MAX;
    if (!read_text("/sys/fs/cgroup/memory.current", text)) return UINT64_MAX;
    const uint64_t all = strtoull(text, NULL, 10);
    const uint64_t files = read_text("/sys/fs/cgroup/memory.stat", text) ? number_of(text, "file ") : 0;
    const uint64_t used = all > files ? all - files : 0;
    return used < most ? most - used : 1;
}

uint64_t host_memory_free(void) {
    char text[TEXT_BYTES];
    if (!read_text("/proc/meminfo", text)) return 0;
    const uint64_t machine = number_of(text, "MemAvailable:") * 1024, group = of_group();
    return machine && group < machine ? group : machine;
}
