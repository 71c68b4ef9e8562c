/* galen_plan: the plan shown before anything is loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/host_memory.h"
#include "runtime/runtime.h"
#include "runtime/speeds.h"

struct galen_plan {
    const galen_model *model;
    plan *plan;
    found_gpu gpu;
    work_limits limits;
    plan_request request; /* of which the choices are made; its device is gpu's, or the host's counting in its stead */
    plan_choice choices[PLAN_CHOICES];
    int32_t n_choices;
    bool is_measured, is_exact;
    char line[256], gpu_name[160];
};

galen_plan_opts galen_plan_default_opts(void) {
    return (galen_plan_opts){.size = sizeof(galen_plan_opts)};
}

const char *galen_plan_card(size_t index, const char **title, uint64_t *total_bytes) {
    const plan_card *c = plan_card_at(index);
    if (!c) return NULL;
    *title = c->title;
    *total_bytes = c->total_bytes;
    return c->name;
}

/* ---------------------------------------------------------------- the request */

/* A card that is not here: its memory and bandwidth are stated, its bytes counted by the plugin or, without one, by the CPU. */
static galen_status use_card(galen_plan *p, const galen_model_opts *o, const galen_plan_opts *po, galen_error *err) {
    const plan_card *c = po->card ? plan_card_find(po->card) : NULL;
    if (po->card && !c)
        return galen_fail(err, GALEN_E_ARG, 0, "card \"%.40s\" is not known; galen plan --help lists them", po->card);
    if (!c && !o->vram_limit) return galen_fail(err, GALEN_E_ARG, 0, "a card's memory is needed: --vram-limit");
    const uint64_t total = c ? c->total_bytes : o->vram_limit;
    p->gpu.info.total_bytes = total;
    p->gpu.info.free_bytes = o->vram_limit && o->vram_limit < total ? o->vram_limit : total;
    p->request.device = p->gpu.table ? p->gpu.table->api : backend_cpu();
    p->request.device_free = p->gpu.info.free_bytes;
    (void)snprintf(p->gpu_name, sizeof p->gpu_name, "%s (not here)", c ? c->title : "a card");
    plan_fill_device(&p->request.speeds, c ? c->read : po->card_read, c ? c->upload * 0.8 : 0, 0);
    return GALEN_OK;
}

static galen_status make_request(galen_plan *p, const galen_model_opts *o, const galen_plan_opts *po, galen_error *err) {
    const network *net = model_network(p->model->net);
    const char *device = o->device ? o->device : "auto";
    const bool has_card = po->card || po->card_read > 0, is_plain = strcmp(device, "cpu") == 0 || strcmp(device, "ref") == 0;
    int32_t n_threads;
    galen_status st = place_threads(o, &n_threads, err);
    if (!st) st = place_limits(net, o, &p->limits, err);
    if (st) return st;
    found_gpu_open(&p->gpu, o);
    if (is_plain && !has_card) p->gpu.is_usable = false;
    const backend_plugin *table = p->gpu.is_usable ? p->gpu.table : NULL;
    p->request = place_request(net, o, n_threads, &p->limits, &p->gpu);
    p->request.speeds = speeds_find(n_threads, has_card ? NULL : table, p->gpu.index, o->cache_dir, &p->is_measured);
    p->is_exact = p->gpu.table != NULL;
    if (has_card) return use_card(p, o, po, err);
    (void)snprintf(p->gpu_name, sizeof p->gpu_name, "%s", p->gpu.info.name);
    if (strcmp(device, "cuda") == 0 && !table) return galen_fail(err, GALEN_E_DEVICE, 0, "%s", p->gpu.why.msg);
    return GALEN_OK;
}

galen_status galen_plan_make(galen_plan **out, const galen_model *m, const galen_model_opts *opts,
                             const galen_plan_opts *plan_opts, galen_error *err) {
    galen_status st;
    galen_model_opts o = galen_model_default_opts();
    galen_plan_opts po = galen_plan_default_opts();
    *out = NULL;
    if ((st = opts_take(&o, sizeof o, opts, "galen_model_opts", err))) return st;
    if ((st = opts_take(&po, sizeof po, plan_opts, "galen_plan_opts", err))) return st;
    if (!m->net) return galen_fail(err, GALEN_E_UNSUPPORTED, 0, "%s: holds no network that could be run", m->info.path);
    galen_plan *p = calloc(1, sizeof *p);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "plan");
    p->model = m;
    if ((st = make_request(p, &o, &po, err))) goto fail;
    if ((st = plan_make(&p->plan, &p->request, err))) goto fail;
    p->n_choices = plan_choices(&p->request, p->choices);
    (void)plan_line(p->plan, p->request.device_free, p->line, sizeof p->line);
    *out = p;
    return GALEN_OK;
fail:
    galen_plan_close(p);
    return st;
}

void galen_plan_close(galen_plan *p) {
    if (!p) return;
    for (int32_t i = 0; i < p->n_choices; i++) plan_free(p->choices[i].plan);
    plan_free(p->plan);
    found_gpu_close(&p->gpu);
    free(p);
}

/* ---------------------------------------------------------------- what it says */

static galen_plan_side side_of(const plan_use *u, int32_t n_attn, int32_t n_ffn, bool has_head, uint64_t available) {
    return (galen_plan_side){.weights = u->weights,
                             .kv = u->kv,
                             .buffers = u->buffers,
                             .loading = u->loading,
                             .total = plan_total(u),
                             .peak = plan_peak(u),
                             .available = available,
                             .n_attn = n_attn,
                             .n_ffn = n_ffn,
                             .has_head = has_head};
}

galen_plan_info galen_plan_get_info(const galen_plan *p) {
    const plan *pl = p->plan;
    const plan_request *r = &p->request;
    return (galen_plan_info){
        .line = p->line,
        .why = pl->why,
        .gpu_name = r->device ? p->gpu_name : NULL,
        .gpu_why = r->device ? NULL : p->gpu.why.msg,
        .n_layer = pl->n_layer,
        .n_whole = pl->n_whole,
        .n_ctx = p->limits.n_ctx,
        .n_batch = p->limits.max_rows,
        .n_threads = r->n_threads,
        .kv_type = kv_type_name(p->limits.kv),
        .gpu = side_of(&pl->device, pl->n_attn, pl->n_ffn, pl->has_head, r->device ? r->device_free : 0),
        .host = side_of(&pl->host, pl->n_layer - pl->n_attn, pl->n_layer - pl->n_ffn, !pl->has_head, r->host_free),
        .n_crossings = pl->n_crossings,
        .stream_rows = pl->stream_rows <= p->limits.max_rows ? pl->stream_rows : 0,
        .decode_rate = 1 / pl->decode_s,
        .prefill_rate = pl->prefill_rows / pl->prefill_s,
        .host_read = r->speeds.host_read,
        .gpu_read = r->device ? r->speeds.device_read : 0,
        .upload = r->device ? r->speeds.upload : 0,
        .is_measured = p->is_measured,
        .is_exact = !r->device || p->is_exact,
        .n_streamed = pl->n_fetched};
}

double galen_plan_seconds(const galen_plan *p, int32_t n_prompt, int32_t n_answer) {
    return plan_seconds(p->plan, &p->request, n_prompt, n_answer);
}

bool galen_plan_get_choice(const galen_plan *p, size_t index, galen_plan_choice *out) {
    if (index >= (size_t)p->n_choices) return false;
    const plan_choice *c = &p->choices[index];
    const plan *pl = c->plan;
    *out = (galen_plan_choice){.what = c->what, .option = c->option, .fits = c->fits};
    if (!pl) return true;
    out->n_whole = pl->n_whole;
    out->n_attn = pl->n_attn;
    out->n_ffn = pl->n_ffn;
    out->gpu_bytes = plan_total(&pl->device);
    out->host_bytes = plan_total(&pl->host);
    out->decode_rate = 1 / pl->decode_s;
    out->prefill_rate = pl->prefill_rows / pl->prefill_s;
    return true;
}

/* The bytes that the GPU keeps one tensor in: its weights beside those of a network that has nothing else. */
static uint64_t on_device(const galen_plan *p, const tensor *t, size_t field, bool is_head) {
    network_layer layer = {0};
    network net = *p->request.net;
    uint64_t with, without, loading;
    const uint8_t parts = PART_BOTH;
    const backend_config cfg = {.n_threads = 1, .parts = &parts, .has_head = is_head};
    net.n_layer = 1;
    net.layers = &layer;
    net.head = (tensor){0};
    p->request.device->weight_bytes(&net, &cfg, &without, &loading);
    *(is_head ? &net.head : (tensor *)(void *)((char *)&layer + field)) = *t;
    p->request.device->weight_bytes(&net, &cfg, &with, &loading);
    return with - without;
}

static bool describe(const galen_plan *p, const tensor *t, int32_t layer, bool is_on_gpu, size_t field, galen_plan_tensor *out) {
    *out = (galen_plan_tensor){.name = t->name,
                               .type_name = tensor_type_get((uint32_t)t->type)->name,
                               .layer = layer,
                               .is_on_gpu = is_on_gpu,
                               .bytes = t->row_bytes * (uint64_t)t->n_out};
    if (is_on_gpu && t->n_out > 1) out->bytes = on_device(p, t, field, layer < 0); /* vectors stay as they are */
    return true;
}

bool galen_plan_get_tensor(const galen_plan *p, size_t index, galen_plan_tensor *out) {
    const network *net = p->request.net;
    const bool is_tied = net->head.data == net->embd.data;
    if (index-- == 0) return describe(p, &net->embd, -1, p->plan->has_table && !is_tied, 0, out);
    for (int32_t i = 0; i < net->n_layer; i++) {
        for (size_t j = 0; j < N_LAYER_TENSORS; j++) {
            const tensor *t = layer_tensor_of(&net->layers[i], &layer_tensors[j]);
            if (t->data && index-- == 0)
                return describe(p, t, i, (p->plan->parts[i] & layer_tensors[j].part) != 0, layer_tensors[j].field, out);
        }
    }
    if (index-- == 0) return describe(p, &net->out_norm, -1, p->plan->has_head, 0, out);
    return index == 0 && !(is_tied && !p->plan->has_head) && describe(p, &net->head, -1, p->plan->has_head, 0, out);
}
