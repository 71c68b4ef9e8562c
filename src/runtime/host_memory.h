/* Memory that this process could still take, mapped files of its own included. */
#ifndef GALEN_RUNTIME_HOST_MEMORY_H
#define GALEN_RUNTIME_HOST_MEMORY_H

#include <stdint.h>

/** Bytes, a control group's limit counted in; 0 when the system does not say. */
uint64_t host_memory_free(void);

#endif
