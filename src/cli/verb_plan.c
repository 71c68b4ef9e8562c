/* galen plan: what would live where, how fast, and what else could be asked. */
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "cli/numbers.h"
#include "cli/options.h"

static const char *size_text(uint64_t bytes, char buf[32]) {
    const double v = (double)bytes;
    if (bytes >= (uint64_t)1 << 30)
        (void)snprintf(buf, 32, "%.2f GiB", v / 0x1p30);
    else if (bytes >= 1 << 20)
        (void)snprintf(buf, 32, "%.1f MiB", v / 0x1p20);
    else
        (void)snprintf(buf, 32, bytes ? "%.1f KiB" : "0", v / 0x1p10);
    return buf;
}

static cli_exit read_card(cli *c, galen_plan_opts *o) {
    const char *word = c->args.as_card, *name, *title;
    uint64_t total;
    char safe[64];
    double rate;
    *o = galen_plan_default_opts();
    if (!word) return CLI_DONE;
    if (number_f64(word, &rate) && rate > 0 && rate < 1e6) {
        o->card_read = rate * 1e9;
        if (c->args.vram_limit) return CLI_DONE;
        term_error(c, "--as-card %s is a bandwidth: the card's memory is needed too, --vram-limit SIZE", word);
        return CLI_USAGE;
    }
    for (size_t i = 0; (name = galen_plan_card(i, &title, &total)); i++) {
        if (strcmp(name, word) != 0) continue;
        o->card = name;
        return CLI_DONE;
    }
    term_error(c, "--as-card: '%s' is neither a bandwidth in GB/s nor one of:", term_safe(word, safe, sizeof safe));
    for (size_t i = 0; (name = galen_plan_card(i, &title, &total)); i++)
        (void)fprintf(stderr, "  %-16s %s, %.0f GiB\n", name, title, (double)total / 0x1p30);
    return CLI_USAGE;
}

/* ------------------------------------------------------------ text */

enum { FACT = 14 /* where a line's facts begin */, NARROW = 72 /* columns of the tables */ };

static void print_side(const cli *c, const char *name, const galen_plan_side *s, int32_t n_layer) {
    char w[32], k[32], b[32], t[32], a[32];
    size_text(s->weights, w);
    size_text(s->kv, k);
    size_text(s->buffers, b);
    size_text(s->total, t);
    (void)snprintf(a, sizeof a, "?");
    if (s->available) size_text(s->available, a);
    if (term_width(c) < NARROW)
        term_fact(c, name, 6, "%s of %s: weights %s, KV %s, buffers %s", t, a, w, k, b);
    else
        (void)printf("%-5s %11s %11s %11s %11s %11s\n", name, w, k, b, t, a);
    if (s->total || !s->available)
        term_fact(c, "", 6, "%sattention of %d/%d, feed-forward of %d/%d layers%s", term_width(c) < NARROW ? "" : "  ", s->n_attn,
                  n_layer, s->n_ffn, n_layer, s->has_head ? ", head" : "");
}

static void print_choice(const cli *c, const galen_plan_choice *k, int32_t n_layer, bool has_gpu) {
    char g[32], h[32], layers[48];
    const char *what = k->option[0] ? k->option : k->what;
    if (k->n_attn == k->n_ffn)
        (void)snprintf(layers, sizeof layers, "%d/%d", k->n_whole, n_layer);
    else
        (void)snprintf(layers, sizeof layers, "%d+%d/%d", k->n_attn, k->n_ffn, n_layer);
    size_text(k->gpu_bytes, g);
    size_text(k->host_bytes, h);
    if (!k->fits)
        term_fact(c, what, 28, "does not fit");
    else if (!has_gpu && term_width(c) < NARROW)
        term_fact(c, what, 28, "memory %s, answer %.1f, prompt %.0f tokens/s", h, k->decode_rate, k->prefill_rate);
    else if (!has_gpu)
        (void)printf("%-28s %11s %10.1f %10.0f\n", what, h, k->decode_rate, k->prefill_rate);
    else if (term_width(c) < NARROW)
        term_fact(c, what, 28, "%s layers, GPU %s, answer %.1f, prompt %.0f tokens/s", layers, g, k->decode_rate,
                  k->prefill_rate);
    else
        (void)printf("%-28s %9s %11s %10.1f %10.0f\n", what, layers, g, k->decode_rate, k->prefill_rate);
}

static void print_speeds(const cli *c, const galen_plan_info *i, bool is_elsewhere) {
    char gpu[96] = "";
    (void)putchar('\n');
    term_fact(c, "expected", FACT, "%.1f tokens/s answering, %.0f tokens/s reading a prompt of %d", i->decode_rate,
              i->prefill_rate, i->n_batch < 512 ? i->n_batch : 512);
    if (i->gpu_name) (void)snprintf(gpu, sizeof gpu, ", GPU memory %.0f GB/s, bus %.1f GB/s", i->gpu_read / 1e9, i->upload / 1e9);
    term_fact(c, "reckoned", FACT, "with processor memory %.1f GB/s%s (%s%s)", i->host_read / 1e9, gpu,
              i->is_measured ? "measured on this machine" : "typical, not measured",
              is_elsewhere ? "; the card's are typical of it" : "");
    if (i->gpu.total && i->n_crossings) term_fact(c, "crossings", FACT, "%d of hidden states a token", i->n_crossings);
    if (i->stream_rows)
        term_fact(c, "streaming", FACT, "prompts of %d tokens or more: the host's layers pass through the GPU", i->stream_rows);
    if (i->n_streamed)
        term_fact(c, "fetched", FACT,
                  "in every step the feed-forward of %d of the host's layers, while the processor computes others",
                  i->n_streamed);
    if (!i->is_exact) term_fact(c, "note", FACT, "the GPU's bytes are counted as the CPU would: there is no plugin to ask");
}

static void print_tensors(const galen_plan *p) {
    galen_plan_tensor t;
    char safe[128];
    (void)puts("\ntensors");
    for (size_t i = 0; galen_plan_get_tensor(p, i, &t); i++)
        (void)printf("  %-4s %-36s %-8s %12llu bytes\n", t.is_on_gpu ? "GPU" : "CPU", term_safe(t.name, safe, sizeof safe),
                     t.type_name, (unsigned long long)t.bytes);
}

static void print_plan(cli *c, const galen_plan *p, const galen_plan_info *i) {
    galen_plan_choice k;
    char safe[512];
    term_fact(c, "plan", FACT, "%s", i->line);
    term_fact(c, "why", FACT, "%s", i->why);
    if (i->gpu_name)
        term_fact(c, "GPU", FACT, "%s", term_safe(i->gpu_name, safe, sizeof safe));
    else
        term_fact(c, "GPU", FACT, "none%s%s", i->gpu_why[0] ? ": " : "", term_safe(i->gpu_why, safe, sizeof safe));
    term_fact(c, "request", FACT, "context %d, KV %s, %d rows a pass, %d threads", i->n_ctx, i->kv_type, i->n_batch,
              i->n_threads);
    (void)putchar('\n');
    if (term_width(c) >= NARROW) (void)printf("%-5s %11s %11s %11s %11s %11s\n", "", "weights", "KV", "buffers", "total", "of");
    if (i->gpu_name) print_side(c, "GPU", &i->gpu, i->n_layer);
    print_side(c, "CPU", &i->host, i->n_layer);
    print_speeds(c, i, c->args.as_card != NULL);
    (void)putchar('\n');
    if (term_width(c) >= NARROW && i->gpu_name)
        (void)printf("%-28s %9s %11s %10s %10s\n", "instead", "layers", "GPU", "answer t/s", "prompt t/s");
    else if (term_width(c) >= NARROW)
        (void)printf("%-28s %11s %10s %10s\n", "instead", "memory", "answer t/s", "prompt t/s");
    else
        (void)puts("instead");
    for (size_t n = 0; galen_plan_get_choice(p, n, &k); n++) print_choice(c, &k, i->n_layer, i->gpu_name != NULL);
    if (c->args.tensors) print_tensors(p);
}

/* ------------------------------------------------------------ JSON */

static json_t *json_side(const galen_plan_side *s) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:b}", "weight_bytes", (json_int_t)s->weights, "kv_bytes",
                     (json_int_t)s->kv, "buffer_bytes", (json_int_t)s->buffers, "loading_bytes", (json_int_t)s->loading,
                     "total_bytes", (json_int_t)s->total, "peak_bytes", (json_int_t)s->peak, "available_bytes",
                     (json_int_t)s->available, "n_attention", s->n_attn, "n_feed_forward", s->n_ffn, "has_head", s->has_head);
}

static json_t *json_choices(const galen_plan *p) {
    galen_plan_choice k;
    json_t *list = json_array();
    for (size_t n = 0; list && galen_plan_get_choice(p, n, &k); n++) {
        json_t *one = json_pack("{s:s, s:s, s:b, s:i, s:i, s:i, s:I, s:I, s:o, s:o}", "what", k.what, "option", k.option, "fits",
                                k.fits, "n_layers", k.n_whole, "n_attention", k.n_attn, "n_feed_forward", k.n_ffn, "gpu_bytes",
                                (json_int_t)k.gpu_bytes, "host_bytes", (json_int_t)k.host_bytes, "decode_tokens_per_s",
                                json_number(k.decode_rate), "prefill_tokens_per_s", json_number(k.prefill_rate));
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_tensors(const galen_plan *p) {
    galen_plan_tensor t;
    json_t *list = json_array();
    for (size_t n = 0; list && galen_plan_get_tensor(p, n, &t); n++) {
        json_t *one = json_pack("{s:o, s:s, s:i, s:s, s:I}", "name", json_text0(t.name), "type", t.type_name, "layer", t.layer,
                                "where", t.is_on_gpu ? "gpu" : "cpu", "bytes", (json_int_t)t.bytes);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static cli_exit print_json(cli *c, const galen_model *m, const galen_plan *p, const galen_plan_info *i) {
    json_t *root = json_begin(c);
    json_t *speeds = json_pack("{s:o, s:o, s:o, s:b}", "host_read", json_number(i->host_read), "gpu_read",
                               json_number(i->gpu_read), "upload", json_number(i->upload), "is_measured", i->is_measured);
    int bad = json_object_set_new(root, "model", json_model(m));
    bad |= json_object_set_new(root, "line", json_text0(i->line));
    bad |= json_object_set_new(root, "why", json_text0(i->why));
    bad |= json_object_set_new(root, "gpu_name", json_text0(i->gpu_name));
    bad |= json_object_set_new(root, "gpu_why", json_text0(i->gpu_why));
    bad |= json_object_set_new(root, "n_layer", json_integer(i->n_layer));
    bad |= json_object_set_new(root, "n_gpu_layers", json_integer(i->n_whole));
    bad |= json_object_set_new(root, "n_ctx", json_integer(i->n_ctx));
    bad |= json_object_set_new(root, "n_batch", json_integer(i->n_batch));
    bad |= json_object_set_new(root, "n_threads", json_integer(i->n_threads));
    bad |= json_object_set_new(root, "kv_type", json_text0(i->kv_type));
    bad |= json_object_set_new(root, "gpu", json_side(&i->gpu));
    bad |= json_object_set_new(root, "host", json_side(&i->host));
    bad |= json_object_set_new(root, "n_crossings", json_integer(i->n_crossings));
    bad |= json_object_set_new(root, "stream_rows", json_integer(i->stream_rows));
    bad |= json_object_set_new(root, "n_streamed", json_integer(i->n_streamed));
    bad |= json_object_set_new(root, "decode_tokens_per_s", json_number(i->decode_rate));
    bad |= json_object_set_new(root, "prefill_tokens_per_s", json_number(i->prefill_rate));
    bad |= json_object_set_new(root, "bytes_per_s", speeds);
    bad |= json_object_set_new(root, "is_exact", json_boolean(i->is_exact));
    bad |= json_object_set_new(root, "choices", json_choices(p));
    if (c->args.tensors) bad |= json_object_set_new(root, "tensors", json_tensors(p));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_plan(cli *c) {
    galen_model *m = NULL;
    galen_plan *p = NULL;
    galen_error err = {0};
    galen_model_opts o;
    galen_plan_opts po;
    const char *name;
    cli_exit st = engine_model_name(c, c->args.n_positional ? c->args.positional[0] : NULL, &name);
    if (!st) st = read_card(c, &po);
    if (!st) st = engine_model_opts(c, &o);
    if (!st) st = engine_open(c, name, true, &m);
    if (st) goto done;
    if (!c->args.as_card) engine_use_tuned(c, galen_model_get_info(m).path, &o);
    if (galen_plan_make(&p, m, &o, &po, &err)) {
        st = engine_fail(c, PHASE_USE, &err);
        goto done;
    }
    const galen_plan_info i = galen_plan_get_info(p);
    if (c->args.json)
        st = print_json(c, m, p, &i);
    else
        print_plan(c, p, &i);
done:
    galen_plan_close(p);
    galen_model_close(m);
    return st;
}
