/* galen show: what a model file holds and what it needs. */
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "cli/options.h"

#define VALUE_BYTES 256
#define TYPE_BYTES  64

typedef struct need {
    int32_t n_ctx;
    const char *kv_type;
    uint64_t kv, work, total;
} need;

static cli_exit find_need(cli *c, const galen_model *m, const galen_model_info *i, need *out) {
    galen_error err = {0};
    const int32_t most = i->n_ctx_train > 0 && i->n_ctx_train < 4096 ? i->n_ctx_train : 4096;
    out->n_ctx = option_given(&c->args, "ctx") ? (int32_t)c->args.ctx : most;
    out->kv_type = c->args.kv_type ? c->args.kv_type : "f16";
    if (galen_model_memory(m, out->n_ctx, out->kv_type, &out->kv, &out->work, &err)) return engine_fail(c, PHASE_LOAD, &err);
    out->total = i->weight_bytes + out->kv + out->work;
    return CLI_DONE;
}

static const char *size_text(uint64_t bytes, char buf[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u + 1 < sizeof units / sizeof units[0]; u++) v /= 1024;
    (void)snprintf(buf, 32, u ? "%.2f %s" : "%.0f %s", v, units[u]);
    return buf;
}

enum { FACT = 15 /* where a line's facts begin */ };

static void print_text(const cli *c, const char *label, const char *value) {
    char safe[512];
    term_fact(c, label, FACT, "%s", term_safe(value ? value : "none", safe, sizeof safe));
}

static void print_summary(const cli *c, const galen_model_info *i, const need *n) {
    char a[32], b[32], d[32], e[32];
    print_text(c, "file", i->path);
    if (i->n_files > 1) term_fact(c, "parts", FACT, "%d", i->n_files);
    print_text(c, "name", i->name);
    print_text(c, "architecture", i->arch);
    term_fact(c, "parameters", FACT, "%.2f million", (double)i->n_params / 1e6);
    print_text(c, "weight type", i->type_name);
    print_text(c, "chat format", i->chat_format ? i->chat_format : "none known in the file; choose one with --chat-format");
    term_fact(c, "layers", FACT, "%d, embedding %d, feed-forward %d", i->n_layer, i->n_embd, i->n_ff);
    term_fact(c, "heads", FACT, "%d, of keys and values %d", i->n_head, i->n_head_kv);
    term_fact(c, "vocabulary", FACT, "%d tokens", i->n_vocab);
    term_fact(c, "trained for", FACT, "%d tokens", i->n_ctx_train);
    term_fact(c, "file size", FACT, "%s", size_text(i->file_bytes, a));
    term_fact(c, "memory need", FACT, "%s: weights %s, cache (%s, %d tokens) %s, work %s", size_text(n->total, a),
              size_text(i->weight_bytes, b), n->kv_type, n->n_ctx, size_text(n->kv, d), size_text(n->work, e));
}

static void print_meta(const galen_model *m) {
    const char *key;
    char type[TYPE_BYTES], value[VALUE_BYTES], safe[VALUE_BYTES], key_safe[128];
    (void)puts("\nmetadata");
    for (size_t i = 0; galen_model_meta(m, i, &key, type, sizeof type, value, sizeof value); i++) {
        term_safe(key, key_safe, sizeof key_safe);
        (void)printf("  %-44s %-18s %s\n", key_safe, type, term_safe(value, safe, sizeof safe));
    }
}

static void print_tensors(const galen_model *m) {
    galen_tensor_info t;
    char safe[128];
    (void)puts("\ntensors");
    for (size_t i = 0; galen_model_tensor(m, i, &t); i++) {
        (void)printf("  %-36s %-8s %12llu bytes  ", term_safe(t.name, safe, sizeof safe), t.type_name,
                     (unsigned long long)t.bytes);
        for (int32_t d = 0; d < t.n_dims; d++) (void)printf("%s%llu", d ? " x " : "", (unsigned long long)t.dims[d]);
        (void)putchar('\n');
    }
}

static json_t *json_meta(const galen_model *m) {
    json_t *list = json_array();
    const char *key;
    char type[TYPE_BYTES], value[VALUE_BYTES];
    for (size_t i = 0; list && galen_model_meta(m, i, &key, type, sizeof type, value, sizeof value); i++) {
        json_t *one = json_pack("{s:o, s:o, s:o}", "key", json_text0(key), "type", json_text0(type), "value", json_text0(value));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_tensors(const galen_model *m) {
    json_t *list = json_array();
    galen_tensor_info t;
    for (size_t i = 0; list && galen_model_tensor(m, i, &t); i++) {
        json_t *dims = json_array();
        bool is_bad = false;
        for (int32_t d = 0; d < t.n_dims; d++) is_bad |= json_array_append_new(dims, json_integer((json_int_t)t.dims[d])) != 0;
        json_t *one = json_pack("{s:o, s:s, s:o, s:I}", "name", json_text0(t.name), "type", t.type_name, "dims", dims, "bytes",
                                (json_int_t)t.bytes);
        if (json_array_append_new(list, one) || is_bad) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static cli_exit print_json(cli *c, const galen_model *m, const galen_model_info *i, const need *n) {
    json_t *root = json_begin(c);
    json_t *shape =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "n_layer", i->n_layer, "n_embd", i->n_embd, "n_head", i->n_head,
                  "n_head_kv", i->n_head_kv, "n_ff", i->n_ff, "n_vocab", i->n_vocab, "n_ctx_train", i->n_ctx_train);
    json_t *memory = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I}", "n_ctx", n->n_ctx, "kv_type", n->kv_type, "weight_bytes",
                               (json_int_t)i->weight_bytes, "kv_bytes", (json_int_t)n->kv, "work_bytes", (json_int_t)n->work,
                               "total_bytes", (json_int_t)n->total);
    int bad = json_object_set_new(root, "model", json_model(m));
    bad |= json_object_set_new(root, "file_bytes", json_integer((json_int_t)i->file_bytes));
    bad |= json_object_set_new(root, "n_files", json_integer(i->n_files));
    bad |= json_object_set_new(root, "shape", shape);
    bad |= json_object_set_new(root, "memory", memory);
    bad |= json_object_set_new(root, "metadata", json_meta(m));
    bad |= json_object_set_new(root, "tensors", json_tensors(m));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_show(cli *c) {
    galen_model *m = NULL;
    const char *name;
    need n = {0};
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st) st = engine_open(c, name, true, &m);
    if (st) goto done;
    const galen_model_info i = galen_model_get_info(m);
    st = find_need(c, m, &i, &n);
    if (st) goto done;
    if (c->args.json) {
        st = print_json(c, m, &i, &n);
    } else {
        print_summary(c, &i, &n);
        if (c->args.meta) print_meta(m);
        if (c->args.tensors) print_tensors(m);
    }
done:
    galen_model_close(m);
    return st;
}
