#include "base/embed.h"

#include <string.h>

const embedded *embed_find(const embedded *table, const char *name) {
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}
