/* galen synth: a model of random weights, for benchmarks. */
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/json.h"
#include "cli/options.h"

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    term_progress(user, "writing", done, total);
    return !signals_stop();
}

static cli_exit report(cli *c, const char *path, const galen_synth_opts *o, double seconds) {
    struct stat info = {0};
    char safe[512];
    const bool is_there = stat(path, &info) == 0;
    const double mb = is_there ? (double)info.st_size / 1e6 : 0;
    if (!c->args.json) {
        term_note(c, "%s: %s in %s, %.1f MB in %.1f s", term_safe(path, safe, sizeof safe), o->shape, o->type, mb, seconds);
        return CLI_DONE;
    }
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "out", json_text0(path)) || json_object_set_new(root, "shape", json_text0(o->shape)) ||
        json_object_set_new(root, "type", json_text0(o->type)) ||
        json_object_set_new(root, "seed", json_integer((json_int_t)o->seed)) ||
        json_object_set_new(root, "bytes", json_integer((json_int_t)info.st_size)) ||
        json_object_set_new(root, "seconds", json_number(seconds))) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_synth(cli *c) {
    galen_error err = {0};
    galen_synth_opts o = galen_synth_default_opts();
    if (c->args.n_positional == 0 || !*c->args.positional[0]) {
        term_error(c, "synth: the file to write is missing: galen synth --shape tiny --type q8_0 OUT.gguf");
        return CLI_USAGE;
    }
    const char *path = c->args.positional[0];
    if (!c->args.shape) {
        term_error(c, "synth: --shape is missing; one of tiny|llama-1b|llama-8b");
        return CLI_USAGE;
    }
    o.shape = c->args.shape;
    o.type = c->args.type ? c->args.type : "q8_0";
    o.seed = (uint64_t)c->args.seed;
    o.progress = on_progress;
    o.progress_user = c;
    const double start = clock_s();
    if (galen_synth(path, &o, &err)) return engine_fail(c, PHASE_WRITE, &err);
    term_progress_end(c);
    return report(c, path, &o, clock_s() - start);
}
