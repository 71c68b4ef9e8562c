/* The backends this build links, and the names of KV types. */
#include "backend/backend.h"

#include <string.h>

const backend_api *backend_find(const char *name) {
    const backend_api *const all[] = {backend_cpu(), backend_ref()};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

static const char *const kv_names[N_KV_TYPES] = {[KV_F16] = "f16", [KV_F32] = "f32", [KV_Q8_0] = "q8_0"};

bool kv_type_by_name(const char *name, kv_type *out) {
    for (int t = 0; t < N_KV_TYPES; t++) {
        if (strcmp(kv_names[t], name) != 0) continue;
        *out = (kv_type)t;
        return true;
    }
    return false;
}

const char *kv_type_name(kv_type t) {
    return kv_names[t];
}
