/* Finding and checking a plugin. A file that is there but does not load is an error with its reason, never "not found". */
#include "backend/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct plugin {
    void *library;
    const backend_plugin *table;
};

enum { PATH_BYTES = 1024 };

/* The folder of the file that this code was loaded from. */
static bool own_folder(char *dir) {
    static const char here; /* any address inside */
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    const size_t n = slash ? (size_t)(slash - info.dli_fname) : 0;
    if (!slash || n >= PATH_BYTES) return false;
    memcpy(dir, info.dli_fname, n);
    dir[n] = '\0';
    return true;
}

static bool exists(const char *dir, const char *name, char *path, size_t cap) {
    const int n = snprintf(path, cap, "%s/libgalen-%s.so", dir, name);
    return n > 0 && (size_t)n < cap && access(path, R_OK) == 0;
}

/* Where the plugin is; a bare file name when only the system's library path is left to ask. */
static bool find(const char *name, const char *dir, char *path, size_t cap) {
    static const char *const beside[] = {"", "/../lib", "/../lib/galen"};
    char own[PATH_BYTES], folder[PATH_BYTES + 16];
    if (!dir) dir = secure_getenv("GALEN_PLUGIN_DIR");
    if (dir) return exists(dir, name, path, cap);
    if (own_folder(own)) {
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            (void)snprintf(folder, sizeof folder, "%s%s", own, beside[i]);
            if (exists(folder, name, path, cap)) return true;
        }
    }
    const int n = snprintf(path, cap, "libgalen-%s.so", name);
    return n > 0 && (size_t)n < cap;
}

static galen_status check_table(plugin *p, const char *path, galen_error *err) {
    backend_plugin_fn entry = NULL;
    void *symbol = dlsym(p->library, BACKEND_PLUGIN_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    if (!entry)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%.200s: no entry point %s; it was made for another version", path,
                          BACKEND_PLUGIN_ENTRY);
    p->table = entry();
    if (!p->table || p->table->layout != BACKEND_PLUGIN_LAYOUT)
        return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%.200s: layout %llx, expected %llx; build both from the same source",
                          path, (unsigned long long)(p->table ? p->table->layout : 0), (unsigned long long)BACKEND_PLUGIN_LAYOUT);
    return GALEN_OK;
}

galen_status plugin_open(plugin **out, const char *name, const char *dir, galen_error *err) {
    galen_status st;
    char path[PATH_BYTES + 128];
    *out = NULL;
    if (!find(name, dir, path, sizeof path))
        return galen_fail(err, GALEN_E_NOT_FOUND, 0, "no libgalen-%.40s.so in %.200s", name,
                          dir                                 ? dir
                          : secure_getenv("GALEN_PLUGIN_DIR") ? "GALEN_PLUGIN_DIR"
                                                              : "the library path");
    plugin *p = calloc(1, sizeof *p);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "plugin");
    /* Never unloaded: the CUDA runtime inside leaves handlers behind that run when the program ends. */
    p->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!p->library) {
        const char *why = dlerror();
        const bool is_absent = !strchr(path, '/') && why && strstr(why, "No such file") && strstr(why, path);
        st = galen_fail(err, is_absent ? GALEN_E_NOT_FOUND : GALEN_E_DEVICE, 0, "%.300s", why ? why : path);
        goto fail;
    }
    if ((st = check_table(p, path, err))) goto fail;
    *out = p;
    return GALEN_OK;
fail:
    plugin_close(p);
    return st;
}

void plugin_close(plugin *p) {
    if (!p) return;
    if (p->library) (void)dlclose(p->library);
    free(p);
}

const backend_plugin *plugin_get(const plugin *p) {
    return p->table;
}
