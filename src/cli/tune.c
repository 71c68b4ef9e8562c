#include "cli/tune.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/history.h"
#include "cli/options.h"
#include "system/host.h"

void tune_key_of(const cli *c, tune_key *out) {
    *out = (tune_key){{0}, {0}};
    galen_gpu_report *r = calloc(1, sizeof *r);
    const bool is_cpu = c->args.device && (strcmp(c->args.device, "cpu") == 0 || strcmp(c->args.device, "ref") == 0);
    if (r && !is_cpu) galen_gpu_look(r);
    const int64_t i = c->args.main_gpu;
    if (r && !is_cpu && i < r->n_gpus && r->gpus[i].is_usable) {
        (void)snprintf(out->device, sizeof out->device, "%s, %.0f MiB%s%s", r->gpus[i].name,
                       (double)r->gpus[i].total_bytes / 0x1p20, c->args.vram_limit ? ", limit " : "",
                       c->args.vram_limit ? c->args.vram_limit : "");
        (void)snprintf(out->driver, sizeof out->driver, "%d", r->driver);
    } else {
        host_info h;
        host_read("", &h);
        (void)snprintf(out->device, sizeof out->device, "%s, %d cores", h.cpu, h.n_cores);
    }
    free(r);
}

static bool read_choice(const char *text, tune_choice *out) {
    json_t *j = json_loads(text, 0, NULL);
    const char *kv = json_string_value(json_object_get(j, "kv_type"));
    const json_t *layers = json_object_get(j, "gpu_layers"), *threads = json_object_get(j, "threads");
    const json_t *batch = json_object_get(j, "ubatch");
    const bool ok =
        kv && strlen(kv) < sizeof out->kv_type && json_is_integer(layers) && json_is_integer(threads) && json_is_integer(batch);
    if (ok) {
        *out = (tune_choice){.gpu_layers = (int32_t)json_integer_value(layers),
                             .stream_layers = (int32_t)json_integer_value(json_object_get(j, "stream_layers")),
                             .n_threads = (int32_t)json_integer_value(threads),
                             .n_batch = (int32_t)json_integer_value(batch),
                             .is_default_fit = json_is_true(json_object_get(j, "is_default_fit")),
                             .seconds = json_number_value(json_object_get(j, "seconds"))};
        (void)snprintf(out->kv_type, sizeof out->kv_type, "%s", kv);
    }
    json_decref(j);
    return ok;
}

/* NULL: there is none, or it cannot be read now; a choice is worth no wait. */
static store *open_to_read(const cli *c) {
    char usual[4096];
    store *s = NULL;
    const store_opts so = {.path = c->args.db, .is_read_only = true, .busy_ms = 200};
    if (!so.path && store_default_path(usual, sizeof usual, NULL)) return NULL;
    if (access(so.path ? so.path : usual, R_OK)) return NULL;
    (void)store_open(&s, &so, NULL);
    return s;
}

typedef struct search_row {
    const char *hex;
    bool is_found;
} search_row;

static bool on_row(void *user, const store_tune *t) {
    search_row *s = user;
    s->is_found = s->is_found || strcmp(t->model_sha256, s->hex) == 0;
    return !s->is_found;
}

static bool was_tuned(store *s, const char *hex) {
    search_row row = {.hex = hex};
    (void)store_tune_list(s, on_row, &row, NULL);
    return row.is_found;
}

bool tune_find(const cli *c, const char *path, tune_choice *out, int64_t *time_ms) {
    char hex[SHA256_HEX_BYTES], *text = NULL;
    store *s = open_to_read(c);
    tune_key key;
    bool is_found = false;
    if (!s) return false;
    if (store_model_hash_known(s, path, hex) && was_tuned(s, hex)) { /* else the card need not be asked its name */
        tune_key_of(c, &key);
        store_tune t = {.model_sha256 = hex, .device = key.device, .driver = key.driver, .build = galen_version()};
        is_found = store_tune_get(s, &t, &text, NULL) == GALEN_OK && read_choice(text, out);
        *time_ms = t.time_ms;
    }
    free(text);
    store_close(s);
    return is_found;
}

bool tune_is_outdated(const cli *c, const char *path) {
    char hex[SHA256_HEX_BYTES];
    store *s = open_to_read(c);
    if (!s) return false;
    const bool is_found = store_model_hash_known(s, path, hex) && was_tuned(s, hex);
    store_close(s);
    return is_found;
}

bool tune_keep(cli *c, const char *path, const tune_choice *choice, const json_t *curve) {
    char hex[SHA256_HEX_BYTES];
    store *s = NULL;
    tune_key key;
    galen_error err = {0};
    json_t *root = json_pack("{s:i, s:i, s:b, s:i, s:i, s:s, s:f, s:O}", "gpu_layers", choice->gpu_layers, "stream_layers",
                             choice->stream_layers, "is_default_fit", (int)choice->is_default_fit, "threads", choice->n_threads,
                             "ubatch", choice->n_batch, "kv_type", choice->kv_type, "seconds", choice->seconds, "curve", curve);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    const store_opts so = {.path = c->args.db};
    galen_status st = text ? store_open(&s, &so, &err) : GALEN_E_NOMEM;
    if (!st) st = store_model_hash(s, path, hist_on_hash, c, hex, &err);
    term_progress_end(c);
    if (!st) {
        tune_key_of(c, &key);
        const store_tune t = {.model_sha256 = hex,
                              .device = key.device,
                              .driver = key.driver,
                              .build = galen_version(),
                              .json = text,
                              .n = strlen(text)};
        st = store_tune_put(s, &t, &err);
    }
    if (st) term_error(c, "the choice is not kept: %s", err.msg[0] ? err.msg : galen_status_text(st));
    free(text);
    json_decref(root);
    store_close(s);
    return st == GALEN_OK;
}

void tune_apply(const cli *c, const tune_choice *choice, galen_model_opts *o) {
    const cli_args *a = &c->args;
    if (!a->gpu_layers && !a->no_kv_offload) {
        o->gpu_layers = choice->gpu_layers;
        if (!option_given(a, "stream-layers")) o->stream_layers = choice->stream_layers;
    }
    if (!option_given(a, "threads")) o->n_threads = choice->n_threads;
    if (!option_given(a, "batch") && !option_given(a, "ubatch")) o->n_batch = choice->n_batch;
}
