/* Candidates and the choice among them.
 *
 * Two ways to fill a device that is too small: by tensors (attention and KV of all layers first, then feed-forwards, the head
 * last) and by whole layers, the last ones, so that hidden states cross once. Each is tried with and without the buffers that
 * streaming takes; with them some of the host's feed-forwards may be fetched in every step, while the host computes others. The
 * quickest for a prompt of 512 tokens and an answer of 128 is chosen. */
#include "plan/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plan/plan_impl.h"

plan *plan_new(const plan_request *r) {
    const size_t n = r->net->n_layer > 0 ? (size_t)r->net->n_layer : 1;
    plan *p = calloc(1, sizeof *p + 4 * n);
    if (!p) return NULL;
    p->n_layer = r->net->n_layer;
    p->parts = (uint8_t *)(p + 1);
    p->host_parts = p->parts + n;
    p->streamed = p->host_parts + n;
    p->fetched = p->streamed + n;
    return p;
}

void plan_free(plan *p) {
    free(p);
}

static plan *copy(const plan *from, const plan_request *r) {
    plan *p = plan_new(r);
    if (!p) return NULL;
    uint8_t *const parts = p->parts, *const host = p->host_parts, *const streamed = p->streamed, *const fetched = p->fetched;
    const size_t n = (size_t)from->n_layer;
    *p = *from;
    p->parts = memcpy(parts, from->parts, n);
    p->host_parts = memcpy(host, from->host_parts, n);
    p->streamed = memcpy(streamed, from->streamed, n);
    p->fetched = memcpy(fetched, from->fetched, n);
    return p;
}

/* ---------------------------------------------------------------- bytes */

static uint64_t sum(uint64_t a, uint64_t b) {
    uint64_t s;
    return u64_add(a, b, &s) ? s : UINT64_MAX;
}

uint64_t plan_total(const plan_use *u) {
    return sum(sum(u->weights, u->kv), u->buffers);
}

uint64_t plan_peak(const plan_use *u) {
    const uint64_t load = sum(u->weights, u->loading), run = plan_total(u);
    return load > run ? load : run;
}

bool plan_uses_device(const plan *p) {
    return p->n_attn || p->n_ffn || p->has_head || p->stream_rows;
}

backend_config plan_device_config(const plan *p) {
    return (backend_config){.parts = p->parts,
                            .streamed = p->stream_rows ? p->streamed : NULL,
                            .fetched = p->n_fetched ? p->fetched : NULL,
                            .stream_rows = p->stream_rows,
                            .has_embed = true,
                            .has_head = p->has_head,
                            .has_table = p->has_table};
}

backend_config plan_host_config(const plan *p) {
    return (backend_config){.parts = p->host_parts, .has_embed = true, .has_head = !p->has_head};
}

static bool is_whole(const plan *p) {
    return p->n_whole == p->n_layer && p->has_head;
}

static void count_layers(plan *p) {
    bool on_device = p->n_layer > 0 && (p->parts[0] & PART_ATTN);
    p->n_attn = p->n_ffn = p->n_whole = p->n_fetched = p->n_crossings = 0;
    for (int32_t i = 0; i < p->n_layer; i++) {
        p->host_parts[i] = PART_BOTH & ~p->parts[i];
        p->n_attn += (p->parts[i] & PART_ATTN) != 0;
        p->n_ffn += (p->parts[i] & PART_FFN) != 0;
        p->n_whole += p->parts[i] == PART_BOTH;
        p->n_fetched += p->fetched[i] != 0;
        for (int part = PART_ATTN; part <= PART_FFN; part++) {
            const bool next = ((p->parts[i] | p->fetched[i]) & part) != 0;
            p->n_crossings += next != on_device;
            on_device = next;
        }
    }
    p->n_crossings += p->has_head != on_device;
}

static void count_side(const plan_request *r, const backend_api *api, backend_config cfg, plan_use *u) {
    cfg.n_threads = r->n_threads;
    api->weight_bytes(r->net, &cfg, &u->weights, &u->loading);
    api->work_bytes(r->net, &cfg, &r->limits, &u->kv, &u->buffers);
}

void plan_measure(plan *p, const plan_request *r) {
    bool has_streamed = false;
    count_layers(p);
    for (int32_t i = 0; i < p->n_layer; i++) has_streamed = has_streamed || p->streamed[i];
    p->stream_rows = has_streamed ? STREAM_MIN_ROWS : 0; /* plan_time says how many really */
    p->device = p->host = (plan_use){0};
    if (plan_uses_device(p)) count_side(r, r->device, plan_device_config(p), &p->device);
    if (!is_whole(p)) count_side(r, r->host, plan_host_config(p), &p->host);
    plan_time(p, r);
}

bool plan_fits(const plan *p, const plan_request *r) {
    const uint64_t margin = r->gpu_layers == PLAN_AUTO ? r->margin : 0;
    const uint64_t budget = r->device_free > margin ? r->device_free - margin : 0;
    if (plan_uses_device(p) && plan_peak(&p->device) > budget) return false;
    return r->host_free == 0 || plan_total(&p->host) <= r->host_free;
}

static bool fits_device(plan *p, const plan_request *r) {
    plan_request device = *r;
    device.host_free = 0;
    plan_measure(p, r);
    return plan_fits(p, &device);
}

/* ---------------------------------------------------------------- candidates */

static bool can_stream(const plan_request *r) {
    return r->device->set_kv != NULL && r->limits.max_rows >= STREAM_MIN_ROWS;
}

/* What is not on the device is streamed to it, when that is wanted. */
static void set_streamed(plan *p, bool is_streaming) {
    for (int32_t i = 0; i < p->n_layer; i++) p->streamed[i] = is_streaming ? PART_BOTH & ~p->parts[i] : 0;
    plan_set_fetched(p, 0);
}

void plan_set_fetched(plan *p, int32_t n) {
    int32_t all = 0, k = 0;
    for (int32_t i = 0; i < p->n_layer; i++) all += (p->streamed[i] & PART_FFN) != 0;
    if (n > all) n = all;
    for (int32_t i = 0; i < p->n_layer; i++) {
        const bool is_one = p->streamed[i] & PART_FFN;
        p->fetched[i] = is_one && (int64_t)(k + 1) * n / all > (int64_t)k * n / all ? PART_FFN : 0;
        k += is_one;
    }
}

/* As many as asked for; else as many as make a step quickest, where that is worth it, by what was measured of both at work: they
 * may share one memory. The bytes it takes are the same. */
static void choose_fetched(plan *p, const plan_request *r) {
    static const double worth = 0.95;
    int32_t best = r->n_fetched;
    plan_measure(p, r);
    if (!p->stream_rows) return;
    if (r->n_fetched == PLAN_AUTO) {
        const int32_t most = r->speeds.upload_beside > 0 ? p->n_layer - p->n_ffn : 0;
        double least = worth * p->decode_s;
        best = 0;
        for (int32_t n = 1; n <= most; n++) {
            plan_set_fetched(p, n);
            plan_measure(p, r);
            if (p->decode_s >= least) continue;
            least = p->decode_s;
            best = n;
        }
    }
    plan_set_fetched(p, best);
    plan_measure(p, r);
}

static int parts_asked(const plan_request *r) {
    return r->is_kv_on_host ? PART_FFN : PART_BOTH;
}

static void set_layers(plan *p, const plan_request *r, int32_t n, bool has_head, bool is_streaming) {
    for (int32_t i = 0; i < p->n_layer; i++) p->parts[i] = i >= p->n_layer - n ? (uint8_t)parts_asked(r) : 0;
    p->has_head = has_head;
    set_streamed(p, is_streaming);
}

/* As many of the last layers as fit. */
static bool fill_layers(plan *p, const plan_request *r, bool has_head, bool is_streaming) {
    for (int32_t n = p->n_layer; n >= 0; n--) {
        set_layers(p, r, n, has_head, is_streaming);
        if (fits_device(p, r)) return true;
    }
    return false;
}

/* Attention of the last layers, as many as fit; when that is all of them, feed-forwards from the last one on, then the head. */
static bool fill_tensors(plan *p, const plan_request *r, bool is_streaming) {
    bool is_found = false;
    set_layers(p, r, 0, false, is_streaming);
    for (int32_t n = r->is_kv_on_host ? 0 : p->n_layer; n >= 0 && !is_found; n--) {
        for (int32_t i = 0; i < p->n_layer; i++) p->parts[i] = i >= p->n_layer - n ? PART_ATTN : 0;
        set_streamed(p, is_streaming);
        is_found = fits_device(p, r);
    }
    if (!is_found) return false;
    for (int32_t i = p->n_layer - 1; i >= 0; i--) {
        const uint8_t before = p->parts[i];
        p->parts[i] |= PART_FFN;
        set_streamed(p, is_streaming);
        if (fits_device(p, r)) continue;
        p->parts[i] = before;
        break;
    }
    p->has_head = true;
    set_streamed(p, is_streaming);
    p->has_head = fits_device(p, r);
    return true;
}

typedef enum way { WAY_HEAD_LAYERS, WAY_LAYERS, WAY_TENSORS, N_WAYS } way;

static bool fill(plan *p, const plan_request *r, way how, bool is_streaming) {
    if (how == WAY_TENSORS) return fill_tensors(p, r, is_streaming);
    return fill_layers(p, r, how == WAY_HEAD_LAYERS, is_streaming);
}

/* The best of every way into *best, which holds the plan without a device; *n_tried that fitted. */
static galen_status search(plan **best, const plan_request *r, galen_error *err) {
    for (int i = 0; i < N_WAYS * 2; i++) {
        const bool is_streaming = i >= N_WAYS;
        if (is_streaming && !can_stream(r)) break;
        plan *p = copy(*best, r);
        if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "memory plan");
        bool is_better = fill(p, r, (way)(i % N_WAYS), is_streaming);
        choose_fetched(p, r);
        is_better = is_better && plan_fits(p, r) && (plan_score(p, r) < plan_score(*best, r) || !plan_fits(*best, r));
        if (is_better) {
            plan *const worse = *best;
            *best = p;
            p = worse;
        }
        plan_free(p);
        if (is_whole(*best)) break;
    }
    return GALEN_OK;
}

/* Where all of it fits, embeddings as well if they do. */
static void add_table(plan *p, const plan_request *r) {
    if (!r->device || !r->device->ahead_begin || !is_whole(p)) return;
    p->has_table = true;
    plan_measure(p, r);
    if (plan_fits(p, r)) return;
    p->has_table = false;
    plan_measure(p, r);
}

/* ---------------------------------------------------------------- words */

static const char *gib(uint64_t n, char buf[24]) {
    (void)snprintf(buf, 24, n >= (uint64_t)1 << 30 ? "%.1f GiB" : "%.1f MiB",
                   (double)n / (n >= (uint64_t)1 << 30 ? 1 << 30 : 1 << 20));
    return buf;
}

static galen_status refuse(const plan *p, const plan_request *r, galen_error *err) {
    char a[24], b[24];
    if (plan_uses_device(p) && plan_peak(&p->device) > r->device_free)
        return galen_fail(err, GALEN_E_NOMEM, plan_peak(&p->device), "%d of %d layers on the GPU need %s, %s are free",
                          p->n_whole ? p->n_whole : p->n_ffn, p->n_layer, gib(plan_peak(&p->device), a), gib(r->device_free, b));
    return galen_fail(err, GALEN_E_NOMEM, plan_total(&p->host),
                      "the host's part of the model needs %s of memory (weights, KV, buffers), %s are free",
                      gib(plan_total(&p->host), a), gib(r->host_free, b));
}

/* Layers were asked for that leave no room to stream the others: how many would, and be quicker. NULL: that is not so. */
static plan *with_room(const plan *asked, const plan_request *r) {
    if (!r->device || r->gpu_layers == PLAN_AUTO || asked->stream_rows || is_whole(asked) || !can_stream(r)) return NULL;
    plan *p = copy(asked, r);
    for (int32_t n = asked->n_ffn - 1; p && n > 0; n--) {
        set_layers(p, r, n, true, true);
        plan_measure(p, r);
        if (!plan_fits(p, r)) continue;
        choose_fetched(p, r);
        if (plan_score(p, r) < 0.9 * plan_score(asked, r)) return p;
        break;
    }
    plan_free(p);
    return NULL;
}

static void explain_asked(plan *p, const plan_request *r) {
    plan *better = with_room(p, r);
    if (better)
        (void)snprintf(
            p->why, sizeof p->why,
            "as asked, which leaves no room to stream the other layers: with %d, prompts would be read at %.0f tokens/s "
            "instead of %.0f, answers written at %.1f instead of %.1f",
            better->n_ffn, better->prefill_rows / better->prefill_s, p->prefill_rows / p->prefill_s, 1 / better->decode_s,
            1 / p->decode_s);
    else
        (void)snprintf(p->why, sizeof p->why, "as asked");
    plan_free(better);
}

static void explain(plan *p, const plan_request *r, const plan *none) {
    if (!r->device)
        (void)snprintf(p->why, sizeof p->why, "there is no GPU to use");
    else if (r->gpu_layers == 0)
        (void)snprintf(p->why, sizeof p->why, "no layers on the GPU were asked for");
    else if (is_whole(p))
        (void)snprintf(p->why, sizeof p->why, "all of it fits the GPU");
    else if (!plan_uses_device(p))
        (void)snprintf(p->why, sizeof p->why, "nothing that fits the GPU would make it quicker");
    else if (r->gpu_layers != PLAN_AUTO)
        explain_asked(p, r);
    else
        (void)snprintf(p->why, sizeof p->why, "%s: %.1f tokens/s expected, %.1f without the GPU",
                       p->n_attn != p->n_ffn ? "attention and its KV first, then feed-forwards" : "whole layers", 1 / p->decode_s,
                       1 / none->decode_s);
}

galen_status plan_choose(plan **out, const plan_request *r, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    plan *none = plan_new(r), *best = none ? copy(none, r) : NULL;
    if (!best) {
        plan_free(none);
        return galen_fail(err, GALEN_E_NOMEM, 0, "memory plan");
    }
    plan_measure(none, r);
    plan_measure(best, r);
    if (r->device && r->gpu_layers == PLAN_AUTO) {
        st = search(&best, r, err);
    } else if (r->device && r->gpu_layers > 0) {
        const int32_t n = r->gpu_layers < best->n_layer ? r->gpu_layers : best->n_layer;
        set_layers(best, r, n, true, can_stream(r));
        plan_measure(best, r);
        set_streamed(best, plan_fits(best, r) && can_stream(r));
        choose_fetched(best, r);
    }
    if (!st) add_table(best, r);
    if (!st && !plan_fits(best, r)) st = refuse(best, r, err);
    if (!st) explain(best, r, none);
    plan_free(none);
    if (st)
        plan_free(best);
    else
        *out = best;
    return st;
}

const char *plan_line(const plan *p, uint64_t all, char *buf, size_t cap) {
    char a[24], b[24], layers[64];
    if (!plan_uses_device(p)) {
        (void)snprintf(buf, cap, "CPU %d layers, %s; KV on the host", p->n_layer, gib(plan_total(&p->host), a));
        return buf;
    }
    if (p->n_attn == p->n_ffn)
        (void)snprintf(layers, sizeof layers, "%d/%d layers", p->n_whole, p->n_layer);
    else
        (void)snprintf(layers, sizeof layers, "attention of %d and feed-forward of %d of %d layers", p->n_attn, p->n_ffn,
                       p->n_layer);
    const double unit = all >= (uint64_t)1 << 30 ? 1 << 30 : 1 << 20;
    (void)snprintf(b, sizeof b, all >= (uint64_t)1 << 30 ? "%.1f GiB" : "%.1f MiB", (double)all / unit);
    const int n = snprintf(buf, cap, "GPU %s%s, %.1f of %s", layers, p->has_head && !is_whole(p) ? " and the head" : "",
                           (double)plan_total(&p->device) / unit, b);
    if (n < 0 || (size_t)n >= cap || is_whole(p)) {
        if (n > 0 && (size_t)n < cap) (void)snprintf(buf + n, cap - (size_t)n, "; KV on the GPU");
        return buf;
    }
    const char *kv = p->n_attn == p->n_layer ? "on the GPU" : p->n_attn ? "on both" : "on the host";
    char rest[32] = "the rest", fetched[48] = "";
    if (p->n_attn == p->n_ffn)
        (void)snprintf(rest, sizeof rest, "%d%s", p->n_layer - p->n_whole, p->has_head ? "" : " and the head");
    if (p->n_fetched)
        (void)snprintf(fetched, sizeof fetched, ", %d feed-forward%s streamed", p->n_fetched, p->n_fetched == 1 ? "" : "s");
    (void)snprintf(buf + n, cap - (size_t)n, "; CPU %s%s; KV %s", rest, fetched, kv);
    return buf;
}
