/* Files as bytes: regular files only, mapped read-only, their size frozen at open. */
#ifndef GALEN_BASE_FILE_H
#define GALEN_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct file_map {
    const void *bytes; /* NULL for an empty file */
    size_t n;
    int fd; /* kept open to notice truncation */
} file_map;

/** Map path. Errors  NOT_FOUND; IO not a regular file, no permission, mmap failed; NOMEM. *out is all zero after a failure. */
galen_status file_map_open(file_map *out, const char *path, galen_error *err);
void file_map_close(file_map *f); /* also an all-zero one */

/** n bytes from offset at into to, by reading and not through the map: no page of it comes to stay in this process. Any thread.
 *  false: the file is shorter, or cannot be read. */
bool file_map_read(const file_map *f, size_t at, void *to, size_t n);

/** Errors  IO when the file is now shorter than the map: touching the lost pages would raise SIGBUS. One fstat. */
galen_status file_map_check(const file_map *f, const char *path, galen_error *err);

#endif
