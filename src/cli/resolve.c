/* Model names: a path, else a file of the data folder, with or without ".gguf". A name that was given and not found is never
 * replaced by another model. */
#include "cli/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The XDG base directory specification: a relative XDG_DATA_HOME is invalid and ignored. */
static void find_folder(resolved *r) {
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    r->folder[0] = '\0';
    if (xdg && xdg[0] == '/')
        (void)snprintf(r->folder, sizeof r->folder, "%s/galen/models", xdg);
    else if (home && *home)
        (void)snprintf(r->folder, sizeof r->folder, "%s/.local/share/galen/models", home);
}

static bool try_path(resolved *r, const char *folder, const char *name, const char *ending) {
    struct stat s;
    char *path = r->tried[r->n_tried];
    const int n = snprintf(path, RESOLVE_PATH_BYTES, "%s%s%s%s", folder, *folder ? "/" : "", name, ending);
    if (n < 0 || n >= RESOLVE_PATH_BYTES) return false;
    r->n_tried++;
    if (stat(path, &s) != 0) return false;
    memcpy(r->path, path, (size_t)n + 1);
    return true;
}

bool resolve_model(resolved *r, const char *name) {
    const char *env = getenv("GALEN_MODEL");
    *r = (resolved){.wanted = name};
    find_folder(r);
    if (!name && env && *env) {
        r->wanted = env;
        r->is_from_env = true;
    }
    const bool is_demo = !r->wanted;
    if (is_demo) r->wanted = RESOLVE_DEMO_FILE;
    if (!is_demo && try_path(r, "", r->wanted, "")) return true;
    if (!*r->folder || strchr(r->wanted, '/')) return false;
    return try_path(r, r->folder, r->wanted, "") || (!is_demo && try_path(r, r->folder, r->wanted, ".gguf"));
}
